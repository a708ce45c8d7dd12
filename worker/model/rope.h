/* Tables of the rotary position embedding (Su et al. 2021), computed without a mathematics library. */
#ifndef MST_MODEL_ROPE_H
#define MST_MODEL_ROPE_H

#include "muster/model.h"

/* Positions below this have accurate angles: what mst_elementary_cos_sin takes. */
enum { MST_ROPE_POSITIONS = 1 << 20 };

/** Frequency of pair i, below head_dim / 2: theta^(-2i / head_dim), for theta in [1, 1e12], and scaled where the
 * config says so (docs/model.md has the formula). */
double mst_rope_frequency(const mst_model_config *config, size_t i);

/**
 * Fills the tables that the rope kernel reads: the same bits from every compiler and C library.
 * @param cosine, sine fp32 [positions, head_dim / 2]
 */
void mst_rope_tables(const mst_model_config *config, size_t positions, float *cosine, float *sine);

#endif
