// Between the C face of the library and its Swift: what the face asks for on the library's thread. Arguments are
// checked before.
#ifndef DMAE_WORK_H
#define DMAE_WORK_H

#include "dmae.h"

#include <stdbool.h>

struct dmae_encoder {
    /// The Swift object; freed by `dmae_work_close`.
    void *session;
    int32_t image_height, image_width, channels, patch_size, width, tokens, pool, classes, threads;
    size_t features;
    /// `classes` strings, and one; each from malloc, as the array is.
    char **class_names;
    char *description;
};

/// Where the sentence of an error is written: `capacity` bytes, the final zero included.
typedef struct dmae_sentence {
    char *text;
    size_t capacity;
} dmae_sentence;

typedef struct dmae_opening {
    const char *path;
    dmae_options options;
    /// Filled if the status is DMAE_OK.
    dmae_encoder *encoder;
    dmae_sentence error;
} dmae_opening;

/// A result of `count` images.
typedef struct dmae_encoding {
    dmae_encoder *encoder;
    /// One of both is not NULL.
    const dmae_picture *pictures;
    const float *images;
    size_t count;
    enum dmae_result { DMAE_RESULT_FEATURES, DMAE_RESULT_LOGITS, DMAE_RESULT_IMAGES } result;
    /// Room for the whole result.
    float *output;
    dmae_sentence error;
} dmae_encoding;

// In Swift.
int32_t dmae_work_open(dmae_opening *opening);
int32_t dmae_work_encode(dmae_encoding *encoding);
void dmae_work_close(void *session);
void dmae_work_top(const float *logits, size_t classes, size_t best, dmae_prediction *predictions);

/// Runs `work` on the library's thread and waits for its end.
///
/// That thread is the only one that computes: OpenMP has one pool then, whatever threads call. Its stack, its signal
/// mask and its floating-point modes are its own, not the caller's.
///
/// - Returns: 0, or the error number of the system if the thread cannot be started.
int dmae_run(void (*work)(void *context), void *context);

/// The value of a variable in the caller's environment; NULL if it is not set.
const char *dmae_callers_variable(const char *name);

#endif
