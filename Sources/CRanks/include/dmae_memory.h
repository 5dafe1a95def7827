/// Memory without a name that other processes of this machine may map, too.
#ifndef DMAE_MEMORY_H
#define DMAE_MEMORY_H

#include <stddef.h>

/// Makes memory of that many bytes, which are reserved and cannot become fewer. It is gone with the last descriptor and
/// the last mapping of it, however their processes end. Returns its descriptor, or a negated errno.
int dmae_memory_create(size_t bytes);

#endif
