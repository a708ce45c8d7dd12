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

mst_status mst_lanes_deal(size_t lanes, const size_t *counts, const int *node_of, int size,
                          mst_lane_run *runs) {
    mst_status status = MST_OK;
    size_t next = 0;
    int dealt = 0; /* ranks */
    for (int node = 0; dealt < size; node++)
        for (int rank = 0; rank < size; rank++) {
            if (node_of[rank] != node) continue;
            size_t first, even;
            mst_lanes_of(lanes, dealt++, size, &first, &even);
            runs[rank] = (mst_lane_run){.first = next, .count = counts ? counts[rank] : even};
            MST_CHECK(runs[rank].count <= lanes - next, MST_EINVAL,
                      "dealing %zu lanes to %d ranks: rank %d is to have %zu, %zu are left", lanes, size,
                      rank, runs[rank].count, lanes - next);
            next += runs[rank].count;
        }
    MST_CHECK(next == lanes, MST_EINVAL, "dealing %zu lanes to %d ranks: nobody is to have the last %zu",
              lanes, size, lanes - next);
done:
    return status;
}

uint8_t mst_subtree_level(size_t first, size_t end) {
    uint8_t level = 0;
    while ((first >> level & 1) == 0 && first + ((size_t)2 << level) <= end) level++;
    return level;
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
static size_t plan_rank(size_t lanes, const mst_lane_run *run, int rank, mst_lane_plan *lanes_out,
                        mst_piece *pieces_out, size_t *piece_count_out) {
    planner p = {.first = run->first, .end = run->first + run->count, .lanes = lanes};
    *piece_count_out = 0;
    for (size_t i = 0; i < run->count; i++) {
        mst_lane_plan plan;
        held node;
        plan_lane(&p, run->first + i, &plan, &node);
        if (parent_is_ours(&p, &node)) {
            p.waiting[p.waiting_count++] = node;
        } else { /* the slot stays taken until the round ends */
            plan.piece = (int)*piece_count_out;
            if (pieces_out)
                pieces_out[*piece_count_out] = (mst_piece){.rank = rank,
                                                           .first_lane = node.first_lane,
                                                           .level = node.level,
                                                           .slot = node.slot,
                                                           .number = *piece_count_out};
            ++*piece_count_out;
        }
        if (lanes_out) lanes_out[i] = plan;
    }
    return p.slots;
}

/* The rank whose run begins at a lane. */
static int rank_at(const mst_lane_run *runs, int size, size_t lane) {
    int rank = 0;
    while (rank < size && (runs[rank].count == 0 || runs[rank].first != lane)) rank++;
    return rank;
}

mst_status mst_sum_plan_init(size_t lanes, const mst_lane_run *runs, int rank, int size, mst_sum_plan *plan) {
    mst_status status = MST_OK;
    *plan = (mst_sum_plan){.first_lane = runs[rank].first, .lane_count = runs[rank].count};
    plan->lanes = calloc(plan->lane_count + 1, sizeof *plan->lanes);
    plan->pieces = calloc(lanes, sizeof *plan->pieces); /* a piece has at least one lane */
    MST_CHECK(plan->lanes && plan->pieces, MST_ENOMEM, "planning the sum over %zu lanes: no memory", lanes);
    for (size_t lane = 0; lane < lanes;) {
        const int other = rank_at(runs, size, lane);
        MST_CHECK(other < size, MST_EINTERNAL, "planning the sum: no rank has lane %zu", lane);
        size_t count;
        size_t slots = plan_rank(lanes, &runs[other], other, other == rank ? plan->lanes : NULL,
                                 plan->pieces + plan->piece_count, &count);
        if (other == rank) {
            plan->slots = slots;
            plan->first_piece = plan->piece_count;
            plan->own_pieces = count;
        }
        if (slots > plan->slots_max) plan->slots_max = slots;
        plan->piece_count += count;
        lane += runs[other].count;
    }
done:
    if (status != MST_OK) mst_sum_plan_clear(plan);
    return status;
}

mst_status mst_sum_plan_init_even(size_t lanes, int rank, int size, mst_sum_plan *plan) {
    mst_status status = MST_OK;
    mst_lane_run *runs = calloc((size_t)size, sizeof *runs);
    *plan = (mst_sum_plan){0};
    MST_CHECK(runs, MST_ENOMEM, "planning the sum over %zu lanes: no memory", lanes);
    for (int other = 0; other < size; other++)
        mst_lanes_of(lanes, other, size, &runs[other].first, &runs[other].count);
    MST_TRY(mst_sum_plan_init(lanes, runs, rank, size, plan));
done:
    free(runs);
    return status;
}

void mst_sum_plan_clear(mst_sum_plan *plan) {
    free(plan->lanes);
    free(plan->pieces);
    *plan = (mst_sum_plan){0};
}
