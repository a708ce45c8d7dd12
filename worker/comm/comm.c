/* The ranks of the job over MPI, or one rank alone without it. */
#include "muster/comm.h"

#include <limits.h>
#include <mpi.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "launch.h"
#include "muster/process.h"

enum {
    HOST_MAX = 64,
    MESSAGE_MAX = 1024,
    CHUNK = 1 << 30,    /* bytes of one MPI call: counts are int */
    ABORT_SECONDS = 3,  /* MPI_Abort may itself wait for what is broken */
    LOOK_NS = 50000000, /* between two looks of a rank that stands by */
};

struct mst_comm {
    bool mpi;       /* false: one rank alone, and no MPI function is ever called */
    bool finalizes; /* this comm initialised MPI */
    MPI_Comm all, node;
    int rank, size, node_rank, node_size, node_seat;
    char (*host)[HOST_MAX]; /* [size] */
    int nodes, *node_of;    /* [size] */
    int *counts;            /* [2 * size] of a gathering */
    double patience;        /* seconds */
    mst_process *working;   /* [size] after mst_comm_part; pid 0: a rank that stands by. NULL before */
    void *kept;             /* NULL: nothing */
    void (*discard)(void *kept);
};

mst_status mst_comm_mpi_status(int mpi_code, const char *call) {
    if (mpi_code == MPI_SUCCESS) return MST_OK;
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    MPI_Error_string(mpi_code, text, &length);
    return mst_error(MST_EMPI, "%.*s: %s", (int)strcspn(call, "("), call, text);
}

/* ---- joining and leaving ---- */

static void own_host_name(char name[HOST_MAX]) {
    /* Slurm's node name is what its user can address; several nodes may share one host name. */
    const char *node = getenv("SLURMD_NODENAME");
    if (node && *node) {
        snprintf(name, HOST_MAX, "%s", node);
    } else if (gethostname(name, HOST_MAX) != 0) {
        snprintf(name, HOST_MAX, "unknown");
    }
    name[HOST_MAX - 1] = '\0';
}

static mst_status init_mpi(mst_comm *comm) {
    mst_status status = MST_OK;
    int initialized = 0, provided = MPI_THREAD_MULTIPLE;
    MST_MPI(MPI_Initialized(&initialized));
    if (initialized) {
        MST_MPI(MPI_Query_thread(&provided));
    } else {
        mst_launch_yield();
        MST_MPI(MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided));
        comm->finalizes = true;
        mst_launch_settle();
    }
    comm->mpi = true;
    MST_CHECK(provided >= MPI_THREAD_MULTIPLE, MST_EMPI,
              "starting MPI: it offers thread level %d, but MPI_THREAD_MULTIPLE (%d) is needed; use an MPI "
              "that was "
              "built with it",
              provided, MPI_THREAD_MULTIPLE);
done:
    return status;
}

/* Who this rank is in comm->all, and those that it shares memory with. Errors come back to us. */
static mst_status find_place(mst_comm *comm) {
    mst_status status = MST_OK;
    MST_MPI(MPI_Comm_set_errhandler(comm->all, MPI_ERRORS_RETURN));
    MST_MPI(MPI_Comm_rank(comm->all, &comm->rank));
    MST_MPI(MPI_Comm_size(comm->all, &comm->size));
    MST_MPI(MPI_Comm_split_type(comm->all, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &comm->node));
    MST_MPI(MPI_Comm_set_errhandler(comm->node, MPI_ERRORS_RETURN));
    MST_MPI(MPI_Comm_rank(comm->node, &comm->node_rank));
    MST_MPI(MPI_Comm_size(comm->node, &comm->node_size));
done:
    return status;
}

/* Numbers the nodes. Each rank says who is the lowest of its node: a node's ranks need not follow each other. */
static mst_status find_nodes(mst_comm *comm) {
    mst_status status = MST_OK;
    comm->nodes = 1;
    if (comm->size == 1) goto done;
    int lowest = comm->rank;
    MST_MPI(MPI_Allreduce(MPI_IN_PLACE, &lowest, 1, MPI_INT, MPI_MIN, comm->node));
    MST_MPI(MPI_Allgather(&lowest, 1, MPI_INT, comm->node_of, 1, MPI_INT, comm->all));
    comm->nodes = 0;
    for (int rank = 0; rank < comm->size; rank++) {
        lowest = comm->node_of[rank];
        comm->node_of[rank] = lowest == rank ? comm->nodes++ : comm->node_of[lowest];
    }
done:
    return status;
}

