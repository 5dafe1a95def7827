// GELU and its derivative on the operations of vector_*.h.
#ifndef DMAE_GELU_F32_VECTOR_H
#define DMAE_GELU_F32_VECTOR_H

// With u = |x| and the upper tail h(u) = 1 - Φ(u): gelu(x) = max(x, 0) - u·h(u); gelu'(x) = q(u) = h(u) + u·h'(u) for
// x < 0 and 1 - q(u) for x > 0. h is a polynomial of degree 6 around the nearest multiple of 53/128, one of fifteen,
// whose coefficients are in the lanes of a table: of r^k, r = u - 53/128·i, the coefficient is [k][i]. They interpolate
// h at the Chebyshev nodes of each segment, to 1.3e-8; q is accurate to 5.8e-8. The last segment, from 6 on, is zero:
// h(6) is 1e-9, q(6) -3.5e-8.
enum { gelu_f32_degree = 6 };
static const float gelu_f32_tail[7][16] __attribute__((aligned(64))) = {
    {0.5f, 0.339414179f, 0.203799859f, 0.107083693f, 0.0488356017f, 0.0192115456f, 0.00648895325f, 0.00187513523f,
     0.000462330616f, 9.70544788e-05f, 1.73180397e-05f, 2.62317553e-06f, 3.36929418e-07f, 3.66654582e-08f,
     3.37810047e-09f, 0.0f},
    {-0.398942262f, -0.366168231f, -0.283134282f, -0.184435889f, -0.101213761f, -0.0467923544f, -0.0182243213f,
     -0.00597955752f, -0.00165282935f, -0.000384882733f, -7.55040819e-05f, -1.247827e-05f, -1.73732371e-06f,
     -2.03774647e-07f, -2.01355448e-08f, 0.0f},
    {0.0f, 0.0758082643f, 0.117235281f, 0.114551969f, 0.0838176459f, 0.0484373979f, 0.0226380266f, 0.00866568834f,
     0.00273749861f, 0.000717144285f, 0.000156316702f, 2.84171692e-05f, 4.31612034e-06f, 5.48430251e-07f,
     5.83597739e-08f, 0.0f},
    {0.0664884821f, 0.0505640209f, 0.0148280384f, -0.0166910533f, -0.0294048414f, -0.0256284028f, -0.0157101545f,
     -0.00737592205f, -0.00274718739f, -0.000826632429f, -0.000203132193f, -4.10504763e-05f, -6.85509303e-06f,
     -9.4920847e-07f, -1.09264199e-07f, 0.0f},
    {0.0f, -0.0178684443f, -0.0226085167f, -0.0139083304f, -0.00179425185f, 0.00519151008f, 0.00598424859f,
     0.00390031585f, 0.00181879639f, 0.00065064634f, 0.000184248391f, 4.20178221e-05f, 7.79918537e-06f, 1.18667799e-06f,
     1.48751354e-07f, 0.0f},
    {-0.00988495909f, -0.00606304687f, 0.00148234284f, 0.00589799229f, 0.00498061953f, 0.00170759205f, -0.000597072183f,
     -0.00114540756f, -0.000792670064f, -0.000363183441f, -0.000123670048f, -3.27521448e-05f, -6.90554771e-06f,
     -1.17539412e-06f, -1.62984833e-07f, 0.0f},
    {0.0f, 0.00277924817f, 0.0027861644f, 0.000625194574f, -0.00112823828f, -0.0012700822f, -0.000544249022f,
     3.41041268e-05f, 0.000193584987f, 0.000137365743f, 6.00276253e-05f, 1.89875245e-05f, 4.60388674e-06f,
     8.80189134e-07f, 1.3488453e-07f, 0.0f},
};

/// min(|x|, the middle of the last segment), where the tail is zero. NaN stays NaN.
VECTOR_INLINE V gelu_f32_magnitude(V x) { return v_min(v_set(15 * 53.0f / 128), v_absolute(x)); }

/// h at `magnitude`, and its derivative when asked.
VECTOR_INLINE V gelu_f32_tail_of(V magnitude, V *derivative) {
    // After adding 1.5·2²³ the lowest bits are the number of the segment.
    const V shift = v_set(12582912.0f), shifted = v_fma(magnitude, v_set(128 / 53.0f), shift);
    const V r = v_fnma(v_subtract(shifted, shift), v_set(53.0f / 128), magnitude);
    V h = v_lookup(gelu_f32_tail[gelu_f32_degree], shifted), d = h;
#pragma clang loop unroll(full)
    for (int k = gelu_f32_degree - 1; k >= 0; --k) {
        h = v_fma(h, r, v_lookup(gelu_f32_tail[k], shifted));
        if (k > 0) d = v_fma(d, r, h);
    }
    if (derivative) *derivative = d;
    return h;
}

VECTOR_INLINE V gelu_f32(V x) {
    const V magnitude = gelu_f32_magnitude(x);
    return v_fnma(magnitude, gelu_f32_tail_of(magnitude, NULL), v_max(v_zero(), x));
}

VECTOR_INLINE V gelu_f32_derivative(V x) {
    const V magnitude = gelu_f32_magnitude(x);
    V slope;
    const V tail = gelu_f32_tail_of(magnitude, &slope), q = v_fma(magnitude, slope, tail);
    return v_by_sign(x, q, v_subtract(v_set(1.0f), q));
}

#endif
