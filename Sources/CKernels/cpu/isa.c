// What this processor and operating system run, what is in use, and the list of variants.
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

/// Linux saves the tile registers, 8 KiB, for processes that have asked for them alone; the answer stays the same.
static bool may_use_tiles(void) {
    const uint64_t tile_state = 3u << 17; // shapes and contents
    if ((enabled_state() & tile_state) != tile_state) return false;
    enum { request_permission = 0x1023, tile_contents = 18 }; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, request_permission, tile_contents) == 0;
}

static dmae_isa highest_isa(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return DMAE_ISA_SCALAR;
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28;
    if ((c & (fma | osxsave | avx)) != (fma | osxsave | avx)) return DMAE_ISA_SCALAR;
    // The operating system must save the registers too: bits 1, 2 are XMM and YMM; 5 to 7 the masks and the two halves
    // of ZMM.
    const uint64_t state = enabled_state();
    if ((state & 0x6) != 0x6) return DMAE_ISA_SCALAR;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return DMAE_ISA_SCALAR;
    if (!(b & 1u << 5)) return DMAE_ISA_SCALAR;
    const unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
    if ((state & 0xe6) != 0xe6 || (b & (f | dq | bw | vl)) != (f | dq | bw | vl)) return DMAE_ISA_AVX2;
    if (!(c & 1u << 11)) return DMAE_ISA_AVX512;
    const unsigned amx = 1u << 22 | 1u << 24 | 1u << 25; // bf16, tiles, int8
    const bool has_amx = (d & amx) == amx;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & 1u << 5)) return DMAE_ISA_AVX512VNNI;
    return has_amx && may_use_tiles() ? DMAE_ISA_AMX : DMAE_ISA_AVX512BF16;
}
#else
static dmae_isa highest_isa(void) { return DMAE_ISA_SCALAR; }
#endif

dmae_isa dmae_isa_available(void) {
    static _Atomic int available = -1;
    int isa = atomic_load_explicit(&available, memory_order_relaxed);
    if (isa < 0) {
        isa = (int)highest_isa();
        int none = -1;
        if (!atomic_compare_exchange_strong(&available, &none, isa)) isa = none;
    }
    return (dmae_isa)isa;
}

static const char *const isa_names[DMAE_ISA_COUNT] = {"scalar", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx"};
const char *dmae_isa_name(dmae_isa isa) { return (unsigned)isa < DMAE_ISA_COUNT ? isa_names[isa] : "unknown"; }

enum {
    isa_scalar = DMAE_ISA_SCALAR,
    isa_avx2 = DMAE_ISA_AVX2,
    isa_avx512 = DMAE_ISA_AVX512,
    isa_avx512vnni = DMAE_ISA_AVX512VNNI,
    isa_avx512bf16 = DMAE_ISA_AVX512BF16,
    isa_amx = DMAE_ISA_AMX
};

static const struct row {
    enum dmae_operation operation;
    dmae_variant variant;
    const void *kernels;
} rows[] = {
#define VARIANT(operation, isa, tile)                              \
    {dmae_operation_##operation,                                   \
     {#operation, #operation "_" #isa #tile, (dmae_isa)isa_##isa}, \
     &operation##_##isa##tile},
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
    if ((unsigned)isa >= DMAE_ISA_COUNT || isa > dmae_isa_available()) return false;
    atomic_store(&selected_isa, (int)isa);
    return true;
}

int dmae_isa_from_environment(void) {
    const char *const name = getenv("DMAE_ISA");
    if (name == NULL || *name == 0) return 0;
    for (int isa = 0; isa < DMAE_ISA_COUNT; ++isa)
        if (strcmp(name, isa_names[isa]) == 0) return dmae_isa_use((dmae_isa)isa) ? 0 : 2;
    return 1;
}

// The list is short, and a driver looks once per call.
static const struct row *selected_row(enum dmae_operation operation) {
    const dmae_isa limit = dmae_isa_selected();
    const struct row *best = NULL;
    for (const struct row *row = rows; row < rows + row_count; ++row)
        if (row->operation == operation && row->variant.isa <= limit &&
            (best == NULL || row->variant.isa >= best->variant.isa))
            best = row;
    return best;
}

const void *dmae_selected_kernels(enum dmae_operation operation) { return selected_row(operation)->kernels; }

size_t dmae_variant_count(void) { return row_count; }
dmae_variant dmae_variant_at(size_t index) { return rows[index].variant; }
bool dmae_variant_is_selected(size_t index) { return selected_row(rows[index].operation) == &rows[index]; }
