#include "sharded.h"

#include <stdint.h>
#include <stdlib.h>

#include "stream.h"

/* ---- the program of a pass ---- */

static void add_gather(mst_pass_program *p, const mst_layout *layout, size_t unit, size_t *gathers) {
    const size_t place = (*gathers)++ % MST_GATHER_PLACES, blocks = layout->units[unit].blocks;
    p->events[p->count++] = (mst_pass_event){.unit = unit, .place = place};
    if (blocks > p->blocks[place]) p->blocks[place] = blocks;
}

static void add_sum(mst_pass_program *p, size_t unit) {
    p->events[p->count++] = (mst_pass_event){.unit = unit, .sums = true};
}

mst_status mst_pass_program_init(const mst_layout *layout, bool streams, mst_pass_program *program_out) {
    mst_status status = MST_OK;
    const size_t units = layout->unit_count;
    size_t gathers = 0;
    mst_pass_program p = {.events = calloc(3 * units + 1, sizeof *p.events)};
    MST_CHECK(p.events, MST_ENOMEM, "exchange: no memory for the passes over %zu units", units);
    for (size_t unit = 0; unit < units; unit++) add_gather(&p, layout, unit, &gathers);
    if (layout->tied) add_gather(&p, layout, 0, &gathers);
    p.forward = p.count;
    for (size_t unit = units; unit-- > 0;) {
        /* the head goes back at once; going back through the embedding takes no weights */
        if (unit > 0 && unit + 1 < units) add_gather(&p, layout, unit, &gathers);
        if (streams) add_sum(&p, unit);
    }
    *program_out = p;
done:
    return status;
}

void mst_pass_program_clear(mst_pass_program *program) {
    free(program->events);
    *program = (mst_pass_program){0};
}

/* ---- life ---- */

static mst_status allocate(mst_exchange *x, mst_sharded *s) {
    mst_status status = MST_OK;
    const size_t own = x->owned_blocks * mst_exchange_weight_block(x);
    void *memory;
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, own, "weights", &x->weights));
    s->sent = x->weights;
    if (mst_memory_is_apart()) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_PINNED, own, "copies of weights", &memory));
        s->sent = memory;
    }
    for (size_t i = 0; i < MST_GATHER_PLACES; i++) {
        const size_t bytes = s->program.blocks[i] * mst_exchange_weight_block(x);
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, bytes, "gathered weights", &memory));
        s->places[i] = (mst_gather_place){.weights = memory, .arrived = memory};
        if (!mst_memory_is_apart()) continue;
        s->places[i].arrived = NULL;
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_PINNED, bytes, "copies of gathered weights", &memory));
        s->places[i].arrived = memory;
    }
    MST_TRY(
        mst_exchange_alloc(x, MST_SPACE_HOST, 2 * (size_t)x->size * sizeof *s->blocks, "counts", &memory));
    s->blocks = memory;
    s->first = s->blocks + x->size;
done:
    return status;
}

mst_status mst_sharded_open(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_sharded *s = x->sharded = calloc(1, sizeof *s);
    MST_CHECK(s, MST_ENOMEM, "opening sharded weights: no memory");
    s->weight_block = MPI_DATATYPE_NULL;
    s->request = MPI_REQUEST_NULL;
    s->arriving = (mst_requests){.request = &s->request, .count = 1};
    s->gathering = SIZE_MAX;
    s->all = *(const MPI_Comm *)mst_comm_mpi(x->comm, false);
    MST_TRY(mst_pass_program_init(x->layout, x->stream != NULL, &s->program));
    MST_TRY(allocate(x, s));
    MST_MPI(MPI_Type_contiguous((int)mst_exchange_weight_block(x), MPI_BYTE, &s->weight_block));
    MST_MPI(MPI_Type_commit(&s->weight_block));
done:
    return status;
}

void mst_sharded_close(mst_exchange *x) {
    mst_sharded *s = x->sharded;
    if (!s) return;
    mst_requests_wait(&s->arriving); /* all ranks began it */
    if (s->weight_block != MPI_DATATYPE_NULL) MPI_Type_free(&s->weight_block);
    if (s->sent != x->weights) mst_memory_free(MST_SPACE_PINNED, &s->sent);
    mst_memory_free(MST_SPACE_DEVICE, &x->weights);
    for (size_t i = 0; i < MST_GATHER_PLACES; i++) {
        mst_gather_place *place = &s->places[i];
        if (place->arrived != place->weights) mst_memory_free(MST_SPACE_PINNED, &place->arrived);
        mst_memory_free(MST_SPACE_DEVICE, &place->weights);
    }
    mst_memory_free(MST_SPACE_HOST, &s->blocks);
    mst_pass_program_clear(&s->program);
    free(s);
    x->sharded = NULL;
}

