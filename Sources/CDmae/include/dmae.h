// dmae.h: an encoder (a Vision Transformer) inside your program. Features of pictures, and the classes of a classifier.
//
//   dmae_encoder *encoder = NULL;
//   if (dmae_open("run/model.safetensors", NULL, &encoder) != DMAE_OK) { puts(dmae_error()); return 1; }
//   float *features = malloc(dmae_encoder_features(encoder) * sizeof *features);
//   dmae_picture picture = {pixels, 0, width, height, 3};
//   if (dmae_encode(encoder, &picture, 1, features, dmae_encoder_features(encoder)) != DMAE_OK) puts(dmae_error());
//   dmae_free(encoder);
//
// Numbers: those of `dmae embed` and `dmae predict` with the same weights, bit for bit. They depend neither on the
// number of threads nor on the pictures that are encoded together.
//
// Threads: every function may be called from any thread, and encoders are independent of each other. All computing is
// done by one pool of threads that the library owns. Calls that compute take turns: a call waits until those before it
// are done. Of one encoder, `dmae_free` alone must be the last call: no other may run or follow. After fork(), parent
// and child both go on using their encoders; the child starts a pool of its own.
//
// Errors: a function that can fail returns a status; `dmae_error` has the sentence. Arguments are checked. The library
// never writes to standard error, installs no signal handler, and does not change the environment. It ends the process
// in two cases, by a signal: if the C library has no more memory, and if a file of weights is shortened while
// `dmae_open` reads it.
#ifndef DMAE_H
#define DMAE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The version of this header. A library with the same major number, and a minor number at least as high, fits it;
/// while the major number is 0 the minor numbers must be equal. The name of the shared library, libdmae.so.0, has the
/// ABI's.
#define DMAE_VERSION_MAJOR 0
#define DMAE_VERSION_MINOR 1
#define DMAE_VERSION_PATCH 0

/// The version of the library, such as "0.1.0". Never NULL, never to be freed.
const char *dmae_version(void);

/// How a call ended: the exit codes of the program `dmae`.
typedef enum dmae_status {
    DMAE_OK = 0,
    /// Too little memory, threads that the system does not start, a result that is not finite.
    DMAE_FAILURE = 1,
    /// An argument or an option that is wrong or does not fit the weights.
    DMAE_USAGE = 64,
    /// Weights that can be read but are damaged, incomplete, or of a model that is not an MAE's ViT.
    DMAE_BAD_DATA = 65,
    /// A file that cannot be opened or read.
    DMAE_INPUT_OUTPUT = 74
} dmae_status;

/// What went wrong in the calling thread's last call that failed: a sentence of at most 4095 bytes of UTF-8, without a
/// line break at its end. "" if none has failed. Valid until the next call of this thread fails; never NULL, never to
/// be freed.
const char *dmae_error(void);

// MARK: Encoders

/// An encoder in memory, with its class head if the weights hold one.
typedef struct dmae_encoder dmae_encoder;

/// The tokens that a feature is made of.
typedef enum dmae_pool {
    /// What `dmae embed` takes: the mean if the weights were fine-tuned on it, else the class token.
    DMAE_POOL_DEFAULT = 0,
    /// The class token: `width` floats.
    DMAE_POOL_CLASS = 1,
    /// The mean of the patch tokens: `width` floats.
    DMAE_POOL_MEAN = 2,
    /// All tokens, the class token first, then the patches row by row: [tokens, width] floats.
    DMAE_POOL_TOKENS = 3
} dmae_pool;

/// The precision of the operands of matmuls and attention. Results are float in each.
typedef enum dmae_precision_choice {
    /// float32, as in `dmae embed`.
    DMAE_FLOAT32 = 0,
    /// bfloat16: faster on processors that multiply it, with other bits than float32.
    DMAE_BFLOAT16 = 1,
    /// bfloat16 where the processor multiplies it, else float32.
    DMAE_FASTEST = 2
} dmae_precision_choice;

/// How an encoder is opened. `dmae_default_options` gives one with every default; set what should differ.
typedef struct dmae_options {
    /// sizeof(dmae_options): the structure may grow at its end.
    size_t size;
    /// Maximum number of pictures that are computed at once, 1 to 4096; 0: 32. More take more memory. Fewer pictures
    /// take the time of fewer: there is no need to fill a batch.
    int32_t batch;
    /// Threads of this encoder's calls, 1 to 4096; 0: the processors that the process may use (affinity mask and CPU
    /// quota), or OMP_NUM_THREADS if that is less. The numbers are the same for any.
    int32_t threads;
    /// One of dmae_precision_choice.
    int32_t precision;
    /// One of dmae_pool.
    int32_t pool;
    /// Take the output of this block, counted from 0, before any norm; -1: the end of the encoder. An encoder that was
    /// opened with a block has no classes.
    int32_t block;
    /// Attention heads, if the weights do not say; 0: as they say.
    int32_t heads;
    /// Size of the encoder's images, in pixels, if the weights do not say; both 0: as they say. The position table of
    /// weights with a class head is resampled to another size.
    int32_t image_height, image_width;
    /// Words before the names of the model's tensors in the file; NULL: found.
    const char *prefix;
} dmae_options;

static inline dmae_options dmae_default_options(void) {
    const dmae_options options = {sizeof(dmae_options), 0, 0, DMAE_FLOAT32, DMAE_POOL_DEFAULT, -1, 0, 0, 0, NULL};
    return options;
}

