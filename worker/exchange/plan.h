/*
 * Who sums what in a round, and in which memory: a pure function of the lanes that each rank has. Private to
 * the room.
 *
 * A rank's run of lanes is cut into its maximal aligned subtrees, the *pieces*; only these leave the
 * rank. Within a piece the rank adds as a binary counter does: a finished lane is combined at once
 * with the subtrees to its left that wait for it. A subtree that waits, or that is a piece, stands
 * in a *slot*: one buffer for all units. Every rank knows the plan of every other, so that nothing
 * has to be said about what is sent.
 */
#ifndef MUSTER_EXCHANGE_PLAN_H
#define MUSTER_EXCHANGE_PLAN_H

#include "muster/exchange.h"

enum {
    MST_LANES_MAX = 256,
    MST_LEVELS_MAX = 9, /* log2 of it, plus one */
    MST_NO_PIECE = -1,
};

/* The lanes of a rank: contiguous. All ranks' runs together are the round's lanes; they may follow each other
 * in any order of ranks. */
typedef struct mst_lane_run {
    size_t first, count;
} mst_lane_run;

/**
 * Deals lanes to ranks in the order of their nodes, and of ranks on a node, so that a node's lanes, too, are
 * contiguous. Not collective.
 * @param counts [size] lanes of each rank, or NULL: as even as can be
 * @param node_of [size] the node of each rank @param runs_out [size]
 * @retval MST_EINVAL the counts' sum is not the number of lanes
 */
mst_status mst_lanes_deal(size_t lanes, const size_t *counts, const int *node_of, int size,
                          mst_lane_run *runs_out);

/* The largest aligned subtree that begins at lane `first` and ends before or at `end`: log2 of its lanes. */
uint8_t mst_subtree_level(size_t first, size_t end);

/* What happens when a rank's lane is complete. */
typedef struct mst_lane_plan {
    size_t slot;    /* where the lane's own sum stands; free until then */
    size_t sources; /* 1: nothing to combine. Else source[0..] = waiting subtrees and, last, the lane */
    size_t source[MST_LEVELS_MAX]; /* slots, in lane order; the result replaces source[0] */
    uint8_t level[MST_LEVELS_MAX]; /* log2 of the lanes of each source */
    int piece;                     /* number of the piece that is complete now, or MST_NO_PIECE */
} mst_lane_plan;

/* A subtree of 2^level lanes that one rank sums and whose shards go to their owners. */
typedef struct mst_piece {
    int rank;
    size_t first_lane;
    uint8_t level;
    size_t slot;   /* on that rank */
    size_t number; /* among the rank's pieces */
} mst_piece;

typedef struct mst_sum_plan {
    size_t first_lane, lane_count; /* of this rank */
    mst_lane_plan *lanes;          /* [lane_count] */
    mst_piece *pieces;             /* of all ranks, in lane order: together they are the round's lanes */
    size_t piece_count;
    size_t first_piece, own_pieces; /* this rank's pieces are pieces[first_piece ...] */
    size_t slots;                   /* of this rank */
    size_t slots_max;               /* of the rank that has most */
} mst_sum_plan;

/** Not collective. plan_out is cleared by mst_sum_plan_clear. @param runs [size] @retval MST_ENOMEM */
mst_status mst_sum_plan_init(size_t lanes, const mst_lane_run *runs, int rank, int size,
                             mst_sum_plan *plan_out);
/** As mst_sum_plan_init for lanes that are dealt evenly, in the order of ranks. */
mst_status mst_sum_plan_init_even(size_t lanes, int rank, int size, mst_sum_plan *plan_out);
void mst_sum_plan_clear(mst_sum_plan *plan);

#endif
