/*
 * The inside of the nccl transport. Private to the room.
 *
 * NCCL matches messages by their order, so all ranks send and receive in one order: a *group* is what belongs to one unit
 * and to one number of the ranks' pieces (each rank's first, each rank's second, ...). Groups are launched one after the
 * other on the transfer stream, each once this rank's part of it is complete; a rank without such a piece only receives.
 */
#ifndef MUSTER_NCCL_TRANSPORT_H
#define MUSTER_NCCL_TRANSPORT_H

#include "../transport.h"
#include "library.h"
#include "muster/transfer.h"

typedef struct mst_nccl_group {
    size_t unit, number; /* of pieces; 0 for weights */
    bool ready;          /* this rank's part of it may be read, in the order of the queue's work */
    mst_mark *mark;      /* behind it */
} mst_nccl_group;

/* Groups of one kind, launched and ended in their order. */
typedef struct mst_nccl_list {
    const char *phase; /* for messages */
    mst_nccl_group *groups;
    size_t count, launched, ended;
} mst_nccl_list;

typedef struct mst_nccl {
    const mst_nccl_library *library;
    ncclComm_t comm;                 /* NULL: not made, or given up */
    void *stream;                    /* the queue's transfers */
    char *received;                  /* wire type, [foreign pieces][owned_blocks * MST_BLOCK] */
    size_t *first_piece, *own_count; /* [size] of each rank */
    mst_nccl_list weights, sums;     /* weights first: a step's sums follow the former step's weights */
    mst_nccl_list *launching; /* its next group was handed to NCCL, which is not done with it; or NULL */
} mst_nccl;

/** Hands a group to NCCL: transport.c. */
mst_status mst_nccl_launch(mst_exchange *x, const mst_nccl_list *list, const mst_nccl_group *group);

/** Launches the groups that are ready, and sees which have ended. Waits for nothing.
 * @retval MST_EPEER a peer is lost: the communicator is given up; MST_ELIBRARY */
mst_status mst_nccl_advance(mst_exchange *x);

/** Waits until `count` groups of a list are launched, or have ended. After mst_comm_patience it gives the communicator up.
 * @retval as mst_nccl_advance, naming rank, host, unit, phase and whom it waits for */
mst_status mst_nccl_wait_launched(mst_exchange *x, mst_nccl_list *list, size_t count);
mst_status mst_nccl_wait_ended(mst_exchange *x, mst_nccl_list *list, size_t count);

/** Waits until NCCL has made the communicator, or put it away. @param phase for messages @retval as above */
mst_status mst_nccl_wait_comm(mst_exchange *x, const char *phase);

#endif
