/* MPI requests that are waited for, tested and cancelled together; those of mpi.c and node.c are persistent: made once, and started
 * again and again. Private to the room. */
#ifndef MUSTER_EXCHANGE_REQUESTS_H
#define MUSTER_EXCHANGE_REQUESTS_H

#include <mpi.h>

#include "transport.h"

typedef struct mst_requests {
    MPI_Request *request; /* [room]; null where nothing goes */
    size_t count;
    bool started;
} mst_requests;

/** @retval MST_ENOMEM */
static inline mst_status mst_requests_init(mst_exchange *x, mst_requests *r, size_t room) {
    void *memory = NULL;
    const mst_status status =
        mst_exchange_alloc(x, MST_SPACE_HOST, room * sizeof *r->request, "requests", &memory);
    *r = (mst_requests){.request = memory};
    return status;
}

static inline mst_status mst_requests_start(mst_requests *r) {
    mst_status status = MST_OK;
    if (r->count > 0) MST_MPI(MPI_Startall((int)r->count, r->request));
    r->started = true;
done:
    return status;
}

static inline mst_status mst_requests_wait(mst_requests *r) {
    mst_status status = MST_OK;
    MST_MPI(MPI_Waitall((int)r->count, r->request, MPI_STATUSES_IGNORE));
    r->started = false;
done:
    return status;
}

/** Moves what was started: MPI does it only inside its own calls. */
static inline mst_status mst_requests_test(mst_requests *r) {
    int ended;
    return mst_comm_mpi_status(MPI_Testall((int)r->count, r->request, &ended, MPI_STATUSES_IGNORE),
                               "MPI_Testall");
}

/** Ends receives that no message will come for: only after a failure. */
static inline void mst_requests_cancel(mst_requests *r) {
    for (size_t i = 0; r->started && i < r->count; i++) {
        MPI_Cancel(&r->request[i]);
        MPI_Wait(&r->request[i], MPI_STATUS_IGNORE);
    }
    r->started = false;
}

static inline void mst_requests_clear(mst_requests *r) {
    for (size_t i = 0; i < r->count; i++)
        if (r->request[i] != MPI_REQUEST_NULL) MPI_Request_free(&r->request[i]);
    mst_memory_free(MST_SPACE_HOST, &r->request);
    *r = (mst_requests){0};
}

#endif
