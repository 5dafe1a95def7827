#include "dmae_codecs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

struct dmae_decoder {
    WebPDemuxer *demuxer;
    WebPIterator frame;
    uint32_t width, height, bytes_per_pixel;
};

static const char truncated[] = "the file is truncated";

/* The parsed file, which refers to `bytes`; NULL where it is not whole. */
static WebPDemuxer *demuxed(const uint8_t *bytes, size_t count, const char **reason) {
    const WebPData file = {bytes, count};
    WebPDemuxState state = WEBP_DEMUX_PARSE_ERROR;
    WebPDemuxer *demuxer = WebPDemuxPartial(&file, &state);
    if (demuxer && state == WEBP_DEMUX_DONE) return demuxer;
    *reason = state == WEBP_DEMUX_PARSE_ERROR ? "its chunks are damaged" : truncated;
    WebPDemuxDelete(demuxer);
    return NULL;
}

/* What libwebp allocates for a frame in proportion to its area. A lossless one is decoded as ARGB, beside 17 rows that are
 * converted from it; the alpha of a lossy one is a plane, and is unpacked as a lossless picture, at most. */
static size_t working_bytes(const WebPIterator *frame, int has_alpha) {
    WebPBitstreamFeatures features;
    if (frame->width <= 0 || frame->height <= 0 ||
        WebPGetFeatures(frame->fragment.bytes, frame->fragment.size, &features) != VP8_STATUS_OK) {
        return 0;
    }
    const size_t width = (size_t)frame->width, pixels = width * (size_t)frame->height;
    const int lossless = 2;
    const size_t unpacked = 4 * (pixels + 17 * width);
    if (features.format == lossless) return unpacked;
    return has_alpha && features.has_alpha ? unpacked + pixels : 0;
}

dmae_decoder *dmae_webp_open(const uint8_t *bytes, size_t count, int has_alpha, dmae_image_header *header,
                             char message[DMAE_CODEC_MESSAGE]) {
    dmae_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder) {
        snprintf(message, DMAE_CODEC_MESSAGE, DMAE_CODEC_OUT_OF_MEMORY);
        return NULL;
    }
    const char *reason = "it holds no picture";
    decoder->demuxer = demuxed(bytes, count, &reason);
    if (!decoder->demuxer || !WebPDemuxGetFrame(decoder->demuxer, 1, &decoder->frame)) {
        snprintf(message, DMAE_CODEC_MESSAGE, "%s", reason);
        dmae_webp_close(decoder);
        return NULL;
    }
    /* The file says whether it has transparency, not the frame: a first frame without any may leave a part of the
     * canvas transparent. A file that says nothing may have some. */
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(bytes, count, &features) == VP8_STATUS_OK && !features.has_alpha) has_alpha = 0;
    memset(header, 0, sizeof *header);
    header->width = WebPDemuxGetI(decoder->demuxer, WEBP_FF_CANVAS_WIDTH);
    header->height = WebPDemuxGetI(decoder->demuxer, WEBP_FF_CANVAS_HEIGHT);
    header->bit_depth = 8;
    header->samples = has_alpha ? DMAE_SAMPLES_RGB_ALPHA : DMAE_SAMPLES_RGB;
    header->bytes_per_pixel = has_alpha ? 4 : 3;
    decoder->width = header->width;
    decoder->height = header->height;
    decoder->bytes_per_pixel = header->bytes_per_pixel;
    header->working_bytes = working_bytes(&decoder->frame, has_alpha);
    return decoder;
}

int dmae_webp_read(dmae_decoder *decoder, uint8_t *samples, char message[DMAE_CODEC_MESSAGE]) {
    const WebPIterator *frame = &decoder->frame;
    const size_t pixel = decoder->bytes_per_pixel, stride = decoder->width * pixel, size = stride * decoder->height;
    WebPDecoderConfig config;
    VP8StatusCode status = VP8_STATUS_BITSTREAM_ERROR;
    if (frame->x_offset >= 0 && frame->y_offset >= 0 && frame->width > 0 && frame->height > 0 &&
        (uint32_t)frame->x_offset + (uint32_t)frame->width <= decoder->width &&
        (uint32_t)frame->y_offset + (uint32_t)frame->height <= decoder->height && WebPInitDecoderConfig(&config)) {
        /* Around a first frame that is smaller than the canvas, all is black and transparent. */
        if ((uint32_t)frame->width < decoder->width || (uint32_t)frame->height < decoder->height) {
            memset(samples, 0, size);
        }
        const size_t start = (size_t)frame->y_offset * stride + (size_t)frame->x_offset * pixel;
        config.output.colorspace = pixel == 4 ? MODE_RGBA : MODE_RGB;
        config.output.is_external_memory = 1;
        config.output.u.RGBA.rgba = samples + start;
        config.output.u.RGBA.stride = (int)stride;
        config.output.u.RGBA.size = size - start;
        status = WebPDecode(frame->fragment.bytes, frame->fragment.size, &config);
    }
    if (status == VP8_STATUS_OK) return 0;
    const char *reason = "its picture is damaged";
    if (status == VP8_STATUS_OUT_OF_MEMORY) reason = DMAE_CODEC_OUT_OF_MEMORY;
    if (status == VP8_STATUS_NOT_ENOUGH_DATA || status == VP8_STATUS_SUSPENDED) reason = truncated;
    snprintf(message, DMAE_CODEC_MESSAGE, "%s", reason);
    return -1;
}

void dmae_webp_close(dmae_decoder *decoder) {
    WebPDemuxReleaseIterator(&decoder->frame);
    WebPDemuxDelete(decoder->demuxer);
    free(decoder);
}

size_t dmae_webp_chunk(const uint8_t *bytes, size_t count, const char kind[4], size_t *offset) {
    const char *reason;
    WebPDemuxer *demuxer = demuxed(bytes, count, &reason);
    if (!demuxer) return 0;
    WebPChunkIterator chunk;
    size_t size = 0;
    if (WebPDemuxGetChunk(demuxer, kind, 1, &chunk)) {
        size = chunk.chunk.size;
        *offset = (size_t)(chunk.chunk.bytes - bytes);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    WebPDemuxDelete(demuxer);
    return size;
}

int dmae_webp_version(void) { return WebPGetDecoderVersion(); }
