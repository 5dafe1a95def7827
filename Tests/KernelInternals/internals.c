#include "KernelInternals.h"
#include "cpu/threads.h"
#include "gemm/plan.h"

static size_t enumerate(const struct gemm_tasks *cut, internals_task *tasks, size_t capacity) {
    const size_t count = gemm_task_count(cut);
    for (size_t i = 0; i < count && i < capacity; ++i) {
        const struct gemm_task task = gemm_task_at(cut, i);
        tasks[i] = (internals_task){task.begin, task.end, task.shared_begin, task.shared_end};
    }
    return gemm_tasks_per_queue(cut);
}

internals_plan internals_cut(size_t private_panels, size_t shared_panels, size_t max_chunk, bool always_splits,
                             size_t threads, internals_task *tasks, size_t capacity) {
    const struct gemm_tasks cut = gemm_cut_tasks(private_panels, shared_panels, max_chunk, always_splits, threads);
    return (internals_plan){.private_panels = private_panels,
                            .shared_panels = shared_panels,
                            .queues = threads,
                            .tasks_per_queue = enumerate(&cut, tasks, capacity)};
}

internals_plan internals_product(const dmae_gemm_arguments *arguments, size_t threads, internals_task *tasks,
                                 size_t capacity) {
    const struct gemm_plan plan = gemm_plan_product(arguments, threads);
    const struct gemm_kernels *const kernels = plan.kernels;
    return (internals_plan){.private_panels = plan.private_panels,
                            .shared_panels = plan.shared_panels,
                            .queues = threads,
                            .tasks_per_queue = enumerate(&plan.tasks, tasks, capacity),
                            .mr = kernels->mr,
                            .nr = kernels->nr,
                            .shared_is_a = plan.shared_is_a,
                            .max_chunk = plan.shared_is_a ? kernels->max_chunk_b : kernels->max_chunk_a};
}

size_t internals_take(size_t threads, size_t tasks, const uint8_t *order, size_t count, size_t *taken) {
    struct dmae_queue queues[threads];
    dmae_deal(queues, threads, tasks);
    size_t done = 0;
    for (size_t i = 0; i < count && dmae_take(queues, threads, order[i], &taken[done]); ++i) ++done;
    return done;
}
