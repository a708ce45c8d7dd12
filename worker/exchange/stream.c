#include "stream.h"

#include <stdint.h>
#include <stdlib.h>

#include "requests.h"
#include "sharded.h"

/* What a unit's gradient passes through. Units take two of them in turn: one is being computed, one is on its way. */
typedef struct buffer {
    float *sum;     /* of the microbatch, on the device */
    char *wire;     /* rounded to the wire type; NULL: the wire is fp32, the sum itself leaves */
    char *sent;     /* a copy in pinned memory, where the device's is apart; else NULL */
    char *received; /* wire type, [foreign pieces][owned blocks of the largest unit] */
    mst_requests sends, receives;
} buffer;

struct mst_stream {
    MPI_Comm all;
    MPI_Datatype wire_block;
    mst_stream_blocks blocks;
    buffer buffers[2];
    float *
        table; /* the embedding's gradient where it also is the head: it grows from the pass's begin to its end */
    size_t pending;     /* the unit on its way; SIZE_MAX: none */
    bool stands_by;     /* this rank failed: it computes no more, but takes part in what travels */
    mst_status failure; /* of its part of the sums */
};

bool mst_stream_fits(const mst_sum_shape *shape, const mst_lane_run *runs, int size) {
    bool fits = size > 1 && shape->sharding == MST_SHARDING_ALL && shape->leaf == 1;
    for (int rank = 0; rank < size; rank++) fits = fits && runs[rank].count <= 1;
    return fits;
}

/* The head's comes first. */
static size_t turn_of(const mst_layout *layout, size_t unit) {
    return (layout->unit_count - 1 - unit) % 2;
}

static size_t max_of(size_t a, size_t b) {
    return a > b ? a : b;
}

mst_stream_blocks mst_stream_blocks_of(const mst_layout *layout, int rank, int size) {
    mst_stream_blocks b = {.table = layout->tied ? layout->units[0].blocks : 0};
    for (size_t unit = 0; unit < layout->unit_count; unit++) {
        const size_t turn = turn_of(layout, unit), blocks = layout->units[unit].blocks;
        size_t first, owned;
        mst_shard_range(&layout->units[unit], rank, size, &first, &owned);
        if (unit > 0 || !layout->tied) b.sums[turn] = max_of(b.sums[turn], blocks);
        b.wire[turn] = max_of(b.wire[turn], blocks);
        b.owned[turn] = max_of(b.owned[turn], owned);
    }
    return b;
}

static buffer *buffer_of(const mst_exchange *x, size_t unit) {
    return &x->stream->buffers[turn_of(x->layout, unit)];
}

float *mst_stream_accumulator(const mst_exchange *x, size_t unit) {
    return unit == 0 && x->stream->table ? x->stream->table : buffer_of(x, unit)->sum;
}

static char *wire_of(const mst_exchange *x, size_t unit) {
    char *wire = buffer_of(x, unit)->wire;
    return wire ? wire : (char *)mst_stream_accumulator(x, unit);
}

/* Where another rank's piece comes in. */
static char *received_at(const mst_exchange *x, size_t unit, size_t piece) {
    const size_t foreign = piece < x->plan.first_piece ? piece : piece - x->plan.own_pieces;
    return buffer_of(x, unit)->received +
           foreign * x->stream->blocks.owned[turn_of(x->layout, unit)] * mst_exchange_wire_block(x);
}

static const void *shard_of(const mst_exchange *x, size_t unit, size_t piece) {
    if (x->plan.pieces[piece].rank != x->rank) return received_at(x, unit, piece);
    return wire_of(x, unit) + x->owned[unit].first_block * mst_exchange_wire_block(x);
}

/* ---- life ---- */

