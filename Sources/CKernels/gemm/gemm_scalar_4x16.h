// The reference. The including file says OPERAND(x): what becomes of an operand as it is packed.
#include "cpu/scalar_bf16.h"
#include "gelu/gelu_f32_scalar.h"
#include "gemm/gemm.h"

enum { MR = 4, NR = 16 };

static void pack(size_t unit, size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, float *panels) {
    for (size_t first = 0; first < count; first += unit, panels += unit * k)
        for (size_t p = 0; p < k; ++p)
            for (size_t i = 0; i < unit; ++i) {
                const size_t index = across ? p * ld + first + i : (first + i) * ld + p;
                panels[p * unit + i] = first + i >= count ? 0 : OPERAND(element_at(type, source, index));
            }
}
static void pack_a(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, void *panels) {
    pack(MR, count, k, type, source, ld, across, panels);
}
static void pack_b(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, void *panels) {
    pack(NR, count, k, type, source, ld, across, panels);
}

static void tile(const struct gemm_tile *t) {
    float sum[MR][NR] = {{0}};
    const float *a = t->a, *b = t->b;
    for (size_t p = 0; p < t->k; ++p, a += MR, b += NR)
        for (int i = 0; i < MR; ++i)
            for (int j = 0; j < NR; ++j) sum[i][j] += a[i] * b[j];
    for (size_t i = 0; i < t->rows; ++i)
        for (size_t j = 0; j < t->columns; ++j) {
            float value = sum[i][j];
            if (t->addend) value += t->addend[i * t->ld_addend + j];
            if (t->residual) value += t->residual[i * t->ld_residual + j];
            if (t->bias) value += t->bias[j];
            float activation = value * gelu_f32_cumulative(value);
            if (t->before_gelu) {
                const float x = element_at(t->before_gelu_type, t->before_gelu, i * t->ld_before_gelu + j);
                activation = x * gelu_f32_cumulative(x);
                value *= gelu_f32_cumulative(x) + x * gelu_f32_density(x);
            }
            if (t->c) set_element(t->c_type, t->c, i * t->ldc + j, value);
            if (t->activation) set_element(t->activation_type, t->activation, i * t->ld_activation + j, activation);
        }
}
