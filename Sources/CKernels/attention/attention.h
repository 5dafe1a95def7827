// One head of attention: S = Q·Kᵀ·scale, P = softmax(S), O = P·V. Its gradient, with P recomputed from L = log Σ exp S:
// dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P∘(dP - rowsum(dO∘O)), dQ = dS·K·scale, dK = dSᵀ·Q·scale.
//
// Contract: q, output and their gradients are [queries, head_size]; k, v and theirs are [tokens, head_size]; strides
// are in elements of the operation's type. log_sum_exp [queries] may be NULL in the forward pass. Gradients are written
// (=). In bf16 the operands P and dS are rounded: the forward pass rounds exp(S - max) and divides the product by the
// sum of the values before rounding. `scratch` is private to the thread, aligned to 64 bytes, attention_scratch(...)
// floats.
#ifndef DMAE_ATTENTION_H
#define DMAE_ATTENTION_H
#include "cpu/variants.h"

struct attention_head {
    size_t queries, tokens, head_size;
    size_t q_stride, kv_stride, output_stride;
    float scale;
    const void *q, *k, *v;
    /// Distances in elements to the next head, for prefetching; all zero if there is none.
    size_t next_q, next_kv, next_output;
};

struct attention_kernels {
    void (*forward)(const struct attention_head *head, void *output, float *log_sum_exp, float *scratch);
    void (*backward)(const struct attention_head *head, const void *output, const float *log_sum_exp,
                     const void *d_output, void *d_q, void *d_k, void *d_v, float *scratch);
};

/// Queries of a block: their scores, [tokens, block], stay in the second-level cache.
enum { attention_query_block = 64 };

/// Floats of scratch of one thread, enough for every variant of both types; a multiple of 16.
size_t attention_scratch(size_t queries, size_t tokens, size_t head_size);
#endif
