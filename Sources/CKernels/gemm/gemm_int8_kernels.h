// Packing and tiles of int8 on the operations of vector_*.h. The including file defines MR, VECTORS, REGISTERS, what
// gemm_int8_packing.h asks for, and
//   I, i_zero, i_set, i_load, i_float   vectors of 32-bit integers
//   i_multiply_add(sum, a, b)           adds the products of UNIT neighbours
//   i_without(sum, zero, column_sum)    with HAS_ZERO: subtracts zero · column_sum
#include "gelu/gelu_f32_vector.h"
#include "gemm/register_tile_f32.h"

enum { HEAD_WORDS = HAS_ZERO ? 2 : 1, K_UNIT = UNIT };
#include "gemm/gemm_int8_packing.h"

static void KERNEL(pack_a)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    (void)transposed;
    if (type == DMAE_TYPE_BF16) pack(DMAE_TYPE_BF16, false, MR, count, k, source, ld, panels);
    else pack(DMAE_TYPE_F32, false, MR, count, k, source, ld, panels);
}
static void KERNEL(pack_b)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    (void)transposed;
    if (type == DMAE_TYPE_BF16) pack(DMAE_TYPE_BF16, true, NR, count, k, source, ld, panels);
    else pack(DMAE_TYPE_F32, true, NR, count, k, source, ld, panels);
}

VECTOR_INLINE void group_step(const int ROWS, const int WIDTH, const float *a, const float *b, I total[MR][VECTORS]) {
    I row[VECTORS];
#pragma clang loop unroll(full)
    for (int j = 0; j < WIDTH * LANES; j += 16) v_prefetch_l1(b + 32 * NR + j);
    v_prefetch_l1(a + 36 * MR);
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
                                 const struct gemm_prefetches *prefetches, V sum[MR][VECTORS]) {
    const float *const a_head = a, *const b_head = b;
    a += HEAD_WORDS * MR;
    b += HEAD_WORDS * NR;
    I total[MR][VECTORS];
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) total[i][j] = i_zero();
    PREFETCHING_ROUNDS((k + UNIT - 1) / UNIT, prefetches, {
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
            if (HAS_ZERO)
                whole = i_without(whole, i_set(((const int32_t *)a_head)[MR + i]), i_load(b_head + NR + j * LANES));
            sum[i][j] = v_multiply(v_multiply(i_float(whole), v_set(a_head[i])), scale);
        }
    }
}
#define PRODUCT(ROWS, WIDTH, t, prefetches, sum) group_product(ROWS, WIDTH, (t)->k, (t)->a, (t)->b, prefetches, sum)
#include "gemm/tile_epilogue.h"
