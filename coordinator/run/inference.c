/* A checkpoint's weights in memory, ready to be used. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "inference_state.h"
#include "muster/checkpoint.h"

static mst_status acquire(void *context, size_t unit, const void **weights_out) {
    mst_inference *x = context;
    const size_t frozen = x->frozen != NULL ? x->layout.unit_count : 0;
    *weights_out = unit < frozen ? mst_frozen_unit(x->frozen, unit) : x->weights[unit - frozen];
    return MST_OK;
}

static void release(void *context, size_t unit) {
    (void)context;
    (void)unit;
}

mst_weight_source inference_weights(mst_inference *inference) {
    return (mst_weight_source){.context = inference, .acquire = acquire, .release = release};
}

mst_status inference_model(mst_inference *x, mst_model_options options, mst_model **model_out) {
    options.dtype = x->precision;
    options.forward_only = true;
    options.lora = x->lora;
    return mst_model_create(&x->model_config, &x->layout, &options, x->queue, &x->kernels, model_out);
}

static mst_status read_meta(mst_inference *x) {
    mst_status status = MST_OK;
    mst_checkpoint_meta meta = {0};
    mst_checkpoint_digests digests;
    MST_TRY(mst_checkpoint_open(x->path, &meta, &digests));
    x->model_config = meta.model;
    x->base = meta.base;
    status = mst_config_parse(meta.config, x->path, NULL, 0, stderr, &x->config);
    if (status != MST_OK) mst_error_context(status, "the config in %s", x->path);
    if (status == MST_OK && meta.has_base) status = mst_config_held_lora(&x->config, x->path, &x->lora);
done:
    mst_checkpoint_meta_clear(&meta);
    return status;
}

/* Reads the masters, and keeps them in the compute precision only. */
static mst_status read_weights(mst_inference *x) {
    mst_status status = MST_OK;
    mst_checkpoint_context context = {.queue = x->queue, .kernels = &x->kernels};
    mst_shard *shards = calloc(x->stored.unit_count, sizeof *shards);
    x->weights = calloc(x->stored.unit_count, sizeof *x->weights);
    MST_CHECK(shards != NULL && x->weights != NULL, MST_ENOMEM, "%s: out of memory", x->path);
    MST_TRY(mst_comm_create_alone(&context.comm));
    for (size_t u = 0; u < x->stored.unit_count; u++) {
        void *master = NULL;
        shards[u].blocks = x->stored.units[u].blocks;
        MST_TRY(mst_memory_alloc(MST_SPACE_DEVICE, shards[u].blocks * MST_BLOCK * sizeof(float), &master));
        shards[u].master = master;
    }
    MST_TRY(mst_checkpoint_load(&context, x->path, &x->stored, shards));
    for (size_t u = 0; u < x->stored.unit_count; u++) {
        const size_t count = shards[u].blocks * MST_BLOCK;
        MST_TRY(mst_memory_alloc(MST_SPACE_DEVICE, count * mst_dtype_size(x->precision), &x->weights[u]));
        const mst_cast_args cast = {.count = count,
                                    .source = shards[u].master,
                                    .source_dtype = MST_F32,
                                    .result = x->weights[u],
                                    .result_dtype = x->precision};
        MST_TRY(x->kernels.cast(x->queue, &cast));
        MST_TRY(mst_queue_sync(x->queue)); /* then the master may go */
        mst_memory_free(MST_SPACE_DEVICE, &shards[u].master);
    }
done:
    for (size_t u = 0; shards != NULL && u < x->stored.unit_count; u++)
        mst_memory_free(MST_SPACE_DEVICE, &shards[u].master);
    free(shards);
    mst_comm_destroy(&context.comm);
    return status;
}

/* What adapters adapt. */
static mst_status read_base(mst_inference *x) {
    mst_status status = MST_OK;
    char path[4096];
    const mst_checkpoint_context context = {.queue = x->queue, .kernels = &x->kernels};
    if (x->lora.rank == 0) goto done;
    MST_TRY(mst_checkpoint_base(x->path, &x->base, path));
    MST_TRY(mst_frozen_create(&x->layout, x->precision, x->queue, NULL, &x->frozen));
    MST_TRY(base_load(&context, path, x->frozen));
done:
    return status;
}

static int usable_cores(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

mst_status mst_inference_open(const char *path, const char *precision, int threads,
                              mst_inference **inference_out) {
    mst_status status = MST_OK;
    mst_inference *x = calloc(1, sizeof *x);
    *inference_out = NULL;
    MST_CHECK(x != NULL, MST_ENOMEM, "%s: out of memory", path);
    MST_TRY(mst_checkpoint_resolve(path, x->path));
    MST_TRY(read_meta(x));
    x->precision = x->config.train.precision;
    if (precision != NULL) {
        MST_CHECK(strcmp(precision, "f32") == 0 || strcmp(precision, "bf16") == 0, MST_ECONFIG,
                  "--precision: '%s' is neither f32 nor bf16", precision);
        x->precision = strcmp(precision, "f32") == 0 ? MST_F32 : MST_BF16;
    }
    MST_TRY(inference_open_tokenizer(x));
    MST_TRY(mst_model_layout(&x->model_config, &x->layout));
    MST_TRY(x->lora.rank > 0 ? mst_lora_layout(&x->model_config, &x->lora, &x->stored)
                             : mst_model_layout(&x->model_config, &x->stored));
    const bool on_cpu =
        x->config.device.kernels == MST_DEVICE_CPU || x->config.device.kernels == MST_DEVICE_REF;
    const mst_device device = /* where it was trained there was a GPU; here there need be none */
        x->config.device.kernels == MST_DEVICE_CUDA ? MST_DEVICE_AUTO : x->config.device.kernels;
    MST_TRY(mst_kernels_open(device, on_cpu ? x->config.device.level : NULL, &x->kernels));
    MST_TRY(mst_queue_create(threads > 0 ? threads : usable_cores(), &x->queue));
    MST_TRY(read_base(x));
    MST_TRY(read_weights(x));
    *inference_out = x;
    x = NULL;
done:
    mst_inference_close(&x);
    return status;
}

void mst_inference_close(mst_inference **inference) {
    mst_inference *x = *inference;
    if (x == NULL) return;
    mst_model_destroy(&x->model);
    for (size_t u = 0; x->weights != NULL && u < x->stored.unit_count; u++)
        mst_memory_free(MST_SPACE_DEVICE, &x->weights[u]);
    free(x->weights);
    mst_frozen_destroy(&x->frozen);
    mst_queue_destroy(&x->queue);
    mst_layout_clear(&x->layout);
    mst_layout_clear(&x->stored);
    mst_tokenizer_destroy(&x->tokenizer);
    mst_config_clear(&x->config);
    free(x);
    *inference = NULL;
}

const mst_config *mst_inference_config(const mst_inference *inference) {
    return &inference->config;
}
const char *mst_inference_path(const mst_inference *inference) {
    return inference->path;
}
