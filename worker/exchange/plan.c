#include "plan.h"

#include <stdlib.h>

void mst_lanes_of(size_t lanes, int rank, int size, size_t *first_out, size_t *count_out) {
    size_t r = (size_t)rank, ranks = (size_t)size;
    if (ranks > lanes) { /* one lane each; the others only own shards */
        *first_out = r < lanes ? r : lanes;
        *count_out = r < lanes;
        return;
    }
    *first_out = lanes * r / ranks;
    *count_out = lanes * (r + 1) / ranks - *first_out;
}

size_t mst_microbatch_index(const mst_sum_shape *shape, size_t round, size_t lane, size_t leaf_index) {
    return (round * shape->lanes + lane) * shape->leaf + leaf_index;
}

double mst_ordered_sum_values(const mst_sum_shape *shape, const double *value) {
    double sum = 0;
    for (size_t round = 0; round < shape->rounds; round++) {
        double waiting[MST_LEVELS_MAX] = {0}; /* subtrees without their right sibling, the largest first */
        size_t top = 0;
        for (size_t lane = 0; lane < shape->lanes; lane++) {
            double node = 0;
            for (size_t j = 0; j < shape->leaf; j++)
                node += value[mst_microbatch_index(shape, round, lane, j)];
            for (size_t carry = lane; carry & 1; carry >>= 1) node = waiting[--top] + node;
            waiting[top++] = node;
        }
        sum = round == 0 ? waiting[0] : sum + waiting[0];
    }
    return sum;
}

/* ---- the plan of one rank ---- */

/* A subtree that stands in a slot. */
typedef struct held {
    size_t first_lane, slot;
    uint8_t level;
} held;

typedef struct planner {
    size_t first, end, lanes;     /* the rank's lanes, and those of the round */
    held waiting[MST_LEVELS_MAX]; /* for their right siblings */
    size_t waiting_count;
    /* slots: log2(lanes) at most wait, twice as many are pieces, one is a lane */
    bool used[3 * MST_LEVELS_MAX];
    size_t slots;
} planner;

static size_t take_slot(planner *p) {
    size_t slot = 0;
    while (p->used[slot]) slot++;
    p->used[slot] = true;
    if (slot + 1 > p->slots) p->slots = slot + 1;
    return slot;
}

/* Whether the parent of a subtree lies wholly inside the rank's run, so that the rank adds it itself. */
static bool parent_is_ours(const planner *p, const held *node) {
    size_t size = (size_t)1 << node->level;
    size_t parent = node->first_lane & ~size;
    return 2 * size <= p->lanes && parent >= p->first && parent + 2 * size <= p->end;
}

/* Lane number `lane` is complete: combines it with what waits, and says in `plan` what
 * to do and in `node` what results. */
static void plan_lane(planner *p, size_t lane, mst_lane_plan *plan, held *node) {
    *node = (held){.first_lane = lane, .slot = take_slot(p)};
    *plan = (mst_lane_plan){.slot = node->slot, .piece = MST_NO_PIECE};
    held chain[MST_LEVELS_MAX]; /* from right to left */
    size_t count = 0;
    chain[count++] = *node;
    while (parent_is_ours(p, node) && ((node->first_lane >> node->level) & 1)) {
        held left = p->waiting[--p->waiting_count]; /* its left sibling: it came before and waits on top */
        p->used[node->slot] = false;
        *node = (held){.first_lane = left.first_lane, .slot = left.slot, .level = (uint8_t)(left.level + 1)};
        chain[count++] = left;
    }
    plan->sources = count;
    for (size_t i = 0; i < count; i++) {
        plan->source[i] = chain[count - 1 - i].slot;
        plan->level[i] = chain[count - 1 - i].level;
    }
}

/* Plans a rank's lanes. lanes_out [lane_count] and pieces_out [2 * log2(lanes) at most]
 * may be NULL. Returns the slots. */
static size_t plan_rank(size_t lanes, int rank, int size, mst_lane_plan *lanes_out, mst_piece *pieces_out,
                        size_t *piece_count_out) {
    size_t first, count;
    mst_lanes_of(lanes, rank, size, &first, &count);
    planner p = {.first = first, .end = first + count, .lanes = lanes};
    *piece_count_out = 0;
    for (size_t i = 0; i < count; i++) {
        mst_lane_plan plan;
        held node;
        plan_lane(&p, first + i, &plan, &node);
        if (parent_is_ours(&p, &node)) {
            p.waiting[p.waiting_count++] = node;
        } else { /* the slot stays taken until the round ends */
            plan.piece = (int)*piece_count_out;
            if (pieces_out)
                pieces_out[*piece_count_out] = (mst_piece){
                    .rank = rank, .first_lane = node.first_lane, .level = node.level, .slot = node.slot};
            ++*piece_count_out;
        }
        if (lanes_out) lanes_out[i] = plan;
    }
    return p.slots;
}

mst_status mst_sum_plan_init(size_t lanes, int rank, int size, mst_sum_plan *plan) {
    mst_status status = MST_OK;
    *plan = (mst_sum_plan){0};
    mst_lanes_of(lanes, rank, size, &plan->first_lane, &plan->lane_count);
    plan->lanes = calloc(plan->lane_count + 1, sizeof *plan->lanes);
    plan->pieces = calloc(lanes, sizeof *plan->pieces); /* a piece has at least one lane */
    MST_CHECK(plan->lanes && plan->pieces, MST_ENOMEM, "planning the sum over %zu lanes: no memory", lanes);
    for (int other = 0; other < size; other++) {
        mst_piece *pieces = plan->pieces + plan->piece_count;
        size_t count;
        size_t slots = plan_rank(lanes, other, size, other == rank ? plan->lanes : NULL, pieces, &count);
        if (other == rank) {
            plan->slots = slots;
            plan->first_piece = plan->piece_count;
            plan->own_pieces = count;
        }
        if (slots > plan->slots_max) plan->slots_max = slots;
        plan->piece_count += count;
    }
done:
    if (status != MST_OK) mst_sum_plan_clear(plan);
    return status;
}

void mst_sum_plan_clear(mst_sum_plan *plan) {
    free(plan->lanes);
    free(plan->pieces);
    *plan = (mst_sum_plan){0};
}
