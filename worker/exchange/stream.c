#include "stream.h"

#include <stdint.h>
#include <stdlib.h>

#include "muster/transfer.h"
#include "sharded.h"

/* What a unit's gradient passes through. Units take two of them in turn: one is being computed, one is on its way. */
typedef struct buffer {
    float *sum;     /* of the microbatch, on the device */
    char *wire;     /* rounded to the wire type; NULL: the wire is fp32, the sum itself leaves */
    char *received; /* wire type, [foreign pieces][owned blocks of the largest unit] */
    bool travels;   /* a unit's gradient is on its way */
    mst_mark *ready; /* behind the copy that leaves; NULL, as the next: MPI needs no copies */
    mst_mark *added; /* behind the sum of what was received */
} buffer;

struct mst_stream {
    mst_stream_blocks blocks;
    buffer buffers[2];
    mst_space receives; /* where `received` is */
    float *
        table; /* the embedding's gradient where it also is the head: it grows from the pass's begin to its end */
    size_t pending;     /* the unit on its way; SIZE_MAX: none */
    bool stands_by;     /* this rank failed: it computes no more, but takes part in what travels */
    mst_status failure; /* of its part of the sums */
    /* A unit's copy leaves, by MPI, when the work of the next has been queued: the device has some while the host waits. */
    bool leaves_late;
};

bool mst_stream_fits(const mst_sum_shape *shape, const mst_lane_run *runs, int size) {
    bool fits = size > 1 && shape->sharding == MST_SHARDING_ALL && shape->leaf == 1;
    for (int rank = 0; rank < size; rank++) fits = fits && runs[rank].count <= 1;
    return fits;
}

size_t mst_stream_turn(const mst_layout *layout, size_t unit) {
    return (layout->unit_count - 1 - unit) % 2;
}

static size_t max_of(size_t a, size_t b) {
    return a > b ? a : b;
}

mst_stream_blocks mst_stream_blocks_of(const mst_layout *layout, int rank, int size) {
    mst_stream_blocks b = {.table = layout->tied ? layout->units[0].blocks : 0};
    for (size_t unit = 0; unit < layout->unit_count; unit++) {
        const size_t turn = mst_stream_turn(layout, unit), blocks = layout->units[unit].blocks;
        size_t first, owned;
        mst_shard_range(&layout->units[unit], rank, size, &first, &owned);
        if (unit > 0 || !layout->tied) b.sums[turn] = max_of(b.sums[turn], blocks);
        b.wire[turn] = max_of(b.wire[turn], blocks);
        b.owned[turn] = max_of(b.owned[turn], owned);
    }
    return b;
}

static buffer *buffer_of(const mst_exchange *x, size_t unit) {
    return &x->stream->buffers[mst_stream_turn(x->layout, unit)];
}

float *mst_stream_accumulator(const mst_exchange *x, size_t unit) {
    return unit == 0 && x->stream->table ? x->stream->table : buffer_of(x, unit)->sum;
}

static char *wire_of(const mst_exchange *x, size_t unit) {
    char *wire = buffer_of(x, unit)->wire;
    return wire ? wire : (char *)mst_stream_accumulator(x, unit);
}

const char *mst_stream_leaving(const mst_exchange *x, size_t unit) {
    return wire_of(x, unit);
}

char *mst_stream_received_at(const mst_exchange *x, size_t unit, size_t piece) {
    const size_t foreign = piece < x->plan.first_piece ? piece : piece - x->plan.own_pieces;
    const size_t owned = x->stream->blocks.owned[mst_stream_turn(x->layout, unit)];
    return buffer_of(x, unit)->received + foreign * owned * mst_exchange_wire_block(x);
}

const void *mst_stream_shard(const mst_exchange *x, size_t unit, size_t piece) {
    if (x->plan.pieces[piece].rank != x->rank) return mst_stream_received_at(x, unit, piece);
    return wire_of(x, unit) + x->owned[unit].first_block * mst_exchange_wire_block(x);
}

/* ---- life ---- */

static mst_status allocate_buffer(mst_exchange *x, size_t turn) {
    mst_status status = MST_OK;
    const mst_stream *s = x->stream;
    const mst_stream_blocks *blocks = &s->blocks;
    buffer *b = &x->stream->buffers[turn];
    const size_t foreign = x->plan.piece_count - x->plan.own_pieces, wire = mst_exchange_wire_block(x);
    const bool computes = x->plan.own_pieces > 0;
    void *memory;
    if (computes) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, blocks->sums[turn] * MST_BLOCK * sizeof(float),
                                   "gradients of a unit", &memory));
        b->sum = memory;
    }
    if (computes && x->shape.wire != MST_F32) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, blocks->wire[turn] * wire,
                                   "rounded gradients of a unit", &memory));
        b->wire = memory;
    }
    MST_TRY(mst_exchange_alloc(x, s->receives, foreign * blocks->owned[turn] * wire,
                               "received gradients of a unit", &memory));
    b->received = memory;
    if (s->leaves_late) {
        MST_TRY(mst_mark_create(x->queue, &b->ready));
        MST_TRY(mst_mark_create(x->queue, &b->added));
    }
done:
    return status;
}

mst_status mst_stream_open(mst_exchange *x) {
    mst_status status = MST_OK;
    void *memory;
    mst_stream *s = x->stream = calloc(1, sizeof *s);
    MST_CHECK(s, MST_ENOMEM, "opening the stream of gradients: no memory");
    s->pending = SIZE_MAX;
    s->receives = x->transport->by_mpi ? MST_SPACE_PINNED : MST_SPACE_DEVICE;
    s->leaves_late = x->transport->by_mpi && mst_memory_is_apart();
    s->blocks = mst_stream_blocks_of(x->layout, x->rank, x->size);
    for (size_t turn = 0; turn < 2; turn++) MST_TRY(allocate_buffer(x, turn));
    if (s->blocks.table > 0 && x->plan.own_pieces > 0) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, s->blocks.table * MST_BLOCK * sizeof(float),
                                   "the embedding's gradient", &memory));
        s->table = memory;
    }
    MST_TRY(mst_sharded_open(x));
