// What every driver needs to split its work.
#ifndef DMAE_THREADS_H
#define DMAE_THREADS_H

#include "dmae_kernels.h"

#include <assert.h>
#include <omp.h>
#include <stdatomic.h>

/// Threads for `tasks` tasks: one, or all of them. OpenMP rebuilds a team whose size changes, and allocates memory for
/// it; a thread without a task costs little.
static inline int dmae_threads_for(size_t tasks) { return tasks > 1 ? dmae_threads() : 1; }
static inline size_t dmae_ceiling(size_t count, size_t unit) { return count / unit + (count % unit != 0); }
static inline size_t dmae_round_up(size_t count, size_t unit) { return dmae_ceiling(count, unit) * unit; }
static inline size_t dmae_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t dmae_max(size_t a, size_t b) { return a > b ? a : b; }

/// A thread's queue, a range of task numbers: the first task not yet taken in the lower half, the end of the range in
/// the upper half. Each queue has a cache line of its own, since moving a line between cores that share no cache takes
/// a third of a microsecond.
struct dmae_queue {
    _Alignas(64) _Atomic uint64_t left;
};

/// Gives each thread a range of adjacent tasks; ranges differ by at most one task.
static inline void dmae_deal(struct dmae_queue *queues, size_t threads, size_t tasks) {
    assert(tasks <= UINT32_MAX);
    for (size_t t = 0; t < threads; ++t)
        atomic_store_explicit(&queues[t].left, (uint64_t)(tasks * (t + 1) / threads) << 32 | tasks * t / threads,
                              memory_order_relaxed);
}

/// The thread's next task: the first of its own queue, or, if that is empty, the last of another thread's queue (work
/// stealing). False if all queues are empty.
static inline bool dmae_take(struct dmae_queue *queues, size_t threads, size_t thread, size_t *task) {
    for (size_t tried = 0; tried < threads; ++tried) {
        const size_t at = (thread + tried) % threads;
        uint64_t left = atomic_load_explicit(&queues[at].left, memory_order_relaxed);
        while ((uint32_t)left < left >> 32) {
            const uint64_t after = tried == 0 ? left + 1 : left - ((uint64_t)1 << 32);
            if (!atomic_compare_exchange_weak_explicit(&queues[at].left, &left, after, memory_order_relaxed,
                                                       memory_order_relaxed))
                continue;
            *task = tried == 0 ? (uint32_t)left : (size_t)(after >> 32);
            return true;
        }
    }
    return false;
}

/// Runs the statement for i = 0 … count - 1 in parallel, in tasks of `unit` iterations; there are fewer than 2^32
/// tasks.
///
/// Loops with the same number of tasks give a thread the same range, unless another thread steals from it: what a
/// thread wrote in one loop is mostly still in its caches in the next. Nothing is allocated. OpenMP's runtime would
/// allocate a buffer for a region of one thread, so one thread runs without a region, and a lock per thread for its own
/// stealing schedule (nonmonotonic : dynamic), so the schedule is ours.
#define DMAE_PARALLEL_FOR(i, count, unit, ...)                                                                      \
    do {                                                                                                            \
        const size_t count_ = (count), unit_ = (unit), tasks_ = dmae_ceiling(count_, unit_);                        \
        const int threads_ = dmae_threads_for(tasks_);                                                              \
        if (threads_ == 1) {                                                                                        \
            for (size_t i = 0; i < count_; ++i) __VA_ARGS__                                                         \
        } else {                                                                                                    \
            struct dmae_queue queues_[threads_];                                                                    \
            dmae_deal(queues_, (size_t)threads_, tasks_);                                                           \
            _Pragma("omp parallel num_threads(threads_)") for (size_t task_; dmae_take(                             \
                                                                   queues_, (size_t)threads_,                       \
                                                                   (size_t)omp_get_thread_num(),                    \
                                                                   &task_);) for (size_t i = task_ * unit_;         \
                                                                                  i < dmae_min((task_ + 1) * unit_, \
                                                                                               count_);             \
                                                                                  ++i) __VA_ARGS__                  \
        }                                                                                                           \
    } while (0)

#endif
