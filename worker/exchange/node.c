/*
 * Several nodes: the ranks of a node share a window, as in shm.c. The subtrees that a node holds are summed
 * inside it, each shard by one of its ranks, and travel once to the shard's owner elsewhere; published weights
 * travel once to every node. docs/ordered-sum.md counts what that is.
 */
#include <stdlib.h>

#include "node_plan.h"
#include "requests.h"
#include "window.h"

/* One shard of a node's piece, which this rank sums and sends. Its request has the same number. */
typedef struct partial {
    size_t unit, first_block, blocks;
    const mst_node_piece *piece;
    int to;
    char *sum; /* wire type, [blocks * MST_BLOCK]; NULL: one part, sent from where it stands */
    bool sent; /* in this round */
} partial;

/* What this rank, as an owner, adds: a piece of a rank of its node, or of another node. */
typedef struct origin {
    const mst_piece *here; /* NULL: elsewhere */
    size_t received;       /* number among those that come from elsewhere */
} origin;

typedef struct node_state {
    mst_window window;
    MPI_Comm all;
    int *node_of, node; /* [size]; this one */
    mst_node_plan plan;
    MPI_Datatype wire_block, weight_block;
    partial *partials; /* [sends.count] */
    mst_requests sends, receives, weight_sends, weight_receives;
    origin *origins;   /* [x->sources] */
    size_t foreign;    /* pieces of other nodes */
    char *sums;        /* of partials */
    char *received;    /* wire type, [foreign][owned_blocks * MST_BLOCK] */
    const void **part; /* [pieces] for one sum */
    uint8_t *level;    /* [pieces] */
    uint32_t round;    /* rounds begun: what is written where a piece is complete */
} node_state;

static int agent(const mst_exchange *x, int node, int other, size_t turn) {
    const node_state *s = x->state;
    return mst_node_agent(s->node_of, x->size, node, other, turn);
}

/* The same on both sides. Weights come after all gradients. */
static int gradient_tag(size_t unit, const mst_node_piece *piece) {
    return (int)(MST_COMM_TAGS + unit * 2 * MST_LEVELS_MAX + piece->number);
}
static int weight_tag(const mst_exchange *x, size_t unit) {
    return (int)(MST_COMM_TAGS + x->layout->unit_count * 2 * MST_LEVELS_MAX + unit);
}

static const void *shard_of(const mst_exchange *x, size_t unit, size_t source) {
    const node_state *s = x->state;
    const mst_owned *owned = &x->owned[unit];
    const origin *from = &s->origins[source];
    if (from->here) return mst_window_blocks(x, &s->window, from->here, unit, owned->first_block);
    return s->received + (from->received * x->owned_blocks + owned->offset) * mst_exchange_wire_block(x);
}

/* ---- opening: what is added, and who sends it ---- */

/* An owner adds, in lane order, what its own node's ranks hold and one sum for each subtree of another node. */
static void find_origins(mst_exchange *x, node_state *s) {
    x->sources = 0;
    for (size_t i = 0; i < s->plan.piece_count; i++) {
        const mst_node_piece *piece = &s->plan.pieces[i];
        if (piece->node != s->node) {
            x->level[x->sources] = piece->level;
            s->origins[x->sources++] = (origin){.received = s->foreign++};
            continue;
        }
        for (size_t p = piece->first_part; p < piece->first_part + piece->parts; p++) {
            x->level[x->sources] = x->plan.pieces[p].level;
            s->origins[x->sources++] = (origin){.here = &x->plan.pieces[p]};
        }
    }
}

/* The shards of a unit that ranks elsewhere own and that this rank sums and sends. */
static void find_partials(mst_exchange *x, node_state *s, size_t unit) {
    for (size_t i = 0; i < s->plan.piece_count; i++) {
        const mst_node_piece *piece = &s->plan.pieces[i];
        for (int to = 0; piece->node == s->node && to < x->size; to++) {
            partial p = {.unit = unit, .piece = piece, .to = to};
            mst_shard_range(&x->layout->units[unit], to, x->size, &p.first_block, &p.blocks);
            if (s->node_of[to] != s->node && p.blocks > 0 &&
                agent(x, s->node, to, unit + piece->number) == x->rank)
                s->partials[s->sends.count++] = p;
        }
    }
}

