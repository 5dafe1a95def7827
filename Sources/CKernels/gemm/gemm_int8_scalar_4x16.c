#define KERNEL(part) gemm_int8_scalar_4x16_##part
#include "gemm/gemm_scalar_epilogue.h"
#include "gemm/quantisation.h"

// A panel: scale[width] in float32, then [k][width] of q - zero in 16 bits.

static void KERNEL(pack)(bool weights, size_t unit, size_t count, size_t k, dmae_type type, const void *source,
                         size_t ld, char *panel) {
    for (size_t first = 0; first < count; first += unit, panel += unit * (sizeof(float) + k * sizeof(int16_t)))
        for (size_t i = 0; i < unit; ++i) {
            float *const scale = (float *)panel;
            int16_t *const whole = (int16_t *)(scale + unit);
            struct quantisation q = {0, 0, 0};
            const size_t index = (first + i) * ld;
            if (first + i < count) {
                float lowest = 0, highest = 0;
                bool finite = true;
                for (size_t p = 0; p < k; ++p) {
                    const float x = element_at(type, source, index + p);
                    finite = finite && isfinite(x);
                    if (x < lowest) lowest = x;
                    if (x > highest) highest = x;
                }
                q = weights ? quantisation_of_weights(lowest, highest, finite)
                            : quantisation_of_activations(lowest, highest, finite);
            }
            scale[i] = q.scale;
            const float min = weights ? -127 : (float)-q.zero, max = weights ? 127 : (float)(255 - q.zero);
            for (size_t p = 0; p < k; ++p) {
                // No integer stands for a value that is not finite; the row's scale makes its results NaN.
                const float nearest = q.inverse > 0 ? rintf(element_at(type, source, index + p) * q.inverse) : 0;
                whole[p * unit + i] = (int16_t)(nearest < min ? min : nearest > max ? max : nearest);
            }
        }
}
static void KERNEL(pack_a)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    (void)transposed;
    KERNEL(pack)(false, MR, count, k, type, source, ld, panels);
}
static void KERNEL(pack_b)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    (void)transposed;
    KERNEL(pack)(true, NR, count, k, type, source, ld, panels);
}

static void KERNEL(tile)(const struct gemm_tile *t) {
    int32_t total[MR][NR] = {{0}};
    const float *const a_scale = t->a, *const b_scale = t->b;
    const int16_t *a = (const int16_t *)(a_scale + MR), *b = (const int16_t *)(b_scale + NR);
    for (size_t p = 0; p < t->k; ++p, a += MR, b += NR)
        for (int i = 0; i < MR; ++i)
            for (int j = 0; j < NR; ++j) total[i][j] += a[i] * b[j];
    float sum[MR][NR];
    for (int i = 0; i < MR; ++i)
        for (int j = 0; j < NR; ++j) sum[i][j] = (float)total[i][j] * a_scale[i] * b_scale[j];
    KERNEL(finish)(t, sum);
}

const struct gemm_kernels gemm_int8_scalar_4x16 = {
    .mr = MR,
    .nr = NR,
    .k_unit = 1,
    .value_bytes = sizeof(int16_t),
    .max_kc = gemm_int8_max_k,
    .max_chunk_a = 4,
    .max_chunk_b = 2,
    .is_emulated = true,
    .group_a = 1,
    .pack_a = KERNEL(pack_a),
    .pack_b = KERNEL(pack_b),
    .tile = KERNEL(tile),
    .header_bytes = sizeof(float),
};