/// Loads the encoder, and the class head if there is one, of weights of any form that `dmae embed --weights` takes: a
/// file of safetensors or of PyTorch, shards, a folder of transformers or timm, the folder of a run. Reads the whole
/// model into memory and keeps no file open.
///
/// - path: UTF-8.
/// - options: NULL for the defaults.
/// - encoder: where the encoder is written; NULL is written if the call fails. To be freed by `dmae_free`.
dmae_status dmae_open(const char *path, const dmae_options *options, dmae_encoder **encoder);

/// Frees an encoder and all text that it gave out. NULL is allowed.
void dmae_free(dmae_encoder *encoder);

// What an encoder is. These neither compute nor wait. Of NULL they give 0 or NULL.

/// The size of the images that the encoder sees, in pixels. Pictures of other sizes are resized.
int32_t dmae_encoder_image_height(const dmae_encoder *encoder);
int32_t dmae_encoder_image_width(const dmae_encoder *encoder);
/// Channels of the images: 3 (red, green, blue), 1 (grey), or others, which only `dmae_encode_floats` can fill.
int32_t dmae_encoder_channels(const dmae_encoder *encoder);
/// Side of a patch, in pixels.
int32_t dmae_encoder_patch_size(const dmae_encoder *encoder);
/// Numbers of a token.
int32_t dmae_encoder_width(const dmae_encoder *encoder);
/// Tokens of an image: the class token and one for each patch.
int32_t dmae_encoder_tokens(const dmae_encoder *encoder);
/// The pool in use: never DMAE_POOL_DEFAULT.
dmae_pool dmae_encoder_pool(const dmae_encoder *encoder);
/// Floats of one picture's features: width, or tokens × width with DMAE_POOL_TOKENS.
size_t dmae_encoder_features(const dmae_encoder *encoder);
/// Floats of one image that the encoder sees: channels × height × width.
size_t dmae_encoder_image_floats(const dmae_encoder *encoder);
/// Outputs of the class head; 0 without one.
int32_t dmae_encoder_classes(const dmae_encoder *encoder);
/// The name of a class, UTF-8, valid until `dmae_free`; its index in digits if the weights name no classes; NULL if
/// there is no such class.
const char *dmae_encoder_class_name(const dmae_encoder *encoder, int32_t index);
/// Threads of the encoder's calls.
int32_t dmae_encoder_threads(const dmae_encoder *encoder);
/// Lines for a log, UTF-8, valid until `dmae_free`: what the weights are, how pictures are prepared for them and where
/// that is said, and what they say that is not followed.
const char *dmae_encoder_description(const dmae_encoder *encoder);

// MARK: Pictures

/// A decoded picture of 8-bit samples, rows from top to bottom, interleaved. The library only reads it, during the
/// call.
typedef struct dmae_picture {
    /// The first sample of the first row.
    const uint8_t *pixels;
    /// Bytes from one row to the next: at least width × channels, or negative for rows from bottom to top; 0: width ×
    /// channels.
    ptrdiff_t stride;
    /// 1 to 65,535 each, and at most 89,478,485 pixels.
    int32_t width, height;
    /// 3 (red, green, blue) or 1 (grey). A picture is converted to the encoder's channels, as Pillow's convert() does.
    int32_t channels;
} dmae_picture;

/// Computes the features of pictures. They are resized, cropped and normalised as the weights say (see
/// `dmae_encoder_description`), like the pixels of an image file in `dmae embed`. An orientation in a file's metadata,
/// and transparency, are for the caller's decoder to apply.
///
/// - pictures: `count` of them, of any sizes; NULL if count is 0.
/// - features: [count, dmae_encoder_features(encoder)] floats are written.
/// - capacity: floats that `features` has room for.
///
/// If the call fails, what `features` holds means nothing.
dmae_status dmae_encode(dmae_encoder *encoder, const dmae_picture *pictures, size_t count, float *features,
                        size_t capacity);

/// As `dmae_encode`, of images that are prepared and normalised already: [count, channels, height, width] floats.
dmae_status dmae_encode_floats(dmae_encoder *encoder, const float *images, size_t count, float *features,
                               size_t capacity);

/// Writes what the encoder would see of pictures, resized, cropped and normalised: [count, channels, height, width]
/// floats, as `dmae_encode_floats` takes them.
dmae_status dmae_prepare(dmae_encoder *encoder, const dmae_picture *pictures, size_t count, float *images,
                         size_t capacity);

// MARK: Classes

/// Computes the logits of pictures by the class head: [count, classes] floats. DMAE_USAGE without a class head.
dmae_status dmae_logits(dmae_encoder *encoder, const dmae_picture *pictures, size_t count, float *logits,
                        size_t capacity);

/// As `dmae_logits`, of images that are prepared and normalised already.
dmae_status dmae_logits_floats(dmae_encoder *encoder, const float *images, size_t count, float *logits,
                               size_t capacity);

/// A class, and how probable it is: between 0 and 1, the softmax of the logits.
typedef struct dmae_prediction {
    int32_t index;
    double probability;
} dmae_prediction;

/// Finds the `best` most probable of `classes` classes by the logits of one picture, the most probable first; of equal
/// ones the lower index first. `best` is 1 to `classes`; `predictions` has room for so many.
dmae_status dmae_top(const float *logits, size_t classes, size_t best, dmae_prediction *predictions);

/// Predicts the `best` most probable classes of each picture, like `dmae predict`: [count, best] predictions, of which
/// `predictions` has room for `capacity`.
dmae_status dmae_classify(dmae_encoder *encoder, const dmae_picture *pictures, size_t count, size_t best,
                          dmae_prediction *predictions, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif
