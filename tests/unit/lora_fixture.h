/* The fixture's model with adapters: their weights stand behind those of the model's units. */
#ifndef MUSTER_TESTS_LORA_FIXTURE_H
#define MUSTER_TESTS_LORA_FIXTURE_H

#include "model_fixture.h"

typedef struct lora_fixture {
    fixture f;
    mst_layout adapters;
    void *gradients[FIXTURE_UNITS]; /* of the adapters' units */
    size_t first;                   /* unit of the model's source at which adapters begin */
} lora_fixture;

static inline size_t lora_unit_bytes(const lora_fixture *x, size_t unit, mst_dtype dtype) {
    return x->adapters.units[unit].blocks * MST_BLOCK * mst_dtype_size(dtype);
}

/* Both matrices of a size that shows: B is not 0. */
static inline void lora_fill(lora_fixture *x, uint64_t seed) {
    for (size_t t = 0; t < x->adapters.tensor_count; t++) {
        const mst_tensor *tensor = &x->adapters.tensors[t];
        for (size_t i = 0; i < tensor->count; i++)
            fixture_set(x->f.weights[x->first + tensor->unit], tensor->offset + i, x->f.options.dtype,
                        0.3 * mst_random_normal(seed, MST_RANDOM_TEST, 3000 + t, i, 3));
    }
}

static inline void lora_fixture_init(lora_fixture *x, const mst_model_config *config, const mst_lora *lora,
                                     mst_dtype dtype, mst_device device, int threads, uint64_t seed) {
    const mst_model_options options = {.dtype = dtype, .micro = 2, .seq_len = 7, .lora = *lora};
    *x = (lora_fixture){.first = 0};
    fixture_init(&x->f, config, &options, device, threads, seed);
    fixture_need(mst_lora_layout(config, lora, &x->adapters));
    x->first = x->f.layout.unit_count;
    if (x->first + x->adapters.unit_count > FIXTURE_UNITS) exit(1);
    for (size_t u = 0; u < x->adapters.unit_count; u++) {
        x->f.weights[x->first + u] = calloc(1, lora_unit_bytes(x, u, dtype));
        x->gradients[u] = calloc(1, lora_unit_bytes(x, u, mst_dtype_acc(dtype)));
        if (!x->f.weights[x->first + u] || !x->gradients[u]) exit(1);
    }
    lora_fill(x, seed);
}

static inline void lora_fixture_clear(lora_fixture *x) {
    for (size_t u = 0; u < x->adapters.unit_count; u++) {
        free(x->f.weights[x->first + u]);
        free(x->gradients[u]);
    }
    mst_layout_clear(&x->adapters);
    fixture_clear(&x->f);
}

/* Adds to x->gradients. */
static inline mst_status lora_train(lora_fixture *x, double loss_scale, double z, mst_loss *loss_out) {
    mst_weight_source source = fixture_source(&x->f);
    mst_gradient_sink sink = {.gradients = x->gradients, .context = &x->f, .unit_done = fixture_done};
    x->f.done_count = 0;
    return mst_model_train(x->f.model, &source, x->f.tokens, x->f.targets, x->f.starts, loss_scale, z, &sink,
                           loss_out);
}

/* Adds scale B A to the weights of a model without adapters, in `to`, which has the same ones otherwise. */
static inline void lora_merge(const lora_fixture *x, fixture *to) {
    const mst_lora *lora = &x->f.options.lora;
    const mst_dtype dtype = to->options.dtype;
    for (size_t t = 0; t < to->layout.tensor_count; t++) {
        const mst_tensor *w = &to->layout.tensors[t];
        mst_lora_pair pair;
        if (!mst_lora_find(&to->config, &x->adapters, w->name, &pair)) continue;
        const mst_tensor *a = &x->adapters.tensors[pair.a], *b = &x->adapters.tensors[pair.b];
        for (size_t r = 0; r < w->shape[0]; r++)
            for (size_t c = 0; c < w->shape[1]; c++) {
                const size_t in = pair.in_out ? r : c, out = pair.in_out ? c : r,
                             at = w->offset + r * w->shape[1] + c;
                double sum = 0;
                for (size_t k = 0; k < lora->rank; k++)
                    sum += fixture_get(x->f.weights[x->first + b->unit], b->offset + out * lora->rank + k,
                                       dtype) *
                           fixture_get(x->f.weights[x->first + a->unit], a->offset + k * a->shape[1] + in,
                                       dtype);
                fixture_set(to->weights[w->unit], at, dtype,
                            fixture_get(to->weights[w->unit], at, dtype) + lora->scale * sum);
            }
    }
}

#endif
