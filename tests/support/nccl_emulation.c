/*
 * A stand-in for NCCL with its signatures, over MPI, as far as worker/exchange/nccl uses them: libnccl.so.2 for programs
 * on the emulated device. It is as unkind as the library: calls of a communicator that is not done with the former one are
 * refused, a group reaches its stream only after some looks at ncclCommGetAsyncError, and moves nothing before the
 * stream's thread comes to it.
 *
 * MST_EMULATED_NCCL=WHAT:RANK:GROUP in the environment: from its group number GROUP on (counted from 1), rank RANK
 *   loses    sends nothing, as over a broken link
 *   fails    finds ncclRemoteError
 *   dies     is killed
 */
#include <mpi.h>
#include <nccl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulation_memory.h"
#include "emulation_stream.h"

enum { MESSAGES = 4096, LOOKS = 3 /* until something is done */ };

/* One message of a group. */
typedef struct message {
    bool sends;
    int peer;            /* its own rank: a copy on the device */
    char *device, *host; /* host: a copy, as MPI cannot read the device's memory */
    char *to;            /* where a copy goes */
    size_t bytes;
} message;

/* A group on a stream. */
typedef struct group {
    MPI_Comm mpi;
    int rank;
    bool begun, loses;
    size_t count;
    message *messages;    /* [count] */
    MPI_Request *request; /* [count] */
} group;

struct ncclComm {
    MPI_Comm mpi;
    MPI_Request joining;
    int rank, size, looks;
    size_t groups; /* that were ended */
    bool joined, failed;
    group *next; /* to be put on the stream when `looks` is used up */
    cudaStream_t stream;
};

static struct {
    int depth;
    ncclComm_t comm;
    cudaStream_t stream;
    size_t count;
    message messages[MESSAGES];
    ncclResult_t wrong;
} open_group;

static bool fault_is(const char *what, const struct ncclComm *comm) {
    char kind[16] = "";
    int rank = -1;
    size_t first = 0;
    const char *text = getenv("MST_EMULATED_NCCL");
    if (!text || sscanf(text, "%15[a-z]:%d:%zu", kind, &rank, &first) != 3) return false;
    return strcmp(kind, what) == 0 && rank == comm->rank && comm->groups >= first;
}

/* ---- on the stream ---- */

/* Where a message brings something; NULL: nowhere. */
static char *target_of(const message *m) {
    return m->sends ? m->to : m->device;
}

/* From here on until the group has ended, it may read what it sends, and write what it receives, at any time: this NaN is what
 * others find there. */
static void begin(group *g) {
    mst_emulation_open();
    for (size_t i = 0; i < g->count; i++)
        if (g->messages[i].sends) memcpy(g->messages[i].host, g->messages[i].device, g->messages[i].bytes);
    for (size_t i = 0; i < g->count; i++)
        if (target_of(&g->messages[i])) memset(target_of(&g->messages[i]), 0xff, g->messages[i].bytes);
    mst_emulation_close();
    for (size_t i = 0; i < g->count; i++) {
        const message *m = &g->messages[i];
        g->request[i] = MPI_REQUEST_NULL;
        if (m->peer == g->rank) continue;
        if (!m->sends)
            MPI_Irecv(m->host, (int)m->bytes, MPI_BYTE, m->peer, 0, g->mpi, &g->request[i]);
        else if (!g->loses)
            MPI_Isend(m->host, (int)m->bytes, MPI_BYTE, m->peer, 0, g->mpi, &g->request[i]);
    }
    g->begun = true;
}

/* Nobody has changed what the group reads and writes. */
static void check_untouched(const message *m) {
    const char *target = target_of(m);
    bool untouched = !m->sends || memcmp(m->device, m->host, m->bytes) == 0;
    for (size_t i = 0; target && i < m->bytes; i++) untouched = untouched && target[i] == (char)0xff;
    if (untouched) return;
    fprintf(stderr, "emulation: work changed memory that a group of NCCL was %s\n",
            m->sends ? "sending" : "receiving");
    abort();
}

static void end(const group *g, const MPI_Status *statuses) {
    mst_emulation_open();
    for (size_t i = 0; i < g->count; i++) {
        const message *m = &g->messages[i];
        int bytes = 0;
        check_untouched(m);
        if (!m->sends) MPI_Get_count(&statuses[i], MPI_BYTE, &bytes);
        if (!m->sends && (size_t)bytes != m->bytes)
            abort(); /* the two ranks' groups do not belong together */
    }
    for (size_t i = 0; i < g->count; i++)
        if (target_of(&g->messages[i]))
            memcpy(target_of(&g->messages[i]), g->messages[i].host, g->messages[i].bytes);
    mst_emulation_close();
}

static bool step(void *context) {
    group *g = context;
    int ended = 0;
    if (!g->begun) begin(g);
    MPI_Status *statuses = calloc(g->count + 1, sizeof *statuses);
    MPI_Testall((int)g->count, g->request, &ended, statuses);
    if (ended) end(g, statuses);
    free(statuses);
    return ended;
}

/* Of a group that was dropped, MPI may still read what it sends: that memory stays. */
static void drop(void *context, bool ended) {
    group *g = context;
    for (size_t i = 0; i < g->count; i++) {
        const bool pending = !ended && g->begun && g->request[i] != MPI_REQUEST_NULL;
        if (pending && g->messages[i].sends) {
            MPI_Request_free(&g->request[i]);
            continue;
        }
        if (pending) {
            MPI_Cancel(&g->request[i]);
            MPI_Wait(&g->request[i], MPI_STATUS_IGNORE);
        }
        free(g->messages[i].host);
    }
    free(g->messages);
    free(g->request);
    free(g);
}

