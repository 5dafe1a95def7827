// Memory of a product: the shared operand's panels, then each thread's private panels. A workspace serves whichever
// variant is selected when the product runs, so its size is the maximum over all rows of the list.
#include "gemm/plan.h"

/// The depth of a block of k that no product of at most this depth exceeds: blocks are equal, so those of a smaller k
/// may be deeper than those of this one.
static size_t max_depth(const struct gemm_kernels *kernels, size_t k, dmae_type output) {
    const size_t depth = dmae_round_up(k, kernels->k_unit);
    return output == DMAE_TYPE_BF16 ? depth : dmae_min(depth, kernels->max_kc);
}

size_t gemm_shared_bytes(const struct gemm_kernels *kernels, size_t m, size_t n, size_t k) {
    const size_t width = dmae_min(m, n), a = dmae_round_up(width, kernels->mr), b = dmae_round_up(width, kernels->nr);
    return dmae_round_up(gemm_panel_bytes(kernels, dmae_max(a, b), k), 64);
}

size_t gemm_private_bytes(const struct gemm_kernels *kernels, size_t kc) {
    const size_t a = dmae_max(kernels->max_chunk_a, gemm_piece_a) * kernels->mr,
                 b = dmae_max(kernels->max_chunk_b, gemm_piece_b) * kernels->nr;
    return dmae_round_up(gemm_panel_bytes(kernels, dmae_max(a, b), kc), 64);
}

static const struct {
    enum dmae_operation operation;
    const void *kernels;
} rows[] = {
#define VARIANT(operation, isa, tile) {dmae_operation_##operation, &operation##_##isa##tile},
#include "variants.inc"
};

size_t dmae_gemm_workspace(dmae_precision precision, size_t m, size_t n, size_t k, dmae_type output) {
    const enum dmae_operation operation = precision == DMAE_PRECISION_INT8 ? dmae_operation_gemm_int8
                                        : precision == DMAE_PRECISION_BF16 ? dmae_operation_gemm_bf16
                                                                           : dmae_operation_gemm_f32;
    size_t most = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
        if (rows[i].operation != operation) continue;
        const struct gemm_kernels *const kernels = rows[i].kernels;
        const size_t depth = max_depth(kernels, k, output);
        most = dmae_max(most, gemm_shared_bytes(kernels, m, n, k) +
                                  (size_t)dmae_threads() * gemm_private_bytes(kernels, depth));
    }
    return most;
}
