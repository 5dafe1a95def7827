#include "gemm/packing.h"
#include "cpu/streaming.h"
#include "gemm/quantisation.h"

#include <assert.h>
#include <string.h>

void gemm_pack_a(const struct gemm_plan *p, size_t begin, size_t end, char *target) {
    const dmae_gemm_arguments *const g = &p->g;
    const size_t i = begin * p->kernels->mr,
                 index = g->a_transposed ? p->k_begin * g->lda + i : i * g->lda + p->k_begin;
    p->kernels->pack_a(dmae_min(end * p->kernels->mr, g->m) - i, p->depth, g->a_type,
                       gemm_element(g->a, g->a_type, index), g->lda, g->a_transposed, target);
}

void gemm_pack_b(const struct gemm_plan *p, size_t begin, size_t end, char *target) {
    const dmae_gemm_arguments *const g = &p->g;
    const size_t j = begin * p->kernels->nr,
                 index = g->b_transposed ? j * g->ldb + p->k_begin : p->k_begin * g->ldb + j;
    p->kernels->pack_b(dmae_min(end * p->kernels->nr, g->n) - j, p->depth, g->b_type,
                       gemm_element(g->b, g->b_type, index), g->ldb, !g->b_transposed, target);
}

struct gemm_pieces gemm_cut_pieces(const struct gemm_plan *p) {
    const size_t unit = dmae_max(p->kernels->k_unit, 16);
    // If the source is transposed, a piece is four times as wide and a quarter as deep, so that it reads whole lines.
    const bool comes_packed = p->g.b_packed && !p->shared_is_a;
    const size_t times = !comes_packed && gemm_shared_is_transposed(p) && p->kc >= 4 * unit ? 4 : 1;
    assert(times == 1 || p->kernels->header_bytes == 0);
    const size_t panels = times * (p->shared_is_a ? gemm_piece_a : gemm_piece_b);
    // A multiple of k_unit.
    const size_t depth = times == 1 ? p->kc : p->kc / (times * unit) * unit;
    // A panel without depth may still have a header.
    return (struct gemm_pieces){panels, depth, comes_packed ? 0 : dmae_ceiling(p->shared_panels, panels),
                                depth == 0 ? 1 : dmae_ceiling(p->g.k, depth)};
}

void gemm_pack_piece(const struct gemm_plan *p, const struct gemm_pieces *pieces, size_t index, char *scratch) {
    const size_t width = gemm_shared_width(p);
    const size_t begin = index % pieces->along_panels * pieces->panels,
                 end = dmae_min(begin + pieces->panels, p->shared_panels);
    struct gemm_plan piece = *p;
    piece.k_begin = index / pieces->along_panels * pieces->depth;
    piece.depth = dmae_min(pieces->depth, p->g.k - piece.k_begin);
    char *const place = (char *)gemm_whole_panel(&piece, p->shared, width, begin);
    // A piece as deep as k is contiguous in memory.
    const bool in_place = p->kernels->caches_shared && piece.depth == p->g.k;
    if (p->shared_is_a) gemm_pack_a(&piece, begin, end, in_place ? place : scratch);
    else gemm_pack_b(&piece, begin, end, in_place ? place : scratch);
    if (in_place) return;
    const size_t bytes = gemm_panel_bytes(p->kernels, width, piece.depth),
                 distance = gemm_panel_bytes(p->kernels, width, p->g.k);
    for (size_t panel = 0; panel < end - begin; ++panel) {
        // Other cores read this memory in the product before. An ordinary store would first take each line from them:
        // four times as slow where cores share no cache, and no faster where they do.
        if (p->kernels->caches_shared) memcpy(place + panel * distance, scratch + panel * bytes, bytes);
        else dmae_stream_copy(place + panel * distance, scratch + panel * bytes, bytes);
    }
    dmae_stream_fence();
}

size_t dmae_gemm_packed_bytes(dmae_precision precision, size_t k, size_t n) {
    const struct gemm_kernels *const kernels = gemm_kernels_for(precision);
    if (kernels->contiguous_b) return dmae_round_up(n * k * sizeof(float), 64);
    return dmae_round_up(dmae_ceiling(n, kernels->nr) * gemm_panel_bytes(kernels, kernels->nr, k), 64);
}

/// Column `column` of op(B)[k,n] as contiguous float32.
static void copy_column(size_t k, dmae_type type, const void *b, size_t ldb, bool b_transposed, size_t column,
                        float *target) {
    for (size_t p = 0; p < k; ++p) {
        const size_t index = b_transposed ? column * ldb + p : p * ldb + column;
        if (type == DMAE_TYPE_F32) {
            target[p] = ((const float *)b)[index];
        } else {
            const uint32_t bits = (uint32_t)((const uint16_t *)b)[index] << 16;
            memcpy(target + p, &bits, sizeof bits);
        }
    }
}

void dmae_gemm_pack(dmae_precision precision, size_t k, size_t n, dmae_type b_type, const void *b, size_t ldb,
                    bool b_transposed, void *packed) {
    assert(precision != DMAE_PRECISION_INT8 || (b_transposed && k <= gemm_int8_max_k));
    const struct gemm_kernels *const kernels = gemm_kernels_for(precision);
    if (kernels->contiguous_b) {
        DMAE_PARALLEL_FOR(column, n, 64,
                          { copy_column(k, b_type, b, ldb, b_transposed, column, (float *)packed + column * k); });
        return;
    }
    const struct gemm_plan plan = {
        .g = {.k = k, .n = n, .b_type = b_type, .b = b, .ldb = ldb, .b_transposed = b_transposed},
        .kernels = kernels,
        .depth = k};
    const size_t panels = dmae_ceiling(n, kernels->nr), bytes = gemm_panel_bytes(kernels, kernels->nr, k);
    DMAE_PARALLEL_FOR(pair, dmae_ceiling(panels, 2), 1, {
        gemm_pack_b(&plan, 2 * pair, dmae_min(2 * pair + 2, panels), (char *)packed + 2 * pair * bytes);
    });
}
