// The micro-kernel, on the operations of vector_*.h: a tile of accumulators in registers. The including file defines
// MR rows, VECTORS vectors of columns, and the number of REGISTERS; one row of B and one element of A need registers
// too. STEPS: steps of k in a round of the loop. A step of 6×16 has only 12 multiply-adds beside the instructions of
// the loop; where two threads share a core's front end it would wait for instructions.
#ifndef DMAE_REGISTER_TILE_F32_H
#define DMAE_REGISTER_TILE_F32_H
#include "gemm/prefetching.h"
#include "gemm/operand.h"

enum { NR = VECTORS * LANES };
_Static_assert(MR *VECTORS + VECTORS + 1 <= REGISTERS, "the tile does not fit the registers");

VECTOR_INLINE void clear(const int ROWS, const int WIDTH, V sum[MR][VECTORS]) {
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDTH; ++j) sum[i][j] = v_zero();
}

// If a multiply-add can read its element from memory, those of four rows in seven do: fewer instructions, and as many
// loads as a core can do meanwhile. That is 5 to 10 % faster where two threads share a core's front end, and no slower
// elsewhere. If rows of A are apart, the element needs an indexed address, which costs the instruction that was saved.
VECTOR_INLINE void tile_step(const int ROWS, const int WIDTH, const float *a, size_t a_row, const float *b,
                             V sum[MR][VECTORS]) {
    V row[VECTORS];
#pragma clang loop unroll(full)
    for (int j = 0; j < WIDTH; ++j) row[j] = v_load(b + j * LANES);
#pragma clang loop unroll(full)
    for (int i = 0; i < ROWS; ++i) {
        const float *const element = a + (size_t)i * a_row;
        if (FMA_READS_ELEMENTS && a_row == 1 && 7 * i < 4 * ROWS) {
#pragma clang loop unroll(full)
            for (int j = 0; j < WIDTH; ++j) sum[i][j] = v_fma_element(element, row[j], sum[i][j]);
        } else {
            const V x = v_set(*element);
#pragma clang loop unroll(full)
            for (int j = 0; j < WIDTH; ++j) sum[i][j] = v_fma(x, row[j], sum[i][j]);
        }
    }
}

/// A round of the loop over k.
VECTOR_INLINE void tile_round(const int ROWS, const int WIDTH, const bool streamed, const float *a, size_t a_row,
                              size_t a_step, const float *b, size_t b_step, V sum[MR][VECTORS]) {
    if (streamed) {
        // 32 steps ahead is about 900 cycles of 14×32.
#pragma clang loop unroll(full)
        for (int j = 0; j < STEPS * WIDTH * LANES; j += 16) v_prefetch_l1(b + 32 * NR + j);
#pragma clang loop unroll(full)
        for (int i = 0; i < STEPS * MR; i += 16) v_prefetch_l1(a + 36 * MR + i);
    }
#pragma clang loop unroll(full)
    for (size_t step = 0; step < STEPS; ++step)
        tile_step(ROWS, WIDTH, a + step * a_step, a_row, b + step * b_step, sum);
}

/// sum[i][j] = Σ over p < k, in rising order, of a[i·a_row + p·a_step] · b[p·b_step + lanes of j]. ROWS <= MR and
/// WIDTH <= VECTORS are constants wherever this is inlined. `streamed`: a and b are adjacent panels in the second-level
/// cache or the third, so the memory behind them is needed next.
VECTOR_INLINE void tile_product(const int ROWS, const int WIDTH, const bool streamed, size_t k, const float *a,
                                size_t a_row, size_t a_step, const float *b, size_t b_step,
                                const struct gemm_prefetches *prefetches, V sum[MR][VECTORS]) {
    clear(ROWS, WIDTH, sum);
    PREFETCHING_ROUNDS(k / STEPS, prefetches, {
        tile_round(ROWS, WIDTH, streamed, a, a_row, a_step, b, b_step, sum);
        a += STEPS * a_step;
        b += STEPS * b_step;
    });
#pragma clang loop unroll(disable)
    for (size_t left = k % STEPS; left != 0; --left, a += a_step, b += b_step) tile_step(ROWS, WIDTH, a, a_row, b, sum);
}

