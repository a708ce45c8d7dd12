/* The ranks of the job. A job of one rank needs no MPI: MPI is initialised only under a launcher. */
#ifndef MUSTER_COMM_H
#define MUSTER_COMM_H

#include <stdbool.h>
#include <stddef.h>

#include "muster/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_comm mst_comm;

/**
 * In a bundle, which brings an MPI for one node: tells that MPI where its parts lie now, and puts its mpirun first in PATH.
 * Elsewhere nothing. Changes the environment: call once, before any other thread is started and before mst_comm_create.
 *
 * Not collective. @retval MST_ENOMEM
 */
mst_status mst_comm_enter_bundle(void);

/**
 * Joins the job: MPI with MPI_THREAD_MULTIPLE when a launcher (mpirun, srun) started this
 * process, else one rank alone.
 *
 * Collective. Call once, before any other thread is started.
 * @retval MST_EMPI MPI could not be initialised, or gives less than MPI_THREAD_MULTIPLE
 */
mst_status mst_comm_create(mst_comm **comm_out);

/** One rank alone, whoever started this process: for work that ranks do not share. Not collective. */
mst_status mst_comm_create_alone(mst_comm **comm_out);

/**
 * Makes ranks of their own of some of these, in the same order; the others stand by until mst_comm_rejoin. `comm` stays as it is,
 * and is destroyed after them.
 *
 * Collective. @param stays whether this rank is one of them @param rest_out NULL on a rank that is not
 * @retval MST_ENOMEM, MST_EMPI on all ranks, when one of them failed
 */
mst_status mst_comm_part(mst_comm *comm, bool stays, mst_comm **rest_out);

/**
 * Waits until all ranks have come, those that stood by, too: asleep, so that a rank that waits for hours takes no core. One that stood
 * by ends the job when a rank of its host that did not has ended without coming, or is stopped for `seconds` (0: it may).
 *
 * Collective over the ranks that mst_comm_part was called with. @param speaks this rank was among those that stayed
 * @param status what came of them: the same on all that did, ignored on the others
 * @return that status, with its message, on every rank; MST_EMPI
 */
mst_status mst_comm_rejoin(mst_comm *comm, bool speaks, mst_status status, double seconds);

/** Leaves the job. Collective: waits for all ranks. Accepts NULL inside, resets the pointer. */
void mst_comm_destroy(mst_comm **comm);

int mst_comm_rank(const mst_comm *comm);
int mst_comm_size(const mst_comm *comm);
/** Ranks that share memory with this one, this one included, and this rank's place among them. */
int mst_comm_node_size(const mst_comm *comm);
int mst_comm_node_rank(const mst_comm *comm);
/** This rank's place among its node's ranks when the job began, which is its GPU's: the same after others have left. */
int mst_comm_node_seat(const mst_comm *comm);
/** Nodes of the job, and the node of a rank: they are numbered in the order of their lowest ranks. */
int mst_comm_nodes(const mst_comm *comm);
int mst_comm_node_of(const mst_comm *comm, int rank);
/** Host name of a rank. Static for the life of comm. */
const char *mst_comm_host(const mst_comm *comm, int rank);

/**
 * Agrees on a status: every rank gets MST_OK, or the status of the lowest rank that failed; of one that only lost another
 * (MST_EPEER) when none failed otherwise.
 *
 * Collective: each rank passes its own status; nobody returns early before it.
 * @return MST_OK when all passed MST_OK; otherwise that failure, whose message ("rank R: ...") becomes
 *         mst_error_message on every rank.
 */
mst_status mst_comm_agree(mst_comm *comm, mst_status status);
#ifdef __clang_analyzer__ /* it cannot know that one rank's failure becomes everybody's */
#define mst_comm_agree(comm, status) ((void)mst_comm_agree((comm), (status)), (status))
#endif

