// Elements of an operand as it is packed, on the operations of vector_*.h.
#ifndef DMAE_OPERAND_H
#define DMAE_OPERAND_H
#include "gemm/gemm.h"

// What becomes of an operand as it is packed; the including file may round it.
#ifndef OPERAND
#define OPERAND(x) (x)
#endif

/// Elements from `index` on of an operand in memory; `type` is a constant wherever this is inlined. What is bf16 needs
/// no rounding.
VECTOR_INLINE V operand(const dmae_type type, const void *source, size_t index) {
    return type == DMAE_TYPE_BF16 ? v_load_bf16((const uint16_t *)source + index)
                                  : OPERAND(v_load((const float *)source + index));
}
VECTOR_INLINE V operand_masked(const dmae_type type, M mask, const void *source, size_t index) {
    return type == DMAE_TYPE_BF16 ? v_load_bf16_masked(mask, (const uint16_t *)source + index)
                                  : OPERAND(v_load_masked(mask, (const float *)source + index));
}

/// All lines of `count` elements from `index` on. Rows of an operand packed across lie pages apart, where the processor
/// foresees nothing.
VECTOR_INLINE void prefetch_row(const dmae_type type, size_t count, const void *source, size_t index) {
    const size_t size = dmae_type_bytes(type);
    const char *const first = (const char *)source + index * size;
    for (size_t i = 0; i < count * size; i += 64) v_prefetch_l2(first + i);
    v_prefetch_l2(first + count * size - 1);
}

/// A tile that packs its panel of B packs each step so many before it multiplies it, by when what was stored is in the
/// cache, and fetches the rows of so many further ones.
enum { PACKED_AHEAD = 8, FETCHED_AHEAD = 24 };
#endif
