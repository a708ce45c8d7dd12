/*
 * Ranks anywhere: every shard of every piece is one message to its owner, by persistent requests that are
 * made once. Counts are in blocks, so that they fit an int whatever the size.
 *
 * MPI knows the CPU's memory only. Where the device's is apart, what is sent is copied to pinned memory first, what is
 * received lies in pinned memory, which the owner's kernel reads in place, and weights are published from and to it. A unit is sent
 * when the next one has been queued behind its copy, so that the device has work while the host waits for that.
 */
#include <stdlib.h>

#include "muster/transfer.h"
#include "requests.h"
#include "sharded.h"

enum { NOTHING = -1 };

typedef struct mpi_state {
    MPI_Comm all;
    MPI_Datatype wire_block, weight_block;
    mst_requests sends; /* [unit][own piece][rank]; null where nothing goes */
    mst_requests receives;
    char *received;      /* wire type, [foreign pieces][owned_blocks * MST_BLOCK] */
    char *sent;          /* copies of the slots for MPI; the slots themselves where it can read them */
    mst_mark *copied;    /* behind the copy that was queued last; NULL: nothing is copied */
    ptrdiff_t leaving;   /* first request of the piece that this copy is of; NOTHING: it has left */
    char *published;     /* a copy of the weights for MPI, likewise */
    int *blocks, *place; /* [size] of one unit's shards, for publishing; not where weights are sharded */
} mpi_state;

/* The same number on both sides: pieces count within the rank that sends them. */
static int tag_of(const mst_exchange *x, size_t unit, size_t piece) {
    return (int)(MST_COMM_TAGS + unit * 2 * MST_LEVELS_MAX + x->plan.pieces[piece].number);
}

static bool is_own(const mst_exchange *x, size_t piece) {
    return x->plan.pieces[piece].rank == x->rank;
}

static const void *shard_of(const mst_exchange *x, size_t unit, size_t piece) {
    const mpi_state *s = x->state;
    return mst_exchange_shard_at(x, s->received, unit, piece);
}

/* ---- opening ---- */

static mst_status make_send(mst_exchange *x, const mpi_state *s, size_t unit, size_t piece, int to,
                            MPI_Request *request) {
    mst_status status = MST_OK;
    size_t first, blocks;
    *request = MPI_REQUEST_NULL;
    mst_shard_range(&x->layout->units[unit], to, x->size, &first, &blocks);
    if (to == x->rank || blocks == 0) goto done;
    const char *slot = s->sent + x->plan.pieces[piece].slot * mst_exchange_slot_bytes(x);
    const char *start = slot + mst_exchange_unit_offset(x, unit) + first * mst_exchange_wire_block(x);
    MST_MPI(MPI_Send_init(start, (int)blocks, s->wire_block, to, tag_of(x, unit, piece), s->all, request));
done:
    return status;
}

static mst_status make_requests(mst_exchange *x, mpi_state *s) {
    mst_status status = MST_OK;
    for (size_t unit = 0; unit < x->layout->unit_count; unit++) {
        for (size_t piece = 0; piece < x->plan.piece_count; piece++) {
            if (is_own(x, piece)) {
                for (int to = 0; to < x->size; to++)
                    MST_TRY(make_send(x, s, unit, piece, to, &s->sends.request[s->sends.count++]));
            } else if (x->owned[unit].blocks > 0) {
                char *place = s->received + mst_exchange_received_at(x, unit, piece);
                MPI_Request *request = &s->receives.request[s->receives.count++];
                MST_MPI(MPI_Recv_init(place, (int)x->owned[unit].blocks, s->wire_block,
                                      x->plan.pieces[piece].rank, tag_of(x, unit, piece), s->all, request));
            }
        }
    }
done:
    return status;
}

static mst_status allocate(mst_exchange *x, mpi_state *s) {
    mst_status status = MST_OK;
    size_t units = x->layout->unit_count, ranks = (size_t)x->size;
    size_t foreign = x->plan.piece_count - x->plan.own_pieces;
    size_t sends = units * x->plan.own_pieces * ranks, receives = units * foreign;
    void *received, *memory;
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, x->plan.slots * mst_exchange_slot_bytes(x), "gradients",
                               &x->slots));
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_PINNED, foreign * x->owned_blocks * mst_exchange_wire_block(x),
                               "received gradients", &received));
    s->received = received;
    s->sent = x->slots;
    if (mst_memory_is_apart()) {
        size_t slots = x->plan.slots * mst_exchange_slot_bytes(x);
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_PINNED, slots, "copies of gradients", &memory));
        s->sent = memory;
        MST_TRY(mst_mark_create(x->queue, &s->copied));
    }
    MST_TRY(mst_requests_init(x, &s->sends, sends));
    MST_TRY(mst_requests_init(x, &s->receives, receives));
