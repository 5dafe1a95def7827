// The functions of dmae.h: arguments are checked here, since Swift ends the process for what it cannot do.
#define _GNU_SOURCE
#include "dmae_work.h"

#include <fenv.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_(value) #value
#define TEXT(value) TEXT_(value)
const char *dmae_version(void) {
    return TEXT(DMAE_VERSION_MAJOR) "." TEXT(DMAE_VERSION_MINOR) "." TEXT(DMAE_VERSION_PATCH);
}

// The thread's sentence is behind a key, not _Thread_local: what is loaded at run time has little room for such
// variables.
enum { sentence_bytes = 4096 };
static pthread_key_t key;
static bool has_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void make_key(void) { has_key = pthread_key_create(&key, free) == 0; }

/// Where the calling thread's sentence is; without memory for it, one byte that stays empty.
static dmae_sentence own_sentence(void) {
    static char none[1];
    pthread_once(&once, make_key);
    if (!has_key) return (dmae_sentence){none, sizeof none};
    char *text = pthread_getspecific(key);
    if (text == NULL) {
        text = calloc(1, sentence_bytes);
        if (text == NULL || pthread_setspecific(key, text) != 0) {
            free(text);
            return (dmae_sentence){none, sizeof none};
        }
    }
    return (dmae_sentence){text, sentence_bytes};
}

const char *dmae_error(void) { return own_sentence().text; }

__attribute__((format(printf, 2, 3))) static dmae_status fail(dmae_status status, const char *format, ...) {
    const dmae_sentence own = own_sentence();
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(own.text, own.capacity, format, arguments);
    va_end(arguments);
    return status;
}
#define usage(...) fail(DMAE_USAGE, __VA_ARGS__)

static dmae_status without_thread(int number) {
    char reason[256] = "";
    return fail(DMAE_FAILURE, "the system does not start a thread: %s; raise its limit of processes or of memory",
                strerror_r(number, reason, sizeof reason));
}

// MARK: Opening

struct opening {
    dmae_opening request;
    int32_t status;
};

static void run_open(void *context) {
    struct opening *const opening = context;
    opening->status = dmae_work_open(&opening->request);
}

static const char *wrong_option(const dmae_options *options) {
    if (options->batch < 0 || options->batch > 4096) return "batch must be 1 to 4096, or 0";
    if (options->threads < 0 || options->threads > 4096) return "threads must be 1 to 4096, or 0";
    if (options->precision < DMAE_FLOAT32 || options->precision > DMAE_FASTEST)
        return "precision must be one of dmae_precision_choice";
    if (options->pool < DMAE_POOL_DEFAULT || options->pool > DMAE_POOL_TOKENS) return "pool must be one of dmae_pool";
    if (options->block < -1) return "block must be the number of a block, or -1";
    if (options->heads < 0) return "heads must not be negative";
    if (options->image_height < 0 || options->image_width < 0)
        return "image_height and image_width must not be negative";
    if ((options->image_height == 0) != (options->image_width == 0))
        return "give both image_height and image_width, or neither";
    return NULL;
}

static void free_encoder(dmae_encoder *encoder) {
    if (encoder->class_names != NULL)
        for (int32_t i = 0; i < encoder->classes; ++i) free(encoder->class_names[i]);
    free(encoder->class_names);
    free(encoder->description);
    free(encoder);
}

dmae_status dmae_open(const char *path, const dmae_options *options, dmae_encoder **encoder) {
    if (encoder == NULL) return usage("dmae_open: encoder is NULL: give the address of a pointer");
    *encoder = NULL;
    if (path == NULL) return usage("dmae_open: path is NULL: name the weights");
    struct opening opening = {.request = {.path = path, .options = dmae_default_options()}};
    if (options != NULL) {
        // A caller's older header knows fewer options, a newer one more.
        if (options->size != sizeof *options)
            return usage("dmae_open: the options have %zu bytes, but this library's have %zu: begin with "
                         "dmae_default_options(), and use the header of this library",
                         options->size, sizeof *options);
        opening.request.options = *options;
    }
    const char *const wrong = wrong_option(&opening.request.options);
    if (wrong != NULL) return usage("dmae_open: %s", wrong);
    dmae_encoder *const opened = calloc(1, sizeof *opened);
    if (opened == NULL) return fail(DMAE_FAILURE, "dmae_open: memory ran out: free some and try again");
    opening.request.encoder = opened;
    opening.request.error = own_sentence();
    const int number = dmae_run(run_open, &opening);
    if (number != 0 || opening.status != DMAE_OK) {
        free_encoder(opened);
        return number != 0 ? without_thread(number) : (dmae_status)opening.status;
    }
    *encoder = opened;
    return DMAE_OK;
}

void dmae_free(dmae_encoder *encoder) {
    if (encoder == NULL) return;
    dmae_work_close(encoder->session);
    free_encoder(encoder);
}

// MARK: What an encoder is

