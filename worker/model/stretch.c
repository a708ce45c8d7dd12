/* Stretches of a pass, and their recordings. */
#include "decoder.h"

/* For the two passes through each unit, with a few places for gradients, and an evaluation. */
enum { ROOM = 16 };

typedef struct held_key {
    size_t unit;
    const void *weights, *gradients, *adapters, *adapter_gradients;
} held_key;

/* All that a stretch's arguments follow from but the model. Compared byte by byte: it has no padding. */
typedef struct stretch_key {
    mst_stretch_fn *work;
    size_t packed, adds;
    double loss_scale, z_coefficient; /* 0 where nothing is added */
    held_key held[MST_STRETCH_UNITS]; /* 0 where there is none */
} stretch_key;
_Static_assert(sizeof(stretch_key) == sizeof(mst_stretch_fn *) + 2 * sizeof(size_t) + 2 * sizeof(double) +
                                          MST_STRETCH_UNITS * (sizeof(size_t) + 4 * sizeof(void *)),
               "no padding");

typedef struct stretch {
    mst_stretch_fn *work;
    const mst_held *held;
} stretch;

mst_status mst_stretches_prepare(mst_model *model) {
    if (!model->options.graphs) return MST_OK;
    return mst_recordings_create(model->queue, ROOM * model->layout->unit_count, sizeof(stretch_key),
                                 &model->recordings);
}

void mst_model_forget_graphs(mst_model *model) {
    if (model->recordings) mst_recordings_forget(model->recordings);
}

const char *mst_model_graphs_failure(const mst_model *model) {
    return model->recordings ? mst_recordings_failure(model->recordings) : NULL;
}

static stretch_key key_of(mst_stretch_fn *work, const mst_held *held, size_t count) {
    const mst_pass *pass = held->pass;
    stretch_key key = {.work = work, .packed = pass->starts != NULL};
    for (size_t i = 0; i < count; i++)
        key.held[i] = (held_key){.unit = held[i].unit,
                                 .weights = held[i].weights,
                                 .gradients = held[i].gradients,
                                 .adapters = held[i].adapters,
                                 .adapter_gradients = held[i].adapter_gradients};
    if (!held->sink) return key;
    key.adds = 1;
    key.loss_scale = pass->loss_scale;
    key.z_coefficient = pass->z_coefficient;
    return key;
}

static mst_status run(void *context) {
    const stretch *s = context;
    return s->work(s->held);
}

mst_status mst_stretch(mst_stretch_fn *work, const mst_held *held, size_t count) {
    const mst_model *model = held->pass->model;
    if (!model->recordings) return work(held);
    const stretch_key key = key_of(work, held, count);
    stretch s = {.work = work, .held = held};
    return mst_recordings_run(model->recordings, &key, run, &s);
}
