#include "attention/attention.h"

#include <math.h>

static float dot(size_t count, const float *a, const float *b) {
    float lanes[8] = {0};
    size_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int lane = 0; lane < 8; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
    for (int lane = 0; i < count; ++i, ++lane) lanes[lane] += a[i] * b[i];
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

static void add_scaled(size_t count, float factor, const float *x, float *y) {
    for (size_t i = 0; i < count; ++i) y[i] += factor * x[i];
}

static void forward(const struct attention_f32_head *head, float *output, float *log_sum_exp, float *scratch) {
    const size_t tokens = head->tokens, size = head->head_size;
    float *const score = scratch;  // [tokens]
    for (size_t i = 0; i < tokens; ++i) {
        float most = -INFINITY, sum = 0;
        for (size_t j = 0; j < tokens; ++j) {
            score[j] = dot(size, head->q + i * head->stride, head->k + j * head->stride) * head->scale;
            most = fmaxf(most, score[j]);
        }
        for (size_t j = 0; j < tokens; ++j) sum += score[j] = expf(score[j] - most);
        float *const row = output + i * head->output_stride;
        for (size_t x = 0; x < size; ++x) row[x] = 0;
        for (size_t j = 0; j < tokens; ++j) add_scaled(size, score[j] / sum, head->v + j * head->stride, row);
        if (log_sum_exp) log_sum_exp[i] = most + logf(sum);
    }
}

static void backward(const struct attention_f32_head *head, const float *output, const float *log_sum_exp, const float *d_output,
                     float *d_q, float *d_k, float *d_v, float *scratch) {
    (void)scratch;
    const size_t tokens = head->tokens, size = head->head_size, stride = head->stride;
    for (size_t i = 0; i < tokens; ++i)
        for (size_t x = 0; x < size; ++x) d_q[i * stride + x] = d_k[i * stride + x] = d_v[i * stride + x] = 0;
    for (size_t i = 0; i < tokens; ++i) {
        const float *const q = head->q + i * stride, *const d_o = d_output + i * head->output_stride;
        const float delta = dot(size, d_o, output + i * head->output_stride);
        for (size_t j = 0; j < tokens; ++j) {
            const float *const k = head->k + j * stride, *const v = head->v + j * stride;
            const float p = expf(dot(size, q, k) * head->scale - log_sum_exp[i]);
            const float d_score = p * (dot(size, d_o, v) - delta) * head->scale;
            add_scaled(size, p, d_o, d_v + j * stride);
            add_scaled(size, d_score, k, d_q + i * stride);
            add_scaled(size, d_score, q, d_k + j * stride);
        }
    }
}

const struct attention_f32_kernels attention_f32_scalar = {forward, backward};
