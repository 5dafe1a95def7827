// The reference. The including file says OPERAND(x): what becomes of an operand as it is packed.
#include "gemm/gemm_scalar_epilogue.h"

static void KERNEL(pack)(size_t unit, size_t count, size_t k, dmae_type type, const void *source, size_t ld,
                         bool transposed, float *panels) {
    for (size_t first = 0; first < count; first += unit, panels += unit * k)
        for (size_t p = 0; p < k; ++p)
            for (size_t i = 0; i < unit; ++i) {
                const size_t index = transposed ? p * ld + first + i : (first + i) * ld + p;
                panels[p * unit + i] = first + i >= count ? 0 : OPERAND(element_at(type, source, index));
            }
}
static void KERNEL(pack_a)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    KERNEL(pack)(MR, count, k, type, source, ld, transposed, panels);
}
static void KERNEL(pack_b)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    KERNEL(pack)(NR, count, k, type, source, ld, transposed, panels);
}

static void KERNEL(tile)(const struct gemm_tile *t) {
    float sum[MR][NR] = {{0}};
    const float *a = t->a, *b = t->b;
    for (size_t p = 0; p < t->k; ++p, a += MR, b += NR)
        for (int i = 0; i < MR; ++i)
            for (int j = 0; j < NR; ++j) sum[i][j] += a[i] * b[j];
    KERNEL(finish)(t, sum);
}