/// Stores one step of k of a panel. `followed`: the memory behind it is the panel's next step, which is written later.
VECTOR_INLINE void store_step(M written, bool followed, float *step, V x) {
    if (!MASKED_STORES_ARE_CHEAP && followed) v_store(step, x);
    else v_store_masked(written, step, x);
}

/// panel[p·unit + i] = source[start + i·ld + p] for i < count <= LANES, zero from there to `width`; p < k.
VECTOR_INLINE void pack_transposing_of(const dmae_type type, size_t count, size_t width, size_t unit, size_t k,
                                       const void *source, size_t start, size_t ld, float *panel) {
    const M written = v_mask(width);
    for (size_t p = 0; p < k; p += LANES) {
        const size_t depth = k - p < LANES ? k - p : LANES;
        V rows[LANES];
        if (depth == LANES) {
            for (size_t i = 0; i < LANES; ++i)
                rows[i] = i < count ? operand(type, source, start + i * ld + p) : v_zero();
        } else {
            const M mask = v_mask(depth);
            for (size_t i = 0; i < LANES; ++i)
                rows[i] = i < count ? operand_masked(type, mask, source, start + i * ld + p) : v_zero();
        }
        v_transpose(rows);
        if (width == LANES && depth == LANES) {
            for (size_t i = 0; i < LANES; ++i) v_store(panel + (p + i) * unit, rows[i]);
        } else {
            for (size_t i = 0; i < depth; ++i)
                store_step(written, width == unit && p + i + 1 < k, panel + (p + i) * unit, rows[i]);
        }
    }
}

VECTOR_INLINE void pack_transposing(size_t count, size_t width, size_t unit, size_t k, const float *source, size_t ld,
                                    float *panel) {
    pack_transposing_of(DMAE_TYPE_F32, count, width, unit, k, source, 0, ld, panel);
}

// The cases of a switch over the rows of a tile: RUN(rows, vectors, masked), all constants, for as many vectors as
// `columns` take. Cases beyond MR and VECTORS are constant conditions and leave no code.
#define TILE_CASE(ROWS, columns, RUN)                                            \
    case ROWS:                                                                   \
        if (ROWS > MR) break;                                                    \
        if ((columns) >= NR) RUN(ROWS, VECTORS, false);                          \
        else if (VECTORS > 2 && (columns) > 2 * LANES) RUN(ROWS, VECTORS, true); \
        else if ((columns) > LANES) RUN(ROWS, 2, true);                          \
        else RUN(ROWS, 1, true);                                                 \
        break;
// clang-format off
#define TILE_CASES(columns, RUN) \
    TILE_CASE(1, columns, RUN) \
    TILE_CASE(2, columns, RUN) \
    TILE_CASE(3, columns, RUN) \
    TILE_CASE(4, columns, RUN) \
    TILE_CASE(5, columns, RUN) \
    TILE_CASE(6, columns, RUN) \
    TILE_CASE(7, columns, RUN) \
    TILE_CASE(8, columns, RUN) \
    TILE_CASE(9, columns, RUN) \
    TILE_CASE(10, columns, RUN) \
    TILE_CASE(11, columns, RUN) \
    TILE_CASE(12, columns, RUN) \
    TILE_CASE(13, columns, RUN) \
    TILE_CASE(14, columns, RUN)
// clang-format on
enum { MAX_TILE_ROWS = 14, MAX_TILE_VECTORS = 3 };
_Static_assert(MR <= MAX_TILE_ROWS && VECTORS >= 2 && VECTORS <= MAX_TILE_VECTORS, "TILE_CASES covers no such tile");

#endif
