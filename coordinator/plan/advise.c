/* What would help: the same plan once more with one thing changed, for each thing that may be. */
#include <stdlib.h>
#include <string.h>

#include "muster/plan.h"
#include "muster/units.h"

/* One change: false where it changes nothing or cannot be. */
typedef bool change_fn(mst_config *config, mst_machine *machine, char *text, char *why);

enum { CHANGE_TEXT = sizeof((mst_plan_advice *)0)->change, WHY_TEXT = sizeof((mst_plan_advice *)0)->why };

static bool smaller_microbatches(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)machine;
    if (c->batch.micro % 2 != 0) return false;
    c->batch.micro /= 2;
    c->batch.shape.leaf *= 2;
    snprintf(text, CHANGE_TEXT / 4, "batch.micro=%zu --set batch.leaf=%zu", c->batch.micro,
             c->batch.shape.leaf);
    snprintf(why, WHY_TEXT, "half the activations; the batch has as many sequences");
    return true;
}

static bool smallest_microbatches(mst_config *c, mst_machine *machine, char *text, char *why) {
    bool any = false;
    while (smaller_microbatches(c, machine, text, why)) any = true;
    return any;
}

/* As few lanes as give each rank one. */
static bool more_rounds(mst_config *c, mst_machine *machine, char *text, char *why) {
    size_t lanes = 1;
    while (lanes < (size_t)machine->ranks && lanes < c->batch.shape.lanes) lanes *= 2;
    if (lanes == c->batch.shape.lanes) return false;
    c->batch.shape.rounds *= c->batch.shape.lanes / lanes;
    c->batch.shape.lanes = lanes;
    snprintf(text, CHANGE_TEXT / 4, "batch.lanes=%zu --set batch.rounds=%zu", lanes, c->batch.shape.rounds);
    snprintf(why, WHY_TEXT, "a rank keeps fewer partial sums, and exchanges more often");
    return true;
}

static bool fewer_rounds(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)machine;
    if (c->batch.shape.rounds == 1) return false;
    c->batch.shape.leaf *= c->batch.shape.rounds;
    c->batch.shape.rounds = 1;
    snprintf(text, CHANGE_TEXT / 4, "batch.rounds=1 --set batch.leaf=%zu", c->batch.shape.leaf);
    snprintf(why, WHY_TEXT, "gradients travel once a step");
    return true;
}

static bool half_the_wire(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)machine;
    if (c->batch.shape.wire == MST_BF16) return false;
    c->batch.shape.wire = MST_BF16;
    snprintf(text, CHANGE_TEXT / 4, "batch.wire=bf16");
    snprintf(why, WHY_TEXT,
             "half the bytes of partial sums, kept and sent; each addition is rounded to bf16");
    return true;
}

static bool own_attention(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)machine;
    if (c->device.kernels != MST_DEVICE_CUDA || c->device.attention_workspace == 0) return false;
    c->device.attention_workspace = 0;
    snprintf(text, CHANGE_TEXT / 4, "device.attention_workspace=0");
    snprintf(why, WHY_TEXT, "attention by muster's own kernel, whose memory is linear in the sequence");
    return true;
}

static bool recompute_outputs(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)machine;
    if (c->train.recompute != MST_RECOMPUTE_NONE) return false;
    c->train.recompute = MST_RECOMPUTE_SELECTIVE;
    snprintf(text, CHANGE_TEXT / 4, "train.recompute=selective");
    snprintf(why, WHY_TEXT,
             "outputs of norms and activation functions are computed twice, not kept; the same result");
    return true;
}

static bool recompute_layers(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)machine;
    if (c->train.recompute == MST_RECOMPUTE_FULL) return false;
    c->train.recompute = MST_RECOMPUTE_FULL;
    snprintf(text, CHANGE_TEXT / 4, "train.recompute=full");
    snprintf(why, WHY_TEXT, "layers are computed twice, and only their inputs kept; the same result");
    return true;
}

static bool keep_layers(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)machine;
    if (c->train.recompute != MST_RECOMPUTE_FULL) return false;
    c->train.recompute = MST_RECOMPUTE_SELECTIVE;
    snprintf(text, CHANGE_TEXT / 4, "train.recompute=selective");
    snprintf(why, WHY_TEXT, "there is room to keep what takes a matrix product; the same result");
    return true;
}

static bool share_weights(mst_config *c, mst_machine *machine, char *text, char *why) {
    if (c->batch.shape.sharding == MST_SHARDING_ALL || machine->ranks == 1 || c->lora.rank > 0) return false;
    if (c->batch.transport != MST_TRANSPORT_AUTO && c->batch.transport != MST_TRANSPORT_MPI &&
        c->batch.transport != MST_TRANSPORT_NCCL)
        return false;
    c->batch.shape.sharding = MST_SHARDING_ALL;
    snprintf(text, CHANGE_TEXT / 4, "batch.sharding=all");
    snprintf(why, WHY_TEXT, "weights are shared, too, and gathered layer by layer; the same result");
    return true;
}

