/* What a watchdog knows: shared by its thread (watchdog.c) and its judgement (judge.c). Private to the room. */
#ifndef MUSTER_WATCH_H
#define MUSTER_WATCH_H

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "link.h"
#include "meeting.h"
#include "muster/process.h"
#include "muster/watchdog.h"

enum { MST_DEVICE_BYTES = 96, MST_FINDING_BYTES = 1024 };
#define MST_NO_UNIT SIZE_MAX

/* What the ranks tell each other over MPI before the watch begins. */
typedef struct mst_introduction {
    mst_process process;
    uint64_t network; /* equal for ranks that share a loopback */
    char device[MST_DEVICE_BYTES];
} mst_introduction;

/* What this rank knows of another, by the clock of this rank. */
typedef struct mst_peer {
    mst_beat last;
    double heard; /* when the last beat came */
    bool gone;    /* said farewell */
} mst_peer;

struct mst_watchdog {
    mst_comm *comm;
    int rank, size;
    double seconds, period;
    const mst_queue *queue;  /* or NULL */
    mst_introduction *known; /* [size] */
    mst_meeting *meeting;    /* NULL: alone */
    mst_link *links;         /* [link_count] */
    struct pollfd *polled;   /* [link_count + 1 + mst_meeting_polled_max()] */
    mst_peer *peers;         /* [size]; rank 0 knows all, the others themselves and rank 0 */
    size_t link_count;
    clockid_t main_clock; /* CPU time of the main thread */
    bool has_main_clock;

    /* Written by the main thread alone, read by the watchdog's. */
    _Atomic(const char *) phase;
    _Atomic uint64_t step, progress;
    _Atomic size_t unit; /* of the model that the phase works on; MST_NO_UNIT */
    atomic_bool waiting, leaving;

    /* The watchdog's thread alone. */
    pthread_t thread;
    bool started, warned;
    double clock, clock_read; /* seconds this process was awake, and the system's clock when that was so */
    uint64_t progress_seen, pulse_seen;
    double progress_at, cpu_at; /* clock, and CPU seconds of the main thread, at the last progress */
    atomic_bool stop;
    int wake; /* eventfd */
};

typedef enum mst_trouble {
    MST_DIED,    /* its connection closed, and it did not come back */
    MST_SILENT,  /* nothing is heard of it */
    MST_IDLE,    /* it works without progress */
    MST_STUCK,   /* it waits in a phase that the others have left */
    MST_BLOCKED, /* all wait for each other */
} mst_trouble;

typedef struct mst_finding {
    mst_trouble trouble;
    int rank; /* whom it is about; MST_BLOCKED: nobody */
    double seconds;
} mst_finding;

/** Whether somebody has been silent or without progress for `limit` seconds. Not collective; the watchdog's thread.
 * Rank 0 judges all ranks, the others rank 0's silence. */
bool mst_judge(const mst_watchdog *w, double limit, mst_finding *finding_out);

/** A finding in words: who, where, since when. @param text_out [MST_FINDING_BYTES] */
void mst_finding_describe(const mst_watchdog *w, const mst_finding *finding, char *text_out);
/** A finding that is not fatal yet, in words. @param text_out [MST_FINDING_BYTES] */
void mst_finding_warn(const mst_watchdog *w, const mst_finding *finding, char *text_out);

#endif
