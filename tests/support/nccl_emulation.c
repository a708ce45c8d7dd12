/*
 * A stand-in for NCCL with its signatures, over MPI, as far as worker/exchange/nccl uses them: libnccl.so.2 for programs
 * on the emulated device. It is as unkind as the library: calls of a communicator that is not done with the former one are
 * refused, a group reaches its stream only after some looks at ncclCommGetAsyncError, and moves nothing before the
 * stream's thread comes to it. A communicator that was destroyed or aborted is refused for ever. One is shrunk only when it is done
 * with its last call, without an error; its groups on the stream are to have ended, unless NCCL_SHRINK_ABORT ends them.
 *
 * MST_EMULATED_NCCL=WHAT:RANK:GROUP in the environment: from its group number GROUP on (counted from 1), rank RANK
 *   loses    sends nothing, as over a broken link
 *   fails    finds ncclRemoteError
 *   dies     is killed
 * MST_EMULATED_NCCL_VERSION=CODE: the library says that it is of this version, such as 22600.
 * MST_EMULATED_NCCL_MADE=FILE: a line is added for each communicator that is made: "new" or "smaller", and its number of ranks.
 */
#include <mpi.h>
#include <nccl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
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
    const struct ncclComm *comm;
    bool begun, loses;
    size_t count;
    message *messages;    /* [count] */
    MPI_Request *request; /* [count] */
} group;

/* What a rank of a communicator that is being made says to all ranks of the job, members or not. */
typedef struct claim {
    int world, rank, size;
    int number;    /* that the communicator would have if this were its rank 0 */
    uint64_t what; /* the same from all members, or they do not mean the same communicator */
} claim;

/* Messages are told apart by the communicator's number, in their tags. */
enum { RANKS = 64, TAGS = 4, TAG_MESSAGE = 0, TAG_NEW, TAG_SMALLER };

struct ncclComm {
    int number, rank, size, looks;
    int world[RANKS]; /* MPI's number of each rank */
    size_t groups;    /* that were ended */
    bool failed, gone;
    group *next; /* to be put on the stream when `looks` is used up */
    cudaStream_t stream;

    /* While ranks meet to make one, this one or a smaller one: */
    bool meets;
    int tag, heard;
    claim mine, claims[RANKS]; /* of each rank, as far as they were heard */
    struct ncclComm *child;    /* NULL: it is this one */
    struct ncclComm **child_out;
    int shrinks; /* so often */
    struct ncclComm
        *before; /* in the list of all there ever were: they stay, so that who uses one too late is seen */
};

