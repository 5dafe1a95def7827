// The tile with AMX. The including file defines UNIT, values of k in a lane of 32 bits; PARTS, bf16 parts of a value:
// one, or three whose sum it is; HEAD_WORDS, words in front of a panel for each row or column (none, or those of
// gemm_int8_packing.h); and TILE_PRODUCT(sums, a, b).
//
// Four tile registers hold the accumulators of a tile, two by two. One instruction multiplies 16 rows by 16 columns
// over 16 lanes of k, sixteen times the work of a vector instruction, so the work around the products matters as much:
// the epilogue of a tile runs while the next tile is multiplied, when the vector units are idle. A panel of A is
// [k/STEP_K][PARTS][MR][16] lanes, as rows lie in memory; a panel of B is [k/STEP_K][PARTS][16][NR] lanes. In
// `multiply` and below, `finish`, A_TILES and B_TILES are constants wherever they are inlined.
#ifndef DMAE_AMX_TILE_H
#define DMAE_AMX_TILE_H
#include "cpu/tiles.h"

#include <string.h>

enum { MR = 32, NR = 32, HALF = TILE_SIDE, STEP_K = HALF * UNIT };
enum { PART_A = MR * HALF, PART_B = HALF * NR, STEP_A = PARTS * PART_A, STEP_B = PARTS * PART_B };
#include "gemm/tile_finish.h"

/// How a tile is finished. All but finish_anything: all columns exist, and all matrices have one type.
enum finish {
    finish_nothing,
    finish_f32,
    finish_streamed,
    finish_bf16,
    finish_forward_f32,
    finish_forward_bf16,
    finish_backward_f32,
    finish_backward_bf16,
    finish_anything
};

/// This thread's tile that is multiplied but not finished.
struct pending {
    enum finish finish;
    struct gemm_tile tile;
    int32_t sums[MR * NR] __attribute__((aligned(64))); ///< float32, or integers
    float a_head[MR * (HEAD_WORDS + 1)],
        b_head[NR * (HEAD_WORDS + 1)]; ///< headers of its panels, which may be repacked meanwhile
};
static _Thread_local struct pending pending;

static enum finish finish_of(const struct gemm_tile *t) {
    if (t->columns < NR || t->row_factor) return finish_anything;
    const dmae_type type = t->c ? t->c_type : t->activation_type;
    if (t->activation == NULL && t->before_gelu == NULL) {
        if (type == DMAE_TYPE_BF16) return finish_bf16;
        return t->stream_c && (uintptr_t)t->c % 64 == 0 && t->ldc % 16 == 0 ? finish_streamed : finish_f32;
    }
    if (t->activation && t->activation_type != type) return finish_anything;
    if (t->before_gelu == NULL) return type == DMAE_TYPE_BF16 ? finish_forward_bf16 : finish_forward_f32;
    if (t->before_gelu_type != type) return finish_anything;
    return type == DMAE_TYPE_BF16 ? finish_backward_bf16 : finish_backward_f32;
}

/// Row `i` of the pending tile's product, from column `j` on.
VECTOR_INLINE V sums_at(size_t i, size_t j) {
    const int32_t *const sums = pending.sums + i * NR + j;
    if (HEAD_WORDS == 0) return v_load((const float *)sums);
    const __m512i zero = _mm512_set1_epi32(((const int32_t *)pending.a_head)[MR + i]);
    const __m512i from_zero = _mm512_mullo_epi32(zero, _mm512_loadu_si512(pending.b_head + NR + j));
    const __m512i whole = _mm512_sub_epi32(_mm512_loadu_si512(sums), from_zero);
    return v_multiply(v_multiply(_mm512_cvtepi32_ps(whole), v_set(pending.a_head[i])), v_load(pending.b_head + j));
}

