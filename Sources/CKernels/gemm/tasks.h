// How a product is cut into tasks. Nothing here knows matrices: only numbers of micro-panels and threads.
#ifndef DMAE_GEMM_TASKS_H
#define DMAE_GEMM_TASKS_H

#include <stdbool.h>
#include <stddef.h>

/// A chunk of adjacent private panels, and the shared panels that they are multiplied by.
struct gemm_task {
    size_t begin, end; ///< private panels; an empty task has none
    size_t shared_begin, shared_end;
};

/// The queues of tasks, one for each thread. A queue is a range of adjacent groups of private panels:
///   | large task | large task | … | group | group | split group |
/// Tasks shrink towards the end of a queue, where idle threads steal, so the wait at the final barrier is short. Every
/// queue has the same number of tasks; task `i` of queue `q` has index q · tasks_per_queue + i.
struct gemm_tasks {
    size_t private_panels, shared_panels;
    size_t group_panels;              ///< private panels of a group; the last group may have fewer
    size_t groups;                    ///< of all queues
    size_t queues, max_queue_groups;  ///< queues differ by at most one group
    size_t large_tasks, large_groups; ///< large tasks of a queue, and groups of each; with all shared panels
    size_t split_groups;              ///< last groups of a queue that are split along the shared panels,
    size_t parts, part_panels;        ///< into so many tasks of at most so many shared panels
};

/// `max_chunk`: private panels that a thread packs at a time. `always_splits`: split the last groups of a queue however
/// many groups it has.
struct gemm_tasks gemm_cut_tasks(size_t private_panels, size_t shared_panels, size_t max_chunk, bool always_splits,
                                 size_t threads);
size_t gemm_tasks_per_queue(const struct gemm_tasks *tasks);
size_t gemm_task_count(const struct gemm_tasks *tasks);
struct gemm_task gemm_task_at(const struct gemm_tasks *tasks, size_t index);
/// The task that `thread` will probably do after the task `index`: the next of its own queue. Empty at the end of the
/// queue, and after a stolen task.
struct gemm_task gemm_task_after(const struct gemm_tasks *tasks, size_t index, size_t thread);
#endif
