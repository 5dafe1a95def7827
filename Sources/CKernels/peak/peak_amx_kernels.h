// Products of 16×16 sums in four chains; the including file says TILE_PRODUCT.
#include "cpu/tiles.h"

static void run(size_t iterations) {
    tiles_begin();
    tiles_clear_sums();
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (size_t round = 0; round < iterations; ++round) TILES_MULTIPLY(2, 2, TILE_PRODUCT);
    _tile_release();
}
