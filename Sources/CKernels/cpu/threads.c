// The number of threads, where they may run, what memory they take, and a parallel loop for Swift.
#define _GNU_SOURCE
#include "cpu/threads.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#ifndef _OPENMP
#error "OpenMP is off: compile with -fopenmp"
#endif

static int thread_count = 0;

// A cpu_set_t has room for 1024 processors, and the kernel refuses a mask with less room than it has processors.
static cpu_set_t processors[8];
static bool knows_processors;

// With OMP_PROC_BIND, OpenMP binds the first thread to one processor at the first call of its runtime. Before that the
// affinity mask is complete.
__attribute__((constructor)) static void keep_processors(void) {
    knows_processors = sched_getaffinity(0, sizeof processors, processors) == 0;
}

void dmae_unbind_thread(void) {
    if (knows_processors) sched_setaffinity(0, sizeof processors, processors);
}

int dmae_processor_list(int *list, int most) {
    int count = 0;
    const int all = (int)(sizeof processors * 8);
    for (int each = 0; knows_processors && each < all && count < most; ++each)
        if (CPU_ISSET_S((size_t)each, sizeof processors, processors)) list[count++] = each;
    return count;
}

int dmae_use_processors(const int *list, int count) {
    cpu_set_t chosen[8];
    CPU_ZERO_S(sizeof chosen, chosen);
    for (int each = 0; each < count; ++each) CPU_SET_S((size_t)list[each], sizeof chosen, chosen);
    if (sched_setaffinity(0, sizeof chosen, chosen) != 0) return -1;
    keep_processors();
    return 0;
}

int dmae_processors(void) { return knows_processors ? CPU_COUNT_S(sizeof processors, processors) : 0; }

void dmae_set_threads(int count) { thread_count = count < 1 ? 1 : count; }
int dmae_threads(void) { return thread_count > 0 ? thread_count : (thread_count = omp_get_num_procs()); }

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static void *wait_for_release(void *nothing) {
    pthread_mutex_lock(&held);
    pthread_mutex_unlock(&held);
    return nothing;
}

// OpenMP asks for 128 bytes more for each thread than for the one before. The C library keeps the stacks of threads
// that have ended, so OpenMP's threads get those of the threads tried here if these are large enough.
size_t dmae_stack_bytes(void) { return ((size_t)8 << 20) + ((size_t)1 << 19); }

int dmae_threads_startable(int count, size_t bytes) {
    enum { max_others = 4096 };
    static pthread_t started[max_others];
    int others = 0;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return 1;
    pthread_attr_setstacksize(&attributes, dmae_stack_bytes());
    pthread_mutex_lock(&held);
    while (others + 1 < count && others < max_others &&
           pthread_create(&started[others], &attributes, wait_for_release, NULL) == 0)
        ++others;
    void *const room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    pthread_mutex_unlock(&held);
    for (int i = 0; i < others; ++i) pthread_join(started[i], NULL);
    pthread_attr_destroy(&attributes);
    if (room == MAP_FAILED) return others;
    munmap(room, bytes);
    return others + 1;
}

void dmae_bound_arenas(int count) { mallopt(M_ARENA_MAX, count); }

void dmae_return_blocks(int bytes) { mallopt(M_MMAP_THRESHOLD, bytes); }

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
