/*
 * The inside of the nccl transport. Private to the room.
 *
 * NCCL matches messages by their order, so all ranks send and receive in one order: a *group* is what belongs to one unit and,
 * of sums, to one number of the ranks' pieces (each rank's first, each rank's second, ...). Each rank puts its groups in line in
 * that order, each once its part of it is complete; they are launched one after the other on the transfer stream. A rank without
 * such a piece only receives.
 */
#ifndef MUSTER_NCCL_TRANSPORT_H
#define MUSTER_NCCL_TRANSPORT_H

#include "../transport.h"
#include "library.h"
#include "muster/transfer.h"

typedef enum mst_nccl_kind {
    MST_NCCL_PUBLISH, /* owners' weights of a unit, to where all of them stand */
    MST_NCCL_GATHER,  /* the same, to a place for one unit */
    MST_NCCL_SUM,     /* pieces of a unit, to its owners */
} mst_nccl_kind;

typedef struct mst_nccl_group {
    mst_nccl_kind kind;
    size_t unit;
    size_t number; /* SUM: of each rank's pieces; GATHER: of the place; else 0 */
} mst_nccl_group;

typedef struct mst_nccl {
    const mst_nccl_library *library;
    ncclComm_t comm; /* NULL: not made, or put away */
    ncclComm_t
        smaller;   /* made from it while it is given up: NCCL may still be at it, until that is put away */
    bool given_up; /* nothing is launched on it any more; what is on the stream may wait for ever */
    char reason[1024]; /* why it was given up */
    void *stream;      /* the queue's transfers */
    char *received; /* wire type, [foreign pieces][owned_blocks * MST_BLOCK]; NULL: gradients are streamed */
    size_t *first_piece, *own_count; /* [size] of each rank */
    size_t numbers;                  /* the most pieces that a rank has */

    /* Group n, counted from 0 since the communicator was made, stands at n % room. */
    mst_nccl_group *line; /* [room] */
    mst_mark **marks;     /* [room] behind each group that is on the stream */
    size_t room, put, launched, ended;
    bool launching;  /* the next group was handed to NCCL, which is not done with it */
    bool round_open; /* sums are in line that may never end */

    size_t *arrived; /* [unit_count] so many groups have to end until a unit's weights are here */
    size_t *summed;  /* [unit_count] the same for its streamed gradients */
    /* Where weights are sharded and gradients are not streamed: */
    size_t *due; /* [numbers] the pass of a round in which the last rank completes its piece of this number */
    size_t pass; /* of the round, of those that hand gradients over */
} mst_nccl;

/* The result of a call of NCCL as a status, naming the call. */
mst_status mst_nccl_check(const mst_exchange *x, const char *call, ncclResult_t result);
/* As MST_TRY, for a function of NCCL; `s` is the transport's state. */
#define MST_TRY_NCCL(function, ...) MST_TRY(mst_nccl_check(x, #function, s->library->function(__VA_ARGS__)))

/** The transport's state and all that a rank alone can make of it. Not collective. @retval MST_ENOMEM, MST_EUNSUPPORTED */
mst_status mst_nccl_prepare(mst_exchange *x);
/** Makes the communicator, of ranks that are all prepared, or takes the one that was kept for them. Collective: agrees on its status. */
mst_status mst_nccl_connect(mst_exchange *x);
/** Ends what is on the stream, of an exchange that failed, and puts the communicator away. With `rest` a smaller one of its ranks is
 * made from it, where NCCL can and all of them can, and kept there for mst_nccl_connect. Collective over `rest`; without it not
 * collective. */
void mst_nccl_give_up(mst_exchange *x, mst_comm *rest);
/** A communicator that was kept for these ranks; else *comm_out is NULL. Collective. @retval MST_EMPI */
mst_status mst_nccl_take_kept(mst_exchange *x, ncclComm_t *comm_out);
/** Lets all that was begun end, and puts the communicator away: after it nobody reads what this rank has sent. Collective, also of a
 * rank that never came to have one. */
void mst_nccl_leave(mst_exchange *x);
/** Frees the state. Not collective. */
void mst_nccl_clear(mst_exchange *x);

/** Hands a group to NCCL: groups.c. */
mst_status mst_nccl_launch(mst_exchange *x, const mst_nccl_group *group);
/** Whether this rank's part of a group needs a rank. */
bool mst_nccl_needs(const mst_exchange *x, const mst_nccl_group *group, int rank);

/** Puts a group in line, and goes on with those before it. Waits for nothing. @retval as mst_nccl_advance; MST_EINTERNAL no room */
mst_status mst_nccl_put(mst_exchange *x, mst_nccl_kind kind, size_t unit, size_t number);

/** Launches the groups that are in line, and sees which have ended. Waits for nothing.
 * @retval MST_ELIBRARY NCCL reports an error, and the communicator is given up; MST_EPEER it was before */
mst_status mst_nccl_advance(mst_exchange *x);

/** Waits until the first `count` groups are launched, or have ended. After mst_comm_patience it gives the communicator up.
 * @retval MST_EPEER, or as mst_nccl_advance, naming rank, host, unit, phase and whom it waits for */
mst_status mst_nccl_wait_launched(mst_exchange *x, size_t count);
mst_status mst_nccl_wait_ended(mst_exchange *x, size_t count);

/** Waits until NCCL has made the communicator, or put it away. @param phase for messages @retval as above */
mst_status mst_nccl_wait_comm(mst_exchange *x, const char *phase);

#endif