/* ---- groups ---- */

static message *add(bool sends, int peer, const void *device, size_t bytes) {
    if (open_group.count == MESSAGES) abort();
    message *m = &open_group.messages[open_group.count++];
    *m = (message){.sends = sends, .peer = peer, .bytes = bytes};
    memcpy(&m->device, &device, sizeof device);
    return m;
}

/* A rank's own part of what it gathers; in place it is there. */
static void add_own(const struct ncclComm *comm, const void *from, void *to, size_t bytes) {
    if (from != to) add(true, comm->rank, from, bytes)->to = to;
}

static ncclResult_t take(ncclComm_t comm, ncclDataType_t type, cudaStream_t stream) {
    const bool other = open_group.comm && (open_group.comm != comm || open_group.stream != stream);
    if (open_group.depth == 0 || other || type != ncclUint8 || !comm->joined || comm->next) {
        open_group.wrong = ncclInvalidUsage;
        return ncclInvalidUsage;
    }
    open_group.comm = comm;
    open_group.stream = stream;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void) {
    if (open_group.depth++ == 0) {
        open_group.comm = NULL;
        open_group.count = 0;
        open_group.wrong = ncclSuccess;
    }
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
    if (open_group.depth == 0) return ncclInvalidUsage;
    if (--open_group.depth > 0 || open_group.wrong != ncclSuccess) return open_group.wrong;
    struct ncclComm *comm = open_group.comm;
    if (!comm) return ncclSuccess; /* an empty one */
    comm->groups++;
    if (fault_is("dies", comm)) raise(SIGKILL);
    group *g = calloc(1, sizeof *g);
    *g = (group){
        .mpi = comm->mpi, .rank = comm->rank, .count = open_group.count, .loses = fault_is("loses", comm)};
    g->messages = calloc(g->count + 1, sizeof *g->messages);
    g->request = calloc(g->count + 1, sizeof *g->request);
    memcpy(g->messages, open_group.messages, g->count * sizeof *g->messages);
    for (size_t i = 0; i < g->count; i++) g->messages[i].host = malloc(g->messages[i].bytes + 1);
    comm->next = g;
    comm->stream = open_group.stream;
    comm->looks = LOOKS;
    return ncclInProgress;
}

ncclResult_t ncclSend(const void *buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    const ncclResult_t result = take(comm, type, stream);
    if (result == ncclSuccess) add(true, peer, buffer, count);
    return result;
}

ncclResult_t ncclRecv(void *buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    const ncclResult_t result = take(comm, type, stream);
    if (result == ncclSuccess) add(false, peer, buffer, count);
    return result;
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
    const ncclResult_t result = take(comm, type, stream);
    if (result != ncclSuccess) return result;
    if (comm->rank == root)
        add_own(comm, from, to, count);
    else
        add(false, root, to, count);
    for (int peer = 0; peer < comm->size && comm->rank == root; peer++)
        if (peer != root) add(true, peer, from, count);
    return ncclSuccess;
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
    const ncclResult_t result = take(comm, type, stream);
    if (result != ncclSuccess) return result;
    add_own(comm, from, (char *)to + (size_t)comm->rank * count, count);
    for (int peer = 0; peer < comm->size; peer++) {
        if (peer == comm->rank) continue;
        add(true, peer, from, count);
        add(false, peer, (char *)to + (size_t)peer * count, count);
    }
    return ncclSuccess;
}

/* ---- communicators ---- */

ncclResult_t ncclGetVersion(int *version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    memset(id, 0x5a, sizeof *id);
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
    return result == ncclSuccess       ? "no error"
           : result == ncclRemoteError ? "remote process exited or there was a network error"
                                       : "an error of the stand-in";
}

const char *ncclGetLastError(ncclComm_t comm) {
    return comm->failed ? "the test asked for it" : "";
}

/* Joining goes on beside the program, too. */
ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm_out, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    int world;
    ncclUniqueId right;
    ncclGetUniqueId(&right);
    MPI_Comm_size(MPI_COMM_WORLD, &world);
    if (memcmp(&id, &right, sizeof id) != 0 || size != world || config->blocking != 0)
        return ncclInvalidArgument;
    struct ncclComm *comm = calloc(1, sizeof *comm);
    comm->rank = rank;
    comm->size = size;
    MPI_Comm_idup(MPI_COMM_WORLD, &comm->mpi, &comm->joining);
    *comm_out = comm;
    return ncclInProgress;
}

static void put_on_stream(struct ncclComm *comm) {
    mst_emulation_push(comm->stream, &(mst_emulation_work){step, drop, comm->next});
    comm->next = NULL;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *result) {
    int joined = comm->joined;
    if (fault_is("fails", comm)) comm->failed = true;
    if (!joined) MPI_Test(&comm->joining, &joined, MPI_STATUS_IGNORE);
    comm->joined = joined;
    if (comm->joined && comm->next && --comm->looks == 0) put_on_stream(comm);
    *result = comm->failed ? ncclRemoteError : comm->joined && !comm->next ? ncclSuccess : ncclInProgress;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    const bool ended =
        !comm->next &&
        (!comm->stream || mst_emulation_passed(comm->stream, mst_emulation_pushed(comm->stream)));
    return ended ? ncclSuccess : ncclInvalidUsage; /* our program waits for all first */
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    MPI_Comm_free(&comm->mpi);
    free(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    if (comm->next) drop(comm->next, false);
    if (comm->stream) mst_emulation_drop(comm->stream);
    free(comm); /* MPI's communicator stays: others may be in it */
    return ncclSuccess;
}