static mst_status allocate(mst_comm **comm_out) {
    mst_status status = MST_OK;
    mst_comm *comm = *comm_out = calloc(1, sizeof *comm);
    MST_CHECK(comm, MST_ENOMEM, "joining the job: no memory for %zu bytes", sizeof *comm);
    comm->all = comm->node = MPI_COMM_NULL;
    comm->size = comm->node_size = 1;
    comm->patience = 30;
done:
    return status;
}

/* What each rank knows of all. */
static mst_status meet(mst_comm *comm) {
    mst_status status = MST_OK;
    comm->host = calloc((size_t)comm->size, sizeof *comm->host);
    MST_CHECK(comm->host, MST_ENOMEM, "joining the job: no memory for the names of %d hosts", comm->size);
    comm->node_of = calloc((size_t)comm->size, sizeof *comm->node_of);
    MST_CHECK(comm->node_of, MST_ENOMEM, "joining the job: no memory for the nodes of %d ranks", comm->size);
    comm->counts = calloc(2 * (size_t)comm->size, sizeof *comm->counts);
    MST_CHECK(comm->counts, MST_ENOMEM, "joining the job: no memory for the counts of %d ranks", comm->size);
    MST_TRY(find_nodes(comm));
    own_host_name(comm->host[comm->rank]);
    if (comm->size > 1)
        MST_MPI(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, comm->host, HOST_MAX, MPI_BYTE, comm->all));
done:
    return status;
}

/* Our own duplicate, so that no message is mixed up with a library's. */
static mst_status join_job(mst_comm *comm) {
    mst_status status = MST_OK;
    if (mst_launch_has_mpi()) {
        MST_TRY(init_mpi(comm));
        MST_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &comm->all));
        MST_TRY(find_place(comm));
        comm->node_seat = comm->node_rank;
    }
    MST_TRY(mst_launch_check(comm->size));
done:
    return status;
}

static mst_status create(bool join, mst_comm **comm_out) {
    mst_status status = MST_OK;
    mst_comm *comm = NULL;
    *comm_out = NULL;
    MST_TRY(allocate(&comm));
    if (join) MST_TRY(join_job(comm));
    MST_TRY(meet(comm));
    *comm_out = comm;
done:
    if (status != MST_OK) mst_comm_destroy(&comm);
    return status;
}

mst_status mst_comm_create(mst_comm **comm_out) {
    return create(true, comm_out);
}
mst_status mst_comm_create_alone(mst_comm **comm_out) {
    return create(false, comm_out);
}

void mst_comm_destroy(mst_comm **comm_pointer) {
    mst_comm *comm = *comm_pointer;
    if (!comm) return;
    mst_comm_keep(comm, NULL, NULL);
    if (comm->mpi) {
        if (comm->node != MPI_COMM_NULL) MPI_Comm_free(&comm->node);
        if (comm->all != MPI_COMM_NULL) MPI_Comm_free(&comm->all);
        if (comm->finalizes) MPI_Finalize();
    }
    free(comm->host);
    free(comm->node_of);
    free(comm->counts);
    free(comm->working);
    free(comm);
    *comm_pointer = NULL;
}

/* ---- who is who ---- */

int mst_comm_rank(const mst_comm *comm) {
    return comm->rank;
}
int mst_comm_size(const mst_comm *comm) {
    return comm->size;
}
int mst_comm_node_size(const mst_comm *comm) {
    return comm->node_size;
}
int mst_comm_node_rank(const mst_comm *comm) {
    return comm->node_rank;
}
int mst_comm_node_seat(const mst_comm *comm) {
    return comm->node_seat;
}
int mst_comm_nodes(const mst_comm *comm) {
    return comm->nodes;
}
int mst_comm_node_of(const mst_comm *comm, int rank) {
    return comm->node_of[rank];
}
const char *mst_comm_host(const mst_comm *comm, int rank) {
    return comm->host[rank];
}

double mst_comm_patience(const mst_comm *comm) {
    return comm->patience;
}
void mst_comm_set_patience(mst_comm *comm, double seconds) {
    comm->patience = seconds;
}

const void *mst_comm_mpi(const mst_comm *comm, bool shared) {
    if (!comm->mpi) return NULL;
    return shared ? &comm->node : &comm->all;
}

/* ---- agreeing ---- */

