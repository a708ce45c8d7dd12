/* The plan of the ordered sum, for all rank counts and many ways to deal lanes: which rank, and which node, adds
 * what, and in which memory. No MPI. */
#include "muster/random.h"
#include "node_plan.h"
#include "plan.h"
#include "test.h"

/* What a slot holds while a plan is followed: a subtree of the balanced tree. */
typedef struct subtree {
    size_t first, level;
    bool full;
} subtree;

/* Adds two siblings; anything else is not in the tree. */
static subtree add(subtree left, subtree right) {
    CHECK(left.full && right.full, "an empty slot is added");
    CHECK(left.level == right.level, "levels %zu and %zu are added", left.level, right.level);
    CHECK(left.first % ((size_t)2 << left.level) == 0, "subtree at %zu, level %zu, is no left child",
          left.first, left.level);
    CHECK(right.first == left.first + ((size_t)1 << left.level), "%zu and %zu are no siblings", left.first,
          right.first);
    return (subtree){.first = left.first, .level = left.level + 1, .full = true};
}

/* Combines the sources of a lane as the kernel does. */
static subtree combine(const mst_lane_plan *lane, subtree *slot) {
    subtree stack[MST_LEVELS_MAX];
    size_t depth = 0;
    for (size_t i = 0; i < lane->sources; i++) {
        stack[depth] = slot[lane->source[i]];
        CHECK(stack[depth].level == lane->level[i], "source of level %zu is said to have %d",
              stack[depth].level, lane->level[i]);
        slot[lane->source[i]].full = false;
        for (depth++; depth > 1 && stack[depth - 1].level == stack[depth - 2].level; depth--)
            stack[depth - 2] = add(stack[depth - 2], stack[depth - 1]);
    }
    CHECK(depth == 1, "%zu subtrees remain", depth);
    return stack[0];
}

/* Follows one rank's plan: every sum must be a node of the tree,
 * and every piece must come out in its slot. */
static void follow(const mst_sum_plan *plan, int rank) {
    subtree slot[3 * MST_LEVELS_MAX] = {{0}};
    size_t pieces = 0;
    for (size_t i = 0; i < plan->lane_count; i++) {
        const mst_lane_plan *lane = &plan->lanes[i];
        CHECK(lane->slot < plan->slots && !slot[lane->slot].full, "lane %zu begins in a full slot", i);
        slot[lane->slot] = (subtree){.first = plan->first_lane + i, .full = true};
        CHECK(lane->source[lane->sources - 1] == lane->slot, "lane %zu is not its last source", i);
        slot[lane->source[0]] = combine(lane, slot);
        if (lane->piece == MST_NO_PIECE) continue;
        const mst_piece *piece = &plan->pieces[plan->first_piece + (size_t)lane->piece];
        subtree sum = slot[piece->slot];
        CHECK(piece->rank == rank && (size_t)lane->piece == pieces, "piece %d of rank %d", lane->piece,
              piece->rank);
        CHECK(sum.full && sum.first == piece->first_lane && sum.level == piece->level,
              "piece %d is another subtree", lane->piece);
        pieces++;
    }
    CHECK(pieces == plan->own_pieces, "%zu pieces of %zu", pieces, plan->own_pieces);
}

static size_t log2_of(size_t count) {
    size_t log = 0;
    while (count >>= 1) log++;
    return log;
}

