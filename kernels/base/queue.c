#include "muster/queue.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 1024, SPINS = 4000 };

/*
 * One parallel loop. Each thread begins with an equal run of tasks: neighbouring tasks work on neighbouring memory, and
 * when a thread gets the same rows in loop after loop they are still in its cache. Who has done its own takes from the
 * ends of others' runs, so fast threads do more. What a task computes depends on its number only.
 */
typedef struct loop {
    mst_task_fn *task;
    void *context;
    pthread_mutex_t failure_lock;
    atomic_size_t failed_task; /* lowest so far; SIZE_MAX: none */
    mst_status failure;
    char failure_message[2048];
} loop;

/* A thread's tasks that nobody has taken yet, `first` to `end` - 1, as first << 32 | end; on a cache line of its own. */
typedef struct run {
    _Alignas(64) _Atomic uint64_t tasks;
} run;

typedef struct scratch {
    void *memory;
    size_t bytes;
} scratch;

typedef struct member {
    mst_queue *queue;
    pthread_t thread;
    int index;
} member;

/*
 * The gate of a loop, in one atomic word: the loop's number, whether it is open, and how many
 * members are inside. Members enter while it is open. The caller closes it when no task is left and
 * waits only for those inside: a member that the system has not woken yet (more threads than cores,
 * other programs) holds nobody up.
 */
enum { GATE_OPEN = 1 << 16, GATE_INSIDE = GATE_OPEN - 1 };
#define GATE_NEXT ((uint64_t)GATE_OPEN << 1)

struct mst_queue {
    int threads;
    int spins; /* before a waiting thread sleeps; 0 when there are more threads than cores */
    member *members;
    scratch *scratches;    /* [threads] owned */
    run *runs;             /* [threads] owned */
    mst_attend_fn *attend; /* NULL: nothing */
    void *attend_context;
    const mst_queue_face *face; /* of the device; NULL: the CPU alone */
    void *device;               /* owned */
    loop loop;
    _Atomic uint64_t gate;
    _Atomic uint64_t loops; /* that have begun */
    atomic_bool stop;
    pthread_mutex_t lock; /* for sleeping only: changes that wake others are made or followed by taking it */
    pthread_cond_t opened, emptied;
};

static void record_failure(loop *l, size_t task, mst_status failure) {
    pthread_mutex_lock(&l->failure_lock);
    if (task < atomic_load_explicit(&l->failed_task, memory_order_relaxed)) {
        atomic_store_explicit(&l->failed_task, task, memory_order_relaxed);
        l->failure = failure;
        snprintf(l->failure_message, sizeof l->failure_message, "%s", mst_error_message());
    }
    pthread_mutex_unlock(&l->failure_lock);
}

/* Takes the first task of a run, or the last. */
static bool take(run *r, bool last, size_t *task_out) {
    uint64_t tasks = atomic_load_explicit(&r->tasks, memory_order_relaxed);
    uint32_t first, end;
    do {
        first = (uint32_t)(tasks >> 32);
        end = (uint32_t)tasks;
        if (first >= end) return false;
    } while (!atomic_compare_exchange_weak_explicit(&r->tasks, &tasks,
                                                    last ? tasks - 1 : tasks + ((uint64_t)1 << 32),
                                                    memory_order_relaxed, memory_order_relaxed));
    *task_out = last ? end - 1 : first;
    return true;
}

/* A task of the thread's own run, else one of the next thread's that has any left. */
static bool take_any(mst_queue *queue, int thread, size_t *task_out) {
    for (int i = 0; i < queue->threads; i++)
        if (take(&queue->runs[(thread + i) % queue->threads], i > 0, task_out)) return true;
    return false;
}

static void deal(mst_queue *queue, size_t count) {
    const size_t threads = (size_t)queue->threads;
    for (size_t i = 0; i < threads; i++) {
        const uint64_t first = count * i / threads, end = count * (i + 1) / threads;
        atomic_store_explicit(&queue->runs[i].tasks, first << 32 | end, memory_order_relaxed);
    }
}

/* After a failure only tasks below it still run, so that the lowest failure is found. */
static void run_tasks(mst_queue *queue, int thread) {
    loop *l = &queue->loop;
    size_t task;
    while (take_any(queue, thread, &task)) {
        if (task > atomic_load_explicit(&l->failed_task, memory_order_relaxed)) continue;
        mst_status status = l->task(l->context, task, thread);
        if (status != MST_OK) record_failure(l, task, status);
        if (thread == 0 && queue->attend) queue->attend(queue->attend_context);
    }
}

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static uint64_t loop_number(uint64_t gate) {
    return gate / GATE_NEXT;
}

