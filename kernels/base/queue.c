#include "muster/queue.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS_MAX = 1024, SPINS = 20000 };

/* One parallel loop. Tasks are taken from `next`, so fast threads do more; what a task computes depends on
 * its number only. */
typedef struct loop {
    mst_task_fn *task;
    void *context;
    size_t count;
    atomic_size_t next;
    pthread_mutex_t failure_lock;
    size_t failed_task; /* lowest so far; SIZE_MAX: none */
    mst_status failure;
    char failure_message[2048];
} loop;

typedef struct scratch {
    void *memory;
    size_t bytes;
} scratch;

typedef struct member {
    mst_queue *queue;
    pthread_t thread;
    int index;
} member;

struct mst_queue {
    int threads;
    int spins; /* before a waiting thread sleeps; 0 when there are more threads than cores */
    member *members;
    scratch *scratches; /* [threads] owned */
    loop loop;
    atomic_uint generation; /* number of loops begun; a change wakes the members */
    atomic_int running;     /* members still in the current loop */
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t begun, ended;
};

static void record_failure(loop *l, size_t task, mst_status failure) {
    pthread_mutex_lock(&l->failure_lock);
    if (task < l->failed_task) {
        l->failed_task = task;
        l->failure = failure;
        snprintf(l->failure_message, sizeof l->failure_message, "%s", mst_error_message());
    }
    pthread_mutex_unlock(&l->failure_lock);
}

/* Tasks are taken in ascending order, so every task below a failed one has been taken too: the lowest failure
 * is found. */
static void run_tasks(loop *l, int thread) {
    for (;;) {
        size_t task = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);
        if (task >= l->count) return;
        mst_status status = l->task(l->context, task, thread);
        if (status != MST_OK) {
            record_failure(l, task, status);
            atomic_store_explicit(&l->next, l->count, memory_order_relaxed);
            return;
        }
    }
}

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Returns when the generation is no longer `seen`, or the queue stops. */
static void wait_for_loop(mst_queue *queue, unsigned seen) {
    for (int i = 0; i < queue->spins; i++) {
        if (atomic_load_explicit(&queue->generation, memory_order_acquire) != seen) return;
        if (atomic_load_explicit(&queue->stop, memory_order_relaxed)) return;
        pause_briefly();
    }
    pthread_mutex_lock(&queue->lock);
    while (atomic_load(&queue->generation) == seen && !atomic_load(&queue->stop))
        pthread_cond_wait(&queue->begun, &queue->lock);
    pthread_mutex_unlock(&queue->lock);
}

static void *member_main(void *argument) {
    member *self = argument;
    mst_queue *queue = self->queue;
    unsigned seen = 0;
    for (;;) {
        wait_for_loop(queue, seen);
        if (atomic_load(&queue->stop)) return NULL;
        seen = atomic_load_explicit(&queue->generation, memory_order_acquire);
        run_tasks(&queue->loop, self->index);
        if (atomic_fetch_sub_explicit(&queue->running, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&queue->lock);
            pthread_cond_signal(&queue->ended);
            pthread_mutex_unlock(&queue->lock);
        }
    }
}

static void wait_for_members(mst_queue *queue) {
    for (int i = 0; i < queue->spins; i++) {
        if (atomic_load_explicit(&queue->running, memory_order_acquire) == 0) return;
        pause_briefly();
    }
    pthread_mutex_lock(&queue->lock);
    while (atomic_load_explicit(&queue->running, memory_order_acquire) != 0)
        pthread_cond_wait(&queue->ended, &queue->lock);
    pthread_mutex_unlock(&queue->lock);
}