/* One microbatch a rank and round, so that with shared weights gradients are summed layer by layer. */
static bool finest_rounds(mst_config *c, mst_machine *machine, char *text, char *why) {
    mst_sum_shape *shape = &c->batch.shape;
    size_t lanes = 1;
    while (2 * lanes <= (size_t)machine->ranks && lanes < shape->lanes) lanes *= 2;
    if (shape->sharding != MST_SHARDING_ALL || (shape->leaf == 1 && shape->lanes == lanes)) return false;
    shape->rounds *= shape->leaf * shape->lanes / lanes;
    shape->leaf = 1;
    shape->lanes = lanes;
    snprintf(text, CHANGE_TEXT / 4, "batch.leaf=1 --set batch.lanes=%zu --set batch.rounds=%zu", lanes,
             shape->rounds);
    snprintf(why, WHY_TEXT, "gradients are summed layer by layer, and travel with each microbatch");
    return true;
}

static bool narrow_moments(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)machine;
    if (c->optimizer.moments == MST_BF16) return false;
    c->optimizer.moments = MST_BF16;
    snprintf(text, CHANGE_TEXT / 4, "optimizer.moments=bf16");
    snprintf(why, WHY_TEXT, "half the bytes of moments, which are rounded at random");
    return true;
}

static bool offload(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)machine;
    if (c->device.kernels != MST_DEVICE_CUDA || c->optimizer.offload) return false;
    c->optimizer.offload = true;
    snprintf(text, CHANGE_TEXT / 4, "optimizer.offload=true");
    snprintf(why, WHY_TEXT,
             "masters and moments in host memory; the CPU updates, which is not counted as time");
    return true;
}

/* NCCL receives in the GPU's memory. */
static bool receive_on_host(mst_config *c, mst_machine *machine, char *text, char *why) {
    if (c->device.kernels != MST_DEVICE_CUDA || c->batch.shape.sharding != MST_SHARDING_ALL ||
        machine->ranks == 1)
        return false;
    if (c->batch.transport != MST_TRANSPORT_AUTO && c->batch.transport != MST_TRANSPORT_NCCL) return false;
    c->batch.transport = MST_TRANSPORT_MPI;
    snprintf(text, CHANGE_TEXT / 4, "batch.transport=mpi");
    snprintf(
        why, WHY_TEXT,
        "weights and gradients travel through the host's memory, more slowly than by NCCL; the same result");
    return true;
}

static bool no_copy(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)machine;
    if (!c->checkpoint.async) return false;
    c->checkpoint.async = false;
    snprintf(text, CHANGE_TEXT / 4, "checkpoint.async=false");
    snprintf(why, WHY_TEXT, "no copy for saving; training waits for each checkpoint");
    return true;
}

static bool larger_batch(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)machine;
    c->batch.shape.leaf *= 2;
    snprintf(text, CHANGE_TEXT / 4, "batch.leaf=%zu", c->batch.shape.leaf);
    snprintf(why, WHY_TEXT,
             "twice the batch: half the exchanges per token, but another run: the learning rate too");
    return true;
}

static bool more_nodes(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)c;
    machine->ranks *= 2;
    machine->nodes *= 2;
    if ((size_t)machine->ranks > c->batch.shape.lanes || c->batch.transport == MST_TRANSPORT_SHM ||
        c->batch.transport == MST_TRANSPORT_PEER)
        return false;
    snprintf(text, CHANGE_TEXT / 4, "--ranks %d --nodes %d", machine->ranks, machine->nodes);
    snprintf(why, WHY_TEXT, "masters and moments are shared by twice as many ranks");
    return true;
}

