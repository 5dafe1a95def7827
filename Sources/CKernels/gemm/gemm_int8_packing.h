// Quantises rows into panels, on the operations of vector_*.h. The including file defines
//   UNIT                               neighbours in k in a lane of 32 bits
//   K_UNIT                             the depth of a panel is a multiple of it
//   HAS_ZERO                           panels hold q, and zero is subtracted from the sums; otherwise they hold q -
//   zero groups(weights, x[UNIT], q)        quantises UNIT vectors of neighbours in k: LANES groups in memory order
//   column_sums(steps, groups, sums)   with HAS_ZERO: the sum of each column of a panel of B
//
// A panel: scale[width] in float32; with HAS_ZERO then zero[width] (A) or sum[width] (B); then [k/UNIT][width] groups.
#ifndef DMAE_GEMM_INT8_PACKING_H
#define DMAE_GEMM_INT8_PACKING_H
#include "gemm/operand.h"
#include "gemm/quantisation.h"

VECTOR_INLINE V values_at(const dmae_type type, size_t left, const void *source, size_t index) {
    return left >= LANES ? operand(type, source, index) : operand_masked(type, v_mask(left), source, index);
}

VECTOR_INLINE struct quantisation quantisation_of(const dmae_type type, const bool weights, size_t k,
                                                  const void *source, size_t index) {
    V low[2] = {v_zero(), v_zero()}, high[2] = {v_zero(), v_zero()}, zero[2] = {v_zero(), v_zero()};
    for (size_t p = 0; p < k; p += 2 * LANES)
#pragma clang loop unroll(full)
        for (int part = 0; part < 2; ++part) {
            const size_t at = p + part * LANES, left = k > at ? k - at : 0;
            const V x = values_at(type, left, source, index + (left ? at : 0));
            low[part] = v_min(x, low[part]);
            high[part] = v_max(x, high[part]);
            zero[part] = v_fma(x, v_zero(), zero[part]); // NaN where x is not finite
        }
    const float highest = v_reduce_max(v_max(high[0], high[1]));
    const float lowest = -v_reduce_max(v_subtract(v_zero(), v_min(low[0], low[1])));
    const float check = v_sum(v_add(zero[0], zero[1]));
    return weights ? quantisation_of_weights(lowest, highest, check == check)
                   : quantisation_of_activations(lowest, highest, check == check);
}

VECTOR_INLINE V groups_at(const dmae_type type, const bool weights, size_t left, const void *source, size_t index,
                          struct quantisation q) {
    V x[UNIT];
#pragma clang loop unroll(full)
    for (size_t part = 0; part < UNIT; ++part) {
        const size_t before = part * LANES;
        x[part] = values_at(type, left > before ? left - before : 0, source, index + (left > before ? before : 0));
    }
    return groups(weights, x, q);
}

VECTOR_INLINE void pack(const dmae_type type, const bool weights, const size_t unit, size_t count, size_t k,
                        const void *source, size_t ld, float *panel) {
    const size_t steps = (k + K_UNIT - 1) / K_UNIT * (K_UNIT / UNIT);
    for (size_t first = 0; first < count; first += unit, panel += (HEAD_WORDS + steps) * unit) {
        float *const packed = panel + HEAD_WORDS * unit;
        for (size_t part = 0; part < unit; part += LANES) {
            const size_t width = unit - part < LANES ? unit - part : LANES, i = first + part;
            const size_t present = count > i ? (count - i < width ? count - i : width) : 0;
            struct quantisation q[LANES];
            for (size_t row = 0; row < width; ++row) {
                q[row] = row < present ? quantisation_of(type, weights, k, source, (i + row) * ld)
                                       : (struct quantisation){0, 0, 0};
                panel[part + row] = q[row].scale;
                if (HAS_ZERO) ((int32_t *)panel)[unit + part + row] = q[row].zero;
            }
            for (size_t p = 0; p < k; p += UNIT * LANES) {
                V rows[LANES];
                for (size_t row = 0; row < LANES; ++row)
                    rows[row] =
                        row < present ? groups_at(type, weights, k - p, source, (i + row) * ld + p, q[row]) : v_zero();
                v_transpose(rows);
                const size_t at = p / UNIT, depth = steps - at < LANES ? steps - at : LANES;
                const M written = v_mask(width);
                for (size_t step = 0; step < depth; ++step)
                    v_store_masked(written, packed + (at + step) * unit + part, rows[step]);
            }
        }
        if (HAS_ZERO && weights) column_sums(steps, packed, (int32_t *)panel + unit);
    }
}
#endif
