// GELU and its derivative on the operations of vector_*.h.
#ifndef DMAE_GELU_F32_VECTOR_H
#define DMAE_GELU_F32_VECTOR_H

// With u = |x| and the upper tail h(u) = 1 - Φ(u): gelu(x) = max(x, 0) - u·h(u), and gelu'(x) is q(u) = h(u) - u·φ(u) left of zero and
// 1 - q(u) right of it. Both are read from polynomials of degree 5 around the multiples of 53/128, one for each lane of a table: where
// u is nearest to the i-th, the coefficients [k][i] are those of rᵏ, r = u - 53/128·i. They interpolate h and q at the Chebyshev nodes
// of each segment: h to 1.3e-8, q to 6.4e-8. The last segment, from 6 on, is zero: h(6) is 1e-9, q(6) -3.5e-8.
static const float gelu_f32_tail[6][16] __attribute__((aligned(64))) = {
    {0.5f, 0.339414179f, 0.203799859f, 0.107083693f, 0.0488355979f, 0.0192115419f, 0.00648895185f, 0.00187513535f,
     0.000462331111f, 9.70548135e-05f, 1.7318187e-05f, 2.62322214e-06f, 3.36940701e-07f, 3.66676147e-08f, 3.37843109e-09f,
     0.0f},
    {-0.398942292f, -0.366168231f, -0.283134282f, -0.184435874f, -0.101213761f, -0.0467923544f, -0.0182243232f, -0.00597955845f,
     -0.00165282947f, -0.000384882529f, -7.55039509e-05f, -1.24782182e-05f, -1.73730871e-06f, -2.0377135e-07f, -2.01349799e-08f,
     0.0f},
    {0.0f, 0.0758053884f, 0.117232405f, 0.114551328f, 0.0838188156f, 0.048438713f, 0.0226385891f, 0.00866565295f,
     0.00273729837f, 0.000717002316f, 0.000156254697f, 2.83975605e-05f, 4.31136777e-06f, 5.4752195e-07f, 5.82206425e-08f, 0.0f},
    {0.0664891601f, 0.0505643412f, 0.0148277469f, -0.0166915208f, -0.0294050276f, -0.0256283041f, -0.0157100018f,
     -0.0073758522f, -0.00274718576f, -0.000826649601f, -0.000203144111f, -4.10553257e-05f, -6.85649411e-06f, -9.49515822e-07f,
     -1.09316986e-07f, 0.0f},
    {0.0f, -0.0176897198f, -0.0224293582f, -0.013868141f, -0.00186681119f, 0.0051098424f, 0.00594925974f,
     0.003902514f, 0.00183124503f, 0.000659478072f, 0.000188107239f, 4.32382694e-05f, 8.09506582e-06f, 1.24323742e-06f,
     1.57417489e-07f, 0.0f},
    {-0.00989757665f, -0.00606902177f, 0.00148777163f, 0.005906709f, 0.00498411059f, 0.00170574163f, -0.000599904568f,
     -0.0011467163f, -0.00079269876f, -0.000362862891f, -0.000123447433f, -3.26616464e-05f, -6.87938837e-06f, -1.16965566e-06f,
     -1.61999068e-07f, 0.0f},
};
static const float gelu_f32_slope[6][16] __attribute__((aligned(64))) = {
    {0.5f, 0.18779768f, -0.0306706708f, -0.122020252f, -0.118799716f, -0.0776632652f, -0.0387871005f, -0.015456235f,
     -0.00501266355f, -0.00133723358f, -0.000295315753f, -5.42114503e-05f, -8.29542296e-06f, -1.06022492e-06f, -1.13347404e-07f,
     0.0f},
    {-0.797884524f, -0.66955775f, -0.372097611f, -0.0842817202f, 0.0752184317f, 0.106976397f, 0.0760340542f, 0.0382747948f,
     0.0148302689f, 0.00457520038f, 0.00114348962f, 0.000233906118f, 3.94168019e-05f, 5.49664719e-06f, 6.36338086e-07f, 0.0f},
    {0.0f, 0.290214151f, 0.388525128f, 0.28145358f, 0.105357088f, -0.0138558904f, -0.0491733067f, -0.0381399803f,
     -0.0190891009f, -0.00709078461f, -0.00205455953f, -0.000475709443f, -8.9239431e-05f, -1.36823564e-05f, -1.72478167e-06f,
     0.0f},
    {0.265951782f, 0.172660694f, -0.0155772557f, -0.135869876f, -0.12950626f, -0.0595220812f, -0.0033725244f, 0.015715627f,
     0.01311043f, 0.00639222795f, 0.00223909062f, 0.000601302658f, 0.000127583611f, 2.17521883e-05f, 3.01173009e-06f, 0.0f},
    {0.0f, -0.100627236f, -0.105682768f, -0.0327037647f, 0.0317266583f, 0.043089103f, 0.0223086867f, 0.00294393185f,
     -0.00394684123f, -0.00346042239f, -0.00161854213f, -0.000530127436f, -0.000131401641f, -2.55215473e-05f, -3.9596348e-06f,
     0.0f},
    {-0.0592342094f, -0.0294464771f, 0.0226922557f, 0.0400001332f, 0.0186709221f, -0.00550805358f, -0.0116819693f,
     -0.00628040917f, -0.000912982388f, 0.000890205207f, 0.000749104016f, 0.000322647888f, 9.59889949e-05f, 2.14323463e-05f,
     3.72702425e-06f, 0.0f},
};

/// |x|, no larger than the middle of the last segment, where both tails are zero. NaN stays NaN.
VECTOR_INLINE V gelu_f32_magnitude(V x) { return v_min(v_set(15 * 53.0f / 128), v_absolute(x)); }

/// The polynomial of `table` at `magnitude`.
VECTOR_INLINE V gelu_f32_from(const float table[6][16], V magnitude) {
    // Added to 1.5·2²³, the number of the segment stands in the lowest bits.
    const V shift = v_set(12582912.0f), shifted = v_fma(magnitude, v_set(128 / 53.0f), shift);
    const V r = v_fnma(v_subtract(shifted, shift), v_set(53.0f / 128), magnitude);
    V p = v_lookup(table[5], shifted);
    for (int k = 4; k >= 0; --k) p = v_fma(p, r, v_lookup(table[k], shifted));
    return p;
}

VECTOR_INLINE V gelu_f32(V x) {
    const V magnitude = gelu_f32_magnitude(x);
    return v_fnma(magnitude, gelu_f32_from(gelu_f32_tail, magnitude), v_max(v_zero(), x));
}

VECTOR_INLINE V gelu_f32_derivative(V x) {
    const V q = gelu_f32_from(gelu_f32_slope, gelu_f32_magnitude(x));
    return v_by_sign(x, q, v_subtract(v_set(1.0f), q));
}

#endif
