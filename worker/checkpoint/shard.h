/* The HDF5 files of a checkpoint: one shard file per writing rank, and model.h5,
 * which shows their tensors whole. */
#ifndef CHECKPOINT_SHARD_H
#define CHECKPOINT_SHARD_H

#include "digests.h"
#include "h5.h"

/* What names a checkpoint's files. */
typedef struct ckpt_names {
    char folder[CKPT_PATH_MAX];
    char id[17]; /* 16 hexadecimal digits, from run id and state */
    int size;    /* ranks */
} ckpt_names;

/** "shard-0003-of-0008-ID.h5". @param name_out [MST_FILE_NAME_MAX] */
void ckpt_shard_name(const ckpt_names *names, int rank, char *name_out);
/** "part-0003", as it is called until its ID is known. @param name_out [MST_FILE_NAME_MAX] */
void ckpt_part_name(int rank, char *name_out);

/* What rank 0 must know of a shard file. Numbers only, so that ranks can send it;
 * offsets of kind k and piece i: [k * pieces + i]. */
typedef struct ckpt_record {
    uint64_t bytes;
    mst_digest outside; /* of the bytes that no piece covers */
    double seconds;     /* from the beginning of the save until they were on the disk */
    uint64_t offsets[];
} ckpt_record;

static inline size_t ckpt_record_bytes(size_t pieces) {
    return sizeof(ckpt_record) + MST_KIND_COUNT * pieces * sizeof(uint64_t);
}

/**
 * Makes the HDF5 structure of a rank's shard file in an empty file. Every dataset has its place; no data is written.
 * @param record ckpt_record_bytes(pieces->count) bytes, of which the offsets are filled in
 */
mst_status ckpt_shard_make(const ckpt_file *file, const mst_layout *layout, const ckpt_pieces *pieces,
                           ckpt_record *record);

/**
 * Writes model.h5 and brings it to the disk. Not collective: rank 0 alone.
 * @param shards [shard_count] the shard files that exist
 * @param model_out name, size and digest of model.h5
 */
mst_status ckpt_model_write(const mst_checkpoint_context *context, const ckpt_names *names,
                            const mst_layout *layout, const size_t *order, const mst_checkpoint_meta *meta,
                            const ckpt_sums *sums, const mst_manifest_file *shards, size_t shard_count,
                            mst_manifest_file *model_out);

/** Writes the root's attributes, of model.h5 or of a packed checkpoint. */
mst_status ckpt_model_facts(const ckpt_h5 *h5, uint64_t version, const mst_checkpoint_meta *meta,
                            const mst_digest *weights_digest, const mst_digest *state_digest);

#endif
