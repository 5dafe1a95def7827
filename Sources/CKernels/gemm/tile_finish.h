// The epilogue of a tile whose accumulators are in memory, on the operations of vector_*.h. The including file defines
// NR.
#ifndef DMAE_TILE_FINISH_H
#define DMAE_TILE_FINISH_H
#include "gelu/gelu_f32_vector.h"
#include "gemm/prefetching.h"

VECTOR_INLINE void store_as(dmae_type type, bool masked, M mask, void *matrix, size_t index, V value) {
    if (type == DMAE_TYPE_BF16) {
        uint16_t *const at = (uint16_t *)matrix + index;
        if (masked) v_store_bf16_masked(mask, at, value);
        else v_store_bf16(at, value);
    } else {
        float *const at = (float *)matrix + index;
        if (masked) v_store_masked(mask, at, value);
        else v_store(at, value);
    }
}

enum gelu { gelu_none, gelu_forward, gelu_backward };

/// Finishes row `i` of a tile; `value`: its accumulators. Constants wherever this is inlined: `gelu`; `adds`: addend,
/// residual, bias and factor are still to be applied; `whole`: all NR columns exist; `type`: of all matrices, or NULL
/// if each has its own.
VECTOR_INLINE void finish_row(const enum gelu gelu, const bool adds, const bool whole, const dmae_type *type,
                              const struct gemm_tile *t, size_t i, const float *value) {
    const dmae_type c_type = type ? *type : t->c_type, activation_type = type ? *type : t->activation_type;
    const dmae_type before_type = type ? *type : t->before_gelu_type;
    for (size_t j = 0; j < NR && (whole || j < t->columns); j += LANES) {
        const bool masked = !whole && t->columns - j < LANES;
        const M mask = v_mask(masked ? t->columns - j : LANES);
#define LOAD(pointer) (masked ? v_load_masked(mask, (pointer) + j) : v_load((pointer) + j))
        V sum = v_load(value + j);
        const bool has_factor = adds && t->row_factor;
        if (has_factor) {
            if (t->bias) sum = v_add(sum, LOAD(t->bias));
            sum = v_multiply(sum, v_set(gemm_row_factor(t, i)));
        }
        if (adds && t->addend) sum = v_add(sum, LOAD(t->addend + i * t->ld_addend));
        if (adds && t->residual) sum = v_add(sum, LOAD(t->residual + i * t->ld_residual));
        if (adds && t->bias && !has_factor) sum = v_add(sum, LOAD(t->bias));
#undef LOAD
        V x = sum;
        if (gelu == gelu_backward) {
            const size_t at = i * t->ld_before_gelu + j;
            const void *const before = (const char *)t->before_gelu + at * dmae_type_bytes(before_type);
            if (before_type == DMAE_TYPE_BF16) x = masked ? v_load_bf16_masked(mask, before) : v_load_bf16(before);
            else x = masked ? v_load_masked(mask, before) : v_load(before);
            sum = v_multiply(sum, gelu_f32_derivative(x));
        } else if (gelu == gelu_forward && c_type == DMAE_TYPE_BF16) {
            x = v_round_to_bf16(sum);
        }
        if (t->c) store_as(c_type, masked, mask, t->c, i * t->ldc + j, sum);
        if (gelu != gelu_none && t->activation)
            store_as(activation_type, masked, mask, t->activation, i * t->ld_activation + j, gelu_f32(x));
    }
}
#endif
