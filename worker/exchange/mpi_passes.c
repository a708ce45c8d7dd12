/*
 * Passes over MPI: weights are gathered and gradients streamed by its messages, which lie in memory that it can read: pinned
 * copies where the device's is apart.
 */
#include <stdlib.h>

#include "muster/transfer.h"
#include "requests.h"
#include "sharded.h"
#include "stream.h"

/* Messages of a unit's gradient; units take two in turn, as they do the stream's buffers. */
typedef struct turn {
    char *sent; /* a copy in pinned memory, where the device's is apart; else NULL */
    mst_requests sends, receives;
} turn;

typedef struct mpi_passes {
    MPI_Comm all;
    MPI_Datatype weight_block, wire_block;
    char *sent; /* this rank's blocks for MPI: x->weights, or a copy in pinned memory */
    char *
        arrived[MST_GATHER_PLACES]; /* where MPI puts weights: the place itself, or a copy in pinned memory */
    mst_mark *delivered;            /* behind the last copy to a place; NULL: nothing is copied */
    int *blocks, *first;            /* [size] of the unit that is gathered */
    MPI_Request request;            /* of the gathering at work */
    mst_requests arriving;          /* that one */
    turn turns[2];                  /* where gradients are streamed */
} mpi_passes;

static turn *turn_of(const mst_exchange *x, size_t unit) {
    mpi_passes *s = x->sharded->state;
    return &s->turns[mst_stream_turn(x->layout, unit)];
}

/* ---- life ---- */

static mst_status allocate_weights(mst_exchange *x, mpi_passes *s) {
    mst_status status = MST_OK;
    const size_t block = mst_exchange_weight_block(x);
    void *memory;
    s->sent = x->weights;
    if (mst_memory_is_apart()) {
        MST_TRY(
            mst_exchange_alloc(x, MST_SPACE_PINNED, x->owned_blocks * block, "copies of weights", &memory));
        s->sent = memory;
        MST_TRY(mst_mark_create(x->queue, &s->delivered));
    }
    for (size_t i = 0; i < MST_GATHER_PLACES; i++) {
        s->arrived[i] = x->sharded->places[i];
        if (!mst_memory_is_apart()) continue;
        s->arrived[i] = NULL;
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_PINNED, x->sharded->program.blocks[i] * block,
                                   "copies of gathered weights", &memory));
        s->arrived[i] = memory;
    }
    MST_TRY(
        mst_exchange_alloc(x, MST_SPACE_HOST, 2 * (size_t)x->size * sizeof *s->blocks, "counts", &memory));
    s->blocks = memory;
    s->first = s->blocks + x->size;
done:
    return status;
}

static mst_status allocate_turn(mst_exchange *x, turn *t, size_t wire_blocks) {
    mst_status status = MST_OK;
    void *memory;
    if (x->plan.own_pieces > 0 && mst_memory_is_apart()) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_PINNED, wire_blocks * mst_exchange_wire_block(x),
                                   "copies of gradients of a unit", &memory));
        t->sent = memory;
    }
    MST_TRY(mst_requests_init(x, &t->receives, x->plan.piece_count - x->plan.own_pieces));
    MST_TRY(mst_requests_init(x, &t->sends, x->plan.own_pieces * (size_t)x->size));
done:
    return status;
}

static mst_status allocate_turns(mst_exchange *x, mpi_passes *s) {
    mst_status status = MST_OK;
    const mst_stream_blocks blocks = mst_stream_blocks_of(x->layout, x->rank, x->size);
    int *tag_max = NULL, found = 0;
    MST_MPI(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &tag_max, &found));
    MST_CHECK(found && x->layout->unit_count <= (size_t)*tag_max, MST_EMPI,
              "opening the stream of gradients: %zu units need as many tags, MPI has %d",
              x->layout->unit_count, found ? *tag_max : 0);
    for (size_t i = 0; i < 2; i++) MST_TRY(allocate_turn(x, &s->turns[i], blocks.wire[i]));
    MST_MPI(MPI_Type_contiguous((int)mst_exchange_wire_block(x), MPI_BYTE, &s->wire_block));
    MST_MPI(MPI_Type_commit(&s->wire_block));
