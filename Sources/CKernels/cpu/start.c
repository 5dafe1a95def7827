#include <stdlib.h>

// Swift's runtime looks for its backtracer before `main`, beside the program, and ends the process without a usable
// message where /proc/self/exe cannot be read. A statically linked program has no backtracer, and a failure of ours is
// a sentence: naming a place keeps the runtime from looking. Priority 101 is the first one that programs may use; the
// runtime's own initialiser has none and comes later.
__attribute__((constructor(101))) static void name_no_backtracer(void) {
    setenv("SWIFT_BACKTRACE", "enable=no,swift-backtrace=/nonexistent", 0);
}
