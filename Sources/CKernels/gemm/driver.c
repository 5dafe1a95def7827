#include "cpu/threads.h"
#include "gemm/gemm.h"

#include <assert.h>

// The largest tile of any variant: the workspace must hold the panels of whichever is selected when the product runs.
enum { most_mr = 16, most_nr = 64 };

static size_t block_of(size_t k) { return k == 0 ? 0 : dmae_ceiling(k, dmae_ceiling(k, gemm_f32_k_block)); }

size_t dmae_gemm_f32_workspace(size_t m, size_t n, size_t k) {
    return (dmae_round_up(m, 16) + most_mr + dmae_round_up(n, 16) + most_nr) * block_of(k) * sizeof(float) + 256;
}

/// A thread's share of the product; all of it where there is no parallel region.
static void share(const dmae_gemm_f32_arguments *arguments, const struct gemm_f32_kernels *kernels) {
    const dmae_gemm_f32_arguments g = *arguments;
    const size_t mr = kernels->mr, nr = kernels->nr, k_block = block_of(g.k);
    const size_t a_panels = dmae_ceiling(g.m, mr), b_panels = dmae_ceiling(g.n, nr);
    const size_t b_per_task = 8, a_per_task = 8;
    const size_t a_tasks = dmae_ceiling(a_panels, a_per_task), b_tasks = dmae_ceiling(b_panels, b_per_task);
    float *const packed_a = g.workspace, *const packed_b = packed_a + dmae_round_up(a_panels * mr * k_block, 16);
    // Partial sums between blocks of k rest in C, or in the activation when C is not kept.
    float *const rest = g.c ? g.c : g.activation;
    const size_t ld_rest = g.c ? g.ldc : g.ldactivation;
    for (size_t first = 0; first == 0 || first < g.k; first += k_block) {
        const size_t depth = dmae_least(k_block, g.k - first);
        const bool is_first = first == 0, is_last = first + depth >= g.k;
#pragma omp for schedule(monotonic : dynamic, 1)
        for (size_t panel = 0; panel < a_panels + b_panels; ++panel) {
            if (panel < b_panels) {
                const size_t j = panel * nr;
                kernels->pack_b(dmae_least(nr, g.n - j), depth, g.b + (g.b_transposed ? j * g.ldb + first : first * g.ldb + j),
                                g.ldb, !g.b_transposed, packed_b + j * depth);
            } else {
                const size_t i = (panel - b_panels) * mr;
                kernels->pack_a(dmae_least(mr, g.m - i), depth, g.a + (g.a_transposed ? first * g.lda + i : i * g.lda + first),
                                g.lda, g.a_transposed, packed_a + i * depth);
            }
        }
#pragma omp for schedule(monotonic : dynamic, 1)
        for (size_t task = 0; task < a_tasks * b_tasks; ++task) {
            const size_t a_end = dmae_least(a_panels, (task % a_tasks + 1) * a_per_task);
            const size_t b_end = dmae_least(b_panels, (task / a_tasks + 1) * b_per_task);
            for (size_t ip = task % a_tasks * a_per_task; ip < a_end; ++ip)
                for (size_t jp = task / a_tasks * b_per_task; jp < b_end; ++jp) {
                    const size_t i = ip * mr, j = jp * nr;
                    struct gemm_f32_tile tile = {.rows = dmae_least(mr, g.m - i),
                                                 .columns = dmae_least(nr, g.n - j),
                                                 .k = depth,
                                                 .a = packed_a + i * depth,
                                                 .b = packed_b + j * depth,
                                                 .c = rest + i * ld_rest + j,
                                                 .ldc = ld_rest};
                    if (!is_first || g.accumulate) {
                        tile.addend = tile.c;
                        tile.ld_addend = ld_rest;
                    }
                    // A residual that is C itself must be read before the first block overwrites it.
                    if (g.residual && (g.accumulate ? is_last : is_first)) {
                        tile.residual = g.residual + i * g.ldr + j;
                        tile.ld_residual = g.ldr;
                    }
                    if (is_last) {
                        tile.bias = g.bias ? g.bias + j : NULL;
                        if (g.activation) {
                            tile.activation = g.activation + i * g.ldactivation + j;
                            tile.ld_activation = g.ldactivation;
                            if (!g.c) tile.c = NULL;
                        }
                    }
                    kernels->tile(&tile);
                }
        }
        if (k_block == 0) break;
    }
}

void dmae_gemm_f32(const dmae_gemm_f32_arguments *arguments) {
    const dmae_gemm_f32_arguments g = *arguments;
    assert(g.c || g.activation);
    assert(!(g.accumulate && g.activation) && !(g.residual && g.activation));
    assert(!g.accumulate || g.residual == NULL || g.residual != g.c);
    if (g.m == 0 || g.n == 0) return;
    const struct gemm_f32_kernels *const kernels = KERNELS(gemm_f32);
    const int threads = dmae_threads_for(dmae_ceiling(g.m, kernels->mr) * dmae_ceiling(g.n, kernels->nr));
    // OpenMP's runtime allocates a buffer for a region of one thread: then there is none.
    if (threads == 1) {
        share(&g, kernels);
    } else {
#pragma omp parallel num_threads(threads)
        share(&g, kernels);
    }
}
