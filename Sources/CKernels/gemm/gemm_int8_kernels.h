// Products of whole numbers on the operations of vector_*.h. The including file says MR, VECTORS, REGISTERS; UNIT, how many neighbours
// in k stand together in a lane of 32 bits; HAS_ZERO, whether panels hold q itself and zero is taken off the sums, or q - zero; and
//   I, i_zero, i_set, i_load, i_float      vectors of 32-bit whole numbers
//   i_multiply_add(sum, a, b)              adds the products of UNIT neighbours
//   groups(weights, x[UNIT], q)            quantises UNIT vectors of neighbours in k: LANES groups in memory order
//   column_sums(steps, groups, sums)       where HAS_ZERO: sums of each column of a panel of B
//
// A panel: scale[width] in float32; where HAS_ZERO then zero[width] (A) or sum[width] (B); then [k/UNIT][width] groups.
#include "gelu/gelu_f32_vector.h"
#include "gemm/quantisation.h"
#include "gemm/register_tile_f32.h"

enum { HEAD_WORDS = HAS_ZERO ? 2 : 1 };

VECTOR_INLINE V values_at(const dmae_type type, size_t left, const void *source, size_t index) {
    return left >= LANES ? operand(type, source, index) : operand_masked(type, v_mask(left), source, index);
}

VECTOR_INLINE struct quantisation quantisation_of(const dmae_type type, const bool weights, size_t k, const void *source, size_t index) {
    V low[2] = {v_zero(), v_zero()}, high[2] = {v_zero(), v_zero()}, zero[2] = {v_zero(), v_zero()};
    for (size_t p = 0; p < k; p += 2 * LANES)
#pragma clang loop unroll(full)
        for (int part = 0; part < 2; ++part) {
            const size_t at = p + part * LANES, left = k > at ? k - at : 0;
            const V x = values_at(type, left, source, index + (left ? at : 0));
            low[part] = v_min(x, low[part]);
            high[part] = v_max(x, high[part]);
            zero[part] = v_fma(x, v_zero(), zero[part]);  // NaN where x is not finite
        }
    const float highest = v_greatest(v_max(high[0], high[1]));
    const float lowest = -v_greatest(v_subtract(v_zero(), v_min(low[0], low[1])));
    const float check = v_sum(v_add(zero[0], zero[1]));
    return weights ? quantisation_of_weights(lowest, highest, check == check) : quantisation_of_activations(lowest, highest, check == check);
}

VECTOR_INLINE V groups_at(const dmae_type type, const bool weights, size_t left, const void *source, size_t index, struct quantisation q) {
    V x[UNIT];
#pragma clang loop unroll(full)
    for (size_t part = 0; part < UNIT; ++part) {
        const size_t before = part * LANES;
        x[part] = values_at(type, left > before ? left - before : 0, source, index + (left > before ? before : 0));
    }
    return groups(weights, x, q);
}

VECTOR_INLINE void pack(const dmae_type type, const bool weights, const size_t unit, size_t count, size_t k, const void *source, size_t ld,
                        float *panel) {
    const size_t steps = (k + UNIT - 1) / UNIT;
    for (size_t first = 0; first < count; first += unit, panel += (HEAD_WORDS + steps) * unit) {
        float *const packed = panel + HEAD_WORDS * unit;
        for (size_t part = 0; part < unit; part += LANES) {
            const size_t width = unit - part < LANES ? unit - part : LANES, i = first + part;
            const size_t present = count > i ? (count - i < width ? count - i : width) : 0;
            struct quantisation q[LANES];
            for (size_t row = 0; row < width; ++row) {
                q[row] = row < present ? quantisation_of(type, weights, k, source, (i + row) * ld) : (struct quantisation){0, 0, 0};
                panel[part + row] = q[row].scale;
                if (HAS_ZERO) ((int32_t *)panel)[unit + part + row] = q[row].zero;
            }
            for (size_t p = 0; p < k; p += UNIT * LANES) {
                V rows[LANES];
                for (size_t row = 0; row < LANES; ++row)
                    rows[row] = row < present ? groups_at(type, weights, k - p, source, (i + row) * ld + p, q[row]) : v_zero();
                v_transpose(rows);
                const size_t at = p / UNIT, depth = steps - at < LANES ? steps - at : LANES;
                const M written = v_mask(width);
                for (size_t step = 0; step < depth; ++step) v_store_masked(written, packed + (at + step) * unit + part, rows[step]);
            }
        }
        if (HAS_ZERO && weights) column_sums(steps, packed, (int32_t *)panel + unit);
    }
}
static void pack_a(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, void *panels) {
    (void)across;
    if (type == DMAE_TYPE_BF16) pack(DMAE_TYPE_BF16, false, MR, count, k, source, ld, panels);
    else pack(DMAE_TYPE_F32, false, MR, count, k, source, ld, panels);
}
static void pack_b(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, void *panels) {
    (void)across;
    if (type == DMAE_TYPE_BF16) pack(DMAE_TYPE_BF16, true, NR, count, k, source, ld, panels);
    else pack(DMAE_TYPE_F32, true, NR, count, k, source, ld, panels);
}

VECTOR_INLINE void group_step(const int ROWS, const int WIDTH, const float *a, const float *b, I total[MR][VECTORS]) {
    I row[VECTORS];
#pragma clang loop unroll(full)
    for (int j = 0; j < WIDTH * LANES; j += 16) _mm_prefetch((const char *)(b + 32 * NR + j), _MM_HINT_T0);
    _mm_prefetch((const char *)(a + 36 * MR), _MM_HINT_T0);
#pragma clang loop unroll(full)
    for (int j = 0; j < WIDTH; ++j) row[j] = i_load(b + j * LANES);
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i) {
        const I element = i_set(((const int32_t *)a)[i]);
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) total[i][j] = i_multiply_add(total[i][j], element, row[j]);
    }
}

VECTOR_INLINE void group_product(const int ROWS, const int WIDTH, size_t k, const float *a, const float *b,
                                 const struct gemm_fetched *fetched, V sum[MR][VECTORS]) {
    const float *const a_head = a, *const b_head = b;
    a += HEAD_WORDS * MR;
    b += HEAD_WORDS * NR;
    I total[MR][VECTORS];
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) total[i][j] = i_zero();
    FETCHING_ROUNDS((k + UNIT - 1) / UNIT, fetched, {
        group_step(ROWS, WIDTH, a, b, total);
        a += MR;
        b += NR;
    });
#pragma clang loop unroll(full)
    for (int j = 0; j < WIDTH; ++j) {
        const V scale = v_load(b_head + j * LANES);
#pragma clang loop unroll(full)
        for (int i = 0; i < ROWS; ++i) {
            I whole = total[i][j];
            if (HAS_ZERO) whole = i_without(whole, i_set(((const int32_t *)a_head)[MR + i]), i_load(b_head + NR + j * LANES));
            sum[i][j] = v_multiply(v_multiply(i_float(whole), v_set(a_head[i])), scale);
        }
    }
}
#define PRODUCT(ROWS, WIDTH, t, fetched, sum) group_product(ROWS, WIDTH, (t)->k, (t)->a, (t)->b, fetched, sum)
#include "gemm/tile_epilogue.h"