/// 32 floats as a line of bf16.
VECTOR_INLINE void store_line(void *matrix, size_t index, __m512i halves) {
    _mm512_storeu_si512((uint16_t *)matrix + index, halves);
}
VECTOR_INLINE __m512i line_of(V low, V high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }
VECTOR_INLINE V low_of(__m512i line) { return v_from_bf16(_mm512_castsi512_si256(line)); }
VECTOR_INLINE V high_of(__m512i line) { return v_from_bf16(_mm512_extracti64x4_epi64(line, 1)); }

/// Row `i`, all 32 columns, as finish_row does it, but in whole lines.
VECTOR_INLINE void finish_line(const enum finish finish, const struct gemm_tile *t, size_t i) {
    V low = sums_at(i, 0), high = sums_at(i, LANES);
    const float *const added[] = {t->addend ? t->addend + i * t->ld_addend : NULL,
                                  t->residual ? t->residual + i * t->ld_residual : NULL, t->bias};
#pragma clang loop unroll(full)
    for (int part = 0; part < 3; ++part)
        if (added[part]) {
            low = v_add(low, v_load(added[part]));
            high = v_add(high, v_load(added[part] + LANES));
        }
    if (finish == finish_bf16 || finish == finish_forward_bf16 || finish == finish_backward_bf16) {
        __m512i before = line_of(low, high);
        if (finish == finish_backward_bf16) {
            before = _mm512_loadu_si512((const uint16_t *)t->before_gelu + i * t->ld_before_gelu);
            low = v_multiply(low, gelu_f32_derivative(low_of(before)));
            high = v_multiply(high, gelu_f32_derivative(high_of(before)));
            store_line(t->c, i * t->ldc, line_of(low, high));
        } else if (t->c) {
            store_line(t->c, i * t->ldc, before);
        }
        if (finish != finish_bf16 && t->activation)
            store_line(t->activation, i * t->ld_activation,
                       line_of(gelu_f32(low_of(before)), gelu_f32(high_of(before))));
        return;
    }
    V before_low = low, before_high = high;
    if (finish == finish_backward_f32) {
        const float *const before = (const float *)t->before_gelu + i * t->ld_before_gelu;
        before_low = v_load(before);
        before_high = v_load(before + LANES);
        low = v_multiply(low, gelu_f32_derivative(before_low));
        high = v_multiply(high, gelu_f32_derivative(before_high));
    }
    if (t->c) {
        float *const c = (float *)t->c + i * t->ldc;
        void (*const store)(float *, V) = finish == finish_streamed ? v_stream : v_store;
        store(c, low);
        store(c + LANES, high);
    }
    if ((finish == finish_forward_f32 || finish == finish_backward_f32) && t->activation) {
        float *const activation = (float *)t->activation + i * t->ld_activation;
        v_store(activation, gelu_f32(before_low));
        v_store(activation + LANES, gelu_f32(before_high));
    }
}

/// Rows [begin, end) of the pending tile.
VECTOR_INLINE void finish_rows(const enum finish finish, const struct gemm_tile *t, size_t begin, size_t end) {
    if (finish == finish_nothing) return;
    for (size_t i = begin; i < end; ++i) {
        if (finish != finish_anything) {
            finish_line(finish, t, i);
            continue;
        }
        float sums[NR];
        for (size_t j = 0; j < NR; j += LANES) v_store(sums + j, sums_at(i, j));
        if (t->before_gelu) finish_row(gelu_backward, true, false, NULL, t, i, sums);
        else if (t->activation) finish_row(gelu_forward, true, false, NULL, t, i, sums);
        else finish_row(gelu_none, true, false, NULL, t, i, sums);
    }
}

// RUN with the pending tile's way of finishing as a constant.
#define FOR_FINISH(RUN)                                          \
    switch (pending.finish) {                                    \
    case finish_nothing: RUN(finish_nothing); break;             \
    case finish_f32: RUN(finish_f32); break;                     \
    case finish_streamed: RUN(finish_streamed); break;           \
    case finish_bf16: RUN(finish_bf16); break;                   \
    case finish_forward_f32: RUN(finish_forward_f32); break;     \
    case finish_forward_bf16: RUN(finish_forward_bf16); break;   \
    case finish_backward_f32: RUN(finish_backward_f32); break;   \
    case finish_backward_bf16: RUN(finish_backward_bf16); break; \
    case finish_anything: RUN(finish_anything); break;           \
    }

