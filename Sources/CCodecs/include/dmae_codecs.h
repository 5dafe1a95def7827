/* What Swift cannot say about libjpeg-turbo and libpng: both report errors through longjmp, which must not cross Swift
 * frames.
 *
 * Every function here returns with the error as a value. Decoding is in two steps, so that the caller sees an image's
 * size before anything of that size is allocated. Samples are handed over as the file means them; turning them into RGB
 * or grey is the caller's business. Nothing here is shared between threads: one decoder belongs to one thread at a
 * time.
 */
#ifndef DMAE_CODECS_H
#define DMAE_CODECS_H

#include <stddef.h>
#include <stdint.h>

typedef struct dmae_decoder dmae_decoder;

enum { DMAE_CODEC_MESSAGE = 256 };
/* The message, whole, where memory ran out: that says nothing of the file. */
#define DMAE_CODEC_OUT_OF_MEMORY "out of memory"

/* How the samples that dmae_*_read writes are meant. */
typedef enum {
    DMAE_SAMPLES_GREY = 1,    /* 1 byte a pixel */
    DMAE_SAMPLES_GREY16 = 2,  /* 2 bytes a pixel, high byte first (PNG) */
    DMAE_SAMPLES_RGB = 3,     /* 3 bytes a pixel */
    DMAE_SAMPLES_CMYK = 4,    /* 4 bytes a pixel, as stored: Adobe's files hold 255 - ink (JPEG) */
    DMAE_SAMPLES_PALETTE = 5, /* 1 byte a pixel, an index into the palette (PNG) */
} dmae_samples;

typedef struct {
    uint32_t width, height;
    uint32_t bytes_per_pixel;
    dmae_samples samples;
    uint8_t palette[256 * 3]; /* RGB; entries the file does not name are black */
} dmae_image_header;

/* Reads the header of the JPEG or PNG file that lies in bytes[0..<count], which must stay there until dmae_*_close.
 * NULL with `message` filled where that is impossible. */
dmae_decoder *dmae_jpeg_open(const uint8_t *bytes, size_t count, dmae_image_header *header,
                             char message[DMAE_CODEC_MESSAGE]);
dmae_decoder *dmae_png_open(const uint8_t *bytes, size_t count, dmae_image_header *header,
                            char message[DMAE_CODEC_MESSAGE]);

/* Writes height rows of width * bytes_per_pixel bytes to `samples`. 0, or -1 with `message` filled. To be called once.
 */
int dmae_jpeg_read(dmae_decoder *decoder, uint8_t *samples, char message[DMAE_CODEC_MESSAGE]);
int dmae_png_read(dmae_decoder *decoder, uint8_t *samples, char message[DMAE_CODEC_MESSAGE]);

void dmae_jpeg_close(dmae_decoder *decoder);
void dmae_png_close(dmae_decoder *decoder);

/* A PNG file of 8-bit grey (channels 1) or RGB (channels 3) rows, to be freed with free(); NULL with `message` filled.
 */
uint8_t *dmae_png_encode(const uint8_t *pixels, uint32_t width, uint32_t height, int channels, size_t *count,
                         char message[DMAE_CODEC_MESSAGE]);

/* Versions of the libraries that are linked in. */
const char *dmae_jpeg_version(void);
const char *dmae_png_version(void);
const char *dmae_zlib_version(void);

#endif
