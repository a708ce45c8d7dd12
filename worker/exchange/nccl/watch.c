/* The watch over NCCL, which waits for ever: every wait has an end, and what it waited for a name. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "muster/clock.h"
#include "transport.h"

/* ---- time ---- */

/* How long this rank waits. None of it passes while its process is stopped, as a job that is suspended is as a whole. */
typedef struct patience {
    double left, read; /* seconds */
} patience;

static patience begin_waiting(const mst_exchange *x) {
    return (patience){.left = mst_comm_patience(x->comm), .read = mst_clock_now()};
}

static bool is_over(patience *p) {
    static const double longest = 0.5; /* between two looks */
    const double time = mst_clock_now(), passed = time - p->read;
    p->read = time;
    p->left -= passed < longest ? passed : longest;
    return p->left < 0;
}

/* A short while: often at first, for most waits are short. */
static void nap(int turn) {
    enum { SOON = 200 };
    if (turn < SOON) return;
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

/* ---- giving up ---- */

static const char *const phases[] = {
    [MST_NCCL_PUBLISH] = "publish", [MST_NCCL_GATHER] = "gather", [MST_NCCL_SUM] = "exchange"};

/* "rank 1 (host b), rank 2 (host c)": those that a group needs; without a group all. */
static void name_peers(const mst_exchange *x, const mst_nccl_group *group, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (int rank = 0; rank < x->size; rank++) {
        const bool named = group ? mst_nccl_needs(x, group, rank) : rank != x->rank;
        if (named && used + 1 < size)
            used += (size_t)snprintf(text + used, size - used, "%srank %d (host %s)", used > 0 ? ", " : "",
                                     rank, mst_comm_host(x->comm, rank));
    }
}

/* The group that holds this rank up; NULL: none. */
static const mst_nccl_group *unfinished(const mst_nccl *s) {
    return s->ended < s->put ? &s->line[s->ended % s->room] : NULL;
}

/* From now on nothing is launched. The communicator stays until mst_nccl_give_up: a smaller one may be made from it. */
static mst_status give_up(mst_exchange *x, mst_status status, const char *phase, const char *why) {
    mst_nccl *s = x->state;
    const mst_nccl_group *group = unfinished(s);
    char peers[512], unit[64] = "", text[256] = "";
    const char *last = s->comm ? s->library->ncclGetLastError(s->comm) : NULL;
    if (last && *last) snprintf(text, sizeof text, ": %s", last);
    name_peers(x, group, peers, sizeof peers);
    if (group) snprintf(unit, sizeof unit, ", unit %zu", group->unit);
    status =
        mst_error(status, "NCCL on host %s, phase %s%s: %s; it needs %s%s", mst_comm_host(x->comm, x->rank),
                  group ? phases[group->kind] : phase, unit, why, peers, text);
    snprintf(s->reason, sizeof s->reason, "%s", mst_error_message());
    s->given_up = true;
    return status;
}

static mst_status time_is_over(mst_exchange *x, const char *phase) {
    char why[64];
    snprintf(why, sizeof why, "nothing came for %g s", mst_comm_patience(x->comm));
    return give_up(x, MST_EPEER, phase, why);
}

/* ---- going on ---- */

/* Whether NCCL has done what it was last called for. */
static mst_status is_settled(mst_exchange *x, const char *phase, bool *settled_out) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    ncclResult_t result = ncclSuccess;
    *settled_out = false;
    MST_CHECK(s->comm && !s->given_up, MST_EPEER, "%s", s->reason);
    const ncclResult_t code = s->library->ncclCommGetAsyncError(s->comm, &result);
    if (code != ncclSuccess) result = code;
    if (result != ncclSuccess && result != ncclInProgress)
        return give_up(x, MST_ELIBRARY, phase, s->library->ncclGetErrorString(result));
    *settled_out = result == ncclSuccess;
done:
    return status;
}

static mst_status launch_next(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    MST_TRY(mst_transfer_follow(x->queue));
    MST_TRY(mst_nccl_launch(x, &s->line[s->launched % s->room]));
    s->launching = true;
done:
    return status;
}

/* The group is on the stream: now a mark stands behind it. */
static mst_status conclude_launch(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    MST_TRY(mst_mark_set(x->queue, s->marks[s->launched % s->room]));
    s->launched++;
    s->launching = false;
done:
    return status;
}

static mst_status see_ended(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    bool passed = true;
    while (s->ended < s->launched) {
        MST_TRY(mst_mark_passed(x->queue, s->marks[s->ended % s->room], &passed));
        if (!passed) break;
        s->ended++;
    }
done:
    return status;
}

mst_status mst_nccl_advance(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    for (;;) {
        bool settled;
        MST_TRY(is_settled(x, "exchange", &settled));
        if (!settled) break;
        if (s->launching) MST_TRY(conclude_launch(x));
        if (s->launched == s->put) break;
        MST_TRY(launch_next(x));
    }
    MST_TRY(see_ended(x));
done:
    return status;
}

mst_status mst_nccl_put(mst_exchange *x, mst_nccl_kind kind, size_t unit, size_t number) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    MST_CHECK(s->put - s->ended < s->room, MST_EINTERNAL, "NCCL: %zu groups are on their way already",
              s->room);
    s->line[s->put++ % s->room] = (mst_nccl_group){kind, unit, number};
    MST_TRY(mst_nccl_advance(x));
done:
    return status;
}

/* ---- waiting ---- */

static mst_status wait_until(mst_exchange *x, const size_t *reached, size_t count) {
    mst_status status = MST_OK;
    patience p = begin_waiting(x);
    size_t before = *reached;
    for (int turn = 0;; turn++) {
        MST_TRY(mst_nccl_advance(x));
        if (*reached >= count) break;
        if (*reached > before) p = begin_waiting(x); /* it goes on */
        before = *reached;
        if (is_over(&p)) return time_is_over(x, "exchange");
        nap(turn);
    }
done:
    return status;
}

mst_status mst_nccl_wait_launched(mst_exchange *x, size_t count) {
    const mst_nccl *s = x->state;
    return wait_until(x, &s->launched, count);
}

mst_status mst_nccl_wait_ended(mst_exchange *x, size_t count) {
    const mst_nccl *s = x->state;
    return wait_until(x, &s->ended, count);
}

mst_status mst_nccl_wait_comm(mst_exchange *x, const char *phase) {
    mst_status status = MST_OK;
    patience p = begin_waiting(x);
    bool settled = false;
    for (int turn = 0;; turn++) {
        MST_TRY(is_settled(x, phase, &settled));
        if (settled) break;
        if (is_over(&p)) return time_is_over(x, phase);
        nap(turn);
    }
done:
    return status;
}