/* True for "rank 3: ...": a message that was agreed on before keeps the rank that it names. */
static bool names_a_rank(const char *message) {
    int rank = 0, end = 0;
    // NOLINTNEXTLINE(cert-err34-c): our own text, with a number that fits
    return sscanf(message, "rank %d:%n", &rank, &end) == 1 && end > 0;
}

/* What came of one rank becomes what came of all. */
static mst_status spread(mst_comm *comm, int from, mst_status mine, const char *message) {
    mst_status status = MST_OK;
    struct {
        int status;
        char message[MESSAGE_MAX];
    } failure = {.status = (int)mine};
    if (from == comm->rank) snprintf(failure.message, sizeof failure.message, "%s", message);
    MST_MPI(MPI_Bcast(&failure, sizeof failure, MPI_BYTE, from, comm->all));
    failure.message[sizeof failure.message - 1] = '\0';
    status = (mst_status)failure.status;
    if (status != MST_OK) mst_error(status, "%s", failure.message);
done:
    return status;
}

mst_status(mst_comm_agree)(mst_comm *comm, mst_status mine) {
    mst_status status = mine;
    if (comm->size == 1) goto done;
    /* ranks that failed, then those that only lost another, then none */
    int failed = mine == MST_OK ? 2 * comm->size : mine == MST_EPEER ? comm->size + comm->rank : comm->rank;
    MST_MPI(MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MIN, comm->all));
    if (failed == 2 * comm->size) goto done;
    failed %= comm->size;
    char message[MESSAGE_MAX];
    if (names_a_rank(mst_error_message()))
        snprintf(message, sizeof message, "%s", mst_error_message());
    else
        snprintf(message, sizeof message, "rank %d: %s", comm->rank, mst_error_message());
    status = spread(comm, failed, mine, message);
done:
    return status;
}

mst_status mst_comm_all(mst_comm *comm, bool mine, bool *all_out) {
    mst_status status = MST_OK;
    int all = mine;
    if (comm->size > 1) MST_MPI(MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, comm->all));
    *all_out = all != 0;
done:
    return status;
}

mst_status mst_comm_check_program(mst_comm *comm, const char *program) {
    enum { PROGRAM_MAX = 96 };
    mst_status status = MST_OK;
    char mine[PROGRAM_MAX] = "", (*all)[PROGRAM_MAX] = NULL;
    int differ = 0, first = 0;
    snprintf(mine, sizeof mine, "%s", program);
    MST_TRY(mst_comm_allgather_equal(comm, mine, sizeof mine, (void **)&all));
    for (int rank = comm->size - 1; rank > 0; rank--) {
        if (memcmp(all[rank], all[0], sizeof mine) == 0) continue;
        differ++;
        first = rank;
    }
    MST_CHECK(differ == 0, MST_ECONFIG,
              "the ranks of this job are not the same program: rank 0 on %s is %.95s, rank %d on %s is %.95s "
              "(%d of %d "
              "ranks are not rank 0's); give all nodes the same muster",
              comm->host[0], all[0], first, comm->host[first], all[first], differ, comm->size);
done:
    free(all);
    return status;
}

mst_status mst_comm_barrier(mst_comm *comm) {
    mst_status status = MST_OK;
    if (comm->size > 1) MST_MPI(MPI_Barrier(comm->all));
done:
    return status;
}

/* ---- moving bytes ---- */

static int chunk_of(size_t bytes) {
    return bytes < CHUNK ? (int)bytes : CHUNK;
}

mst_status mst_comm_broadcast(mst_comm *comm, int root, void *data, size_t bytes) {
    mst_status status = MST_OK;
    char *place = data;
    if (comm->size == 1) goto done;
    for (size_t left = bytes; left > 0;) {
        int chunk = chunk_of(left);
        MST_MPI(MPI_Bcast(place, chunk, MPI_BYTE, root, comm->all));
        place += chunk;
        left -= (size_t)chunk;
    }
done:
    return status;
}

mst_status mst_comm_share_text(mst_comm *comm, char **text) {
    mst_status status = MST_OK;
    uint64_t bytes = comm->rank == 0 && *text != NULL ? strlen(*text) + 1 : 0;
    MST_TRY(mst_comm_broadcast(comm, 0, &bytes, sizeof bytes));
    if (comm->rank != 0) {
        free(*text);
        *text = bytes > 0 ? malloc(bytes) : NULL;
        if (bytes > 0 && *text == NULL)
            status = mst_error(MST_ENOMEM, "a text of %llu bytes: no memory", (unsigned long long)bytes);
    }
    MST_TRY(mst_comm_agree(comm, status));
    MST_TRY(mst_comm_broadcast(comm, 0, *text, bytes));
done:
    return status;
}

