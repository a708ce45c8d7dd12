/* A thread that does one job at a time, and keeps what came of it. It gets no signals. Training goes first: where no core is spare
 * the thread gets its parts of one (below), which is what training then loses to it. While the main thread waits for it, nothing
 * keeps it back. */
#ifndef CHECKPOINT_THREAD_H
#define CHECKPOINT_THREAD_H

#include <pthread.h>
#include <stdbool.h>

#include "muster/queue.h"

/* Nice values. Linux gives such threads 56 and 15 parts where one at 0 gets 1,024: the former for what mostly waits for the disk,
 * the latter for those that compute. */
enum { CKPT_BEHIND = 13, CKPT_FAR_BEHIND = 19 };

typedef mst_status ckpt_job(void *context);

typedef struct ckpt_thread {
    pthread_t thread;
    bool started;
    int nice;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    ckpt_job *job; /* NULL: it has none */
    void *context;
    bool ends;
    mst_status status; /* of the latest job, with its message */
    char message[2048];
} ckpt_thread;

/** Starts a zeroed thread. @param name stands in the message @retval MST_ENOMEM */
mst_status ckpt_thread_start(ckpt_thread *thread, const char *name, int nice);
/** Waits for its job and ends it; accepts one that was not started. */
void ckpt_thread_end(ckpt_thread *thread);

/** A queue whose threads, but the caller's, get no signals and have this nice value. @retval as mst_queue_create */
mst_status ckpt_thread_queue(int threads, int nice, mst_queue **queue_out);

/** Gives it a job; it must have none. */
void ckpt_thread_give(ckpt_thread *thread, ckpt_job *job, void *context);
/** Waits for its job, `seconds` at most. @return whether it has none now */
bool ckpt_thread_rest(ckpt_thread *thread, double seconds);
/** What came of its latest job, which must be over; an error's message becomes the caller's. */
mst_status ckpt_thread_result(ckpt_thread *thread);

#endif
