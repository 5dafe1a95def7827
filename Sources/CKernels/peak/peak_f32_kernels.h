// Twelve chains of multiply-adds: more than latency times width of any processor here, and no spills with 16 registers.
enum { CHAINS = 12 };

static void KERNEL(run)(size_t iterations) {
    V sum[CHAINS];
    for (int i = 0; i < CHAINS; ++i) sum[i] = v_set((float)i);
    // The compiler must not see the values: 2 stays 2 under this step, so it would leave a whole chain out.
    for (int i = 0; i < CHAINS; ++i) __asm__ volatile("" : "+x"(sum[i]));
    const V half = v_set(0.5f), one = v_set(1.0f);
    for (size_t round = 0; round < iterations; ++round)
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; ++i) sum[i] = v_fma(sum[i], half, one);
    for (int i = 0; i < CHAINS; ++i) __asm__ volatile("" : : "x"(sum[i]));
}
