/* The abort watchdog: a thread of its own on every rank. docs/watchdog.md tells the whole story. */
#include "muster/watchdog.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "ending.h"
#include "link.h"

/* What this rank knows of another, by the clock of this rank. */
typedef struct peer {
    mst_beat last;
    double heard; /* when the last beat came */
    bool gone;    /* said farewell */
} peer;

struct mst_watchdog {
    mst_comm *comm;
    int rank, size;
    double seconds, period;
    mst_process *processes; /* [size] */
    mst_link *links;        /* [link_count] */
    struct pollfd *polled;  /* [link_count + 1] */
    peer *peers;            /* [size]; rank 0 knows all, the others themselves and rank 0 */
    size_t link_count;

    /* Written by the main thread alone, read by the watchdog's. */
    _Atomic(const char *) phase;
    _Atomic uint64_t step, progress;
    atomic_bool waiting;

    /* The watchdog's thread alone. */
    pthread_t thread;
    bool started;
    double clock, clock_read; /* seconds this process was awake, and the system's clock when that was so */
    uint64_t progress_seen;
    double progress_at;
    atomic_bool stop;
    int wake; /* eventfd */
};

/* ---- time ---- */

/*
 * Advances the watchdog's clock, which stands still while this process is stopped (Ctrl-Z, a suspended Slurm
 * job): after such a pause nobody is blamed for the silence that it made.
 */
static void read_clock(mst_watchdog *w) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec, elapsed = seconds - w->clock_read;
    w->clock += elapsed < 2 * w->period ? elapsed : 2 * w->period;
    w->clock_read = seconds;
}

/* ---- the end ---- */

/* Ends the job by all means there are, the gentlest first; each may fail. */
static void end_job(mst_watchdog *w, const char *text) {
    mst_beat end = {.kind = MST_BEAT_END};
    dprintf(STDERR_FILENO, "muster: %s: ending the job\n", text);
    mst_cancel_step();
    for (size_t i = 0; i < w->link_count; i++) mst_link_send(&w->links[i], &end);
    mst_kill_neighbours(w->processes, w->rank, w->size);
    mst_comm_abort(w->comm, 1);
}

/* Another watchdog has said why the job ends, or is about to: leaves it the time to do so, and then helps. */
static void follow_end(const mst_watchdog *w) {
    struct timespec grace = {.tv_sec = 1};
    nanosleep(&grace, NULL);
    mst_kill_neighbours(w->processes, w->rank, w->size);
    _exit(1);
}

/* When rank 0 is lost all others notice at once; one of each host says so. */
static bool speaks(const mst_watchdog *w) {
    for (int other = 1; other < w->rank; other++)
        if (w->processes[other].host == w->processes[w->rank].host) return false;
    return true;
}

__attribute__((format(printf, 3, 4))) static void blame(mst_watchdog *w, int rank, const char *format, ...) {
    char what[160], text[512];
    const mst_beat *last = &w->peers[rank].last;
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    snprintf(text, sizeof text, "rank %d (host %s, process %lld) %s at step %llu in phase %s", rank,
             mst_comm_host(w->comm, rank), (long long)w->processes[rank].pid, what,
             (unsigned long long)last->step, last->phase);
    if (w->rank == 0 || speaks(w)) end_job(w, text);
    follow_end(w);
}

/* ---- what a turn of the thread does ---- */

static void observe_self(mst_watchdog *w) {
    uint64_t progress = atomic_load_explicit(&w->progress, memory_order_acquire);
    if (progress != w->progress_seen) {
        w->progress_seen = progress;
        w->progress_at = w->clock;
    }
    mst_beat *self = &w->peers[w->rank].last;
    *self = (mst_beat){.kind = MST_BEAT_ALIVE, .idle = w->clock - w->progress_at};
    self->waiting = atomic_load_explicit(&w->waiting, memory_order_relaxed);
    self->step = atomic_load_explicit(&w->step, memory_order_relaxed);
    snprintf(self->phase, sizeof self->phase, "%s", atomic_load_explicit(&w->phase, memory_order_relaxed));
    w->peers[w->rank].heard = w->clock;
}

