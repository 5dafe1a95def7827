// Packing and tiles of float32 on the operations of vector_*.h, for a register tile that the including file chooses.
// With TILES_PACK_B, tiles can pack their panel of B.
#include "gelu/gelu_f32_vector.h"
#include "gemm/register_tile_f32.h"

/// Rows left from the vector `part` of the panel that begins at row `i` < count.
VECTOR_INLINE size_t rows_left(size_t count, size_t i, size_t part) {
    return part == 0 ? count - i : count > i + part ? count - i - part : 0;
}

VECTOR_INLINE void pack_a_of(const dmae_type type, size_t count, size_t k, const void *source, size_t ld,
                             bool transposed, float *panels) {
    if (!transposed) {
        for (size_t i = 0; i < count; i += MR)
            for (size_t part = 0; part < MR; part += LANES) {
                const size_t width = MR - part < LANES ? MR - part : LANES, left = rows_left(count, i, part);
                pack_transposing_of(type, left < width ? left : width, width, MR, k, source, (i + part) * ld, ld,
                                    panels + i * k + part);
            }
        return;
    }
    // All panels of one step of k before the next step: rows of the source may be a multiple of 4096 bytes apart, and
    // the rest of a line would be evicted before the next panel reads it. A row of a panel is whole vectors and one
    // that is cut to the rest.
    enum { LAST = (MR - 1) / LANES * LANES };
    const M written = v_mask(MR - LAST);
    for (size_t p = 0; p < k; ++p) {
        prefetch_row(type, count, source, (p + 16) * ld);
        for (size_t i = 0; i < count; i += MR) {
            for (size_t part = 0; part < LAST; part += LANES)
                v_store(panels + i * k + p * MR + part,
                        operand_masked(type, v_mask(rows_left(count, i, part)), source, p * ld + i + part));
            store_step(written, p + 1 < k, panels + i * k + p * MR + LAST,
                       operand_masked(type, v_mask(rows_left(count, i, LAST)), source, p * ld + i + LAST));
        }
    }
}

VECTOR_INLINE void pack_b_of(const dmae_type type, size_t count, size_t k, const void *source, size_t ld,
                             bool transposed, float *panels) {
    const size_t whole = count / NR * NR;
    if (!transposed) {
        for (size_t j = 0; j < whole; j += LANES)
            pack_transposing_of(type, LANES, LANES, NR, k, source, j * ld, ld, panels + j / NR * NR * k + j % NR);
        for (size_t j = whole; j < count; j += NR)
            for (size_t part = 0; part < NR; part += LANES)
                pack_transposing_of(type, count > j + part ? count - j - part : 0, LANES, NR, k, source,
                                    (j + part) * ld, ld, panels + j * k + part);
        return;
    }
    for (size_t p = 0; p < k; ++p) {
        prefetch_row(type, count, source, (p + 16) * ld);
        for (size_t j = 0; j < whole; j += LANES)
            v_store(panels + j / NR * NR * k + p * NR + j % NR, operand(type, source, p * ld + j));
        if (whole < count)
            for (size_t part = 0; part < NR; part += LANES)
                v_store(panels + whole * k + p * NR + part,
                        operand_masked(type, v_mask(count > whole + part ? count - whole - part : 0), source,
                                       p * ld + whole + part));
    }
}

static void KERNEL(pack_a)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    if (type == DMAE_TYPE_BF16) pack_a_of(DMAE_TYPE_BF16, count, k, source, ld, transposed, panels);
    else pack_a_of(DMAE_TYPE_F32, count, k, source, ld, transposed, panels);
}
static void KERNEL(pack_b)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                           void *panels) {
    if (type == DMAE_TYPE_BF16) pack_b_of(DMAE_TYPE_BF16, count, k, source, ld, transposed, panels);
    else pack_b_of(DMAE_TYPE_F32, count, k, source, ld, transposed, panels);
}

#ifdef TILES_PACK_B
_Static_assert(STEPS == 1, "a round of the loop packs one step");
/// Packs step p of a tile's panel of B from a transposed source; `type` is a constant.
VECTOR_INLINE void pack_row(const dmae_type type, const struct gemm_tile *t, size_t p) {
    const size_t row = p * t->ld_b_source;
    prefetch_row(type, NR, t->b_source, row + PREFETCHED_AHEAD * t->ld_b_source);
#pragma clang loop unroll(full)
    for (int j = 0; j < NR; j += LANES) v_store((float *)t->b + p * NR + j, operand(type, t->b_source, row + j));
}

VECTOR_INLINE void packing_product(const dmae_type type, const struct gemm_tile *t,
                                   const struct gemm_prefetches *prefetches, V sum[MR][VECTORS]) {
    const float *a = t->a, *b = t->b;
    size_t p = 0;
    while (p < PACKED_AHEAD && p < t->k) pack_row(type, t, p++);
    clear(MR, VECTORS, sum);
    PREFETCHING_ROUNDS(t->k, prefetches, {
        if (p < t->k) pack_row(type, t, p++);
        tile_round(MR, VECTORS, true, a, 1, MR, b, NR, sum);
        a += MR;
        b += NR;
    });
}

#define PACKING_PRODUCT packing_product
#endif
#define PRODUCT(ROWS, WIDTH, t, prefetches, sum)                                              \
    tile_product(ROWS, WIDTH, STEPS == 1, (t)->k, (t)->a, 1, MR, (t)->b, NR, prefetches, sum)
#include "gemm/tile_epilogue.h"
