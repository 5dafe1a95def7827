// The operations of dmae's engine: results, layouts and promises.
//
// Every function is a driver: it asserts its contract, chooses the variant for this processor (variants.inc), splits
// the work among OpenMP threads and calls single-threaded kernels.
//
// Promises of all of them
//   * Matrices are row-major; `ld*` is the distance between rows in elements. Matrices need no more than the alignment
//     of their elements.
//   * The number of threads does not change a bit: threads own whole outputs, and every sum runs in an order that
//     depends on the shape alone.
//   * Nothing is allocated. The caller passes a `workspace` of at least dmae_*_workspace(...) bytes, aligned to 64
//     bytes; its size covers up to dmae_threads() threads.
//   * Outputs may not overlap inputs unless a comment allows it.
//   * A count of zero is allowed and does nothing (sums become zero).
#ifndef DMAE_KERNELS_H
#define DMAE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DMAE_EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

// ---- Processor, variants, threads ----

/// Features of a processor, one bit each: FEATURE(name, its flags in Linux's /proc/cpuinfo). The list may know features
/// that no instruction set needs yet.
#define DMAE_FEATURES(FEATURE)                            \
    FEATURE(avx2, "fma avx2")                             \
    FEATURE(avxvnni, "avx_vnni")                          \
    FEATURE(avx512, "avx512f avx512dq avx512bw avx512vl") \
    FEATURE(avx512vnni, "avx512_vnni")                    \
    FEATURE(avx512bf16, "avx512_bf16")                    \
    FEATURE(avx512fp16, "avx512_fp16")                    \
    FEATURE(amx, "amx_tile amx_bf16 amx_int8")            \
    FEATURE(neon, "asimd")

#define DMAE_FEATURE_INDEX(name, flags) dmae_feature_index_##name,
enum { DMAE_FEATURES(DMAE_FEATURE_INDEX) dmae_feature_count };
#define DMAE_FEATURE_BIT(name, flags) dmae_feature_##name = 1 << dmae_feature_index_##name,
enum { DMAE_FEATURES(DMAE_FEATURE_BIT) };

/// Instruction sets that kernels are written for: ISA(name, the features it is made of). A set runs where the processor
/// has all its features; a set includes another if it has all features of that one. Of several that run, a later one is
/// preferred. Neither need include the other.
#define DMAE_INSTRUCTION_SETS(ISA)                                                                               \
    ISA(scalar, 0)                                                                                               \
    ISA(avx2, dmae_feature_avx2)                                                                                 \
    ISA(avx512, dmae_feature_avx2 | dmae_feature_avx512)                                                         \
    ISA(avx512vnni, dmae_feature_avx2 | dmae_feature_avx512 | dmae_feature_avx512vnni)                           \
    ISA(avx512bf16, dmae_feature_avx2 | dmae_feature_avx512 | dmae_feature_avx512vnni | dmae_feature_avx512bf16) \
    ISA(amx, dmae_feature_avx2 | dmae_feature_avx512 | dmae_feature_avx512vnni | dmae_feature_avx512bf16 |       \
                 dmae_feature_amx)

#define DMAE_ISA_VALUE(name, features) dmae_isa_##name,
typedef enum { DMAE_INSTRUCTION_SETS(DMAE_ISA_VALUE) dmae_isa_count } dmae_isa;

/// "scalar", "avx2" and so on; never NULL.
DMAE_EXPORT const char *dmae_isa_name(dmae_isa isa);
/// Whether `isa` has all features of `other`.
DMAE_EXPORT bool dmae_isa_includes(dmae_isa isa, dmae_isa other);
/// Whether this processor and operating system run `isa`.
DMAE_EXPORT bool dmae_isa_runs(dmae_isa isa);
/// The last instruction set of the list that runs here.
DMAE_EXPORT dmae_isa dmae_isa_available(void);
/// The instruction set in use: the available one, or the choice of dmae_isa_use.
DMAE_EXPORT dmae_isa dmae_isa_selected(void);
/// Uses `isa` from now on. False, and no change, if it does not run here. Not to be called while kernels run.
DMAE_EXPORT bool dmae_isa_use(dmae_isa isa);
/// Reads DMAE_ISA from the environment. 0: applied or absent; 1: not a name; 2: does not run here.
DMAE_EXPORT int dmae_isa_from_environment(void);
/// The flags in /proc/cpuinfo of every feature in the list, separated by spaces.
DMAE_EXPORT const char *dmae_feature_flags(void);

