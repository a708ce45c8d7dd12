/*
 * Ranks of one node: all slots and the published weights stand in one shared-memory window, and an owner
 * reads its shards of the partial sums where the other ranks computed them.
 */
#include <mpi.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "transport.h"

enum { PAGE = 4096 };

/* What other parts of the job (MPI's own queues) may still take from /dev/shm. */
static const size_t shm_margin = (size_t)64 << 20;

typedef struct shm {
    MPI_Win window;
    bool locked;
    const char **mark;  /* [size] each rank's mark */
    const char **slots; /* [size] each rank's slots as this rank sees them */
} shm;

/*
 * A rank's part of the window: up to a page of alignment (the window's base has none, and all parts shift
 * alike), a page with the rank's mark, on rank 0 the weights of all, and the rank's slots.
 */
static size_t whole_pages(size_t bytes) {
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static size_t weight_bytes(const mst_exchange *x) {
    return whole_pages(x->layout->blocks * MST_BLOCK * mst_dtype_size(x->weight_dtype));
}

static size_t slots_bytes(const mst_exchange *x) {
    return whole_pages(x->plan.slots * mst_exchange_slot_bytes(x));
}

size_t mst_exchange_shm_bytes(size_t weights, size_t slots) {
    return 2 * (size_t)PAGE + whole_pages(weights) + whole_pages(slots);
}

static size_t part_bytes(const mst_exchange *x) {
    return mst_exchange_shm_bytes(x->rank == 0 ? weight_bytes(x) : 0, slots_bytes(x));
}

static char *mark_of(void *base) {
    char *start = base;
    return start + (PAGE - (uintptr_t)start % PAGE) % PAGE;
}

mst_status mst_exchange_shm_room(mst_exchange *x, size_t *needed_out, size_t *free_out) {
    mst_status status = MST_OK;
    const MPI_Comm *node = mst_comm_mpi(x->comm, true);
    uint64_t needed = part_bytes(x), room = SIZE_MAX;
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

/* Learns where every rank's part stands, and leaves this rank's mark. Not collective. */
static mst_status find_parts(mst_exchange *x, shm *s) {
    mst_status status = MST_OK;
    for (int rank = 0; rank < x->size; rank++) {
        MPI_Aint bytes;
        int unit;
        void *base;
        MST_MPI(MPI_Win_shared_query(s->window, rank, &bytes, &unit, &base));
        char *mark = mark_of(base), *part = mark + PAGE;
        if (rank == 0) {
            x->weights = part;
            part += weight_bytes(x);
        }
        s->mark[rank] = mark;
        s->slots[rank] = part;
        if (rank == x->rank) {
            x->slots = part;
            *(volatile int *)mark = rank + 1;
        }
    }
    MST_MPI(MPI_Win_sync(s->window));
done:
    return status;
}

/* Checks that this rank finds every rank's mark, and touches its memory, which is slow
 * the first time. Not collective. */
static mst_status try_parts(mst_exchange *x, shm *s) {
    mst_status status = MST_OK;
    MST_MPI(MPI_Win_sync(s->window));
    for (int rank = 0; rank < x->size; rank++) {
        int seen = *(const volatile int *)s->mark[rank];
        MST_CHECK(seen == rank + 1, MST_EMPI,
                  "shared memory for the exchange: rank %d's part reads %d; use transport mpi", rank, seen);
    }
    MST_TRY(mst_exchange_zero(x->queue, x->slots, slots_bytes(x)));
    size_t pages = weight_bytes(x) / PAGE, ranks = (size_t)x->size, rank = (size_t)x->rank;
    size_t first = pages * rank / ranks,
           end = pages * (rank + 1) / ranks; /* near those who will write them */
    MST_TRY(mst_exchange_zero(x->queue, (char *)x->weights + first * PAGE, (end - first) * PAGE));
done:
    return status;
}

static void close_shm(mst_exchange *x) {
    shm *s = x->state;
    x->slots = x->weights = NULL;
    if (!s) return;
    if (s->window != MPI_WIN_NULL) {
        if (s->locked) MPI_Win_unlock_all(s->window);
        MPI_Win_free(&s->window);
    }
    free(s->mark);
    free(s->slots);
    free(s);
    x->state = NULL;
}

static mst_status open_shm(mst_exchange *x) {
    mst_status status = MST_OK;
    const MPI_Comm *node = mst_comm_mpi(x->comm, true);
    size_t needed, room;
    void *base;
    shm *s = x->state = calloc(1, sizeof *s);
    if (s) {
        s->window = MPI_WIN_NULL;
        s->mark = calloc((size_t)x->size, sizeof *s->mark);
        s->slots = calloc((size_t)x->size, sizeof *s->slots);
    }
    if (!s || !s->mark || !s->slots)
        status = mst_error(MST_ENOMEM, "opening shared memory for %d ranks: no memory", x->size);
    MST_TRY(mst_comm_agree(x->comm, status));
    /* When /dev/shm is short, Open MPI tells one rank and leaves the others spinning: look first. */
    MST_TRY(mst_exchange_shm_room(x, &needed, &room));
    MST_CHECK(
        needed <= room, MST_ENOMEM,
        "shared memory for the exchange: %zu MiB needed, %zu MiB free in /dev/shm; enlarge it (docker run "
        "--shm-size, mount -o remount,size=) or use transport mpi",
        (needed >> 20) + 1, room >> 20);
    MST_MPI(MPI_Win_allocate_shared((MPI_Aint)part_bytes(x), 1, MPI_INFO_NULL, *node, &base, &s->window));
    MST_MPI(MPI_Win_set_errhandler(s->window, MPI_ERRORS_RETURN));
    MST_MPI(MPI_Win_lock_all(MPI_MODE_NOCHECK, s->window));
    s->locked = true;
    x->bytes += part_bytes(x);
    MST_TRY(mst_comm_agree(x->comm, find_parts(x, s)));
    MST_TRY(mst_comm_agree(x->comm, try_parts(x, s)));
done:
    return status;
}

static mst_status fence_shm(mst_exchange *x) {
    const shm *s = x->state;
    return mst_comm_mpi_status(MPI_Win_sync(s->window), "MPI_Win_sync");
}

static mst_status begin_nothing(mst_exchange *x) {
    (void)x;
    return MST_OK;
}

static mst_status send_nothing(mst_exchange *x, size_t unit, size_t piece) {
    (void)x, (void)unit, (void)piece; /* it stands where the owner will look for it */
    return MST_OK;
}

static const void *peer_shard(const mst_exchange *x, size_t unit, size_t number) {
    const shm *s = x->state;
    const mst_piece *piece = &x->plan.pieces[number];
    size_t first = x->owned[unit].first_block * MST_BLOCK * mst_dtype_size(x->shape.wire);
    return s->slots[piece->rank] + piece->slot * mst_exchange_slot_bytes(x) +
           mst_exchange_unit_offset(x, unit) + first;
}

static mst_status publish_shm(mst_exchange *x) {
    mst_status status = MST_OK;
    MST_TRY(fence_shm(x));
    MST_TRY(mst_comm_barrier(x->comm));
    MST_TRY(fence_shm(x));
done:
    return status;
}

const mst_transport_ops mst_transport_shm = {
    .name = "shm",
    .open = open_shm,
    .close = close_shm,
    .begin_round = begin_nothing,
    .send = send_nothing,
    .receive = fence_shm,
    .shard = peer_shard,
    .fence = fence_shm,
    .publish = publish_shm,
};