static void check_plan(size_t lanes, const mst_lane_run *runs, int size) {
    size_t dealt = 0, slots_max = 0;
    for (int rank = 0; rank < size; rank++) {
        mst_sum_plan plan;
        CHECK_OK(mst_sum_plan_init(lanes, runs, rank, size, &plan));
        dealt += plan.lane_count;
        follow(&plan, rank);
        size_t next = 0;
        for (size_t i = 0; i < plan.piece_count; i++) {
            CHECK(plan.pieces[i].first_lane == next, "piece %zu begins at lane %zu", i,
                  plan.pieces[i].first_lane);
            next += (size_t)1 << plan.pieces[i].level;
        }
        CHECK(next == lanes, "pieces cover %zu of %zu lanes", next, lanes);
        /* The formula of docs/ordered-sum.md. */
        size_t most = plan.lane_count ? log2_of(plan.lane_count) + plan.own_pieces : 0;
        CHECK(plan.slots <= most, "rank %d of %d, %zu lanes: %zu slots, at most %zu", rank, size, lanes,
              plan.slots, most);
        if (plan.own_pieces == 1)
            CHECK(plan.slots == log2_of(plan.lane_count) + 1, "%zu slots for %zu lanes", plan.slots,
                  plan.lane_count);
        if (plan.slots > slots_max) slots_max = plan.slots;
        if (rank == size - 1)
            CHECK(slots_max == plan.slots_max, "slots_max %zu, saw %zu", plan.slots_max, slots_max);
        mst_sum_plan_clear(&plan);
    }
    CHECK(dealt == lanes, "ranks have %zu of %zu lanes", dealt, lanes);
}

/* ---- nodes ---- */

/* No two of a node's pieces could be one: that is what makes them maximal. */
static void check_node_piece(const mst_sum_plan *sum, const mst_node_plan *plan, const int *node_of,
                             size_t i) {
    const mst_node_piece *piece = &plan->pieces[i];
    const size_t first = sum->pieces[piece->first_part].first_lane, lanes = (size_t)1 << piece->level;
    size_t covered = 0;
    for (size_t p = piece->first_part; p < piece->first_part + piece->parts; p++) {
        CHECK(node_of[sum->pieces[p].rank] == piece->node, "a part of another node");
        covered += (size_t)1 << sum->pieces[p].level;
    }
    CHECK(covered == lanes && first % lanes == 0, "level %d from lane %zu covers %zu lanes", piece->level,
          first, covered);
    if (i + 1 == plan->piece_count || plan->pieces[i + 1].node != piece->node) return;
    CHECK(piece[1].number == piece->number + 1, "piece %zu after %zu", piece[1].number, piece->number);
    CHECK(piece[1].level != piece->level || first % (2 * lanes) != 0, "two siblings stay apart at lane %zu",
          first);
}

static void check_nodes(size_t lanes, const mst_lane_run *runs, const int *node_of, int size) {
    mst_sum_plan sum;
    mst_node_plan plan;
    size_t parts = 0;
    CHECK_OK(mst_sum_plan_init(lanes, runs, 0, size, &sum));
    CHECK_OK(mst_node_plan_init(&sum, node_of, &plan));
    for (size_t i = 0; i < plan.piece_count; i++) {
        CHECK(plan.pieces[i].first_part == parts, "node piece %zu begins at part %zu", i,
              plan.pieces[i].first_part);
        parts += plan.pieces[i].parts;
        check_node_piece(&sum, &plan, node_of, i);
    }
    CHECK(parts == sum.piece_count, "%zu of %zu pieces are parts", parts, sum.piece_count);
    mst_node_plan_clear(&plan);
    mst_sum_plan_clear(&sum);
}

/* Whoever sends finds who receives: the same rank on both sides, and each of a node's ranks has a share. */
static void check_agents(const int *node_of, int size) {
    for (int other = 0; other < size; other++)
        for (int node = 0; node < 3; node++) {
            bool there = false, met[64] = {false};
            for (int rank = 0; rank < size; rank++) there |= node_of[rank] == node;
            for (size_t turn = 0; there && turn < (size_t)size; turn++) {
                const int agent = mst_node_agent(node_of, size, node, other, turn);
                CHECK(agent >= 0 && agent < size && node_of[agent] == node, "rank %d for node %d", agent,
                      node);
                if (agent >= 0) met[agent] = true;
            }
            for (int rank = 0; rank < size; rank++)
                CHECK(!there || met[rank] == (node_of[rank] == node), "rank %d has no share", rank);
        }
}

