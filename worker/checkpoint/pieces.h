/* Which part of which tensor a rank holds. A piece: the blocks of one tensor that stand
 * in one rank's shard of its unit. */
#ifndef CHECKPOINT_PIECES_H
#define CHECKPOINT_PIECES_H

#include <stdbool.h>

#include "muster/checkpoint.h"

typedef struct ckpt_piece {
    size_t tensor;         /* index in the layout */
    size_t place;          /* of the tensor in name order; set by ckpt_pieces_list */
    uint64_t first, count; /* elements of the tensor; first is a multiple of MST_BLOCK */
    size_t at;             /* its first element in the shard's buffers */
} ckpt_piece;

/* A rank's pieces in name order, and the digests and checksums of their blocks: in one piece of memory, which the first digest
 * begins, the digests of kind after kind, then the checksums. */
typedef struct ckpt_pieces {
    size_t count;
    ckpt_piece *pieces;   /* [count] */
    size_t *first_digest; /* [count + 1] */
    mst_digest *digests[MST_KIND_COUNT];
    uint64_t *checksums[MST_KIND_COUNT];
} ckpt_pieces;

enum { CKPT_SUM_BYTES = (int)sizeof(mst_digest) + (int)sizeof(uint64_t) }; /* of one block */

/** The shard's buffer of a kind. */
static inline void *ckpt_shard_data(const mst_shard *shard, mst_tensor_kind kind) {
    return kind == MST_KIND_MASTER ? shard->master : kind == MST_KIND_EXP_AVG ? shard->m : shard->v;
}

/** Tensor indices sorted by name, bytewise. Caller frees.
 * @retval MST_ENOMEM, MST_EINVAL two tensors of one name */
mst_status ckpt_name_order(const mst_layout *layout, size_t **order_out);

/** @retval MST_EINVAL a shard's range is not that of this rank, as mst_shard_range gives it */
mst_status ckpt_check_ranges(const mst_layout *layout, const mst_shard *shards, int rank, int size);

/** The part of a tensor within `blocks` blocks of its unit from `first_block`. False when there is none. */
bool ckpt_piece_within(const mst_layout *layout, size_t tensor, size_t first_block, size_t blocks,
                       ckpt_piece *piece_out);

/** The part of a tensor that a rank owns. False when there is none. */
bool ckpt_piece_of_rank(const mst_layout *layout, size_t tensor, int rank, int size, ckpt_piece *piece_out);

/** Lists the pieces of shards with any ranges; room for digests and checksums is made, they are zero.
 * @retval MST_ENOMEM */
mst_status ckpt_pieces_list(const mst_layout *layout, const size_t *order, const mst_shard *shards,
                            ckpt_pieces *pieces_out);
void ckpt_pieces_clear(ckpt_pieces *pieces);

#endif
