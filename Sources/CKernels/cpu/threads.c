// The number of threads, where they may run, and a parallel loop for Swift.
#define _GNU_SOURCE
#include "cpu/threads.h"

#include <pthread.h>
#include <sched.h>

#ifndef _OPENMP
#error "OpenMP is off: compile with -fopenmp"
#endif

static int thread_count = 0;

static cpu_set_t processors;
static bool knows_processors;

// With OMP_PROC_BIND, OpenMP binds the first thread to one processor at the first call of its runtime. Before that the
// affinity mask is complete.
__attribute__((constructor)) static void keep_processors(void) {
    knows_processors = sched_getaffinity(0, sizeof processors, &processors) == 0;
}

void dmae_unbind_thread(void) {
    if (knows_processors) sched_setaffinity(0, sizeof processors, &processors);
}

void dmae_set_threads(int count) { thread_count = count < 1 ? 1 : count; }
int dmae_threads(void) { return thread_count > 0 ? thread_count : (thread_count = omp_get_num_procs()); }

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static void *wait_for_release(void *nothing) {
    pthread_mutex_lock(&held);
    pthread_mutex_unlock(&held);
    return nothing;
}

int dmae_threads_startable(int count) {
    enum { max_others = 4096 };
    static pthread_t started[max_others];
    int others = 0;
    pthread_mutex_lock(&held);
    while (others + 1 < count && others < max_others &&
           pthread_create(&started[others], NULL, wait_for_release, NULL) == 0)
        ++others;
    pthread_mutex_unlock(&held);
    for (int i = 0; i < others; ++i) pthread_join(started[i], NULL);
    return others + 1;
}

int dmae_openmp_version(void) { return _OPENMP; }

int dmae_threads_observed(void) {
    int observed = 0;
#pragma omp parallel num_threads(dmae_threads()) reduction(+ : observed)
    observed += 1;
    return observed;
}

void dmae_parallel_for(size_t count, size_t chunk, void *context,
                       void (*body)(void *context, size_t begin, size_t end)) {
    if (chunk == 0) chunk = 1;
    const size_t chunks = dmae_ceiling(count, chunk);
    DMAE_PARALLEL_FOR(i, chunks, 1, {
        const size_t begin = i * chunk;
        body(context, begin, count - begin < chunk ? count : begin + chunk);
    });
}
