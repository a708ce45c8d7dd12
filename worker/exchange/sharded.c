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

mst_status mst_pass_program_init(const mst_layout *layout, bool sums, mst_pass_program *program_out) {
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
        if (sums) add_sum(&p, unit);
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
    const size_t block = mst_exchange_weight_block(x);
    void *memory;
    MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, x->owned_blocks * block, "weights", &x->weights));
    for (size_t i = 0; i < MST_GATHER_PLACES; i++) {
        MST_TRY(mst_exchange_alloc(x, MST_SPACE_DEVICE, s->program.blocks[i] * block, "gathered weights",
                                   &memory));
        s->places[i] = memory;
    }
done:
    return status;
}

mst_status mst_sharded_open(mst_exchange *x) {
    mst_status status = MST_OK;
    const mst_pass_ops *passes = x->transport->passes;
    mst_sharded *s = x->sharded = calloc(1, sizeof *s);
    MST_CHECK(s, MST_ENOMEM, "opening sharded weights: no memory");
    s->gathering = SIZE_MAX;
    MST_TRY(mst_pass_program_init(x->layout, x->stream || passes->sum, &s->program));
    MST_TRY(allocate(x, s));
    MST_TRY(passes->open(x));
done:
    return status;
}

void mst_sharded_close(mst_exchange *x) {
    mst_sharded *s = x->sharded;
    if (!s) return;
    x->transport->passes->close(x);
    mst_memory_free(MST_SPACE_DEVICE, &x->weights);
    for (size_t i = 0; i < MST_GATHER_PLACES; i++) mst_memory_free(MST_SPACE_DEVICE, &s->places[i]);
    mst_pass_program_clear(&s->program);
    free(s);
    x->sharded = NULL;
}

mst_status mst_sharded_publish(mst_exchange *x) {
    return mst_comm_agree(x->comm, x->transport->passes->renew(x));
}

/* ---- gathering ---- */

static mst_status start(mst_exchange *x, mst_sharded *s, size_t event) {
    s->gathering = event;
    return x->transport->passes->gather(x, s->program.events[event].unit, s->program.events[event].place);
}

/* The weights of the next event have arrived, and those of the gathering after it are on their way. */
static mst_status gather(mst_exchange *x, mst_sharded *s) {
    mst_status status = MST_OK;
    const size_t event = s->next++;
    size_t following = s->next;
    if (s->gathering != event) MST_TRY(start(x, s, event));
    MST_TRY(x->transport->passes->gathered(x, s->program.events[event].unit));
    s->gathering = SIZE_MAX;
    while (following < s->end && s->program.events[following].sums) following++;
    if (following < s->end) MST_TRY(start(x, s, following));
done:
    return status;
}

/* ---- summing ---- */

/* Sums that come next and that the model does not announce: those that this pass leaves out, and those of partial sums, which this
 * rank has once it asks for what comes after them. */
static mst_status pass_sums(mst_exchange *x, mst_sharded *s) {
    mst_status status = MST_OK;
    for (; s->next < s->end && s->program.events[s->next].sums; s->next++) {
        if (s->kind != MST_PASS_SUMMED) continue;
        if (x->stream) break;
        MST_TRY(x->transport->passes->sum(x, s->program.events[s->next].unit));
    }
done:
    return status;
}

mst_status mst_sharded_expect_sum(mst_exchange *x, size_t unit) {
    mst_status status = MST_OK;
    mst_sharded *s = x->sharded;
    MST_CHECK(s->next < s->end && s->program.events[s->next].sums && s->program.events[s->next].unit == unit,
              MST_EINTERNAL, "exchange: the gradient of unit %zu is not what this pass sums next", unit);
    s->next++;
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
    MST_TRY(x->transport->passes->begin(x));
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
    MST_TRY(pass_sums(x, s));
    MST_CHECK(s->next < s->end && !s->program.events[s->next].sums && s->program.events[s->next].unit == unit,
              MST_EINTERNAL, "exchange: the weights of unit %zu are not what this pass needs next", unit);
    const size_t place = s->program.events[s->next].place;
    MST_TRY(gather(x, s));
    MST_TRY(x->transport->passes->deliver(x, unit, place));
    *weights_out = s->places[place];
done:
    return status;
}

mst_status mst_exchange_end_pass(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_sharded *s = x->sharded;
    if (!s) goto done;
    for (;;) {
        MST_TRY(pass_sums(x, s));
        if (s->next == s->end) break;
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