mst_status mst_queue_for(mst_queue *queue, size_t count, mst_task_fn *task, void *context) {
    if (count == 0) return MST_OK;
    loop *l = &queue->loop;
    l->task = task;
    l->context = context;
    l->count = count;
    l->failed_task = SIZE_MAX;
    l->failure = MST_OK;
    atomic_store_explicit(&l->next, 0, memory_order_relaxed);
    bool alone = queue->threads == 1 || count == 1;
    if (!alone) {
        atomic_store_explicit(&queue->running, queue->threads - 1, memory_order_relaxed);
        pthread_mutex_lock(&queue->lock);
        atomic_fetch_add_explicit(&queue->generation, 1, memory_order_release);
        pthread_cond_broadcast(&queue->begun);
        pthread_mutex_unlock(&queue->lock);
    }
    run_tasks(l, 0);
    if (!alone) wait_for_members(queue);
    if (l->failure == MST_OK) return MST_OK;
    return mst_error(l->failure, "%s", l->failure_message);
}

static int usable_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return CPU_COUNT(&set);
}

mst_status mst_queue_create(int threads, mst_queue **queue_out) {
    mst_status status = MST_OK;
    mst_queue *queue = NULL;
    *queue_out = NULL;
    MST_CHECK(threads >= 1 && threads <= THREADS_MAX, MST_EINVAL, "threads: %d is outside 1..%d", threads,
              THREADS_MAX);
    queue = calloc(1, sizeof *queue);
    MST_CHECK(queue != NULL, MST_ENOMEM, "queue: out of memory");
    queue->spins = threads > 1 && threads <= usable_cores() ? SPINS : 0;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_mutex_init(&queue->loop.failure_lock, NULL);
    pthread_cond_init(&queue->begun, NULL);
    pthread_cond_init(&queue->ended, NULL);
    queue->threads = 1; /* grows with every thread that runs, so that destroy joins those and no others */
    queue->scratches = calloc((size_t)threads, sizeof *queue->scratches);
    queue->members = calloc((size_t)threads, sizeof *queue->members);
    MST_CHECK(queue->scratches != NULL && queue->members != NULL, MST_ENOMEM,
              "queue: out of memory for %d threads", threads);
    for (int i = 1; i < threads; i++) {
        queue->members[i] = (member){.queue = queue, .index = i};
        int error = pthread_create(&queue->members[i].thread, NULL, member_main, &queue->members[i]);
        MST_CHECK(error == 0, MST_ENOMEM, "thread %d of %d could not be started; use fewer (device.threads)",
                  i + 1, threads);
        queue->threads = i + 1;
    }
    *queue_out = queue;
    queue = NULL;
done:
    mst_queue_destroy(&queue);
    return status;
}

void mst_queue_destroy(mst_queue **queue_pointer) {
    mst_queue *queue = *queue_pointer;
    if (queue == NULL) return;
    pthread_mutex_lock(&queue->lock);
    atomic_store(&queue->stop, true);
    pthread_cond_broadcast(&queue->begun);
    pthread_mutex_unlock(&queue->lock);
    for (int i = 1; i < queue->threads; i++) pthread_join(queue->members[i].thread, NULL);
    for (int i = 0; i < queue->threads && queue->scratches != NULL; i++)
        mst_memory_free(MST_SPACE_HOST, &queue->scratches[i].memory);
    free(queue->scratches);
    free(queue->members);
    pthread_cond_destroy(&queue->begun);
    pthread_cond_destroy(&queue->ended);
    pthread_mutex_destroy(&queue->lock);
    pthread_mutex_destroy(&queue->loop.failure_lock);
    free(queue);
    *queue_pointer = NULL;
}

int mst_queue_threads(const mst_queue *queue) {
    return queue->threads;
}

mst_status mst_queue_sync(mst_queue *queue) {
    (void)queue;
    return MST_OK;
}

void *mst_queue_scratch(mst_queue *queue, int thread, size_t bytes) {
    scratch *s = &queue->scratches[thread];
    if (bytes > s->bytes) {
        mst_memory_free(MST_SPACE_HOST, &s->memory);
        s->bytes = 0;
        if (mst_memory_alloc(MST_SPACE_HOST, bytes, &s->memory) != MST_OK) return NULL;
        s->bytes = bytes;
    }
    return s->memory;
}
