/* A small model with weights and gradients in plain buffers, for tests. */
#ifndef MUSTER_TESTS_MODEL_FIXTURE_H
#define MUSTER_TESTS_MODEL_FIXTURE_H

#include "muster/model.h"
#include "muster/random.h"
#include "test.h"

enum { FIXTURE_UNITS = 64 };

typedef struct fixture {
    mst_model_config config;
    mst_model_options options;
    mst_layout layout;
    mst_queue *queue;
    mst_kernels kernels;
    mst_model *model;
    void *weights[FIXTURE_UNITS], *gradients[FIXTURE_UNITS]; /* owned, flat, in dtype and ACC */
    int32_t *tokens, *targets;                               /* owned, [micro * seq_len] */
    const int32_t *starts;                                   /* as mst_model_train takes them; not owned */
    int held[FIXTURE_UNITS];                                 /* acquired less released */
    size_t acquires, fail_acquire;          /* the acquire of this number, from 1, fails; 0: none */
    size_t done[FIXTURE_UNITS], done_count; /* units in the order of unit_done */
} fixture;

/* Ends the program when the fixture itself cannot be built. */
static inline void fixture_need(mst_status status) {
    if (status == MST_OK) return;
    fprintf(stderr, "fixture: %s: %s\n", mst_status_name(status), mst_error_message());
    exit(1);
}

/* Heads of eight elements; d_ff is no multiple of anything. */
static inline mst_model_config fixture_config(mst_family_id family, size_t layers, size_t heads,
                                              size_t kv_heads) {
    return (mst_model_config){
        .family = family,
        .vocab_size = 19,
        .d_model = heads * 8,
        .n_layers = layers,
        .n_heads = heads,
        .n_kv_heads = family == MST_FAMILY_GPT2 ? heads : kv_heads,
        .head_dim = 8,
        .d_ff = heads * 16 + 5,
        .max_seq_len = 512,
        .norm_eps = 1e-5,
        .rope_theta = 1e4,
        .init_deviation = 0.02,
        .tie_embeddings = true,
    };
}

static inline double fixture_get(const void *array, size_t i, mst_dtype dtype) {
    if (dtype == MST_F64) return ((const double *)array)[i];
    return dtype == MST_F32 ? (double)((const float *)array)[i]
                            : (double)mst_bf16_to_f32(((const mst_bf16 *)array)[i]);
}

static inline void fixture_set(void *array, size_t i, mst_dtype dtype, double value) {
    if (dtype == MST_F64) ((double *)array)[i] = value;
    if (dtype == MST_F32) ((float *)array)[i] = (float)value;
    if (dtype == MST_BF16) ((mst_bf16 *)array)[i] = mst_bf16_from_f32((float)value);
}

/* Every tensor gets a spread that gives every gradient a size to measure, norms around 1 and biases not 0. */
static inline void fixture_fill_weights(fixture *f, uint64_t seed) {
    for (size_t t = 0; t < f->layout.tensor_count; t++) {
        const mst_tensor *tensor = &f->layout.tensors[t];
        double deviation = tensor->dims == 2 ? 0.7 / sqrt((double)f->config.d_model) : 0.2;
        for (size_t i = 0; i < tensor->count; i++) {
            double z = mst_random_normal(seed, MST_RANDOM_TEST, t, i, 3);
            fixture_set(f->weights[tensor->unit], tensor->offset + i, f->options.dtype,
                        tensor->init_mean + deviation * z);
        }
    }
}

/* Random tokens; every fifth target is not valid. */
static inline void fixture_fill_tokens(fixture *f, uint64_t seed) {
    double vocab = (double)f->config.vocab_size;
    for (size_t r = 0; r < f->options.micro * f->options.seq_len; r++) {
        f->tokens[r] = (int32_t)(vocab * mst_random_uniform(seed, MST_RANDOM_TEST, 1000, r));
        f->targets[r] =
            r % 5 == 3 ? -1 : (int32_t)(vocab * mst_random_uniform(seed, MST_RANDOM_TEST, 1001, r));
    }
}

