/* The ordered sum, whatever the transport: lanes, rounds, the owner's part of the tree, the norm. */
#include <stdlib.h>
#include <string.h>

#include "sharded.h"
#include "stream.h"

/* ---- memory ---- */

size_t mst_exchange_slot_bytes(const mst_exchange *x) {
    return x->layout->blocks * mst_exchange_wire_block(x);
}

size_t mst_exchange_unit_offset(const mst_exchange *x, size_t unit) {
    return x->layout->units[unit].first_block * mst_exchange_wire_block(x);
}

mst_status mst_exchange_alloc(mst_exchange *x, mst_space space, size_t bytes, const char *what,
                              void **memory_out) {
    mst_status status = mst_memory_alloc(space, bytes, memory_out);
    if (status != MST_OK) return mst_error_context(status, "%s of the exchange", what);
    x->bytes += bytes;
    return MST_OK;
}

mst_status mst_exchange_alloc_private(mst_exchange *x) {
    mst_status status = MST_OK;
    const size_t weights = x->layout->blocks * mst_exchange_weight_block(x);
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, x->plan.slots * mst_exchange_slot_bytes(x), "gradients",
                               &x->slots));
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, weights, "weights", &x->weights));
done:
    return status;
}

size_t mst_exchange_received_at(const mst_exchange *x, size_t unit, size_t piece) {
    const size_t foreign = piece < x->plan.first_piece ? piece : piece - x->plan.own_pieces;
    return (foreign * x->owned_blocks + x->owned[unit].offset) * mst_exchange_wire_block(x);
}

const void *mst_exchange_shard_at(const mst_exchange *x, const char *received, size_t unit, size_t piece) {
    if (x->plan.pieces[piece].rank != x->rank) return received + mst_exchange_received_at(x, unit, piece);
    const char *slot = (const char *)x->slots + x->plan.pieces[piece].slot * mst_exchange_slot_bytes(x);
    const size_t first = x->owned[unit].first_block * mst_exchange_wire_block(x);
    return slot + mst_exchange_unit_offset(x, unit) + first;
}

enum { ZERO_BYTES = 1 << 20 }; /* of one task */

typedef struct zero_range {
    char *memory;
    size_t bytes;
} zero_range;

static mst_status zero_task(void *context, size_t task, int thread) {
    (void)thread;
    const zero_range *range = context;
    size_t first = task * ZERO_BYTES, left = range->bytes - first;
    memset(range->memory + first, 0, left < ZERO_BYTES ? left : ZERO_BYTES);
    return MST_OK;
}

mst_status mst_exchange_zero(mst_queue *queue, void *memory, size_t bytes) {
    if (mst_memory_is_apart()) return mst_memory_fill(queue, memory, 0, bytes);
    zero_range range = {.memory = memory, .bytes = bytes};
    return mst_queue_for(queue, (bytes + ZERO_BYTES - 1) / ZERO_BYTES, zero_task, &range);
}

/* ---- creating ---- */

static mst_status check_shape(const mst_sum_shape *shape, mst_dtype weight_dtype) {
    mst_status status = MST_OK;
    size_t lanes = shape->lanes;
    MST_CHECK(lanes >= 1 && lanes <= MST_LANES_MAX && (lanes & (lanes - 1)) == 0, MST_EINVAL,
              "ordered sum: %zu lanes; it must be a power of two from 1 to %d", lanes, MST_LANES_MAX);
    MST_CHECK(shape->leaf >= 1 && shape->rounds >= 1, MST_EINVAL,
              "ordered sum: leaf %zu and rounds %zu; both must be at least 1", shape->leaf, shape->rounds);
    MST_CHECK(shape->wire == MST_F32 || shape->wire == MST_BF16, MST_EINVAL,
              "ordered sum: wire %s; it must be f32 or bf16", mst_dtype_name(shape->wire));
    MST_CHECK(weight_dtype == MST_F32 || weight_dtype == MST_BF16, MST_EINVAL,
              "exchange: weights in %s; it must be f32 or bf16", mst_dtype_name(weight_dtype));
done:
    return status;
}

