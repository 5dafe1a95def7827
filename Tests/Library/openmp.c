// A program with an OpenMP of its own, whose threads encode: `openmp WEIGHTS`.
#include <dmae.h>

#include <stdio.h>
#include <stdlib.h>

/// The threads that the program's own OpenMP gives.
static int threads(void) {
    int count = 0;
#pragma omp parallel num_threads(3) reduction(+ : count)
    count += 1;
    return count;
}

static float first_feature(dmae_encoder *encoder) {
    const uint8_t pixel[3] = {10, 200, 30};
    const dmae_picture picture = {pixel, 0, 1, 1, 3};
    float features[256];
    if (dmae_encode(encoder, &picture, 1, features, 256) != DMAE_OK) {
        printf("%s\n", dmae_error());
        exit(1);
    }
    return features[0];
}

int main(int argc, char **argv) {
    if (argc != 2) return DMAE_USAGE;
    const int before = threads();
    dmae_encoder *encoder = NULL;
    if (dmae_open(argv[1], NULL, &encoder) != DMAE_OK) {
        printf("%s\n", dmae_error());
        return 1;
    }
    const float feature = first_feature(encoder);
    int others = 0;
#pragma omp parallel num_threads(3) reduction(+ : others)
    others += first_feature(encoder) != feature;
    printf("%d threads before, %d after, %d other features\n", before, threads(), others);
    dmae_free(encoder);
    return 0;
}
