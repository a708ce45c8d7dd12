/*
 * Optimizer state in host memory, for devices whose own memory is apart: gradients come to it and new weights go back, in pieces,
 * and the CPU updates. AdamW has no operation that a CPU and a GPU round differently, so the bits are those of an update on the
 * device. Private to the room.
 */
#ifndef OPTIMIZER_OFFLOAD_H
#define OPTIMIZER_OFFLOAD_H

#include "muster/kernels.h"
#include "muster/transfer.h"

enum { MST_OFFLOAD_PIECES = 2 };

/* A place for a piece. Pieces take the places in turn: one is brought over while another is updated. */
typedef struct mst_offload_piece {
    float *gradient; /* pinned */
    void *weight;    /* pinned, of either type */
    mst_mark *there; /* behind the copy of the gradient; NULL: the device's memory is the CPU's */
} mst_offload_piece;

typedef struct mst_offload {
    mst_queue *device; /* not owned */
    mst_queue *queue;  /* of the CPU */
    mst_kernels kernels;
    mst_offload_piece pieces[MST_OFFLOAD_PIECES];
    mst_adamw_part *parts; /* [parts] those of a piece */
} mst_offload;

/** Not collective. offload_out is cleared by mst_offload_clear, before the device's queue is destroyed.
 * @param device the queue that computes gradients @param threads of the CPU @param parts that an update has at most
 * @retval MST_ENOMEM, MST_ELIBRARY */
mst_status mst_offload_init(mst_queue *device, int threads, size_t parts, mst_offload *offload_out);
void mst_offload_clear(mst_offload *offload);

/** As the adamw of the table, with gradient and weight on the device, and m, v and master in pinned memory.
 * Not collective; on return the masters and moments are new, and the weights' copies are queued. */
mst_status mst_offload_adamw(mst_offload *offload, const mst_adamw_args *args);

#endif