static void listen_to(mst_watchdog *w, mst_link *link) {
    peer *other = &w->peers[link->rank];
    mst_beat beat;
    mst_link_event event;
    while ((event = mst_link_receive(link, &beat)) == MST_LINK_BEAT) {
        other->heard = w->clock;
        switch (beat.kind) {
        case MST_BEAT_ALIVE:
            other->last = beat;
            break;
        case MST_BEAT_FAREWELL:
            other->gone = true;
            break;
        case MST_BEAT_END:
            follow_end(w);
            break;
        default:
            break;
        }
    }
    if (event != MST_LINK_CLOSED) return;
    mst_link_close(link);
    if (!other->gone) blame(w, link->rank, "died");
}

static void judge_silence(mst_watchdog *w) {
    for (size_t i = 0; i < w->link_count; i++) {
        const peer *other = &w->peers[w->links[i].rank];
        double silent = w->clock - other->heard;
        if (!other->gone && silent >= w->seconds)
            blame(w, w->links[i].rank,
                  "gave no sign of life for %.1f s (stopped, or its host is lost); it was last seen", silent);
    }
}

/* Rank 0 alone: somebody works without progress, or all wait for each other. */
static void judge_progress(mst_watchdog *w) {
    char text[1024];
    int present = 0, blocked = 0, used = 0;
    for (int rank = 0; rank < w->size; rank++) {
        const mst_beat *last = &w->peers[rank].last;
        if (w->peers[rank].gone) continue;
        present++;
        if (last->idle < w->seconds) continue;
        if (!last->waiting) blame(w, rank, "made no progress for %.1f s", last->idle);
        blocked++;
    }
    if (blocked < present || present == 0) return;
    used = snprintf(text, sizeof text,
                    "all ranks wait for each other since %.1f s:", w->peers[w->rank].last.idle);
    for (int rank = 0; rank < w->size && used < (int)sizeof text - 160; rank++) {
        const mst_beat *last = &w->peers[rank].last;
        if (w->peers[rank].gone) continue;
        used += snprintf(text + used, sizeof text - (size_t)used,
                         "%s rank %d (host %.40s) at step %llu in phase %s", rank > 0 ? "," : "", rank,
                         mst_comm_host(w->comm, rank), (unsigned long long)last->step, last->phase);
    }
    end_job(w, text);
}

static void say_to_all(mst_watchdog *w, const mst_beat *beat) {
    for (size_t i = 0; i < w->link_count; i++) mst_link_send(&w->links[i], beat);
}

static void *watch(void *context) {
    mst_watchdog *w = context;
    double next_beat = 0;
    while (!atomic_load(&w->stop)) {
        for (size_t i = 0; i < w->link_count; i++)
            w->polled[i] = (struct pollfd){.fd = w->links[i].fd, .events = POLLIN};
        w->polled[w->link_count] = (struct pollfd){.fd = w->wake, .events = POLLIN};
        poll(w->polled, w->link_count + 1, (int)(w->period * 1e3));
        read_clock(w);
        observe_self(w);
        for (size_t i = 0; i < w->link_count; i++) listen_to(w, &w->links[i]);
        if (w->clock >= next_beat) {
            say_to_all(w, &w->peers[w->rank].last);
            next_beat = w->clock + 0.9 * w->period;
        }
        judge_silence(w);
        if (w->rank == 0) judge_progress(w);
    }
    say_to_all(w, &(mst_beat){.kind = MST_BEAT_FAREWELL});
    return NULL;
}

/* ---- for the main thread ---- */

static void say(mst_watchdog *w, const char *phase, uint64_t step, bool waiting) {
    if (!w) return;
    atomic_store_explicit(&w->phase, phase, memory_order_relaxed);
    atomic_store_explicit(&w->step, step, memory_order_relaxed);
    atomic_store_explicit(&w->waiting, waiting, memory_order_relaxed);
    uint64_t progress = atomic_load_explicit(&w->progress, memory_order_relaxed);
    atomic_store_explicit(&w->progress, progress + 1, memory_order_release);
}

void mst_watchdog_progress(mst_watchdog *w, const char *phase, uint64_t step) {
    say(w, phase, step, false);
}
void mst_watchdog_waiting(mst_watchdog *w, const char *phase, uint64_t step) {
    say(w, phase, step, true);
}