static uint32_t random_below(uint32_t bound) {
    static uint64_t number;
    uint32_t bits[4];
    mst_random_bits(5, MST_RANDOM_TEST, number++, 0, bits);
    return bits[0] % bound;
}

/* Ranks on nodes in any order, with runs of any length. */
static void check_random_deal(size_t lanes, int size) {
    mst_lane_run runs[64];
    int node_of[64];
    size_t counts[64] = {0};
    for (int rank = 0; rank < size; rank++) node_of[rank] = rank == 0 ? 0 : (int)random_below(3);
    for (size_t lane = 0; lane < lanes; lane++) counts[random_below((uint32_t)size)]++;
    for (int unequal = 0; unequal < 2; unequal++) {
        CHECK_OK(mst_lanes_deal(lanes, unequal ? counts : NULL, node_of, size, runs));
        check_plan(lanes, runs, size);
        check_nodes(lanes, runs, node_of, size);
    }
    check_agents(node_of, size);
    counts[random_below((uint32_t)size)]++;
    CHECK_STATUS(mst_lanes_deal(lanes, counts, node_of, size, runs), MST_EINVAL);
}

static void check_even_deal(size_t lanes, int size) {
    mst_lane_run runs[64];
    const int one_node[64] = {0};
    CHECK_OK(mst_lanes_deal(lanes, NULL, one_node, size, runs));
    for (int rank = 0; rank < size; rank++) {
        size_t first, count;
        mst_lanes_of(lanes, rank, size, &first, &count);
        CHECK(runs[rank].first == first && runs[rank].count == count, "rank %d of %d begins at lane %zu",
              rank, size, runs[rank].first);
    }
    check_plan(lanes, runs, size);
}

static void check_lanes_of(void) {
    size_t first, count;
    mst_lanes_of(8, 1, 3, &first, &count);
    CHECK(first == 2 && count == 3, "rank 1 of 3 has %zu lanes from %zu of 8", count, first);
    mst_lanes_of(2, 1, 5, &first, &count);
    CHECK(first == 1 && count == 1, "rank 1 of 5 has %zu lanes from %zu of 2", count, first);
    mst_lanes_of(2, 4, 5, &first, &count);
    CHECK(first == 2 && count == 0, "rank 4 of 5 has %zu lanes from %zu of 2", count, first);
}

static double tree(const mst_sum_shape *shape, const double *value, size_t round, size_t first,
                   size_t lanes) {
    if (lanes > 1)
        return tree(shape, value, round, first, lanes / 2) +
               tree(shape, value, round, first + lanes / 2, lanes / 2);
    double sum = 0;
    for (size_t j = 0; j < shape->leaf; j++) sum += value[mst_microbatch_index(shape, round, first, j)];
    return sum;
}

static void check_values(void) {
    static double value[3 * 256 * 2];
    mst_sum_shape shape = {.leaf = 3, .rounds = 2};
    double x = 0.7;
    for (size_t i = 0; i < sizeof value / sizeof *value; i++) {
        x = 3.9 * x * (1 - x); /* chaotic: as good as random, and the same everywhere */
        value[i] = (x - 0.5) * (i % 7 ? 1 : 1e12);
    }
    for (shape.lanes = 1; shape.lanes <= 256; shape.lanes *= 2) {
        double sum = mst_ordered_sum_values(&shape, value);
        double want = tree(&shape, value, 0, 0, shape.lanes) + tree(&shape, value, 1, 0, shape.lanes);
        CHECK(memcmp(&sum, &want, sizeof sum) == 0, "%zu lanes: %a, expected %a", shape.lanes, sum, want);
    }
}

int main(void) {
    check_lanes_of();
    check_values();
    for (size_t lanes = 1; lanes <= MST_LANES_MAX; lanes *= 2)
        for (int size = 1; size <= 64; size++) {
            check_even_deal(lanes, size);
            check_random_deal(lanes, size);
        }
    return test_finish("test_exchange");
}
