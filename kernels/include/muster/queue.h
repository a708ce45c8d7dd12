/* The device queue: where kernels run. On the CPU a pool of threads;
 * on a GPU a stream with its library handles. */
#ifndef MUSTER_QUEUE_H
#define MUSTER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_queue mst_queue;

/* Where memory lives. The CPU treats all three alike; with a GPU only HOST memory is out of its kernels' reach, and only
 * DEVICE memory is out of the CPU's. */
typedef enum mst_space { MST_SPACE_HOST, MST_SPACE_PINNED, MST_SPACE_DEVICE } mst_space;

/**
 * Creates a queue of `threads` CPU threads (the caller's thread is one of them).
 *
 * Not collective.
 * @param threads 1 to 1024
 * @param queue_out the new queue, owned by the caller; released by mst_queue_destroy
 * @retval MST_EINVAL threads out of range
 * @retval MST_ENOMEM no memory, or a thread could not be started
 * Threads: a queue serves one calling thread at a time. Waiting threads sleep; they spin only briefly, and
 * not at all when `threads` exceeds the cores this process may use.
 */
mst_status mst_queue_create(int threads, mst_queue **queue_out);

/** Ends the threads and frees the queue; accepts NULL inside, resets the pointer. Not collective. */
void mst_queue_destroy(mst_queue **queue);

/** Number of threads, the caller's included. */
int mst_queue_threads(const mst_queue *queue);

/**
 * One task of a parallel loop.
 * @param thread index of the thread that runs it, 0 to threads - 1: for scratch memory only;
 * a result must not depend on it
 */
typedef mst_status mst_task_fn(void *context, size_t task, int thread);

/**
 * Runs tasks 0 to count - 1, in any order, on the queue's threads, and returns when all have ended.
 *
 * Not collective. Must not be called from inside a task.
 * @retval the status of the lowest-numbered task that failed, with its message, else MST_OK. After a failure
 * remaining tasks may be left out. Memory: none allocated. What a task computes may depend on its number
 * only: the partition is the caller's and must not depend on the number of threads.
 */
mst_status mst_queue_for(mst_queue *queue, size_t count, mst_task_fn *task, void *context);

/** @param context as given to mst_queue_attend */
typedef void mst_attend_fn(void *context);

/**
 * What the thread that calls mst_queue_for does besides, after each of its tasks: for libraries that work only inside of their
 * own calls, as MPI does. NULL: nothing. It must be brief, must not use the queue, and outlives no context.
 *
 * Not collective. Threads: not during a loop.
 */
void mst_queue_attend(mst_queue *queue, mst_attend_fn *attend, void *context);

/** A number that changes whenever a loop begins or a task is taken: whoever sees it change knows that work goes on. Not
 * collective. Threads: any, while the queue exists. */
uint64_t mst_queue_pulse(const mst_queue *queue);

/** Waits until all work queued so far has ended, and returns its first error.
 * On the CPU there is nothing to wait for. Not collective. */
mst_status mst_queue_sync(mst_queue *queue);

/**
 * Scratch memory of one thread of the queue, at least `bytes`, 64-byte aligned, uninitialised.
 *
 * Not collective. The same memory is returned again by the next call for that thread: one user at a time.
 * @return NULL when there is no memory. Grows at first use only, so that a training
 * step allocates nothing later.
 */
void *mst_queue_scratch(mst_queue *queue, int thread, size_t bytes);

/**
 * Allocates `bytes` (rounded up to 64) of zeroed memory in a space, 64-byte aligned (4096 from one page on).
 *
 * Not collective. @retval MST_ENOMEM with the number of bytes asked for
 */
mst_status mst_memory_alloc(mst_space space, size_t bytes, void **memory_out);

/** Frees memory of mst_memory_alloc and resets the pointer; accepts NULL.
 * Debug builds fill it with NaN first. */
void mst_memory_free(mst_space space, void *memory_pointer_address);

/**
 * Copies `bytes` between memories of any two spaces, after all work queued so far, and returns when it has ended.
 *
 * Not collective. @retval MST_ELIBRARY with the device's own text
 */
mst_status mst_memory_copy(mst_queue *queue, void *to, const void *from, size_t bytes);

/**
 * The same where neither is HOST memory, in the order of the queue's work, without waiting for it: until a mark behind it has
 * passed (muster/transfer.h), what is copied must not change, and pinned memory has not received it. On the CPU it has ended.
 */
mst_status mst_memory_copy_later(mst_queue *queue, void *to, const void *from, size_t bytes);

/** Sets every byte of memory of any space, in the order of the queue's work. Not collective. @retval MST_ELIBRARY */
mst_status mst_memory_fill(mst_queue *queue, void *memory, unsigned char value, size_t bytes);

/** Bytes of the opened device's memory that are free, whoever has the others, and that there are. Where memory is not apart both
 * are 0. Not collective. @retval MST_ELIBRARY */
mst_status mst_memory_room(size_t *free_out, size_t *all_out);

/** Whether DEVICE memory is out of the CPU's reach: a GPU's table has been opened. Not collective. */
bool mst_memory_is_apart(void);

/**
 * What the queue's device chose where its libraries offer several ways whose bits differ: one line of text for each.
 *
 * Not collective. @param text_out freed by the caller with free; NULL: the device has no such choice
 * @retval MST_ENOMEM
 */
mst_status mst_queue_choices(mst_queue *queue, char **text_out);

/**
 * Makes the choices of such a text, and forgets all others: what it does not name is chosen when it is met.
 *
 * Not collective. Does nothing where there is no choice.
 * @retval MST_EFORMAT it is no such text; MST_EUNSUPPORTED a library does not offer what it names; MST_ENOMEM
 */
mst_status mst_queue_choose(mst_queue *queue, const char *text);

/*
 * What a device's bodies put behind these functions. A queue has no device until it is first used with it; the memory of the process is the CPU's until a table of another device is opened.
 */
typedef struct mst_queue_face {
    mst_status (*copy)(void *device, void *to, const void *from, size_t bytes); /* in the order of its work */
    mst_status (*fill)(void *device, void *memory, unsigned char value, size_t bytes);
    mst_status (*sync)(void *device);
    void (*destroy)(void *device);
    mst_status (*choices)(void *device, char **text_out);
    mst_status (*choose)(void *device, const char *text);
    const struct mst_transfer_face *transfers;   /* muster/transfer.h */
    const struct mst_recording_face *recordings; /* muster/recording.h; NULL: the device records nothing */
} mst_queue_face;

typedef struct mst_memory_face {
    mst_status (*alloc)(mst_space space, size_t bytes, void **memory_out); /* zeroed; PINNED or DEVICE */
    void (*free)(mst_space space, void *memory);
    mst_status (*drive)(mst_queue *queue); /* attaches a device to a queue that has none */
    mst_status (*room)(size_t *free_out, size_t *all_out);
} mst_memory_face;

/** Gives a queue the device that it drives; the queue owns it from now on. Not collective. */
void mst_queue_attach(mst_queue *queue, const mst_queue_face *face, void *device);

/** Attaches a device to a queue that has none, where memory is apart. Not collective. @retval MST_ELIBRARY */
mst_status mst_memory_drive(mst_queue *queue);

/** The device of a queue, and what stands behind it; NULL before one was attached. */
void *mst_queue_device(const mst_queue *queue);
const mst_queue_face *mst_queue_face_of(const mst_queue *queue);

/** PINNED and DEVICE memory comes from `face` from now on. Before the process allocates any of it. Not collective. */
void mst_memory_attach(const mst_memory_face *face);

#ifdef __cplusplus
}
#endif
#endif
