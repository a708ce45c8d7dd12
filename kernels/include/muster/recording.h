/*
 * Recordings: work that a queue is given again and again, with the same arguments, is recorded when it comes for the second time
 * and launched as a whole from then on (CUDA graphs), so that many brief kernels cost one launch. The bits are those of the
 * kernels launched one by one. On devices that record nothing, and where recording fails, work is done as it comes.
 */
#ifndef MUSTER_RECORDING_H
#define MUSTER_RECORDING_H

#include "muster/queue.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Pieces of a queue's work, told apart by keys: so many bytes that say which work it is and with which arguments. */
typedef struct mst_recordings mst_recordings;

/** Puts work on the queue, by kernels alone: it copies nothing to or from the host, waits for nothing, allocates nothing after its
 * first time, and does nothing else that has to happen each time. */
typedef mst_status mst_work_fn(void *context);

/**
 * Makes room for recordings of a queue. Nothing else of them is allocated on the host later; what the device needs for a
 * recording it takes when that is made.
 *
 * Not collective.
 * @param queue kept by reference; must outlive the recordings
 * @param room how many pieces of work are recorded; others are done as they come
 * @param key_bytes of every key
 * @retval MST_ENOMEM; MST_ELIBRARY the queue's device cannot be opened
 */
mst_status mst_recordings_create(mst_queue *queue, size_t room, size_t key_bytes,
                                 mst_recordings **recordings_out);
/** Accepts NULL inside, resets the pointer. Before the queue is destroyed. */
void mst_recordings_destroy(mst_recordings **recordings);

/**
 * Does work: by calling `work`, or by its recording. Where a recording fails, now or when it is launched, nothing of it has been
 * done: the work is done as it comes, and nothing is recorded any more.
 *
 * Not collective.
 * @param key [key_bytes] equal keys mean that `work` would do the same with the same arguments
 * @retval as `work`
 */
mst_status mst_recordings_run(mst_recordings *recordings, const void *key, mst_work_fn *work, void *context);

/** Forgets all: for memory that work was recorded with and that is freed. Waits for the queue. Not collective. */
void mst_recordings_forget(mst_recordings *recordings);

/** Why nothing is recorded any more; NULL: that has not happened. The text is the recordings'. Not collective. */
const char *mst_recordings_failure(const mst_recordings *recordings);

/* One piece of work as the device has recorded it. */
typedef struct mst_recording mst_recording;

/* What a device's bodies put behind these functions. */
typedef struct mst_recording_face {
    mst_status (*begin)(void *device); /* what the queue is given is recorded and not done */
    /* Ends what was begun, in any case. NULL: nothing is kept. */
    mst_status (*end)(void *device, mst_recording **recording_out);
    mst_status (*play)(void *device, mst_recording *recording);
    void (*destroy)(void *device, mst_recording *recording); /* once its work has ended */
    /* Differs when what was recorded before does not hold any more: it relied on memory or choices of the device. */
    uint64_t (*basis)(const void *device);
} mst_recording_face;

#ifdef __cplusplus
}
#endif
#endif
