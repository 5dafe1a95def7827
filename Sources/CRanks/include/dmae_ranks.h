/// The processes of one run: messages between them, without waiting.
///
/// The ordinary binary has ranks.c, in which a process is alone. `make mpi` links mpi.c in its place: the processes
/// that mpiexec or srun has started, over MPI. Only the thread that calls dmae_ranks_start may call the other
/// functions.
#ifndef DMAE_RANKS_H
#define DMAE_RANKS_H

#include <stddef.h>

/// The name of the MPI library with its version; NULL in the ordinary binary.
const char *dmae_ranks_library(void);

/// Joins the processes that were started together. Without a launcher, and in the ordinary binary, the process is
/// alone. Returns 0, or an error of MPI.
int dmae_ranks_start(void);

/// The number of this process, from 0, and the number of all.
int dmae_ranks_rank(void);
int dmae_ranks_count(void);

/// The same among the processes of this machine.
int dmae_ranks_local_rank(void);
int dmae_ranks_local_count(void);

/// The number, among all, of the first process of this machine.
int dmae_ranks_local_first(void);

/// Starts to send bytes to a process, or to receive exactly as many from it. Messages from one process to another with
/// one tag arrive in order. The bytes must stay until the message is done. Returns the number of the message, or -1.
int dmae_ranks_send(const void *bytes, size_t count, int peer, int tag);
int dmae_ranks_receive(void *bytes, size_t count, int peer, int tag);

/// Whether a message is done: 1 and its number is free again, 0 if it is not, -1 if it has failed.
int dmae_ranks_test(int message);

/// Leaves the others, who do the same: waits for them for so many seconds. Where MPI does not let the process go, it
/// ends with the exit code.
void dmae_ranks_leave(int code, int seconds);

/// Ends this process and all others at once, with the exit code.
_Noreturn void dmae_ranks_abort(int code);

#endif
