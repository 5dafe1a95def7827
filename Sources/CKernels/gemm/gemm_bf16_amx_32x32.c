#if defined(__x86_64__)
#include "gemm/gemm.h"

#include <string.h>
#define VECTOR_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16,amx-tile,amx-bf16"
#define VECTOR_ROUNDS_TO_BF16
#include "cpu/vector_avx512.h"
#include "cpu/tiles.h"

// Four tile registers hold 32×32 sums. One instruction adds 16×16 of them over 32 steps of k: in each, the products of the earlier ones of
// neighbours in k, and those of the later ones, are summed up on their own, then both are added. That is sixteen times what
// vector instructions do, so what surrounds the products counts for as much. A tile is therefore finished while the next one is
// multiplied: the vector units have nothing else to do then.
enum { MR = 32, NR = 32, K_UNIT = 32, HALF = 16 };
#include "gemm/bf16_pairs.h"
#include "gemm/tile_finish.h"

// Words of 32 bits, pairs of neighbours in k. A: [panel][k/32][MR][16], as rows lie in memory. B: [panel][k/2][NR].
enum { STEP_A = MR * HALF, STEP_B = HALF * NR };

VECTOR_INLINE void pack_a_along(const dmae_type type, size_t count, size_t k, const void *source, size_t ld, float *panels) {
    const size_t steps = (k + K_UNIT - 1) / K_UNIT;
    // Eight rows at a time: their lines, which may lie a multiple of 4096 bytes apart, stay in the first-level cache.
    enum { together = 8 };
    for (size_t first = 0; first < count; first += together) {
        float *step = panels + first / MR * steps * STEP_A + first % MR * HALF;
        for (size_t p = 0; p < k; p += K_UNIT, step += STEP_A)
            for (size_t i = 0; i < together; ++i)
                v_store(step + i * HALF, first + i < count ? pairs_at(type, k - p, source, (first + i) * ld + p) : v_zero());
    }
}

VECTOR_INLINE void pack_a_across(const dmae_type type, size_t count, size_t k, const void *source, size_t ld, float *panels) {
    const size_t steps = (k + K_UNIT - 1) / K_UNIT;
    for (size_t p = 0; p < k; p += K_UNIT)
        for (size_t first = 0; first < count; first += HALF) {
            V rows[LANES];
            for (size_t q = 0; q < LANES; ++q) {
                const size_t at = p + 2 * q, left = count - first;
                const __m256i low = at < k ? halves_at(type, left, source, at * ld + first) : _mm256_setzero_si256();
                const __m256i high = at + 1 < k ? halves_at(type, left, source, (at + 1) * ld + first) : _mm256_setzero_si256();
                rows[q] = pairs_across(low, high);
            }
            v_transpose(rows);
            float *const step = panels + first / MR * steps * STEP_A + p / K_UNIT * STEP_A + first % MR * HALF;
            for (size_t i = 0; i < LANES; ++i) v_store(step + i * HALF, rows[i]);
        }
}

VECTOR_INLINE void pack_a_of(const dmae_type type, size_t count, size_t k, const void *source, size_t ld, bool across, float *panels) {
    if (across) pack_a_across(type, count, k, source, ld, panels);
    else pack_a_along(type, count, k, source, ld, panels);
}
static void pack_a(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, void *panels) {
    if (type == DMAE_TYPE_BF16) pack_a_of(DMAE_TYPE_BF16, count, k, source, ld, across, panels);
    else pack_a_of(DMAE_TYPE_F32, count, k, source, ld, across, panels);
}
static void pack_b(size_t count, size_t k, dmae_type type, const void *source, size_t ld, bool across, void *panels) {
    if (type == DMAE_TYPE_BF16) pack(DMAE_TYPE_BF16, NR, count, k, source, ld, across, panels);
    else pack(DMAE_TYPE_F32, NR, count, k, source, ld, across, panels);
}

/// How a tile is finished: with all columns and one type of all matrices, as nearly every tile is; or anything else.
enum finish { finish_nothing, finish_f32, finish_bf16, finish_forward, finish_backward, finish_anything };

/// The tile of this thread that is multiplied, but not finished.
struct pending {
    enum finish finish;
    bool streams;  ///< past the caches
    struct gemm_tile tile;
    float sums[MR * NR] __attribute__((aligned(64)));
};
static _Thread_local struct pending pending;

static enum finish finish_of(const struct gemm_tile *t) {
    if (t->columns < NR) return finish_anything;
    const bool has_bf16_c = t->c == NULL || t->c_type == DMAE_TYPE_BF16;
    if (t->activation == NULL && t->before_gelu == NULL) {
        return has_bf16_c ? finish_bf16 : finish_f32;
    }
    const bool has_bf16_activation = t->activation == NULL || t->activation_type == DMAE_TYPE_BF16;
    if (!has_bf16_c || !has_bf16_activation) return finish_anything;
    if (t->before_gelu == NULL) return finish_forward;
    return t->before_gelu_type == DMAE_TYPE_BF16 ? finish_backward : finish_anything;
}

