// The tile registers of AMX. The including file's functions are compiled for amx-tile.
#ifndef DMAE_TILES_H
#define DMAE_TILES_H

/// Makes each of this thread's eight tile registers 16 rows of 64 bytes. `_tile_release` gives them back: a thread that holds none is
/// switched faster.
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
#endif
