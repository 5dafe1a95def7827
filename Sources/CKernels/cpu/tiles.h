// The tile registers of AMX. The including file's functions are compiled for amx-tile.
#ifndef DMAE_TILES_H
#define DMAE_TILES_H

/// Configures each of this thread's eight tile registers as 16 rows of 64 bytes. `_tile_release` frees them, which
/// makes context switches of the thread faster.
VECTOR_INLINE void tiles_begin(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int i = 0; i < 8; ++i) {
        shape.row_bytes[i] = 64;
        shape.rows[i] = 16;
    }
    _tile_loadconfig(&shape);
}

// Products of up to 32 rows by 32 columns. Registers 0 to 3 are the accumulators (0 and 1: first 16 rows), 4 and 5 hold
// a step of A, 6 and 7 a step of B. A_TILES and B_TILES, 1 or 2, are constants wherever these are inlined. Row strides
// are in words of 32 bits.
enum { TILE_SIDE = 16 };

VECTOR_INLINE void tiles_clear_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}
#define TILES_MULTIPLY(A_TILES, B_TILES, PRODUCT)               \
    do {                                                        \
        PRODUCT(0, 4, 6);                                       \
        if ((B_TILES) == 2) PRODUCT(1, 4, 7);                   \
        if ((A_TILES) == 2) PRODUCT(2, 5, 6);                   \
        if ((A_TILES) == 2 && (B_TILES) == 2) PRODUCT(3, 5, 7); \
    } while (0)
VECTOR_INLINE void tiles_store_sums(const int A_TILES, const int B_TILES, void *sums, size_t ld) {
    int32_t *const at = sums;
    _tile_stored(0, at, ld * 4);
    if (B_TILES == 2) _tile_stored(1, at + TILE_SIDE, ld * 4);
    if (A_TILES == 2) _tile_stored(2, at + TILE_SIDE * ld, ld * 4);
    if (A_TILES == 2 && B_TILES == 2) _tile_stored(3, at + TILE_SIDE * ld + TILE_SIDE, ld * 4);
}
#endif
