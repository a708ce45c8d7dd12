/* What an exchange would take: the same plans as in exchange.c and the transports, without memory or messages. */
#include "muster/forecast.h"

#include <stdlib.h>

#include "node_plan.h"
#include "sharded.h"
#include "stream.h"
#include "window.h"

int mst_placement_first(mst_placement p, int node) {
    return (int)((int64_t)p.ranks * node / p.nodes);
}

/* The largest n with ranks * n / nodes <= rank. */
int mst_placement_node(mst_placement p, int rank) {
    return (int)((((int64_t)rank + 1) * p.nodes - 1) / p.ranks);
}

static size_t owned_blocks_of(const mst_layout *layout, int rank, int size) {
    size_t first, blocks, sum = 0;
    for (size_t unit = 0; unit < layout->unit_count; unit++) {
        mst_shard_range(&layout->units[unit], rank, size, &first, &blocks);
        sum += blocks;
    }
    return sum;
}

/* What nodes sum inside and send each other. */
static mst_status plan_nodes(const mst_sum_plan *sum, mst_placement p, mst_node_plan *plan_out) {
    mst_status status = MST_OK;
    int *nodes = calloc((size_t)p.ranks, sizeof *nodes);
    MST_CHECK(nodes, MST_ENOMEM, "forecast: no memory for %d ranks", p.ranks);
    for (int rank = 0; rank < p.ranks; rank++) nodes[rank] = mst_placement_node(p, rank);
    MST_TRY(mst_node_plan_init(sum, nodes, plan_out));
done:
    free(nodes);
    return status;
}

/* ---- memory ---- */

/* Whether each rank sends its pieces to their owners, and its weights to all. */
static bool sends(mst_transport transport) {
    return transport == MST_TRANSPORT_MPI || transport == MST_TRANSPORT_NCCL;
}

/* The requests of the mpi transport. */
static void add_requests(const mst_sum_plan *plan, const mst_layout *layout, int size,
                         mst_exchange_memory *m) {
    const size_t foreign = plan->piece_count - plan->own_pieces, ranks = (size_t)size;
    m->other += layout->unit_count * plan->own_pieces * ranks * sizeof(MPI_Request);
    m->other += layout->unit_count * foreign * sizeof(MPI_Request) + 2 * ranks * sizeof(int);
}

/* Own blocks of the weights, and room for those that a pass gathers. */
static mst_status place_sharded_weights(const mst_layout *layout, size_t owned, size_t block_bytes,
                                        mst_exchange_memory *m) {
    mst_status status = MST_OK;
    mst_pass_program program = {0};
    MST_TRY(mst_pass_program_init(layout, false, &program));
    m->weights = owned * block_bytes;
    for (size_t i = 0; i < MST_GATHER_PLACES; i++) m->weights += program.blocks[i] * block_bytes;
done:
    mst_pass_program_clear(&program);
    return status;
}

/* What streaming allocates for gradients on their way, and nothing else for gradients but the sum.
 * @param by_mpi with requests, and copies where the device's memory is apart */
static void add_stream(const mst_sum_plan *plan, const mst_layout *layout, const mst_sum_shape *shape,
                       int rank, int size, bool by_mpi, bool apart, mst_exchange_memory *m) {
    const mst_stream_blocks b = mst_stream_blocks_of(layout, rank, size);
    const size_t foreign = plan->piece_count - plan->own_pieces, ranks = (size_t)size;
    const size_t wire = MST_BLOCK * mst_dtype_size(shape->wire);
    m->slots = 0;
    m->partial = 0;
    if (plan->own_pieces > 0) {
        m->partial = (b.sums[0] + b.sums[1] + b.table) * MST_BLOCK * sizeof(float);
        if (shape->wire != MST_F32) m->partial += (b.wire[0] + b.wire[1]) * wire;
        if (by_mpi && apart) m->copies += (b.wire[0] + b.wire[1]) * wire;
    }
    m->received = foreign * (b.owned[0] + b.owned[1]) * wire;
    if (by_mpi)
        m->other += 2 * (foreign + plan->own_pieces * ranks) * sizeof(MPI_Request) + 2 * ranks * sizeof(int);
}

