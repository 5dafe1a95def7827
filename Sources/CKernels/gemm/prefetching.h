// Prefetches into the second-level cache while a tile multiplies, on the operations of vector_*.h.
#ifndef DMAE_PREFETCHING_H
#define DMAE_PREFETCHING_H
#include "gemm/gemm.h"

/// Adds the cache lines of a tile's rows of a matrix.
VECTOR_INLINE void prefetch_rows(struct gemm_prefetches *prefetches, const int ROWS, const int WIDTH, dmae_type type,
                                 const void *matrix, size_t ld) {
    if (matrix == NULL) return;
    const size_t stride = ld * dmae_type_bytes(type), last = (size_t)(WIDTH * LANES) * dmae_type_bytes(type) - 1;
    prefetches->lines[prefetches->sets++] = (struct gemm_lines){matrix, stride, ROWS};
    if (stride % 64 == 0 && (uintptr_t)matrix % 64 + last < 64) return;
    prefetches->lines[prefetches->sets++] = (struct gemm_lines){(const char *)matrix + last, stride, ROWS};
}

// Runs ROUND `rounds` times, and before each one prefetches a line of `prefetches`, which may be NULL, while there are
// any. One at a time, since more loads at once would wait for one another.
#define PREFETCHING_ROUNDS(rounds, prefetches, ROUND)                                                            \
    do {                                                                                                         \
        size_t left = (rounds);                                                                                  \
        for (size_t set = 0; (prefetches) && set < (prefetches)->sets; ++set) {                                  \
            struct gemm_lines lines = (prefetches)->lines[set];                                                  \
            _Pragma("clang loop unroll(disable)") for (; left != 0 && lines.count != 0; --left, --lines.count) { \
                v_prefetch_l2(lines.first);                                                                      \
                lines.first += lines.stride;                                                                     \
                ROUND                                                                                            \
            }                                                                                                    \
        }                                                                                                        \
        _Pragma("clang loop unroll(disable)") for (; left != 0; --left) { ROUND }                                \
    } while (0)
#endif
