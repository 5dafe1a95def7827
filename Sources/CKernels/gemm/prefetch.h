// What the tiles of a task prefetch for later ones, a few cache lines each while they multiply.
#ifndef DMAE_GEMM_PREFETCH_H
#define DMAE_GEMM_PREFETCH_H
#include "gemm/plan.h"

/// Memory in segments `distance` bytes apart; a segment is `lines` cache lines `stride` bytes apart.
struct gemm_prefetch {
    const char *first;
    size_t lines, stride;
    size_t segments, distance;
    size_t lines_per_tile, tiles_per_segment;
    size_t tile; ///< tiles that took their lines
};

/// The block of k at p->k_begin of packed panels [begin, end), spread over `tiles` tiles.
struct gemm_prefetch gemm_prefetch_panels(const struct gemm_plan *p, const void *panels, size_t width, size_t begin,
                                          size_t end, size_t tiles);
/// The block of k at p->k_begin of what the private panels of `task` are packed from, or of the panels themselves where
/// they come packed, spread over `tiles` tiles.
struct gemm_prefetch gemm_prefetch_private(const struct gemm_plan *p, struct gemm_task task, size_t tiles);

/// The next tile's lines.
static inline struct gemm_lines gemm_prefetch_next(struct gemm_prefetch *f) {
    if (f->tile >= f->segments * f->tiles_per_segment) return (struct gemm_lines){0};
    const size_t segment = f->tile / f->tiles_per_segment, begin = f->tile % f->tiles_per_segment * f->lines_per_tile;
    ++f->tile;
    return (struct gemm_lines){f->first + segment * f->distance + begin * f->stride, f->stride,
                               dmae_min(f->lines_per_tile, f->lines - begin)};
}
#endif
