#if defined(__x86_64__)
#include "peak/peak.h"
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,amx-tile,amx-bf16"
#include "cpu/vector_avx512.h"
#include "cpu/tiles.h"

// Products of 16×16 sums over 32 of k, in four chains.
static void run(size_t iterations) {
    tiles_begin();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (size_t round = 0; round < iterations; ++round) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
}

const struct peak_kernels peak_bf16_amx = {4 * 2 * 16 * 16 * 32, run};
#pragma clang attribute pop
#endif
