// C[m,n] = op(A)[m,k]·op(B)[k,n]: the contract, the plan of a product and its loop nest.
//
// One operand is *shared*: A if m <= n, else B. All threads pack it, piece by piece, then a barrier. The micro-panels
// of the other one, the *private* operand, are split among the threads. A task is a chunk of adjacent private panels,
// packed one KC block at a time by the thread that does the task, right before use and into its own cache. So nearly
// every element is packed once, and the larger operand never moves from core to core.
//
//   parallel: for each piece of the shared operand:                     pack it                         (packing.c)
//   barrier
//   parallel: for each task, first of the thread's own queue, then stolen:                              (tasks.c)
//     for each block of k, at most KC deep:
//       pack the chunk's block of the private panels                    [panel][KC][MR or NR]
//       for each group of shared panels:
//         for each private panel of the chunk:
//           for each shared panel of the group:
//             tile: MR×NR of C (+)= panel of A · panel of B, epilogue with the last block               (gemm_*.c)
//             … while it prefetches a few lines that a later tile needs                                 (prefetch.c)
//
// Between two blocks of k the partial sums are in C. A B that comes packed is used where it is, as the shared or as the
// private operand. Threads meet twice, at the barrier and at the end.
#include "cpu/streaming.h"
#include "gemm/packing.h"
#include "gemm/prefetch.h"
#include "gemm/quantisation.h"

#include <assert.h>

const struct gemm_kernels *gemm_kernels_for(dmae_precision precision) {
    switch (precision) {
    case DMAE_PRECISION_INT8: return KERNELS(gemm_int8);
    case DMAE_PRECISION_BF16: return KERNELS(gemm_bf16);
    default: return KERNELS(gemm_f32);
    }
}

bool dmae_gemm_is_native(dmae_precision precision) { return !gemm_kernels_for(precision)->is_emulated; }

static void check(const dmae_gemm_arguments *g) {
    assert(g->c || g->activation);
    assert(!(g->accumulate && g->activation) && !(g->residual && g->activation));
    assert(!g->accumulate || g->residual == NULL || g->residual != g->c);
    assert(!g->accumulate || g->c_type == DMAE_TYPE_F32);
    assert(!g->before_gelu || (g->c && !(g->bias || g->residual || g->accumulate)));
    assert(!g->stream_c || (g->c_type == DMAE_TYPE_F32 &&
                            !(g->accumulate || g->bias || g->residual || g->activation || g->before_gelu)));
    assert(!g->row_factor ||
           (g->rows_per_factor && !(g->accumulate || g->activation || g->before_gelu || g->stream_c)));
    assert(g->precision != DMAE_PRECISION_INT8 ||
           (g->b_packed && !g->a_transposed && !g->accumulate && !g->before_gelu && g->k <= gemm_int8_max_k));
    assert((uintptr_t)g->workspace % 64 == 0 && (uintptr_t)g->b_packed % 64 == 0);
    (void)g;
}

/// Equal blocks of at most max_kc. A result in bf16 could not hold partial sums: then there is one block.
static size_t block_depth(size_t k, const struct gemm_kernels *kernels, dmae_type output) {
    const size_t blocks = output == DMAE_TYPE_BF16 || k == 0 ? 1 : dmae_ceiling(k, kernels->max_kc);
    return dmae_round_up(dmae_ceiling(k, blocks), kernels->k_unit);
}

/// Private panels that a thread packs at a time.
static size_t max_chunk(const struct gemm_plan *p) {
    const struct gemm_kernels *const kernels = p->kernels;
    const size_t panels = p->shared_is_a ? kernels->max_chunk_b : kernels->max_chunk_a;
    if (kernels->max_chunk_bytes == 0) return panels;
    const size_t bytes = gemm_panel_bytes(kernels, gemm_private_width(p), p->kc);
    const size_t shared_bytes = p->shared_panels * gemm_panel_bytes(kernels, gemm_shared_width(p), p->kc);
    // A small shared operand stays in the cache beside the chunk.
    const size_t room =
        2 * shared_bytes <= kernels->max_chunk_bytes ? kernels->max_chunk_bytes / 2 : kernels->max_chunk_bytes;
    const size_t fitting = panels * bytes > room ? room / bytes : panels;
    return fitting ? fitting : 1;
}

