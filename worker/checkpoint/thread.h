/* A thread that does one job at a time, and keeps what came of it. It gets no signals. Training goes first: where no
 * core is spare the thread gets about a twentieth of one, which is what training then loses. While the main thread waits for it,
 * nothing keeps it back. */
#ifndef CHECKPOINT_THREAD_H
#define CHECKPOINT_THREAD_H

#include <pthread.h>
#include <stdbool.h>

#include "muster/queue.h"

typedef mst_status ckpt_job(void *context);

typedef struct ckpt_thread {
    pthread_t thread;
    bool started;
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
mst_status ckpt_thread_start(ckpt_thread *thread, const char *name);
/** Waits for its job and ends it; accepts one that was not started. */
void ckpt_thread_end(ckpt_thread *thread);

/** A queue whose threads, but the caller's, stand behind these: several of them take a core that is spare, and little from
 * training. They get no signals. @retval as mst_queue_create */
mst_status ckpt_thread_queue(int threads, mst_queue **queue_out);

/** Gives it a job; it must have none. */
void ckpt_thread_give(ckpt_thread *thread, ckpt_job *job, void *context);
/** Waits for its job, `seconds` at most. @return whether it has none now */
bool ckpt_thread_rest(ckpt_thread *thread, double seconds);
/** What came of its latest job, which must be over; an error's message becomes the caller's. */
mst_status ckpt_thread_result(ckpt_thread *thread);

#endif