done:
    return status;
}

static mst_status open_passes(mst_exchange *x) {
    mst_status status = MST_OK;
    mpi_passes *s = x->sharded->state = calloc(1, sizeof *s);
    MST_CHECK(s, MST_ENOMEM, "opening passes over MPI: no memory");
    s->weight_block = s->wire_block = MPI_DATATYPE_NULL;
    s->request = MPI_REQUEST_NULL;
    s->arriving = (mst_requests){.request = &s->request, .count = 1};
    s->all = *(const MPI_Comm *)mst_comm_mpi(x->comm, false);
    MST_TRY(allocate_weights(x, s));
    if (x->stream) MST_TRY(allocate_turns(x, s));
    MST_MPI(MPI_Type_contiguous((int)mst_exchange_weight_block(x), MPI_BYTE, &s->weight_block));
    MST_MPI(MPI_Type_commit(&s->weight_block));
done:
    return status;
}

static void close_passes(mst_exchange *x) {
    mpi_passes *s = x->sharded->state;
    if (!s) return;
    mst_requests_wait(&s->arriving); /* all ranks began it */
    mst_queue_sync(x->queue);        /* copies from and to memory that is freed now */
    mst_mark_destroy(x->queue, &s->delivered);
    if (s->weight_block != MPI_DATATYPE_NULL) MPI_Type_free(&s->weight_block);
    if (s->wire_block != MPI_DATATYPE_NULL) MPI_Type_free(&s->wire_block);
    if (s->sent != x->weights) mst_memory_free(MST_SPACE_PINNED, &s->sent);
    for (size_t i = 0; i < MST_GATHER_PLACES; i++)
        if (s->arrived[i] != x->sharded->places[i]) mst_memory_free(MST_SPACE_PINNED, &s->arrived[i]);
    for (size_t i = 0; i < 2; i++) {
        mst_requests_clear(&s->turns[i].sends);
        mst_requests_clear(&s->turns[i].receives);
        mst_memory_free(MST_SPACE_PINNED, &s->turns[i].sent);
    }
    mst_memory_free(MST_SPACE_HOST, &s->blocks);
    free(s);
}

/* ---- weights ---- */

static mst_status renew(mst_exchange *x) {
    const mpi_passes *s = x->sharded->state;
    if (s->sent == x->weights) return MST_OK;
    return mst_memory_copy(x->queue, s->sent, x->weights, x->owned_blocks * mst_exchange_weight_block(x));
}

static mst_status gather(mst_exchange *x, size_t unit, size_t place) {
    mst_status status = MST_OK;
    mpi_passes *s = x->sharded->state;
    const mst_owned *owned = &x->owned[unit];
    for (int rank = 0; rank < x->size; rank++) {
        size_t first, blocks;
        mst_shard_range(&x->layout->units[unit], rank, x->size, &first, &blocks);
        s->blocks[rank] = (int)blocks;
        s->first[rank] = (int)first;
    }
    MST_MPI(MPI_Iallgatherv(s->sent + owned->offset * mst_exchange_weight_block(x), (int)owned->blocks,
                            s->weight_block, s->arrived[place], s->blocks, s->first, s->weight_block, s->all,
                            &s->request));
done:
    return status;
}

static mst_status gathered(mst_exchange *x, size_t unit) {
    (void)unit; /* the one that was begun */
    mpi_passes *s = x->sharded->state;
    return mst_requests_wait(&s->arriving);
}

