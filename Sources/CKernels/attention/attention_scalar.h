// Attention of one head, the formulas as they are. The including file defines TYPE, the type in memory, and OPERAND(x),
// how P and dS are rounded before they are multiplied.
#include "attention/attention.h"
#include "cpu/scalar_bf16.h"

#include <math.h>

/// Σ of element i of row `row` of a times element i of row `other` of b.
static float KERNEL(dot)(size_t size, const void *a, size_t row, const void *b, size_t other) {
    float lanes[8] = {0};
    for (size_t i = 0; i < size; ++i) lanes[i % 8] += element_at(TYPE, a, row + i) * element_at(TYPE, b, other + i);
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

static void KERNEL(add_scaled)(size_t size, float factor, const void *x, size_t row, float *sum) {
    for (size_t i = 0; i < size; ++i) sum[i] += factor * element_at(TYPE, x, row + i);
}

static void KERNEL(set_row)(size_t size, float factor, const float *sum, void *x, size_t row) {
    for (size_t i = 0; i < size; ++i) set_element(TYPE, x, row + i, factor * sum[i]);
}

static void KERNEL(forward)(const struct attention_head *head, void *output, float *log_sum_exp, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size;
    float *const score = scratch;        // [tokens]
    float *const row = scratch + tokens; // [size]
    for (size_t i = 0; i < head->queries; ++i) {
        float max = -INFINITY, sum = 0;
        for (size_t j = 0; j < tokens; ++j) {
            score[j] = KERNEL(dot)(size, head->q, i * head->q_stride, head->k, j * head->kv_stride) * head->scale;
            max = fmaxf(max, score[j]);
        }
        for (size_t x = 0; x < size; ++x) row[x] = 0;
        for (size_t j = 0; j < tokens; ++j) {
            const float p = expf(score[j] - max);
            sum += p;
            KERNEL(add_scaled)(size, OPERAND(p), head->v, j * head->kv_stride, row);
        }
        KERNEL(set_row)(size, 1 / sum, row, output, i * head->output_stride);
        if (log_sum_exp) log_sum_exp[i] = max + logf(sum);
    }
}

static void KERNEL(backward)(const struct attention_head *head, const void *output, const float *log_sum_exp,
                             const void *d_output, void *d_q, void *d_k, void *d_v, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size;
    float *const k_sum = scratch; // [tokens, size], as the next
    float *const v_sum = scratch + tokens * size;
    float *const q_sum = v_sum + tokens * size; // [size]
    for (size_t i = 0; i < 2 * tokens * size; ++i) scratch[i] = 0;
    for (size_t i = 0; i < head->queries; ++i) {
        const size_t q = i * head->q_stride, o = i * head->output_stride;
        const float delta = KERNEL(dot)(size, d_output, o, output, o);
        for (size_t x = 0; x < size; ++x) q_sum[x] = 0;
        for (size_t j = 0; j < tokens; ++j) {
            const size_t kv = j * head->kv_stride;
            const float p = expf(KERNEL(dot)(size, head->q, q, head->k, kv) * head->scale - log_sum_exp[i]);
            const float d_score = OPERAND(p * (KERNEL(dot)(size, d_output, o, head->v, kv) - delta));
            KERNEL(add_scaled)(size, OPERAND(p), d_output, o, v_sum + j * size);
            KERNEL(add_scaled)(size, d_score, head->k, kv, q_sum);
            KERNEL(add_scaled)(size, d_score, head->q, q, k_sum + j * size);
        }
        KERNEL(set_row)(size, head->scale, q_sum, d_q, q);
    }
    for (size_t j = 0; j < tokens; ++j) {
        KERNEL(set_row)(size, head->scale, k_sum + j * size, d_k, j * head->kv_stride);
        KERNEL(set_row)(size, 1, v_sum + j * size, d_v, j * head->kv_stride);
    }
}
