// What KernelTests need of CKernels' internal headers.
#ifndef KERNEL_INTERNALS_H
#define KERNEL_INTERNALS_H

#include "dmae_kernels.h"

/// A task of a product: private panels [begin, end) meet shared panels [shared_begin, shared_end).
typedef struct {
    size_t begin, end, shared_begin, shared_end;
} internals_task;

/// Panels of both operands, and how they are cut.
typedef struct {
    size_t private_panels, shared_panels, queues, tasks_per_queue;
    size_t mr, nr;    ///< of the selected variant, if a variant was asked
    bool shared_is_a; ///< likewise
    size_t max_chunk; ///< likewise: private panels of the largest task
} internals_plan;

/// The tasks of a cut into `threads` queues, as gemm/tasks.h makes them. Writes at most `capacity` of them.
internals_plan internals_cut(size_t private_panels, size_t shared_panels, size_t max_chunk, bool always_splits,
                             size_t threads, internals_task *tasks, size_t capacity);
/// The tasks that the driver makes of a product with the selected variant.
internals_plan internals_product(const dmae_gemm_arguments *arguments, size_t threads, internals_task *tasks,
                                 size_t capacity);

/// Deals `tasks` tasks to the queues of `threads` threads and lets the threads take one each in the given order, a
/// thread that is named again going on. Writes the tasks taken, in that order, and returns their number.
size_t internals_take(size_t threads, size_t tasks, const uint8_t *order, size_t count, size_t *taken);
#endif
