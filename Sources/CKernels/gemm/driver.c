#include "cpu/threads.h"
#include "gemm/gemm.h"

#include <assert.h>

// The plan. k is cut into equal blocks. For each block the operand along the shorter of m and n is packed whole, by all threads
// (`shared`); tasks then are runs of panels of the other operand, which the thread that takes one packs for itself (`own`), right
// before use and into its own cache. So every element is packed once, and the larger operand never travels through shared memory
// twice. The shared panels of the next block go into a second buffer, by threads that would otherwise wait for the last task.

// The largest tile of any variant: the workspace must hold the panels of whichever is selected when the product runs.
enum { most_mr = 16, most_nr = 32 };
/// Values per step of k of the panels that a thread packs for itself: 4 panels of A or 2 of B, within the second-level cache.
enum { own_width = 64 };
_Static_assert(own_width % most_mr == 0 && own_width % most_nr == 0, "whole panels");

static size_t block_of(size_t k) { return k == 0 ? 0 : dmae_ceiling(k, dmae_ceiling(k, gemm_k_block)); }
static size_t shared_floats(size_t m, size_t n, size_t k) {
    return (m <= n ? dmae_round_up(m, 16) + most_mr : dmae_round_up(n, 16) + most_nr) * block_of(k);
}

size_t dmae_gemm_workspace(size_t m, size_t n, size_t k) {
    const size_t own = (size_t)dmae_threads() * own_width * block_of(k);
    return dmae_round_up(2 * dmae_round_up(shared_floats(m, n, k), 16) + own, 16) * sizeof(float);
}

/// One block of k of one product.
struct plan {
    dmae_gemm_arguments g;
    const struct gemm_kernels *kernels;
    bool shared_is_a;
    size_t shared_panels, own_panels;
    size_t tasks, runs, run;  ///< the first `runs` tasks are `run` panels each, the rest one
    size_t first, depth;      ///< of k
    bool is_first, is_last;
    char *shared;
};

/// Bytes of `panels` panels of A, or of B.
static size_t a_bytes(const struct plan *p, size_t panels) {
    return panels * p->kernels->mr * dmae_round_up(p->depth, p->kernels->k_unit) * p->kernels->value_bytes;
}
static size_t b_bytes(const struct plan *p, size_t panels) {
    return panels * p->kernels->nr * dmae_round_up(p->depth, p->kernels->k_unit) * p->kernels->value_bytes;
}

/// Packs the panels [begin, end) of A.
static void pack_a(const struct plan *p, size_t begin, size_t end, char *target) {
    const dmae_gemm_arguments *const g = &p->g;
    const size_t i = begin * p->kernels->mr;
    p->kernels->pack_a(dmae_least(end * p->kernels->mr, g->m) - i, p->depth,
                       g->a + (g->a_transposed ? p->first * g->lda + i : i * g->lda + p->first), g->lda, g->a_transposed, target);
}

static void pack_b(const struct plan *p, size_t begin, size_t end, char *target) {
    const dmae_gemm_arguments *const g = &p->g;
    const size_t j = begin * p->kernels->nr;
    p->kernels->pack_b(dmae_least(end * p->kernels->nr, g->n) - j, p->depth,
                       g->b + (g->b_transposed ? j * g->ldb + p->first : p->first * g->ldb + j), g->ldb, !g->b_transposed, target);
}

static void run_tile(const struct plan *p, size_t a_panel, const char *a, size_t b_panel, const char *b) {
    const dmae_gemm_arguments *const g = &p->g;
    const size_t i = a_panel * p->kernels->mr, j = b_panel * p->kernels->nr;
    // Partial sums between blocks of k rest in C, or in the activation when C is not kept.
    float *const rest = g->c ? g->c : g->activation;
    const size_t ld_rest = g->c ? g->ldc : g->ldactivation;
    struct gemm_tile tile = {.rows = dmae_least(p->kernels->mr, g->m - i),
                                 .columns = dmae_least(p->kernels->nr, g->n - j),
                                 .k = p->depth,
                                 .a = a,
                                 .b = b,
                                 .c = rest + i * ld_rest + j,
                                 .ldc = ld_rest};
    if (!p->is_first || g->accumulate) {
        tile.addend = tile.c;
        tile.ld_addend = ld_rest;
    }
    // A residual that is C itself must be read before the first block overwrites it.
    if (g->residual && (g->accumulate ? p->is_last : p->is_first)) {
        tile.residual = g->residual + i * g->ldr + j;
        tile.ld_residual = g->ldr;
    }
    if (p->is_last) {
        tile.bias = g->bias ? g->bias + j : NULL;
        if (g->activation) {
            tile.activation = g->activation + i * g->ldactivation + j;
            tile.ld_activation = g->ldactivation;
            if (!g->c) tile.c = NULL;
        }
    }
    p->kernels->tile(&tile);
}

