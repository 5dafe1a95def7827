#include "dmae_ranks.h"

#include <stdlib.h>

// A process that is alone sends nothing.

const char *dmae_ranks_library(void) { return NULL; }

int dmae_ranks_start(void) { return 0; }

int dmae_ranks_rank(void) { return 0; }

int dmae_ranks_count(void) { return 1; }

int dmae_ranks_local_rank(void) { return 0; }

int dmae_ranks_local_count(void) { return 1; }

int dmae_ranks_local_first(void) { return 0; }

int dmae_ranks_send(const void *bytes, size_t count, int peer, int tag) {
    (void)bytes, (void)count, (void)peer, (void)tag;
    return -1;
}

int dmae_ranks_receive(void *bytes, size_t count, int peer, int tag) {
    (void)bytes, (void)count, (void)peer, (void)tag;
    return -1;
}

int dmae_ranks_test(int message) {
    (void)message;
    return -1;
}

void dmae_ranks_leave(int code, int seconds) { (void)code, (void)seconds; }

_Noreturn void dmae_ranks_abort(int code) { _Exit(code); }
