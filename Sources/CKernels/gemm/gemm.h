// C[m,n] = op(A)[m,k]·op(B)[k,n], over packed panels.
//   packed A: panels of `mr` rows,    [panel][k][mr], the last panel filled up with zeros
//   packed B: panels of `nr` columns, [panel][k][nr], the last panel filled up with zeros
// gemm_f32's panels hold float32, or three bf16 for each with AMX. gemm_bf16's hold operands rounded to bf16: as
// float32 where the tile multiplies in float32 (k_unit 1), or two neighbours in k side by side as bf16 (k_unit 2),
// [panel][k/2][mr][2], an odd k filled up with a zero. gemm_int8's panels hold all of k, packed from rows that lie
// along k: first each row's scale and what else belongs to whole rows, head_bytes for each of the mr or nr, then whole
// numbers as quantisation.h says, k_unit neighbours side by side. With AMX a k_unit is a step of the tile registers: a
// panel of A holds its rows' parts one after another, a panel of B neighbours as above, and k is filled up; float32's
// neighbours are 16 apart in k. int8's product is, in order,
//   product = float(sum of products of whole numbers) · scale of A's row · scale of B's column
// where the sum is exact, so that all variants give the same bits until GELU.
//
// Contract of a tile: accumulators start at zero and run over k in rising order; the result is then, in this order,
//   value = product + addend (if any) + residual (if any) + bias (if any); c = value (if any);
//   activation = gelu(value as c holds it) (if any), where c_type is the activation's type if there is no c;
// or, with before_gelu, c = value · gelu'(before_gelu), activation = gelu(before_gelu) (if any).
// rows <= mr and columns <= nr say what is written; nothing outside is read or written in any of the matrices.
#ifndef DMAE_GEMM_H
#define DMAE_GEMM_H
#include "cpu/variants.h"

/// Lines of memory `stride` bytes apart.
struct gemm_lines {
    const char *first;
    size_t stride, count;
};
/// What a tile fetches into the second-level cache while it multiplies.
struct gemm_fetched {
    size_t sets;
    struct gemm_lines lines[9]; ///< the rows of four matrices, each perhaps in two lines, and `ahead`
};

struct gemm_tile {
    size_t rows, columns, k;
    const void *a; ///< packed panel [k, mr]
    const void *b; ///< packed panel [k, nr]
    const float *addend, *residual, *bias;
    void *c, *activation;
    const void *before_gelu;
    dmae_type c_type, activation_type, before_gelu_type;
    size_t ld_addend, ld_residual, ldc, ld_activation, ld_before_gelu;
    const void
        *b_source; ///< if not NULL, the tile, which is whole, fills the panel of B from here as pack_b does across
    dmae_type b_source_type;
    size_t ld_b_source;
    bool stream_c;  ///< a tile without an epilogue may write C past the caches; the caller orders its stores
    bool streams_a; ///< the next tile has the same panel of B; otherwise, of A
    struct gemm_lines
        ahead; ///< a share of what is needed some tiles later: a tile may fetch it into the second-level cache
};

struct gemm_kernels {
    size_t mr, nr;
    size_t k_unit, value_bytes; ///< neighbours in k that stand together in a panel, and bytes of one value
    size_t k_block;      ///< k is cut into equal blocks of at most this, unless partial sums have no place to rest
    size_t run_a, run_b; ///< panels of A, or of B, that a thread packs for itself at a time
    size_t run_bytes; ///< and no more of them than this, if it is not zero; or half of it beside a shared operand that
                      ///< fits into the other half
    size_t round_a;   ///< panels of a shared A that meet one panel of such a run before the next panel does
    size_t round_b_bytes; ///< as many of a shared B: the next tile's part of C then lies in memory behind this one's;
                          ///< or one
    /// Packs `count` rows (or columns), each `k` long, into as many panels as they take. Element (i, p) is at
    /// source[i·ld + p], or at source[p·ld + i] when `across`.
    void (*pack_a)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, void *panels);
    void (*pack_b)(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, void *panels);
    void (*tile)(const struct gemm_tile *tile);
    /// Where there are: each thread calls them before its first tile and after its last. In between a tile may be
    /// finished late, but not after the next one's sums; `end` finishes what is left.
    void (*begin)(void), (*end)(void);
    size_t narrow; ///< up to this width of the shared operand an own panel meets few tiles and packing it is much of
                   ///< the work: tiles fetch what is packed next; beyond, that slows them down by more than it saves
    size_t many_shared;  ///< shared panels from which on the last own ones of a thread's share are cut into parts
                         ///< however many it has; or 0
    bool is_emulated;    ///< operands are multiplied in a wider type than the precision they are rounded to
    bool packs_in_tiles; ///< a panel of B that lies across may come to its first tile unpacked; `b` is then written
    bool fetches_across; ///< where k runs down the rows of memory, too: lines that lie a row apart, one of each row
    bool keeps_shared;   ///< the shared operand is packed into the caches, not past them
    bool fetches_shared; ///< tiles fetch the shared panels after these; no need where the loop over k fetches what
                         ///< follows in memory, or takes so long for a step that lines under way only keep its own
                         ///< loads waiting
    bool plain_b; ///< a B that comes packed is float32 rows along k, packed for each product: panels would take more
                  ///< memory
    size_t head_bytes; ///< in front of a panel, for each of its rows or columns
};

// A run, and a round of a shared A, is to stay in the second-level cache while a panel of the other operand goes by. A
// small tile multiplies each value by few others, so it takes long runs; a tile of 14×32 is content with a few panels.
// A round whose successor is fetched meanwhile is short: both are to fit.

/// The largest k_block of any variant that cuts k, a multiple of every k_unit.
enum { gemm_most_k_block = 2048 };
#endif
