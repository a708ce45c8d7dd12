/*
 * Transfers: a second stream of a queue's device, beside its work, for libraries that move memory between devices; marks in
 * either; and device memory that several processes of a host reach.
 */
#ifndef MUSTER_TRANSFER_H
#define MUSTER_TRANSFER_H

#include <stdbool.h>

#include "muster/queue.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A place in the order of a queue's transfers, or of its work. */
typedef struct mst_mark mst_mark;

/** The stream as the device's libraries take it (cudaStream_t). Not collective.
 * @retval MST_EUNSUPPORTED the queue has no device, or one without transfers */
mst_status mst_transfer_stream(mst_queue *queue, void **stream_out);

/** Transfers queued from now on begin when all work queued so far has ended. Not collective; waits for nothing.
 * @retval MST_ELIBRARY */
mst_status mst_transfer_follow(mst_queue *queue);

/** Not collective. @retval MST_EUNSUPPORTED, MST_ELIBRARY */
mst_status mst_mark_create(mst_queue *queue, mst_mark **mark_out);
/** Accepts NULL inside, resets the pointer. Before the queue is destroyed. */
void mst_mark_destroy(mst_queue *queue, mst_mark **mark);

/** Puts the mark behind all transfers queued so far. Not collective. @retval MST_ELIBRARY */
mst_status mst_mark_set(mst_queue *queue, mst_mark *mark);

/** Puts the mark behind all work queued so far instead. Not collective. @retval MST_ELIBRARY */
mst_status mst_mark_set_work(mst_queue *queue, mst_mark *mark);

/** Whether all before the mark has ended. Work queued after that sees what transfers brought. Not collective; waits for
 * nothing. @retval MST_ELIBRARY some of it failed */
mst_status mst_mark_passed(mst_queue *queue, mst_mark *mark, bool *passed_out);

/** Waits until all before the mark has ended; not for what was queued behind it, nor for a mark that was never set. Not collective.
 * @retval MST_ELIBRARY some of it failed */
mst_status mst_mark_wait(mst_queue *queue, mst_mark *mark);

/* Names an allocation of device memory to other processes of the host (cudaIpcMemHandle_t). */
typedef struct mst_shared_memory {
    unsigned char bytes[64];
} mst_shared_memory;

/** Lets other processes of the host reach an allocation, whole. Not collective. @retval MST_ELIBRARY, MST_EUNSUPPORTED */
mst_status mst_memory_share(mst_queue *queue, void *memory, mst_shared_memory *name_out);

/** Maps another process's allocation for this queue's kernels and copies. Its owner frees it only when all have left it.
 * Not collective. @retval MST_ELIBRARY the two devices cannot reach each other */
mst_status mst_memory_join(mst_queue *queue, const mst_shared_memory *name, void **memory_out);
/** Accepts NULL inside, resets the pointer. */
void mst_memory_leave(mst_queue *queue, void **memory);

/* What a device's bodies put behind these functions. */
typedef struct mst_transfer_face {
    void *(*stream)(void *device);
    mst_status (*follow)(void *device);
    mst_status (*mark_create)(mst_mark **mark_out);
    void (*mark_destroy)(mst_mark *mark);
    mst_status (*mark_set)(void *device, mst_mark *mark);
    mst_status (*mark_set_work)(void *device, mst_mark *mark);
    mst_status (*mark_passed)(mst_mark *mark, bool *passed_out);
    mst_status (*mark_wait)(mst_mark *mark);
    mst_status (*share)(void *memory, mst_shared_memory *name_out);
    mst_status (*join)(const mst_shared_memory *name, void **memory_out);
    void (*leave)(void *memory);
} mst_transfer_face;

#ifdef __cplusplus
}
#endif
#endif