/* A loop is open that this member has not been in, or the queue ends. */
static bool may_go_on(mst_queue *queue, uint64_t last) {
    uint64_t gate = atomic_load_explicit(&queue->gate, memory_order_acquire);
    return ((gate & GATE_OPEN) && loop_number(gate) != last) ||
           atomic_load_explicit(&queue->stop, memory_order_relaxed);
}

static void wait_for_loop(mst_queue *queue, uint64_t last) {
    for (int i = 0; i < queue->spins; i++) {
        if (may_go_on(queue, last)) return;
        pause_briefly();
    }
    pthread_mutex_lock(&queue->lock);
    while (!may_go_on(queue, last)) pthread_cond_wait(&queue->opened, &queue->lock);
    pthread_mutex_unlock(&queue->lock);
}

/* Enters the open loop; false when it has been closed meanwhile. */
static bool enter(mst_queue *queue, uint64_t *number_out) {
    uint64_t gate = atomic_load_explicit(&queue->gate, memory_order_acquire);
    do {
        if (!(gate & GATE_OPEN)) return false;
    } while (!atomic_compare_exchange_weak_explicit(&queue->gate, &gate, gate + 1, memory_order_acq_rel,
                                                    memory_order_acquire));
    *number_out = loop_number(gate);
    return true;
}

static void leave(mst_queue *queue) {
    uint64_t before = atomic_fetch_sub_explicit(&queue->gate, 1, memory_order_acq_rel);
    if ((before & GATE_OPEN) || (before & GATE_INSIDE) != 1) return;
    pthread_mutex_lock(&queue->lock);
    pthread_cond_signal(&queue->emptied);
    pthread_mutex_unlock(&queue->lock);
}

static void *member_main(void *argument) {
    member *self = argument;
    mst_queue *queue = self->queue;
    uint64_t last = UINT64_MAX; /* number of the loop it was in last */
    for (;;) {
        wait_for_loop(queue, last);
        if (atomic_load(&queue->stop)) return NULL;
        if (!enter(queue, &last)) continue;
        run_tasks(queue, self->index);
        leave(queue);
    }
}

/* Opens the gate for a new loop, and wakes as many sleeping members as there are tasks for. */
static void open_gate(mst_queue *queue, size_t count) {
    const size_t others = (size_t)queue->threads - 1, wanted = count - 1 < others ? count - 1 : others;
    pthread_mutex_lock(&queue->lock);
    uint64_t gate = atomic_load_explicit(&queue->gate, memory_order_relaxed);
    atomic_store_explicit(&queue->gate, gate + GATE_NEXT + GATE_OPEN, memory_order_release);
    for (size_t i = 0; i < wanted; i++) pthread_cond_signal(&queue->opened);
    pthread_mutex_unlock(&queue->lock);
}

static bool is_empty(mst_queue *queue) {
    return (atomic_load_explicit(&queue->gate, memory_order_acquire) & GATE_INSIDE) == 0;
}

static void close_gate(mst_queue *queue) {
    atomic_fetch_and_explicit(&queue->gate, ~(uint64_t)GATE_OPEN, memory_order_acq_rel);
    for (int i = 0; i < queue->spins; i++) {
        if (is_empty(queue)) return;
        pause_briefly();
    }
    pthread_mutex_lock(&queue->lock);
    while (!is_empty(queue)) pthread_cond_wait(&queue->emptied, &queue->lock);
    pthread_mutex_unlock(&queue->lock);
}

