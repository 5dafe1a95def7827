// Features and classes of pictures: `embed WEIGHTS PICTURE.ppm… [--output FEATURES]`.
//
//   cc -std=c11 embed.c -ldmae -o embed
//
// Reads PPM, the simplest of formats (`magick cat.jpg cat.ppm`): a program of your own has pixels already. Prints the
// most probable classes if the weights are of a classifier. --output writes the features as raw floats, one picture
// after another.
#include <dmae.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, dmae_error());
    return 1;
}

// A binary PPM file with 8 bits a sample and no comments.
static uint8_t *read_picture(const char *path, dmae_picture *picture) {
    FILE *const file = fopen(path, "rb");
    if (file == NULL) return NULL;
    int width = 0, height = 0;
    uint8_t *pixels = NULL;
    if (fscanf(file, "P6 %d %d 255", &width, &height) == 2 && fgetc(file) != EOF && width > 0 && height > 0) {
        const size_t bytes = (size_t)width * (size_t)height * 3;
        pixels = (uint8_t *)malloc(bytes);
        if (pixels != NULL && fread(pixels, 1, bytes, file) != bytes) {
            free(pixels);
            pixels = NULL;
        }
    }
    fclose(file);
    picture->pixels = pixels;
    picture->stride = 0; // rows follow each other without padding
    picture->width = width;
    picture->height = height;
    picture->channels = 3;
    return pixels;
}

int main(int argc, char **argv) {
    const char *output = NULL;
    if (argc > 3 && strcmp(argv[argc - 2], "--output") == 0) {
        output = argv[argc - 1];
        argc -= 2;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: %s WEIGHTS PICTURE.ppm... [--output FEATURES]\n", argv[0]);
        return DMAE_USAGE;
    }

    // Once: loading takes far longer than encoding a picture.
    dmae_encoder *encoder = NULL;
    if (dmae_open(argv[1], NULL, &encoder) != DMAE_OK) return fail(argv[1]);
    fprintf(stderr, "%s\n", dmae_encoder_description(encoder));

    const size_t count = (size_t)(argc - 2), features = dmae_encoder_features(encoder);
    dmae_picture *const pictures = (dmae_picture *)calloc(count, sizeof *pictures);
    float *const result = (float *)malloc(count * features * sizeof *result);
    if (pictures == NULL || result == NULL) return 1;
    for (size_t i = 0; i < count; ++i) {
        if (read_picture(argv[2 + i], &pictures[i]) == NULL) {
            fprintf(stderr, "%s: no binary PPM file that can be read\n", argv[2 + i]);
            return DMAE_BAD_DATA;
        }
    }

    // Pictures of any sizes in one call: the library fills its threads with them.
    if (dmae_encode(encoder, pictures, count, result, count * features) != DMAE_OK) return fail("dmae_encode");
    for (size_t i = 0; i < count; ++i) {
        printf("%s  %zu floats: %g %g %g ...\n", argv[2 + i], features, result[i * features], result[i * features + 1],
               result[i * features + 2]);
    }
    if (output != NULL) {
        FILE *const file = fopen(output, "wb");
        if (file == NULL || fwrite(result, sizeof *result, count * features, file) != count * features) return 1;
        if (fclose(file) != 0) return 1;
    }

    const size_t classes = (size_t)dmae_encoder_classes(encoder);
    if (classes > 0) {
        const size_t best = classes < 5 ? classes : 5;
        dmae_prediction *const predictions = (dmae_prediction *)malloc(count * best * sizeof *predictions);
        if (predictions == NULL) return 1;
        if (dmae_classify(encoder, pictures, count, best, predictions, count * best) != DMAE_OK)
            return fail("dmae_classify");
        for (size_t i = 0; i < count; ++i) {
            printf("%s", argv[2 + i]);
            for (size_t place = 0; place < best; ++place) {
                const dmae_prediction *const one = &predictions[i * best + place];
                printf("  %s %.2f %%", dmae_encoder_class_name(encoder, one->index), 100 * one->probability);
            }
            printf("\n");
        }
        free(predictions);
    }

    for (size_t i = 0; i < count; ++i) free((void *)pictures[i].pixels);
    free(pictures);
    free(result);
    dmae_free(encoder);
    return 0;
}
