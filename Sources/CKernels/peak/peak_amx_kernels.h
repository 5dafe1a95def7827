// Products of 16×16 sums in four chains; the including file says TILE_PRODUCT.
#include "cpu/tiles.h"

static void run(size_t iterations) {
    tiles_begin();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (size_t round = 0; round < iterations; ++round) {
        TILE_PRODUCT(0, 4, 6);
        TILE_PRODUCT(1, 4, 7);
        TILE_PRODUCT(2, 5, 6);
        TILE_PRODUCT(3, 5, 7);
    }
    _tile_release();
}
