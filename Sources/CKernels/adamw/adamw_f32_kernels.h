struct constants {
    V gradient_scale, beta1, one_minus_beta1, beta2, one_minus_beta2, keep, step_size, inverse_root, epsilon;
};

VECTOR_INLINE V next_weight(const struct constants *s, V gradient, V weight, V *m, V *v) {
    const V g = v_multiply(gradient, s->gradient_scale);
    *m = v_fma(s->beta1, *m, v_multiply(s->one_minus_beta1, g));
    *v = v_fma(s->beta2, *v, v_multiply(s->one_minus_beta2, v_multiply(g, g)));
    const V direction = v_divide(*m, v_fma(v_square_root(*v), s->inverse_root, s->epsilon));
    return v_fnma(s->step_size, direction, v_multiply(weight, s->keep));
}

static void KERNEL(update)(size_t count, const struct adamw_f32_step *step, const float *gradient, float *weight,
                           float *first_moment, float *second_moment) {
    const struct constants s = {v_set(step->gradient_scale),  v_set(step->beta1),
                                v_set(step->one_minus_beta1), v_set(step->beta2),
                                v_set(step->one_minus_beta2), v_set(step->keep),
                                v_set(step->step_size),       v_set(step->inverse_root_correction),
                                v_set(step->epsilon)};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        V m = v_load(first_moment + i), v = v_load(second_moment + i);
        v_store(weight + i, next_weight(&s, v_load(gradient + i), v_load(weight + i), &m, &v));
        v_store(first_moment + i, m);
        v_store(second_moment + i, v);
    }
    if (i < count) {
        const M mask = v_mask(count - i);
        V m = v_load_masked(mask, first_moment + i), v = v_load_masked(mask, second_moment + i);
        v_store_masked(mask, weight + i,
                       next_weight(&s, v_load_masked(mask, gradient + i), v_load_masked(mask, weight + i), &m, &v));
        v_store_masked(mask, first_moment + i, m);
        v_store_masked(mask, second_moment + i, v);
    }
}
