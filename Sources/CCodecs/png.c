#include "dmae_codecs.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>
#include <zlib.h>

struct dmae_decoder {
    png_structp png;
    png_infop info;
    const uint8_t *next;
    size_t left;
    char *message;
    png_bytep *rows;
    int has_wrong_checksum;
};

static void fail(png_structp png, png_const_charp text) {
    char *message = *(char **)png_get_error_ptr(png);
    /* libpng's message, or its message for zlib's Z_MEM_ERROR, which follows the name of a chunk. */
    const int is_memory = strcmp(text, "Out of memory") == 0 || strstr(text, "insufficient memory") != NULL;
    snprintf(message, DMAE_CODEC_MESSAGE, "%s", is_memory ? DMAE_CODEC_OUT_OF_MEMORY : text);
    png_longjmp(png, 1);
}
static void stay_silent(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

/* libpng warns of a wrong checksum of an IDAT chunk, once dmae_png_read has said that it is no error. */
static void note_checksum(png_structp png, png_const_charp text) {
    dmae_decoder *decoder = png_get_io_ptr(png);
    if (decoder && strstr(text, "CRC error") != NULL) decoder->has_wrong_checksum = 1;
}

static void read_bytes(png_structp png, png_bytep destination, size_t count) {
    dmae_decoder *decoder = png_get_io_ptr(png);
    if (count > decoder->left) png_error(png, "the file is truncated");
    memcpy(destination, decoder->next, count);
    decoder->next += count;
    decoder->left -= count;
}

dmae_decoder *dmae_png_open(const uint8_t *bytes, size_t count, int has_alpha, dmae_image_header *header,
                            char message[DMAE_CODEC_MESSAGE]) {
    dmae_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder) {
        snprintf(message, DMAE_CODEC_MESSAGE, DMAE_CODEC_OUT_OF_MEMORY);
        return NULL;
    }
    decoder->next = bytes;
    decoder->left = count;
    decoder->message = message;
    decoder->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder->message, fail, note_checksum);
    if (decoder->png) decoder->info = png_create_info_struct(decoder->png);
    if (!decoder->info) {
        snprintf(message, DMAE_CODEC_MESSAGE, DMAE_CODEC_OUT_OF_MEMORY);
        dmae_png_close(decoder);
        return NULL;
    }
    png_structp png = decoder->png;
    if (setjmp(png_jmpbuf(png))) {
        dmae_png_close(decoder);
        return NULL;
    }
    png_set_read_fn(png, decoder, read_bytes);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    /* Ancillary chunks (text, profiles) change no pixel that Pillow reads, so they are not parsed. */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_check_for_invalid_index(png, 0);
    png_read_info(png, decoder->info);

    memset(header, 0, sizeof *header);
    header->width = png_get_image_width(png, decoder->info);
    header->height = png_get_image_height(png, decoder->info);
    int depth = png_get_bit_depth(png, decoder->info);
    header->bit_depth = (uint32_t)depth;
    switch (png_get_color_type(png, decoder->info)) {
    case PNG_COLOR_TYPE_GRAY:
        header->samples = depth == 16 ? DMAE_SAMPLES_GREY16 : DMAE_SAMPLES_GREY;
        header->bytes_per_pixel = depth == 16 ? 2 : 1;
        if (depth < 8) png_set_expand_gray_1_2_4_to_8(png);
        break;
    case PNG_COLOR_TYPE_GRAY_ALPHA:
        header->samples = has_alpha ? DMAE_SAMPLES_GREY_ALPHA : DMAE_SAMPLES_GREY;
        header->bytes_per_pixel = has_alpha ? 2 : 1;
        if (depth == 16) png_set_strip_16(png);
        if (!has_alpha) png_set_strip_alpha(png);
        break;
    case PNG_COLOR_TYPE_RGB_ALPHA:
        header->samples = has_alpha ? DMAE_SAMPLES_RGB_ALPHA : DMAE_SAMPLES_RGB;
        header->bytes_per_pixel = has_alpha ? 4 : 3;
        if (depth == 16) png_set_strip_16(png); /* the high byte, not the nearest 8-bit value */
        if (!has_alpha) png_set_strip_alpha(png);
        break;
    case PNG_COLOR_TYPE_PALETTE: {
        header->samples = DMAE_SAMPLES_PALETTE;
        header->bytes_per_pixel = 1;
        png_set_packing(png);
        png_colorp entries = NULL;
        int entry_count = 0;
        png_get_PLTE(png, decoder->info, &entries, &entry_count);
        for (int i = 0; i < entry_count && i < 256; i++) {
            header->palette[3 * i] = entries[i].red;
            header->palette[3 * i + 1] = entries[i].green;
            header->palette[3 * i + 2] = entries[i].blue;
        }
        break;
    }
    default:
        header->samples = DMAE_SAMPLES_RGB;
        header->bytes_per_pixel = 3;
        if (depth == 16) png_set_strip_16(png);
        break;
    }
    return decoder;
}

