/*
 * Weights that are sharded, too: each rank keeps its own blocks, and a pass gathers them unit by unit, one unit ahead of use.
 * Private to the room.
 *
 * A pass is one program, the same on all ranks: weights of units gathered and, where gradients are streamed (stream.h), gradients
 * of units summed, in the order in which the model comes to them. A rank that has no microbatch, or whose work failed, takes part
 * all the same, so that no other waits in vain: what travels does not depend on what a rank could compute or copy.
 */
#ifndef MUSTER_EXCHANGE_SHARDED_H
#define MUSTER_EXCHANGE_SHARDED_H

#include "requests.h"

enum { MST_GATHER_PLACES = 3 }; /* two units of a tied head, and the one that comes next */

/* One step of a pass. */
typedef struct mst_pass_event {
    size_t unit;
    size_t place; /* where its weights are gathered */
    bool sums;    /* its gradient is summed; else its weights are gathered */
} mst_pass_event;

/* The events of a pass forward, and of one back as well; and how large the places have to be. A pure function of the layout. */
typedef struct mst_pass_program {
    mst_pass_event *events;
    size_t forward, count;
    size_t blocks[MST_GATHER_PLACES];
} mst_pass_program;

/** program_out is cleared by mst_pass_program_clear. @retval MST_ENOMEM */
mst_status mst_pass_program_init(const mst_layout *layout, bool streams, mst_pass_program *program_out);
void mst_pass_program_clear(mst_pass_program *program);

/* Room for the weights of one unit. */
typedef struct mst_gather_place {
    char *weights; /* on the device */
    char *arrived; /* where MPI puts them: a copy in pinned memory where the device's is apart */
} mst_gather_place;

typedef struct mst_sharded {
    MPI_Comm all;
    MPI_Datatype weight_block;
    mst_pass_program program;
    mst_gather_place places[MST_GATHER_PLACES];
    char *sent;            /* this rank's blocks for MPI: x->weights, or a copy in pinned memory */
    int *blocks, *first;   /* [size] of the unit that is gathered */
    MPI_Request request;   /* of the gathering at work */
    mst_requests arriving; /* that one */
    size_t gathering;      /* the event whose weights are on their way; SIZE_MAX: none */
    size_t next, end;      /* events of the pass at work */
    mst_pass_kind kind;
} mst_sharded;

/** Allocates x->weights, this rank's blocks, and room for what is gathered. Not collective. @retval MST_ENOMEM, MST_EMPI */
mst_status mst_sharded_open(mst_exchange *x);
void mst_sharded_close(mst_exchange *x);

/** After the owners wrote their blocks. Collective: agrees on its status. */
mst_status mst_sharded_publish(mst_exchange *x);

/** The next event of the pass is the sum of this unit. Not collective. @retval MST_EINTERNAL it is not */
mst_status mst_sharded_expect_sum(mst_exchange *x, size_t unit);

#endif
