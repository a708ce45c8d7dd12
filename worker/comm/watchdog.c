/* The abort watchdog: a thread of its own on every rank. docs/watchdog.md tells the whole story. */
#include "muster/watchdog.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ending.h"
#include "muster/clock.h"
#include "watch.h"

enum { FASTEST_MILLISECONDS = 10 }; /* a turn while a rank is looked for */
/* A turn looks at all links: where there are many, what comes within so much time is heard in one. */
enum { LINKS_TO_GATHER = 16, GATHER_MILLISECONDS = 20 };
static const double return_seconds = 0.5; /* for a rank whose connection broke, to call again */

/* ---- time ---- */

/*
 * Advances the watchdog's clock, which stands still while this process is stopped (Ctrl-Z, a suspended Slurm
 * job): after such a pause nobody is blamed for the silence that it made.
 */
static void read_clock(mst_watchdog *w) {
    const double seconds = mst_clock_now(), elapsed = seconds - w->clock_read;
    w->clock += elapsed < 2 * w->period ? elapsed : 2 * w->period;
    w->clock_read = seconds;
}

/* CPU seconds that the main thread has used. */
static double main_cpu(const mst_watchdog *w) {
    struct timespec used;
    if (!w->has_main_clock || clock_gettime(w->main_clock, &used) != 0) return -1;
    return (double)used.tv_sec + 1e-9 * (double)used.tv_nsec;
}

/* ---- the end ---- */

/* One line for the user, on a line of its own also where the live line stands. */
static void say_aloud(const char *head, const char *text, const char *tail) {
    const char *clear = isatty(STDERR_FILENO) ? "\r\033[K" : "";
    dprintf(STDERR_FILENO, "%smuster: %s%s%s\n", clear, head, text, tail);
}

/* Ends the job by all means there are, the gentlest first; each may fail. */
static void end_job(mst_watchdog *w, const char *text) {
    mst_beat end = {.kind = MST_BEAT_END};
    say_aloud("", text, ": ending the job");
    mst_cancel_step();
    for (size_t i = 0; i < w->link_count; i++) mst_link_send(&w->links[i], &end);
    mst_kill_neighbours(w->known, w->rank, w->size);
    mst_end_launcher();
    mst_comm_abort(w->comm, 1);
}

/* Another watchdog has said why the job ends, or is about to: leaves it the time to do so, and then helps. */
static void follow_end(const mst_watchdog *w) {
    struct timespec grace = {.tv_sec = 1};
    nanosleep(&grace, NULL);
    mst_kill_neighbours(w->known, w->rank, w->size);
    _exit(1);
}

/* When rank 0 is lost all others notice at once; one of each host says so. */
static bool speaks(const mst_watchdog *w) {
    for (int other = 1; other < w->rank; other++)
        if (w->known[other].process.host == w->known[w->rank].process.host) return false;
    return true;
}

static void blame(mst_watchdog *w, const mst_finding *finding) {
    char text[MST_FINDING_BYTES];
    mst_finding_describe(w, finding, text);
    if (speaks(w)) end_job(w, text);
    follow_end(w);
}

/* ---- what a turn of the thread does ---- */

/* Progress is what the main thread reports, and the tasks of its queue that are taken while it works. */
static bool has_progressed(mst_watchdog *w) {
    const uint64_t progress = atomic_load_explicit(&w->progress, memory_order_acquire);
    const uint64_t pulse = w->queue != NULL ? mst_queue_pulse(w->queue) : 0;
    const bool works = !atomic_load_explicit(&w->waiting, memory_order_relaxed);
    const bool progressed = progress != w->progress_seen || (works && pulse != w->pulse_seen);
    w->progress_seen = progress;
    w->pulse_seen = pulse;
    return progressed;
}