static mst_status plan_shards(mst_exchange *x) {
    mst_status status = MST_OK;
    size_t units = x->layout->unit_count;
    x->owned = calloc(units, sizeof *x->owned);
    x->unit_done = calloc(units, sizeof *x->unit_done);
    x->norm2_bytes = calloc((size_t)x->size, sizeof *x->norm2_bytes);
    x->norm2_next = calloc((size_t)x->size, sizeof *x->norm2_next);
    x->source = calloc(x->plan.piece_count, sizeof *x->source);
    x->level = calloc(x->plan.piece_count, sizeof *x->level);
    MST_CHECK(x->owned && x->unit_done && x->norm2_bytes && x->norm2_next && x->source && x->level,
              MST_ENOMEM, "creating the exchange: no memory for %zu units", units);
    for (size_t unit = 0; unit < units; unit++) {
        mst_owned *owned = &x->owned[unit];
        mst_shard_range(&x->layout->units[unit], x->rank, x->size, &owned->first_block, &owned->blocks);
        owned->offset = x->owned_blocks;
        x->owned_blocks += owned->blocks;
        for (int rank = 0; rank < x->size; rank++) {
            size_t first, blocks;
            mst_shard_range(&x->layout->units[unit], rank, x->size, &first, &blocks);
            x->norm2_bytes[rank] += blocks * sizeof(double);
        }
    }
    x->sources = x->plan.piece_count;
    for (size_t i = 0; i < x->sources; i++) x->level[i] = x->plan.pieces[i].level;
done:
    return status;
}

static mst_status allocate(mst_exchange *x) {
    mst_status status = MST_OK;
    void *memory;
    x->gradient_is_slot = x->size == 1 && x->shape.wire == MST_F32 && x->shape.rounds == 1;
    if (!x->gradient_is_slot) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, x->owned_blocks * MST_BLOCK * sizeof(float),
                                   "summed gradients", &memory));
        x->gradient = memory;
    }
    if (x->shape.wire != MST_F32 && !x->streams) {
        size_t bytes = x->plan.lane_count > 0 ? x->layout->blocks * MST_BLOCK * sizeof(float) : 0;
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, bytes, "lane sums", &memory));
        x->lane_sum = memory;
    }
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_PINNED, x->owned_blocks * sizeof(double), "norms", &memory));
    x->block_norm2 = memory;
    if (x->rank == 0) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_HOST, x->layout->blocks * sizeof(double), "norms", &memory));
        x->all_norm2 = memory;
    }
done:
    return status;
}

static mst_status plan_lanes(mst_exchange *x, const size_t *counts) {
    mst_status status = MST_OK;
    int *node_of = calloc((size_t)x->size, sizeof *node_of);
    x->runs = calloc((size_t)x->size, sizeof *x->runs);
    MST_CHECK(node_of && x->runs, MST_ENOMEM, "creating the exchange: no memory for %d ranks", x->size);
    for (int rank = 0; rank < x->size; rank++) node_of[rank] = mst_comm_node_of(x->comm, rank);
    MST_TRY(mst_lanes_deal(x->shape.lanes, counts, node_of, x->size, x->runs));
    MST_TRY(mst_sum_plan_init(x->shape.lanes, x->runs, x->rank, x->size, &x->plan));
done:
    free(node_of);
    return status;
}

static mst_status prepare(mst_exchange *x, const size_t *lane_counts) {
    mst_status status = MST_OK;
    MST_TRY(plan_lanes(x, lane_counts));
    x->lane = x->plan.first_lane;
    x->streams = mst_stream_fits(&x->shape, x->runs, x->size);
    MST_TRY(plan_shards(x));
    MST_TRY(allocate(x));
done:
    return status;
}

mst_status mst_exchange_create(mst_comm *comm, mst_transport transport, const mst_sum_shape *shape,
                               const size_t *lane_counts, mst_dtype weight_dtype, const mst_layout *layout,
                               mst_queue *queue, const mst_kernels *kernels, mst_exchange **exchange_out) {
    mst_status status = MST_OK;
    *exchange_out = NULL;
    mst_exchange *x = calloc(1, sizeof *x);
    if (!x) status = mst_error(MST_ENOMEM, "creating the exchange: no memory");
    if (status == MST_OK) status = check_shape(shape, weight_dtype);
    if (status == MST_OK) {
        *x = (mst_exchange){.comm = comm,
                            .layout = layout,
                            .queue = queue,
                            .kernels = kernels,
                            .shape = *shape,
                            .weight_dtype = weight_dtype,
                            .rank = mst_comm_rank(comm),
                            .size = mst_comm_size(comm)};
        status = prepare(x, lane_counts);
    }
    MST_TRY(mst_comm_agree(comm, status));
    MST_TRY(mst_transport_choose(x, transport));
    MST_TRY(x->transport->open(x));
    mst_comm_keep(comm, NULL, NULL); /* what this transport has no use for */
    mst_exchange_keep_moving(x);
    if (x->gradient_is_slot) {
        const mst_piece *root = &x->plan.pieces[0];
        x->gradient = (float *)x->slots + root->slot * x->layout->blocks * MST_BLOCK;
    }
    *exchange_out = x;
done:
    if (status != MST_OK) mst_exchange_destroy(&x);
    return status;
}