mst_status mst_queue_for(mst_queue *queue, size_t count, mst_task_fn *task, void *context) {
    if (count == 0) return MST_OK;
    if (count > UINT32_MAX)
        return mst_error(MST_EINVAL, "queue: a loop of %zu tasks; it may have %" PRIu32, count, UINT32_MAX);
    loop *l = &queue->loop;
    l->task = task;
    l->context = context;
    atomic_store_explicit(&l->failed_task, SIZE_MAX, memory_order_relaxed);
    l->failure = MST_OK;
    deal(queue, count);
    atomic_fetch_add_explicit(&queue->loops, 1, memory_order_relaxed);
    bool alone = queue->threads == 1 || count == 1;
    if (!alone) open_gate(queue, count);
    run_tasks(queue, 0);
    if (!alone) close_gate(queue);
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
    pthread_cond_init(&queue->opened, NULL);
    pthread_cond_init(&queue->emptied, NULL);
    queue->threads = 1; /* grows with every thread that runs, so that destroy joins those and no others */
    queue->scratches = calloc((size_t)threads, sizeof *queue->scratches);
    queue->members = calloc((size_t)threads, sizeof *queue->members);
    queue->runs = aligned_alloc(_Alignof(run), (size_t)threads * sizeof *queue->runs);
    MST_CHECK(queue->scratches != NULL && queue->members != NULL && queue->runs != NULL, MST_ENOMEM,
              "queue: out of memory for %d threads", threads);
    memset(queue->runs, 0, (size_t)threads * sizeof *queue->runs); /* no tasks */
    for (int i = 1; i < threads; i++) {
        queue->members[i] = (member){.queue = queue, .index = i};
        sigset_t all, before; /* signals are for the main thread, whose handlers have a stack of their own */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int error = pthread_create(&queue->members[i].thread, NULL, member_main, &queue->members[i]);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
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
    if (queue->face) queue->face->destroy(queue->device);
    pthread_mutex_lock(&queue->lock);
    atomic_store(&queue->stop, true);
    pthread_cond_broadcast(&queue->opened);
    pthread_mutex_unlock(&queue->lock);
    for (int i = 1; i < queue->threads; i++) pthread_join(queue->members[i].thread, NULL);
    for (int i = 0; i < queue->threads && queue->scratches != NULL; i++)
        mst_memory_free(MST_SPACE_HOST, &queue->scratches[i].memory);
    free(queue->scratches);
    free(queue->members);
    free(queue->runs);
    pthread_cond_destroy(&queue->opened);
    pthread_cond_destroy(&queue->emptied);
    pthread_mutex_destroy(&queue->lock);
    pthread_mutex_destroy(&queue->loop.failure_lock);
    free(queue);
    *queue_pointer = NULL;
}

void mst_queue_attend(mst_queue *queue, mst_attend_fn *attend, void *context) {
    queue->attend = attend;
    queue->attend_context = context;
}

int mst_queue_threads(const mst_queue *queue) {
    return queue->threads;
}

uint64_t mst_queue_pulse(const mst_queue *queue) {
    uint64_t pulse = atomic_load_explicit(&queue->loops, memory_order_relaxed) << 32;
    for (int i = 0; i < queue->threads; i++) {
        const uint64_t tasks = atomic_load_explicit(&queue->runs[i].tasks, memory_order_relaxed);
        pulse += (tasks >> 32) - (uint32_t)tasks;
    }
    return pulse;
}

mst_status mst_queue_sync(mst_queue *queue) {
    return queue->face ? queue->face->sync(queue->device) : MST_OK;
}

void mst_queue_attach(mst_queue *queue, const mst_queue_face *face, void *device) {
    queue->face = face;
    queue->device = device;
}

void *mst_queue_device(const mst_queue *queue) {
    return queue->device;
}

const mst_queue_face *mst_queue_face_of(const mst_queue *queue) {
    return queue->face;
}

mst_status mst_queue_choices(mst_queue *queue, char **text_out) {
    *text_out = NULL;
    mst_status status = mst_memory_drive(queue);
    if (status != MST_OK || !queue->face) return status;
    return queue->face->choices(queue->device, text_out);
}

mst_status mst_queue_choose(mst_queue *queue, const char *text) {
    mst_status status = mst_memory_drive(queue);
    if (status != MST_OK || !queue->face) return status;
    return queue->face->choose(queue->device, text);
}

mst_status mst_memory_copy_later(mst_queue *queue, void *to, const void *from, size_t bytes) {
    mst_status status = mst_memory_drive(queue);
    if (status != MST_OK) return status;
    if (queue->face) return queue->face->copy(queue->device, to, from, bytes);
    if (bytes > 0) memmove(to, from, bytes);
    return MST_OK;
}

mst_status mst_memory_copy(mst_queue *queue, void *to, const void *from, size_t bytes) {
    const mst_status status = mst_memory_copy_later(queue, to, from, bytes);
    return status == MST_OK ? mst_queue_sync(queue) : status;
}

mst_status mst_memory_fill(mst_queue *queue, void *memory, unsigned char value, size_t bytes) {
    mst_status status = mst_memory_drive(queue);
    if (status != MST_OK) return status;
    if (queue->face) return queue->face->fill(queue->device, memory, value, bytes);
    if (bytes > 0) memset(memory, value, bytes);
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
