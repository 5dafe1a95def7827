// The reference's tile, from sums to memory.
#ifndef DMAE_GEMM_SCALAR_EPILOGUE_H
#define DMAE_GEMM_SCALAR_EPILOGUE_H
#include "cpu/scalar_bf16.h"
#include "gelu/gelu_f32_scalar.h"
#include "gemm/gemm.h"

enum { MR = 4, NR = 16 };

static void KERNEL(finish)(const struct gemm_tile *t, float sum[MR][NR]) {
    for (size_t i = 0; i < t->rows; ++i)
        for (size_t j = 0; j < t->columns; ++j) {
            float value = sum[i][j];
            if (t->row_factor) value = (t->bias ? value + t->bias[j] : value) * gemm_row_factor(t, i);
            if (t->addend) value += t->addend[i * t->ld_addend + j];
            if (t->residual) value += t->residual[i * t->ld_residual + j];
            if (t->bias && !t->row_factor) value += t->bias[j];
            float x = value;
            if (t->before_gelu) {
                x = element_at(t->before_gelu_type, t->before_gelu, i * t->ld_before_gelu + j);
                value *= gelu_f32_reference_derivative(x);
            } else if (t->c_type == DMAE_TYPE_BF16) {
                x = float_from_bf16(bf16_from_float(value));
            }
            if (t->c) set_element(t->c_type, t->c, i * t->ldc + j, value);
            if (t->activation)
                set_element(t->activation_type, t->activation, i * t->ld_activation + j, gelu_f32_reference(x));
        }
}
#endif