static bool is_in_lines(const void *matrix, dmae_type type, size_t ld) {
    return matrix == NULL || ((uintptr_t)matrix % 64 == 0 && ld * bytes_of(type) % 64 == 0);
}
static bool may_stream(const struct gemm_tile *t) {
    return t->stream_c && is_in_lines(t->c, t->c_type, t->ldc) && is_in_lines(t->activation, t->activation_type, t->ld_activation);
}

/// 32 floats as a line of bf16.
VECTOR_INLINE void store_line(const bool streams, void *matrix, size_t index, __m512i halves) {
    uint16_t *const at = (uint16_t *)matrix + index;
    if (streams) _mm512_stream_si512((__m512i *)at, halves);
    else _mm512_storeu_si512(at, halves);
}
VECTOR_INLINE __m512i line_of(V low, V high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }
VECTOR_INLINE V low_of(__m512i line) { return v_from_bf16(_mm512_castsi512_si256(line)); }
VECTOR_INLINE V high_of(__m512i line) { return v_from_bf16(_mm512_extracti64x4_epi64(line, 1)); }

/// Row `i`, all 32 columns, as finish_row does it, but in whole lines. Constants: `finish`, and `streams`, past the caches.
VECTOR_INLINE void finish_line(const enum finish finish, const bool streams, const struct gemm_tile *t, size_t i, const float *sums) {
    V low = v_load(sums), high = v_load(sums + LANES);
    const float *const added[] = {t->addend ? t->addend + i * t->ld_addend : NULL, t->residual ? t->residual + i * t->ld_residual : NULL, t->bias};
#pragma clang loop unroll(full)
    for (int part = 0; part < 3; ++part)
        if (added[part]) {
            low = v_add(low, v_load(added[part]));
            high = v_add(high, v_load(added[part] + LANES));
        }
    if (finish == finish_f32) {
        float *const c = (float *)t->c + i * t->ldc;
        if (streams) {
            v_stream(c, low);
            v_stream(c + LANES, high);
        } else {
            v_store(c, low);
            v_store(c + LANES, high);
        }
        return;
    }
    __m512i before = line_of(low, high);
    if (finish == finish_backward) {
        before = _mm512_loadu_si512((const uint16_t *)t->before_gelu + i * t->ld_before_gelu);
        low = v_multiply(low, gelu_f32_derivative(low_of(before)));
        high = v_multiply(high, gelu_f32_derivative(high_of(before)));
        store_line(streams, t->c, i * t->ldc, line_of(low, high));
    } else if (t->c) {
        store_line(streams, t->c, i * t->ldc, before);
    }
    if (finish != finish_bf16 && t->activation)
        store_line(streams, t->activation, i * t->ld_activation, line_of(gelu_f32(low_of(before)), gelu_f32(high_of(before))));
}

/// Rows [begin, end) of the pending tile; `finish` is a constant wherever this is inlined.
VECTOR_INLINE void finish_rows(const enum finish finish, const bool streams, const struct gemm_tile *t, size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
        const float *const sums = pending.sums + i * NR;
        if (finish == finish_nothing) return;
        if (finish != finish_anything) finish_line(finish, streams, t, i, sums);
        else if (t->before_gelu) finish_row(gelu_backward, true, false, NULL, t, i, sums);
        else if (t->activation) finish_row(gelu_forward, true, false, NULL, t, i, sums);
        else finish_row(gelu_none, true, false, NULL, t, i, sums);
    }
}

#define FOR_FINISH(RUN)                                                                                                    \
    switch (pending.finish) {                                                                                              \
    case finish_nothing: RUN(finish_nothing, false); break;                                                                \
    case finish_f32: if (pending.streams) { RUN(finish_f32, true); } else { RUN(finish_f32, false); } break;               \
    case finish_bf16: if (pending.streams) { RUN(finish_bf16, true); } else { RUN(finish_bf16, false); } break;            \
    case finish_forward: if (pending.streams) { RUN(finish_forward, true); } else { RUN(finish_forward, false); } break;   \
    case finish_backward: if (pending.streams) { RUN(finish_backward, true); } else { RUN(finish_backward, false); } break; \
    case finish_anything: RUN(finish_anything, false); break;                                                              \
    }

static void finish_pending(void) {
    const struct gemm_tile t = pending.tile;
#define RUN(finish, streams) finish_rows(finish, streams, &t, 0, t.rows)
    FOR_FINISH(RUN)
#undef RUN
    pending.finish = finish_nothing;
}

