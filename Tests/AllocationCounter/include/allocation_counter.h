// Counts what this process allocates: the program's malloc and its kin are replaced by ones that count while armed and
// then do what the C library's do. Every library of the process uses them too, the Swift and OpenMP runtimes included.
#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H

#include <stddef.h>

/// Starts counting at zero.
void allocation_counter_arm(void);
/// Stops counting and gives the number of allocations, by all threads, since it was armed.
size_t allocation_counter_disarm(void);
/// How many callers of the first allocation counted are known.
size_t allocation_counter_depth(void);
/// The symbol of such a caller, 0 being the innermost; "?" where it has none.
const char *allocation_counter_caller(size_t level);

#endif
