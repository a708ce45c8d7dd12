/*
 * Links and clocks. The first rank of each node plays ping-pong with each other node's, one pair at a time, while all
 * others sleep between looks at whether it is their turn, so that nobody's waiting takes the processor from who measures.
 */
#include <math.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "examination.h"
#include "muster/clock.h"
#include "muster/units.h"

enum {
    TRIPS = 300,      /* of small messages, at most */
    LARGE = 4 << 20,  /* bytes of a large message */
    LARGE_TRIPS = 32, /* at most */
    CLOCK_TRIPS = 20, /* to each node */
    SHOWN = 12,       /* nodes of a matrix that still fits a terminal */
    TAG_SMALL = 1,
    TAG_LARGE,
    TAG_CLOCK
};
static const double small_seconds = 0.04, large_seconds = 0.15; /* of a pair, at most */
static const double all_seconds = 8; /* of all pairs together: then no more are begun */

/* Those who measure: one rank of each node, or, on one node, two of its ranks. */
typedef struct players {
    MPI_Comm comm; /* MPI_COMM_NULL: this rank watches */
    int count, own;
    double *seconds; /* [count * count] a small message takes, one way; 0: not measured */
    double *rate;    /* [count * count] bytes/s of large ones */
    double *skew;    /* [count] seconds that the clock is ahead of player 0's */
    char *buffer;    /* [LARGE] */
} players;

static void nap(void) {
    const struct timespec pause = {.tv_nsec = 200000};
    nanosleep(&pause, NULL);
}

/* Waits without spinning. */
static mst_status wait_quietly(examination *e, MPI_Request *request) {
    mst_status status = MST_OK;
    int over = 0;
    for (;;) {
        MST_MPI(MPI_Test(request, &over, MPI_STATUS_IGNORE));
        if (over) break;
        mst_watchdog_waiting(e->watchdog, "links", 0);
        nap();
    }
done:
    return status;
}

/* ---- a pair ---- */