static bool fewer_ranks(mst_config *c, mst_machine *machine, char *text, char *why) {
    (void)c;
    if (machine->ranks / 2 < machine->nodes) return false;
    machine->ranks /= 2;
    machine->flops *= 2; /* the same cores */
    snprintf(text, CHANGE_TEXT / 4, "--ranks %d", machine->ranks);
    snprintf(why, WHY_TEXT,
             "half as many ranks on the same cores: fewer copies of activations and partial sums");
    return true;
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* What saves memory on the same ranks: first what changes no result or little else; each may need those before it. */
static change_fn *const parts[] = {no_copy,        own_attention, recompute_outputs, share_weights,
                                   narrow_moments, half_the_wire, finest_rounds,     smallest_microbatches,
                                   more_rounds,    offload,       receive_on_host,   recompute_layers};

/* The changes of a set, one after the other. False where one of them changes nothing. */
static bool apply(unsigned set, mst_config *c, mst_machine *machine, char *text) {
    char one[CHANGE_TEXT / 4], why[WHY_TEXT];
    const mst_recompute given = c->train.recompute;
    text[0] = '\0';
    for (size_t i = 0; i < COUNT(parts); i++) {
        const size_t used = strlen(text);
        if (!(set >> i & 1)) continue;
        if (parts[i] == recompute_layers && c->train.recompute != given)
            return false; /* outputs are in layers */
        if (!parts[i](c, machine, one, why)) return false;
        snprintf(text + used, CHANGE_TEXT - used, "%s%s", used > 0 ? " --set " : "", one);
    }
    return true;
}

static int size_of(unsigned set) {
    return __builtin_popcount(set);
}

static change_fn *const for_memory[] = {
    no_copy, own_attention,        recompute_outputs, recompute_layers, share_weights, narrow_moments,
    offload, smaller_microbatches, more_rounds,       half_the_wire,    fewer_ranks,   more_nodes};
static change_fn *const for_speed[] = {keep_layers, half_the_wire, fewer_rounds, larger_batch};

/* Of two that help: the quicker one. */
static int quicker(const void *left, const void *right) {
    const double a = ((const mst_plan_advice *)left)->plan.tokens_per_second,
                 b = ((const mst_plan_advice *)right)->plan.tokens_per_second;
    return (a < b) - (a > b);
}

static bool helps(const mst_plan *before, const mst_plan *after) {
    if (!before->fits) return after->fits;
    return after->fits && after->tokens_per_second > 1.05 * before->tokens_per_second;
}

/* Adds those of the changes that help. */
static mst_status try_changes(const mst_config *config, const mst_plan *plan, change_fn *const *changes,
                              size_t count, mst_plan_advice *advice_out, size_t *count_out) {
    for (size_t i = 0; i < count && *count_out < MST_PLAN_ADVICE_MAX; i++) {
        mst_config changed = *config; /* what it points to is the config's */
        mst_machine machine = plan->machine;
        mst_plan_advice advice;
        if (!changes[i](&changed, &machine, advice.change, advice.why)) continue;
        const mst_status status = mst_plan_make(&changed, &machine, &advice.plan);
        if (status == MST_ENOMEM) return status;
        if (status == MST_OK && helps(plan, &advice.plan)) advice_out[(*count_out)++] = advice;
    }
    return MST_OK;
}

/* The fastest of all sets of at least so many changes that fit; of two that are as fast, the smaller one. */
static mst_status add_fastest(const mst_config *config, const mst_plan *plan, int least,
                              mst_plan_advice *advice_out, size_t *count_out) {
    mst_plan_advice best = {.why = "all together"};
    unsigned chosen = 0;
    for (unsigned set = 1; set < 1u << COUNT(parts); set++) {
        mst_config changed = *config; /* what it points to is the config's */
        mst_machine machine = plan->machine;
        mst_plan_advice one = best;
        if (size_of(set) < least || !apply(set, &changed, &machine, one.change)) continue;
        const mst_status status = mst_plan_make(&changed, &machine, &one.plan);
        if (status == MST_ENOMEM) return status;
        if (status != MST_OK || !one.plan.fits) continue;
        const double speed = one.plan.tokens_per_second, most = best.plan.tokens_per_second;
        if (chosen != 0 && (speed < most || (speed == most && size_of(set) >= size_of(chosen)))) continue;
        best = one;
        chosen = set;
    }
    if (chosen != 0 && *count_out < MST_PLAN_ADVICE_MAX) advice_out[(*count_out)++] = best;
    return MST_OK;
}

/* Where nothing helps so many ranks: half as many on the same cores, until something does. */
static mst_status add_fewer_ranks(const mst_config *config, const mst_plan *plan, mst_plan_advice *advice_out,
                                  size_t *count_out) {
    mst_machine machine = plan->machine;
    char text[CHANGE_TEXT], why[WHY_TEXT];
    mst_config same = *config;
    while (*count_out == 0 && fewer_ranks(&same, &machine, text, why)) {
        mst_plan fewer;
        const mst_status made = mst_plan_make(config, &machine, &fewer);
        if (made == MST_ENOMEM) return made;
        if (made != MST_OK) break;
        const mst_status status = add_fastest(config, &fewer, 1, advice_out, count_out);
        if (status != MST_OK) return status;
    }
    if (*count_out == 0) return MST_OK;
    char *change = advice_out[0].change, more[CHANGE_TEXT];
    memcpy(more, change, sizeof more);
    const int length = snprintf(change, CHANGE_TEXT, "--ranks %d --set ", machine.ranks);
    snprintf(change + length, CHANGE_TEXT - (size_t)length, "%.*s", (int)(CHANGE_TEXT - 1) - length, more);
    return MST_OK;
}

enum { SEARCHED_RANKS = 256 }; /* for more ranks so many plans would take minutes */

mst_status mst_plan_advise(const mst_config *config, const mst_plan *plan, mst_plan_advice *advice_out,
                           size_t *count_out) {
    mst_status status = MST_OK;
    *count_out = 0;
    if (plan->fits) {
        MST_TRY(try_changes(config, plan, for_speed, COUNT(for_speed), advice_out, count_out));
    } else {
        MST_TRY(try_changes(config, plan, for_memory, COUNT(for_memory), advice_out, count_out));
        if (plan->machine.ranks <= SEARCHED_RANKS) {
            MST_TRY(add_fastest(config, plan, 2, advice_out, count_out));
            if (*count_out == 0) MST_TRY(add_fewer_ranks(config, plan, advice_out, count_out));
        }
    }
    qsort(advice_out, *count_out, sizeof *advice_out, quicker);
done:
    return status;
}
