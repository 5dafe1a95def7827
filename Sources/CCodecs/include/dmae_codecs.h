/* JPEG, PNG and WebP codecs for Swift. libjpeg-turbo and libpng report errors by longjmp, which must not cross Swift
 * frames, so it is caught here and every function returns the error as a value.
 *
 * Decoding takes two calls: open reads the header, so that the caller knows the size before it allocates the samples;
 * read decodes them. Samples are in the file's own colour model; the caller converts them to RGB or grey. A decoder may
 * be used by one thread at a time; decoders share no state.
 */
#ifndef DMAE_CODECS_H
#define DMAE_CODECS_H

#include <stddef.h>
#include <stdint.h>

typedef struct dmae_decoder dmae_decoder;

enum { DMAE_CODEC_MESSAGE = 256 };
/* The whole message if memory ran out, in which case the file may be valid. */
#define DMAE_CODEC_OUT_OF_MEMORY "out of memory"

/* The colour model of the samples that dmae_*_read writes. */
typedef enum {
    DMAE_SAMPLES_GREY = 1,       /* 1 byte a pixel */
    DMAE_SAMPLES_GREY16 = 2,     /* 2 bytes a pixel, high byte first */
    DMAE_SAMPLES_RGB = 3,        /* 3 bytes a pixel */
    DMAE_SAMPLES_CMYK = 4,       /* 4 bytes a pixel, as stored: Adobe's files hold 255 - ink (JPEG) */
    DMAE_SAMPLES_PALETTE = 5,    /* 1 byte a pixel, an index into the palette */
    DMAE_SAMPLES_GREY_ALPHA = 6, /* 2 bytes a pixel, the second one 255 where it is opaque */
    DMAE_SAMPLES_RGB_ALPHA = 7,  /* 4 bytes a pixel, the last one 255 where it is opaque */
} dmae_samples;

typedef struct {
    uint32_t width, height;
    uint32_t bytes_per_pixel;
    uint32_t bit_depth; /* of the file's samples */
    dmae_samples samples;
    uint8_t palette[256 * 3]; /* RGB; entries that the file does not define are black */
    size_t working_bytes;     /* that the library takes for the whole picture while it reads, beside the samples */
} dmae_image_header;

/* Reads the header of the file bytes[0..<count], which must stay valid until dmae_*_close. Returns NULL and fills
 * `message` on an error. `has_alpha` says whether an alpha channel is wanted; otherwise it is dropped. Of an animated
 * WebP file, the picture is the canvas with the first frame. */
dmae_decoder *dmae_jpeg_open(const uint8_t *bytes, size_t count, dmae_image_header *header,
                             char message[DMAE_CODEC_MESSAGE]);
dmae_decoder *dmae_png_open(const uint8_t *bytes, size_t count, int has_alpha, dmae_image_header *header,
                            char message[DMAE_CODEC_MESSAGE]);
dmae_decoder *dmae_webp_open(const uint8_t *bytes, size_t count, int has_alpha, dmae_image_header *header,
                             char message[DMAE_CODEC_MESSAGE]);

/* Writes the samples[height][width * bytes_per_pixel]. Returns 0, or -1 and fills `message` on an error. May be called
 * once. */
int dmae_jpeg_read(dmae_decoder *decoder, uint8_t *samples, char message[DMAE_CODEC_MESSAGE]);
int dmae_png_read(dmae_decoder *decoder, uint8_t *samples, char message[DMAE_CODEC_MESSAGE]);
int dmae_webp_read(dmae_decoder *decoder, uint8_t *samples, char message[DMAE_CODEC_MESSAGE]);

/* Whether a checksum of the pixels was wrong, after dmae_png_read. They were read all the same. */
int dmae_png_has_wrong_checksum(const dmae_decoder *decoder);

void dmae_jpeg_close(dmae_decoder *decoder);
void dmae_png_close(dmae_decoder *decoder);
void dmae_webp_close(dmae_decoder *decoder);

/* The bytes in the first chunk of that kind ("EXIF", "XMP ") of the WebP file bytes[0..<count], which its header must
 * announce; *offset is where they begin. 0 where there is none or the file is damaged. */
size_t dmae_webp_chunk(const uint8_t *bytes, size_t count, const char kind[4], size_t *offset);

/* What the files of dmae_png_encode say wrote them. */
#define DMAE_PNG_SOFTWARE "dmae"

/* Encodes pixels[height][width][channels], 8-bit grey (1 channel) or RGB (3), as a PNG file of *count bytes, which the
 * caller frees with free(). After the header comes a tEXt chunk: Software, DMAE_PNG_SOFTWARE. Returns NULL and fills
 * `message` on an error. */
uint8_t *dmae_png_encode(const uint8_t *pixels, uint32_t width, uint32_t height, int channels, size_t *count,
                         char message[DMAE_CODEC_MESSAGE]);

/* Decompresses the zlib stream bytes[0..<count] into room[0..<limit]. Returns the number of bytes written, or -1 where
 * the stream is damaged or holds more than `limit` bytes. A stream that ends early gives what it holds. */
long dmae_zlib_inflate(const uint8_t *bytes, size_t count, uint8_t *room, size_t limit);

/* Versions of the linked libraries. */
const char *dmae_jpeg_version(void);
const char *dmae_png_version(void);
const char *dmae_zlib_version(void);
int dmae_webp_version(void); /* a byte each for the major and minor version and the revision */

#endif
