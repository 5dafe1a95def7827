#include "dmae_kernels.h"
#ifndef _OPENMP
#error "OpenMP is off"
#endif
int dmae_threads_observed(void) { int n = 0;
#pragma omp parallel reduction(+:n)
n += 1;
return n; }