static int by_value(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The first of a pair throws until it has thrown `most` times or its time is up, and says with the first byte that it was
 * the last one; the second throws back what it gets. @param median_out seconds there and back, the first one's */
static mst_status throw_ball(players *p, int other, bool first, int tag, int bytes, int most, double limit,
                             double *median_out) {
    mst_status status = MST_OK;
    double trips[TRIPS];
    int count = 0;
    const double begin = mst_clock_now();
    for (bool last = false; !last;) {
        if (first) {
            last = count + 1 >= most || mst_clock_now() - begin > limit;
            p->buffer[0] = (char)last;
            const double start = mst_clock_now();
            MST_MPI(MPI_Send(p->buffer, bytes, MPI_BYTE, other, tag, p->comm));
            MST_MPI(MPI_Recv(p->buffer, bytes, MPI_BYTE, other, tag, p->comm, MPI_STATUS_IGNORE));
            trips[count++] = mst_clock_now() - start;
        } else {
            MST_MPI(MPI_Recv(p->buffer, bytes, MPI_BYTE, other, tag, p->comm, MPI_STATUS_IGNORE));
            last = p->buffer[0] != 0;
            MST_MPI(MPI_Send(p->buffer, bytes, MPI_BYTE, other, tag, p->comm));
        }
    }
    if (first) {
        qsort(trips, (size_t)count, sizeof *trips, by_value);
        *median_out = trips[count / 2];
    }
done:
    return status;
}

static mst_status measure_pair(examination *e, players *p, int one, int two) {
    mst_status status = MST_OK;
    const bool first = p->own == one;
    double small = 0, large = 0;
    if (p->own != one && p->own != two) return MST_OK;
    mst_watchdog_progress(e->watchdog, "links", 0);
    MST_TRY(throw_ball(p, first ? two : one, first, TAG_SMALL, 8, TRIPS, small_seconds, &small));
    mst_watchdog_progress(e->watchdog, "links", 0);
    MST_TRY(throw_ball(p, first ? two : one, first, TAG_LARGE, LARGE, LARGE_TRIPS, large_seconds, &large));
    if (first) {
        p->seconds[one * p->count + two] = small / 2;
        p->rate[one * p->count + two] = 2 * (double)LARGE / large;
    }
done:
    return status;
}

/* Neighbours first, then those further away, so that with many nodes each still meets some. */
static mst_status measure_pairs(examination *e, players *p) {
    mst_status status = MST_OK;
    const double begin = mst_clock_now();
    int late = 0;
    for (int distance = 1; distance < p->count && !late; distance++)
        for (int one = 0; one + distance < p->count && !late; one++) {
            MPI_Request request;
            int mine = p->own == 0 && mst_clock_now() - begin > all_seconds;
            MST_MPI(MPI_Iallreduce(&mine, &late, 1, MPI_INT, MPI_MAX, p->comm, &request));
            MST_TRY(wait_quietly(e, &request)); /* the pair before has ended, too */
            if (!late) MST_TRY(measure_pair(e, p, one, one + distance));
        }
done:
    return status;
}

/* ---- clocks ---- */

static double wall_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What player 0 asks at its time t0 and hears at t1 was read half way, of the quickest trip. */
static mst_status measure_skew(players *p, int other) {
    mst_status status = MST_OK;
    double best = 1e300, there = 0;
    if (p->own != 0 && p->own != other) return MST_OK;
    for (int i = 0; i < CLOCK_TRIPS; i++) {
        if (p->own == other) {
            MST_MPI(MPI_Recv(&there, 1, MPI_DOUBLE, 0, TAG_CLOCK, p->comm, MPI_STATUS_IGNORE));
            there = wall_clock();
            MST_MPI(MPI_Send(&there, 1, MPI_DOUBLE, 0, TAG_CLOCK, p->comm));
            continue;
        }
        const double asked = wall_clock();
        MST_MPI(MPI_Send(&there, 1, MPI_DOUBLE, other, TAG_CLOCK, p->comm));
        MST_MPI(MPI_Recv(&there, 1, MPI_DOUBLE, other, TAG_CLOCK, p->comm, MPI_STATUS_IGNORE));
        const double heard = wall_clock();
        if (heard - asked >= best) continue;
        best = heard - asked;
        p->skew[other] = there - (asked + heard) / 2;
    }
done:
    return status;
}

static void judge_skew(examination *e, const players *p) {
    int worst = 0;
    char a[MST_QUANTITY_TEXT];
    if (e->nodes < 2) return;
    for (int n = 1; n < p->count; n++)
        if (fabs(p->skew[n]) > fabs(p->skew[worst])) worst = n;
    const double skew = fabs(p->skew[worst]);
    mst_quantity_text(MST_QUANTITY_SECONDS, skew, a);
    if (skew > 1)
        doctor_say(e, VERDICT_WARN, "time",
                   "%s's clock is %s %s of %s's: times in logs and files will mislead; run chrony or ntpd",
                   mst_comm_host(e->comm, e->leaders[worst]), a, p->skew[worst] > 0 ? "ahead" : "behind",
                   mst_comm_host(e->comm, e->leaders[0]));
    else
        doctor_say(e, VERDICT_OK, "time", "the nodes' clocks differ by at most %s", a);
}

/* ---- what it means ---- */

static void put_matrix(const examination *e, const players *p) {
    fprintf(e->file, "      %-12s  Gb/s and us one way, of each pair of nodes:\n      %-12s  %10s", "", "",
            "");
    for (int two = 1; two < p->count; two++)
        fprintf(e->file, " %15.15s", mst_comm_host(e->comm, e->leaders[two]));
    for (int one = 0; one + 1 < p->count; one++) {
        fprintf(e->file, "\n      %-12s  %10.10s", "", mst_comm_host(e->comm, e->leaders[one]));
        for (int two = 1; two < p->count; two++) {
            const double rate = p->rate[one * p->count + two];
            if (rate > 0)
                fprintf(e->file, " %7.3g / %5.3g", rate * 8e-9, p->seconds[one * p->count + two] * 1e6);
            else
                fprintf(e->file, " %15s", two > one ? "-" : "");
        }
    }
    fputc('\n', e->file);
}

static void judge_one_node(examination *e, const players *p) {
    char a[MST_QUANTITY_TEXT], b[MST_QUANTITY_TEXT];
    doctor_say(e, VERDICT_OK, "links", "one node; between its ranks 0 and 1 %s, %s a message",
               mst_quantity_text(MST_QUANTITY_RATE, p->rate[1], a),
               mst_quantity_text(MST_QUANTITY_SECONDS, p->seconds[1], b));
}

static void judge_links(examination *e, const players *p) {
    const size_t cells = (size_t)p->count * (size_t)p->count;
    double *rates = calloc(cells, sizeof *rates);
    size_t measured = 0, slowest = 0;
    char a[MST_QUANTITY_TEXT], b[MST_QUANTITY_TEXT], c[MST_QUANTITY_TEXT], some[96] = "";
    if (rates == NULL) return;
    for (size_t i = 0; i < cells; i++) {
        if (p->rate[i] <= 0) continue;
        if (measured == 0 || p->rate[i] < p->rate[slowest]) slowest = i;
        rates[measured++] = p->rate[i];
        e->latency = fmax(e->latency, p->seconds[i]);
    }
    qsort(rates, measured, sizeof *rates, by_value);
    const double usual = rates[measured / 2];
    e->bandwidth = p->rate[slowest];
    free(rates);
    const size_t pairs = (size_t)p->count * ((size_t)p->count - 1) / 2;
    if (measured < pairs) snprintf(some, sizeof some, " (%zu of %zu pairs were measured)", measured, pairs);
    const char *one = mst_comm_host(e->comm, e->leaders[slowest / (size_t)p->count]),
               *two = mst_comm_host(e->comm, e->leaders[slowest % (size_t)p->count]);
    mst_quantity_text(MST_QUANTITY_LINK, e->bandwidth, a);
    mst_quantity_text(MST_QUANTITY_LINK, usual, b);
    mst_quantity_text(MST_QUANTITY_SECONDS, e->latency, c);
    if (e->bandwidth < 0.5 * usual)
        doctor_say(e, VERDICT_WARN, "links",
                   "%s to %s reaches %s, most pairs %s: look at their cables, ports and switch%s", one, two,
                   a, b, some);
    else
        doctor_say(e, VERDICT_OK, "links",
                   "the slowest is %s to %s: %s, most reach %s; at most %s a message%s", one, two, a, b, c,
                   some);
    if (p->count <= SHOWN) put_matrix(e, p);
}

/* ---- all of it ---- */

static mst_status prepare(examination *e, players *p) {
    mst_status status = MST_OK;
    const int rank = mst_comm_rank(e->comm);
    const bool plays = e->nodes > 1 ? e->leaders[e->own_node] == rank : rank < 2;
    p->count = e->nodes > 1 ? e->nodes : 2;
    p->own = e->nodes > 1 ? e->own_node : rank;
    p->comm = MPI_COMM_NULL;
    const size_t cells = (size_t)p->count * (size_t)p->count;
    p->seconds = calloc(cells, sizeof *p->seconds);
    p->rate = calloc(cells, sizeof *p->rate);
    p->skew = calloc((size_t)p->count, sizeof *p->skew);
    p->buffer = calloc(1, LARGE);
    MST_TRY(mst_comm_agree(
        e->comm, p->seconds && p->rate && p->skew && p->buffer
                     ? MST_OK
                     : mst_error(MST_ENOMEM, "doctor: no memory for the links of %d nodes", p->count)));
    MST_MPI(MPI_Comm_split(*(const MPI_Comm *)mst_comm_mpi(e->comm, false), plays ? 0 : MPI_UNDEFINED, p->own,
                           &p->comm));
    if (plays) MST_MPI(MPI_Comm_set_errhandler(p->comm, MPI_ERRORS_RETURN));
done:
    return status;
}

static mst_status play(examination *e, players *p) {
    mst_status status = MST_OK;
    const int cells = p->count * p->count;
    MPI_Request request;
    MST_TRY(measure_pairs(e, p));
    MST_MPI(MPI_Ibarrier(p->comm, &request));
    MST_TRY(wait_quietly(e, &request));
    for (int other = 1; other < p->count; other++) MST_TRY(measure_skew(p, other));
    MST_MPI(MPI_Iallreduce(MPI_IN_PLACE, p->seconds, cells, MPI_DOUBLE, MPI_MAX, p->comm, &request));
    MST_TRY(wait_quietly(e, &request));
    MST_MPI(MPI_Iallreduce(MPI_IN_PLACE, p->rate, cells, MPI_DOUBLE, MPI_MAX, p->comm, &request));
    MST_TRY(wait_quietly(e, &request));
done:
    return status;
}

static mst_status watch(examination *e) {
    mst_status status = MST_OK;
    MPI_Request request;
    MST_MPI(MPI_Ibarrier(*(const MPI_Comm *)mst_comm_mpi(e->comm, false), &request));
    MST_TRY(wait_quietly(e, &request));
done:
    return status;
}

mst_status doctor_links(examination *e) {
    mst_status status = MST_OK, mine = MST_OK;
    players p = {.comm = MPI_COMM_NULL};
    if (mst_comm_size(e->comm) == 1) {
        doctor_say(e, VERDICT_OK, "links",
                   "one rank alone: none are used; start it under mpirun or srun to measure them");
        return MST_OK;
    }
    MST_TRY(prepare(e, &p));
    if (p.comm != MPI_COMM_NULL) mine = play(e, &p);
    MST_TRY(watch(e));
    MST_TRY(mst_comm_agree(e->comm, mine));
    if (e->file != NULL) {
        if (e->nodes == 1)
            judge_one_node(e, &p);
        else
            judge_links(e, &p);
        judge_skew(e, &p);
    }
done:
    if (p.comm != MPI_COMM_NULL) MPI_Comm_free(&p.comm);
    free(p.seconds);
    free(p.rate);
    free(p.skew);
    free(p.buffer);
    return status;
}
