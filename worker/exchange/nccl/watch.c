/* The watch over NCCL, which waits for ever: every wait has an end, and what it waited for a name. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "transport.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- giving up ---- */

/* Whether this rank's part of a group needs a rank. */
static bool needs(const mst_exchange *x, const mst_nccl_list *list, const mst_nccl_group *group, int rank) {
    const mst_nccl *s = x->state;
    size_t first, theirs;
    if (rank == x->rank) return false;
    mst_shard_range(&x->layout->units[group->unit], rank, x->size, &first, &theirs);
    if (list == &s->weights) return theirs > 0;
    return (group->number < s->own_count[rank] && x->owned[group->unit].blocks > 0) ||
           (group->number < s->own_count[x->rank] && theirs > 0);
}

/* "rank 1 (host b), rank 2 (host c)": those that a group needs; without a group all. */
static void name_peers(const mst_exchange *x, const mst_nccl_list *list, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (int rank = 0; rank < x->size; rank++) {
        const bool named = list ? needs(x, list, &list->groups[list->ended], rank) : rank != x->rank;
        if (named && used + 1 < size)
            used += (size_t)snprintf(text + used, size - used, "%srank %d (host %s)", used > 0 ? ", " : "",
                                     rank, mst_comm_host(x->comm, rank));
    }
}

/* The list whose group holds this rank up; NULL: none. */
static mst_nccl_list *unfinished(mst_nccl *s) {
    if (s->weights.ended < s->weights.count) return &s->weights;
    return s->sums.ended < s->sums.count ? &s->sums : NULL;
}

/* Ends NCCL's kernels on this rank, so that its stream comes to an end; the peers see it, or their own time runs out. */
static mst_status give_up(mst_exchange *x, mst_status status, const char *phase, const char *why) {
    mst_nccl *s = x->state;
    const mst_nccl_list *list = unfinished(s);
    char peers[512], unit[64] = "", text[256] = "";
    const char *last = s->comm ? s->library->ncclGetLastError(s->comm) : NULL;
    if (last && *last) snprintf(text, sizeof text, ": %s", last);
    name_peers(x, list, peers, sizeof peers);
    if (list) snprintf(unit, sizeof unit, ", unit %zu", list->groups[list->ended].unit);
    status = mst_error(status, "NCCL on host %s, phase %s%s: %s; it needs %s%s",
                       mst_comm_host(x->comm, x->rank), list ? list->phase : phase, unit, why, peers, text);
    if (s->comm) s->library->ncclCommAbort(s->comm);
    s->comm = NULL;
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
    MST_CHECK(s->comm, MST_EPEER, "NCCL on host %s has been given up", mst_comm_host(x->comm, x->rank));
    const ncclResult_t code = s->library->ncclCommGetAsyncError(s->comm, &result);
    if (code != ncclSuccess) result = code;
    if (result != ncclSuccess && result != ncclInProgress)
        return give_up(x, result == ncclRemoteError ? MST_EPEER : MST_ELIBRARY, phase,
                       s->library->ncclGetErrorString(result));
    *settled_out = result == ncclSuccess;
done:
    return status;
}

static mst_nccl_list *next_list(mst_nccl *s) {
    if (s->weights.launched < s->weights.count) return &s->weights;
    return s->sums.launched < s->sums.count ? &s->sums : NULL;
}

static mst_status launch_next(mst_exchange *x, mst_nccl_list *list) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    MST_TRY(mst_transfer_follow(x->queue));
    MST_TRY(mst_nccl_launch(x, list, &list->groups[list->launched]));
    s->launching = list;
done:
    return status;
}

/* The group is on the stream: now a mark stands behind it. */
static mst_status conclude_launch(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    MST_TRY(mst_mark_set(x->queue, s->launching->groups[s->launching->launched].mark));
    s->launching->launched++;
    s->launching = NULL;
done:
    return status;
}

static mst_status see_ended(mst_exchange *x, mst_nccl_list *list) {
    mst_status status = MST_OK;
    bool passed = true;
    while (list->ended < list->launched) {
        MST_TRY(mst_mark_passed(x->queue, list->groups[list->ended].mark, &passed));
        if (!passed) break;
        list->ended++;
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
        mst_nccl_list *list = next_list(s);
        if (!list || !list->groups[list->launched].ready) break;
        MST_TRY(launch_next(x, list));
    }
    MST_TRY(see_ended(x, &s->weights));
    MST_TRY(see_ended(x, &s->sums));
done:
    return status;
}

/* ---- waiting ---- */

/* A short while: often at first, for most waits are short. */
static void nap(int turn) {
    enum { SOON = 200 };
    if (turn < SOON) return;
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

static mst_status wait_until(mst_exchange *x, const mst_nccl_list *list, const size_t *reached,
                             size_t count) {
    mst_status status = MST_OK;
    double end = now() + mst_comm_patience(x->comm);
    size_t before = *reached;
    for (int turn = 0;; turn++) {
        MST_TRY(mst_nccl_advance(x));
        if (*reached >= count) break;
        if (*reached > before) end = now() + mst_comm_patience(x->comm); /* it goes on */
        before = *reached;
        if (now() > end) return time_is_over(x, list->phase);
        nap(turn);
    }
done:
    return status;
}

mst_status mst_nccl_wait_launched(mst_exchange *x, mst_nccl_list *list, size_t count) {
    return wait_until(x, list, &list->launched, count);
}

mst_status mst_nccl_wait_ended(mst_exchange *x, mst_nccl_list *list, size_t count) {
    return wait_until(x, list, &list->ended, count);
}

mst_status mst_nccl_wait_comm(mst_exchange *x, const char *phase) {
    mst_status status = MST_OK;
    const double end = now() + mst_comm_patience(x->comm);
    bool settled = false;
    for (int turn = 0;; turn++) {
        MST_TRY(is_settled(x, phase, &settled));
        if (settled) break;
        if (now() > end) return time_is_over(x, phase);
        nap(turn);
    }
done:
    return status;
}