static mst_status stream_fits(const mst_sum_shape *shape, int size, bool *fits_out) {
    mst_status status = MST_OK;
    mst_lane_run *runs = calloc((size_t)size, sizeof *runs);
    MST_CHECK(runs, MST_ENOMEM, "forecast: no memory for %d ranks", size);
    for (int rank = 0; rank < size; rank++)
        mst_lanes_of(shape->lanes, rank, size, &runs[rank].first, &runs[rank].count);
    *fits_out = mst_stream_fits(shape, runs, size);
done:
    free(runs);
    return status;
}

/* As mst_node_agent, for nodes whose ranks follow each other. */
static int agent(mst_placement p, int node, int other, size_t turn) {
    const int first = mst_placement_first(p, node), ranks = mst_placement_first(p, node + 1) - first;
    const size_t before = (size_t)(other < first ? other : other - ranks);
    return first + (int)((before + turn) % (size_t)ranks);
}

/* Blocks of its node's sums that a rank adds for owners elsewhere, and the messages that it sends for it. */
static void count_partials(const mst_node_plan *plan, const mst_layout *layout, mst_placement p, int rank,
                           size_t *blocks_out, size_t *messages_out) {
    const int node = mst_placement_node(p, rank);
    for (size_t unit = 0; unit < layout->unit_count; unit++)
        for (size_t i = 0; i < plan->piece_count; i++) {
            const mst_node_piece *piece = &plan->pieces[i];
            for (int to = 0; piece->node == node && to < p.ranks; to++) {
                size_t first, blocks;
                mst_shard_range(&layout->units[unit], to, p.ranks, &first, &blocks);
                if (mst_placement_node(p, to) == node || blocks == 0 ||
                    agent(p, node, to, unit + piece->number) != rank)
                    continue;
                ++*messages_out;
                if (piece->parts > 1) *blocks_out += blocks;
            }
        }
}

/* What the node transport allocates beside slots and weights. */
static mst_status add_node(const mst_sum_plan *sum, const mst_layout *layout, size_t block_bytes,
                           size_t owned, mst_placement p, int rank, mst_exchange_memory *m) {
    mst_status status = MST_OK;
    mst_node_plan plan = {0};
    size_t foreign = 0, blocks = 0, messages = 0;
    MST_TRY(plan_nodes(sum, p, &plan));
    for (size_t i = 0; i < plan.piece_count; i++)
        foreign += plan.pieces[i].node != mst_placement_node(p, rank);
    count_partials(&plan, layout, p, rank, &blocks, &messages);
    m->partial += blocks * block_bytes;
    m->received = foreign * owned * block_bytes;
    m->other +=
        (messages + layout->unit_count * (foreign + (size_t)p.nodes + (size_t)p.ranks)) * sizeof(MPI_Request);
done:
    mst_node_plan_clear(&plan);
    return status;
}

