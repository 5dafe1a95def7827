// What comes into the second-level cache while tiles are multiplied and panels packed, on the operations of vector_*.h.
#ifndef DMAE_FETCHING_H
#define DMAE_FETCHING_H
#include "gemm/gemm.h"

/// Adds the lines that a tile's rows of a matrix lie in.
VECTOR_INLINE void fetch_rows(struct gemm_fetched *fetched, const int ROWS, const int WIDTH, dmae_type type,
                              const void *matrix, size_t ld) {
    if (matrix == NULL) return;
    const size_t stride = ld * dmae_type_bytes(type), last = (size_t)(WIDTH * LANES) * dmae_type_bytes(type) - 1;
    fetched->lines[fetched->sets++] = (struct gemm_lines){matrix, stride, ROWS};
    if (stride % 64 == 0 && (uintptr_t)matrix % 64 + last < 64) return;
    fetched->lines[fetched->sets++] = (struct gemm_lines){(const char *)matrix + last, stride, ROWS};
}

// ROUND as many times as `rounds` says, each but the last ones with a line of `fetched`, which may be NULL: one at a
// time, as more of them would wait for one another.
#define FETCHING_ROUNDS(rounds, fetched, ROUND)                                                                  \
    do {                                                                                                         \
        size_t left = (rounds);                                                                                  \
        for (size_t set = 0; (fetched) && set < (fetched)->sets; ++set) {                                        \
            struct gemm_lines lines = (fetched)->lines[set];                                                     \
            _Pragma("clang loop unroll(disable)") for (; left != 0 && lines.count != 0; --left, --lines.count) { \
                v_prefetch_l2(lines.first);                                                                      \
                lines.first += lines.stride;                                                                     \
                ROUND                                                                                            \
            }                                                                                                    \
        }                                                                                                        \
        _Pragma("clang loop unroll(disable)") for (; left != 0; --left) { ROUND }                                \
    } while (0)
#endif