done:
    return status;
}

/* Every rank has all weights. */
static mst_status allocate_weights(mst_exchange *x, mpi_state *s) {
    mst_status status = MST_OK;
    const size_t bytes = x->layout->blocks * mst_exchange_weight_block(x);
    void *memory;
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, bytes, "weights", &x->weights));
    s->published = x->weights;
    if (mst_memory_is_apart()) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_PINNED, bytes, "copies of weights", &memory));
        s->published = memory;
    }
    MST_TRY(
        mst_exchange_alloc(x, MST_SPACE_HOST, 2 * (size_t)x->size * sizeof *s->blocks, "counts", &memory));
    s->blocks = memory;
    s->place = s->blocks + x->size;
done:
    return status;
}

static mst_status prepare(mst_exchange *x) {
    mst_status status = MST_OK;
    int *tag_max = NULL, found = 0;
    mpi_state *s = x->state = calloc(1, sizeof *s);
    MST_CHECK(s, MST_ENOMEM, "opening the mpi transport: no memory");
    s->wire_block = s->weight_block = MPI_DATATYPE_NULL;
    s->leaving = NOTHING;
    s->all = *(const MPI_Comm *)mst_comm_mpi(x->comm, false);
    MST_TRY(allocate(x, s));
    if (x->shape.sharding == MST_SHARDING_ALL)
        MST_TRY(mst_sharded_open(x));
    else
        MST_TRY(allocate_weights(x, s));
    MST_MPI(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &tag_max, &found));
    size_t tags = x->layout->unit_count * 2 * MST_LEVELS_MAX;
    MST_CHECK(found && tags <= (size_t)*tag_max, MST_EMPI,
              "opening the mpi transport: %zu units need %zu tags, MPI has %d", x->layout->unit_count, tags,
              found ? *tag_max : 0);
    MST_MPI(MPI_Type_contiguous((int)mst_exchange_wire_block(x), MPI_BYTE, &s->wire_block));
    MST_MPI(MPI_Type_commit(&s->wire_block));
    MST_MPI(MPI_Type_contiguous((int)mst_exchange_weight_block(x), MPI_BYTE, &s->weight_block));
    MST_MPI(MPI_Type_commit(&s->weight_block));
    MST_TRY(make_requests(x, s));
done:
    return status;
}

static mst_status open_mpi(mst_exchange *x) {
    return mst_comm_agree(x->comm, prepare(x));
}

/* ---- closing ---- */

static void close_mpi(mst_exchange *x) {
    mpi_state *s = x->state;
    if (s) mst_requests_cancel(&s->receives);
    mst_queue_sync(x->queue);  /* copies from and to memory that is freed now */
    mst_comm_barrier(x->comm); /* from here on nobody reads this rank's slots */
    if (s) {
        mst_requests_clear(&s->sends);
        mst_requests_clear(&s->receives);
        if (s->wire_block != MPI_DATATYPE_NULL) MPI_Type_free(&s->wire_block);
        if (s->weight_block != MPI_DATATYPE_NULL) MPI_Type_free(&s->weight_block);
        mst_mark_destroy(x->queue, &s->copied);
        mst_memory_free(MST_SPACE_PINNED, &s->received);
        if (s->sent != x->slots) mst_memory_free(MST_SPACE_PINNED, &s->sent);
        if (!x->sharded && s->published != x->weights) mst_memory_free(MST_SPACE_PINNED, &s->published);
        mst_memory_free(MST_SPACE_HOST, &s->blocks);
        free(s);
        x->state = NULL;
    }
    mst_memory_free(MST_SPACE_DEVICE, &x->slots);
    mst_sharded_close(x);
    mst_memory_free(MST_SPACE_DEVICE, &x->weights);
}

/* ---- rounds ---- */

static mst_status begin_round(mst_exchange *x) {
    mst_status status = MST_OK;
    mpi_state *s = x->state;
    if (!s->receives.started) MST_TRY(mst_requests_start(&s->receives));
done:
    return status;
}

