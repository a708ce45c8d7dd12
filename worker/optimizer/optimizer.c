/* AdamW over the blocks that this rank owns, a unit at a time: some of its tensors decay, some do not. */
#include "muster/optimizer.h"

#include <math.h>
#include <stdlib.h>

#include "muster/queue.h"
#include "muster/random.h"
#include "offload.h"

struct mst_optimizer {
    mst_optimizer_config config;
    const mst_layout *layout; /* kept by reference */
    mst_queue *queue;
    const mst_kernels *kernels;
    mst_shard *shards;     /* [unit_count], parts of the three arrays below */
    mst_adamw_part *parts; /* [tensor_count] what the shard of its unit has of each tensor */
    void *master;          /* fp32 [blocks owned in all units * MST_BLOCK] */
    void *m, *v;           /* as many, of the type of the config */
    mst_space space;       /* where they stand */
    mst_offload offload;   /* empty where that is the device */
    size_t bytes;
};

static mst_status allocate(mst_optimizer *o, size_t blocks, mst_dtype dtype, void **array_out) {
    mst_status status = MST_OK;
    const size_t bytes = blocks * MST_BLOCK * mst_dtype_size(dtype);
    MST_TRY(mst_memory_alloc(o->space, bytes, array_out));
    o->bytes += bytes;
done:
    return status == MST_OK ? MST_OK : mst_error_context(status, "optimizer state of %zu blocks", blocks);
}

static void *element(void *array, size_t index, mst_dtype dtype) {
    return (char *)array + index * mst_dtype_size(dtype);
}

bool mst_optimizer_decays(const mst_optimizer_config *config, const mst_tensor *tensor) {
    if (tensor->dims == 1) return config->decay_norms;
    return !tensor->embedding || config->decay_embeddings;
}

/* The shard cuts tensors; padding between them is in no part, and so stays zero. */
static mst_adamw_part part_of(const mst_optimizer_config *config, const mst_tensor *tensor,
                              const mst_shard *shard) {
    const size_t first = shard->first_block * MST_BLOCK, end = first + shard->blocks * MST_BLOCK;
    const double decay = mst_optimizer_decays(config, tensor) ? config->weight_decay : 0.0;
    const mst_adamw_part whole = {.offset = tensor->offset, .count = tensor->count, .weight_decay = decay};
    mst_adamw_part part = mst_adamw_part_within(&whole, first, end);
    part.offset -= first;
    return part;
}

mst_status mst_optimizer_create(const mst_optimizer_config *config, const mst_layout *layout, int rank,
                                int size, mst_queue *queue, const mst_kernels *kernels,
                                mst_optimizer **optimizer_out) {
    mst_status status = MST_OK;
    size_t owned = 0;
    *optimizer_out = NULL;
    mst_optimizer *o = calloc(1, sizeof *o);
    MST_CHECK(o, MST_ENOMEM, "creating the optimizer: no memory for %zu bytes", sizeof *o);
    *o = (mst_optimizer){
        .config = *config, .layout = layout, .queue = queue, .kernels = kernels, .space = MST_SPACE_DEVICE};
    if (config->offload && mst_memory_is_apart()) {
        o->space = MST_SPACE_PINNED;
        MST_TRY(mst_offload_init(queue, mst_queue_threads(queue), layout->tensor_count, &o->offload));
        o->bytes += mst_optimizer_offload_bytes();
    }
    o->shards = calloc(layout->unit_count, sizeof *o->shards);
    o->parts = calloc(layout->tensor_count, sizeof *o->parts);
    MST_CHECK(o->shards && o->parts, MST_ENOMEM, "creating the optimizer: no memory for %zu units",
              layout->unit_count);
    for (size_t unit = 0; unit < layout->unit_count; unit++) {
        const mst_unit *u = &layout->units[unit];
        mst_shard *shard = &o->shards[unit];
        mst_shard_range(u, rank, size, &shard->first_block, &shard->blocks);
        owned += shard->blocks;
        for (size_t t = u->first_tensor; t < u->first_tensor + u->tensors; t++)
            o->parts[t] = part_of(config, &layout->tensors[t], shard);
    }
    MST_TRY(allocate(o, owned, MST_F32, &o->master));
    MST_TRY(allocate(o, owned, config->moments, &o->m));
    MST_TRY(allocate(o, owned, config->moments, &o->v));
    size_t offset = 0;
    for (size_t unit = 0; unit < layout->unit_count; unit++) {
        mst_shard *shard = &o->shards[unit];
        shard->master = (float *)o->master + offset;
        shard->m = element(o->m, offset, config->moments);
        shard->v = element(o->v, offset, config->moments);
        shard->moments = config->moments;
        offset += shard->blocks * MST_BLOCK;
    }
    *optimizer_out = o;
done:
    if (status != MST_OK) mst_optimizer_destroy(&o);
    return status;
}