/* The unit before this one has left its pinned copy, which MPI fills next; in the end so has this one. */
static mst_status deliver(mst_exchange *x, size_t unit, size_t place) {
    mst_status status = MST_OK;
    const mpi_passes *s = x->sharded->state;
    if (!s->delivered) goto done;
    MST_TRY(mst_mark_wait(x->queue, s->delivered));
    MST_TRY(mst_memory_copy_later(x->queue, x->sharded->places[place], s->arrived[place],
                                  x->layout->units[unit].blocks * mst_exchange_weight_block(x)));
    MST_TRY(mst_mark_set_work(x->queue, s->delivered));
    if (x->sharded->gathering == SIZE_MAX) MST_TRY(mst_mark_wait(x->queue, s->delivered));
done:
    return status;
}

/* ---- streamed gradients ---- */

static int tag_of(size_t unit) {
    return (int)(MST_COMM_TAGS + unit);
}

static mst_status expect(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    const mpi_passes *s = x->sharded->state;
    mst_requests *m = &turn_of(x, unit)->receives;
    m->started = true;
    for (size_t piece = 0; piece < x->plan.piece_count && x->owned[unit].blocks > 0; piece++) {
        const int from = x->plan.pieces[piece].rank;
        if (from == x->rank) continue;
        MST_MPI(MPI_Irecv(mst_stream_received_at(x, unit, piece), (int)x->owned[unit].blocks, s->wire_block,
                          from, tag_of(unit), s->all, &m->request[m->count++]));
    }
done:
    return status;
}

static mst_status stage(mst_exchange *x, size_t unit) {
    const turn *t = turn_of(x, unit);
    if (!t->sent) return MST_OK;
    return mst_memory_copy_later(x->queue, t->sent, mst_stream_leaving(x, unit),
                                 x->layout->units[unit].blocks * mst_exchange_wire_block(x));
}

/* Every rank sends each owner its shard. */
static mst_status exchange(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    const mpi_passes *s = x->sharded->state;
    turn *t = turn_of(x, unit);
    mst_requests *m = &t->sends;
    const char *start = t->sent ? t->sent : mst_stream_leaving(x, unit);
    for (int to = 0; to < x->size && x->plan.own_pieces > 0; to++) {
        size_t first, blocks;
        mst_shard_range(&x->layout->units[unit], to, x->size, &first, &blocks);
        if (to == x->rank || blocks == 0) continue;
        MST_MPI(MPI_Isend(start + first * mst_exchange_wire_block(x), (int)blocks, s->wire_block, to,
                          tag_of(unit), s->all, &m->request[m->count++]));
    }
done:
    return status;
}

static mst_status exchanged(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    turn *t = turn_of(x, unit);
    MST_TRY(mst_requests_wait(&t->receives));
    MST_TRY(mst_requests_wait(&t->sends));
    t->receives.count = t->sends.count = 0;
done:
    return status;
}

const mst_pass_ops mst_passes_mpi = {
    .open = open_passes,
    .close = close_passes,
    .renew = renew,
    .begin = mst_exchange_nothing,
    .gather = gather,
    .gathered = gathered,
    .deliver = deliver,
    .expect = expect,
    .stage = stage,
    .exchange = exchange,
    .exchanged = exchanged,
};

/* ---- streamed gradients as a transport ---- */

static mst_status open_stream(mst_exchange *x) {
    return mst_comm_agree(x->comm, mst_stream_open(x));
}

static void close_stream(mst_exchange *x) {
    mpi_passes *s = x->sharded ? x->sharded->state : NULL;
    for (size_t i = 0; s && i < 2; i++) mst_requests_cancel(&s->turns[i].receives);
    mst_comm_barrier(x->comm); /* from here on nobody reads what this rank has sent */
    mst_stream_close(x);
}

const mst_transport_ops mst_transport_stream = {
    .name = "mpi",
    .by_mpi = true,
    .passes = &mst_passes_mpi,
    .open = open_stream,
    .close = close_stream,
    .begin_round = mst_exchange_nothing,
    .send = mst_stream_send,
    .receive = mst_exchange_nothing,
    .shard = mst_stream_shard,
    .fence = mst_exchange_nothing,
    .publish = mst_sharded_publish,
};