void mst_exchange_destroy(mst_exchange **exchange) {
    mst_exchange *x = *exchange;
    if (!x) return;
    mst_exchange_stop_moving(x);
    if (x->transport) x->transport->close(x);
    if (!x->gradient_is_slot) mst_memory_free(MST_SPACE_DEVICE, &x->gradient);
    mst_memory_free(MST_SPACE_DEVICE, &x->lane_sum);
    mst_memory_free(MST_SPACE_PINNED, &x->block_norm2);
    mst_memory_free(MST_SPACE_HOST, &x->all_norm2);
    mst_sum_plan_clear(&x->plan);
    free(x->runs);
    free(x->owned);
    free(x->unit_done);
    free(x->norm2_bytes);
    free(x->norm2_next);
    free(x->source);
    free(x->level);
    free(x);
    *exchange = NULL;
}

void mst_exchange_give_up(mst_exchange *x, mst_comm *rest) {
    if (x->transport->give_up) x->transport->give_up(x, rest);
}

void mst_exchange_lanes(const mst_exchange *x, int rank, size_t *first_out, size_t *count_out) {
    *first_out = x->runs[rank].first;
    *count_out = x->runs[rank].count;
}

bool mst_exchange_shares(const mst_exchange *x) {
    return x->transport == &mst_transport_shm || x->transport == &mst_transport_node;
}
const char *mst_exchange_transport(const mst_exchange *x) {
    return x->transport->name;
}
size_t mst_exchange_bytes(const mst_exchange *x) {
    return x->bytes;
}

void *mst_exchange_weights(mst_exchange *x, size_t unit) {
    size_t first = x->layout->units[unit].first_block * MST_BLOCK;
    return (char *)x->weights + first * mst_dtype_size(x->weight_dtype);
}

void *mst_exchange_own_weights(mst_exchange *x, size_t unit) {
    const mst_owned *owned = &x->owned[unit];
    const size_t block = mst_exchange_weight_block(x);
    if (x->sharded) return (char *)x->weights + owned->offset * block;
    return (char *)mst_exchange_weights(x, unit) + owned->first_block * block;
}

size_t mst_exchange_most_lanes(const mst_exchange *x) {
    size_t most = 0;
    for (int rank = 0; rank < x->size; rank++)
        if (x->runs[rank].count > most) most = x->runs[rank].count;
    return most;
}

/* ---- lanes ---- */

static char *in_slot(const mst_exchange *x, size_t slot, size_t unit) {
    return (char *)x->slots + slot * mst_exchange_slot_bytes(x) + mst_exchange_unit_offset(x, unit);
}

static const mst_lane_plan *current_lane(const mst_exchange *x) {
    return &x->plan.lanes[x->lane - x->plan.first_lane];
}

/* Where the unit's microbatches are added up: a slot when the wire is fp32, else a buffer of its own. */
static float *accumulator(const mst_exchange *x, size_t unit) {
    if (x->stream) return mst_stream_accumulator(x, unit);
    if (x->lane_sum) return x->lane_sum + x->layout->units[unit].first_block * MST_BLOCK;
    return (float *)(void *)in_slot(x, current_lane(x)->slot, unit);
}

static mst_status clear_accumulators(mst_exchange *x, void **gradients_out) {
    for (size_t unit = 0; unit < x->layout->unit_count; unit++) gradients_out[unit] = accumulator(x, unit);
    if (x->stream) return mst_stream_clear(x);
    return mst_exchange_zero(x->queue, accumulator(x, 0), x->layout->blocks * MST_BLOCK * sizeof(float));
}