/* Percent of a core since the last progress. */
static uint8_t cpu_share(const mst_watchdog *w) {
    const double used = main_cpu(w), idle = w->clock - w->progress_at;
    if (used < 0 || idle <= 0) return MST_CPU_UNKNOWN;
    const double share = 100 * (used - w->cpu_at) / idle;
    return share < 0 ? 0 : share > 100 ? 100 : (uint8_t)(share + 0.5);
}

static void observe_self(mst_watchdog *w) {
    if (has_progressed(w)) {
        w->progress_at = w->clock;
        w->cpu_at = main_cpu(w);
    }
    mst_beat *self = &w->peers[w->rank].last;
    *self = (mst_beat){.kind = MST_BEAT_ALIVE, .idle = w->clock - w->progress_at, .cpu = cpu_share(w)};
    self->waiting = atomic_load_explicit(&w->waiting, memory_order_relaxed);
    self->step = atomic_load_explicit(&w->step, memory_order_relaxed);
    const char *phase = atomic_load_explicit(&w->phase, memory_order_relaxed);
    const size_t unit = atomic_load_explicit(&w->unit, memory_order_relaxed);
    if (unit == MST_NO_UNIT)
        snprintf(self->phase, sizeof self->phase, "%s", phase);
    else
        snprintf(self->phase, sizeof self->phase, "%.15s, unit %hu", phase, (unsigned short)unit);
    w->peers[w->rank].heard = w->clock;
}

static void listen_to(mst_watchdog *w, mst_link *link) {
    mst_peer *other = &w->peers[link->rank];
    mst_beat beat;
    mst_link_event event;
    while ((event = mst_link_receive(link, &beat)) == MST_LINK_BEAT) {
        other->heard = w->clock;
        if (beat.kind == MST_BEAT_ALIVE) other->last = beat;
        if (beat.kind == MST_BEAT_FAREWELL) other->gone = true;
        if (beat.kind == MST_BEAT_END) follow_end(w);
    }
    if (event != MST_LINK_CLOSED) return;
    mst_link_close(link);
    link->lost = w->clock;
}

/*
 * A connection is closed without a farewell. Mostly its rank has died, which its own host sees at once; but something
 * between the hosts may have cut it, and then the rank calls again.
 */
static void judge_loss(mst_watchdog *w, mst_link *link) {
    mst_peer *other = &w->peers[link->rank];
    const mst_process *process = &w->known[link->rank].process;
    if (link->fd >= 0 || link->lost < 0 || other->gone || atomic_load(&w->leaving)) return;
    const bool here = process->host == w->known[w->rank].process.host;
    bool died = here && !mst_process_runs(process);
    if (!died && w->rank != 0) {
        died = !mst_meeting_call(w->meeting, return_seconds);
        read_clock(w);
        if (!died) other->heard = w->clock; /* it has answered */
    }
    if (!died && w->rank == 0) died = w->clock - link->lost >= return_seconds;
    if (!died) return;
    blame(w, &(mst_finding){MST_DIED, link->rank, other->last.idle + link->lost - other->heard});
}

static void say_to_all(mst_watchdog *w, const mst_beat *beat) {
    for (size_t i = 0; i < w->link_count; i++) mst_link_send(&w->links[i], beat);
}

/* Ends the job where somebody has held it up for too long; says so once, in time, where somebody is about to. */
static void judge(mst_watchdog *w) {
    mst_finding finding;
    char text[MST_FINDING_BYTES];
    if (mst_judge(w, w->seconds, &finding)) blame(w, &finding);
    const bool late = mst_judge(w, w->seconds / 2, &finding);
    if (late && !w->warned && speaks(w)) {
        mst_finding_warn(w, &finding, text);
        say_aloud("warning: ", text, "");
    }
    w->warned = late;
}

