/*
 * Weights that are sharded, too: each rank keeps its own blocks, and a pass gathers them unit by unit, one unit ahead of use.
 * Private to the room.
 *
 * A pass is one program, the same on all ranks: weights of units gathered and gradients of units summed, in the order in which the
 * model comes to them. A rank that has no microbatch, or whose work failed, takes part all the same, so that no other waits in
 * vain: what travels does not depend on what a rank could compute or copy.
 */
#ifndef MUSTER_EXCHANGE_SHARDED_H
#define MUSTER_EXCHANGE_SHARDED_H

#include "transport.h"

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

/** program_out is cleared by mst_pass_program_clear. @param sums with events for sums @retval MST_ENOMEM */
mst_status mst_pass_program_init(const mst_layout *layout, bool sums, mst_pass_program *program_out);
void mst_pass_program_clear(mst_pass_program *program);

/* How it travels. Only `begin` may be collective; the others wait for ranks that have not come as far, where it says so. */
typedef struct mst_pass_ops {
    /* Allocates what it needs beside places and the stream's buffers, which are there. */
    mst_status (*open)(mst_exchange *x);
    void (*close)(mst_exchange *x);
    /* The owners wrote their blocks: these are what is gathered from now on. */
    mst_status (*renew)(mst_exchange *x);
    /* All ranks begin a pass. */
    mst_status (*begin)(mst_exchange *x);

    /* Begins to gather a unit's weights; one gathering at a time. */
    mst_status (*gather)(mst_exchange *x, size_t unit, size_t place);
    /* Waits until they have come. */
    mst_status (*gathered)(mst_exchange *x, size_t unit);
    /* Brings them to their place, for the work that is queued after that. */
    mst_status (*deliver)(mst_exchange *x, size_t unit, size_t place);

    /* Where gradients are not streamed: begins to send what all ranks have by now of a unit's partial sums. NULL: each rank sends
     * its own as soon as it has them, whatever the pass gathers. */
    mst_status (*sum)(mst_exchange *x, size_t unit);

    /* Where they are: gets ready to receive the shards of a unit that this rank owns, before it has its own. */
    mst_status (*expect)(mst_exchange *x, size_t unit);
    /* Brings this rank's gradient to where it can be sent from, in the order of the queue's work. */
    mst_status (*stage)(mst_exchange *x, size_t unit);
    /* Begins to send it, if there is one, and to receive. */
    mst_status (*exchange)(mst_exchange *x, size_t unit);
    /* Waits until all has come and gone. */
    mst_status (*exchanged)(mst_exchange *x, size_t unit);
} mst_pass_ops;

extern const mst_pass_ops mst_passes_mpi;
#ifdef MST_NCCL
extern const mst_pass_ops mst_passes_nccl;
#endif

typedef struct mst_sharded {
    void *state; /* of the ops */
    mst_pass_program program;
    char *places[MST_GATHER_PLACES]; /* on the device: room for the weights of one unit */
    size_t gathering;                /* the event whose weights are on their way; SIZE_MAX: none */
    size_t next, end;                /* events of the pass at work */
    mst_pass_kind kind;
} mst_sharded;

/** Allocates x->weights, this rank's blocks, and room for what is gathered. Not collective. @retval MST_ENOMEM, or what the ops'
 * open says */
mst_status mst_sharded_open(mst_exchange *x);
/** After all ranks have come so far that nobody reads what this rank sent. */
void mst_sharded_close(mst_exchange *x);

/** After the owners wrote their blocks. Collective: agrees on its status. */
mst_status mst_sharded_publish(mst_exchange *x);

/** The next event of the pass is the sum of this unit. Not collective. @retval MST_EINTERNAL it is not */
mst_status mst_sharded_expect_sum(mst_exchange *x, size_t unit);

#endif
