#include "dmae_build.h"

static const char notices[] = {
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wc23-extensions"
#embed "third-party-notices.txt"
#pragma clang diagnostic pop
};

const char *dmae_third_party_notices(size_t *count) {
    *count = sizeof notices;
    return notices;
}

const char *dmae_commit(void) {
#ifdef DMAE_COMMIT
    return DMAE_COMMIT;
#else
    return NULL;
#endif
}
