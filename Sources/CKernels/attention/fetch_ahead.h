// Prefetching of the rows that the next head reads or writes, a few before each tile: a head's rows are short and far
// apart, so the hardware does not prefetch them.
#ifndef DMAE_FETCH_AHEAD_H
#define DMAE_FETCH_AHEAD_H
#include "attention/attention.h"

enum { worth_fetching = 24 }; // tokens; with fewer, prefetching costs more than it saves
struct ahead {
    struct {
        const char *next;
        size_t stride, rows;
    } matrix[8]; // strides in bytes
    size_t matrices, width, per_tile, total;
    size_t which, row;
    bool worth;
};

static struct ahead next_head(const struct attention_head *head, size_t width, size_t element) {
    return (struct ahead){.width = width * element, .worth = head->tokens >= worth_fetching && head->next_q != 0};
}

/// Adds `rows` rows of a matrix of the next head, `next` elements from this head's.
VECTOR_INLINE void add_ahead(struct ahead *a, const void *matrix, size_t next, size_t stride, size_t rows,
                             size_t element) {
    if (!a->worth || rows == 0) return;
    a->matrix[a->matrices].next = (const char *)matrix + next * element;
    a->matrix[a->matrices].stride = stride * element;
    a->matrix[a->matrices].rows = rows;
    ++a->matrices;
    a->total += rows;
}

/// Spreads the rows over `tiles` tiles.
static void spread_ahead(struct ahead *a, size_t tiles) { a->per_tile = a->total / tiles + 1; }

VECTOR_INLINE void fetch_ahead(struct ahead *a) {
    for (size_t i = 0; i < a->per_tile && a->which < a->matrices; ++i) {
        const char *const row = a->matrix[a->which].next + a->row * a->matrix[a->which].stride;
        for (size_t j = 0; j < a->width; j += 64) v_prefetch_l2(row + j);
        if (++a->row == a->matrix[a->which].rows) a->row = 0, ++a->which;
    }
}
#endif
