/* What an exchange would take: the same plans as in exchange.c and the transports, without memory or messages. */
#include "muster/forecast.h"

#include <stdlib.h>

#include "plan.h"
#include "window.h"

static size_t owned_blocks_of(const mst_layout *layout, int rank, int size) {
    size_t first, blocks, sum = 0;
    for (size_t unit = 0; unit < layout->unit_count; unit++) {
        mst_shard_range(&layout->units[unit], rank, size, &first, &blocks);
        sum += blocks;
    }
    return sum;
}

/* ---- memory ---- */

/* What the transports of ranks that share no memory allocate beside slots and weights. */
static void add_messages(const mst_sum_plan *plan, const mst_layout *layout, size_t block_bytes, size_t owned,
                         int size, mst_exchange_memory *m) {
    const size_t foreign = plan->piece_count - plan->own_pieces, ranks = (size_t)size;
    m->received = foreign * owned * block_bytes;
    m->other += layout->unit_count * plan->own_pieces * ranks * sizeof(MPI_Request);
    m->other += layout->unit_count * foreign * sizeof(MPI_Request) + 2 * ranks * sizeof(int);
}

mst_status mst_exchange_memory_of(mst_transport transport, const mst_sum_shape *shape, mst_dtype weight_dtype,
                                  const mst_layout *layout, int rank, int size,
                                  mst_exchange_memory *memory_out) {
    mst_status status = MST_OK;
    mst_sum_plan plan = {0};
    const bool alone = size == 1;
    const size_t owned = owned_blocks_of(layout, rank, size), wire = mst_dtype_size(shape->wire);
    const size_t weights = layout->blocks * MST_BLOCK * mst_dtype_size(weight_dtype);
    mst_exchange_memory m = {0};
    MST_CHECK(transport != MST_TRANSPORT_AUTO || alone, MST_EINVAL, "forecast: transport auto is none yet");
    MST_TRY(mst_sum_plan_init_even(shape->lanes, rank, size, &plan));
    m.slots = plan.slots;
    m.partial = plan.slots * layout->blocks * MST_BLOCK * wire;
    m.other = owned * sizeof(double) + (rank == 0 ? layout->blocks * sizeof(double) : 0);
    if (!(alone && shape->wire == MST_F32 && shape->rounds == 1))
        m.summed = owned * MST_BLOCK * sizeof(float);
    if (!alone && transport == MST_TRANSPORT_SHM) {
        const size_t kept = rank == 0 ? weights : 0;
        m.weights = kept;
        m.other += mst_window_bytes(layout, kept, m.partial) - kept - m.partial;
    } else {
        m.weights = weights;
        if (!alone) add_messages(&plan, layout, MST_BLOCK * wire, owned, size, &m);
    }
    if (shape->wire != MST_F32 && plan.lane_count > 0)
        m.partial += layout->blocks * MST_BLOCK * sizeof(float);
    *memory_out = m;
done:
    mst_sum_plan_clear(&plan);
    return status;
}

/* ---- traffic ---- */

static int node_of(int rank, int ranks, int nodes) {
    /* the largest n with ranks * n / nodes <= rank */
    return (int)((((int64_t)rank + 1) * nodes - 1) / ranks);
}

typedef struct counter {
    const mst_sum_shape *shape;
    const mst_layout *layout;
    mst_traffic *traffic;
    int ranks, nodes;
    size_t *owned;  /* [units][nodes] blocks */
    size_t *owners; /* [units][nodes] ranks that have some */
} counter;

static mst_status count_owners(counter *c) {
    mst_status status = MST_OK;
    const size_t cells = c->layout->unit_count * (size_t)c->nodes;
    c->owned = calloc(cells, sizeof *c->owned);
    c->owners = calloc(cells, sizeof *c->owners);
    MST_CHECK(c->owned && c->owners, MST_ENOMEM, "forecast: no memory for %d nodes", c->nodes);
    for (size_t unit = 0; unit < c->layout->unit_count; unit++)
        for (int rank = 0; rank < c->ranks; rank++) {
            size_t first, blocks;
            const size_t cell = unit * (size_t)c->nodes + (size_t)node_of(rank, c->ranks, c->nodes);
            mst_shard_range(&c->layout->units[unit], rank, c->ranks, &first, &blocks);
            c->owned[cell] += blocks;
            c->owners[cell] += blocks > 0;
        }
done:
    return status;
}