/* Waits for the next thing to happen, or for the next beat's time. */
static void wait_and_hear(mst_watchdog *w) {
    size_t count = 0;
    int wait = (int)(w->period * 1e3);
    for (size_t i = 0; i < w->link_count; i++) {
        w->polled[count++] = (struct pollfd){.fd = w->links[i].fd, .events = POLLIN};
        const bool sought = w->links[i].fd < 0 && !w->peers[w->links[i].rank].gone;
        if (sought) wait = FASTEST_MILLISECONDS;
    }
    struct pollfd *wake = &w->polled[count++];
    *wake = (struct pollfd){.fd = w->wake, .events = POLLIN};
    if (w->link_count >= LINKS_TO_GATHER && wait > FASTEST_MILLISECONDS) poll(wake, 1, GATHER_MILLISECONDS);
    struct pollfd *callers = w->polled + count;
    if (w->meeting != NULL) count += mst_meeting_poll(w->meeting, callers);
    poll(w->polled, count, wait);
    read_clock(w);
    observe_self(w);
    for (size_t i = 0; i < w->link_count; i++)
        if (w->polled[i].revents != 0) listen_to(w, &w->links[i]);
    if (w->meeting != NULL) mst_meeting_serve(w->meeting, callers);
    for (size_t i = 0; i < w->link_count; i++) /* who has called again has proved itself */
        if (w->links[i].fd >= 0 && w->links[i].fd != w->polled[i].fd)
            w->peers[w->links[i].rank].heard = w->clock;
}

static void *watch(void *context) {
    mst_watchdog *w = context;
    double next_beat = 0;
    while (!atomic_load(&w->stop)) {
        wait_and_hear(w);
        for (size_t i = 0; i < w->link_count; i++) judge_loss(w, &w->links[i]);
        if (w->clock >= next_beat) {
            say_to_all(w, &w->peers[w->rank].last);
            next_beat = w->clock + 0.9 * w->period;
        }
        judge(w);
    }
    say_to_all(w, &(mst_beat){.kind = MST_BEAT_FAREWELL});
    return NULL;
}

/* ---- for the main thread ---- */

static void say(mst_watchdog *w, const char *phase, size_t unit, uint64_t step, bool waiting) {
    if (!w) return;
    atomic_store_explicit(&w->phase, phase, memory_order_relaxed);
    atomic_store_explicit(&w->unit, unit, memory_order_relaxed);
    atomic_store_explicit(&w->step, step, memory_order_relaxed);
    atomic_store_explicit(&w->waiting, waiting, memory_order_relaxed);
    uint64_t progress = atomic_load_explicit(&w->progress, memory_order_relaxed);
    atomic_store_explicit(&w->progress, progress + 1, memory_order_release);
}

void mst_watchdog_progress(mst_watchdog *w, const char *phase, uint64_t step) {
    say(w, phase, MST_NO_UNIT, step, false);
}
void mst_watchdog_unit(mst_watchdog *w, const char *phase, size_t unit, uint64_t step) {
    say(w, phase, unit, step, false);
}
void mst_watchdog_waiting(mst_watchdog *w, const char *phase, uint64_t step) {
    say(w, phase, MST_NO_UNIT, step, true);
}

/* ---- creating ---- */

/* Twice a second; less often where rank 0 has many to hear, so that its work does not grow with them (docs/scaling.md). */
static double beat_period(double seconds, int size) {
    enum { RANKS_WITH_EASE = 128 };
    const double period = size > RANKS_WITH_EASE ? 0.5 * size / RANKS_WITH_EASE : 0.5;
    return period < seconds / 4 ? period : seconds / 4;
}

static uint64_t own_network(void) {
    struct stat space = {0};
    stat("/proc/self/ns/net", &space);
    return (uint64_t)space.st_ino;
}

