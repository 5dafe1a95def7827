#define _GNU_SOURCE
#include "allocation_counter.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static atomic_bool armed;
static atomic_size_t allocations;
enum { depth = 24 };
static void *first[depth];
static size_t first_depth;

// glibc's backtrace() allocates when it is first used; frame pointers are there in Swift code and need nothing.
static __attribute__((noinline)) void remember(void) {
    void **frame = __builtin_frame_address(0);
    void **const start = frame;
    size_t count = 0;
    while (count < depth && frame != NULL && frame[1] != NULL) {
        first[count++] = frame[1];
        void **const next = frame[0];
        // Frames lie at rising addresses, not far apart; anything else is not a frame.
        if (next <= frame || next > start + (1 << 16)) break;
        frame = next;
    }
    first_depth = count;
}

static inline void count(void) {
    if (atomic_load_explicit(&armed, memory_order_relaxed) && atomic_fetch_add(&allocations, 1) == 0) remember();
}

// AddressSanitizer has functions of its own; allocations are not counted beside it.
#if !__has_feature(address_sanitizer)
void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *calloc(size_t elements, size_t size) {
    count();
    return __libc_calloc(elements, size);
}

void *realloc(void *memory, size_t size) {
    count();
    return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0) return EINVAL;
    count();
    void *const result = __libc_memalign(alignment, size);
    if (result == NULL) return ENOMEM;
    *memory = result;
    return 0;
}

#endif

void allocation_counter_arm(void) {
    first_depth = 0;
    atomic_store(&allocations, 0);
    atomic_store(&armed, true);
}

size_t allocation_counter_disarm(void) {
    atomic_store(&armed, false);
    return atomic_load(&allocations);
}

size_t allocation_counter_depth(void) { return first_depth; }

const char *allocation_counter_caller(size_t level) {
    Dl_info information;
    const bool known = level < first_depth && dladdr(first[level], &information) != 0 && information.dli_sname != NULL;
    return known ? information.dli_sname : "?";
}