/** Whether every rank passes true: one small message a rank. Collective. @retval MST_EMPI */
mst_status mst_comm_all(mst_comm *comm, bool mine, bool *all_out);

/**
 * Whether all ranks run the same program: others might say things of another form to each other. To be asked first of all;
 * how it is asked never changes from version to version.
 *
 * Collective: agrees on its status.
 * @param program its version and what it was made of; at most 95 bytes count
 * @retval MST_ECONFIG they do not: the message names ranks, hosts and programs; MST_ENOMEM, MST_EMPI
 */
mst_status mst_comm_check_program(mst_comm *comm, const char *program);

/** Copies `bytes` from rank root to all. Collective. @retval MST_EMPI */
mst_status mst_comm_broadcast(mst_comm *comm, int root, void *data, size_t bytes);

/** Rank 0's text, or its lack (NULL), becomes that of all ranks. Collective.
 * @param text of the heap; the others' is freed and replaced, by one that the caller frees
 * @retval MST_ENOMEM on all ranks, when one had no memory; MST_EMPI */
mst_status mst_comm_share_text(mst_comm *comm, char **text);

/**
 * Gathers pieces of different size from every rank on all ranks. Collective.
 * @param mine bytes_of[rank] bytes
 * @param bytes_of [size] bytes of each rank's piece, the same on all ranks
 * @param all_out the pieces in rank order; `mine` may already stand in its place there
 * @retval MST_EMPI
 */
mst_status mst_comm_allgather(mst_comm *comm, const void *mine, const size_t *bytes_of, void *all_out);

/** Gathers one piece of the same size from every rank on all ranks. Collective.
 * @param mine `bytes` bytes
 * @param all_out [size][bytes] in rank order; allocated here, freed by the caller with free
 * @retval MST_ENOMEM on all ranks, when one had no memory; MST_EMPI */
mst_status mst_comm_allgather_equal(mst_comm *comm, const void *mine, size_t bytes, void **all_out);

/** As mst_comm_allgather, but only on rank 0 (all_out is not used elsewhere). Collective. */
mst_status mst_comm_gather(mst_comm *comm, const void *mine, const size_t *bytes_of, void *all_out);

/** Seconds that a library without an end of its own may keep a rank waiting for others' data, once these have sent it or
 * work with this rank in one pass: 30, or what was set. Not collective. */
double mst_comm_patience(const mst_comm *comm);
void mst_comm_set_patience(mst_comm *comm, double seconds);

/** Waits for all ranks. Collective. */
mst_status mst_comm_barrier(mst_comm *comm);

/** Keeps what another library made for these very ranks, until somebody takes it, something else is kept, or comm is destroyed:
 * then it is discarded. Not collective. @param kept owned from now on; NULL: nothing is kept any more */
void mst_comm_keep(mst_comm *comm, void *kept, void (*discard)(void *kept));
/** What was kept with this `discard`; the caller's from now on. NULL: nothing. Not collective. */
void *mst_comm_take(mst_comm *comm, void (*discard)(void *kept));

/* Tags below it are mst_comm's own: a message of others that was given up, and still waits, meets none of these. */
enum { MST_COMM_TAGS = 1 };

/** The MPI_Comm of all ranks (shared = false) or of this node's ranks (true),
 * as `const MPI_Comm *`; NULL without MPI. */
const void *mst_comm_mpi(const mst_comm *comm, bool shared);

/** MST_OK for MPI_SUCCESS; else MST_EMPI with the call's name (the text before its
 * parenthesis) and MPI's own message. */
mst_status mst_comm_mpi_status(int mpi_code, const char *call);

/* As MST_TRY, for a call of MPI. */
#define MST_MPI(call) MST_TRY(mst_comm_mpi_status((call), #call))

/** Ends the whole job at once with this exit code. Not collective. Does not return.
 * Only main and the watchdog call it. */
void mst_comm_abort(mst_comm *comm, int exit_code);

#ifdef __cplusplus
}
#endif
#endif