/// One row of the list of variants.
typedef struct {
    const char *operation; ///< "gemm_f32"
    const char *name;      ///< "gemm_f32_avx512_14x32"
    dmae_isa isa;
} dmae_variant;
DMAE_EXPORT size_t dmae_variant_count(void);
DMAE_EXPORT dmae_variant dmae_variant_at(size_t index);
/// Whether the row is the one that its operation uses now: the last whose instruction set the selected one includes.
DMAE_EXPORT bool dmae_variant_is_selected(size_t index);

/// Sets the number of threads of every driver, at least 1. Not thread-safe.
DMAE_EXPORT void dmae_set_threads(int count);
DMAE_EXPORT int dmae_threads(void);
/// The number of threads that a parallel region gets. 1 here with dmae_threads() > 1 means that OpenMP is serial.
DMAE_EXPORT int dmae_threads_observed(void);
/// How many of `count` threads, the calling one included, the system lets the process have at once; at most 4097. One
/// less where no `bytes` of memory could be mapped beside them.
DMAE_EXPORT int dmae_threads_startable(int count, size_t bytes);
/// Bytes of the stack of a thread.
DMAE_EXPORT size_t dmae_stack_bytes(void);
/// Lets malloc have at most `count` arenas. Call before there are threads.
DMAE_EXPORT void dmae_bound_arenas(int count);
/// Lets malloc map each block of at least so many bytes by itself, and unmap it when it is freed.
DMAE_EXPORT void dmae_return_blocks(int bytes);
/// Number of processors in the affinity mask that the process had at its start; 0 if it is not known.
DMAE_EXPORT int dmae_processors(void);

/// The numbers of these processors, at most so many, in ascending order. Returns how many there are.
DMAE_EXPORT int dmae_processor_list(int *list, int most);

/// Keeps the process to these processors from now on. To be called before the first parallel region. Returns 0, or -1.
DMAE_EXPORT int dmae_use_processors(const int *list, int count);
/// Lets the calling thread run on every processor that the process had at its start. A thread that OpenMP has bound to
/// one processor (OMP_PROC_BIND) passes its binding on to the threads it creates.
DMAE_EXPORT void dmae_unbind_thread(void);
/// The OpenMP version macro (yyyymm) this was compiled against.
DMAE_EXPORT int dmae_openmp_version(void);
/// Calls body(context, begin, end) for the chunks [0,chunk), [chunk,2·chunk) … of [0,count), in parallel.
DMAE_EXPORT void dmae_parallel_for(size_t count, size_t chunk, void *context,
                                   void (*body)(void *context, size_t begin, size_t end));

/// The type of an element in memory: float32 or bfloat16. Values are rounded to bfloat16 to nearest, ties to even; with
/// AVX512-BF16 and AMX subnormals become zero.
typedef enum { DMAE_TYPE_F32 = 0, DMAE_TYPE_BF16 = 1 } dmae_type;
static inline size_t dmae_type_bytes(dmae_type type) {
    return type == DMAE_TYPE_BF16 ? sizeof(uint16_t) : sizeof(float);
}

// ---- GEMM ----

/// The type that a matmul's operands are rounded to as they are packed, to nearest, ties to even. Accumulators are
/// float32, or exact integers. Subnormal operands may count as zero.
///
/// F32: operands are not rounded. A variant may split them into three parts of bf16 and sum six products of parts,
/// which leaves out at most 2^-23 of a product. A part or operand below 2^-126 then counts as zero, and an operand that
/// is infinite or above 3.39e38 gives NaN.
///
/// BF16: if the instruction set has no bf16 multiply-adds, the rounded operands are multiplied in float32, which is as
/// exact, and as slow as F32.
///
/// INT8: for weights that never change, forward only. B comes packed, of a transposed B; A is not transposed; there is
/// no accumulate and no before_gelu; k is at most 65,536. Each row of the weight and of A is rounded to 8-bit integers
/// with its own scale (gemm/quantisation.h), so a row's result depends on no other row. The integer sum is exact; it
/// becomes float32, times both scales, before the epilogue. A row that holds NaN or infinity gives NaN. Without int8
/// multiply-adds 16-bit ones give the same sums.
typedef enum { DMAE_PRECISION_F32 = 0, DMAE_PRECISION_BF16 = 1, DMAE_PRECISION_INT8 = 2 } dmae_precision;

