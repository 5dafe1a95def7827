// Contract: run `iterations` rounds of independent multiply-adds held in registers; return the FLOP done by one round.
#ifndef DMAE_PEAK_H
#define DMAE_PEAK_H
#include "cpu/variants.h"

struct peak_kernels {
    size_t flops_per_round;
    void (*run)(size_t iterations);
};
#endif
