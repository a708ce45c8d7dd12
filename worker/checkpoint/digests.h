/* The digests of a training state: of blocks, of each kind (weights, moments), of the state. */
#ifndef CHECKPOINT_DIGESTS_H
#define CHECKPOINT_DIGESTS_H

#include "file.h"
#include "pieces.h"

/* What is known of a state once all its blocks are hashed. */
typedef struct ckpt_sums {
    mst_digest kinds[MST_KIND_COUNT];
    mst_digest state;
    mst_digest digests, checksums; /* of digests.bin and checksums.bin */
    uint64_t blocks;               /* of all kinds */
} ckpt_sums;

/** Begins the digest of one kind. */
mst_status ckpt_kind_begin(mst_hasher *hasher);
/** Adds a tensor's head line; the digests of its blocks follow. */
mst_status ckpt_kind_tensor(mst_hasher *hasher, const char *name, size_t dims, const size_t shape[2]);

/** The state's digest from its kinds' and the meta's counters. */
mst_status ckpt_state_digest(const mst_digest kinds[MST_KIND_COUNT], const mst_checkpoint_meta *meta,
                             mst_digest *state_out);

/** Whether the state's digest follows from what else the manifest says. @param name stands in the message
 * @retval MST_EFORMAT */
mst_status ckpt_state_check(const mst_manifest *manifest, const char *name);

/** Digests and checksums of the blocks of this rank's pieces, all kinds. Not collective. */
mst_status ckpt_pieces_digest(const mst_checkpoint_context *context, const ckpt_pieces *pieces,
                              const mst_layout *layout, const mst_shard *shards);

/** Bytes of the digests and checksums of a rank's blocks, all kinds. */
size_t ckpt_sum_bytes_of_rank(const mst_layout *layout, int rank, int size);

/* The next of a rank's blocks. */
typedef struct ckpt_next {
    const mst_digest *digest;
    const uint64_t *checksum;
} ckpt_next;

/* The digests and checksums of the blocks of all ranks, on rank 0. */
typedef struct ckpt_gathering {
    int size;         /* ranks */
    size_t *bytes_of; /* [size] */
    mst_digest *all;  /* rank 0: rank after rank, of each as its pieces have them; else NULL */
    ckpt_next *next;  /* [size] for ckpt_gathering_sums */
} ckpt_gathering;

/** Makes room. Not collective. @retval MST_ENOMEM */
mst_status ckpt_gathering_create(const mst_layout *layout, int rank, int size, ckpt_gathering *gathering_out);
void ckpt_gathering_clear(ckpt_gathering *gathering);

/** Brings them together on rank 0. Collective. @retval MST_EMPI */
mst_status ckpt_gathering_receive(const mst_checkpoint_context *context, const ckpt_pieces *pieces,
                                  const ckpt_gathering *gathering);

/**
 * Hashes what was received. Not collective: rank 0 alone.
 * @param digests, checksums receive those of all blocks (digests.bin, checksums.bin); NULL: they are not written
 */
mst_status ckpt_gathering_sums(const mst_checkpoint_context *context, const mst_layout *layout,
                               const size_t *order, ckpt_gathering *gathering,
                               const mst_checkpoint_meta *meta, const ckpt_file *digests,
                               const ckpt_file *checksums, ckpt_sums *sums_out);

/** Hashes bytes [offset, offset + bytes) of a file. */
mst_status ckpt_file_digest(const ckpt_file *file, uint64_t offset, uint64_t bytes, mst_digest *digest_out);

/** Hashes what no place covers. @param places by offset, not overlapping, within the file */
mst_status ckpt_outside_digest(const ckpt_file *file, uint64_t bytes, const mst_manifest_place *places,
                               size_t count, mst_digest *digest_out);

#endif