/// C[m,n] (+)= op(A)[m,k] · op(B)[k,n], then the epilogue: + residual[m,n], + bias[n], store to C, then GELU into
/// `activation`. With row_factor, C = residual + factor · (product + bias). With before_gelu it is the backward pass of
/// GELU instead: C = product · gelu'(before_gelu), and `activation` receives gelu(before_gelu); it may be the same
/// matrix as before_gelu, with one type and row stride. k may be 0: the product is then zero.
typedef struct {
    dmae_precision precision;
    size_t m, n, k;
    dmae_type a_type, b_type, c_type, activation_type, before_gelu_type;
    const void *a; ///< [m,k], or [k,m] when a_transposed
    size_t lda;
    bool a_transposed;
    const void *b; ///< [k,n], or [n,k] when b_transposed (a Linear's weight in the forward direction)
    size_t ldb;
    bool b_transposed;
    const void *b_packed; ///< the output of dmae_gemm_pack for op(B), or NULL; b, ldb, b_type and b_transposed are then
                          ///< ignored
    void *c;              ///< [m,n]; may be NULL if `activation` is given: the value before GELU is then not stored
    size_t ldc;
    bool accumulate;   ///< C += product instead of C = product; C is float32 then; not together with activation
    bool stream_c;     ///< C is not read soon: whole lines may be written with non-temporal stores if k is one block;
                       ///< float32, no epilogue, no accumulate
    const float *bias; ///< [n] or NULL
    const float *residual; ///< [m,n] or NULL; may be the same memory as c (same ld); not with activation
    size_t ldr;
    const float *row_factor; ///< [ceil(m / rows_per_factor)] or NULL: the factor of rows_per_factor adjacent rows, such
                             ///< as an image's; not with accumulate, stream_c, activation or before_gelu
    size_t rows_per_factor;
    void *activation; ///< [m,n] or NULL: exact (erf) GELU of the value rounded to c_type, since the backward pass sees
                      ///< only the rounded value and must recompute the same activation; if c is NULL, of the value
                      ///< rounded to activation_type
    size_t ldactivation;
    const void *before_gelu; ///< [m,n] or NULL; with c, and not with bias, residual or accumulate
    size_t ldbefore;
    void *workspace;
} dmae_gemm_arguments;
/// `output`: the type of C, or of the activation if C is NULL. A workspace also serves every smaller product.
DMAE_EXPORT size_t dmae_gemm_workspace(dmae_precision precision, size_t m, size_t n, size_t k, dmae_type output);
DMAE_EXPORT void dmae_gemm(const dmae_gemm_arguments *arguments);
/// Whether the kernel in use multiplies operands of `precision` themselves: otherwise it multiplies the same rounded
/// operands in a wider type, at the speed of that type.
DMAE_EXPORT bool dmae_gemm_is_native(dmae_precision precision);
/// Packs op(B)[k,n] once for many products, for the instruction set selected now; `packed` is aligned to 64 bytes. A
/// packed B does not change the bits of a product.
DMAE_EXPORT size_t dmae_gemm_packed_bytes(dmae_precision precision, size_t k, size_t n);
DMAE_EXPORT void dmae_gemm_pack(dmae_precision precision, size_t k, size_t n, dmae_type b_type, const void *b,
                                size_t ldb, bool b_transposed, void *packed);

// ---- Attention ----