struct gemm_plan gemm_plan_product(const dmae_gemm_arguments *arguments, size_t threads) {
    const struct gemm_kernels *const kernels = gemm_kernels_for(arguments->precision);
    struct gemm_plan p = {.g = *arguments, .kernels = kernels, .shared_is_a = arguments->m <= arguments->n};
    check(&p.g);
    if (p.g.b_packed && kernels->contiguous_b) {
        p.g.b = p.g.b_packed;
        p.g.b_type = DMAE_TYPE_F32;
        p.g.ldb = p.g.k;
        p.g.b_transposed = true;
        p.g.b_packed = NULL;
    }
    const size_t a_panels = dmae_ceiling(p.g.m, kernels->mr), b_panels = dmae_ceiling(p.g.n, kernels->nr);
    p.shared_panels = p.shared_is_a ? a_panels : b_panels;
    p.private_panels = p.shared_is_a ? b_panels : a_panels;
    p.kc = block_depth(p.g.k, kernels, p.g.c ? p.g.c_type : p.g.activation_type);
    p.shared = p.g.workspace;
    const bool always_splits = kernels->min_split_panels && p.shared_panels >= kernels->min_split_panels;
    p.tasks = gemm_cut_tasks(p.private_panels, p.shared_panels, max_chunk(&p), always_splits, threads);
    return p;
}

/// Shared panels of a group: all of them meet a private panel before the next private panel does.
static size_t group_panels(const struct gemm_plan *p) {
    if (p->shared_is_a) return p->kernels->group_a;
    const size_t bytes = gemm_panel_bytes(p->kernels, p->kernels->nr, p->depth),
                 panels = bytes ? p->kernels->group_b_bytes / bytes : 1;
    return panels > 1 ? panels : 1;
}

/// `packs_b`: the panel of B is yet to be packed.
static void run_tile(const struct gemm_plan *p, struct gemm_prefetch *prefetch, size_t a_panel, const char *a,
                     size_t b_panel, const char *b, bool packs_b) {
    const dmae_gemm_arguments *const g = &p->g;
    const size_t i = a_panel * p->kernels->mr, j = b_panel * p->kernels->nr;
    struct gemm_tile tile = {.rows = dmae_min(p->kernels->mr, g->m - i),
                             .columns = dmae_min(p->kernels->nr, g->n - j),
                             .k = p->depth,
                             .a = a,
                             .b = b,
                             .streams_a = !p->shared_is_a && group_panels(p) == 1,
                             .prefetch = gemm_prefetch_next(prefetch)};
    if (packs_b) {
        tile.b_source = gemm_element(g->b, g->b_type, p->k_begin * g->ldb + j);
        tile.b_source_type = g->b_type;
        tile.ld_b_source = g->ldb;
    }
    // Partial sums between blocks of k are in C, or in the activation when C is not kept.
    if (g->c) {
        tile.c = (char *)g->c + (i * g->ldc + j) * dmae_type_bytes(g->c_type);
        tile.ldc = g->ldc;
        tile.c_type = g->c_type;
    } else {
        tile.c = (char *)g->activation + (i * g->ldactivation + j) * dmae_type_bytes(g->activation_type);
        tile.ldc = g->ldactivation;
        tile.c_type = g->activation_type;
    }
    if (!p->is_first || g->accumulate) {
        tile.addend = tile.c;
        tile.ld_addend = tile.ldc;
    }
    tile.stream_c = g->stream_c && p->is_first && p->is_last;
    // A residual that is C itself must be read before the first block overwrites it.
    if (g->residual && (g->accumulate ? p->is_last : p->is_first)) {
        tile.residual = g->residual + i * g->ldr + j;
        tile.ld_residual = g->ldr;
    }
    if (g->row_factor) {
        tile.row_factor = g->row_factor;
        tile.first_row = i;
        tile.rows_per_factor = g->rows_per_factor;
    }
    if (p->is_last) {
        tile.bias = g->bias ? g->bias + j : NULL;
        if (g->activation) {
            tile.activation = (char *)g->activation + (i * g->ldactivation + j) * dmae_type_bytes(g->activation_type);
            tile.ld_activation = g->ldactivation;
            tile.activation_type = g->activation_type;
            if (!g->c) tile.c = NULL;
        }
        if (g->before_gelu) {
            tile.before_gelu = gemm_element(g->before_gelu, g->before_gelu_type, i * g->ldbefore + j);
            tile.ld_before_gelu = g->ldbefore;
            tile.before_gelu_type = g->before_gelu_type;
        }
    }
    p->kernels->tile(&tile);
}