static mst_status allocate(mst_watchdog *w, const char *device) {
    mst_status status = MST_OK;
    size_t size = (size_t)w->size;
    w->link_count = mst_link_count(w->comm);
    w->known = calloc(size, sizeof *w->known);
    w->peers = calloc(size, sizeof *w->peers);
    w->links = calloc(w->link_count + 1, sizeof *w->links);
    w->polled = calloc(w->link_count + 1 + mst_meeting_polled_max(), sizeof *w->polled);
    MST_CHECK(w->known && w->peers && w->links && w->polled, MST_ENOMEM, "watchdog: no memory for %zu ranks",
              size);
    for (size_t i = 0; i < w->link_count; i++) w->links[i].fd = -1;
    for (size_t i = 0; i < size; i++)
        snprintf(w->peers[i].last.phase, sizeof w->peers[i].last.phase, "start");
    w->known[w->rank] = (mst_introduction){.process = mst_process_self(), .network = own_network()};
    snprintf(w->known[w->rank].device, MST_DEVICE_BYTES, "%s", device != NULL ? device : "");
    w->has_main_clock = pthread_getcpuclockid(pthread_self(), &w->main_clock) == 0;
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    MST_CHECK(w->wake >= 0, MST_EIO, "watchdog: opening an eventfd: %s", strerror(errno));
done:
    return status;
}

static mst_status introduce(mst_watchdog *w, bool *one_host_out) {
    mst_status status = MST_OK;
    mst_introduction *all = NULL;
    MST_TRY(mst_comm_allgather_equal(w->comm, &w->known[w->rank], sizeof *all, (void **)&all));
    free(w->known);
    w->known = all;
    *one_host_out = true;
    for (int rank = 1; rank < w->size; rank++)
        *one_host_out &= all[rank].process.host == all[0].process.host && all[rank].network == all[0].network;
done:
    return status;
}

/* Signals are for the main thread. */
static mst_status start_thread(mst_watchdog *w) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    read_clock(w);
    w->clock = 0;
    w->cpu_at = main_cpu(w);
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
    for (size_t i = 0; w->links && i < w->link_count; i++) mst_link_leave(&w->links[i]);
    mst_meeting_destroy(&w->meeting);
    if (w->wake >= 0) close(w->wake);
    free(w->known);
    free(w->peers);
    free(w->links);
    free(w->polled);
    free(w);
}

mst_status mst_watchdog_start(mst_comm *comm, const mst_watchdog_options *options,
                              mst_watchdog **watchdog_out) {
    mst_status status = MST_OK;
    const double seconds = options->seconds;
    mst_meeting_options meeting = {.one_host = true, .interfaces = options->interfaces};
    *watchdog_out = NULL;
    if (!(seconds > 0)) return MST_OK;
    mst_watchdog *w = calloc(1, sizeof *w);
    if (w) {
        w->comm = comm;
        w->rank = mst_comm_rank(comm);
        w->size = mst_comm_size(comm);
        w->seconds = seconds;
        w->period = beat_period(seconds, w->size);
        w->queue = options->queue;
        w->wake = -1;
        atomic_init(&w->phase, "start");
        atomic_init(&w->unit, MST_NO_UNIT);
        status = allocate(w, options->device);
    } else {
        status = mst_error(MST_ENOMEM, "watchdog: no memory");
    }
    MST_TRY(mst_comm_agree(comm, status));
    MST_TRY(introduce(w, &meeting.one_host));
    meeting.links = w->links;
    if (w->size > 1) MST_TRY(mst_meeting_create(comm, &meeting, &w->meeting));
    MST_TRY(mst_comm_agree(comm, start_thread(w)));
    *watchdog_out = w;
done:
    if (status != MST_OK && w) end_thread(w);
    return status;
}

mst_status mst_watchdog_create(mst_comm *comm, double seconds, mst_watchdog **watchdog_out) {
    return mst_watchdog_start(comm, &(mst_watchdog_options){.seconds = seconds}, watchdog_out);
}

void mst_watchdog_destroy(mst_watchdog **watchdog) {
    mst_watchdog *w = *watchdog;
    if (!w) return;
    mst_watchdog_waiting(w, "end", atomic_load(&w->step));
    mst_comm_barrier(w->comm); /* guarded to here; whoever says farewell now is missed by nobody */
    atomic_store(&w->leaving, true);
    end_thread(w);
    *watchdog = NULL;
}
