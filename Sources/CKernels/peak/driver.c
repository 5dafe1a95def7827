#include "cpu/threads.h"
#include "peak/peak.h"

static const struct peak_kernels *kernels_for(dmae_precision precision) {
    return precision == DMAE_PRECISION_INT8 ? KERNELS(peak_int8)
         : precision == DMAE_PRECISION_BF16 ? KERNELS(peak_bf16)
                                            : KERNELS(peak_f32);
}

double dmae_peak_flops(dmae_precision precision, int threads, size_t iterations) {
    const struct peak_kernels *const kernels = kernels_for(precision);
    int observed = 0;
#pragma omp parallel num_threads(threads < 1 ? 1 : threads) reduction(+ : observed)
    {
        observed += 1;
        kernels->run(iterations);
    }
    return (double)observed * (double)iterations * (double)kernels->flops_per_round;
}

double dmae_peak_checksum(dmae_precision precision, size_t iterations) {
    return kernels_for(precision)->run(iterations);
}
