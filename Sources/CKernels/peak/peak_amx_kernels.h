// Products of 16×16 sums in four chains; the including file says TILE_PRODUCT.
#include "cpu/tiles.h"

static void KERNEL(run)(size_t iterations) {
    // A core that multiplies zeros takes less power and keeps a clock a sixth higher than one that multiplies numbers.
    // As bf16 these are ±[0.5, 1), as bytes from -65 to 127.
    enum { tile_numbers = 2 * TILE_SIDE * TILE_SIDE };
    uint16_t numbers[4 * tile_numbers] __attribute__((aligned(64)));
    uint32_t random = 1;
    for (size_t i = 0; i < 4 * tile_numbers; ++i) {
        random = random * 1664525 + 1013904223;
        numbers[i] = (uint16_t)(0x3f00 | (random >> 16 & 0x807f));
    }
    tiles_begin();
    tiles_clear_sums();
    _tile_loadd(4, numbers, 4 * TILE_SIDE);
    _tile_loadd(5, numbers + tile_numbers, 4 * TILE_SIDE);
    _tile_loadd(6, numbers + 2 * tile_numbers, 4 * TILE_SIDE);
    _tile_loadd(7, numbers + 3 * tile_numbers, 4 * TILE_SIDE);
    for (size_t round = 0; round < iterations; ++round) TILES_MULTIPLY(2, 2, TILE_PRODUCT);
    _tile_release();
}
