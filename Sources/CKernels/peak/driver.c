#include "cpu/threads.h"
#include "peak/peak.h"

double dmae_peak_f32_flops(int threads, size_t iterations) {
    const struct peak_f32_kernels *const kernels = KERNELS(peak_f32);
    int observed = 0;
#pragma omp parallel num_threads(threads < 1 ? 1 : threads) reduction(+ : observed)
    {
        observed += 1;
        kernels->run(iterations);
    }
    return (double)observed * (double)iterations * (double)kernels->flops_per_round;
}