static void KERNEL(finish_pending)(void) {
    const struct gemm_tile t = pending.tile;
#define RUN(finish) finish_rows(finish, &t, 0, t.rows)
    FOR_FINISH(RUN)
#undef RUN
    pending.finish = finish_nothing;
}

/// Prefetches the next `count` lines.
VECTOR_INLINE void prefetch_lines(struct gemm_prefetches *prefetches, size_t *set, size_t count) {
    for (; count != 0 && *set < prefetches->sets; ++*set) {
        struct gemm_lines *const lines = &prefetches->lines[*set];
        for (; count != 0 && lines->count != 0; --count, --lines->count) {
            v_prefetch_l2(lines->first);
            lines->first += lines->stride;
        }
        if (lines->count != 0) return;
    }
}

// The panel that changes from tile to tile is loaded past the first-level cache, where the other one stays if it fits.
#define LOAD_PASSING(tile_register, passes, from, ld)                  \
    do {                                                               \
        if (passes) _tile_stream_loadd(tile_register, from, (ld) * 4); \
        else _tile_loadd(tile_register, from, (ld) * 4);               \
    } while (0)

/// Prefetches the first lines of a tile register's next load into the first-level cache; of B, whose two registers load
/// alternate lines, those of its upper or its lower eight rows. The hardware prefetches the lines behind them. Where
/// two threads share the tile unit of a core, few loads are in flight at a time, so they must be short.
VECTOR_INLINE void prefetch_next(const float *next) {
#pragma clang loop unroll(full)
    for (size_t i = 0; i < HALF / 2; ++i) v_prefetch_l1(next + i * 16);
}

/// One step of k, in the order in which the operands arrive.
VECTOR_INLINE void multiply_step(const int A_TILES, const int B_TILES, bool streams_a, const float *a, const float *b) {
    LOAD_PASSING(6, !streams_a, b, NR);
    prefetch_next(b + STEP_B);
    LOAD_PASSING(4, streams_a, a, HALF);
    prefetch_next(a + STEP_A);
    TILE_PRODUCT(0, 4, 6);
    if (B_TILES == 2) {
        LOAD_PASSING(7, !streams_a, b + HALF, NR);
        prefetch_next(b + STEP_B + STEP_B / 2);
        TILE_PRODUCT(1, 4, 7);
    }
    if (A_TILES == 2) {
        LOAD_PASSING(5, streams_a, a + STEP_A / 2, HALF);
        prefetch_next(a + STEP_A + STEP_A / 2);
        TILE_PRODUCT(2, 5, 6);
        if (B_TILES == 2) TILE_PRODUCT(3, 5, 7);
    }
}

VECTOR_INLINE void load_part_of_a(const int A_TILES, const float *part) {
    _tile_loadd(4, part, HALF * 4);
    prefetch_next(part + STEP_A);
    if (A_TILES == 1) return;
    _tile_loadd(5, part + PART_A / 2, HALF * 4);
    prefetch_next(part + STEP_A + PART_A / 2);
}
VECTOR_INLINE void load_part_of_b(const int B_TILES, const float *part) {
    _tile_loadd(6, part, NR * 4);
    prefetch_next(part + STEP_B);
    if (B_TILES == 1) return;
    _tile_loadd(7, part + HALF, NR * 4);
    prefetch_next(part + STEP_B + PART_B / 2);
}