void mst_optimizer_destroy(mst_optimizer **optimizer) {
    mst_optimizer *o = *optimizer;
    if (!o) return;
    mst_offload_clear(&o->offload); /* waits for the device */
    mst_memory_free(o->space, &o->master);
    mst_memory_free(o->space, &o->m);
    mst_memory_free(o->space, &o->v);
    free(o->shards);
    free(o->parts);
    free(o);
    *optimizer = NULL;
}

size_t mst_optimizer_bytes(const mst_optimizer *optimizer) {
    return optimizer->bytes;
}
mst_shard *mst_optimizer_shards(mst_optimizer *optimizer) {
    return optimizer->shards;
}

/* Decides how moments of a tensor are rounded in an update: the same for whichever rank does it. */
static uint32_t rounding_key(size_t tensor, uint64_t update_count) {
    uint32_t bits[4];
    mst_random_bits(0, MST_RANDOM_MOMENTS, tensor, update_count, bits);
    return bits[0];
}

/* x^n by squaring: libm's pow may differ between machines. */
static double power(double x, uint64_t n) {
    double result = 1.0;
    for (; n > 0; n >>= 1, x *= x)
        if (n & 1) result *= x;
    return result;
}

mst_status mst_optimizer_update(mst_optimizer *o, size_t unit, const float *gradient, double gradient_scale,
                                double rate, uint64_t update_count, void *shard_weights,
                                mst_dtype weight_dtype) {
    mst_status status = MST_OK;
    const mst_shard *shard = &o->shards[unit];
    const mst_unit *u = &o->layout->units[unit];
    MST_CHECK(update_count >= 1, MST_EINVAL, "optimizer update: number 0; updates count from 1");
    for (size_t t = u->first_tensor; t < u->first_tensor + u->tensors; t++)
        o->parts[t].rounding_key = rounding_key(t, update_count);
    const mst_adamw_args args = {
        .parts = o->parts + u->first_tensor,
        .part_count = u->tensors,
        .gradient = gradient,
        .m = shard->m,
        .v = shard->v,
        .moments = shard->moments,
        .master = shard->master,
        .weight = shard_weights,
        .weight_dtype = weight_dtype,
        .gradient_scale = gradient_scale,
        .lr = rate,
        .beta1 = o->config.beta1,
        .beta2 = o->config.beta2,
        .eps = o->config.eps,
        .correction1 = 1.0 - power(o->config.beta1, update_count),
        .correction2_sqrt = sqrt(1.0 - power(o->config.beta2, update_count)),
    };
    MST_TRY(o->offload.queue ? mst_offload_adamw(&o->offload, &args) : o->kernels->adamw(o->queue, &args));
done:
    return status;
}

mst_status mst_optimizer_write_weights(mst_optimizer *o, size_t unit, void *shard_weights,
                                       mst_dtype weight_dtype) {
    const mst_shard *shard = &o->shards[unit];
    mst_cast_args args = {
        .count = shard->blocks * MST_BLOCK,
        .source = shard->master,
        .source_dtype = MST_F32,
        .result = shard_weights,
        .result_dtype = weight_dtype,
    };
    return o->kernels->cast(o->queue, &args);
}
