// What every driver needs to split its work.
#ifndef DMAE_THREADS_H
#define DMAE_THREADS_H

#include "dmae_kernels.h"

#include <omp.h>

/// Threads for `tasks` tasks: one, or all of them. A team that grows and shrinks from region to region is rebuilt, and memory
/// allocated for it, each time; threads without a task only pass by.
static inline int dmae_threads_for(size_t tasks) { return tasks > 1 ? dmae_threads() : 1; }
static inline size_t dmae_ceiling(size_t count, size_t unit) { return count / unit + (count % unit != 0); }
static inline size_t dmae_round_up(size_t count, size_t unit) { return dmae_ceiling(count, unit) * unit; }
static inline size_t dmae_least(size_t a, size_t b) { return a < b ? a : b; }

/// Runs the statement for i = 0 … count - 1 in parallel, `unit` of them at a time.
///
/// Nothing is allocated: OpenMP's runtime takes a buffer for a region of one thread, so there is none then; and a lock per thread
/// for a dynamic schedule that may be stolen from, so this one is monotonic.
#define DMAE_PARALLEL_FOR(i, count, unit, ...)                                                                \
    do {                                                                                                      \
        const size_t count_ = (count), unit_ = (unit);                                                        \
        const int threads_ = dmae_threads_for(dmae_ceiling(count_, unit_));                                   \
        if (threads_ == 1) {                                                                                  \
            for (size_t i = 0; i < count_; ++i) __VA_ARGS__                                                   \
        } else {                                                                                              \
            _Pragma("omp parallel for num_threads(threads_) schedule(monotonic : dynamic, unit_)")            \
            for (size_t i = 0; i < count_; ++i) __VA_ARGS__                                                   \
        }                                                                                                     \
    } while (0)

#endif