static mst_status allocate_buffer(mst_exchange *x, size_t turn) {
    mst_status status = MST_OK;
    const mst_stream_blocks *blocks = &x->stream->blocks;
    buffer *b = &x->stream->buffers[turn];
    const size_t foreign = x->plan.piece_count - x->plan.own_pieces,
                 wire = blocks->wire[turn] * mst_exchange_wire_block(x);
    const bool computes = x->plan.own_pieces > 0;
    void *memory;
    if (computes) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, blocks->sums[turn] * MST_BLOCK * sizeof(float),
                                   "gradients of a unit", &memory));
        b->sum = memory;
    }
    if (computes && x->shape.wire != MST_F32) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, wire, "rounded gradients of a unit", &memory));
        b->wire = memory;
    }
    if (computes && mst_memory_is_apart()) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_PINNED, wire, "copies of gradients of a unit", &memory));
        b->sent = memory;
    }
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_PINNED,
                               foreign * blocks->owned[turn] * mst_exchange_wire_block(x),
                               "received gradients of a unit", &memory));
    b->received = memory;
    MST_TRY(mst_requests_init(x, &b->receives, foreign));
    MST_TRY(mst_requests_init(x, &b->sends, x->plan.own_pieces * (size_t)x->size));
done:
    return status;
}

static mst_status prepare(mst_exchange *x) {
    mst_status status = MST_OK;
    int *tag_max = NULL, found = 0;
    void *memory;
    mst_stream *s = x->stream = calloc(1, sizeof *s);
    MST_CHECK(s, MST_ENOMEM, "opening the stream of gradients: no memory");
    s->wire_block = MPI_DATATYPE_NULL;
    s->pending = SIZE_MAX;
    s->all = *(const MPI_Comm *)mst_comm_mpi(x->comm, false);
    s->blocks = mst_stream_blocks_of(x->layout, x->rank, x->size);
    MST_MPI(MPI_Comm_get_attr(s->all, MPI_TAG_UB, &tag_max, &found));
    MST_CHECK(found && x->layout->unit_count <= (size_t)*tag_max, MST_EMPI,
              "opening the stream of gradients: %zu units need as many tags, MPI has %d",
              x->layout->unit_count, found ? *tag_max : 0);
    for (size_t turn = 0; turn < 2; turn++) MST_TRY(allocate_buffer(x, turn));
    if (s->blocks.table > 0 && x->plan.own_pieces > 0) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, s->blocks.table * MST_BLOCK * sizeof(float),
                                   "the embedding's gradient", &memory));
        s->table = memory;
    }
    MST_MPI(MPI_Type_contiguous((int)mst_exchange_wire_block(x), MPI_BYTE, &s->wire_block));
    MST_MPI(MPI_Type_commit(&s->wire_block));
    MST_TRY(mst_sharded_open(x));
done:
    return status;
}

static mst_status open_stream(mst_exchange *x) {
    return mst_comm_agree(x->comm, prepare(x));
}

