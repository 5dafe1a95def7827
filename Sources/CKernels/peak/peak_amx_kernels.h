// Tile products of 16×16 sums in four chains. The including file defines TILE_PRODUCT and SUM, how 32-bit sums are
// added. A round adds the same products to each sum; those of bf16 are exact for a few rounds.
#include "cpu/tiles.h"

static double KERNEL(run)(size_t iterations) {
    // A core that multiplies zeros takes less power, so its clock is a sixth higher. As bf16 these numbers are
    // ±[0.5, 1), as bytes from -65 to 127.
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
    int32_t sums[4 * TILE_SIDE * TILE_SIDE] __attribute__((aligned(64)));
    tiles_store_sums(2, 2, sums, 2 * TILE_SIDE);
    _tile_release();
    return SUM;
}
