// What every driver needs to split its work.
#ifndef DMAE_THREADS_H
#define DMAE_THREADS_H

#include "dmae_kernels.h"

#include <omp.h>

/// Threads worth waking for `tasks` tasks; at least 1.
static inline int dmae_threads_for(size_t tasks) {
    const int threads = dmae_threads();
    return tasks < (size_t)threads ? (tasks == 0 ? 1 : (int)tasks) : threads;
}
static inline size_t dmae_ceiling(size_t count, size_t unit) { return count / unit + (count % unit != 0); }
static inline size_t dmae_round_up(size_t count, size_t unit) { return dmae_ceiling(count, unit) * unit; }
static inline size_t dmae_least(size_t a, size_t b) { return a < b ? a : b; }

#endif
