/*
 * Optimizer state in host memory, for devices whose own memory is apart: gradients come to it and new weights go back, in pieces,
 * and the CPU updates. AdamW has no operation that a CPU and a GPU round differently, so the bits are those of an update on the
 * device. Private to the room.
 */
#ifndef OPTIMIZER_OFFLOAD_H
#define OPTIMIZER_OFFLOAD_H

#include "muster/kernels.h"

typedef struct mst_offload {
    mst_queue *queue; /* of the CPU */
    mst_kernels kernels;
    float *gradient;       /* pinned, one piece */
    void *weight;          /* pinned, one piece of either type */
    mst_adamw_part *parts; /* [parts] those of a piece */
} mst_offload;

/** Not collective. offload_out is cleared by mst_offload_clear. @param threads of the CPU
 * @param parts that an update has at most @retval MST_ENOMEM */
mst_status mst_offload_init(int threads, size_t parts, mst_offload *offload_out);
void mst_offload_clear(mst_offload *offload);

/** As the adamw of the table, with gradient and weight on the device, and m, v and master in pinned memory.
 * Not collective; has ended on return. @param device the queue that computed the gradient */
mst_status mst_offload_adamw(mst_offload *offload, mst_queue *device, const mst_adamw_args *args);

#endif
