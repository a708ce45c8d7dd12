/* Where every parameter stands: tensors in units, cut into blocks, dealt to ranks as shards.
 * A pure function of the model. */
#ifndef MUSTER_LAYOUT_H
#define MUSTER_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "muster/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MST_NAME_MAX = 96 };

/** Blocks that so many elements take. */
static inline size_t mst_blocks_of(uint64_t elements) {
    return (size_t)((elements + MST_BLOCK - 1) / MST_BLOCK);
}

/* One parameter tensor, row-major, in Hugging Face orientation and under its Hugging Face name. */
typedef struct mst_tensor {
    char name[MST_NAME_MAX];
    size_t dims;     /* 1 or 2 */
    size_t shape[2]; /* shape[1] is 1 when dims is 1 */
    size_t count;    /* elements */
    uint32_t unit;
    size_t offset;  /* first element within the unit's flat buffer; a multiple of MST_BLOCK */
    bool embedding; /* rows that are looked up */
    double init_mean, init_deviation;
    double init_bound; /* not 0: initial values are uniform in [-init_bound, init_bound) */
} mst_tensor;

/*
 * Parameters that are gathered, reduced and updated together. In memory a unit is one flat buffer of
 * blocks * MST_BLOCK elements; each tensor starts on a block and is padded to whole blocks with zeros that
 * stay zero.
 */
typedef struct mst_unit {
    char name[32]; /* "embedding", "layer 3", "head" */
    size_t first_tensor, tensors;
    size_t blocks;
    size_t first_block; /* number of the unit's first block in the whole model */
} mst_unit;

typedef struct mst_layout {
    mst_tensor *tensors;
    size_t tensor_count;
    mst_unit *units; /* in the order of the forward pass */
    size_t unit_count;
    size_t blocks;     /* of all units */
    size_t parameters; /* elements without padding */
    bool tied;         /* the head reads the first unit, too */
} mst_layout;

/* One rank's part of one unit: the blocks that it owns, with their optimizer state.
 * Flat, blocks * MST_BLOCK long. */
typedef struct mst_shard {
    size_t first_block, blocks; /* within the unit */
    float *master;
    void *m, *v;
    mst_dtype moments; /* of m and v: F32 or BF16 */
} mst_shard;

/** The blocks of a unit that a rank owns:
 * [blocks * rank / size, blocks * (rank + 1) / size). Not collective. */
void mst_shard_range(const mst_unit *unit, int rank, int size, size_t *first_block_out, size_t *blocks_out);

/** Frees what a layout holds and zeroes it. */
void mst_layout_clear(mst_layout *layout);

#ifdef __cplusplus
}
#endif
#endif