/// `count` lines of those yet to be fetched.
VECTOR_INLINE void fetch_lines(struct gemm_fetched *fetched, size_t *set, size_t count) {
    for (; count != 0 && *set < fetched->sets; ++*set) {
        struct gemm_lines *const lines = &fetched->lines[*set];
        for (; count != 0 && lines->count != 0; --count, --lines->count) {
            _mm_prefetch(lines->first, _MM_HINT_T1);
            lines->first += lines->stride;
        }
        if (lines->count != 0) return;
    }
}

/// Multiplies `t` and finishes the pending tile meanwhile. A_TILES and B_TILES, one or two, and `finish` are constants.
VECTOR_INLINE void multiply(const int A_TILES, const int B_TILES, const enum finish finish, const bool streams, const struct gemm_tile *t,
                            struct gemm_fetched *fetched) {
    const struct gemm_tile before = pending.tile;
    const size_t steps = (t->k + K_UNIT - 1) / K_UNIT;
    const size_t rows = steps ? (before.rows + steps - 1) / steps : 0;
    size_t lines = 0, set = 0, row = 0;
    for (size_t i = 0; i < fetched->sets; ++i) lines += fetched->lines[i].count;
    lines = steps ? (lines + steps - 1) / steps : 0;
    const float *a = t->a, *b = t->b;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t step = 0; step < steps; ++step, a += STEP_A, b += STEP_B) {
        // What changes from tile to tile passes by; the other panel, where it is short enough, stays in the first-level cache.
        if (t->streams_a) {
            _tile_loadd(6, b, NR * 4);
            _tile_stream_loadd(4, a, HALF * 4);
            if (B_TILES == 2) _tile_loadd(7, b + HALF, NR * 4);
            if (A_TILES == 2) _tile_stream_loadd(5, a + HALF * HALF, HALF * 4);
        } else {
            _tile_stream_loadd(6, b, NR * 4);
            _tile_loadd(4, a, HALF * 4);
            if (B_TILES == 2) _tile_stream_loadd(7, b + HALF, NR * 4);
            if (A_TILES == 2) _tile_loadd(5, a + HALF * HALF, HALF * 4);
        }
        _tile_dpbf16ps(0, 4, 6);
        if (B_TILES == 2) _tile_dpbf16ps(1, 4, 7);
        if (A_TILES == 2) _tile_dpbf16ps(2, 5, 6);
        if (A_TILES == 2 && B_TILES == 2) _tile_dpbf16ps(3, 5, 7);
        fetch_lines(fetched, &set, lines);
        if (finish != finish_nothing) {
            const size_t end = row + rows < before.rows ? row + rows : before.rows;
            finish_rows(finish, streams, &before, row, end);
            row = end;
        }
    }
    if (finish != finish_nothing) finish_rows(finish, streams, &before, row, before.rows);
    _tile_stored(0, pending.sums, NR * 4);
    if (B_TILES == 2) _tile_stored(1, pending.sums + HALF, NR * 4);
    if (A_TILES == 2) _tile_stored(2, pending.sums + HALF * NR, NR * 4);
    if (A_TILES == 2 && B_TILES == 2) _tile_stored(3, pending.sums + HALF * NR + HALF, NR * 4);
}

static void tile(const struct gemm_tile *t) {
    const enum finish finish = finish_of(t);
    struct gemm_fetched fetched;
    fetched.sets = 0;
    const bool streams = may_stream(t);
    if (!streams) fetch_rows(&fetched, MR, 2, t->c_type, t->c, t->ldc);
    fetch_rows(&fetched, MR, 2, DMAE_TYPE_F32, t->residual, t->ld_residual);
    fetch_rows(&fetched, MR, 2, t->before_gelu_type, t->before_gelu, t->ld_before_gelu);
    if (!streams && t->activation != t->before_gelu) fetch_rows(&fetched, MR, 2, t->activation_type, t->activation, t->ld_activation);
    fetched.lines[fetched.sets++] = t->ahead;
    if (t->rows > HALF && t->columns > HALF) {
#define RUN(finish, streams) multiply(2, 2, finish, streams, t, &fetched)
        FOR_FINISH(RUN)
#undef RUN
    } else {
        finish_pending();
        if (t->columns > HALF) multiply(1, 2, finish_nothing, false, t, &fetched);
        else if (t->rows > HALF) multiply(2, 1, finish_nothing, false, t, &fetched);
        else multiply(1, 1, finish_nothing, false, t, &fetched);
    }
    pending.tile = *t;
    pending.streams = streams;
    pending.finish = finish;
}

static void begin(void) { tiles_begin(); }
static void end(void) {
    finish_pending();
    _tile_release();
}

const struct gemm_kernels gemm_bf16_amx_32x32 = {
    .mr = MR, .nr = NR, .k_unit = K_UNIT, .value_bytes = 2,
    .k_block = 2048, .run_a = 8, .run_b = 8, .round_a = 1, .narrow = 512, .keeps_shared = true, .fetches_shared = true,
    .pack_a = pack_a, .pack_b = pack_b, .tile = tile, .begin = begin, .end = end,
};
#pragma clang attribute pop
#endif