/* One piece of a rank on node `from`, complete with the rank's lane number `lane`, goes to all owners elsewhere. */
static void add_piece(counter *c, int from, size_t lane) {
    const double block = (double)(MST_BLOCK * mst_dtype_size(c->shape->wire));
    const mst_traffic *t = c->traffic;
    for (size_t unit = 0; unit < t->units; unit++)
        for (size_t to = 0; to < t->nodes; to++) {
            const size_t cell = unit * t->nodes + to;
            if (to == (size_t)from || c->owned[cell] == 0) continue;
            mst_link_load *out = &t->round[((size_t)from * t->lanes + lane) * t->units + unit];
            mst_link_load *in = &t->round[(to * t->lanes + lane) * t->units + unit];
            out->out += (double)c->owned[cell] * block;
            out->messages += (double)c->owners[cell];
            in->in += (double)c->owned[cell] * block;
        }
}

static mst_status add_rounds(counter *c) {
    mst_status status = MST_OK;
    mst_sum_plan plan = {0};
    for (int rank = 0; rank < c->ranks; rank++) {
        MST_TRY(mst_sum_plan_init_even(c->shape->lanes, rank, c->ranks, &plan));
        for (size_t lane = 0; lane < plan.lane_count; lane++)
            if (plan.lanes[lane].piece != MST_NO_PIECE) add_piece(c, node_of(rank, c->ranks, c->nodes), lane);
        mst_sum_plan_clear(&plan);
    }
done:
    mst_sum_plan_clear(&plan);
    return status;
}

/* Weights go round in a ring of ranks: each rank passes on every shard but that of the rank that follows it. */
static void add_publish(counter *c, mst_dtype weight_dtype) {
    const double block = (double)(MST_BLOCK * mst_dtype_size(weight_dtype));
    const int ranks = c->ranks;
    for (int rank = 0; rank < ranks && c->nodes > 1; rank++) {
        const int next = (rank + 1) % ranks;
        const int from = node_of(rank, ranks, c->nodes), to = node_of(next, ranks, c->nodes);
        if (from == to) continue;
        const double bytes = (double)(c->layout->blocks - owned_blocks_of(c->layout, next, ranks)) * block;
        c->traffic->publish[from].out += bytes;
        c->traffic->publish[from].messages += (double)(ranks - 1) * (double)c->layout->unit_count;
        c->traffic->publish[to].in += bytes;
    }
}

static size_t most_lanes(size_t lanes, int ranks) {
    size_t first, count, most = 0;
    for (int rank = 0; rank < ranks; rank++) {
        mst_lanes_of(lanes, rank, ranks, &first, &count);
        if (count > most) most = count;
    }
    return most;
}

mst_status mst_traffic_of(const mst_sum_shape *shape, mst_dtype weight_dtype, const mst_layout *layout,
                          int ranks, int nodes, mst_traffic *traffic_out) {
    mst_status status = MST_OK;
    mst_traffic t = {
        .nodes = (size_t)nodes, .units = layout->unit_count, .lanes = most_lanes(shape->lanes, ranks)};
    counter c = {.shape = shape, .layout = layout, .traffic = &t, .ranks = ranks, .nodes = nodes};
    t.round = calloc(t.nodes * t.lanes * t.units, sizeof *t.round);
    t.publish = calloc(t.nodes, sizeof *t.publish);
    MST_CHECK(t.round && t.publish, MST_ENOMEM, "forecast: no memory for %d nodes", nodes);
    MST_TRY(count_owners(&c));
    if (nodes > 1) MST_TRY(add_rounds(&c));
    add_publish(&c, weight_dtype);
    *traffic_out = t;
    t = (mst_traffic){0};
done:
    free(c.owned);
    free(c.owners);
    mst_traffic_clear(&t);
    return status;
}

void mst_traffic_clear(mst_traffic *traffic) {
    free(traffic->round);
    free(traffic->publish);
    *traffic = (mst_traffic){0};
}
