// Packing of micro-panels for the GEMM driver.
#ifndef DMAE_GEMM_PACKING_H
#define DMAE_GEMM_PACKING_H
#include "gemm/plan.h"

/// Packs the plan's block of the panels [begin, end) of A, or of B.
void gemm_pack_a(const struct gemm_plan *p, size_t begin, size_t end, char *target);
void gemm_pack_b(const struct gemm_plan *p, size_t begin, size_t end, char *target);

/// The shared operand in pieces, which threads pack independently: pieces that are `panels` wide and `depth` deep, and
/// their number along both.
struct gemm_pieces {
    size_t panels, depth, along_panels, along_k;
};
/// No pieces where the shared operand comes packed.
struct gemm_pieces gemm_cut_pieces(const struct gemm_plan *p);
/// `scratch` is the thread's memory for private panels, which a piece fits.
void gemm_pack_piece(const struct gemm_plan *p, const struct gemm_pieces *pieces, size_t index, char *scratch);
#endif