/* ---- creating ---- */

static mst_status allocate(mst_watchdog *w) {
    mst_status status = MST_OK;
    size_t size = (size_t)w->size;
    w->link_count = mst_link_count(w->comm);
    w->processes = calloc(size, sizeof *w->processes);
    w->peers = calloc(size, sizeof *w->peers);
    w->links = calloc(w->link_count + 1, sizeof *w->links);
    w->polled = calloc(w->link_count + 1, sizeof *w->polled);
    MST_CHECK(w->processes && w->peers && w->links && w->polled, MST_ENOMEM,
              "watchdog: no memory for %zu ranks", size);
    for (size_t i = 0; i < w->link_count; i++) w->links[i].fd = -1;
    for (size_t i = 0; i < size; i++)
        snprintf(w->peers[i].last.phase, sizeof w->peers[i].last.phase, "start");
    w->processes[w->rank] = mst_process_self();
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    MST_CHECK(w->wake >= 0, MST_EIO, "watchdog: opening an eventfd: %s", strerror(errno));
done:
    return status;
}

static mst_status exchange_processes(mst_watchdog *w, bool *one_host_out) {
    mst_status status = MST_OK;
    size_t *bytes = malloc((size_t)w->size * sizeof *bytes);
    if (!bytes) status = mst_error(MST_ENOMEM, "watchdog: no memory for %d ranks", w->size);
    MST_TRY(mst_comm_agree(w->comm, status));
    for (int rank = 0; rank < w->size; rank++) bytes[rank] = sizeof *w->processes;
    MST_TRY(mst_comm_allgather(w->comm, &w->processes[w->rank], bytes, w->processes));
    *one_host_out = true;
    for (int rank = 1; rank < w->size; rank++)
        *one_host_out &= w->processes[rank].host == w->processes[0].host;
done:
    free(bytes);
    return status;
}

/* Signals are for the main thread. */
static mst_status start_thread(mst_watchdog *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    read_clock(w);
    w->clock = 0;
    int error = pthread_create(&w->thread, NULL, watch, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) return mst_error(MST_EIO, "watchdog: starting its thread: %s", strerror(error));
    w->started = true;
    return MST_OK;
}

static void end_thread(mst_watchdog *w) {
    uint64_t one = 1;
    atomic_store(&w->stop, true);
    if (write(w->wake, &one, sizeof one) < 0) { /* then the thread wakes after its period */
    }
    if (w->started) pthread_join(w->thread, NULL);
    for (size_t i = 0; w->links && i < w->link_count; i++) mst_link_close(&w->links[i]);
    if (w->wake >= 0) close(w->wake);
    free(w->processes);
    free(w->peers);
    free(w->links);
    free(w->polled);
    free(w);
}

mst_status mst_watchdog_create(mst_comm *comm, double seconds, mst_watchdog **watchdog_out) {
    mst_status status = MST_OK;
    bool one_host = true;
    *watchdog_out = NULL;
    if (!(seconds > 0)) return MST_OK;
    mst_watchdog *w = calloc(1, sizeof *w);
    if (w) {
        w->comm = comm;
        w->rank = mst_comm_rank(comm);
        w->size = mst_comm_size(comm);
        w->seconds = seconds;
        w->period = seconds < 2 ? seconds / 4 : 0.5;
        w->wake = -1;
        atomic_init(&w->phase, "start");
        status = allocate(w);
    } else {
        status = mst_error(MST_ENOMEM, "watchdog: no memory");
    }
    MST_TRY(mst_comm_agree(comm, status));
    MST_TRY(exchange_processes(w, &one_host));
    MST_TRY(mst_links_open(comm, one_host, w->links));
    MST_TRY(mst_comm_agree(comm, start_thread(w)));
    *watchdog_out = w;
done:
    if (status != MST_OK && w) end_thread(w);
    return status;
}

void mst_watchdog_destroy(mst_watchdog **watchdog) {
    mst_watchdog *w = *watchdog;
    if (!w) return;
    mst_watchdog_waiting(w, "end", atomic_load(&w->step));
    mst_comm_barrier(w->comm); /* guarded to here; whoever says farewell now is missed by nobody */
    end_thread(w);
    *watchdog = NULL;
}