mst_status mst_exchange_begin_lane(mst_exchange *x, size_t round, size_t lane, void **gradients_out) {
    mst_status status = MST_OK;
    size_t end = x->plan.first_lane + x->plan.lane_count;
    MST_CHECK(round == x->round && lane == x->lane && lane < end && !x->lane_begun, MST_EINVAL,
              "beginning lane %zu of round %zu: lane %zu of round %zu %s (this rank has lanes %zu to %zu)",
              lane, round, x->lane, x->round, x->lane_begun ? "is not complete" : "comes next",
              x->plan.first_lane, end);
    if (lane == x->plan.first_lane) MST_TRY(x->transport->begin_round(x));
    MST_TRY(clear_accumulators(x, gradients_out));
    memset(x->unit_done, 0, x->layout->unit_count * sizeof *x->unit_done);
    x->units_left = x->layout->unit_count;
    x->lane_begun = true;
done:
    return status;
}

mst_status mst_exchange_clear_lane(mst_exchange *x, void **gradients_out) {
    mst_status status = MST_OK;
    MST_CHECK(x->plan.lane_count > 0 && !x->lane_begun && x->lane == x->plan.first_lane && x->round == 0,
              MST_EINVAL, "clearing the accumulators: a step is at work, or this rank has no lanes");
    MST_TRY(clear_accumulators(x, gradients_out));
done:
    return status;
}

mst_status mst_exchange_nothing(mst_exchange *x) {
    (void)x;
    return MST_OK;
}

mst_status mst_exchange_send_nothing(mst_exchange *x, size_t unit, size_t piece) {
    (void)x, (void)unit, (void)piece;
    return MST_OK;
}

mst_status mst_exchange_round_unit(mst_exchange *x, size_t unit, const void *source, void *result) {
    uint8_t level = 0;
    mst_ordered_sum_args args = {
        .count = x->layout->units[unit].blocks * MST_BLOCK,
        .sources = 1,
        .source = &source,
        .level = &level,
        .source_dtype = MST_F32,
        .wire = x->shape.wire,
        .result = result,
        .result_dtype = x->shape.wire,
    };
    return x->kernels->ordered_sum(x->queue, &args);
}

/* The lane's sum of one unit, rounded to the wire, goes into the lane's slot.
 * With an fp32 wire it stands there already. */
static mst_status round_to_wire(mst_exchange *x, const mst_lane_plan *lane, size_t unit) {
    if (!x->lane_sum) return MST_OK;
    return mst_exchange_round_unit(x, unit, accumulator(x, unit), in_slot(x, lane->slot, unit));
}

/* Adds the subtrees that waited for this lane: one pass over all of them. */
static mst_status combine(mst_exchange *x, const mst_lane_plan *lane, size_t unit) {
    if (lane->sources == 1) return MST_OK;
    const void *source[MST_LEVELS_MAX];
    for (size_t i = 0; i < lane->sources; i++) source[i] = in_slot(x, lane->source[i], unit);
    mst_ordered_sum_args args = {
        .count = x->layout->units[unit].blocks * MST_BLOCK,
        .sources = lane->sources,
        .source = source,
        .level = lane->level,
        .source_dtype = x->shape.wire,
        .wire = x->shape.wire,
        .result = in_slot(x, lane->source[0], unit),
        .result_dtype = x->shape.wire,
    };
    return x->kernels->ordered_sum(x->queue, &args);
}

mst_status mst_exchange_unit_done(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    MST_CHECK(x->lane_begun && unit < x->layout->unit_count && !x->unit_done[unit], MST_EINVAL,
              "gradient of unit %zu is complete: %s", unit,
              !x->lane_begun                 ? "no lane was begun"
              : unit < x->layout->unit_count ? "it was before, in the same lane"
                                             : "there is no such unit");
    const mst_lane_plan *lane = current_lane(x);
    MST_TRY(round_to_wire(x, lane, unit));
    MST_TRY(combine(x, lane, unit));
    if (lane->piece != MST_NO_PIECE)
        MST_TRY(x->transport->send(x, unit, x->plan.first_piece + (size_t)lane->piece));
    x->unit_done[unit] = true;
    if (--x->units_left == 0) {
        x->lane_begun = false;
        x->lane++;
    }
done:
    return status;
}

/* ---- rounds ---- */

