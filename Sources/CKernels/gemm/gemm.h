// C[m,n] = op(A)[m,k]·op(B)[k,n], over packed micro-panels.
//   packed A: panels of `mr` rows,    [panel][k][mr], the last panel padded with zeros
//   packed B: panels of `nr` columns, [panel][k][nr], the last panel padded with zeros
// gemm_f32: float32 values, or with AMX three bf16 for each.
// gemm_bf16: operands rounded to bf16. Either as float32, where the tile multiplies float32 (k_unit 1), or
//   pair-interleaved (k_unit 2): [panel][k/2][mr][2], an odd k padded with a zero.
// gemm_int8: a panel holds all of k and is packed from rows contiguous in k. In front of the values is a header of
//   header_bytes for each row or column: its scale, and its zero or sum where the tile needs them. The integers follow
//   as in quantisation.h, with k_unit neighbours in k adjacent. In this order
//     product = float(sum of integer products) · scale of A's row · scale of B's column
//   where the sum is exact, so all variants give the same bits up to GELU.
// AMX: k_unit is a step of the tile registers. A panel of A holds, step by step, its rows as they lie in memory; a
// panel
//   of B is interleaved as above; k is padded. A pair of gemm_f32 is 16 apart in k.
//
// Contract of a tile: accumulators start at zero and run over k in rising order. The epilogue is then, in this order,
// each part if its matrix is given,
//   value = product + addend + residual + bias;  c = value;  activation = gelu(value rounded to c_type)
// where c_type is the activation's type if there is no c; or, with row_factor,
//   value = factor · (product + bias) + addend + residual;  c = value
// or, with before_gelu,
//   c = value · gelu'(before_gelu);  activation = gelu(before_gelu).
// The tile reads and writes `rows` <= mr rows and `columns` <= nr columns of each matrix, and nothing outside.
#ifndef DMAE_GEMM_H
#define DMAE_GEMM_H
#include "cpu/variants.h"

/// Lines of memory `stride` bytes apart.
struct gemm_lines {
    const char *first;
    size_t stride, count;
};
/// What a tile prefetches into the second-level cache while it multiplies.
struct gemm_prefetches {
    size_t sets;
    struct gemm_lines lines[9]; ///< the rows of four matrices, each in one or two lines, and the tile's `prefetch`
};

struct gemm_tile {
    size_t rows, columns, k;
    const void *a; ///< packed panel [k, mr]
    const void *b; ///< packed panel [k, nr]
    const float *addend, *residual, *bias;
    const float *row_factor; ///< row i of the tile has the factor row_factor[(first_row + i) / rows_per_factor]
    size_t first_row, rows_per_factor;
    void *c, *activation;
    const void *before_gelu;
    dmae_type c_type, activation_type, before_gelu_type;
    size_t ld_addend, ld_residual, ldc, ld_activation, ld_before_gelu;
    const void *b_source; ///< if not NULL, the tile, which is whole, packs its panel of B from here, as pack_b does
                          ///< from a transposed source
    dmae_type b_source_type;
    size_t ld_b_source;
    bool stream_c;  ///< C may be written with non-temporal stores; there is no epilogue, and the caller fences
    bool streams_a; ///< the next tile has another panel of A and the same of B; otherwise the reverse
    struct gemm_lines prefetch; ///< lines that a later tile needs
};

static inline float gemm_row_factor(const struct gemm_tile *t, size_t i) {
    return t->row_factor[(t->first_row + i) / t->rows_per_factor];
}

struct gemm_kernels {
    size_t mr, nr;              ///< rows and columns of a tile
    size_t k_unit, value_bytes; ///< a panel's depth is a multiple of k_unit; bytes of one packed value
    size_t header_bytes;        ///< in front of a panel, for each of its rows or columns
    size_t max_kc;              ///< k is cut into equal blocks of at most this depth, where C can hold partial sums
    /// Packs `count` rows (or columns), each `k` long, into as many panels as they take. Element (i, p) is at
    /// source[i·ld + p], or at source[p·ld + i] if `transposed`.
    void (*pack_a)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                   void *panels);
    void (*pack_b)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool transposed,
                   void *panels);
    void (*tile)(const struct gemm_tile *tile);
    /// Either both or none: each thread calls them before its first tile and after its last. In between a tile may be
    /// finished late, but before the next one is multiplied completely; `end` finishes the last one.
    void (*begin)(void), (*end)(void);
    bool is_emulated; ///< operands are multiplied in a wider type than the precision they are rounded to

    // A chunk of private panels, or a group of shared panels of A, is to stay in the second-level cache while panels of
    // the other operand stream by. A small tile uses each packed value few times, so its chunks are long; 14×32 needs
    // only a few panels.
    size_t max_chunk_a, max_chunk_b; ///< private panels of A, or of B, that a thread packs at a time
    size_t max_chunk_bytes;  ///< upper bound on a chunk; 0 = none. Halved if the shared operand fits the other half
    size_t group_a;          ///< shared panels of A that meet one private panel before the next private panel
    size_t group_b_bytes;    ///< the same for a shared B, in bytes, so that consecutive tiles write adjacent columns of
                             ///< C; 0 = one panel
    size_t min_split_panels; ///< with so many shared panels the last group of a queue is split in any case; 0 = never

    bool tiles_pack_b;         ///< the first tile that meets a panel of a transposed B packs it; `b` is then written
    bool caches_shared;        ///< the shared operand is packed with ordinary instead of non-temporal stores
    bool contiguous_b;         ///< a B that comes packed is kept as contiguous float32 rows along k and packed for each
                               ///< product, since panels would take more memory
    bool prefetches_shared;    ///< tiles prefetch the next group of shared panels. Not needed where the loop over k
                               ///< prefetches the next panel, nor where a step takes so long that the loads would only
                               ///< delay its own
    size_t max_prefetch_width; ///< if min(m, n) is at most this, tiles prefetch what their thread packs next instead;
                               ///< beyond it a private panel meets many tiles, and this would cost more than it saves
    bool prefetches_transposed; ///< … of a transposed operand, too: one line of each row of memory
};
#endif
