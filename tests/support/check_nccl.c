/*
 * The stand-in for NCCL (nccl_emulation.c) by itself, as far as smaller communicators go: what it refuses, and that those that it makes
 * work. On 3 ranks or more, of which rank 1 is lost.
 */
#include <mpi.h>
#include <nccl.h>
#include <time.h>

#include "emulation_stream.h"
#include "test.h"

enum { LOST = 1, RANKS_MAX = 64 };

static int rank, size;
static cudaStream_t stream;

#define CHECK_RESULT(call, expected)                                                                         \
    do {                                                                                                     \
        const ncclResult_t result_ = (call);                                                                 \
        CHECK(result_ == (expected), "%d", (int)result_);                                                    \
    } while (0)

static ncclResult_t settle(ncclComm_t comm) {
    ncclResult_t result = ncclInProgress;
    for (int turn = 0; result == ncclInProgress && turn < 20000; turn++) {
        if (ncclCommGetAsyncError(comm, &result) != ncclSuccess) return ncclInvalidArgument;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return result;
}

static ncclConfig_t config_of_ours(void) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    return config;
}

static ncclComm_t make(void) {
    ncclConfig_t config = config_of_ours();
    ncclUniqueId id;
    ncclComm_t comm = NULL;
    ncclGetUniqueId(&id);
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    CHECK_RESULT(ncclCommInitRankConfig(&comm, size, id, rank, &config), ncclInProgress);
    CHECK_RESULT(settle(comm), ncclSuccess);
    return comm;
}

static ncclResult_t shrink(ncclComm_t comm, int *lost, int count, int flags, ncclComm_t *smaller_out) {
    ncclConfig_t config = config_of_ours();
    *smaller_out = NULL;
    return ncclCommShrink(comm, lost, count, smaller_out, &config, flags);
}

/* Every rank's number to all; those of ranks that left are missed by nobody. */
static void check_gathering(ncclComm_t comm) {
    static int mine, all[RANKS_MAX];
    int count = 0, number = -1;
    CHECK_RESULT(ncclCommCount(comm, &count), ncclSuccess);
    CHECK_RESULT(ncclCommUserRank(comm, &number), ncclSuccess);
    mine = 100 + number;
    CHECK_RESULT(ncclGroupStart(), ncclSuccess);
    CHECK_RESULT(ncclAllGather(&mine, all, sizeof mine, ncclUint8, comm, stream), ncclSuccess);
    CHECK_RESULT(ncclGroupEnd(), ncclInProgress);
    CHECK_RESULT(settle(comm), ncclSuccess);
    for (int turn = 0; turn < 20000 && !mst_emulation_passed(stream, mst_emulation_pushed(stream)); turn++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    for (int r = 0; r < count; r++) CHECK(all[r] == 100 + r, "rank %d's number is %d", r, all[r]);
}

/* The lost rank sends nothing, so the others' group stays on the stream. */
static void begin_in_vain(ncclComm_t comm) {
    static int mine, all[RANKS_MAX];
    if (rank == LOST) return;
    ncclGroupStart();
    CHECK_RESULT(ncclAllGather(&mine, all, sizeof mine, ncclUint8, comm, stream), ncclSuccess);
    CHECK_RESULT(ncclGroupEnd(), ncclInProgress);
}

static void check_lists(ncclComm_t comm) {
    ncclComm_t smaller;
    const int other = (rank + 1) % size;
    int none = 0, own[] = {rank}, twice[] = {other, other}, beyond[] = {size}, below[] = {-1}, all[RANKS_MAX];
    for (int r = 0; r < size; r++) all[r] = r;
    CHECK_RESULT(shrink(comm, NULL, 1, NCCL_SHRINK_ABORT, &smaller), ncclInvalidArgument);
    CHECK_RESULT(shrink(comm, &none, 0, NCCL_SHRINK_ABORT, &smaller), ncclInvalidArgument);
    CHECK_RESULT(shrink(comm, own, 1, NCCL_SHRINK_ABORT, &smaller), ncclInvalidArgument);
    CHECK_RESULT(shrink(comm, twice, 2, NCCL_SHRINK_ABORT, &smaller), ncclInvalidArgument);
    CHECK_RESULT(shrink(comm, beyond, 1, NCCL_SHRINK_ABORT, &smaller), ncclInvalidArgument);
    CHECK_RESULT(shrink(comm, below, 1, NCCL_SHRINK_ABORT, &smaller), ncclInvalidArgument);
    CHECK_RESULT(shrink(comm, all, size, NCCL_SHRINK_ABORT, &smaller), ncclInvalidArgument);
    CHECK(smaller == NULL, "a communicator was made");
}

/* A group that never ends is in the way, unless it is aborted; so is a call that is not concluded. */
static void check_shrink(ncclComm_t comm) {
    ncclComm_t smaller = NULL;
    int lost[] = {LOST}, number = -1;
    begin_in_vain(comm);
    if (rank != LOST) {
        CHECK_RESULT(shrink(comm, lost, 1, NCCL_SHRINK_ABORT, &smaller), ncclInvalidArgument);
        CHECK_RESULT(settle(comm), ncclSuccess);
        CHECK_RESULT(shrink(comm, lost, 1, NCCL_SHRINK_DEFAULT, &smaller), ncclInvalidUsage);
        ncclConfig_t config = config_of_ours();
        smaller = NULL;
        CHECK_RESULT(ncclCommShrink(comm, lost, 1, &smaller, &config, NCCL_SHRINK_ABORT), ncclInProgress);
        CHECK(smaller == NULL, "it is there before the parent is done");
        CHECK_RESULT(settle(comm), ncclSuccess);
        CHECK_RESULT(ncclCommAbort(comm), ncclSuccess);
        CHECK_RESULT(ncclCommUserRank(smaller, &number), ncclSuccess);
        CHECK(number == rank - (rank > LOST), "rank %d is now rank %d", rank, number);
        check_gathering(smaller);
        CHECK_RESULT(ncclCommFinalize(smaller), ncclSuccess);
        CHECK_RESULT(ncclCommDestroy(smaller), ncclSuccess);
    } else {
        CHECK_RESULT(ncclCommAbort(comm), ncclSuccess);
    }
    CHECK_RESULT(shrink(comm, lost, 1, NCCL_SHRINK_ABORT, &smaller), ncclInvalidArgument); /* it is gone */
    MPI_Barrier(MPI_COMM_WORLD);
}

/* The last rank leaves out another one: all that hear of it find an error, and none gets a communicator. */
static void check_other_lists(ncclComm_t comm) {
    ncclComm_t smaller = NULL;
    ncclConfig_t config = config_of_ours();
    int lost[] = {rank == size - 1 ? 0 : LOST};
    if (rank != LOST) {
        CHECK_RESULT(ncclCommShrink(comm, lost, 1, &smaller, &config, NCCL_SHRINK_ABORT), ncclInProgress);
        CHECK_RESULT(settle(comm), ncclRemoteError);
        CHECK(smaller == NULL, "a communicator was made");
    }
    CHECK_RESULT(ncclCommAbort(comm), ncclSuccess);
    MPI_Barrier(MPI_COMM_WORLD);
}

int main(int argc, char **argv) {
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    stream = mst_emulation_stream_create();
    ncclComm_t comm = make();
    check_gathering(comm);
    check_lists(comm);
    check_shrink(comm);
    check_other_lists(make());
    mst_emulation_stream_destroy(stream);
    MPI_Finalize();
    return rank == 0 || test_failures ? test_finish("check_nccl") : 0;
}
