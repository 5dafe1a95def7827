// Twelve chains of multiply-adds: more than latency times width of any processor here, and no spills with 16 registers.
// Chain i starts at i; a round takes x to x/2 + 1.
enum { CHAINS = 12 };

static double KERNEL(run)(size_t iterations) {
    V sum[CHAINS];
    for (int i = 0; i < CHAINS; ++i) sum[i] = v_set((float)i);
    // Hides the values from the compiler, which would drop the chain that starts at the fixed point 2.
    for (int i = 0; i < CHAINS; ++i) __asm__ volatile("" : "+x"(sum[i]));
    const V half = v_set(0.5f), one = v_set(1.0f);
    for (size_t round = 0; round < iterations; ++round)
#pragma clang loop unroll(full)
        for (int i = 0; i < CHAINS; ++i) sum[i] = v_fma(sum[i], half, one);
    float values[CHAINS * LANES];
    for (int i = 0; i < CHAINS; ++i) v_store(values + i * LANES, sum[i]);
    return peak_sum_f32(values, CHAINS * LANES);
}