int32_t dmae_encoder_image_height(const dmae_encoder *encoder) { return encoder == NULL ? 0 : encoder->image_height; }
int32_t dmae_encoder_image_width(const dmae_encoder *encoder) { return encoder == NULL ? 0 : encoder->image_width; }
int32_t dmae_encoder_channels(const dmae_encoder *encoder) { return encoder == NULL ? 0 : encoder->channels; }
int32_t dmae_encoder_patch_size(const dmae_encoder *encoder) { return encoder == NULL ? 0 : encoder->patch_size; }
int32_t dmae_encoder_width(const dmae_encoder *encoder) { return encoder == NULL ? 0 : encoder->width; }
int32_t dmae_encoder_tokens(const dmae_encoder *encoder) { return encoder == NULL ? 0 : encoder->tokens; }
int32_t dmae_encoder_classes(const dmae_encoder *encoder) { return encoder == NULL ? 0 : encoder->classes; }
int32_t dmae_encoder_threads(const dmae_encoder *encoder) { return encoder == NULL ? 0 : encoder->threads; }
size_t dmae_encoder_features(const dmae_encoder *encoder) { return encoder == NULL ? 0 : encoder->features; }

dmae_pool dmae_encoder_pool(const dmae_encoder *encoder) {
    return encoder == NULL ? DMAE_POOL_DEFAULT : (dmae_pool)encoder->pool;
}

size_t dmae_encoder_image_floats(const dmae_encoder *encoder) {
    if (encoder == NULL) return 0;
    return (size_t)encoder->channels * (size_t)encoder->image_height * (size_t)encoder->image_width;
}

const char *dmae_encoder_class_name(const dmae_encoder *encoder, int32_t index) {
    if (encoder == NULL || index < 0 || index >= encoder->classes) return NULL;
    return encoder->class_names[index];
}

const char *dmae_encoder_description(const dmae_encoder *encoder) {
    return encoder == NULL ? NULL : encoder->description;
}

// MARK: Computing

struct encoding {
    dmae_encoding request;
    int32_t status;
};

static void run_encode(void *context) {
    struct encoding *const encoding = context;
    encoding->status = dmae_work_encode(&encoding->request);
}

/// Pictures of at most these sides and pixels are accepted, as of image files.
enum { largest_side = 65535, most_pixels = 89478485 };

static dmae_status check_picture(const char *function, const dmae_picture *picture, size_t number) {
    if (picture->pixels == NULL) return usage("%s: the pixels of picture %zu are NULL", function, number);
    if (picture->width < 1 || picture->height < 1)
        return usage("%s: picture %zu has a width of %d and a height of %d: both must be at least 1", function, number,
                     (int)picture->width, (int)picture->height);
    if (picture->width > largest_side || picture->height > largest_side ||
        picture->width > most_pixels / picture->height)
        return usage("%s: picture %zu has %d×%d pixels: at most %d are accepted, and %d along a side", function, number,
                     (int)picture->width, (int)picture->height, most_pixels, largest_side);
    if (picture->channels != 1 && picture->channels != 3)
        return usage("%s: picture %zu has %d channels: give 3 (red, green, blue) or 1 (grey)", function, number,
                     (int)picture->channels);
    const ptrdiff_t row = (ptrdiff_t)picture->width * picture->channels;
    if (picture->stride != 0 && picture->stride < row && picture->stride > -row)
        return usage("%s: the stride of picture %zu is %td bytes, less than the %td of a row", function, number,
                     picture->stride, row);
    return DMAE_OK;
}

static const char *name_of(enum dmae_result result) {
    return result == DMAE_RESULT_FEATURES ? "features" : result == DMAE_RESULT_LOGITS ? "logits" : "images";
}

/// The number of floats of a whole result; 0 where it would overflow.
static size_t floats_of(const dmae_encoder *encoder, enum dmae_result result, size_t count) {
    const size_t each = result == DMAE_RESULT_FEATURES ? encoder->features
                      : result == DMAE_RESULT_LOGITS   ? (size_t)encoder->classes
                                                       : dmae_encoder_image_floats(encoder);
    size_t floats = 0, bytes = 0;
    if (__builtin_mul_overflow(each, count, &floats) || __builtin_mul_overflow(floats, sizeof(float), &bytes) ||
        bytes > PTRDIFF_MAX)
        return 0;
    return floats;
}

