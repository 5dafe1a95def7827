#include "dmae_codecs.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

struct dmae_decoder {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    char *message;
};

/* A real progressive file has about a dozen scans. A hostile file could keep a decoder busy for hours with thousands of
 * empty ones. */
enum { MAXIMUM_SCANS = 1000 };

static void fail(j_common_ptr info) {
    dmae_decoder *decoder = info->client_data;
    char text[JMSG_LENGTH_MAX] = DMAE_CODEC_OUT_OF_MEMORY;
    if (info->err->msg_code != JERR_OUT_OF_MEMORY) info->err->format_message(info, text);
    snprintf(decoder->message, DMAE_CODEC_MESSAGE, "%s", text);
    longjmp(decoder->failed, 1);
}

/* libjpeg warns about damage that it conceals. Such files are accepted silently, as Pillow does. */
static void stay_silent(j_common_ptr info) { (void)info; }

static void watch_scans(j_common_ptr info) {
    dmae_decoder *decoder = info->client_data;
    if (decoder->info.input_scan_number > MAXIMUM_SCANS) {
        snprintf(decoder->message, DMAE_CODEC_MESSAGE, "more than %d scans", MAXIMUM_SCANS);
        longjmp(decoder->failed, 1);
    }
}

/* The whole file is in memory. At its end, fill_source reports that no data is available (FALSE: the library suspends)
 * instead of inserting an end marker, so that a truncated file is detected. */
static void start_source(j_decompress_ptr info) { (void)info; }
static boolean fill_source(j_decompress_ptr info) {
    (void)info;
    return FALSE;
}
static void skip_source(j_decompress_ptr info, long count) {
    struct jpeg_source_mgr *source = info->src;
    size_t step = count < 0 ? 0 : (size_t)count;
    if (step > source->bytes_in_buffer) step = source->bytes_in_buffer;
    source->next_input_byte += step;
    source->bytes_in_buffer -= step;
}
static void end_source(j_decompress_ptr info) { (void)info; }

static const char truncated[] = "the file is truncated";

dmae_decoder *dmae_jpeg_open(const uint8_t *bytes, size_t count, dmae_image_header *header,
                             char message[DMAE_CODEC_MESSAGE]) {
    dmae_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder) {
        snprintf(message, DMAE_CODEC_MESSAGE, DMAE_CODEC_OUT_OF_MEMORY);
        return NULL;
    }
    decoder->message = message;
    decoder->info.err = jpeg_std_error(&decoder->errors);
    decoder->info.client_data = decoder;
    decoder->errors.error_exit = fail;
    decoder->errors.output_message = stay_silent;
    if (setjmp(decoder->failed)) {
        dmae_jpeg_close(decoder);
        return NULL;
    }
    jpeg_create_decompress(&decoder->info);
    decoder->source = (struct jpeg_source_mgr){
        .next_input_byte = bytes,
        .bytes_in_buffer = count,
        .init_source = start_source,
        .fill_input_buffer = fill_source,
        .skip_input_data = skip_source,
        .resync_to_restart = jpeg_resync_to_restart,
        .term_source = end_source,
    };
    decoder->info.src = &decoder->source;
    decoder->progress.progress_monitor = watch_scans;
    decoder->info.progress = &decoder->progress;

    int state;
    do state = jpeg_read_header(&decoder->info, FALSE);
    while (state == JPEG_HEADER_TABLES_ONLY);
    if (state != JPEG_HEADER_OK) {
        snprintf(message, DMAE_CODEC_MESSAGE, "%s", truncated);
        dmae_jpeg_close(decoder);
        return NULL;
    }
    memset(header, 0, sizeof *header);
    header->width = decoder->info.image_width;
    header->height = decoder->info.image_height;
    switch (decoder->info.num_components) {
    case 1:
        header->samples = DMAE_SAMPLES_GREY;
        decoder->info.out_color_space = JCS_GRAYSCALE;
        break;
    case 3:
        header->samples = DMAE_SAMPLES_RGB;
        decoder->info.out_color_space = JCS_RGB;
        break;
    case 4:
        header->samples = DMAE_SAMPLES_CMYK;
        decoder->info.out_color_space = JCS_CMYK;
        break;
    default:
        snprintf(message, DMAE_CODEC_MESSAGE, "%d components are neither grey, RGB nor CMYK",
                 decoder->info.num_components);
        dmae_jpeg_close(decoder);
        return NULL;
    }
    header->bytes_per_pixel = (uint32_t)decoder->info.num_components;
    header->bit_depth = 8;
    /* The coefficients of a picture in several scans are kept until the last one. */
    if (jpeg_has_multiple_scans(&decoder->info)) {
        for (int i = 0; i < decoder->info.num_components; i++) {
            const jpeg_component_info *part = decoder->info.comp_info + i;
            header->working_bytes += (size_t)part->width_in_blocks * part->height_in_blocks * sizeof(JBLOCK);
        }
    }
    return decoder;
}

int dmae_jpeg_read(dmae_decoder *decoder, uint8_t *samples, char message[DMAE_CODEC_MESSAGE]) {
    decoder->message = message;
    if (setjmp(decoder->failed)) return -1;
    struct jpeg_decompress_struct *info = &decoder->info;
    size_t stride = (size_t)info->image_width * (size_t)info->num_components;
    int complete = jpeg_start_decompress(info);
    while (complete && info->output_scanline < info->output_height) {
        JSAMPROW row = samples + stride * info->output_scanline;
        complete = jpeg_read_scanlines(info, &row, 1) == 1;
    }
    if (!complete) {
        snprintf(message, DMAE_CODEC_MESSAGE, "%s", truncated);
        return -1;
    }
    /* Data after the last row cannot change the picture, so a missing end marker is ignored. Damaged data is an error.
     */
    (void)jpeg_finish_decompress(info);
    return 0;
}

void dmae_jpeg_close(dmae_decoder *decoder) {
    jpeg_destroy_decompress(&decoder->info);
    free(decoder);
}

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
const char *dmae_jpeg_version(void) { return TEXT(LIBJPEG_TURBO_VERSION); }
