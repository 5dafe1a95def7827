#include "gemm/tasks.h"
#include "cpu/threads.h"

struct gemm_tasks gemm_cut_tasks(size_t private_panels, size_t shared_panels, size_t max_chunk, bool always_splits,
                                 size_t threads) {
    // If transposed narrow panels were packed one at a time, each would read a part of every cache line.
    enum { groups_per_chunk = 4 };
    // Each part of a group packs the group anew. So groups are split only where a queue has few of them, or where a
    // group meets so many shared panels that the other threads would wait long for the last one.
    enum { min_part_panels = 4, max_parts = 8, enough_groups = 8 };
    struct gemm_tasks t = {.private_panels = private_panels, .shared_panels = shared_panels, .queues = threads};
    t.group_panels = dmae_ceiling(max_chunk, groups_per_chunk);
    t.groups = dmae_ceiling(private_panels, t.group_panels);
    t.max_queue_groups = dmae_ceiling(t.groups, threads);
    const size_t chunk_groups = max_chunk / t.group_panels;
    t.large_groups = threads == 1 ? chunk_groups : dmae_min(chunk_groups, t.max_queue_groups / 4);
    if (t.large_groups == 0) t.large_groups = 1;
    t.part_panels = dmae_ceiling(shared_panels, max_parts);
    if (t.part_panels < min_part_panels) t.part_panels = min_part_panels;
    t.parts = dmae_ceiling(shared_panels, t.part_panels);
    // A single thread has nobody to wait for.
    const size_t split = t.groups < enough_groups * threads ? 2 : always_splits ? 1 : 0;
    t.split_groups = threads == 1 ? 0 : dmae_min(t.max_queue_groups, split);
    const size_t single = threads == 1 ? 0 : dmae_min(t.max_queue_groups - t.split_groups, 2);
    t.large_tasks = (t.max_queue_groups - t.split_groups - single) / t.large_groups;
    return t;
}

/// Groups of a queue that are tasks of their own.
static size_t single_groups(const struct gemm_tasks *t) {
    return t->max_queue_groups - t->large_tasks * t->large_groups - t->split_groups;
}

size_t gemm_tasks_per_queue(const struct gemm_tasks *t) {
    return t->large_tasks + single_groups(t) + t->split_groups * t->parts;
}

size_t gemm_task_count(const struct gemm_tasks *t) { return t->queues * gemm_tasks_per_queue(t); }

struct gemm_task gemm_task_at(const struct gemm_tasks *t, size_t index) {
    const size_t per_queue = gemm_tasks_per_queue(t), queue = index / per_queue, i = index % per_queue,
                 unsplit = per_queue - t->split_groups * t->parts;
    size_t group = i * t->large_groups, groups = 1, shared_begin = 0, shared_end = t->shared_panels;
    if (i < t->large_tasks) {
        groups = t->large_groups;
    } else if (i < unsplit) {
        group = t->large_tasks * t->large_groups + (i - t->large_tasks);
    } else {
        group = t->max_queue_groups - t->split_groups + (i - unsplit) / t->parts;
        shared_begin = (i - unsplit) % t->parts * t->part_panels;
        shared_end = dmae_min(shared_begin + t->part_panels, t->shared_panels);
    }
    // A queue with one group less omits its first, so that every queue ends with small tasks.
    const size_t first = queue * t->groups / t->queues, last = (queue + 1) * t->groups / t->queues;
    const size_t omitted = t->max_queue_groups - (last - first);
    const size_t begin = first + group - dmae_min(group, omitted), end = first + group + groups - omitted;
    return (struct gemm_task){dmae_min(begin * t->group_panels, t->private_panels),
                              dmae_min(end * t->group_panels, t->private_panels), shared_begin, shared_end};
}

struct gemm_task gemm_task_after(const struct gemm_tasks *t, size_t index, size_t thread) {
    const size_t per_queue = gemm_tasks_per_queue(t), queue = index / per_queue, next = index + 1;
    return queue == thread && next / per_queue == queue ? gemm_task_at(t, next) : (struct gemm_task){0};
}