/* The memory for this rank's sums; what has one part is sent from where it stands. */
static mst_status place_partials(mst_exchange *x, node_state *s) {
    mst_status status = MST_OK;
    size_t blocks = 0;
    void *memory;
    for (size_t i = 0; i < s->sends.count; i++)
        if (s->partials[i].piece->parts > 1) blocks += s->partials[i].blocks;
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, blocks * mst_exchange_wire_block(x), "sums of this node",
                               &memory));
    char *next = s->sums = memory;
    for (size_t i = 0; i < s->sends.count; i++) {
        partial *p = &s->partials[i];
        if (p->piece->parts == 1) continue;
        p->sum = next;
        next += p->blocks * mst_exchange_wire_block(x);
    }
done:
    return status;
}

static mst_status make_sends(mst_exchange *x, node_state *s) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < s->sends.count; i++) {
        const partial *p = &s->partials[i];
        const mst_piece *part = &x->plan.pieces[p->piece->first_part];
        const void *start = p->sum ? p->sum : mst_window_blocks(x, &s->window, part, p->unit, p->first_block);
        MST_MPI(MPI_Send_init(start, (int)p->blocks, s->wire_block, p->to, gradient_tag(p->unit, p->piece),
                              s->all, &s->sends.request[i]));
    }
done:
    return status;
}

static mst_status make_receives(mst_exchange *x, node_state *s, size_t unit) {
    mst_status status = MST_OK;
    const mst_owned *owned = &x->owned[unit];
    size_t foreign = 0;
    for (size_t i = 0; i < s->plan.piece_count && owned->blocks > 0; i++) {
        const mst_node_piece *piece = &s->plan.pieces[i];
        if (piece->node == s->node) continue;
        char *place =
            s->received + (foreign++ * x->owned_blocks + owned->offset) * mst_exchange_wire_block(x);
        MST_MPI(MPI_Recv_init(place, (int)owned->blocks, s->wire_block,
                              agent(x, piece->node, x->rank, unit + piece->number), gradient_tag(unit, piece),
                              s->all, &s->receives.request[s->receives.count++]));
    }
done:
    return status;
}

static char *weights_at(mst_exchange *x, size_t unit, size_t block) {
    return (char *)mst_exchange_weights(x, unit) + block * mst_exchange_weight_block(x);
}

/* Each owner's weights go to one rank of every other node, which has them written where all its node reads. */
static mst_status make_weight_requests(mst_exchange *x, node_state *s, size_t unit) {
    mst_status status = MST_OK;
    for (int owner = 0; owner < x->size; owner++) {
        size_t first, blocks;
        mst_shard_range(&x->layout->units[unit], owner, x->size, &first, &blocks);
        if (blocks == 0) continue;
        for (int node = 0; owner == x->rank && node < mst_comm_nodes(x->comm); node++)
            if (node != s->node)
                MST_MPI(MPI_Send_init(weights_at(x, unit, first), (int)blocks, s->weight_block,
                                      agent(x, node, owner, unit), weight_tag(x, unit), s->all,
                                      &s->weight_sends.request[s->weight_sends.count++]));
        if (s->node_of[owner] != s->node && agent(x, s->node, owner, unit) == x->rank)
            MST_MPI(MPI_Recv_init(weights_at(x, unit, first), (int)blocks, s->weight_block, owner,
                                  weight_tag(x, unit), s->all,
                                  &s->weight_receives.request[s->weight_receives.count++]));
    }
done:
    return status;
}

static mst_status make_requests(mst_exchange *x, node_state *s) {
    mst_status status = MST_OK;
    MST_TRY(make_sends(x, s));
    for (size_t unit = 0; unit < x->layout->unit_count; unit++) {
        MST_TRY(make_receives(x, s, unit));
        MST_TRY(make_weight_requests(x, s, unit));
    }
done:
    return status;
}

static mst_status make_types(mst_exchange *x, node_state *s) {
    mst_status status = MST_OK;
    int *tag_max = NULL, found = 0;
    MST_MPI(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &tag_max, &found));
    size_t tags = x->layout->unit_count * (2 * MST_LEVELS_MAX + 1);
    MST_CHECK(found && tags <= (size_t)*tag_max, MST_EMPI,
              "opening the node transport: %zu units need %zu tags, MPI has %d", x->layout->unit_count, tags,
              found ? *tag_max : 0);
    MST_MPI(MPI_Type_contiguous((int)mst_exchange_wire_block(x), MPI_BYTE, &s->wire_block));
    MST_MPI(MPI_Type_commit(&s->wire_block));
    MST_MPI(MPI_Type_contiguous((int)mst_exchange_weight_block(x), MPI_BYTE, &s->weight_block));
    MST_MPI(MPI_Type_commit(&s->weight_block));
