#define _GNU_SOURCE
#include "dmae_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// Takes the pages in turn from all NUMA nodes: processes on each of them will read. Otherwise all would come from that of
// the process that makes them. Where the system does not let it, they do.
static void spread(int file, size_t bytes) {
    unsigned long nodes[64] = {0};
    const unsigned long most = 8 * sizeof nodes;
    void *const start = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
    if (start == MAP_FAILED) return;
    // The rule stays with the memory, not with this mapping.
    if (syscall(SYS_get_mempolicy, NULL, nodes, most, NULL, MPOL_F_MEMS_ALLOWED) == 0)
        (void)syscall(SYS_mbind, start, bytes, MPOL_INTERLEAVE, nodes, most, 0);
    munmap(start, bytes);
}

int dmae_memory_create(size_t bytes) {
    const int file = memfd_create("dmae", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file < 0) return -errno;
    spread(file, bytes);
    int error;
    // All pages now: one that is not to be had later would end the process that writes it.
    do error = posix_fallocate(file, 0, (off_t)bytes);
    while (error == EINTR);
    if (error == 0 && fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) error = errno;
    if (error == 0) return file;
    close(file);
    return -error;
}
