#include "cpu/threads.h"
#include "reduction/reduction.h"

void reduction_f32_combine(size_t count, size_t n, const float *partial, size_t ld, float *target) {
    enum { columns = 128 };
    DMAE_PARALLEL_FOR(block, dmae_ceiling(n, columns), 1, {
        const size_t begin = block * columns, end = dmae_min(n, begin + columns);
        float total[columns] = {0};
        for (size_t i = 0; i < count; ++i)
            for (size_t j = begin; j < end; ++j) total[j - begin] += partial[i * ld + j];
        for (size_t j = begin; j < end; ++j) target[j] += total[j - begin];
    });
}

void dmae_column_sum_f32(size_t rows, size_t n, dmae_type type, const void *x, size_t ldx, float *sum,
                         void *workspace) {
    const struct reduction_f32_kernels *const kernels = KERNELS(reduction_f32);
    float *const partial = workspace;
    const size_t chunks = dmae_ceiling(rows, reduction_rows), bytes = dmae_type_bytes(type);
    DMAE_PARALLEL_FOR(i, chunks, 1, {
        kernels->column_sum(dmae_min(reduction_rows, rows - i * reduction_rows), n, type,
                            (const char *)x + i * reduction_rows * ldx * bytes, ldx, partial + i * n);
    });
    reduction_f32_combine(chunks, n, partial, n, sum);
}

double dmae_sum_of_squares_f32(size_t count, const float *x) {
    // The partial sums fit the stack whatever the count: the chunks grow with it.
    enum { least_chunk = 8192, most_chunks = 1024 };
    const struct reduction_f32_kernels *const kernels = KERNELS(reduction_f32);
    size_t chunk = dmae_round_up(dmae_ceiling(count, most_chunks), 16);
    if (chunk < least_chunk) chunk = least_chunk;
    const size_t chunks = dmae_ceiling(count, chunk);
    double partial[most_chunks];
    DMAE_PARALLEL_FOR(i, chunks, 1,
                      { partial[i] = kernels->sum_of_squares(dmae_min(chunk, count - i * chunk), x + i * chunk); });
    double total = 0;
    for (size_t i = 0; i < chunks; ++i) total += partial[i];
    return total;
}
