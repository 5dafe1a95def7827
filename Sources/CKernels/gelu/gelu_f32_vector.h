// GELU and its derivative on the operations of vector_*.h.
#ifndef DMAE_GELU_F32_VECTOR_H
#define DMAE_GELU_F32_VECTOR_H
#include "cpu/exponential.h"

/// Φ(x) and, when asked, φ(x). The upper tail is h(|x|) = 1 - Φ(|x|) = exp(-x²/2)·M(|x|): M, half of erfcx(|x|/√2), is smooth, and a
/// polynomial in s = 1/(1 + 0.3·|x|). The fit is minimax in the error it gives h·max(1, |x|), 8.1e-9.
VECTOR_INLINE V gelu_f32_cumulative(V x, V *density) {
    const V magnitude = v_absolute(x);
    const V exponential = v_exponential(v_multiply(v_multiply(x, v_set(-0.5f)), x));
    const V s = v_divide(v_set(1.0f), v_fma(magnitude, v_set(0.3f), v_set(1.0f)));
    V p = v_set(0.03355255609891084f);
    p = v_fma(p, s, v_set(-0.14711833477439296f));
    p = v_fma(p, s, v_set(0.18666422287842535f));
    p = v_fma(p, s, v_set(-0.03336635476053477f));
    p = v_fma(p, s, v_set(0.11671974393994804f));
    p = v_fma(p, s, v_set(0.1037556465192215f));
    p = v_fma(p, s, v_set(0.1201235045261529f));
    p = v_fma(p, s, v_set(0.11966900754286622f));
    const V tail = v_multiply(exponential, v_multiply(p, s));
    if (density) *density = v_multiply(exponential, v_set(0.398942280401432678f));
    return v_by_sign(x, tail, v_subtract(v_set(1.0f), tail));
}

VECTOR_INLINE V gelu_f32(V x) { return v_multiply(x, gelu_f32_cumulative(x, NULL)); }

#endif