/* Counts and displacements as MPI wants them; false when they do not fit an int. */
static bool int_pieces(const mst_comm *comm, const size_t *bytes_of, int *count, int *place) {
    size_t sum = 0;
    for (int rank = 0; rank < comm->size; rank++) {
        if (bytes_of[rank] > INT_MAX - sum) return false;
        count[rank] = (int)bytes_of[rank];
        place[rank] = (int)sum;
        sum += bytes_of[rank];
    }
    return true;
}

static size_t bytes_before(const size_t *bytes_of, int rank) {
    size_t sum = 0;
    for (int i = 0; i < rank; i++) sum += bytes_of[i];
    return sum;
}

static mst_status allgather_large(mst_comm *comm, const size_t *bytes_of, char *all) {
    mst_status status = MST_OK;
    for (int rank = 0; rank < comm->size; rank++) {
        MST_TRY(mst_comm_broadcast(comm, rank, all, bytes_of[rank]));
        all += bytes_of[rank];
    }
done:
    return status;
}

mst_status mst_comm_allgather(mst_comm *comm, const void *mine, const size_t *bytes_of, void *all_out) {
    mst_status status = MST_OK;
    int *count = comm->counts;
    char *own_place = (char *)all_out + bytes_before(bytes_of, comm->rank);
    if (own_place != mine && bytes_of[comm->rank] > 0) memcpy(own_place, mine, bytes_of[comm->rank]);
    if (comm->size == 1) goto done;
    size_t size = (size_t)comm->size;
    if (int_pieces(comm, bytes_of, count, count + size))
        MST_MPI(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all_out, count, count + size, MPI_BYTE,
                               comm->all));
    else
        MST_TRY(allgather_large(comm, bytes_of, all_out));
done:
    return status;
}

mst_status mst_comm_allgather_equal(mst_comm *comm, const void *mine, size_t bytes, void **all_out) {
    mst_status status = MST_OK;
    const size_t size = (size_t)comm->size;
    void *all = calloc(size, bytes);
    size_t *bytes_of = calloc(size, sizeof *bytes_of);
    mst_status memory = all != NULL && bytes_of != NULL
                            ? MST_OK
                            : mst_error(MST_ENOMEM, "gathering from %zu ranks: no memory", size);
    *all_out = NULL;
    MST_TRY(mst_comm_agree(comm, memory));
    for (size_t r = 0; r < size; r++) bytes_of[r] = bytes;
    MST_TRY(mst_comm_allgather(comm, mine, bytes_of, all));
    *all_out = all;
    all = NULL;
done:
    free(all);
    free(bytes_of);
    return status;
}

mst_status mst_comm_gather(mst_comm *comm, const void *mine, const size_t *bytes_of, void *all_out) {
    mst_status status = MST_OK;
    const int tag = MST_COMM_TAGS - 1;
    if (comm->rank != 0) {
        const char *place = mine;
        for (size_t left = bytes_of[comm->rank]; left > 0;) {
            int chunk = chunk_of(left);
            MST_MPI(MPI_Send(place, chunk, MPI_BYTE, 0, tag, comm->all));
            place += chunk;
            left -= (size_t)chunk;
        }
        goto done;
    }
    char *place = all_out;
    if (place != mine && bytes_of[0] > 0) memcpy(place, mine, bytes_of[0]);
    place += bytes_of[0];
    for (int rank = 1; rank < comm->size; rank++)
        for (size_t left = bytes_of[rank]; left > 0;) {
            int chunk = chunk_of(left);
            MST_MPI(MPI_Recv(place, chunk, MPI_BYTE, rank, tag, comm->all, MPI_STATUS_IGNORE));
            place += chunk;
            left -= (size_t)chunk;
        }
done:
    return status;
}

/* ---- some of the ranks ---- */

static mst_status find_part(const mst_comm *comm, mst_comm *rest) {
    mst_status status = MST_OK;
    rest->mpi = true;
    rest->patience = comm->patience;
    rest->node_seat = comm->node_seat;
    MST_TRY(find_place(rest));
    MST_TRY(meet(rest));
done:
    return status;
}