done:
    return status;
}

static mst_status plan_nodes(mst_exchange *x, node_state *s) {
    mst_status status = MST_OK;
    s->all = *(const MPI_Comm *)mst_comm_mpi(x->comm, false);
    s->node = mst_comm_node_of(x->comm, x->rank);
    s->node_of = calloc((size_t)x->size, sizeof *s->node_of);
    s->origins = calloc(x->plan.piece_count, sizeof *s->origins);
    s->part = calloc(x->plan.piece_count, sizeof *s->part);
    s->level = calloc(x->plan.piece_count, sizeof *s->level);
    MST_CHECK(s->node_of && s->origins && s->part && s->level, MST_ENOMEM,
              "opening the node transport: no memory for %zu pieces", x->plan.piece_count);
    for (int rank = 0; rank < x->size; rank++) s->node_of[rank] = mst_comm_node_of(x->comm, rank);
    MST_TRY(mst_node_plan_init(&x->plan, s->node_of, &s->plan));
    find_origins(x, s);
done:
    return status;
}

/* After the window, where slots and weights stand. */
static mst_status prepare(mst_exchange *x, node_state *s) {
    mst_status status = MST_OK;
    size_t units = x->layout->unit_count, ranks = (size_t)x->size, own = s->plan.piece_count - s->foreign;
    void *received;
    MST_TRY(make_types(x, s));
    s->partials = calloc(units * own * ranks + 1, sizeof *s->partials);
    MST_CHECK(s->partials, MST_ENOMEM, "opening the node transport: no memory for %zu units", units);
    for (size_t unit = 0; unit < units; unit++) find_partials(x, s, unit);
    MST_TRY(place_partials(x, s));
    size_t sends = s->sends.count;
    MST_TRY(mst_requests_init(x, &s->sends, sends));
    for (s->sends.count = 0; s->sends.count < sends;) s->sends.request[s->sends.count++] = MPI_REQUEST_NULL;
    MST_TRY(mst_requests_init(x, &s->receives, units * s->foreign));
    MST_TRY(mst_requests_init(x, &s->weight_sends, units * (size_t)mst_comm_nodes(x->comm)));
    MST_TRY(mst_requests_init(x, &s->weight_receives, units * ranks));
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, s->foreign * x->owned_blocks * mst_exchange_wire_block(x),
                               "received gradients", &received));
    s->received = received;
    MST_TRY(make_requests(x, s));
done:
    return status;
}

static mst_status open_node(mst_exchange *x) {
    mst_status status = MST_OK;
    node_state *s = x->state = calloc(1, sizeof *s);
    if (s) {
        s->window.window = MPI_WIN_NULL;
        s->wire_block = s->weight_block = MPI_DATATYPE_NULL;
        status = plan_nodes(x, s);
    } else {
        status = mst_error(MST_ENOMEM, "opening the node transport: no memory");
    }
    MST_TRY(mst_comm_agree(x->comm, status));
    MST_TRY(mst_window_init(x, &s->window));
    MST_TRY(mst_comm_agree(x->comm, prepare(x, s)));
done:
    return status;
}

static void close_node(mst_exchange *x) {
    node_state *s = x->state;
    if (s) {
        mst_requests_cancel(&s->receives);
        mst_requests_cancel(&s->weight_receives);
    }
    mst_comm_barrier(x->comm); /* from here on nobody reads what this rank has sent */
    if (!s) return;
    mst_requests_clear(&s->sends);
    mst_requests_clear(&s->receives);
    mst_requests_clear(&s->weight_sends);
    mst_requests_clear(&s->weight_receives);
    mst_window_clear(x, &s->window);
    if (s->wire_block != MPI_DATATYPE_NULL) MPI_Type_free(&s->wire_block);
    if (s->weight_block != MPI_DATATYPE_NULL) MPI_Type_free(&s->weight_block);
    mst_memory_free(MST_SPACE_DEVICE, &s->sums);
    mst_memory_free(MST_SPACE_DEVICE, &s->received);
    mst_node_plan_clear(&s->plan);
    free(s->node_of);
    free(s->partials);
    free(s->origins);
    free(s->part);
    free(s->level);
    free(s);
    x->state = NULL;
}

