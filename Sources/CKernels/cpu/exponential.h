// exp in vectors, on the operations of vector_*.h.
#ifndef DMAE_EXPONENTIAL_H
#define DMAE_EXPONENTIAL_H

/// exp(x) for x <= 88, to about 1e-7 of itself; exact zero or a subnormal where the true value is below 2^-126. NaN
/// stays NaN. x = n·ln 2 + r with |r| <= ln 2 / 2; exp(r) = 1 + r + r²·p(r), where p is a minimax fit with a relative
/// error of 3.1e-9.
VECTOR_INLINE V v_exponential(V x) {
    x = v_max(v_set(-150.0f), x);
    const V n = v_round(v_multiply(x, v_set(1.44269504088896341f)));
    // ln 2 in two parts; n times the first is exact.
    V r = v_fnma(n, v_set(0.693359375f), x);
    r = v_fnma(n, v_set(-2.12194440054690583e-4f), r);
    V p = v_set(0.0013814539415761828f);
    p = v_fma(p, r, v_set(0.00836874544620514f));
    p = v_fma(p, r, v_set(0.04166838899254799f));
    p = v_fma(p, r, v_set(0.1666652113199234f));
    p = v_fma(p, r, v_set(0.4999999403953552f));
    p = v_fma(v_multiply(r, r), p, v_add(r, v_set(1.0f)));
    return v_scale(p, n);
}

#endif
