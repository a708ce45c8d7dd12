/*
 * What becomes of a communicator when ranks are lost. Its groups may wait on the stream for ever, so it is given up, and
 * those that go on make a smaller one from it (ncclCommShrink), which needs no new meeting of all. Where that cannot be,
 * the next exchange makes a new one.
 */
#include <stdlib.h>
#include <time.h>

#include "transport.h"

/* ---- kept with the ranks that it belongs to ---- */

typedef struct kept_comm {
    const mst_nccl_library *library;
    ncclComm_t comm;
} kept_comm;

static void discard(void *kept_) {
    kept_comm *kept = kept_;
    kept->library->ncclCommAbort(kept->comm);
    free(kept);
}

/* Whether it is what these ranks would have made. */
static bool fits(const mst_exchange *x, ncclComm_t comm) {
    const mst_nccl_library *library = ((const mst_nccl *)x->state)->library;
    int size = 0, rank = -1;
    return library->ncclCommCount(comm, &size) == ncclSuccess && size == x->size &&
           library->ncclCommUserRank(comm, &rank) == ncclSuccess && rank == x->rank;
}

mst_status mst_nccl_take_kept(mst_exchange *x, ncclComm_t *comm_out) {
    mst_status status = MST_OK;
    kept_comm *kept = mst_comm_take(x->comm, discard);
    bool all = false;
    *comm_out = NULL;
    MST_TRY(mst_comm_all(x->comm, kept && fits(x, kept->comm), &all));
    if (!all) goto done;
    *comm_out = kept->comm;
    free(kept);
    kept = NULL;
done:
    if (kept) discard(kept);
    return status;
}

/* ---- making it ---- */

#ifdef MST_NCCL_SHRINKS

/* @return whether there was memory for it */
static bool keep(const mst_nccl *s, ncclComm_t comm, mst_comm *rest) {
    kept_comm *kept = malloc(sizeof *kept);
    if (!kept) return false;
    *kept = (kept_comm){s->library, comm};
    mst_comm_keep(rest, kept, discard);
    return true;
}

/* Waits until NCCL has done what it was last called for; *result_out is what came of it, ncclInProgress when that takes too long. */
static void settle(const mst_exchange *x, double seconds, ncclResult_t *result_out) {
    static const long look_ns = 1000000;
    const mst_nccl *s = x->state;
    for (double left = seconds;; left -= 1e-9 * (double)look_ns) {
        const ncclResult_t code = s->library->ncclCommGetAsyncError(s->comm, result_out);
        if (code != ncclSuccess) *result_out = code;
        if (*result_out != ncclInProgress || left < 0) return;
        nanosleep(&(struct timespec){.tv_nsec = look_ns}, NULL);
    }
}

/* The ranks of the communicator that are not among the rest. Collective over the rest.
 * @param lost_out [x->size] of which the first *count_out are filled */
static mst_status list_lost(const mst_exchange *x, mst_comm *rest, int *lost_out, int *count_out) {
    mst_status status = MST_OK;
    int *stays = NULL; /* ranks of x, in their order */
    int next = 0;
    *count_out = 0;
    MST_TRY(mst_comm_allgather_equal(rest, &x->rank, sizeof x->rank, (void **)&stays));
    for (int rank = 0; rank < x->size; rank++) {
        if (next < mst_comm_size(rest) && stays[next] == rank)
            next++;
        else
            lost_out[(*count_out)++] = rank;
    }
done:
    free(stays);
    return status;
}

/* This rank's part, when all of the rest are ready for it. @return whether NCCL did it */
static bool shrink_here(mst_exchange *x, int *lost, int count) {
    mst_nccl *s = x->state;
    ncclResult_t result;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    result = s->library->ncclCommShrink(s->comm, lost, count, &s->smaller, &config, NCCL_SHRINK_ABORT);
    if (result == ncclInProgress) settle(x, mst_comm_patience(x->comm), &result);
    return result == ncclSuccess && s->smaller;
}

/* A communicator is to be done with its last call, without an error, before it can be shrunk. */
static bool is_ready(const mst_exchange *x) {
    static const double moment = 2; /* a group reaches the stream in less */
    const mst_nccl *s = x->state;
    ncclResult_t result = ncclInvalidUsage;
    if (s && s->comm && s->library->ncclCommShrink) settle(x, moment, &result);
    return result == ncclSuccess;
}

/* Leaves in s->smaller what nobody can use. */
static void shrink(mst_exchange *x, mst_comm *rest) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    bool all = false;
    int count = 0, *lost = calloc((size_t)x->size, sizeof *lost);
    MST_TRY(mst_comm_all(rest, lost && is_ready(x), &all));
    if (!all) goto done;
    MST_TRY(list_lost(x, rest, lost, &count));
    MST_TRY(mst_comm_all(rest, shrink_here(x, lost, count), &all));
    if (all && keep(s, s->smaller, rest)) s->smaller = NULL;
done:
    free(lost);
}

#else
static void shrink(mst_exchange *x, mst_comm *rest) {
    (void)x, (void)rest;
}
#endif

static void put_away(const mst_nccl *s, ncclComm_t *comm) {
    if (*comm) s->library->ncclCommAbort(*comm);
    *comm = NULL;
}

void mst_nccl_give_up(mst_exchange *x, mst_comm *rest) {
    mst_nccl *s = x->state;
    if (rest && mst_comm_size(rest) > 1) shrink(x, rest);
    if (!s) return;
    s->given_up = true;
    put_away(s, &s->comm);
    put_away(s, &s->smaller);
}