static dmae_status encode(const char *function, dmae_encoder *encoder, const dmae_picture *pictures,
                          const float *images, size_t count, enum dmae_result result, float *output, size_t capacity) {
    if (encoder == NULL) return usage("%s: encoder is NULL: open one with dmae_open", function);
    if (result == DMAE_RESULT_LOGITS && encoder->classes == 0)
        return usage("%s: the encoder has no classes: open weights with a class head, without the option block",
                     function);
    if (count == 0) return DMAE_OK;
    if (pictures == NULL && images == NULL) return usage("%s: there is no input, but count is %zu", function, count);
    if (output == NULL) return usage("%s: %s is NULL", function, name_of(result));
    const size_t floats = floats_of(encoder, result, count);
    if (floats == 0) return usage("%s: the result for a count of %zu is larger than any memory", function, count);
    if (capacity < floats)
        return usage("%s: for a count of %zu, %s must have room for %zu floats, but capacity is %zu", function, count,
                     name_of(result), floats, capacity);
    if (pictures != NULL) {
        if (encoder->channels != 1 && encoder->channels != 3)
            return usage("%s: the encoder takes %d channels, but pictures have 1 or 3: use dmae_encode_floats",
                         function, (int)encoder->channels);
        for (size_t i = 0; i < count; ++i) {
            const dmae_status status = check_picture(function, &pictures[i], i);
            if (status != DMAE_OK) return status;
        }
    }
    struct encoding encoding = {
        .request = {encoder, pictures, images, count, result, output, own_sentence()},
    };
    const int number = dmae_run(run_encode, &encoding);
    return number != 0 ? without_thread(number) : (dmae_status)encoding.status;
}

dmae_status dmae_encode(dmae_encoder *encoder, const dmae_picture *pictures, size_t count, float *features,
                        size_t capacity) {
    return encode(__func__, encoder, pictures, NULL, count, DMAE_RESULT_FEATURES, features, capacity);
}

dmae_status dmae_encode_floats(dmae_encoder *encoder, const float *images, size_t count, float *features,
                               size_t capacity) {
    return encode(__func__, encoder, NULL, images, count, DMAE_RESULT_FEATURES, features, capacity);
}

dmae_status dmae_prepare(dmae_encoder *encoder, const dmae_picture *pictures, size_t count, float *images,
                         size_t capacity) {
    return encode(__func__, encoder, pictures, NULL, count, DMAE_RESULT_IMAGES, images, capacity);
}

dmae_status dmae_logits(dmae_encoder *encoder, const dmae_picture *pictures, size_t count, float *logits,
                        size_t capacity) {
    return encode(__func__, encoder, pictures, NULL, count, DMAE_RESULT_LOGITS, logits, capacity);
}

dmae_status dmae_logits_floats(dmae_encoder *encoder, const float *images, size_t count, float *logits,
                               size_t capacity) {
    return encode(__func__, encoder, NULL, images, count, DMAE_RESULT_LOGITS, logits, capacity);
}

// MARK: Classes

/// Checks the numbers of classes and writes the predictions of `count` rows of logits.
static dmae_status top(const char *function, const float *logits, size_t count, size_t classes, size_t best,
                       dmae_prediction *predictions) {
    if (classes > INT32_MAX) return usage("%s: %zu classes are too many", function, classes);
    if (best < 1 || best > classes)
        return usage("%s: best is %zu: it must be 1 to the number of classes, %zu", function, best, classes);
    if (count == 0) return DMAE_OK;
    if (logits == NULL || predictions == NULL)
        return usage("%s: %s is NULL", function, logits == NULL ? "logits" : "predictions");
    // The caller's thread may round otherwise, or flush denormal numbers to zero.
    fenv_t modes;
    fegetenv(&modes);
    fesetenv(FE_DFL_ENV);
    for (size_t i = 0; i < count; ++i) dmae_work_top(logits + i * classes, classes, best, predictions + i * best);
    fesetenv(&modes);
    return DMAE_OK;
}

dmae_status dmae_top(const float *logits, size_t classes, size_t best, dmae_prediction *predictions) {
    return top(__func__, logits, 1, classes, best, predictions);
}

dmae_status dmae_classify(dmae_encoder *encoder, const dmae_picture *pictures, size_t count, size_t best,
                          dmae_prediction *predictions, size_t capacity) {
    if (encoder == NULL) return usage("dmae_classify: encoder is NULL: open one with dmae_open");
    const size_t classes = (size_t)encoder->classes;
    if (classes == 0) return encode(__func__, encoder, pictures, NULL, count, DMAE_RESULT_LOGITS, NULL, 0);
    if (best < 1 || best > classes || count == 0) return top(__func__, NULL, 0, classes, best, predictions);
    if (predictions == NULL) return usage("dmae_classify: predictions is NULL");
    if (count > capacity / best)
        return usage("dmae_classify: for a count of %zu and a best of %zu, predictions must have room for each, but "
                     "capacity is %zu",
                     count, best, capacity);
    const size_t floats = floats_of(encoder, DMAE_RESULT_LOGITS, count);
    float *const logits = floats == 0 ? NULL : malloc(floats * sizeof *logits);
    if (logits == NULL) return fail(DMAE_FAILURE, "dmae_classify: memory ran out: classify fewer pictures at once");
    dmae_status status = encode(__func__, encoder, pictures, NULL, count, DMAE_RESULT_LOGITS, logits, floats);
    if (status == DMAE_OK) status = top(__func__, logits, count, classes, best, predictions);
    free(logits);
    return status;
}