mst_status mst_exchange_memory_of(mst_transport transport, const mst_sum_shape *shape, mst_dtype weight_dtype,
                                  const mst_layout *layout, mst_placement place, int rank, bool apart,
                                  mst_exchange_memory *memory_out) {
    mst_status status = MST_OK;
    mst_sum_plan plan = {0};
    const int size = place.ranks;
    bool streams = false;
    const bool alone = size == 1, sharded = !alone && shape->sharding == MST_SHARDING_ALL,
               shares = mst_transport_shares(transport);
    const size_t owned = owned_blocks_of(layout, rank, size), wire = mst_dtype_size(shape->wire);
    const size_t weights = layout->blocks * MST_BLOCK * mst_dtype_size(weight_dtype);
    mst_exchange_memory m = {0};
    MST_CHECK(transport != MST_TRANSPORT_AUTO || alone, MST_EINVAL, "forecast: transport auto is none yet");
    MST_TRY(mst_sum_plan_init_even(shape->lanes, rank, size, &plan));
    MST_TRY(stream_fits(shape, size, &streams));
    m.slots = plan.slots;
    m.partial = plan.slots * layout->blocks * MST_BLOCK * wire;
    m.weights = weights;
    m.other = owned * sizeof(double) + (rank == 0 ? layout->blocks * sizeof(double) : 0);
    if (!(alone && shape->wire == MST_F32 && shape->rounds == 1))
        m.summed = owned * MST_BLOCK * sizeof(float);
    if (!alone && shares) {
        m.weights = rank == mst_placement_first(place, mst_placement_node(place, rank)) ? weights : 0;
        m.other += mst_window_bytes(layout, m.weights, m.partial) - m.weights - m.partial;
    }
    if (sharded) MST_TRY(place_sharded_weights(layout, owned, MST_BLOCK * mst_dtype_size(weight_dtype), &m));
    if (apart && !alone && transport == MST_TRANSPORT_MPI) m.copies = m.weights;
    if (streams)
        add_stream(&plan, layout, shape, rank, size, transport == MST_TRANSPORT_MPI, apart, &m);
    else if (!alone && transport == MST_TRANSPORT_MPI && apart)
        m.copies += m.partial;
    if (!streams && !alone && sends(transport))
        m.received = (plan.piece_count - plan.own_pieces) * owned * MST_BLOCK * wire;
    if (!streams && !alone && transport == MST_TRANSPORT_MPI) add_requests(&plan, layout, size, &m);
    if (!alone && transport == MST_TRANSPORT_NODE && place.nodes > 1)
        MST_TRY(add_node(&plan, layout, MST_BLOCK * wire, owned, place, rank, &m));
    if (shape->wire != MST_F32 && plan.lane_count > 0 && !streams)
        m.partial += layout->blocks * MST_BLOCK * sizeof(float);
    *memory_out = m;
done:
    mst_sum_plan_clear(&plan);
    return status;
}

mst_status mst_gathered_blocks_of(const mst_layout *layout, size_t *blocks_out) {
    mst_status status = MST_OK;
    mst_pass_program program = {0};
    *blocks_out = 0;
    MST_TRY(mst_pass_program_init(layout, false, &program));
    for (size_t i = 0; i < program.count; i++) *blocks_out += layout->units[program.events[i].unit].blocks;
done:
    mst_pass_program_clear(&program);
    return status;
}

/* ---- traffic ---- */

typedef struct counter {
    const mst_sum_shape *shape;
    const mst_layout *layout;
    mst_traffic *traffic;
    mst_placement place;
    size_t *owned;  /* [units][nodes] blocks */
    size_t *owners; /* [units][nodes] ranks that have some */
} counter;

static mst_status count_owners(counter *c) {
    mst_status status = MST_OK;
    const size_t nodes = c->traffic->nodes, cells = c->layout->unit_count * nodes;
    c->owned = calloc(cells, sizeof *c->owned);
    c->owners = calloc(cells, sizeof *c->owners);
    MST_CHECK(c->owned && c->owners, MST_ENOMEM, "forecast: no memory for %zu nodes", nodes);
    for (size_t unit = 0; unit < c->layout->unit_count; unit++)
        for (int rank = 0; rank < c->place.ranks; rank++) {
            size_t first, blocks;
            const size_t cell = unit * nodes + (size_t)mst_placement_node(c->place, rank);
            mst_shard_range(&c->layout->units[unit], rank, c->place.ranks, &first, &blocks);
            c->owned[cell] += blocks;
            c->owners[cell] += blocks > 0;
        }
done:
    return status;
}