/* Of a unit of a piece, to all owners. */
static mst_status start_sends(mst_exchange *x, ptrdiff_t first) {
    mst_status status = MST_OK;
    mpi_state *s = x->state;
    MPI_Request *request = s->sends.request + first;
    for (int to = 0; to < x->size; to++)
        if (request[to] != MPI_REQUEST_NULL) MST_MPI(MPI_Start(&request[to]));
    MST_TRY(mst_requests_test(&s->sends));
done:
    return status;
}

/* What was copied last leaves, once it is there. */
static mst_status send_copy(mst_exchange *x) {
    mst_status status = MST_OK;
    mpi_state *s = x->state;
    const ptrdiff_t first = s->leaving;
    if (first == NOTHING) goto done;
    s->leaving = NOTHING;
    MST_TRY(mst_mark_wait(x->queue, s->copied));
    MST_TRY(start_sends(x, first));
done:
    return status;
}

static mst_status send_piece(mst_exchange *x, size_t unit, size_t piece) {
    mst_status status = MST_OK;
    mpi_state *s = x->state;
    const size_t number = unit * x->plan.own_pieces + piece - x->plan.first_piece;
    const ptrdiff_t first = (ptrdiff_t)(number * (size_t)x->size);
    if (!s->copied) return start_sends(x, first);
    const size_t at =
        x->plan.pieces[piece].slot * mst_exchange_slot_bytes(x) + mst_exchange_unit_offset(x, unit);
    MST_TRY(send_copy(x));
    MST_TRY(mst_memory_copy_later(x->queue, s->sent + at, (const char *)x->slots + at,
                                  x->layout->units[unit].blocks * mst_exchange_wire_block(x)));
    MST_TRY(mst_mark_set_work(x->queue, s->copied));
    s->leaving = first;
done:
    return status;
}

static mst_status receive(mst_exchange *x) {
    mst_status status = MST_OK;
    mpi_state *s = x->state;
    MST_TRY(mst_requests_wait(&s->receives));
    MST_TRY(mst_requests_wait(&s->sends));
done:
    return status;
}

/* Brings this rank's own weights to where MPI reads them. */
static mst_status fetch_own(mst_exchange *x) {
    mst_status status = MST_OK;
    const mpi_state *s = x->state;
    if (s->published == x->weights) goto done;
    for (size_t unit = 0; unit < x->layout->unit_count; unit++) {
        const char *own = mst_exchange_own_weights(x, unit);
        MST_TRY(mst_memory_copy_later(x->queue, s->published + (own - (const char *)x->weights), own,
                                      x->owned[unit].blocks * mst_exchange_weight_block(x)));
    }
    MST_TRY(mst_queue_sync(x->queue));
done:
    return status;
}

/* What travels does not depend on what this rank could copy, so that no other waits in vain. */
static mst_status publish_unit(mst_exchange *x, size_t unit, mst_status before) {
    mst_status status = before;
    mpi_state *s = x->state;
    for (int rank = 0; rank < x->size; rank++) {
        size_t first, blocks;
        mst_shard_range(&x->layout->units[unit], rank, x->size, &first, &blocks);
        s->blocks[rank] = (int)blocks;
        s->place[rank] = (int)first;
    }
    char *device = mst_exchange_weights(x, unit), *host = s->published + (device - (const char *)x->weights);
    size_t block = mst_exchange_weight_block(x);
    const mst_status sent = mst_comm_mpi_status(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, host,
                                                               s->blocks, s->place, s->weight_block, s->all),
                                                "MPI_Allgatherv");
    if (status == MST_OK) status = sent;
    if (status == MST_OK && host != device)
        status = mst_memory_copy_later(x->queue, device, host, x->layout->units[unit].blocks * block);
    return status;
}

static mst_status publish_mpi(mst_exchange *x) {
    mst_status status = MST_OK;
    if (x->sharded) return mst_sharded_publish(x);
    status = fetch_own(x);
    for (size_t unit = 0; unit < x->layout->unit_count; unit++) status = publish_unit(x, unit, status);
    return mst_comm_agree(x->comm, status);
}

const mst_transport_ops mst_transport_mpi = {
    .name = "mpi",
    .by_mpi = true,
    .passes = &mst_passes_mpi,
    .open = open_mpi,
    .close = close_mpi,
    .begin_round = begin_round,
    .send = send_piece,
    .receive = receive,
    .shard = shard_of,
    .fence = send_copy,
    .publish = publish_mpi,
};