int dmae_png_read(dmae_decoder *decoder, uint8_t *samples, char message[DMAE_CODEC_MESSAGE]) {
    png_structp png = decoder->png;
    decoder->message = message;
    if (setjmp(png_jmpbuf(png))) return -1;
    /* Only now: the checksums of IHDR and PLTE must be right. */
    decoder->has_wrong_checksum = 0;
    png_set_crc_action(png, PNG_CRC_WARN_USE, PNG_CRC_NO_CHANGE);
    png_set_interlace_handling(png);
    png_read_update_info(png, decoder->info);
    size_t height = png_get_image_height(png, decoder->info), stride = png_get_rowbytes(png, decoder->info);
    decoder->rows = malloc(height * sizeof *decoder->rows);
    if (!decoder->rows) png_error(png, DMAE_CODEC_OUT_OF_MEMORY);
    for (size_t y = 0; y < height; y++) decoder->rows[y] = samples + y * stride;
    png_read_image(png, decoder->rows);
    return 0;
}

int dmae_png_has_wrong_checksum(const dmae_decoder *decoder) { return decoder->has_wrong_checksum; }

void dmae_png_close(dmae_decoder *decoder) {
    png_destroy_read_struct(&decoder->png, &decoder->info, NULL);
    free(decoder->rows);
    free(decoder);
}

typedef struct {
    char *message; /* must be the first member: `fail` reads it through the error pointer */
    uint8_t *bytes;
    size_t count, room;
} encoded;

static void write_bytes(png_structp png, png_bytep source, size_t count) {
    encoded *file = png_get_io_ptr(png);
    if (file->room - file->count < count) {
        size_t room = 2 * file->room + count + 4096;
        uint8_t *bytes = realloc(file->bytes, room);
        if (!bytes) png_error(png, DMAE_CODEC_OUT_OF_MEMORY);
        file->bytes = bytes;
        file->room = room;
    }
    memcpy(file->bytes + file->count, source, count);
    file->count += count;
}
static void flush_bytes(png_structp png) { (void)png; }

/* The keyword Software of PNG's text chunks, and who wrote the file: without a version or a date, so that the same
 * picture is the same bytes. */
static const uint8_t origin[] = "Software\0" DMAE_PNG_SOFTWARE;

uint8_t *dmae_png_encode(const uint8_t *pixels, uint32_t width, uint32_t height, int channels, size_t *count,
                         char message[DMAE_CODEC_MESSAGE]) {
    encoded file = {.message = message};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &file, fail, stay_silent);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        snprintf(message, DMAE_CODEC_MESSAGE, DMAE_CODEC_OUT_OF_MEMORY);
        png_destroy_write_struct(&png, NULL);
        return NULL;
    }
    if (setjmp(png_jmpbuf(png))) {
        png_destroy_write_struct(&png, &info);
        free(file.bytes);
        return NULL;
    }
    png_set_write_fn(png, &file, write_bytes, flush_bytes);
    png_set_IHDR(png, info, width, height, 8, channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    png_write_chunk(png, (png_const_bytep) "tEXt", origin, sizeof origin - 1);
    for (uint32_t y = 0; y < height; y++) png_write_row(png, pixels + (size_t)y * width * (size_t)channels);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    *count = file.count;
    return file.bytes;
}

long dmae_zlib_inflate(const uint8_t *bytes, size_t count, uint8_t *room, size_t limit) {
    z_stream stream = {
        .next_in = (z_const Bytef *)bytes, .avail_in = (uInt)count, .next_out = room, .avail_out = (uInt)limit};
    if (count > UINT32_MAX || limit > UINT32_MAX || inflateInit(&stream) != Z_OK) return -1;
    const int status = inflate(&stream, Z_SYNC_FLUSH);
    const long written = (long)(limit - stream.avail_out);
    const int is_full = status != Z_STREAM_END && stream.avail_out == 0;
    inflateEnd(&stream);
    return (status == Z_STREAM_END || status == Z_OK || status == Z_BUF_ERROR) && !is_full ? written : -1;
}

const char *dmae_png_version(void) { return png_get_libpng_ver(NULL); }
const char *dmae_zlib_version(void) { return zlibVersion(); }
