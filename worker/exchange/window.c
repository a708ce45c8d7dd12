/* Memory that the ranks of a node share. */
#include "window.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/statvfs.h>

enum { PIECES_MAX = 2 * MST_LEVELS_MAX };

/* What other parts of the job (MPI's own queues) may still take from /dev/shm. */
static const size_t shm_margin = (size_t)64 << 20;

/*
 * A rank's part of the window: up to a page of alignment (the window's base has none, and all parts shift
 * alike), a page with the rank's mark, what it says of its pieces, on the node's first rank the weights of
 * all, and the rank's slots.
 */
size_t mst_whole_pages(size_t bytes) {
    return (bytes + MST_PAGE - 1) / MST_PAGE * MST_PAGE;
}

static size_t done_bytes(const mst_layout *layout) {
    return mst_whole_pages(layout->unit_count * PIECES_MAX * sizeof(_Atomic uint32_t));
}

static size_t weight_bytes(const mst_exchange *x) {
    return mst_whole_pages(x->layout->blocks * mst_exchange_weight_block(x));
}

static size_t slots_bytes(const mst_exchange *x) {
    return mst_whole_pages(x->plan.slots * mst_exchange_slot_bytes(x));
}

size_t mst_window_bytes(const mst_layout *layout, size_t weights, size_t slots) {
    return 2 * (size_t)MST_PAGE + done_bytes(layout) + mst_whole_pages(weights) + mst_whole_pages(slots);
}

static size_t part_bytes(const mst_exchange *x) {
    bool first = mst_comm_node_rank(x->comm) == 0;
    return mst_window_bytes(x->layout, first ? weight_bytes(x) : 0, slots_bytes(x));
}

char *mst_page_start(void *base) {
    char *start = base;
    return start + (MST_PAGE - (uintptr_t)start % MST_PAGE) % MST_PAGE;
}

mst_status mst_shm_room(const MPI_Comm *node, size_t part, size_t *needed_out, size_t *free_out) {
    mst_status status = MST_OK;
    uint64_t needed = part, room = SIZE_MAX;
    const char *folder = getenv("OMPI_MCA_osc_sm_backing_directory");
    struct statvfs system;
    if (statvfs(folder ? folder : "/dev/shm", &system) == 0)
        room = (uint64_t)system.f_bavail * system.f_frsize;
    MST_MPI(MPI_Allreduce(MPI_IN_PLACE, &needed, 1, MPI_UINT64_T, MPI_SUM, *node));
    MST_MPI(MPI_Allreduce(MPI_IN_PLACE, &room, 1, MPI_UINT64_T, MPI_MIN, *node));
    *needed_out = needed;
    *free_out = room > shm_margin ? room - shm_margin : 0;
done:
    return status;
}

mst_status mst_window_room(mst_exchange *x, size_t *needed_out, size_t *free_out) {
    return mst_shm_room(mst_comm_mpi(x->comm, true), part_bytes(x), needed_out, free_out);
}

/* ---- opening ---- */

/* When /dev/shm is short, Open MPI tells one rank and leaves the others spinning: look first. */
static mst_status check_room(mst_exchange *x) {
    mst_status status = MST_OK;
    size_t needed, room;
    MST_TRY(mst_window_room(x, &needed, &room));
    MST_CHECK(
        needed <= room, MST_ENOMEM,
        "shared memory for the exchange: %zu MiB needed, %zu MiB free in /dev/shm; enlarge it (docker run "
        "--shm-size, mount -o remount,size=) or use transport mpi",
        (needed >> 20) + 1, room >> 20);
done:
    return status;
}

static mst_status allocate(mst_exchange *x, mst_window *w) {
    mst_status status = MST_OK;
    size_t ranks = (size_t)mst_comm_node_size(x->comm);
    w->window = MPI_WIN_NULL;
    w->ranks = (int)ranks;
    w->rank = mst_comm_node_rank(x->comm);
    w->place = calloc((size_t)x->size, sizeof *w->place);
    w->mark = calloc(ranks, sizeof *w->mark);
    w->done = calloc(ranks, sizeof *w->done);
    w->slots = calloc(ranks, sizeof *w->slots);
    MST_CHECK(w->place && w->mark && w->done && w->slots, MST_ENOMEM,
              "opening shared memory for %zu ranks: no memory", ranks);
    int next = 0; /* the node's ranks are numbered in the order of ranks */
    for (int rank = 0; rank < x->size; rank++) {
        bool here = mst_comm_node_of(x->comm, rank) == mst_comm_node_of(x->comm, x->rank);
        w->place[rank] = here ? next++ : -1;
    }
done:
    return status;
}

