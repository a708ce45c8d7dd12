#include "muster/shared.h"

#include <mpi.h>
#include <stdlib.h>

#include "window.h"

struct mst_shared {
    mst_comm *comm; /* not owned */
    MPI_Win window; /* MPI_WIN_NULL: the memory is this rank's own */
    bool locked;
    void *memory;
    size_t bytes; /* that this rank allocated */
};

/* A page of alignment, one with a mark, and the memory. */
static size_t window_bytes(size_t bytes) {
    return 2 * (size_t)MST_PAGE + mst_whole_pages(bytes);
}

/* Whether the node shares; the same on all its ranks. */
static mst_status choose(mst_comm *comm, bool share, size_t bytes, bool *shares_out) {
    mst_status status = MST_OK;
    size_t needed, room;
    *shares_out = share && mst_comm_node_size(comm) > 1;
    if (!*shares_out) goto done;
    MST_TRY(mst_shm_room(mst_comm_mpi(comm, true), mst_comm_node_rank(comm) == 0 ? window_bytes(bytes) : 0,
                         &needed, &room));
    *shares_out = needed <= room;
done:
    return status;
}

/* The first rank's part is the whole; the others find it. Collective for the node. */
static mst_status open_window(mst_shared *s, size_t bytes) {
    mst_status status = MST_OK;
    const MPI_Comm *node = mst_comm_mpi(s->comm, true);
    const bool first = mst_comm_node_rank(s->comm) == 0;
    const size_t mine = first ? window_bytes(bytes) : 0;
    MPI_Aint there;
    int unit;
    void *base;
    MST_MPI(MPI_Win_allocate_shared((MPI_Aint)mine, 1, MPI_INFO_NULL, *node, &base, &s->window));
    MST_MPI(MPI_Win_set_errhandler(s->window, MPI_ERRORS_RETURN));
    MST_MPI(MPI_Win_lock_all(MPI_MODE_NOCHECK, s->window));
    s->locked = true;
    MST_MPI(MPI_Win_shared_query(s->window, 0, &there, &unit, &base));
    char *mark = mst_page_start(base);
    s->memory = mark + MST_PAGE;
    s->bytes = mine;
    if (first) *(volatile int *)(void *)mark = 1;
    MST_MPI(MPI_Win_sync(s->window));
done:
    return status;
}

/* Whether this rank sees the first one's mark. */
static mst_status try_window(const mst_shared *s) {
    mst_status status = MST_OK;
    if (s->window == MPI_WIN_NULL) goto done;
    MST_MPI(MPI_Win_sync(s->window));
    const int seen = *(const volatile int *)(const void *)((const char *)s->memory - MST_PAGE);
    MST_CHECK(seen == 1, MST_EMPI, "shared memory: the first rank's mark reads %d; use transport mpi", seen);
done:
    return status;
}

static mst_status open_memory(mst_shared *s, bool shares, size_t bytes) {
    if (shares) return open_window(s, bytes);
    const mst_status status = mst_memory_alloc(MST_SPACE_DEVICE, bytes, &s->memory);
    if (status == MST_OK) s->bytes = bytes;
    return status;
}

mst_status mst_shared_create(mst_comm *comm, bool share, size_t bytes, mst_shared **shared_out) {
    mst_status status = MST_OK;
    bool shares = false;
    mst_shared *s = calloc(1, sizeof *s);
    *shared_out = NULL;
    if (s != NULL) *s = (mst_shared){.comm = comm, .window = MPI_WIN_NULL};
    MST_TRY(mst_comm_agree(comm, s != NULL ? MST_OK : mst_error(MST_ENOMEM, "shared memory: no memory")));
    MST_TRY(mst_comm_agree(comm, choose(comm, share, bytes, &shares)));
    MST_TRY(mst_comm_agree(comm, open_memory(s, shares, bytes)));
    MST_TRY(mst_comm_agree(comm, try_window(s)));
    *shared_out = s;
    s = NULL;
done:
    mst_shared_destroy(&s);
    return status;
}

void mst_shared_destroy(mst_shared **shared) {
    mst_shared *s = *shared;
    *shared = NULL;
    if (s == NULL) return;
    if (s->window == MPI_WIN_NULL) {
        mst_memory_free(MST_SPACE_DEVICE, &s->memory);
    } else {
        if (s->locked) MPI_Win_unlock_all(s->window);
        MPI_Win_free(&s->window);
    }
    free(s);
}

void *mst_shared_memory(const mst_shared *shared) {
    return shared->memory;
}
size_t mst_shared_bytes(const mst_shared *shared) {
    return shared->bytes;
}

bool mst_shared_is_filler(const mst_shared *shared) {
    return shared->window == MPI_WIN_NULL || mst_comm_node_rank(shared->comm) == 0;
}

static mst_status sync_window(const mst_shared *s) {
    return s->window == MPI_WIN_NULL ? MST_OK : mst_comm_mpi_status(MPI_Win_sync(s->window), "MPI_Win_sync");
}

mst_status mst_shared_filled(mst_shared *shared) {
    mst_status status = MST_OK;
    MST_TRY(
        mst_comm_agree(shared->comm, sync_window(shared))); /* what was written is out before any leaves */
    MST_TRY(mst_comm_agree(shared->comm, sync_window(shared)));
done:
    return status;
}

size_t mst_shared_bytes_of(mst_transport transport, mst_placement place, int rank, size_t bytes) {
    const int node = mst_placement_node(place, rank), first = mst_placement_first(place, node);
    if (!mst_transport_shares(transport) || mst_placement_first(place, node + 1) - first < 2) return bytes;
    return rank == first ? window_bytes(bytes) : 0;
}
