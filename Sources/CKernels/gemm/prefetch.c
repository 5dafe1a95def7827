#include "gemm/prefetch.h"

enum { line_bytes = 64 };

/// Gives each of `tiles` tiles the same number of lines of one segment.
static struct gemm_prefetch spread(struct gemm_prefetch f, size_t tiles) {
    if (f.lines == 0 || f.segments == 0) return (struct gemm_prefetch){0};
    f.lines_per_tile = dmae_ceiling(f.lines, tiles < f.segments ? 1 : tiles / f.segments);
    f.tiles_per_segment = dmae_ceiling(f.lines, f.lines_per_tile);
    return f;
}

struct gemm_prefetch gemm_prefetch_panels(const struct gemm_plan *p, const void *panels, size_t width, size_t begin,
                                          size_t end, size_t tiles) {
    const size_t bytes = gemm_panel_bytes(p->kernels, width, dmae_min(p->kc, p->g.k - p->k_begin));
    const struct gemm_prefetch all = {.first = gemm_whole_panel(p, panels, width, begin),
                                      .lines = dmae_ceiling(bytes, line_bytes),
                                      .stride = line_bytes,
                                      .segments = end - begin,
                                      .distance = gemm_panel_bytes(p->kernels, width, p->g.k)};
    return spread(all, tiles);
}

struct gemm_prefetch gemm_prefetch_private(const struct gemm_plan *p, struct gemm_task task, size_t tiles) {
    const dmae_gemm_arguments *const g = &p->g;
    const size_t panel = gemm_private_width(p);
    if (task.begin >= task.end) return (struct gemm_prefetch){0};
    if (p->shared_is_a && g->b_packed) return gemm_prefetch_panels(p, g->b_packed, panel, task.begin, task.end, tiles);
    const bool transposed = gemm_private_is_transposed(p);
    if (transposed && !p->kernels->prefetches_transposed) return (struct gemm_prefetch){0};
    const dmae_type type = p->shared_is_a ? g->b_type : g->a_type;
    const size_t i = task.begin * panel, ld = p->shared_is_a ? g->ldb : g->lda;
    const size_t width = dmae_min(task.end * panel, p->shared_is_a ? g->n : g->m) - i,
                 depth = dmae_min(p->kc, g->k - p->k_begin);
    const size_t index = transposed ? p->k_begin * ld + i : i * ld + p->k_begin;
    const char *const first = gemm_element(p->shared_is_a ? g->b : g->a, type, index);
    const size_t row = ld * dmae_type_bytes(type), before = (uintptr_t)first % line_bytes;
    const size_t lines = dmae_ceiling(before + (transposed ? width : depth) * dmae_type_bytes(type), line_bytes);
    // Transposed: a segment is one line of each row of memory, since a tile packs that much of every row.
    const struct gemm_prefetch all = {.first = first - before,
                                      .lines = transposed ? depth : lines,
                                      .stride = transposed ? row : line_bytes,
                                      .segments = transposed ? lines : width,
                                      .distance = transposed ? line_bytes : row};
    return spread(all, tiles);
}
