// The number of threads, and a parallel loop for Swift.
#include "cpu/threads.h"

#ifndef _OPENMP
#error "OpenMP is off: compile with -fopenmp"
#endif

static int thread_count = 0;

void dmae_set_threads(int count) { thread_count = count < 1 ? 1 : count; }
int dmae_threads(void) { return thread_count > 0 ? thread_count : (thread_count = omp_get_num_procs()); }
int dmae_openmp_version(void) { return _OPENMP; }

int dmae_threads_observed(void) {
    int observed = 0;
#pragma omp parallel num_threads(dmae_threads()) reduction(+ : observed)
    observed += 1;
    return observed;
}

void dmae_parallel_for(size_t count, size_t chunk, void *context, void (*body)(void *context, size_t begin, size_t end)) {
    if (chunk == 0) chunk = 1;
    const size_t chunks = dmae_ceiling(count, chunk);
    DMAE_PARALLEL_FOR(i, chunks, 1, {
        const size_t begin = i * chunk;
        body(context, begin, count - begin < chunk ? count : begin + chunk);
    });
}