/* Whether this rank has done all of the round, so that the others need not wait for what never comes. */
static mst_status check_complete(mst_exchange *x, size_t round) {
    mst_status status = MST_OK;
    size_t end = x->plan.first_lane + x->plan.lane_count;
    MST_CHECK(round == x->round, MST_EINVAL, "ending round %zu of the ordered sum: this is round %zu", round,
              x->round);
    MST_CHECK(x->lane == end, MST_EINVAL,
              "ending round %zu of the ordered sum: lane %zu is not complete, %zu units miss", round, x->lane,
              x->lane_begun ? x->units_left : x->layout->unit_count);
    if (x->plan.lane_count == 0) MST_TRY(x->transport->begin_round(x));
    MST_TRY(x->transport->fence(x));
done:
    return status;
}

mst_status mst_exchange_finish_unit(mst_exchange *x, size_t unit) {
    const mst_owned *owned = &x->owned[unit];
    if (owned->blocks == 0) return MST_OK;
    for (size_t i = 0; i < x->sources; i++) x->source[i] = x->transport->shard(x, unit, i);
    mst_ordered_sum_args args = {
        .count = owned->blocks * MST_BLOCK,
        .sources = x->sources,
        .source = x->source,
        .level = x->level,
        .source_dtype = x->shape.wire,
        .wire = x->shape.wire,
        .result = x->gradient + owned->offset * MST_BLOCK,
        .result_dtype = MST_F32,
        .accumulate = x->round > 0,
        .block_norm2 = x->round + 1 == x->shape.rounds ? x->block_norm2 + owned->offset : NULL,
    };
    return x->kernels->ordered_sum(x->queue, &args);
}

static mst_status finish(mst_exchange *x) {
    mst_status status = MST_OK;
    MST_TRY(x->transport->receive(x));
    for (size_t unit = 0; unit < x->layout->unit_count && !x->stream; unit++)
        MST_TRY(mst_exchange_finish_unit(x, unit));
    /* Norms are for the CPU, and what MPI received may be overwritten; all else follows the queue's work. */
    const bool overwrites = x->transport->by_mpi && !x->stream;
    if (overwrites || x->round + 1 == x->shape.rounds) MST_TRY(mst_queue_sync(x->queue));
    MST_TRY(x->transport->fence(x));
done:
    return status;
}

mst_status mst_exchange_end_round(mst_exchange *x, size_t round) {
    mst_status status = MST_OK, mine = mst_exchange_end_pass(x);
    if (mine == MST_OK) mine = check_complete(x, round);
    MST_TRY(mst_comm_agree(x->comm, mine));      /* all has been sent */
    MST_TRY(mst_comm_agree(x->comm, finish(x))); /* all has been read: slots are free again */
    x->round = (round + 1) % x->shape.rounds;
    x->lane = x->plan.first_lane;
done:
    return status;
}

const float *mst_exchange_gradient(const mst_exchange *x, size_t unit) {
    return x->gradient + x->owned[unit].offset * MST_BLOCK;
}

/* ---- after the last round ---- */

/* Adds all blocks' sums of squares in the order of blocks. They stand in the order of (rank, unit, block). */
static double add_norms(mst_exchange *x) {
    double norm2 = 0;
    size_t before = 0;
    for (int rank = 0; rank < x->size; rank++) {
        x->norm2_next[rank] = before;
        before += x->norm2_bytes[rank] / sizeof(double);
    }
    for (size_t unit = 0; unit < x->layout->unit_count; unit++)
        for (int rank = 0; rank < x->size; rank++) {
            size_t first, blocks;
            mst_shard_range(&x->layout->units[unit], rank, x->size, &first, &blocks);
            for (size_t i = 0; i < blocks; i++) norm2 += x->all_norm2[x->norm2_next[rank]++];
        }
    return norm2;
}

mst_status mst_exchange_norm2(mst_exchange *x, double *norm2_out) {
    mst_status status = MST_OK;
    MST_TRY(mst_comm_gather(x->comm, x->block_norm2, x->norm2_bytes, x->all_norm2));
    if (x->rank == 0) *norm2_out = add_norms(x);
    MST_TRY(mst_comm_broadcast(x->comm, 0, norm2_out, sizeof *norm2_out));
done:
    return status;
}

mst_status mst_exchange_publish(mst_exchange *x) {
    return x->transport->publish(x);
}