static struct ncclComm *newest;
static int made; /* numbers that this process has given */

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
        if (m->peer == g->comm->rank) continue;
        const int peer = g->comm->world[m->peer], tag = TAGS * g->comm->number + TAG_MESSAGE;
        if (!m->sends)
            MPI_Irecv(m->host, (int)m->bytes, MPI_BYTE, peer, tag, MPI_COMM_WORLD, &g->request[i]);
        else if (!g->loses)
            MPI_Isend(m->host, (int)m->bytes, MPI_BYTE, peer, tag, MPI_COMM_WORLD, &g->request[i]);
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
    if (open_group.depth == 0 || other || type != ncclUint8 || comm->gone || comm->meets || comm->next) {
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
    *g = (group){.comm = comm, .count = open_group.count, .loses = fault_is("loses", comm)};
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

static struct ncclComm *create(int rank, int size) {
    struct ncclComm *comm = calloc(1, sizeof *comm);
    if (!comm || size > RANKS) abort();
    *comm = (struct ncclComm){.rank = rank, .size = size, .before = newest};
    newest = comm;
    return comm;
}

static int world_rank(void) {
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

static int next_number(void) {
    return RANKS * ++made + world_rank();
}

/* Says to everybody what this rank wants to be a part of, and begins to hear the others. Claims are so short that MPI takes them
 * whether anybody receives them or not. */
static void meet(struct ncclComm *at, int tag, int rank, int size, uint64_t what) {
    int world;
    MPI_Comm_size(MPI_COMM_WORLD, &world);
    at->meets = true;
    at->tag = tag;
    at->heard = 0;
    at->mine =
        (claim){.world = world_rank(), .rank = rank, .size = size, .number = next_number(), .what = what};
    for (int to = 0; to < world; to++)
        MPI_Send(&at->mine, sizeof at->mine, MPI_BYTE, to, tag, MPI_COMM_WORLD);
}

static void tell_made(const struct ncclComm *comm, bool smaller) {
    const char *path = getenv("MST_EMULATED_NCCL_MADE");
    FILE *file = path ? fopen(path, "ae") : NULL;
    if (!file) return;
    fprintf(file, "%s %d\n", smaller ? "smaller" : "new", comm->size);
    fclose(file);
}

static void conclude(struct ncclComm *at) {
    struct ncclComm *comm = at->child ? at->child : at;
    comm->number = at->claims[0].number;
    for (int rank = 0; rank < comm->size; rank++) comm->world[rank] = at->claims[rank].world;
    if (at->child_out) *at->child_out = at->child;
    tell_made(comm, at->child);
    at->meets = false;
    at->child = NULL;
    at->child_out = NULL;
}

/* Goes on beside the program, too: by looks. */
static void hear(struct ncclComm *at) {
    for (int found = 1; at->meets && !at->failed;) {
        claim other;
        MPI_Iprobe(MPI_ANY_SOURCE, at->tag, MPI_COMM_WORLD, &found, MPI_STATUS_IGNORE);
        if (!found) return;
        MPI_Recv(&other, sizeof other, MPI_BYTE, MPI_ANY_SOURCE, at->tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        at->failed = other.what != at->mine.what || other.size != at->mine.size;
        if (at->failed) return; /* the ranks mean different ones */
        at->claims[other.rank] = other;
        if (++at->heard == at->mine.size) conclude(at);
    }
}

ncclResult_t ncclGetVersion(int *version) {
    const char *text = getenv("MST_EMULATED_NCCL_VERSION");
    *version = text ? (int)strtol(text, NULL, 10) : NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    const int number = next_number();
    memset(id, 0x5a, sizeof *id);
    memcpy(id, &number, sizeof number);
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

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm_out, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    int number;
    memcpy(&number, &id, sizeof number);
    if (id.internal[sizeof number] != 0x5a || rank < 0 || rank >= size || config->blocking != 0)
        return ncclInvalidArgument;
    *comm_out = create(rank, size);
    meet(*comm_out, TAGS * number + TAG_NEW, rank, size, (uint64_t)number);
    return ncclInProgress;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count) {
    *count = comm->size;
    return comm->gone || comm->meets ? ncclInvalidArgument : ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
    *rank = comm->rank;
    return comm->gone || comm->meets ? ncclInvalidArgument : ncclSuccess;
}

static void put_on_stream(struct ncclComm *comm) {
    mst_emulation_push(comm->stream, &(mst_emulation_work){step, drop, comm->next});
    comm->next = NULL;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *result) {
    if (comm->gone) return ncclInvalidArgument;
    if (fault_is("fails", comm)) comm->failed = true;
    hear(comm);
    if (!comm->meets && comm->next && --comm->looks == 0) put_on_stream(comm);
    *result = comm->failed ? ncclRemoteError : comm->meets || comm->next ? ncclInProgress : ncclSuccess;
    return ncclSuccess;
}

static bool has_ended(const struct ncclComm *comm) {
    return !comm->stream || mst_emulation_passed(comm->stream, mst_emulation_pushed(comm->stream));
}

/* Whether a list of ranks to leave out is one: of the communicator, each once, without this rank; and the new number of this rank. */
static bool is_list(const struct ncclComm *comm, const int *lost, int count, int *rank_out) {
    bool leaves[RANKS] = {false};
    *rank_out = comm->rank;
    if (!lost || count < 1 || count >= comm->size) return false;
    for (int i = 0; i < count; i++) {
        if (lost[i] < 0 || lost[i] >= comm->size || lost[i] == comm->rank || leaves[lost[i]]) return false;
        leaves[lost[i]] = true;
        *rank_out -= lost[i] < comm->rank;
    }
    return true;
}

/* Ranks that leave out others, or are not at the same shrink, do not mean the same communicator. */
static uint64_t meaning(const struct ncclComm *comm, const int *lost, int count) {
    uint64_t leaves = 0;
    for (int i = 0; i < count; i++) leaves |= (uint64_t)1 << lost[i];
    return leaves ^ (uint64_t)comm->shrinks * 0x9e3779b97f4a7c15u;
}

/* As in the library, `smaller_out` is filled when the parent is done. */
ncclResult_t ncclCommShrink(ncclComm_t comm, int *lost, int count, ncclComm_t *smaller_out,
                            ncclConfig_t *config, int flags) {
    int rank;
    if (comm->gone || !is_list(comm, lost, count, &rank) || config->blocking != 0) return ncclInvalidArgument;
    if (comm->failed) return ncclRemoteError;
    if (comm->meets || comm->next) return ncclInvalidArgument; /* it is not done with its last call */
    if (flags & NCCL_SHRINK_ABORT) {
        if (comm->stream) mst_emulation_drop(comm->stream);
    } else if (!has_ended(comm)) {
        return ncclInvalidUsage;
    }
    *smaller_out = NULL;
    comm->shrinks++;
    comm->child = create(rank, comm->size - count);
    comm->child_out = smaller_out;
    meet(comm, TAGS * comm->number + TAG_SMALLER, rank, comm->size - count, meaning(comm, lost, count));
    return ncclInProgress;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    if (comm->gone || comm->meets) return ncclInvalidArgument;
    return !comm->next && has_ended(comm) ? ncclSuccess
                                          : ncclInvalidUsage; /* our program waits for all first */
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    if (comm->gone) return ncclInvalidArgument;
    comm->gone = true;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    if (comm->gone) return ncclInvalidArgument;
    if (comm->next) drop(comm->next, false);
    comm->next = NULL;
    if (comm->stream) mst_emulation_drop(comm->stream);
    if (comm->child) comm->child->gone = true;
    comm->gone = true;
    return ncclSuccess;
}
