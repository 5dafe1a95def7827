// What the runtimes inside the library see of the process: link.py gives them these in place of the C library's.
//
// LLVM's OpenMP and Swift's runtime read variables when they start: OMP_… and KMP_… meant for the caller's own OpenMP,
// SWIFT_BACKTRACE, which installs signal handlers. They print warnings about values, and OpenMP writes a variable of
// its own. Here they get an environment of their own, which is the same in every process.
#define _GNU_SOURCE
#include "dmae_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *dmae_own_getenv(const char *name);
int dmae_own_setenv(const char *name, const char *value, int overwrite);
int dmae_own_unsetenv(const char *name);

/// OpenMP's mark that a copy of it runs in this process, and NULL.
enum { own_variables = 4 };
static char *mark;

static char *own_environment[] = {
    // By default stacks are as large as the shell lets the main one be.
    "OMP_STACKSIZE=8M",
    // Threads wait actively between the kernels of a pass, but not between the calls of a program.
    "KMP_BLOCKTIME=20",
    "KMP_WARNINGS=FALSE",
    "SWIFT_BACKTRACE=enable=no,swift-backtrace=/nonexistent",
    NULL,
    NULL,
};
extern char **dmae_own_environ;
char **dmae_own_environ = own_environment;

char *dmae_own_getenv(const char *name) {
    const size_t length = strlen(name);
    for (char **variable = own_environment; *variable != NULL; ++variable)
        if (strncmp(*variable, name, length) == 0 && (*variable)[length] == '=') return *variable + length + 1;
    return strcmp(name, "DMAE_ISA") == 0 ? secure_getenv(name) : NULL;
}

int dmae_own_setenv(const char *name, const char *value, int overwrite) {
    if (!overwrite && dmae_own_getenv(name) != NULL) return 0;
    char *text = NULL;
    if (asprintf(&text, "%s=%s", name, value) < 0) return -1;
    own_environment[own_variables] = text;
    free(mark);
    mark = text;
    return 0;
}

int dmae_own_unsetenv(const char *name) {
    const size_t length = strlen(name);
    if (mark != NULL && strncmp(mark, name, length) == 0 && mark[length] == '=') own_environment[own_variables] = NULL;
    return 0;
}

/// The codecs and OpenMP know a file that they print warnings to: one that takes nothing.
static ssize_t discard(void *cookie, const char *text, size_t length) {
    (void)cookie, (void)text;
    return (ssize_t)length;
}
extern FILE *dmae_own_stderr;
FILE *dmae_own_stderr;

// Before the runtimes' constructors, which are later in the order of priorities.
__attribute__((constructor(101))) static void open_nowhere(void) {
    dmae_own_stderr = fopencookie(NULL, "w", (cookie_io_functions_t){.write = discard});
}

/// Foundation can write files, which the library never does; the C library warns of this function in every program.
char *dmae_own_mktemp(char *template);
char *dmae_own_mktemp(char *template) {
    *template = 0;
    return template;
}

const char *dmae_callers_variable(const char *name) { return secure_getenv(name); }
