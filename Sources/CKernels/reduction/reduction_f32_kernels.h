VECTOR_INLINE V element(const dmae_type type, const void *x, size_t index) {
    return type == DMAE_TYPE_BF16 ? v_load_bf16((const uint16_t *)x + index) : v_load((const float *)x + index);
}

VECTOR_INLINE void column_sum_of(const dmae_type type, size_t rows, size_t n, const void *x, size_t ldx, float *sum) {
    // Four vectors of columns at a time, held in registers over all rows.
    size_t j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES) {
        V total[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
        for (size_t i = 0; i < rows; ++i)
            for (int part = 0; part < 4; ++part)
                total[part] = v_add(total[part], element(type, x, i * ldx + j + part * LANES));
        for (int part = 0; part < 4; ++part) v_store(sum + j + part * LANES, total[part]);
    }
    for (; j < n; j += LANES) {
        const M mask = v_mask(n - j);
        V total = v_zero();
        for (size_t i = 0; i < rows; ++i) {
            const size_t index = i * ldx + j;
            total = v_add(total, type == DMAE_TYPE_BF16 ? v_load_bf16_masked(mask, (const uint16_t *)x + index)
                                                        : v_load_masked(mask, (const float *)x + index));
        }
        v_store_masked(mask, sum + j, total);
    }
}

static void KERNEL(column_sum)(size_t rows, size_t n, dmae_type type, const void *x, size_t ldx, float *sum) {
    if (type == DMAE_TYPE_BF16) column_sum_of(DMAE_TYPE_BF16, rows, n, x, ldx, sum);
    else column_sum_of(DMAE_TYPE_F32, rows, n, x, ldx, sum);
}

static double KERNEL(sum_of_squares)(size_t count, const float *x) {
    enum { CHAINS = 4 };
    D sum[CHAINS][2];
    for (int chain = 0; chain < CHAINS; ++chain) sum[chain][0] = sum[chain][1] = d_zero();
    size_t i = 0;
    for (; i + CHAINS * LANES <= count; i += CHAINS * LANES)
        for (int chain = 0; chain < CHAINS; ++chain) v_add_squares(v_load(x + i + chain * LANES), sum[chain]);
    for (; i < count; i += LANES) v_add_squares(v_load_masked(v_mask(count - i), x + i), sum[0]);
    double lanes[LANES / 2], total = 0;
    for (int chain = 1; chain < CHAINS; ++chain)
        for (int half = 0; half < 2; ++half) sum[0][half] = d_add(sum[0][half], sum[chain][half]);
    d_store(lanes, d_add(sum[0][0], sum[0][1]));
    for (int lane = 0; lane < LANES / 2; ++lane) total += lanes[lane];
    return total;
}
