// Loads of an operand for packing, on the operations of vector_*.h.
#ifndef DMAE_OPERAND_H
#define DMAE_OPERAND_H
#include "gemm/gemm.h"

// How an operand is rounded as it is packed. The including file may define it.
#ifndef OPERAND
#define OPERAND(x) (x)
#endif

/// Elements of an operand from `index` on; `type` is a constant wherever this is inlined. bf16 needs no rounding.
VECTOR_INLINE V operand(const dmae_type type, const void *source, size_t index) {
    return type == DMAE_TYPE_BF16 ? v_load_bf16((const uint16_t *)source + index)
                                  : OPERAND(v_load((const float *)source + index));
}
VECTOR_INLINE V operand_masked(const dmae_type type, M mask, const void *source, size_t index) {
    return type == DMAE_TYPE_BF16 ? v_load_bf16_masked(mask, (const uint16_t *)source + index)
                                  : OPERAND(v_load_masked(mask, (const float *)source + index));
}

/// Prefetches all lines of `count` elements from `index` on. Rows of a transposed operand are pages apart, where the
/// hardware does not prefetch.
VECTOR_INLINE void prefetch_row(const dmae_type type, size_t count, const void *source, size_t index) {
    const size_t size = dmae_type_bytes(type);
    const char *const first = (const char *)source + index * size;
    for (size_t i = 0; i < count * size; i += 64) v_prefetch_l2(first + i);
    v_prefetch_l2(first + count * size - 1);
}

/// In a tile that packs its panel of B, packing runs PACKED_AHEAD steps of k ahead of the multiply, so the stores have
/// reached the first-level cache; source rows are prefetched PREFETCHED_AHEAD steps ahead of packing.
enum { PACKED_AHEAD = 8, PREFETCHED_AHEAD = 24 };
#endif
