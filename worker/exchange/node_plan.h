/*
 * What nodes send each other in a round: the subtrees that a node's ranks hold together, each summed once.
 * A pure function of the plan of all ranks and of who stands where. Private to the room.
 */
#ifndef MUSTER_EXCHANGE_NODE_PLAN_H
#define MUSTER_EXCHANGE_NODE_PLAN_H

#include "plan.h"

/* A maximal subtree of a node's run of lanes: the sum of parts, which are pieces of its ranks. */
typedef struct mst_node_piece {
    int node;
    size_t number; /* among the node's pieces */
    uint8_t level;
    size_t first_part, parts; /* of the sum plan's pieces */
} mst_node_piece;

typedef struct mst_node_plan {
    mst_node_piece *pieces; /* of all nodes, in lane order */
    size_t piece_count;
} mst_node_plan;

/** Not collective. plan_out is cleared by mst_node_plan_clear.
 * @param node_of [ranks] @retval MST_ENOMEM; MST_EINTERNAL the lanes of a node do not follow each other */
mst_status mst_node_plan_init(const mst_sum_plan *sum, const int *node_of, mst_node_plan *plan_out);
void mst_node_plan_clear(mst_node_plan *plan);

/**
 * The rank of a node that sends, or receives, what is for, or from, a rank elsewhere: dealt over the node's
 * ranks, so that all of them work and no two of them on the same. Not collective.
 * @param node_of [size] @param turn a number that varies from message to message
 */
int mst_node_agent(const int *node_of, int size, int node, int other, size_t turn);

#endif