/* A sum of node `from`, complete when its ranks are with lane number `lane` of theirs, goes to all owners elsewhere. */
static void add_sum(counter *c, int from, size_t lane) {
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

/* The lane of its rank, counted from 0, that completes a piece. */
static size_t completed_by(const counter *c, const mst_piece *piece) {
    size_t first, count;
    mst_lanes_of(c->shape->lanes, piece->rank, c->place.ranks, &first, &count);
    return piece->first_lane + ((size_t)1 << piece->level) - 1 - first;
}

static mst_status add_rounds(counter *c, mst_transport transport) {
    mst_status status = MST_OK;
    mst_sum_plan plan = {0};
    mst_node_plan nodes = {0};
    MST_TRY(mst_sum_plan_init_even(c->shape->lanes, 0, c->place.ranks, &plan));
    if (sends(transport))
        for (size_t i = 0; i < plan.piece_count; i++)
            add_sum(c, mst_placement_node(c->place, plan.pieces[i].rank), completed_by(c, &plan.pieces[i]));
    else
        MST_TRY(plan_nodes(&plan, c->place, &nodes));
    for (size_t i = 0; i < nodes.piece_count; i++) {
        size_t last = 0;
        for (size_t p = 0; p < nodes.pieces[i].parts; p++) {
            const size_t lane = completed_by(c, &plan.pieces[nodes.pieces[i].first_part + p]);
            if (lane > last) last = lane;
        }
        add_sum(c, nodes.pieces[i].node, last);
    }
done:
    mst_sum_plan_clear(&plan);
    mst_node_plan_clear(&nodes);
    return status;
}

/* mpi, nccl: weights go round in a ring of ranks: each passes on every shard but that of the rank that follows it. */
static void add_ring(counter *c, double block) {
    const int ranks = c->place.ranks;
    for (int rank = 0; rank < ranks; rank++) {
        const int next = (rank + 1) % ranks, from = mst_placement_node(c->place, rank),
                  to = mst_placement_node(c->place, next);
        if (from == to) continue;
        const double bytes = (double)(c->layout->blocks - owned_blocks_of(c->layout, next, ranks)) * block;
        c->traffic->publish[from].out += bytes;
        c->traffic->publish[from].messages += (double)(ranks - 1) * (double)c->layout->unit_count;
        c->traffic->publish[to].in += bytes;
    }
    c->traffic->publish_hops = (double)(ranks - 1) * (double)c->layout->unit_count;
}

/* node: each owner's weights go once to every other node, all at the same time. */
static void add_copies(counter *c, double block) {
    const mst_traffic *t = c->traffic;
    for (size_t node = 0; node < t->nodes; node++) {
        mst_link_load *load = &t->publish[node];
        for (size_t unit = 0; unit < t->units; unit++)
            for (size_t other = 0; other < t->nodes; other++) {
                const size_t cell = unit * t->nodes;
                if (other == node) continue;
                load->out += (double)c->owned[cell + node] * block;
                load->in += (double)c->owned[cell + other] * block;
                load->messages += (double)c->owners[cell + node];
            }
    }
    c->traffic->publish_hops = 1;
}

static size_t most_lanes(size_t lanes, int ranks) {
    size_t first, count, most = 0;
    for (int rank = 0; rank < ranks; rank++) {
        mst_lanes_of(lanes, rank, ranks, &first, &count);
        if (count > most) most = count;
    }
    return most;
}

mst_status mst_traffic_of(mst_transport transport, const mst_sum_shape *shape, mst_dtype weight_dtype,
                          const mst_layout *layout, mst_placement place, mst_traffic *traffic_out) {
    mst_status status = MST_OK;
    const double block = (double)(MST_BLOCK * mst_dtype_size(weight_dtype));
    mst_traffic t = {.nodes = (size_t)place.nodes,
                     .units = layout->unit_count,
                     .lanes = most_lanes(shape->lanes, place.ranks)};
    counter c = {.shape = shape, .layout = layout, .traffic = &t, .place = place};
    t.round = calloc(t.nodes * t.lanes * t.units, sizeof *t.round);
    t.publish = calloc(t.nodes, sizeof *t.publish);
    MST_CHECK(t.round && t.publish, MST_ENOMEM, "forecast: no memory for %zu nodes", t.nodes);
    MST_TRY(count_owners(&c));
    if (place.nodes > 1) {
        MST_TRY(add_rounds(&c, transport));
        if (sends(transport))
            add_ring(&c, block);
        else
            add_copies(&c, block);
    }
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
