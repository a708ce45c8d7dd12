/*
 * A rank's shard file in the making: one thread writes it, while others hash the memory that it is written from. When all is on
 * the disk these read it back past the page cache and compare it, several at once, so that neither the disk nor a core waits for
 * the other.
 */
#ifndef CHECKPOINT_PART_H
#define CHECKPOINT_PART_H

#include <pthread.h>

#include "shard.h"

typedef struct ckpt_part {
    /* The caller's, set before; they stay in use. */
    const mst_checkpoint_context
        *context; /* its queue's threads check; its progress is called from all of them */
    const mst_layout *layout;
    const mst_shard *shards;
    const ckpt_pieces *pieces; /* their digests and checksums are filled in */
    ckpt_record *record;       /* offsets, bytes and outside are filled in */
    float *
        wide; /* where shards have bf16: room for CKPT_CHECK_BYTES of fp32, for the thread that writes; else NULL */

    ckpt_file file;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool written, ended; /* all data is on the disk; the writing is over, with success or without */
} ckpt_part;

/* Threads that check, what each takes at a time, and its scratch memory: more than one page more, for what lies on no page
 * boundary. */
enum { CKPT_CHECKERS = 4, CKPT_CHECK_BYTES = 2 << 20, CKPT_BUFFER = CKPT_CHECK_BYTES + 8192 };

/** Bytes that writing and checking take besides: scratch memory, and what is widened of bf16. */
static inline size_t ckpt_part_buffers(bool narrow) {
    const size_t checkers = CKPT_CHECKERS;
    return checkers * CKPT_BUFFER + (narrow ? checkers * CKPT_CHECK_BYTES + CKPT_CHECK_BYTES : 0);
}

/**
 * Makes the file under its first name, with its HDF5 structure and without data. To be followed by ckpt_part_end, also
 * after a failure. A rank without pieces makes none.
 *
 * Not collective; calls no MPI; alone calls HDF5. So for all of these.
 */
mst_status ckpt_part_begin(ckpt_part *part, const char *folder, int rank);

/** Writes all data and brings it to the disk. */
mst_status ckpt_part_write(ckpt_part *part);

/** Meanwhile, on another thread: hashes every block, and compares it when all are on the disk. After a failure of the writing
 * there is nothing more to check: MST_OK.
 * @retval MST_EIO it differs: says where */
mst_status ckpt_part_check(ckpt_part *part);

/** When both are over: hashes the structure, as it is on the disk, where `status` is MST_OK, and closes the file.
 * @return `status`, or what fails */
mst_status ckpt_part_end(ckpt_part *part, mst_status status);

#endif
