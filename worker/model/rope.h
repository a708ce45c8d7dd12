/* Tables of the rotary position embedding (Su et al. 2021), computed without a mathematics library. */
#ifndef MST_MODEL_ROPE_H
#define MST_MODEL_ROPE_H

#include <stddef.h>

/* Positions below this have accurate angles: what mst_elementary_cos_sin takes. */
enum { MST_ROPE_POSITIONS = 1 << 20 };

/** Frequency of pair i: theta^(-2i / head_dim), for theta in [1, 1e12] and i below head_dim / 2. */
double mst_rope_frequency(double theta, size_t head_dim, size_t i);

/**
 * Fills the tables that the rope kernel reads: the same bits from every compiler and C library.
 * @param cosine, sine fp32 [positions, head_dim / 2]
 */
void mst_rope_tables(double theta, size_t head_dim, size_t positions, float *cosine, float *sine);

#endif
