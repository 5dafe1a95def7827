/// Prefetches what is needed about a row later: the hardware follows a stream no further than a page, so one stream
/// that is read in order is slower than memory.
enum { AHEAD = 768 };
VECTOR_INLINE void fetch_ahead(const void *values, size_t index, size_t value_bytes) {
    v_prefetch_l1((const char *)values + (index + AHEAD) * value_bytes);
}

static void KERNEL(statistics)(size_t width, const float *x, float epsilon, float *mean, float *rstd) {
    V sums[4] = {v_zero(), v_zero(), v_zero(), v_zero()}, squares[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    size_t i = 0;
    for (; i + 4 * LANES <= width; i += 4 * LANES)
        for (int part = 0; part < 4; ++part) {
            fetch_ahead(x, i + part * LANES, sizeof *x);
            sums[part] = v_add(sums[part], v_load(x + i + part * LANES));
        }
    for (; i < width; i += LANES) sums[0] = v_add(sums[0], v_load_masked(v_mask(width - i), x + i));
    const float centre = v_sum(v_add(v_add(sums[0], sums[1]), v_add(sums[2], sums[3]))) / (float)width;
    const V minus = v_set(centre);
    for (i = 0; i + 4 * LANES <= width; i += 4 * LANES)
        for (int part = 0; part < 4; ++part) {
            const V deviation = v_subtract(v_load(x + i + part * LANES), minus);
            squares[part] = v_fma(deviation, deviation, squares[part]);
        }
    for (; i < width; i += LANES) {
        const M mask = v_mask(width - i);
        const V deviation = v_keep(mask, v_subtract(v_load_masked(mask, x + i), minus));
        squares[0] = v_fma(deviation, deviation, squares[0]);
    }
    const float variance = v_sum(v_add(v_add(squares[0], squares[1]), v_add(squares[2], squares[3]))) / (float)width;
    *mean = centre;
    *rstd = 1.0f / sqrtf(variance + epsilon);
}

VECTOR_INLINE V normal(V x, V mean, V rstd) { return v_multiply(v_subtract(x, mean), rstd); }

static void KERNEL(apply)(size_t width, const float *x, const float *gamma, const float *beta, float mean, float rstd,
                          dmae_type y_type, void *y) {
    const V m = v_set(mean), s = v_set(rstd);
    size_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        fetch_ahead(y, i, dmae_type_bytes(y_type));
        const V value = v_fma(normal(v_load(x + i), m, s), v_load(gamma + i), v_load(beta + i));
        if (y_type == DMAE_TYPE_BF16) v_store_bf16((uint16_t *)y + i, value);
        else v_store((float *)y + i, value);
    }
    if (i < width) {
        const M mask = v_mask(width - i);
        const V value = v_fma(normal(v_load_masked(mask, x + i), m, s), v_load_masked(mask, gamma + i),
                              v_load_masked(mask, beta + i));
        if (y_type == DMAE_TYPE_BF16) v_store_bf16_masked(mask, (uint16_t *)y + i, value);
        else v_store_masked(mask, (float *)y + i, value);
    }
}

/// Adds to the sums that d_x of one row needs, and to d_gamma and d_beta. Masked lanes of d_y are zero and add nothing.
VECTOR_INLINE void add_row(V x, V d_y, V gamma, V mean, V rstd, V *sum, V *product, V *d_gamma, V *d_beta) {
    const V g = v_multiply(d_y, gamma), centred = normal(x, mean, rstd);
    *sum = v_add(*sum, g);
    *product = v_fma(g, centred, *product);
    *d_gamma = v_fma(d_y, centred, *d_gamma);
    *d_beta = v_add(*d_beta, d_y);
}

VECTOR_INLINE V gradient(V x, V d_y, V gamma, V mean, V rstd, V mean_g, V mean_product) {
    return v_multiply(rstd, v_fnma(normal(x, mean, rstd), mean_product, v_fms(d_y, gamma, mean_g)));
}

static void KERNEL(backward)(size_t rows, size_t width, const float *x, const float *gamma, const float *mean,
                             const float *rstd, const float *d_y, bool accumulate, float *d_x, float *d_gamma,
                             float *d_beta) {
    const size_t whole = width / LANES * LANES;
    const M mask = v_mask(width - whole);
    for (size_t i = 0; i < whole; i += LANES) v_store(d_gamma + i, v_zero()), v_store(d_beta + i, v_zero());
    for (size_t i = whole; i < width; ++i) d_gamma[i] = d_beta[i] = 0;
    for (size_t r = 0; r < rows; ++r, x += width, d_y += width, d_x += width) {
        const V m = v_set(mean[r]), s = v_set(rstd[r]);
        V sum[2] = {v_zero(), v_zero()}, product[2] = {v_zero(), v_zero()};
        for (size_t i = 0; i < whole; i += LANES) {
            fetch_ahead(x, i, sizeof *x);
            fetch_ahead(d_y, i, sizeof *d_y);
            fetch_ahead(d_x, i, sizeof *d_x);
            V to_gamma = v_load(d_gamma + i), to_beta = v_load(d_beta + i);
            const size_t chain = i / LANES % 2;
            add_row(v_load(x + i), v_load(d_y + i), v_load(gamma + i), m, s, &sum[chain], &product[chain], &to_gamma,
                    &to_beta);
            v_store(d_gamma + i, to_gamma);
            v_store(d_beta + i, to_beta);
        }
        if (whole < width) {
            V to_gamma = v_load_masked(mask, d_gamma + whole), to_beta = v_load_masked(mask, d_beta + whole);
            add_row(v_load_masked(mask, x + whole), v_load_masked(mask, d_y + whole),
                    v_load_masked(mask, gamma + whole), m, s, &sum[0], &product[0], &to_gamma, &to_beta);
            v_store_masked(mask, d_gamma + whole, to_gamma);
            v_store_masked(mask, d_beta + whole, to_beta);
        }
        const V mean_g = v_set(v_sum(v_add(sum[0], sum[1])) / (float)width);
        const V mean_product = v_set(v_sum(v_add(product[0], product[1])) / (float)width);
        for (size_t i = 0; i < whole; i += LANES) {
            const V value = gradient(v_load(x + i), v_load(d_y + i), v_load(gamma + i), m, s, mean_g, mean_product);
            v_store(d_x + i, accumulate ? v_add(v_load(d_x + i), value) : value);
        }
        if (whole < width) {
            const V value = gradient(v_load_masked(mask, x + whole), v_load_masked(mask, d_y + whole),
                                     v_load_masked(mask, gamma + whole), m, s, mean_g, mean_product);
            v_store_masked(mask, d_x + whole, accumulate ? v_add(v_load_masked(mask, d_x + whole), value) : value);
        }
    }
}
