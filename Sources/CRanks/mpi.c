#include "dmae_ranks.h"

#include <limits.h>
#include <mpi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rank, count = 1, local_rank, local_count = 1, local_first;
static int joined;
static MPI_Comm world;

// Messages under way. A free place holds MPI_REQUEST_NULL.
static MPI_Request *messages;
static int places, first_free;

const char *dmae_ranks_library(void) {
    static char name[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    if (name[0] == 0 && MPI_Get_library_version(name, &length) != MPI_SUCCESS) strcpy(name, "MPI");
    // The first line is name and version; others tell of the build.
    name[strcspn(name, "\n")] = 0;
    for (char *each = name; *each; each++)
        if (*each == '\t') *each = ' ';
    return name;
}

// Whether a launcher has started this process: each tells it in a variable of its own.
static int is_launched(void) {
    static const char *const variables[] = {"PMI_RANK", "PMI_FD", "PMI_PORT", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"};
    for (size_t each = 0; each < sizeof variables / sizeof *variables; each++)
        if (getenv(variables[each])) return 1;
    return 0;
}

int dmae_ranks_start(void) {
    if (!is_launched()) return 0;
    // UCX moves so many bytes at a time through a TCP connection; with its default of 8 KB short exchanges take a tenth
    // longer.
    setenv("UCX_TCP_TX_SEG_SIZE", "256k", 0);
    setenv("UCX_TCP_RX_SEG_SIZE", "256k", 0);
    // The library puts handlers of its own over ours, and calls ours from them.
    struct sigaction before[NSIG];
    for (int number = 1; number < NSIG; number++) sigaction(number, NULL, &before[number]);
    signal(SIGUSR1, SIG_DFL);
    int provided;
    int error = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    for (int number = 1; number < NSIG; number++) sigaction(number, &before[number], NULL);
    if (error != MPI_SUCCESS) return error;
    joined = 1;
    // A communicator of our own: its errors are returned.
    if ((error = MPI_Comm_dup(MPI_COMM_WORLD, &world)) != MPI_SUCCESS) return error;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
    MPI_Comm_rank(world, &rank);
    MPI_Comm_size(world, &count);
    MPI_Comm machine;
    if ((error = MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &machine)) != MPI_SUCCESS)
        return error;
    MPI_Comm_rank(machine, &local_rank);
    MPI_Comm_size(machine, &local_count);
    local_first = rank;
    if ((error = MPI_Bcast(&local_first, 1, MPI_INT, 0, machine)) != MPI_SUCCESS) return error;
    MPI_Comm_free(&machine);
    return 0;
}

int dmae_ranks_rank(void) { return rank; }

int dmae_ranks_count(void) { return count; }

int dmae_ranks_local_rank(void) { return local_rank; }

int dmae_ranks_local_count(void) { return local_count; }

int dmae_ranks_local_first(void) { return local_first; }

// The number of a free place; -1 without memory.
static int place(void) {
    for (int each = first_free; each < places; each++) {
        if (messages[each] == MPI_REQUEST_NULL) {
            first_free = each + 1;
            return each;
        }
    }
    const int more = places ? 2 * places : 256;
    MPI_Request *larger = realloc(messages, sizeof *messages * (size_t)more);
    if (!larger) return -1;
    for (int each = places; each < more; each++) larger[each] = MPI_REQUEST_NULL;
    messages = larger;
    first_free = places + 1;
    places = more;
    return first_free - 1;
}

// Counts of MPI are of 31 bits: floats, and what is as long as some of them, are counted in fours.
static MPI_Datatype unit(size_t count) { return count % 4 == 0 ? MPI_INT32_T : MPI_BYTE; }

static int units(size_t count) {
    const size_t number = count % 4 == 0 ? count / 4 : count;
    return number <= INT_MAX ? (int)number : -1;
}

int dmae_ranks_send(const void *bytes, size_t count, int peer, int tag) {
    const int message = place();
    if (message < 0 || units(count) < 0) return -1;
    return MPI_Isend(bytes, units(count), unit(count), peer, tag, world, &messages[message]) == MPI_SUCCESS ? message
                                                                                                            : -1;
}

int dmae_ranks_receive(void *bytes, size_t count, int peer, int tag) {
    const int message = place();
    if (message < 0 || units(count) < 0) return -1;
    return MPI_Irecv(bytes, units(count), unit(count), peer, tag, world, &messages[message]) == MPI_SUCCESS ? message
                                                                                                            : -1;
}

int dmae_ranks_test(int message) {
    int done = 0;
    if (MPI_Test(&messages[message], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return -1;
    if (!done) return 0;
    messages[message] = MPI_REQUEST_NULL;
    if (message < first_free) first_free = message;
    return 1;
}

static int code_at_alarm;

static void end_at_alarm(int number) {
    (void)number;
    _exit(code_at_alarm);
}

// The launcher's part of MPICH, which another MPI lacks.
__attribute__((weak)) int PMI_Barrier(void);
__attribute__((weak)) int PMI_Finalize(void);

void dmae_ranks_leave(int code, int seconds) {
    if (!joined) return;
    joined = 0;
    // A launcher ends all where one is gone before its time. Not all may come: nothing is left to lose by now.
    code_at_alarm = code;
    signal(SIGALRM, end_at_alarm);
    alarm((unsigned)seconds);
    if (PMI_Barrier && PMI_Finalize) {
        // What MPI_Finalize does last. Before, it closes connections, for which each needs answers of the others; one that
        // waits for the others already gives none, and in one of some hundred runs all wait for ever.
        PMI_Barrier();
        PMI_Finalize();
    } else {
        MPI_Finalize();
    }
    alarm(0);
}

_Noreturn void dmae_ranks_abort(int code) {
    if (joined) {
        // The launcher ends all at once, and what it has not read from this process by then is lost.
        sleep(1);
        MPI_Abort(MPI_COMM_WORLD, code);
    }
    _Exit(code);
}
