// Non-temporal stores for code that is compiled for every processor of the architecture.
#ifndef DMAE_STREAMING_H
#define DMAE_STREAMING_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/// Copies a multiple of 4 bytes with non-temporal stores. `dmae_stream_fence` must follow before another thread reads.
static inline void dmae_stream_copy(char *target, const char *source, size_t bytes) {
    typedef float vector __attribute__((vector_size(16)));
    typedef vector unaligned_vector __attribute__((aligned(4)));
    size_t i = 0;
    for (; i < bytes && (uintptr_t)(target + i) % sizeof(vector) != 0; i += 4) memcpy(target + i, source + i, 4);
    for (; i + sizeof(vector) <= bytes; i += sizeof(vector))
        __builtin_nontemporal_store((vector) * (const unaligned_vector *)(source + i), (vector *)(target + i));
    for (; i < bytes; i += 4) memcpy(target + i, source + i, 4);
}

/// Orders earlier non-temporal stores before later stores. On x86 a lock or a barrier orders ordinary stores only; on
/// other architectures a barrier orders both kinds.
static inline void dmae_stream_fence(void) {
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}
#endif