/// Fused multi-head attention over short sequences: the scores of one head never leave the cache. For each image and
/// head
///   output[queries, head_size] = softmax(Q·Kᵀ·head_size^-½)·V
/// A row holds the heads of a token, one after another. Self-attention over one tensor qkv[batch,
/// tokens, 3·D] is q = qkv, k = qkv + D, v = qkv + 2·D with strides of 3·D. A query's bits do not depend on the
/// number of queries. With BF16 scores, softmax and accumulators are float32; probabilities and the gradient by scores
/// are rounded to bf16 as operands of the matmuls that follow, native or emulated. Subnormal operands may then count as
/// zero.
typedef struct {
    dmae_type type; ///< of q, k, v, output and of their gradients
    size_t batch, queries, tokens, heads, head_size;
    const void
        *q; ///< [batch, queries, heads·head_size], q_stride elements between rows; images follow queries·q_stride apart
    size_t q_stride;
    const void *k, *v; ///< [batch, tokens, heads·head_size]
    size_t kv_stride;
    void *output; ///< [batch, queries, heads·head_size]; written by the forward pass, read by the backward pass
    size_t output_stride;
    float *log_sum_exp;   ///< [batch, heads, queries]: of the scaled scores; NULL when no backward pass follows
    const void *d_output; ///< for the backward pass; stride as output
    void *d_q, *d_k,
        *d_v; ///< gradients, overwritten; strides as q and as k and v. With no queries d_k and d_v become zero
    void *workspace;
} dmae_attention_arguments;
DMAE_EXPORT size_t dmae_attention_workspace(dmae_type type, size_t queries, size_t tokens, size_t head_size);
DMAE_EXPORT void dmae_attention_forward(const dmae_attention_arguments *arguments);
DMAE_EXPORT void dmae_attention_backward(const dmae_attention_arguments *arguments);

// ---- LayerNorm ----

/// y[r,:] = (x[r,:] - mean) · rstd · gamma + beta with rstd = 1/sqrt(biased variance + epsilon).
/// mean, rstd [rows]: written for the backward pass, or both NULL.
DMAE_EXPORT void dmae_layernorm_f32_forward(size_t rows, size_t width, const float *x, const float *gamma,
                                            const float *beta, float epsilon, dmae_type y_type, void *y, float *mean,
                                            float *rstd);
/// Recomputes y from the stored statistics, with the bits of the forward pass.
DMAE_EXPORT void dmae_layernorm_f32_apply(size_t rows, size_t width, const float *x, const float *gamma,
                                          const float *beta, const float *mean, const float *rstd, dmae_type y_type,
                                          void *y);
/// d_x += gradient by x when accumulate, else d_x = (d_x may be d_y); d_gamma += ; d_beta +=.
DMAE_EXPORT size_t dmae_layernorm_f32_backward_workspace(size_t rows, size_t width);
DMAE_EXPORT void dmae_layernorm_f32_backward(size_t rows, size_t width, const float *x, const float *gamma,
                                             const float *mean, const float *rstd, const float *d_y, bool accumulate,
                                             float *d_x, float *d_gamma, float *d_beta, void *workspace);

// ---- Reductions ----

/// sum[n] += Σ over rows of x[rows, n]. Workspace as dmae_layernorm_f32_backward_workspace(rows, n).
DMAE_EXPORT void dmae_column_sum_f32(size_t rows, size_t n, dmae_type type, const void *x, size_t ldx, float *sum,
                                     void *workspace);
/// Σ x², accumulated in double over fixed chunks.
DMAE_EXPORT double dmae_sum_of_squares_f32(size_t count, const float *x);

// ---- Optimiser ----

/// One AdamW step on `count` elements, as PyTorch's (decoupled decay, bias correction, epsilon outside the root):
///   g = gradient·gradient_scale;  w -= learning_rate·weight_decay·w;  m = β1 m + (1-β1) g;  v = β2 v + (1-β2) g²
///   w -= learning_rate/(1-β1^step) · m / (sqrt(v)/sqrt(1-β2^step) + epsilon)
/// The bias corrections are computed in double from step ≥ 1.
typedef struct {
    float learning_rate, beta1, beta2, epsilon, weight_decay, gradient_scale;
    uint64_t step;
} dmae_adamw_f32_settings;
DMAE_EXPORT void dmae_adamw_f32(size_t count, const dmae_adamw_f32_settings *settings, const float *gradient,
                                float *weight, float *first_moment, float *second_moment);

// ---- Measuring the machine ----

/// Runs `iterations` rounds of independent multiply-adds in registers, or of tile products, of the selected instruction
/// set on each of `threads` threads. Returns the number of operations; time the call to measure the peak.
DMAE_EXPORT double dmae_peak_flops(dmae_precision precision, int threads, size_t iterations);
/// The sum of all accumulators after one thread's `iterations` rounds.
DMAE_EXPORT double dmae_peak_checksum(dmae_precision precision, size_t iterations);

#ifdef __cplusplus
}
#endif
#endif