done:
    return status;
}

void mst_stream_close(mst_exchange *x) {
    mst_stream *s = x->stream;
    mst_sharded_close(x);
    if (!s) return;
    for (size_t turn = 0; turn < 2; turn++) {
        buffer *b = &s->buffers[turn];
        mst_memory_free(MST_SPACE_DEVICE, &b->sum);
        mst_memory_free(MST_SPACE_DEVICE, &b->wire);
        mst_memory_free(s->receives, &b->received);
        mst_mark_destroy(x->queue, &b->ready);
        mst_mark_destroy(x->queue, &b->added);
    }
    mst_memory_free(MST_SPACE_DEVICE, &s->table);
    free(s);
    x->stream = NULL;
}

/* ---- sums ---- */

mst_status mst_stream_clear(mst_exchange *x) {
    mst_status status = MST_OK;
    const mst_stream *s = x->stream;
    for (size_t turn = 0; turn < 2; turn++)
        MST_TRY(mst_exchange_zero(x->queue, s->buffers[turn].sum,
                                  s->blocks.sums[turn] * MST_BLOCK * sizeof(float)));
    if (s->table) MST_TRY(mst_exchange_zero(x->queue, s->table, s->blocks.table * MST_BLOCK * sizeof(float)));
done:
    return status;
}

/* Rounds the unit's gradient to the wire and brings it to where it can be sent from. */
static mst_status make_ready(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    const buffer *b = buffer_of(x, unit);
    if (b->wire) MST_TRY(mst_exchange_round_unit(x, unit, mst_stream_accumulator(x, unit), b->wire));
    MST_TRY(x->transport->passes->stage(x, unit));
    if (b->ready) MST_TRY(mst_mark_set_work(x->queue, b->ready));
done:
    return status;
}

/* What make_ready has queued is done. */
static mst_status wait_ready(mst_exchange *x, size_t unit) {
    return mst_mark_wait(x->queue, buffer_of(x, unit)->ready);
}

/* The owner's part of the unit's sum. Then its buffers are zero for the unit after the next. */
static mst_status add_up(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    const buffer *b = buffer_of(x, unit);
    MST_TRY(mst_exchange_finish_unit(x, unit));
    if (b->added) MST_TRY(mst_mark_set_work(x->queue, b->added));
    if (x->plan.own_pieces > 0 && unit >= 2)
        MST_TRY(mst_exchange_zero(x->queue, mst_stream_accumulator(x, unit),
                                  x->layout->units[unit].blocks * MST_BLOCK * sizeof(float)));
done:
    return status;
}

/* MPI may overwrite what was received; other transfers follow the queue's work. */
static mst_status wait_added(mst_exchange *x, size_t unit) {
    return mst_mark_wait(x->queue, buffer_of(x, unit)->added);
}

/* Work of this rank alone, unless it failed before. */
static void compute(mst_exchange *x, mst_status (*work)(mst_exchange *x, size_t unit), size_t unit) {
    mst_stream *s = x->stream;
    if (s->stands_by) return;
    s->failure = work(x, unit);
    s->stands_by = s->failure != MST_OK;
}

/* All that travels of the unit has arrived; its buffers are free. */
static mst_status finish(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    if (x->stream->leaves_late) {
        compute(x, wait_ready, unit);
        MST_TRY(x->transport->passes->exchange(x, unit));
    }
    MST_TRY(x->transport->passes->exchanged(x, unit));
    buffer_of(x, unit)->travels = false;
    compute(x, add_up, unit);
done:
    return status;
}

mst_status mst_stream_sum(mst_exchange *x, size_t unit, bool complete) {
    mst_status status = MST_OK;
    mst_stream *s = x->stream;
    const mst_pass_ops *passes = x->transport->passes;
    const size_t before = s->pending;
    buffer *b = buffer_of(x, unit);
    const bool sends = x->plan.own_pieces > 0;
    MST_CHECK(!b->travels, MST_EINTERNAL, "exchange: messages of the unit two after unit %zu have not ended",
              unit);
    if (sends && !complete) s->stands_by = true;
    if (s->leaves_late) compute(x, wait_added, unit);
    MST_TRY(passes->expect(x, unit));
    if (sends) compute(x, make_ready, unit);
    if (!s->leaves_late) MST_TRY(passes->exchange(x, unit));
    b->travels = true;
    s->pending = unit;
    if (before != SIZE_MAX) MST_TRY(finish(x, before));
done:
    return status;
}

mst_status mst_stream_settle(mst_exchange *x) {
    mst_status status = MST_OK;
    const size_t unit = x->stream->pending;
    x->stream->pending = SIZE_MAX;
    if (unit != SIZE_MAX) MST_TRY(finish(x, unit));
done:
    return status;
}

mst_status mst_stream_failure(const mst_exchange *x) {
    return x->stream->failure;
}

mst_status mst_stream_send(mst_exchange *x, size_t unit, size_t piece) {
    mst_status status = MST_OK;
    (void)piece; /* a rank has one */
    MST_TRY(mst_sharded_expect_sum(x, unit));
    MST_TRY(mst_stream_sum(x, unit, true));
    MST_TRY(mst_stream_failure(x));
done:
    return status;
}
