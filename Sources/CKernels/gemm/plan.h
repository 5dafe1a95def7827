// One product, or one KC block of it, and where its packed panels lie: shared by the files of the GEMM driver.
#ifndef DMAE_GEMM_PLAN_H
#define DMAE_GEMM_PLAN_H
#include "cpu/threads.h"
#include "gemm/gemm.h"
#include "gemm/tasks.h"

struct gemm_plan {
    dmae_gemm_arguments g;
    const struct gemm_kernels *kernels;
    bool shared_is_a; ///< m <= n: A is packed by all threads for all, B by each thread for itself; or the reverse
    size_t shared_panels, private_panels;
    size_t kc;             ///< depth of a block of k; the last block may be shallower
    size_t k_begin, depth; ///< the block that this plan is about
    bool is_first, is_last;
    struct gemm_tasks tasks;
    char *shared; ///< packed panels of the shared operand, all of k
};

/// Checks the contract of dmae_gemm, resolves a packed B that is stored contiguous, and cuts the product into tasks.
struct gemm_plan gemm_plan_product(const dmae_gemm_arguments *arguments, size_t threads);
const struct gemm_kernels *gemm_kernels_for(dmae_precision precision);

/// Panels of a piece of the shared operand, which a thread packs at a time.
enum { gemm_piece_a = 4, gemm_piece_b = 2 };

/// Bytes of a panel `width` values wide and `depth` deep.
static inline size_t gemm_panel_bytes(const struct gemm_kernels *kernels, size_t width, size_t depth) {
    return width * (dmae_round_up(depth, kernels->k_unit) * kernels->value_bytes + kernels->header_bytes);
}

/// Bytes of the shared operand's panels for an m×n×k product and all smaller ones.
size_t gemm_shared_bytes(const struct gemm_kernels *kernels, size_t m, size_t n, size_t k);
/// Bytes of one thread's private panels, or of a piece of the shared operand, in blocks of depth `kc`.
size_t gemm_private_bytes(const struct gemm_kernels *kernels, size_t kc);

/// Width of a panel of the shared and of the private operand, and whether their source is stored [k, rows].
static inline size_t gemm_shared_width(const struct gemm_plan *p) {
    return p->shared_is_a ? p->kernels->mr : p->kernels->nr;
}
static inline size_t gemm_private_width(const struct gemm_plan *p) {
    return p->shared_is_a ? p->kernels->nr : p->kernels->mr;
}
static inline bool gemm_shared_is_transposed(const struct gemm_plan *p) {
    return p->shared_is_a ? p->g.a_transposed : !p->g.b_transposed;
}
static inline bool gemm_private_is_transposed(const struct gemm_plan *p) {
    return p->shared_is_a ? !p->g.b_transposed : p->g.a_transposed;
}

/// Element `index` of a matrix, which may be NULL where it has no element.
static inline const void *gemm_element(const void *matrix, dmae_type type, size_t index) {
    return matrix == NULL ? NULL : (const char *)matrix + index * dmae_type_bytes(type);
}

/// Panel `panel` of `panels`, which hold all of k, from this block on.
static inline const char *gemm_whole_panel(const struct gemm_plan *p, const void *panels, size_t width, size_t panel) {
    return (const char *)panels + panel * gemm_panel_bytes(p->kernels, width, p->g.k) +
           p->k_begin * width * p->kernels->value_bytes;
}
#endif