/// The shared operand is packed in runs of four panels of A or two of B.
static size_t shared_run(const struct plan *p) { return p->shared_is_a ? 4 : 2; }
static size_t shared_runs(const struct plan *p) { return dmae_ceiling(p->shared_panels, shared_run(p)); }
static void pack_shared(const struct plan *p, size_t run) {
    const size_t begin = run * shared_run(p), end = dmae_least(begin + shared_run(p), p->shared_panels);
    if (p->shared_is_a) pack_a(p, begin, end, p->shared + a_bytes(p, begin));
    else pack_b(p, begin, end, p->shared + b_bytes(p, begin));
}

/// Packs the task's panels into `own` and multiplies them by all shared ones.
static void run_task(const struct plan *p, size_t task, char *own) {
    const size_t a_size = a_bytes(p, 1), b_size = b_bytes(p, 1);
    const size_t begin = task < p->runs ? task * p->run : p->runs * p->run + (task - p->runs);
    const size_t end = begin + (task < p->runs ? p->run : 1);
    if (p->shared_is_a) pack_b(p, begin, end, own);
    else pack_a(p, begin, end, own);
    for (size_t other = 0; other < p->shared_panels; ++other)
        for (size_t panel = begin; panel < end; ++panel) {
            if (p->shared_is_a) run_tile(p, other, p->shared + other * a_size, panel, own + (panel - begin) * b_size);
            else run_tile(p, panel, own + (panel - begin) * a_size, other, p->shared + other * b_size);
        }
}

/// A thread's share of the product, or all of it when `alone`, outside any parallel region.
static void run_share(struct plan p, size_t k_block, size_t buffer, bool alone) {
    float *const workspace = p.g.workspace;
    char *const own = (char *)(workspace + 2 * buffer + (alone ? 0 : (size_t)omp_get_thread_num()) * own_width * k_block);
    for (size_t block = 0; block == 0 || p.first + p.depth < p.g.k; ++block) {
        p.first = block * k_block;
        p.depth = dmae_least(k_block, p.g.k - p.first);
        p.is_first = block == 0;
        p.is_last = p.first + p.depth >= p.g.k;
        p.shared = (char *)(workspace + block % 2 * buffer);
        if (alone) {
            for (size_t run = 0; run < shared_runs(&p); ++run) pack_shared(&p, run);
            for (size_t task = 0; task < p.tasks; ++task) run_task(&p, task, own);
            continue;
        }
#pragma omp for schedule(monotonic : dynamic, 1)
        for (size_t run = 0; run < shared_runs(&p); ++run) pack_shared(&p, run);
#pragma omp for schedule(monotonic : dynamic, 1) nowait
        for (size_t task = 0; task < p.tasks; ++task) run_task(&p, task, own);
    }
}

void dmae_gemm(const dmae_gemm_arguments *arguments) {
    const dmae_gemm_arguments g = *arguments;
    assert(g.c || g.activation);
    assert(!(g.accumulate && g.activation) && !(g.residual && g.activation));
    assert(!g.accumulate || g.residual == NULL || g.residual != g.c);
    assert((uintptr_t)g.workspace % 64 == 0);
    if (g.m == 0 || g.n == 0) return;
    const struct gemm_kernels *const kernels = g.precision == DMAE_PRECISION_BF16 ? KERNELS(gemm_bf16) : KERNELS(gemm_f32);
    const size_t a_panels = dmae_ceiling(g.m, kernels->mr), b_panels = dmae_ceiling(g.n, kernels->nr);
    struct plan plan = {.g = g, .kernels = kernels, .shared_is_a = g.m <= g.n};
    plan.shared_panels = plan.shared_is_a ? a_panels : b_panels;
    plan.own_panels = plan.shared_is_a ? b_panels : a_panels;
    // Runs of several panels first, single ones last, so that the threads finish together.
    const size_t fitting = own_width / (plan.shared_is_a ? most_nr : most_mr);
    plan.run = dmae_least(fitting, plan.own_panels / (4 * (size_t)dmae_threads()));
    if (plan.run == 0) plan.run = 1;
    plan.runs = plan.own_panels < 8 ? 0 : (plan.own_panels - 8) / plan.run;
    plan.tasks = plan.runs + (plan.own_panels - plan.runs * plan.run);
    const size_t k_block = block_of(g.k), buffer = dmae_round_up(shared_floats(g.m, g.n, g.k), 16);
    // OpenMP's runtime allocates a buffer for a region of one thread: then there is none.
    const int threads = dmae_threads_for(a_panels * b_panels);
    if (threads == 1) {
        run_share(plan, k_block, buffer, true);
    } else {
#pragma omp parallel num_threads(threads)
        run_share(plan, k_block, buffer, false);
    }
}