static inline void fixture_clear_gradients(fixture *f) {
    for (size_t u = 0; u < f->layout.unit_count; u++)
        memset(f->gradients[u], 0,
               f->layout.units[u].blocks * MST_BLOCK * mst_dtype_size(mst_dtype_acc(f->options.dtype)));
}

static inline void fixture_init(fixture *f, const mst_model_config *config, const mst_model_options *options,
                                mst_device device, int threads, uint64_t seed) {
    *f = (fixture){.config = *config, .options = *options};
    fixture_need(mst_queue_create(threads, &f->queue));
    fixture_need(mst_kernels_open(device, NULL, &f->kernels));
    fixture_need(mst_model_layout(config, &f->layout));
    size_t rows = options->micro * options->seq_len;
    f->tokens = calloc(rows, sizeof *f->tokens);
    f->targets = calloc(rows, sizeof *f->targets);
    if (f->layout.unit_count > FIXTURE_UNITS || !f->tokens || !f->targets) exit(1);
    for (size_t u = 0; u < f->layout.unit_count; u++) {
        f->weights[u] = calloc(f->layout.units[u].blocks * MST_BLOCK, mst_dtype_size(options->dtype));
        f->gradients[u] =
            calloc(f->layout.units[u].blocks * MST_BLOCK, mst_dtype_size(mst_dtype_acc(options->dtype)));
        if (!f->weights[u] || !f->gradients[u]) exit(1);
    }
    fixture_fill_weights(f, seed);
    fixture_fill_tokens(f, seed);
    fixture_need(mst_model_create(config, &f->layout, options, f->queue, &f->kernels, &f->model));
}

static inline void fixture_clear(fixture *f) {
    mst_model_destroy(&f->model);
    for (size_t u = 0; u < f->layout.unit_count; u++) {
        free(f->weights[u]);
        free(f->gradients[u]);
    }
    free(f->tokens);
    free(f->targets);
    mst_layout_clear(&f->layout);
    mst_queue_destroy(&f->queue);
}

static inline mst_status fixture_acquire(void *context, size_t unit, const void **weights_out) {
    fixture *f = context;
    if (++f->acquires == f->fail_acquire) return mst_error(MST_EPEER, "the unit is not to be had");
    f->held[unit]++;
    *weights_out = f->weights[unit];
    return MST_OK;
}

static inline void fixture_release(void *context, size_t unit) {
    ((fixture *)context)->held[unit]--;
}

static inline mst_status fixture_done(void *context, size_t unit) {
    fixture *f = context;
    f->done[f->done_count++ % FIXTURE_UNITS] = unit;
    return MST_OK;
}

static inline mst_weight_source fixture_source(fixture *f) {
    return (mst_weight_source){.context = f, .acquire = fixture_acquire, .release = fixture_release};
}

/* Adds to f->gradients. */
static inline mst_status fixture_train(fixture *f, double loss_scale, double z, mst_loss *loss_out) {
    mst_weight_source source = fixture_source(f);
    mst_gradient_sink sink = {.gradients = f->gradients, .context = f, .unit_done = fixture_done};
    f->done_count = 0;
    return mst_model_train(f->model, &source, f->tokens, f->targets, f->starts, loss_scale, z, &sink,
                           loss_out);
}

static inline mst_status fixture_loss(fixture *f, mst_loss *loss_out) {
    mst_weight_source source = fixture_source(f);
    return mst_model_loss(f->model, &source, f->tokens, f->targets, f->starts, loss_out);
}

/* ||a - b|| / ||b|| of one tensor's gradients. */
static inline double fixture_gradient_error(const fixture *a, const fixture *b, const mst_tensor *tensor) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < tensor->count; i++) {
        double x =
            fixture_get(a->gradients[tensor->unit], tensor->offset + i, mst_dtype_acc(a->options.dtype));
        double y =
            fixture_get(b->gradients[tensor->unit], tensor->offset + i, mst_dtype_acc(b->options.dtype));
        difference += (x - y) * (x - y);
        norm += y * y;
    }
    return sqrt(difference / norm);
}

#endif