mst_status mst_comm_part(mst_comm *comm, bool stays, mst_comm **rest_out) {
    mst_status status = MST_OK;
    mst_comm *rest = NULL;
    MPI_Comm all = MPI_COMM_NULL;
    *rest_out = NULL;
    MST_CHECK(comm->mpi, MST_EINVAL, "making ranks of their own: this rank is alone");
    const mst_process self = stays ? mst_process_self() : (mst_process){0};
    const mst_status allocated = stays ? allocate(&rest) : MST_OK;
    MST_TRY(mst_comm_agree(comm, allocated));
    free(comm->working);
    comm->working = NULL;
    MST_TRY(mst_comm_allgather_equal(comm, &self, sizeof self, (void **)&comm->working));
    MST_MPI(MPI_Comm_split(comm->all, stays ? 0 : MPI_UNDEFINED, comm->rank, &all));
    if (rest) rest->all = all;
    MST_TRY(mst_comm_agree(comm, rest ? find_part(comm, rest) : MST_OK));
    *rest_out = rest;
    rest = NULL;
done:
    mst_comm_destroy(&rest);
    return status;
}

/* Of those that work on, the first one of this host that is stopped, or has ended without coming; -1: none.
 * @param state_out of its process, as mst_process_state */
static int find_still(const mst_comm *comm, char *state_out) {
    const uint64_t host = mst_process_self().host;
    for (int rank = 0; rank < comm->size; rank++) {
        const mst_process *process = &comm->working[rank];
        if (process->pid == 0 || process->host != host) continue;
        *state_out = mst_process_state(process);
        if (*state_out == 0 || *state_out == 'T') return rank;
    }
    return -1;
}

/* Those that stand by would wait for it for ever, and where it works alone no other rank is there to see it. */
static void end_for(mst_comm *comm, int rank, const char *what) {
    fprintf(stderr,
            "muster: rank %d (host %s, process %lld) %s, and went on without rank %d: ending the job\n", rank,
            comm->host[rank], (long long)comm->working[rank].pid, what, comm->rank);
    kill((pid_t)comm->working[rank].pid, SIGKILL);
    mst_comm_abort(comm, 1);
}

/* MPI's own waits would keep a core busy. */
static mst_status sleep_until_all_come(mst_comm *comm, bool watches, double seconds) {
    mst_status status = MST_OK;
    MPI_Request request;
    int over = 0;
    double stopped = 0; /* seconds; none of it passes while this process is stopped itself */
    MST_MPI(MPI_Ibarrier(comm->all, &request));
    for (;;) {
        char state = 0;
        const int still = watches ? find_still(comm, &state) : -1;
        MST_MPI(MPI_Test(&request, &over, MPI_STATUS_IGNORE));
        if (over) break;
        stopped = still >= 0 && state == 'T' ? stopped + 1e-9 * LOOK_NS : 0;
        if (still >= 0 && state == 0) end_for(comm, still, "has ended");
        if (seconds > 0 && stopped > seconds) end_for(comm, still, "is stopped");
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
done:
    return status;
}

mst_status mst_comm_rejoin(mst_comm *comm, bool speaks, mst_status status_of_rest, double seconds) {
    mst_status status = MST_OK;
    int speaker = speaks ? comm->rank : comm->size;
    char message[MESSAGE_MAX];
    snprintf(message, sizeof message, "%s", mst_error_message());
    MST_TRY(sleep_until_all_come(comm, !speaks && comm->working, seconds));
    MST_MPI(MPI_Allreduce(MPI_IN_PLACE, &speaker, 1, MPI_INT, MPI_MIN, comm->all));
    status = spread(comm, speaker, status_of_rest, message);
done:
    return status;
}

/* ---- what is kept ---- */

void mst_comm_keep(mst_comm *comm, void *kept, void (*discard)(void *kept)) {
    if (comm->kept) comm->discard(comm->kept);
    comm->kept = kept;
    comm->discard = discard;
}

void *mst_comm_take(mst_comm *comm, void (*discard)(void *kept)) {
    void *kept = comm->discard == discard ? comm->kept : NULL;
    if (kept) comm->kept = NULL;
    return kept;
}

/* ---- the end ---- */

static void *exit_later(void *code) {
    struct timespec grace = {.tv_sec = ABORT_SECONDS};
    nanosleep(&grace, NULL);
    _exit((int)(intptr_t)code);
}

void mst_comm_abort(mst_comm *comm, int exit_code) {
    if (comm->mpi) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, exit_later, (void *)(intptr_t)exit_code) != 0) _exit(exit_code);
        MPI_Abort(comm->all, exit_code);
    }
    _exit(exit_code);
}
