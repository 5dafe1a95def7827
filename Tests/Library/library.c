// What the tests ask of the library for C; see LibraryTests.swift.
//
//   library WHAT [--OPTION VALUE]... WEIGHTS OUTPUT PICTURE.ppm...   features, logits, images, floats: writes raw
//   floats library refusals WEIGHTS CLASSIFIER                              a line for each call that must fail library
//   threads OUTPUT WEIGHTS WEIGHTS PICTURE.ppm...            two encoders in two threads library process WEIGHTS
//   PICTURE.ppm                              what of the process must stay as it is
#define _GNU_SOURCE
#include <dmae.h>

#include <fcntl.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static void end(const char *what) {
    printf("%s: %s\n", what, dmae_error());
    exit(1);
}

static void need(int condition, const char *what) {
    if (!condition) {
        printf("not so: %s (%s)\n", what, dmae_error());
        exit(1);
    }
}

// A binary PPM or PGM file. Rows are `padding` bytes further apart, from the bottom to the top if that is negative.
static dmae_picture read_picture(const char *path, int padding) {
    FILE *const file = fopen(path, "rb");
    int width = 0, height = 0;
    char kind = 0;
    if (file == NULL || fscanf(file, "P%c %d %d 255", &kind, &width, &height) != 3 || fgetc(file) == EOF) end(path);
    const int channels = kind == '6' ? 3 : 1, flips = padding < 0;
    if (flips) padding = -padding;
    const ptrdiff_t row = (ptrdiff_t)width * channels, stride = row + padding;
    uint8_t *const pixels = malloc((size_t)(stride * height));
    for (int y = 0; y < height; ++y) {
        uint8_t *const start = pixels + stride * (flips ? height - 1 - y : y);
        if (fread(start, 1, (size_t)row, file) != (size_t)row) end(path);
        memset(start + row, 99, (size_t)padding);
    }
    fclose(file);
    const dmae_picture picture = {pixels + (flips ? stride * (height - 1) : 0),
                                  flips          ? -stride
                                  : padding == 0 ? 0
                                                 : stride,
                                  width, height, channels};
    return picture;
}

static dmae_encoder *open_encoder(const char *weights, const dmae_options *options) {
    dmae_encoder *encoder = NULL;
    const dmae_status status = dmae_open(weights, options, &encoder);
    if (status != DMAE_OK) {
        printf("dmae_open: %d %s\n", (int)status, dmae_error());
        exit(1);
    }
    return encoder;
}

static void write_floats(const char *path, const float *values, size_t count) {
    FILE *const file = fopen(path, "wb");
    need(file != NULL && fwrite(values, sizeof *values, count, file) == count && fclose(file) == 0, path);
}

// MARK: Numbers

