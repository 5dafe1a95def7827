// The packed-panel kernels on the operations of vector_*.h and a register tile the including file has chosen.
#include "gelu/gelu_f32_vector.h"
#include "gemm/register_tile_f32.h"

static void pack_a(size_t count, size_t k, const float *source, size_t ld, bool across, void *target) {
    float *panels = target;
    if (!across) {
        for (; count > MR; count -= MR, source += MR * ld, panels += MR * k)
            pack_transposed(MR, MR, MR, k, source, ld, panels);
        pack_transposed(count, MR, MR, k, source, ld, panels);
        return;
    }
    // All panels of one step of k before the next step: rows of the source may lie a multiple of 4096 bytes apart, and what one
    // panel leaves of a line is gone from the cache when the next panel comes.
    const M written = v_mask(MR);
    for (size_t p = 0; p < k; ++p)
        for (size_t i = 0; i < count; i += MR)
            v_store_masked(written, panels + i * k + p * MR, OPERAND(v_load_masked(v_mask(count - i), source + p * ld + i)));
}

static void pack_b(size_t count, size_t k, const float *source, size_t ld, bool across, void *target) {
    float *panels = target;
    const size_t whole = count / NR * NR;
    if (!across) {
        for (size_t j = 0; j < whole; j += LANES)
            pack_transposed(LANES, LANES, NR, k, source + j * ld, ld, panels + j / NR * NR * k + j % NR);
        for (size_t j = whole; j < count; j += NR)
            for (size_t part = 0; part < NR; part += LANES)
                pack_transposed(count > j + part ? count - j - part : 0, LANES, NR, k, source + (j + part) * ld, ld,
                                panels + j * k + part);
        return;
    }
    for (size_t p = 0; p < k; ++p) {
        for (size_t j = 0; j < whole; j += LANES)
            v_store(panels + j / NR * NR * k + p * NR + j % NR, OPERAND(v_load(source + p * ld + j)));
        if (whole < count)
            for (size_t part = 0; part < NR; part += LANES)
                v_store(panels + whole * k + p * NR + part,
                        OPERAND(v_load_masked(v_mask(count > whole + part ? count - whole - part : 0), source + p * ld + whole + part)));
    }
}

#define PRODUCT(ROWS, WIDTH, t, sum) tile_product(ROWS, WIDTH, true, (t)->k, (t)->a, 1, MR, (t)->b, NR, sum)
#include "gemm/tile_epilogue.h"