static void close_stream(mst_exchange *x) {
    mst_stream *s = x->stream;
    for (size_t turn = 0; s && turn < 2; turn++) mst_requests_cancel(&s->buffers[turn].receives);
    mst_comm_barrier(x->comm); /* from here on nobody reads what this rank has sent */
    mst_sharded_close(x);
    if (!s) return;
    for (size_t turn = 0; turn < 2; turn++) {
        buffer *b = &s->buffers[turn];
        mst_requests_clear(&b->sends);
        mst_requests_clear(&b->receives);
        mst_memory_free(MST_SPACE_DEVICE, &b->sum);
        mst_memory_free(MST_SPACE_DEVICE, &b->wire);
        mst_memory_free(MST_SPACE_PINNED, &b->sent);
        mst_memory_free(MST_SPACE_PINNED, &b->received);
    }
    mst_memory_free(MST_SPACE_DEVICE, &s->table);
    if (s->wire_block != MPI_DATATYPE_NULL) MPI_Type_free(&s->wire_block);
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

/* Rounds the unit's gradient to the wire and brings it to where MPI can read it. */
static mst_status make_ready(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    buffer *b = buffer_of(x, unit);
    const size_t blocks = x->layout->units[unit].blocks;
    if (b->wire) MST_TRY(mst_exchange_round_unit(x, unit, mst_stream_accumulator(x, unit), b->wire));
    if (b->sent)
        MST_TRY(mst_memory_copy(x->queue, b->sent, wire_of(x, unit), blocks * mst_exchange_wire_block(x)));
done:
    return status;
}

/* Every rank sends each owner its shard. */
static mst_status send_shards(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    const mst_stream *s = x->stream;
    buffer *b = buffer_of(x, unit);
    mst_requests *m = &b->sends;
    const char *start = b->sent ? b->sent : wire_of(x, unit);
    for (int to = 0; to < x->size; to++) {
        size_t first, blocks;
        mst_shard_range(&x->layout->units[unit], to, x->size, &first, &blocks);
        if (to == x->rank || blocks == 0) continue;
        MST_MPI(MPI_Isend(start + first * mst_exchange_wire_block(x), (int)blocks, s->wire_block, to,
                          (int)unit, s->all, &m->request[m->count++]));
    }
done:
    return status;
}

static mst_status receive_shards(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    const mst_stream *s = x->stream;
    mst_requests *m = &buffer_of(x, unit)->receives;
    m->started = true;
    for (size_t piece = 0; piece < x->plan.piece_count && x->owned[unit].blocks > 0; piece++) {
        const int from = x->plan.pieces[piece].rank;
        if (from == x->rank) continue;
        MST_MPI(MPI_Irecv(received_at(x, unit, piece), (int)x->owned[unit].blocks, s->wire_block, from,
                          (int)unit, s->all, &m->request[m->count++]));
    }
done:
    return status;
}

/* The owner's part of the unit's sum. Then its buffers are zero for the unit after the next. */
static mst_status add_up(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    MST_TRY(mst_exchange_finish_unit(x, unit));
    MST_TRY(mst_queue_sync(x->queue)); /* what was received may be overwritten from here on */
    if (x->plan.own_pieces > 0 && unit >= 2)
        MST_TRY(mst_exchange_zero(x->queue, mst_stream_accumulator(x, unit),
                                  x->layout->units[unit].blocks * MST_BLOCK * sizeof(float)));
done:
    return status;
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
    buffer *b = buffer_of(x, unit);
    MST_TRY(mst_requests_wait(&b->receives));
    MST_TRY(mst_requests_wait(&b->sends));
    b->receives.count = b->sends.count = 0;
    compute(x, add_up, unit);
done:
    return status;
}

mst_status mst_stream_sum(mst_exchange *x, size_t unit, bool complete) {
    mst_status status = MST_OK;
    mst_stream *s = x->stream;
    const size_t before = s->pending;
    const buffer *b = buffer_of(x, unit);
    const bool sends = x->plan.own_pieces > 0;
    MST_CHECK(b->receives.count == 0 && b->sends.count == 0, MST_EMPI,
              "exchange: messages of the unit two after unit %zu have not ended", unit);
    if (sends && !complete) s->stands_by = true;
    MST_TRY(receive_shards(x, unit));
    if (sends) {
        compute(x, make_ready, unit);
        MST_TRY(send_shards(x, unit));
    }
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

/* ---- as a transport ---- */

static mst_status send_piece(mst_exchange *x, size_t unit, size_t piece) {
    mst_status status = MST_OK;
    (void)piece; /* a rank has one */
    MST_TRY(mst_sharded_expect_sum(x, unit));
    MST_TRY(mst_stream_sum(x, unit, true));
    MST_TRY(mst_stream_failure(x));
done:
    return status;
}

const mst_transport_ops mst_transport_stream = {
    .name = "mpi",
    .by_mpi = true,
    .open = open_stream,
    .close = close_stream,
    .begin_round = mst_exchange_nothing,
    .send = send_piece,
    .receive = mst_exchange_nothing,
    .shard = shard_of,
    .fence = mst_exchange_nothing,
    .publish = mst_sharded_publish,
};