static int run(const char *what, int argc, char **argv) {
    dmae_options options = dmae_default_options();
    int calls = 1, padding = 0;
    for (; argc > 1 && strncmp(argv[0], "--", 2) == 0; argc -= 2, argv += 2) {
        const char *const name = argv[0] + 2;
        const int32_t value = atoi(argv[1]);
        if (strcmp(name, "batch") == 0) options.batch = value;
        if (strcmp(name, "threads") == 0) options.threads = value;
        if (strcmp(name, "precision") == 0) options.precision = value;
        if (strcmp(name, "pool") == 0) options.pool = value;
        if (strcmp(name, "block") == 0) options.block = value;
        if (strcmp(name, "heads") == 0) options.heads = value;
        if (strcmp(name, "size") == 0) options.image_height = options.image_width = value;
        if (strcmp(name, "prefix") == 0) options.prefix = argv[1];
        if (strcmp(name, "calls") == 0) calls = value;
        if (strcmp(name, "padding") == 0) padding = value;
    }
    dmae_encoder *const encoder = open_encoder(argv[0], &options);
    const char *const output = argv[1];
    const size_t count = (size_t)(argc - 2);
    dmae_picture *const pictures = malloc(count * sizeof *pictures);
    for (size_t i = 0; i < count; ++i) pictures[i] = read_picture(argv[2 + i], padding);
    const size_t classes = (size_t)dmae_encoder_classes(encoder), image = dmae_encoder_image_floats(encoder);
    const size_t each = strcmp(what, "logits") == 0 ? classes
                      : strcmp(what, "images") == 0 ? image
                                                    : dmae_encoder_features(encoder);
    float *const result = malloc(count * each * sizeof *result);
    // In as many calls as are asked for.
    for (int call = 0; call < calls; ++call) {
        const size_t first = count * (size_t)call / (size_t)calls, last = count * (size_t)(call + 1) / (size_t)calls;
        const size_t some = last - first;
        float *const target = result + first * each;
        dmae_status status;
        if (strcmp(what, "logits") == 0) {
            status = dmae_logits(encoder, pictures + first, some, target, some * each);
        } else if (strcmp(what, "images") == 0) {
            status = dmae_prepare(encoder, pictures + first, some, target, some * each);
        } else if (strcmp(what, "floats") == 0) {
            float *const images = malloc(some * image * sizeof *images);
            if (dmae_prepare(encoder, pictures + first, some, images, some * image) != DMAE_OK) end("dmae_prepare");
            status = dmae_encode_floats(encoder, images, some, target, some * each);
            if (status == DMAE_OK && classes > 0) {
                float *const logits = malloc(some * classes * sizeof *logits), *const same = malloc(some * classes * 4);
                need(dmae_logits(encoder, pictures + first, some, logits, some * classes) == DMAE_OK &&
                         dmae_logits_floats(encoder, images, some, same, some * classes) == DMAE_OK &&
                         memcmp(logits, same, some * classes * sizeof *logits) == 0,
                     "logits of pictures are those of their floats");
                free(logits);
                free(same);
            }
            free(images);
        } else {
            status = dmae_encode(encoder, pictures + first, some, target, some * each);
        }
        if (status != DMAE_OK) end("the call");
    }
    write_floats(output, result, count * each);
    printf("%s\n", dmae_version());
    printf("%dx%d, %d channels, patches of %d, width %d, %d tokens, pool %d, %zu floats, %d classes, %d threads\n",
           dmae_encoder_image_height(encoder), dmae_encoder_image_width(encoder), dmae_encoder_channels(encoder),
           dmae_encoder_patch_size(encoder), dmae_encoder_width(encoder), dmae_encoder_tokens(encoder),
           (int)dmae_encoder_pool(encoder), dmae_encoder_features(encoder), dmae_encoder_classes(encoder),
           dmae_encoder_threads(encoder));
    for (int32_t i = 0; i < dmae_encoder_classes(encoder); ++i) printf("%s\n", dmae_encoder_class_name(encoder, i));
    if (classes > 0) {
        dmae_prediction best[3];
        const size_t shown = classes < 3 ? classes : 3;
        for (size_t i = 0; i < count; ++i) {
            if (dmae_classify(encoder, &pictures[i], 1, shown, best, 3) != DMAE_OK) end("dmae_classify");
            for (size_t place = 0; place < shown; ++place)
                printf("%d %.17g ", best[place].index, best[place].probability);
            printf("\n");
        }
    }
    printf("%s\n", dmae_encoder_description(encoder));
    dmae_free(encoder);
    return 0;
}

// MARK: Refusals

static void refused(const char *call, dmae_status status) {
    printf("%s: %d %s\n", call, (int)status, dmae_error());
    if (status == DMAE_OK) exit(1);
}
#define REFUSED(call) refused(#call, call)

