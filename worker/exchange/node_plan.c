#include "node_plan.h"

#include <stdlib.h>

static size_t lane_after(const mst_piece *piece) {
    return piece->first_lane + ((size_t)1 << piece->level);
}

/* Cuts the run of pieces [first, end), all of one node, into the node's maximal subtrees. */
static mst_status plan_run(const mst_sum_plan *sum, size_t first, size_t end, int node, mst_node_plan *plan) {
    mst_status status = MST_OK;
    const size_t end_lane = lane_after(&sum->pieces[end - 1]);
    size_t number = 0;
    while (first < end) {
        const size_t lane = sum->pieces[first].first_lane;
        mst_node_piece *piece = &plan->pieces[plan->piece_count++];
        *piece = (mst_node_piece){.node = node,
                                  .number = number++,
                                  .level = mst_subtree_level(lane, end_lane),
                                  .first_part = first};
        const size_t after = lane + ((size_t)1 << piece->level);
        while (first < end && lane_after(&sum->pieces[first]) <= after) first++;
        piece->parts = first - piece->first_part;
        MST_CHECK(piece->parts > 0, MST_EINTERNAL, "planning the sum inside nodes: lane %zu", lane);
    }
done:
    return status;
}

mst_status mst_node_plan_init(const mst_sum_plan *sum, const int *node_of, mst_node_plan *plan) {
    mst_status status = MST_OK;
    *plan = (mst_node_plan){.pieces = calloc(sum->piece_count, sizeof *plan->pieces)};
    MST_CHECK(plan->pieces, MST_ENOMEM, "planning the sum inside nodes: no memory");
    for (size_t first = 0, end; first < sum->piece_count; first = end) {
        const int node = node_of[sum->pieces[first].rank];
        for (size_t before = 0; before < plan->piece_count; before++)
            MST_CHECK(plan->pieces[before].node != node, MST_EINTERNAL,
                      "planning the sum inside nodes: the lanes of node %d do not follow each other", node);
        for (end = first; end < sum->piece_count && node_of[sum->pieces[end].rank] == node;) end++;
        MST_TRY(plan_run(sum, first, end, node, plan));
    }
done:
    if (status != MST_OK) mst_node_plan_clear(plan);
    return status;
}

void mst_node_plan_clear(mst_node_plan *plan) {
    free(plan->pieces);
    *plan = (mst_node_plan){0};
}

/* The rank in a place of a node. */
static int rank_in(const int *node_of, int size, int node, size_t place) {
    for (int rank = 0; rank < size; rank++)
        if (node_of[rank] == node && place-- == 0) return rank;
    return -1;
}

int mst_node_agent(const int *node_of, int size, int node, int other, size_t turn) {
    size_t ranks = 0, before = 0; /* of the node; of others, before the one */
    for (int rank = 0; rank < size; rank++) {
        ranks += node_of[rank] == node;
        before += rank < other && node_of[rank] != node;
    }
    return rank_in(node_of, size, node, (before + turn) % ranks);
}
