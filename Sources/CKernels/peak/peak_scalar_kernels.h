// Forty-eight chains of float32 multiply-adds, which the compiler may vectorise. Chain i starts at i; a round takes x
// to x/2 + 1.
enum { CHAINS = 48 };

static double KERNEL(run)(size_t iterations) {
    float sum[CHAINS];
    for (int i = 0; i < CHAINS; ++i) sum[i] = (float)i;
    __asm__ volatile("" : : "r"(sum) : "memory"); // as in peak_f32_kernels.h
    for (size_t round = 0; round < iterations; ++round)
        for (int i = 0; i < CHAINS; ++i) sum[i] = sum[i] * 0.5f + 1.0f;
    for (int i = 0; i < CHAINS; ++i) __asm__ volatile("" : : "m"(sum[i])); // in registers until here
    return peak_sum_f32(sum, CHAINS);
}
