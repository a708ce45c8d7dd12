#include "thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static void *work(void *argument) {
    ckpt_thread *t = argument;
    setpriority(PRIO_PROCESS, 0,
                t->nice); /* of this thread alone; refused? Then it works as fast as training */
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->job == NULL && !t->ends) pthread_cond_wait(&t->changed, &t->lock);
        if (t->job == NULL) break;
        ckpt_job *job = t->job;
        void *context = t->context;
        pthread_mutex_unlock(&t->lock);
        mst_status status = job(context);
        pthread_mutex_lock(&t->lock);
        t->status = status;
        snprintf(t->message, sizeof t->message, "%s", mst_error_message());
        t->job = NULL;
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

mst_status ckpt_thread_start(ckpt_thread *thread, const char *name, int nice) {
    sigset_t all, before; /* signals are for the main thread, whose handlers have a stack of their own */
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    thread->nice = nice;
    pthread_mutex_init(&thread->lock, NULL);
    pthread_cond_init(&thread->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread->thread, NULL, work, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    thread->started = error == 0;
    if (thread->started) return MST_OK;
    pthread_cond_destroy(&thread->changed);
    pthread_mutex_destroy(&thread->lock);
    return mst_error(MST_ENOMEM, "checkpoint: the thread that %s could not be started: %s", name,
                     strerror(error));
}

typedef struct queue_wanted {
    int threads;
    mst_queue **queue_out;
} queue_wanted;

/* Threads inherit it from the one that starts them. */
static mst_status create_queue(void *context) {
    const queue_wanted *wanted = context;
    return mst_queue_create(wanted->threads, wanted->queue_out);
}

mst_status ckpt_thread_queue(int threads, int nice, mst_queue **queue_out) {
    queue_wanted wanted = {threads, queue_out};
    ckpt_thread starter = {0};
    mst_status status = ckpt_thread_start(&starter, "starts others", nice);
    if (status != MST_OK) return status;
    ckpt_thread_give(&starter, create_queue, &wanted);
    while (!ckpt_thread_rest(&starter, 3600)) {}
    status = ckpt_thread_result(&starter);
    ckpt_thread_end(&starter);
    return status;
}

void ckpt_thread_end(ckpt_thread *thread) {
    if (!thread->started) return;
    pthread_mutex_lock(&thread->lock);
    thread->ends = true;
    pthread_cond_broadcast(&thread->changed);
    pthread_mutex_unlock(&thread->lock);
    pthread_join(thread->thread, NULL);
    pthread_cond_destroy(&thread->changed);
    pthread_mutex_destroy(&thread->lock);
    thread->started = false;
}

void ckpt_thread_give(ckpt_thread *thread, ckpt_job *job, void *context) {
    pthread_mutex_lock(&thread->lock);
    thread->job = job;
    thread->context = context;
    pthread_cond_broadcast(&thread->changed);
    pthread_mutex_unlock(&thread->lock);
}

bool ckpt_thread_rest(ckpt_thread *thread, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const long nanoseconds = until.tv_nsec + (long)(1e9 * (seconds - (double)(time_t)seconds));
    until.tv_sec += (time_t)seconds + nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    pthread_mutex_lock(&thread->lock);
    while (thread->job != NULL &&
           pthread_cond_timedwait(&thread->changed, &thread->lock, &until) != ETIMEDOUT) {}
    const bool rests = thread->job == NULL;
    pthread_mutex_unlock(&thread->lock);
    return rests;
}

mst_status ckpt_thread_result(ckpt_thread *thread) {
    pthread_mutex_lock(&thread->lock);
    const mst_status status = thread->status;
    if (status != MST_OK) mst_error(status, "%s", thread->message);
    pthread_mutex_unlock(&thread->lock);
    return status;
}
