#include "attention/attention.h"
#include "cpu/threads.h"

#include <math.h>
#include <string.h>

size_t attention_scratch(size_t queries, size_t tokens, size_t head_size) {
    const size_t width = dmae_round_up(head_size, 32), block = attention_query_block;
    // Vectors: K, V and the sums of dK and dV; a block of Q, dO and O, some transposed; its scores and their gradient.
    const size_t vectors = 4 * tokens * width + 6 * block * width + 2 * tokens * block + 3 * block;
    // Pairs of bf16: K, V, Q and dO as rows and interleaved; P and dS of the whole head; a transposed block.
    const size_t rows = dmae_round_up(queries, 32), keys = dmae_round_up(tokens, 32);
    const size_t pairs = 2 * keys * width + rows * width + keys * rows + 3 * block * width + keys * block + 40 * block;
    return dmae_round_up(vectors > pairs ? vectors : pairs, 16);
}

size_t dmae_attention_workspace(dmae_type type, size_t queries, size_t tokens, size_t head_size) {
    (void)type;
    return (size_t)dmae_threads() * attention_scratch(queries, tokens, head_size) * sizeof(float);
}

/// Heads of a task, so that the thread knows the next one.
enum { heads_per_turn = 4 };

/// Where a head begins in a tensor of `rows` rows per image.
static size_t offset_of(const dmae_attention_arguments *s, size_t index, size_t rows, size_t stride) {
    return (index / s->heads) * rows * stride + index % s->heads * s->head_size;
}

struct place {
    size_t q, kv, output; // in bytes
    struct attention_head head;
};

static struct place place_of(const dmae_attention_arguments *s, size_t index) {
    const size_t size = dmae_type_bytes(s->type);
    const bool is_last = index + 1 == s->batch * s->heads;
    const size_t q = offset_of(s, index, s->queries, s->q_stride), kv = offset_of(s, index, s->tokens, s->kv_stride);
    const size_t output = offset_of(s, index, s->queries, s->output_stride);
    return (struct place){
        .q = q * size,
        .kv = kv * size,
        .output = output * size,
        .head = {.queries = s->queries,
                 .tokens = s->tokens,
                 .head_size = s->head_size,
                 .q_stride = s->q_stride,
                 .kv_stride = s->kv_stride,
                 .output_stride = s->output_stride,
                 .scale = (float)(1 / sqrt((double)s->head_size)),
                 .q = (const char *)s->q + q * size,
                 .k = (const char *)s->k + kv * size,
                 .v = (const char *)s->v + kv * size,
                 .next_q = is_last ? 0 : offset_of(s, index + 1, s->queries, s->q_stride) - q,
                 .next_kv = is_last ? 0 : offset_of(s, index + 1, s->tokens, s->kv_stride) - kv,
                 .next_output = is_last ? 0 : offset_of(s, index + 1, s->queries, s->output_stride) - output},
    };
}

static const struct attention_kernels *kernels_for(dmae_type type) {
    return type == DMAE_TYPE_BF16 ? KERNELS(attention_bf16) : KERNELS(attention_f32);
}

/// Zeros, the result without keys or queries.
static void clear(const dmae_attention_arguments *s, void *tensor, size_t rows, size_t stride) {
    const size_t size = dmae_type_bytes(s->type);
    for (size_t row = 0; row < s->batch * rows; ++row)
        memset((char *)tensor + row * stride * size, 0, s->heads * s->head_size * size);
}

void dmae_attention_forward(const dmae_attention_arguments *s) {
    if (s->queries == 0 || s->head_size == 0) return;
    if (s->tokens == 0) return clear(s, s->output, s->queries, s->output_stride);
    const struct attention_kernels *const kernels = kernels_for(s->type);
    const size_t scratch = attention_scratch(s->queries, s->tokens, s->head_size);
    DMAE_PARALLEL_FOR(i, s->batch * s->heads, heads_per_turn, {
        const struct place at = place_of(s, i);
        kernels->forward(&at.head, (char *)s->output + at.output,
                         s->log_sum_exp ? s->log_sum_exp + i * s->queries : NULL,
                         (float *)s->workspace + (size_t)omp_get_thread_num() * scratch);
    });
}

void dmae_attention_backward(const dmae_attention_arguments *s) {
    if (s->head_size == 0) return;
    if (s->queries == 0) {
        clear(s, s->d_k, s->tokens, s->kv_stride);
        return clear(s, s->d_v, s->tokens, s->kv_stride);
    }
    if (s->tokens == 0) return clear(s, s->d_q, s->queries, s->q_stride);
    const struct attention_kernels *const kernels = kernels_for(s->type);
    const size_t scratch = attention_scratch(s->queries, s->tokens, s->head_size);
    DMAE_PARALLEL_FOR(i, s->batch * s->heads, heads_per_turn, {
        const struct place at = place_of(s, i);
        kernels->backward(&at.head, (const char *)s->output + at.output, s->log_sum_exp + i * s->queries,
                          (const char *)s->d_output + at.output, (char *)s->d_q + at.q, (char *)s->d_k + at.kv,
                          (char *)s->d_v + at.kv, (float *)s->workspace + (size_t)omp_get_thread_num() * scratch);
    });
}
