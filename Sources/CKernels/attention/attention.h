// One head of self-attention: S = Q·Kᵀ·head_size^-½, P = softmax(S), O = P·V; and its gradient, with P recomputed from
// L = log Σ exp S: dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P∘(dP - rowsum(dO∘O)), dQ = dS·K·head_size^-½, dK = dSᵀ·Q·head_size^-½.
// Contract: q, k, v and their gradients are [tokens, head_size] with `stride` elements between rows; output and d_output likewise
// with `output_stride`. log_sum_exp [tokens] may be NULL in the forward pass. Gradients are written (=). `scratch` is private to the
// thread, aligned to 64 bytes, attention_f32_scratch(tokens, head_size) floats.
#ifndef DMAE_ATTENTION_H
#define DMAE_ATTENTION_H
#include "cpu/variants.h"

struct attention_f32_head {
    size_t tokens, head_size;
    size_t stride, output_stride;
    float scale;
    const float *q, *k, *v;
    /// Where the next head is, as distances from this one in qkv and in output; both zero when there is none. Only a hint.
    size_t next, next_output;
};

struct attention_f32_kernels {
    void (*forward)(const struct attention_f32_head *head, float *output, float *log_sum_exp, float *scratch);
    void (*backward)(const struct attention_f32_head *head, const float *output, const float *log_sum_exp,
                     const float *d_output, float *d_q, float *d_k, float *d_v, float *scratch);
};

/// Queries whose scores are held at once: [tokens, block] of scores stay in the second-level cache.
enum { attention_f32_query_block = 64 };

/// Floats of scratch of one thread, enough for every variant; a multiple of 16.
size_t attention_f32_scratch(size_t tokens, size_t head_size);
#endif
