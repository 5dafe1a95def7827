// How a driver reaches its kernels: `KERNELS(gemm_f32)->tile(...)`.
//
// Every file of kernels defines `KERNEL(part)` as its own name and the part's, gemm_f32_avx512_14x32_tile, and every
// function that the compiler may not inline is defined through it: a profile, a debugger and a sanitizer then name the
// kernel. VariantTests hold the binary to it.
#ifndef DMAE_VARIANTS_H
#define DMAE_VARIANTS_H

#include "dmae_kernels.h"

enum dmae_operation {
#define OPERATION(operation) dmae_operation_##operation,
#include "variants.inc"
    dmae_operation_count
};

// Operations that differ in their operands' type have kernels of one shape.
#define gemm_f32_kernels gemm_kernels
#define gemm_bf16_kernels gemm_kernels
#define gemm_int8_kernels gemm_kernels
#define attention_f32_kernels attention_kernels
#define attention_bf16_kernels attention_kernels
#define peak_f32_kernels peak_kernels
#define peak_bf16_kernels peak_kernels
#define peak_int8_kernels peak_kernels

#define VARIANT(operation, isa, tile) extern const struct operation##_kernels operation##_##isa##tile;
#include "variants.inc"

/// The kernels of the last row of the operation that the selected instruction set includes.
const void *dmae_selected_kernels(enum dmae_operation operation);

#define KERNELS(operation) ((const struct operation##_kernels *)dmae_selected_kernels(dmae_operation_##operation))

#endif
