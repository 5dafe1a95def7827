#include "attention/attention.h"
#include "cpu/threads.h"

#include <math.h>

size_t attention_f32_scratch(size_t tokens, size_t head_size) {
    const size_t width = dmae_round_up(head_size, 16), block = attention_f32_query_block;
    return dmae_round_up(4 * tokens * width + 2 * width * block + 2 * tokens * block + 2 * block, 16);
}

size_t dmae_attention_f32_workspace(size_t tokens, size_t head_size) {
    return (size_t)dmae_threads() * attention_f32_scratch(tokens, head_size) * sizeof(float);
}

/// Heads that a thread takes at a time, so that it knows which comes next.
enum { heads_per_turn = 4 };

static size_t offset_of(size_t index, size_t tokens, size_t heads, size_t head_size) {
    return ((index / heads) * tokens * heads + index % heads) * head_size;
}

static struct attention_f32_head head_at(size_t index, size_t batch, size_t tokens, size_t heads, size_t head_size, const float *qkv) {
    const size_t width = heads * head_size;
    const size_t at = (index / heads) * tokens * 3 * width + (index % heads) * head_size;
    const float *const q = qkv + at;
    const size_t after = index + 1;
    const bool is_last = after == batch * heads;
    return (struct attention_f32_head){.tokens = tokens,
                                       .head_size = head_size,
                                       .stride = 3 * width,
                                       .output_stride = width,
                                       .scale = (float)(1 / sqrt((double)head_size)),
                                       .q = q,
                                       .k = q + width,
                                       .v = q + 2 * width,
                                       .next = is_last ? 0 : (after / heads) * tokens * 3 * width + (after % heads) * head_size - at,
                                       .next_output = is_last ? 0
                                                              : offset_of(after, tokens, heads, head_size) -
                                                                    offset_of(index, tokens, heads, head_size)};
}

void dmae_attention_f32_forward(size_t batch, size_t tokens, size_t heads, size_t head_size, const float *qkv, float *output,
                                float *log_sum_exp, void *workspace) {
    if (tokens == 0 || head_size == 0) return;
    const struct attention_f32_kernels *const kernels = KERNELS(attention_f32);
    const size_t scratch = attention_f32_scratch(tokens, head_size);
    DMAE_PARALLEL_FOR(i, batch * heads, heads_per_turn, {
        const struct attention_f32_head head = head_at(i, batch, tokens, heads, head_size, qkv);
        kernels->forward(&head, output + offset_of(i, tokens, heads, head_size),
                         log_sum_exp ? log_sum_exp + i * tokens : NULL,
                         (float *)workspace + (size_t)omp_get_thread_num() * scratch);
    });
}

void dmae_attention_f32_backward(size_t batch, size_t tokens, size_t heads, size_t head_size, const float *qkv,
                                 const float *output, const float *log_sum_exp, const float *d_output, float *d_qkv,
                                 void *workspace) {
    if (tokens == 0 || head_size == 0) return;
    const struct attention_f32_kernels *const kernels = KERNELS(attention_f32);
    const size_t scratch = attention_f32_scratch(tokens, head_size), width = heads * head_size;
    DMAE_PARALLEL_FOR(i, batch * heads, heads_per_turn, {
        const struct attention_f32_head head = head_at(i, batch, tokens, heads, head_size, qkv);
        const size_t at = offset_of(i, tokens, heads, head_size);
        float *const d_q = d_qkv + (head.q - qkv);
        kernels->backward(&head, output + at, log_sum_exp + i * tokens, d_output + at, d_q, d_q + width, d_q + 2 * width,
                          (float *)workspace + (size_t)omp_get_thread_num() * scratch);
    });
}