mst_status mst_sharded_publish(mst_exchange *x) {
    mst_status status = MST_OK;
    const mst_sharded *s = x->sharded;
    if (s->sent != x->weights)
        status =
            mst_memory_copy(x->queue, s->sent, x->weights, x->owned_blocks * mst_exchange_weight_block(x));
    return mst_comm_agree(x->comm, status);
}

/* ---- gathering ---- */

static mst_status start(mst_exchange *x, mst_sharded *s, size_t event) {
    mst_status status = MST_OK;
    const size_t unit = s->program.events[event].unit;
    const mst_owned *owned = &x->owned[unit];
    for (int rank = 0; rank < x->size; rank++) {
        size_t first, blocks;
        mst_shard_range(&x->layout->units[unit], rank, x->size, &first, &blocks);
        s->blocks[rank] = (int)blocks;
        s->first[rank] = (int)first;
    }
    s->gathering = event;
    MST_MPI(MPI_Iallgatherv(s->sent + owned->offset * mst_exchange_weight_block(x), (int)owned->blocks,
                            s->weight_block, s->places[s->program.events[event].place].arrived, s->blocks,
                            s->first, s->weight_block, s->all, &s->request));
done:
    return status;
}

/* Sums are left out of passes that have none. */
static bool takes_place(const mst_sharded *s, size_t event) {
    return !s->program.events[event].sums || s->kind == MST_PASS_SUMMED;
}

static void skip(mst_sharded *s) {
    while (s->next < s->end && !takes_place(s, s->next)) s->next++;
}

/* The weights of the next event have arrived, and those of the gathering after it are on their way. */
static mst_status gather(mst_exchange *x, mst_sharded *s) {
    mst_status status = MST_OK;
    const size_t event = s->next++;
    size_t following = s->next;
    if (s->gathering != event) MST_TRY(start(x, s, event));
    MST_TRY(mst_requests_wait(&s->arriving));
    s->gathering = SIZE_MAX;
    while (following < s->end && s->program.events[following].sums) following++;
    if (following < s->end) MST_TRY(start(x, s, following));
done:
    return status;
}

/* ---- a pass ---- */

mst_status mst_exchange_begin_pass(mst_exchange *x, mst_pass_kind kind) {
    mst_status status = MST_OK;
    mst_sharded *s = x->sharded;
    if (!s) goto done;
    s->kind = kind;
    s->next = 0;
    s->end = kind == MST_PASS_FORWARD ? s->program.forward : s->program.count;
    MST_TRY(start(x, s, 0));
done:
    return status;
}

mst_status mst_exchange_acquire(mst_exchange *x, size_t unit, const void **weights_out) {
    mst_status status = MST_OK;
    mst_sharded *s = x->sharded;
    if (!s) {
        *weights_out = mst_exchange_weights(x, unit);
        if (x->transport->acquire) MST_TRY(x->transport->acquire(x, unit));
        goto done;
    }
    skip(s);
    MST_CHECK(s->next < s->end && !s->program.events[s->next].sums && s->program.events[s->next].unit == unit,
              MST_EINTERNAL, "exchange: the weights of unit %zu are not what this pass needs next", unit);
    const mst_gather_place *place = &s->places[s->program.events[s->next].place];
    MST_TRY(gather(x, s));
    if (place->arrived != place->weights)
        MST_TRY(mst_memory_copy(x->queue, place->weights, place->arrived,
                                x->layout->units[unit].blocks * mst_exchange_weight_block(x)));
    *weights_out = place->weights;
done:
    return status;
}

mst_status mst_sharded_expect_sum(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    mst_sharded *s = x->sharded;
    skip(s);
    MST_CHECK(s->next < s->end && s->program.events[s->next].sums && s->program.events[s->next].unit == unit,
              MST_EINTERNAL, "exchange: the gradient of unit %zu is not what this pass sums next", unit);
    s->next++;
done:
    return status;
}

mst_status mst_exchange_end_pass(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_sharded *s = x->sharded;
    if (!s) goto done;
    for (skip(s); s->next < s->end; skip(s)) {
        if (s->program.events[s->next].sums)
            MST_TRY(mst_stream_sum(x, s->program.events[s->next++].unit, false));
        else
            MST_TRY(gather(x, s));
    }
    if (x->stream) {
        MST_TRY(mst_stream_settle(x));
        MST_TRY(mst_stream_failure(x));
    }
done:
    return status;
}