static int refusals(const char *weights, const char *classifier) {
    need(strcmp(dmae_error(), "") == 0, "no error at first");
    dmae_encoder *encoder = NULL;
    dmae_options options = dmae_default_options();
    REFUSED(dmae_open(weights, NULL, NULL));
    REFUSED(dmae_open(NULL, NULL, &encoder));
    REFUSED(dmae_open("nowhere.safetensors", NULL, &encoder));
    REFUSED(dmae_open("/", NULL, &encoder));
    REFUSED(dmae_open("/dev/null", NULL, &encoder));
    REFUSED(dmae_open("", NULL, &encoder));
    REFUSED(dmae_open("\xff", NULL, &encoder));
    REFUSED(dmae_open(weights, NULL, &encoder));
#define WRONG(member, value)                                                 \
    do {                                                                     \
        options = dmae_default_options();                                    \
        options.heads = 4;                                                   \
        options.member = value;                                              \
        refused(#member " " #value, dmae_open(weights, &options, &encoder)); \
    } while (0)
    WRONG(size, 0);
    WRONG(size, 1000);
    WRONG(batch, -1);
    WRONG(batch, 5000);
    WRONG(threads, -1);
    WRONG(threads, 5000);
    WRONG(precision, 3);
    WRONG(precision, -1);
    WRONG(pool, 4);
    WRONG(block, -2);
    WRONG(block, 3);
    WRONG(heads, -4);
    WRONG(heads, 5);
    WRONG(image_height, 16);
    WRONG(image_width, -16);
    WRONG(prefix, "elsewhere.");
    WRONG(prefix, "\xff");
    options = dmae_default_options();
    options.heads = 4;
    options.image_height = options.image_width = INT32_MAX;
    refused("the largest image", dmae_open(weights, &options, &encoder));
    need(encoder == NULL, "nothing was opened");

    options = dmae_default_options();
    options.heads = 4;
    encoder = open_encoder(weights, &options);
    uint8_t pixels[12] = {0};
    float floats[4096] = {0};
    dmae_prediction predictions[8];
    const dmae_picture good = {pixels, 0, 2, 2, 3};
    dmae_picture bad = good;
    REFUSED(dmae_encode(NULL, &good, 1, floats, 4096));
    REFUSED(dmae_encode(encoder, NULL, 1, floats, 4096));
    REFUSED(dmae_encode(encoder, &good, 1, NULL, 4096));
    REFUSED(dmae_encode(encoder, &good, 1, floats, 31));
    REFUSED(dmae_encode(encoder, &good, SIZE_MAX, floats, 4096));
    REFUSED(dmae_encode_floats(encoder, NULL, 1, floats, 4096));
    REFUSED(dmae_prepare(encoder, &good, 1, floats, 3071));
    REFUSED(dmae_logits(encoder, &good, 1, floats, 4096));
    REFUSED(dmae_logits_floats(encoder, floats, 1, floats, 4096));
    REFUSED(dmae_classify(encoder, &good, 1, 1, predictions, 8));
    REFUSED(dmae_classify(NULL, &good, 1, 1, predictions, 8));
#define BAD(member, value)                                                        \
    do {                                                                          \
        bad = good;                                                               \
        bad.member = value;                                                       \
        refused(#member " " #value, dmae_encode(encoder, &bad, 1, floats, 4096)); \
    } while (0)
    BAD(pixels, NULL);
    BAD(width, 0);
    BAD(height, -1);
    BAD(width, 65536);
    BAD(height, INT32_MAX);
    BAD(channels, 4);
    BAD(channels, 0);
    BAD(stride, 5);
    BAD(stride, -5);
    bad = good;
    bad.width = bad.height = 60000;
    refused("too many pixels", dmae_encode(encoder, &bad, 1, floats, 4096));
    static float images[32 * 32 * 3];
    images[7] = (float)(1e38 * 1e38);
    refused("an infinite number", dmae_encode_floats(encoder, images, 1, floats, 4096));
    need(dmae_encode(encoder, NULL, 0, NULL, 0) == DMAE_OK, "no pictures are no error");
    need(dmae_encode(encoder, &good, 1, floats, 32) == DMAE_OK, "a good call after bad ones");
    dmae_free(encoder);

    REFUSED(dmae_top(NULL, 5, 1, predictions));
    REFUSED(dmae_top(floats, 5, 1, NULL));
    REFUSED(dmae_top(floats, 5, 6, predictions));
    REFUSED(dmae_top(floats, 5, 0, predictions));
    REFUSED(dmae_top(floats, SIZE_MAX, 1, predictions));
    encoder = open_encoder(classifier, NULL);
    REFUSED(dmae_classify(encoder, &good, 1, 6, predictions, 8));
    REFUSED(dmae_classify(encoder, &good, 1, 0, predictions, 8));
    REFUSED(dmae_classify(encoder, &good, 2, 5, predictions, 9));
    REFUSED(dmae_classify(encoder, &good, SIZE_MAX, 5, predictions, 9));
    REFUSED(dmae_classify(encoder, &good, 1, 5, NULL, 9));
    REFUSED(dmae_classify(encoder, NULL, 1, 5, predictions, 9));
    need(dmae_encoder_class_name(encoder, -1) == NULL && dmae_encoder_class_name(encoder, 5) == NULL,
         "there are five classes");
    dmae_free(encoder);
    dmae_free(NULL);
    need(dmae_encoder_width(NULL) == 0 && dmae_encoder_features(NULL) == 0 &&
             dmae_encoder_class_name(NULL, 0) == NULL && dmae_encoder_description(NULL) == NULL &&
             dmae_encoder_image_floats(NULL) == 0,
         "no encoder is nothing");
    return 0;
}

// MARK: Threads

struct caller {
    const char *weights;
    const dmae_picture *pictures;
    size_t count;
    int rounds;
    float *result;
    size_t each;
};

static void *encode_often(void *context) {
    struct caller *const caller = context;
    dmae_encoder *const encoder = open_encoder(caller->weights, NULL);
    caller->each = dmae_encoder_features(encoder);
    const size_t floats = caller->count * caller->each;
    caller->result = malloc(floats * sizeof(float));
    float *const again = malloc(floats * sizeof(float));
    for (int round = 0; round < caller->rounds; ++round) {
        float *const target = round == 0 ? caller->result : again;
        if (dmae_encode(encoder, caller->pictures, caller->count, target, floats) != DMAE_OK) end("dmae_encode");
        if (round > 0)
            need(memcmp(target, caller->result, floats * sizeof(float)) == 0, "each round has the same bits");
        // Each thread has an error of its own.
        char wanted[64];
        snprintf(wanted, sizeof wanted, "dmae_encode: for a count of %zu, features", caller->count);
        need(dmae_encode(encoder, caller->pictures, caller->count, target, 1) == DMAE_USAGE &&
                 strncmp(dmae_error(), wanted, strlen(wanted)) == 0,
             "an error is that of its thread");
    }
    free(again);
    dmae_free(encoder);
    return NULL;
}

static int threads(const char *output, char **weights, size_t count, char **paths) {
    dmae_picture *const pictures = malloc(count * sizeof *pictures);
    for (size_t i = 0; i < count; ++i) pictures[i] = read_picture(paths[i], 0);
    struct caller callers[2] = {{weights[0], pictures, count, 20, NULL, 0},
                                {weights[1], pictures, count - 1, 20, NULL, 0}};
    // A small stack is enough for a caller.
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    pthread_t thread[2];
    for (int i = 0; i < 2; ++i)
        need(pthread_create(&thread[i], &attributes, encode_often, &callers[i]) == 0, "a thread starts");
    for (int i = 0; i < 2; ++i) pthread_join(thread[i], NULL);
    char path[4096];
    for (int i = 0; i < 2; ++i) {
        snprintf(path, sizeof path, "%s.%d", output, i);
        write_floats(path, callers[i].result, callers[i].count * callers[i].each);
    }
    return 0;
}

// MARK: The process

extern char **environ;

static int threads_of_process(void) {
    FILE *const file = fopen("/proc/self/status", "r");
    char line[256];
    int count = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) sscanf(line, "Threads: %d", &count);
    if (file != NULL) fclose(file);
    return count;
}

static long resident_kilobytes(void) {
    FILE *const file = fopen("/proc/self/statm", "r");
    long size = 0, pages = 0;
    need(file != NULL && fscanf(file, "%ld %ld", &size, &pages) == 2, "/proc can be read");
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static int open_files(void) {
    int count = 0;
    for (int number = 0; number < 256; ++number) count += fcntl(number, F_GETFD) != -1;
    return count;
}

/// Numbers that an encoder computes on this thread.
static void features_of(dmae_encoder *encoder, const dmae_picture *picture, float *result) {
    if (dmae_encode(encoder, picture, 1, result, dmae_encoder_features(encoder)) != DMAE_OK) end("dmae_encode");
}

static int process(const char *weights, const char *path) {
    // The C library keeps two signals for itself and tells nothing of them.
    static struct sigaction before[65], after;
    for (int number = 1; number < 65; ++number) sigaction(number, NULL, &before[number]);
    size_t variables = 0;
    while (environ[variables] != NULL) ++variables;
    char **const copy = malloc((variables + 1) * sizeof *copy);
    for (size_t i = 0; i <= variables; ++i) copy[i] = environ[i] == NULL ? NULL : strdup(environ[i]);
    sigset_t mask, same;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);

    const dmae_picture picture = read_picture(path, 0);
    dmae_encoder *encoder = NULL;
    dmae_options options = dmae_default_options();
    options.threads = 3;
    need(dmae_open("nowhere", NULL, &encoder) == DMAE_INPUT_OUTPUT, "there is no such file");
    encoder = open_encoder(weights, &options);
    const size_t floats = dmae_encoder_features(encoder), bytes = floats * sizeof(float);
    float *const first = malloc(bytes), *const second = malloc(bytes);
    features_of(encoder, &picture, first);
    need(threads_of_process() == 4, "the caller, the library's thread and two of OpenMP");

    for (int number = 1; number < 65; ++number) {
        if (sigaction(number, NULL, &after) != 0) continue;
        need(before[number].sa_handler == after.sa_handler, "no handler of a signal changes");
    }
    pthread_sigmask(SIG_SETMASK, NULL, &same);
    for (int number = 1; number < 65; ++number)
        need(sigismember(&mask, number) == sigismember(&same, number), "the mask of signals stays");
    for (size_t i = 0; i <= variables; ++i)
        need((environ[i] == NULL) == (copy[i] == NULL) && (copy[i] == NULL || strcmp(environ[i], copy[i]) == 0),
             "the environment stays");

    // Encoders come and go, and what fails leaves nothing behind.
    long before_them = 0;
    const int files = open_files();
    for (int round = 0; round < 60; ++round) {
        if (round == 20) before_them = resident_kilobytes();
        dmae_encoder *const other = open_encoder(weights, &options);
        features_of(other, &picture, second);
        dmae_free(other);
        dmae_encoder *none = NULL;
        need(dmae_open(path, NULL, &none) == DMAE_BAD_DATA && none == NULL, "a picture is no file of weights");
    }
    need(resident_kilobytes() - before_them < 1024, "encoders that are freed take no memory");
    need(open_files() == files, "and no open files");

    // The caller's modes of rounding are its own, before the library starts a thread and after.
    fesetround(FE_UPWARD);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
    features_of(encoder, &picture, second);
    need(memcmp(first, second, bytes) == 0 && fegetround() == FE_UPWARD, "the caller's rounding changes nothing");
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        // A new library's thread starts on a thread that rounds otherwise.
        memset(second, 0, bytes);
        features_of(encoder, &picture, second);
        need(memcmp(first, second, bytes) == 0, "the child of a fork computes the same");
        dmae_encoder *const other = open_encoder(weights, NULL);
        features_of(other, &picture, second);
        need(memcmp(first, second, bytes) == 0, "and with an encoder of its own");
        dmae_free(other);
        dmae_free(encoder);
        fflush(stdout);
        _exit(7);
    }
    int status = 0;
    waitpid(child, &status, 0);
    need(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the child of a fork ends well");
    features_of(encoder, &picture, second);
    need(memcmp(first, second, bytes) == 0, "the parent goes on");
    dmae_free(encoder);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "refusals") == 0) return refusals(argv[2], argv[3]);
    if (argc == 4 && strcmp(argv[1], "process") == 0) return process(argv[2], argv[3]);
    if (argc > 6 && strcmp(argv[1], "threads") == 0) return threads(argv[2], argv + 3, (size_t)argc - 5, argv + 5);
    if (argc > 4) return run(argv[1], argc - 2, argv + 2);
    return DMAE_USAGE;
}