/* Learns where every rank's part stands, and leaves this rank's mark. Not collective. */
static mst_status find_parts(mst_exchange *x, mst_window *w) {
    mst_status status = MST_OK;
    for (int rank = 0; rank < w->ranks; rank++) {
        MPI_Aint bytes;
        int unit;
        void *base;
        MST_MPI(MPI_Win_shared_query(w->window, rank, &bytes, &unit, &base));
        w->mark[rank] = mst_page_start(base);
        char *part = w->mark[rank] + MST_PAGE;
        w->done[rank] = (_Atomic uint32_t *)(void *)part;
        part += done_bytes(x->layout);
        if (rank == 0) {
            x->weights = part;
            part += weight_bytes(x);
        }
        w->slots[rank] = part;
    }
    x->slots = w->slots[w->rank];
    *(volatile int *)(void *)w->mark[w->rank] = w->rank + 1;
    MST_MPI(MPI_Win_sync(w->window));
done:
    return status;
}

/* Checks that this rank finds every rank's mark, and touches its memory, which is slow
 * the first time. Not collective. */
static mst_status try_parts(mst_exchange *x, const mst_window *w) {
    mst_status status = MST_OK;
    MST_MPI(MPI_Win_sync(w->window));
    for (int rank = 0; rank < w->ranks; rank++) {
        int seen = *(const volatile int *)(void *)w->mark[rank];
        MST_CHECK(
            seen == rank + 1, MST_EMPI,
            "shared memory for the exchange: the part of rank %d of the node reads %d; use transport mpi",
            rank, seen);
    }
    for (size_t i = 0; i < x->layout->unit_count * PIECES_MAX; i++) atomic_init(&w->done[w->rank][i], 0);
    MST_TRY(mst_exchange_zero(x->queue, x->slots, slots_bytes(x)));
    size_t pages = weight_bytes(x) / MST_PAGE, ranks = (size_t)w->ranks, rank = (size_t)w->rank;
    size_t first = pages * rank / ranks,
           end = pages * (rank + 1) / ranks; /* near those who will write them */
    MST_TRY(mst_exchange_zero(x->queue, (char *)x->weights + first * MST_PAGE, (end - first) * MST_PAGE));
done:
    return status;
}

mst_status mst_window_init(mst_exchange *x, mst_window *w) {
    mst_status status = MST_OK;
    const MPI_Comm *node = mst_comm_mpi(x->comm, true);
    void *base;
    MST_TRY(mst_comm_agree(x->comm, allocate(x, w)));
    MST_TRY(mst_comm_agree(x->comm, check_room(x)));
    MST_MPI(MPI_Win_allocate_shared((MPI_Aint)part_bytes(x), 1, MPI_INFO_NULL, *node, &base, &w->window));
    MST_MPI(MPI_Win_set_errhandler(w->window, MPI_ERRORS_RETURN));
    MST_MPI(MPI_Win_lock_all(MPI_MODE_NOCHECK, w->window));
    w->locked = true;
    x->bytes += part_bytes(x);
    MST_TRY(mst_comm_agree(x->comm, find_parts(x, w)));
    MST_TRY(mst_comm_agree(x->comm, try_parts(x, w)));
done:
    return status;
}

void mst_window_clear(mst_exchange *x, mst_window *w) {
    x->slots = x->weights = NULL;
    if (w->window != MPI_WIN_NULL) {
        if (w->locked) MPI_Win_unlock_all(w->window);
        MPI_Win_free(&w->window);
    }
    free(w->place);
    free(w->mark);
    free(w->done);
    free(w->slots);
}

/* ---- use ---- */

mst_status mst_window_fence(const mst_window *w) {
    return mst_comm_mpi_status(MPI_Win_sync(w->window), "MPI_Win_sync");
}

const void *mst_window_blocks(const mst_exchange *x, const mst_window *w, const mst_piece *piece, size_t unit,
                              size_t first_block) {
    return w->slots[w->place[piece->rank]] + piece->slot * mst_exchange_slot_bytes(x) +
           mst_exchange_unit_offset(x, unit) + first_block * mst_exchange_wire_block(x);
}

_Atomic uint32_t *mst_window_done(const mst_window *w, int rank, size_t unit, size_t within) {
    return &w->done[w->place[rank]][unit * PIECES_MAX + within];
}