/// One step of k of operands in three parts: the six largest products of parts, nearly the smallest first, in an order
/// in which each product loads one operand.
VECTOR_INLINE void multiply_parts(const int A_TILES, const int B_TILES, const float *a, const float *b) {
    load_part_of_a(A_TILES, a);
    load_part_of_b(B_TILES, b + 2 * PART_B);
    TILES_MULTIPLY(A_TILES, B_TILES, TILE_PRODUCT);
    load_part_of_b(B_TILES, b + PART_B);
    TILES_MULTIPLY(A_TILES, B_TILES, TILE_PRODUCT);
    load_part_of_a(A_TILES, a + PART_A);
    TILES_MULTIPLY(A_TILES, B_TILES, TILE_PRODUCT);
    load_part_of_b(B_TILES, b);
    TILES_MULTIPLY(A_TILES, B_TILES, TILE_PRODUCT);
    load_part_of_a(A_TILES, a + 2 * PART_A);
    TILES_MULTIPLY(A_TILES, B_TILES, TILE_PRODUCT);
    load_part_of_a(A_TILES, a);
    TILES_MULTIPLY(A_TILES, B_TILES, TILE_PRODUCT);
}

/// Multiplies `t`, and finishes the pending tile meanwhile.
VECTOR_INLINE void multiply(const int A_TILES, const int B_TILES, const enum finish finish, const struct gemm_tile *t,
                            struct gemm_prefetches *prefetches) {
    const struct gemm_tile before = pending.tile;
    const size_t steps = (t->k + STEP_K - 1) / STEP_K;
    const size_t rows = steps ? (before.rows + steps - 1) / steps : 0;
    size_t lines = 0, set = 0, row = 0;
    for (size_t i = 0; i < prefetches->sets; ++i) lines += prefetches->lines[i].count;
    lines = steps ? (lines + steps - 1) / steps : 0;
    const float *a = (const float *)t->a + HEAD_WORDS * MR, *b = (const float *)t->b + HEAD_WORDS * NR;
    tiles_clear_sums();
    for (size_t step = 0; step < steps; ++step, a += STEP_A, b += STEP_B) {
        if (PARTS == 1) multiply_step(A_TILES, B_TILES, t->streams_a, a, b);
        else multiply_parts(A_TILES, B_TILES, a, b);
        prefetch_lines(prefetches, &set, lines);
        if (finish != finish_nothing) {
            const size_t end = row + rows < before.rows ? row + rows : before.rows;
            finish_rows(finish, &before, row, end);
            row = end;
        }
    }
    if (finish != finish_nothing) finish_rows(finish, &before, row, before.rows);
    tiles_store_sums(A_TILES, B_TILES, pending.sums, NR);
}

static void KERNEL(tile)(const struct gemm_tile *t) {
    const enum finish finish = finish_of(t);
    struct gemm_prefetches prefetches;
    prefetches.sets = 0;
    if (finish != finish_streamed) prefetch_rows(&prefetches, MR, 2, t->c_type, t->c, t->ldc);
    prefetch_rows(&prefetches, MR, 2, DMAE_TYPE_F32, t->residual, t->ld_residual);
    prefetch_rows(&prefetches, MR, 2, t->before_gelu_type, t->before_gelu, t->ld_before_gelu);
    if (t->activation != t->before_gelu)
        prefetch_rows(&prefetches, MR, 2, t->activation_type, t->activation, t->ld_activation);
    prefetches.lines[prefetches.sets++] = t->prefetch;
    if (t->rows > HALF && t->columns > HALF) {
#define RUN(finish) multiply(2, 2, finish, t, &prefetches)
        FOR_FINISH(RUN)
#undef RUN
    } else {
        KERNEL(finish_pending)();
        if (t->columns > HALF) multiply(1, 2, finish_nothing, t, &prefetches);
        else if (t->rows > HALF) multiply(2, 1, finish_nothing, t, &prefetches);
        else multiply(1, 1, finish_nothing, t, &prefetches);
    }
    pending.tile = *t;
    pending.finish = finish;
    memcpy(pending.a_head, t->a, HEAD_WORDS * MR * sizeof(float));
    memcpy(pending.b_head, t->b, HEAD_WORDS * NR * sizeof(float));
}

static void KERNEL(begin)(void) { tiles_begin(); }
static void KERNEL(end)(void) {
    KERNEL(finish_pending)();
    _tile_release();
}
#endif
