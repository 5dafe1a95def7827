// What the program says of its own build.
#ifndef DMAE_BUILD_H
#define DMAE_BUILD_H

#include <stddef.h>

/// The licences of everything that is linked into the static binary, as UTF-8 text of `count` bytes without a final
/// zero. `make notices` writes it from the packages of the machine.
const char *dmae_third_party_notices(size_t *count);

/// The commit that was built: its first 12 digits, with "+" behind them if files were changed since; NULL outside of a
/// repository.
const char *dmae_commit(void);

#endif
