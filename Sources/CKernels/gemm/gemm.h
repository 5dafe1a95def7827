// C[m,n] = op(A)[m,k]·op(B)[k,n], over packed panels.
//   packed A: panels of `mr` rows,    [panel][k][mr], the last panel filled up with zeros
//   packed B: panels of `nr` columns, [panel][k][nr], the last panel filled up with zeros
// One element of k is `k_unit` values deep in a panel (1 for f32; 2 for bf16 pairs), so other types keep this shape.
//
// Contract of a tile: accumulators start at zero and run over k in rising order; the result is then, in this order,
//   value = product + addend (if any) + residual (if any) + bias (if any); c = value (if any); activation = gelu(value) (if any).
// rows <= mr and columns <= nr say what is written; nothing outside is read or written in C, addend, residual, bias, activation.
#ifndef DMAE_GEMM_H
#define DMAE_GEMM_H
#include "cpu/variants.h"

struct gemm_f32_tile {
    size_t rows, columns, k;
    const float *a;  ///< packed panel [k, mr]
    const float *b;  ///< packed panel [k, nr]
    const float *addend, *residual, *bias;
    float *c, *activation;
    size_t ld_addend, ld_residual, ldc, ld_activation;
};

struct gemm_f32_kernels {
    size_t mr, nr;
    /// Packs `count` rows (or columns), each `k` long, into as many panels as they take. Element (i, p) is at source[i·ld + p], or
    /// at source[p·ld + i] when `across`.
    void (*pack_a)(size_t count, size_t k, const float *source, size_t ld, bool across, float *panels);
    void (*pack_b)(size_t count, size_t k, const float *source, size_t ld, bool across, float *panels);
    void (*tile)(const struct gemm_f32_tile *tile);
};

/// k is cut into equal blocks of at most this.
enum { gemm_f32_k_block = 1024 };
#endif