/* ---- rounds ---- */

static mst_status begin_round(mst_exchange *x) {
    mst_status status = MST_OK;
    node_state *s = x->state;
    if (s->receives.started) goto done;
    s->round++;
    for (size_t i = 0; i < s->sends.count; i++) s->partials[i].sent = false;
    MST_TRY(mst_requests_start(&s->receives));
done:
    return status;
}

/* Whether all parts of a unit's piece are complete, whichever rank of this node computes them. */
static bool is_ready(const mst_exchange *x, const partial *p) {
    const node_state *s = x->state;
    for (size_t i = p->piece->first_part; i < p->piece->first_part + p->piece->parts; i++) {
        const mst_piece *part = &x->plan.pieces[i];
        _Atomic uint32_t *done = mst_window_done(&s->window, part->rank, p->unit, part->number);
        if (atomic_load_explicit(done, memory_order_acquire) != s->round) return false;
    }
    return true;
}

static mst_status add_parts(mst_exchange *x, const partial *p) {
    node_state *s = x->state;
    for (size_t i = 0; i < p->piece->parts; i++) {
        const mst_piece *part = &x->plan.pieces[p->piece->first_part + i];
        s->part[i] = mst_window_blocks(x, &s->window, part, p->unit, p->first_block);
        s->level[i] = part->level;
    }
    mst_ordered_sum_args args = {
        .count = p->blocks * MST_BLOCK,
        .sources = p->piece->parts,
        .source = s->part,
        .level = s->level,
        .source_dtype = x->shape.wire,
        .wire = x->shape.wire,
        .result = p->sum,
        .result_dtype = x->shape.wire,
    };
    return x->kernels->ordered_sum(x->queue, &args);
}

/* Sums and sends what has become complete. A message is sent also after a failure: its owner waits for it, and
 * learns of the failure when the round ends. */
static mst_status send_ready(mst_exchange *x) {
    mst_status status = MST_OK, sum = MST_OK;
    node_state *s = x->state;
    MST_TRY(mst_window_fence(&s->window));
    for (size_t i = 0; i < s->sends.count; i++) {
        partial *p = &s->partials[i];
        if (p->sent || !is_ready(x, p)) continue;
        if (p->sum && sum == MST_OK) sum = add_parts(x, p);
        p->sent = true;
        MST_MPI(MPI_Start(&s->sends.request[i]));
    }
    MST_TRY(mst_requests_test(&s->sends));
    MST_TRY(sum);
done:
    return status;
}

static mst_status send_piece(mst_exchange *x, size_t unit, size_t piece) {
    mst_status status = MST_OK;
    node_state *s = x->state;
    MST_TRY(mst_window_fence(&s->window));
    atomic_store_explicit(mst_window_done(&s->window, x->rank, unit, x->plan.pieces[piece].number), s->round,
                          memory_order_release);
    MST_TRY(send_ready(x));
done:
    return status;
}

static mst_status receive(mst_exchange *x) {
    mst_status status = MST_OK;
    node_state *s = x->state;
    const mst_status sums = send_ready(x); /* all ranks have said that theirs are complete */
    MST_TRY(mst_requests_wait(&s->receives));
    MST_TRY(mst_requests_wait(&s->sends));
    MST_TRY(mst_window_fence(&s->window));
    MST_TRY(sums);
done:
    return status;
}

static mst_status fence_node(mst_exchange *x) {
    const node_state *s = x->state;
    return mst_window_fence(&s->window);
}

static mst_status publish_node(mst_exchange *x) {
    mst_status status = MST_OK;
    node_state *s = x->state;
    MST_TRY(mst_window_fence(&s->window));
    MST_TRY(mst_requests_start(&s->weight_receives));
    MST_TRY(mst_requests_start(&s->weight_sends));
    MST_TRY(mst_requests_wait(&s->weight_receives));
    MST_TRY(mst_requests_wait(&s->weight_sends));
    MST_TRY(mst_window_fence(&s->window));
    MST_TRY(mst_comm_barrier(x->comm));
    MST_TRY(mst_window_fence(&s->window));
done:
    return status;
}

const mst_transport_ops mst_transport_node = {
    .name = "node",
    .by_mpi = true,
    .open = open_node,
    .close = close_node,
    .begin_round = begin_round,
    .send = send_piece,
    .receive = receive,
    .shard = shard_of,
    .fence = fence_node,
    .publish = publish_node,
};