/// Multiplies the private panels of `task` by its shared ones over all blocks of k. `following`: the thread's next
/// task.
static void run_task(struct gemm_plan p, struct gemm_task task, struct gemm_task following, char *private) {
    if (task.begin == task.end) return;
    const size_t mr = p.kernels->mr, nr = p.kernels->nr, private_panels = task.end - task.begin;
    const void *const shared = !p.shared_is_a && p.g.b_packed ? p.g.b_packed : p.shared;
    // Packing a panel of a transposed B is little work: the first tile that meets it does it while it multiplies, if
    // both its panels are whole. Panels from `unpacked` on are packed first. Panels of A are narrow: the rest of a
    // cache line would be evicted before the next panel is packed from it.
    const bool tiles_pack = p.kernels->tiles_pack_b && p.shared_is_a && gemm_private_is_transposed(&p) &&
                            !p.g.b_packed && task.shared_begin < p.g.m / mr && task.begin < p.g.n / nr;
    const size_t unpacked = tiles_pack ? dmae_min(p.g.n / nr, task.end) : task.begin;
    const bool prefetches_private = dmae_min(p.g.m, p.g.n) <= p.kernels->max_prefetch_width;
    for (p.k_begin = 0; p.k_begin == 0 || p.k_begin < p.g.k; p.k_begin += p.kc) {
        p.depth = dmae_min(p.kc, p.g.k - p.k_begin);
        p.is_first = p.k_begin == 0;
        p.is_last = p.k_begin + p.depth >= p.g.k;
        const size_t private_bytes = gemm_panel_bytes(p.kernels, gemm_private_width(&p), p.depth);
        if (!p.shared_is_a) gemm_pack_a(&p, task.begin, task.end, private);
        else if (unpacked < task.end && !p.g.b_packed)
            gemm_pack_b(&p, unpacked, task.end, private + (unpacked - task.begin) * private_bytes);
        struct gemm_prefetch prefetch = {0};
        if (prefetches_private) {
            struct gemm_plan next = p;
            next.k_begin = p.is_last ? 0 : p.k_begin + p.kc;
            prefetch = gemm_prefetch_private(&next, p.is_last ? following : task,
                                             private_panels * (task.shared_end - task.shared_begin));
        }
        const size_t group = group_panels(&p);
        for (size_t first = task.shared_begin; first < task.shared_end; first += group) {
            const size_t last = dmae_min(first + group, task.shared_end);
            if (!prefetches_private && p.kernels->prefetches_shared)
                prefetch =
                    gemm_prefetch_panels(&p, shared, gemm_shared_width(&p), last,
                                         dmae_min(last + group, task.shared_end), private_panels * (last - first));
            if (p.shared_is_a) {
                for (size_t j = task.begin; j < task.end; ++j)
                    for (size_t i = first; i < last; ++i)
                        run_tile(&p, &prefetch, i, gemm_whole_panel(&p, shared, mr, i), j,
                                 p.g.b_packed ? gemm_whole_panel(&p, p.g.b_packed, nr, j)
                                              : private + (j - task.begin) * private_bytes,
                                 j < unpacked && i == task.shared_begin);
            } else {
                for (size_t i = task.begin; i < task.end; ++i)
                    for (size_t j = first; j < last; ++j)
                        run_tile(&p, &prefetch, i, private + (i - task.begin) * private_bytes, j,
                                 gemm_whole_panel(&p, shared, nr, j), false);
            }
        }
        if (p.kc == 0) break;
    }
}

void dmae_gemm(const dmae_gemm_arguments *arguments) {
    const size_t m = arguments->m, n = arguments->n;
    const struct gemm_kernels *const kernels = gemm_kernels_for(arguments->precision);
    // OpenMP's runtime allocates a buffer for a region of one thread: then there is no region.
    const int threads =
        m == 0 || n == 0 ? 1 : dmae_threads_for(dmae_ceiling(m, kernels->mr) * dmae_ceiling(n, kernels->nr));
    const struct gemm_plan plan = gemm_plan_product(arguments, (size_t)threads);
    if (m == 0 || n == 0) return;
    char *const private = plan.shared + gemm_shared_bytes(kernels, m, n, plan.g.k);
    const struct gemm_pieces pieces = gemm_cut_pieces(&plan);
    const size_t piece_count = pieces.along_panels * pieces.along_k, task_count = gemm_task_count(&plan.tasks);
    if (threads == 1) {
        for (size_t piece = 0; piece < piece_count; ++piece) gemm_pack_piece(&plan, &pieces, piece, private);
        if (kernels->begin) kernels->begin();
        for (size_t task = 0; task < task_count; ++task)
            run_task(plan, gemm_task_at(&plan.tasks, task), gemm_task_after(&plan.tasks, task, 0), private);
        if (kernels->end) kernels->end();
        dmae_stream_fence();
        return;
    }
    struct dmae_queue piece_queues[threads], task_queues[threads];
    dmae_deal(piece_queues, (size_t)threads, piece_count);
    dmae_deal(task_queues, (size_t)threads, task_count); // one of the plan's queues for each thread
    const size_t private_bytes = gemm_private_bytes(kernels, plan.kc);
#pragma omp parallel num_threads(threads)
    {
        const size_t thread = (size_t)omp_get_thread_num();
        char *const mine = private + thread * private_bytes;
        size_t next;
        while (dmae_take(piece_queues, (size_t)threads, thread, &next)) gemm_pack_piece(&plan, &pieces, next, mine);
#pragma omp barrier
        if (kernels->begin) kernels->begin();
        while (dmae_take(task_queues, (size_t)threads, thread, &next))
            run_task(plan, gemm_task_at(&plan.tasks, next), gemm_task_after(&plan.tasks, next, thread), mine);
        if (kernels->end) kernels->end();
        dmae_stream_fence();
    }
}
