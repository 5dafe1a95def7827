// The features of this processor and operating system, the instruction set in use, and the list of variants.
#define _GNU_SOURCE
#include "cpu/variants.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t enabled_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/// Linux saves the tile registers, 8 KiB, only for processes that have asked for them; the answer stays the same.
static bool may_use_tiles(void) {
    const uint64_t tile_state = 3u << 17; // shapes and contents
    if ((enabled_state() & tile_state) != tile_state) return false;
    enum { request_permission = 0x1023, tile_contents = 18 }; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, request_permission, tile_contents) == 0;
}

/// Registers that the operating system saves: bits 1 and 2 are XMM and YMM, 5 to 7 the masks and both halves of ZMM.
static bool saves(uint64_t state) { return (enabled_state() & state) == state; }

static unsigned detected_features(void) {
    unsigned a, b, c, d, features = 0;
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (fma | osxsave | avx)) != (fma | osxsave | avx) || !saves(0x6))
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    unsigned a1 = 0, b1, c1, d1;
    if (!__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1)) a1 = 0;
    if (!(b & 1u << 5)) return 0;
    features |= dmae_feature_avx2;
    if (a1 & 1u << 4) features |= dmae_feature_avxvnni;
    const unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
    if ((b & (f | dq | bw | vl)) == (f | dq | bw | vl) && saves(0xe6)) {
        features |= dmae_feature_avx512;
        if (c & 1u << 11) features |= dmae_feature_avx512vnni;
        if (a1 & 1u << 5) features |= dmae_feature_avx512bf16;
        if (d & 1u << 23) features |= dmae_feature_avx512fp16;
    }
    const unsigned amx = 1u << 22 | 1u << 24 | 1u << 25; // bf16, tiles, int8
    if ((d & amx) == amx && may_use_tiles()) features |= dmae_feature_amx;
    return features;
}
#elif defined(__aarch64__)
static unsigned detected_features(void) { return dmae_feature_neon; }
#else
static unsigned detected_features(void) { return 0; }
#endif

static const struct {
    const char *name;
    unsigned features;
} sets[] = {
#define ISA(name, features) {#name, features},
    DMAE_INSTRUCTION_SETS(ISA)
#undef ISA
};

const char *dmae_isa_name(dmae_isa isa) { return (unsigned)isa < dmae_isa_count ? sets[isa].name : "unknown"; }

bool dmae_isa_includes(dmae_isa isa, dmae_isa other) { return (sets[other].features & ~sets[isa].features) == 0; }

bool dmae_isa_runs(dmae_isa isa) {
    // What the processor has, and a bit that says that it was asked.
    enum { asked = 1 << dmae_feature_count };
    static _Atomic unsigned present = 0;
    unsigned features = atomic_load_explicit(&present, memory_order_relaxed);
    if (features == 0) atomic_store_explicit(&present, features = detected_features() | asked, memory_order_relaxed);
    return (sets[isa].features & ~features) == 0;
}

dmae_isa dmae_isa_available(void) {
    int isa = dmae_isa_count - 1;
    while (!dmae_isa_runs((dmae_isa)isa)) --isa; // "scalar" needs nothing
    return (dmae_isa)isa;
}

const char *dmae_feature_flags(void) {
#define FEATURE(name, flags) " " flags
    return &(DMAE_FEATURES(FEATURE))[1];
#undef FEATURE
}

static const struct row {
    enum dmae_operation operation;
    dmae_variant variant;
    const void *kernels;
} rows[] = {
#define VARIANT(operation, isa, tile)                                                                                \
    {dmae_operation_##operation, {#operation, #operation "_" #isa #tile, dmae_isa_##isa}, &operation##_##isa##tile},
#include "variants.inc"
};
enum { row_count = sizeof rows / sizeof rows[0] };

static _Atomic int selected_isa = -1;

dmae_isa dmae_isa_selected(void) {
    int isa = atomic_load_explicit(&selected_isa, memory_order_relaxed);
    if (isa < 0) {
        isa = (int)dmae_isa_available();
        int none = -1;
        if (!atomic_compare_exchange_strong(&selected_isa, &none, isa)) isa = none;
    }
    return (dmae_isa)isa;
}

bool dmae_isa_use(dmae_isa isa) {
    if ((unsigned)isa >= dmae_isa_count || !dmae_isa_runs(isa)) return false;
    atomic_store(&selected_isa, (int)isa);
    return true;
}

int dmae_isa_from_environment(void) {
    const char *const name = getenv("DMAE_ISA");
    if (name == NULL || *name == 0) return 0;
    for (int isa = 0; isa < dmae_isa_count; ++isa)
        if (strcmp(name, sets[isa].name) == 0) return dmae_isa_use((dmae_isa)isa) ? 0 : 2;
    return 1;
}

// The list is short, and a driver looks once per call.
static const struct row *selected_row(enum dmae_operation operation) {
    const dmae_isa selected = dmae_isa_selected();
    const struct row *last = NULL;
    for (const struct row *row = rows; row < rows + row_count; ++row)
        if (row->operation == operation && dmae_isa_includes(selected, row->variant.isa)) last = row;
    return last;
}

const void *dmae_selected_kernels(enum dmae_operation operation) { return selected_row(operation)->kernels; }

size_t dmae_variant_count(void) { return row_count; }
dmae_variant dmae_variant_at(size_t index) { return rows[index].variant; }
bool dmae_variant_is_selected(size_t index) { return selected_row(rows[index].operation) == &rows[index]; }
