// The reference. The including file says OPERAND(x): what becomes of an operand as it is packed.
#include "gelu/gelu_f32_scalar.h"
#include "gemm/gemm.h"

enum { MR = 4, NR = 16 };

static void pack(size_t unit, size_t count, size_t k, const float *source, size_t ld, bool across, float *panels) {
    for (size_t first = 0; first < count; first += unit, panels += unit * k)
        for (size_t p = 0; p < k; ++p)
            for (size_t i = 0; i < unit; ++i)
                panels[p * unit + i] = first + i >= count ? 0 : OPERAND(across ? source[p * ld + first + i] : source[(first + i) * ld + p]);
}
static void pack_a(size_t count, size_t k, const float *source, size_t ld, bool across, void *panels) {
    pack(MR, count, k, source, ld, across, panels);
}
static void pack_b(size_t count, size_t k, const float *source, size_t ld, bool across, void *panels) {
    pack(NR, count, k, source, ld, across, panels);
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
            if (t->c) t->c[i * t->ldc + j] = value;
            if (t->activation) t->activation[i * t->ld_activation + j] = value * gelu_f32_cumulative(value);
        }
}
