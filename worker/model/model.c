/* A model's life: its description, its one arena of memory, and the passes that it offers. */
#include <stdlib.h>
#include <string.h>

#include "decoder.h"
#include "rope.h"

/* Hands out consecutive pieces of one allocation; with no base it only measures. */
typedef struct arena {
    char *base;
    size_t used;
} arena;

static void *take(arena *a, size_t count, mst_dtype dtype) {
    size_t bytes = (count * mst_dtype_size(dtype) + 63) / 64 * 64;
    void *piece = a->base ? a->base + a->used : NULL;
    a->used = bytes > SIZE_MAX - a->used ? SIZE_MAX : a->used + bytes;
    return piece;
}

static void place_statistics(const mst_model *model, arena *a, mst_norm_buffers *norm) {
    norm->rstd = take(a, model->rows, model->acc);
    if (model->family->norm == MST_NORM_LAYER) norm->mean = take(a, model->rows, model->acc);
}

/* The input of a norm of the residual stream, and what the norm computes of it; without a norm the stream itself is read. */
static void place_stream(const mst_model *model, arena *a, mst_role role, mst_norm_buffers *norm) {
    norm->x = take(a, model->rows * model->config.d_model, model->dtype);
    if (!mst_has(model, role)) norm->y = norm->x;
}

static void place_output(const mst_model *model, arena *a, mst_role role, mst_norm_buffers *norm) {
    if (mst_has(model, role)) norm->y = take(a, model->rows * model->config.d_model, model->dtype);
}

/* A norm between a half's last product and delta. */
static void place_end_norm(const mst_model *model, arena *a, mst_role role, mst_norm_buffers *norm) {
    norm->x = norm->y = model->delta;
    if (!mst_has(model, role)) return;
    norm->x = take(a, model->rows * model->config.d_model, model->dtype);
    place_statistics(model, a, norm);
}

/* Queries and keys before their norms. */
static void place_head_norms(const mst_model *model, arena *a, mst_layer_buffers *layer) {
    const mst_part *q = &model->part[MST_ROLE_Q_NORM], *k = &model->part[MST_ROLE_K_NORM];
    if (q->rows == 0) return;
    layer->qk = take(a, model->rows * model->column_v, model->dtype);
    layer->q_rstd = take(a, model->rows * (model->width_q / q->rows), model->acc);
    layer->k_rstd = take(a, model->rows * (model->width_k / k->rows), model->acc);
}

/* What takes a matrix product, attention or a sum over a row to compute. */
static void place_products(const mst_model *model, arena *a, mst_layer_buffers *layer) {
    size_t rows = model->rows, d_ff = model->config.d_ff;
    if (mst_has(model, MST_ROLE_NORM1)) place_statistics(model, a, &layer->norm1);
    place_stream(model, a, MST_ROLE_NORM2, &layer->norm2);
    if (mst_has(model, MST_ROLE_NORM2)) place_statistics(model, a, &layer->norm2);
    place_end_norm(model, a, MST_ROLE_ATTENTION_NORM, &layer->attention_norm);
    place_end_norm(model, a, MST_ROLE_MLP_NORM, &layer->mlp_norm);
    layer->qkv = take(a, rows * model->width_qkv, model->dtype);
    place_head_norms(model, a, layer);
    layer->attention = take(a, rows * model->width_q, model->dtype);
    layer->lse = take(a, rows * model->config.n_heads, model->acc);
    if (model->family->mlp == MST_MLP_SWIGLU) layer->gate = take(a, rows * d_ff, model->dtype);
    layer->up = take(a, rows * d_ff, model->dtype);
}

static void place_outputs(const mst_model *model, arena *a, mst_layer_buffers *layer) {
    place_output(model, a, MST_ROLE_NORM1, &layer->norm1);
    place_output(model, a, MST_ROLE_NORM2, &layer->norm2);
    layer->act = take(a, model->rows * model->config.d_ff, model->dtype);
}

/* The first layer has a place for everything; the others have their own for what is kept and use its for the rest. */
static void place_layer(const mst_model *model, arena *a, size_t number) {
    mst_layer_buffers *layer = &model->layers[number];
    if (number > 0) *layer = model->layers[0];
    place_stream(model, a, MST_ROLE_NORM1, &layer->norm1);
    if (number == 0 || model->options.recompute < MST_RECOMPUTE_FULL) place_products(model, a, layer);
    if (number == 0 || model->options.recompute < MST_RECOMPUTE_SELECTIVE) place_outputs(model, a, layer);
}

/* What projections read of which there are several, or which have an adapter: their gradients are added up. */
static size_t widest_adapted(const mst_model *model) {
    size_t widest = model->config.d_model;
    for (int role = 0; role < MST_ROLE_COUNT; role++)
        if (model->adapter[role].a.cols > widest) widest = model->adapter[role].a.cols;
    return widest;
}

static void place_backward(mst_model *model, arena *a) {
    size_t rows = model->rows, d = model->config.d_model;
    model->dx = take(a, rows * d, model->dtype);
    model->dnorm = take(a, rows * d, model->dtype);
    if (model->dtype != model->acc) model->dsum = take(a, rows * widest_adapted(model), model->acc);
    model->dact = take(a, rows * model->config.d_ff, model->dtype);
    model->dattention = take(a, rows * model->width_q, model->dtype);
    model->dqkv = take(a, rows * model->width_qkv, model->dtype);
    model->work = take(a, rows * model->config.n_heads, model->acc);
    if (!mst_is_frozen(model)) return;
    model->dlow = take(a, rows * model->options.lora.rank, model->dtype);
    model->discarded = take(a, d > model->width_q ? d : model->width_q, model->acc);
}

/* What both passes need of adapters. */
static void place_adapters(mst_model *model, arena *a) {
    size_t rows = model->rows, d = model->config.d_model, widest = model->width_qkv;
    if (!mst_is_frozen(model)) return;
    if (widest < d) widest = d;
    if (widest < model->config.d_ff) widest = model->config.d_ff;
    model->low = take(a, rows * model->options.lora.rank, model->dtype);
    if (model->dtype != model->acc) model->low_out = take(a, rows * widest, model->dtype);
}

static size_t layer_sets(const mst_model *model) {
    return model->options.forward_only ? 1 : model->config.n_layers;
}

/* Sets every pointer into the arena. Run twice: to measure, then to place. */
static void place(mst_model *model, arena *a) {
    size_t rows = model->rows;
    model->delta = take(a, rows * model->config.d_model, model->dtype);
    for (size_t i = 0; i < layer_sets(model); i++) place_layer(model, a, i);
    place_stream(model, a, MST_ROLE_FINAL_NORM, &model->final);
    place_output(model, a, MST_ROLE_FINAL_NORM, &model->final);
    place_statistics(model, a, &model->final);
    bool keeps = model->options.kept_tokens > 0; /* then there is no loss, and logits of one row at most */
    model->logits = take(a, (keeps ? 1 : model->chunk_rows) * model->config.vocab_size, model->acc);
    const size_t losses = a->used;
    model->loss = take(a, keeps ? 0 : rows, model->acc);
    model->zloss = take(a, keeps ? 0 : rows, model->acc);
    model->loss_bytes = a->used - losses;
    place_adapters(model, a);
    if (!model->options.forward_only) place_backward(model, a);
    model->passing = a->used;
    model->tokens = take(a, rows, MST_F32); /* of the same size */
    model->targets = take(a, keeps ? 0 : rows, MST_F32);
    model->starts = take(a, keeps ? 0 : rows, MST_F32);
    model->input_bytes = a->used - model->passing;
    if (model->family->positions == MST_POSITIONS_ROPE) {
        size_t count = mst_positions(model) * (model->config.head_dim / 2);
        model->cosine = take(a, count, MST_F32);
        model->sine = take(a, count, MST_F32);
    }
    if (keeps)
        model->keys_values = take(
            a, model->config.n_layers * model->options.kept_tokens * (model->width_qkv - model->column_k),
            model->dtype);
}

static mst_status allocate(mst_model *model) {
    mst_status status = MST_OK;
    arena measure = {0};
    model->layers = calloc(layer_sets(model), sizeof *model->layers);
    MST_CHECK(model->layers, MST_ENOMEM, "model: no memory for the description of %zu layers",
              model->config.n_layers);
    place(model, &measure);
    MST_CHECK(measure.used < SIZE_MAX, MST_ENOMEM,
              "model: activations of %zu sequences of %zu tokens exceed any memory; use smaller microbatches",
              model->options.micro, model->options.seq_len);
    MST_TRY(mst_memory_alloc(MST_SPACE_DEVICE, measure.used, &model->arena));
    model->arena_bytes = measure.used;
    arena placed = {.base = model->arena};
    place(model, &placed);
done:
    return status;
}

static void add_parts(mst_model *model, const mst_tensor_spec *spec, const mst_unit *unit) {
    const mst_tensor *tensor = &model->layout->tensors[unit->first_tensor];
    const mst_tensor *end = tensor + unit->tensors;
    for (; spec->name && tensor < end; spec++, tensor++)
        model->part[spec->role] =
            (mst_part){.offset = tensor->offset, .rows = tensor->shape[0], .cols = tensor->shape[1]};
}

size_t mst_model_head_rows(const mst_model_options *options) {
    enum { LEAST = 256, SHARE = 16 };
    const size_t all = options->micro * options->seq_len;
    size_t rows = options->head_rows;
    if (rows == 0) rows = all / SHARE > LEAST ? all / SHARE : LEAST;
    return rows < all ? rows : all;
}

/* Fills what follows from the config and the options alone. */
static void describe(mst_model *model) {
    const mst_model_config *config = &model->config;
    const mst_kernels *kernels = model->kernels;
    bool rms = model->family->norm == MST_NORM_RMS;
    model->norm_forward = rms ? kernels->rmsnorm_forward : kernels->layernorm_forward;
    model->norm_backward = rms ? kernels->rmsnorm_backward : kernels->layernorm_backward;
    model->dtype = model->options.dtype;
    model->acc = mst_dtype_acc(model->dtype);
    model->rows = model->options.micro * model->options.seq_len;
    model->chunk_rows = mst_model_head_rows(&model->options);
    model->width_q = mst_extent_of(config, MST_EXTENT_QUERY);
    model->width_k = mst_extent_of(config, MST_EXTENT_KEY);
    model->width_qkv = mst_extent_of(config, MST_EXTENT_QKV);
    model->column_k = model->width_q;
    model->column_v = model->width_q + model->width_k;
    const mst_unit *units = model->layout->units;
    add_parts(model, model->family->embedding, &units[0]);
    add_parts(model, model->family->layer, &units[mst_layer_unit(0)]);
    add_parts(model, model->family->head, &units[model->layout->unit_count - 1]);
    mst_lora_describe(model);
}

static mst_status check_kept(const mst_model_config *config, const mst_model_options *options,
                             size_t longest) {
    mst_status status = MST_OK;
    size_t kept = options->kept_tokens, width = 2 * mst_extent_of(config, MST_EXTENT_KEY);
    if (kept == 0) goto done;
    MST_CHECK(options->forward_only && options->micro == 1 && !options->graphs, MST_EINVAL,
              "model: only a forward-only model of one sequence, without graphs, can keep tokens");
    MST_CHECK(kept <= longest, MST_ECONFIG, "model: a context of %zu tokens; it must be 1 to %zu", kept,
              longest);
    MST_CHECK(kept <= SIZE_MAX / sizeof(double) / config->n_layers / width, MST_ENOMEM,
              "model: keys and values of %zu tokens exceed any memory", kept);
done:
    return status;
}

static mst_status check_options(const mst_model_config *config, const mst_layout *layout,
                                const mst_model_options *options) {
    mst_status status = MST_OK;
    const mst_family *family = mst_family_get(config->family);
    bool learned = family->positions == MST_POSITIONS_LEARNED;
    size_t longest = learned ? config->max_seq_len : MST_ROPE_POSITIONS;
    MST_CHECK(options->seq_len >= 1 && options->seq_len <= longest, MST_ECONFIG,
              "model: seq_len is %zu; it must be 1 to %zu%s", options->seq_len, longest,
              learned ? ", model.max_seq_len" : "");
    MST_TRY(check_kept(config, options, longest));
    MST_CHECK(options->micro >= 1 && options->micro <= INT32_MAX / options->seq_len, MST_ECONFIG,
              "model: a microbatch of %zu sequences of %zu tokens; it must have 1 to %d tokens",
              options->micro, options->seq_len, INT32_MAX);
    MST_CHECK(options->head_rows <= INT32_MAX, MST_EINVAL, "model: %zu rows of logits at a time; at most %d",
              options->head_rows, INT32_MAX);
    MST_CHECK(layout->unit_count == config->n_layers + 2, MST_EINVAL,
              "model: the layout has %zu units, the config asks for %zu; make it with mst_model_layout",
              layout->unit_count, config->n_layers + 2);
done:
    return status;
}

static mst_status fill_angles(const mst_model *model) {
    mst_status status = MST_OK;
    size_t count = mst_positions(model) * (model->config.head_dim / 2);
    float *cosine = calloc(count, sizeof *cosine), *sine = calloc(count, sizeof *sine);
    MST_CHECK(cosine && sine, MST_ENOMEM, "model: no memory for %zu angles", count);
    mst_rope_tables(&model->config, mst_positions(model), cosine, sine);
    MST_TRY(mst_memory_copy(model->queue, model->cosine, cosine, count * sizeof *cosine));
    MST_TRY(mst_memory_copy(model->queue, model->sine, sine, count * sizeof *sine));
done:
    free(cosine);
    free(sine);
    return status;
}

mst_status mst_model_create(const mst_model_config *config, const mst_layout *layout,
                            const mst_model_options *options, mst_queue *queue, const mst_kernels *kernels,
                            mst_model **model_out) {
    mst_status status = MST_OK;
    mst_model *model = NULL;
    *model_out = NULL;
    MST_TRY(mst_model_config_check(config));
    MST_TRY(check_options(config, layout, options));
    model = calloc(1, sizeof *model);
    MST_CHECK(model, MST_ENOMEM, "model: no memory for its description");
    model->config = *config;
    model->options = *options;
    model->family = mst_family_get(config->family);
    model->layout = layout;
    model->queue = queue;
    model->kernels = kernels;
    describe(model);
    MST_TRY(allocate(model));
    MST_TRY(mst_turns_init(model));
    if (model->cosine) MST_TRY(fill_angles(model));
    MST_TRY(mst_stretches_prepare(model));
    *model_out = model;
    model = NULL;
done:
    mst_model_destroy(&model);
    return status;
}

void mst_model_destroy(mst_model **model) {
    if (!*model) return;
    mst_turns_clear(*model);
    mst_recordings_destroy(&(*model)->recordings);
    mst_memory_free(MST_SPACE_DEVICE, &(*model)->arena);
    free((*model)->layers);
    free(*model);
    *model = NULL;
}

static size_t pinned_bytes(const mst_model *model) {
    return MST_TURNS * (model->input_bytes + model->loss_bytes);
}

size_t mst_model_bytes(const mst_model *model) {
    return model->arena_bytes + (mst_memory_is_apart() ? pinned_bytes(model) : 0);
}

mst_status mst_model_bytes_of(const mst_model_config *config, const mst_layout *layout,
                              const mst_model_options *options, size_t *bytes_out, size_t *pinned_out) {
    mst_status status = MST_OK;
    const mst_kernels none = {0}; /* nothing is computed */
    arena measure = {0};
    mst_model model = {.config = *config,
                       .options = *options,
                       .family = mst_family_get(config->family),
                       .layout = layout,
                       .kernels = &none};
    MST_TRY(mst_model_config_check(config));
    MST_TRY(check_options(config, layout, options));
    describe(&model);
    model.layers = calloc(layer_sets(&model), sizeof *model.layers);
    MST_CHECK(model.layers, MST_ENOMEM, "model: no memory for the description of %zu layers",
              config->n_layers);
    place(&model, &measure);
    *bytes_out = measure.used;
    *pinned_out = pinned_bytes(&model);
done:
    free(model.layers);
    return status;
}

mst_status mst_check_tokens(const mst_model *model, const int32_t *tokens, size_t count,
                            const int32_t *targets) {
    mst_status status = MST_OK;
    size_t vocab = model->config.vocab_size;
    for (size_t r = 0; r < count; r++) {
        MST_CHECK(tokens[r] >= 0 && (size_t)tokens[r] < vocab, MST_EINVAL,
                  "model: token %zu of the microbatch is %d; it must be 0 to %zu (vocab_size %zu)", r,
                  tokens[r], vocab - 1, vocab);
        MST_CHECK(!targets || targets[r] < 0 || (size_t)targets[r] < vocab, MST_EINVAL,
                  "model: target %zu of the microbatch is %d; it must be below %zu (vocab_size), or negative "
                  "for none",
                  r, targets[r], vocab);
    }
done:
    return status;
}

mst_status mst_check_starts(const mst_pass *pass) {
    mst_status status = MST_OK;
    const int32_t *starts = pass->starts;
    const size_t seq_len = pass->model->options.seq_len;
    for (size_t r = 0; starts && r < pass->model->rows; r++) {
        const int32_t t = (int32_t)(r % seq_len), former = t > 0 ? starts[r - 1] : 0;
        MST_CHECK(
            starts[r] == t || (t > 0 && starts[r] == former), MST_EINVAL,
            "model: the document of token %zu of the microbatch begins at %d; it must be %d, or %d as of "
            "the token before",
            r, starts[r], t, former);
    }
done:
    return status;
}

/* A model that keeps tokens has no buffers for a pass over whole sequences. */
static mst_status check_whole(const mst_model *model) {
    mst_status status = MST_OK;
    MST_CHECK(!model->keys_values, MST_EINVAL,
              "model: it keeps tokens, so only mst_model_extend may be called");
done:
    return status;
}

mst_status mst_model_train(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                           const int32_t *targets, const int32_t *starts, double loss_scale,
                           double z_coefficient, const mst_gradient_sink *sink, mst_loss *loss_out) {
    mst_status status = MST_OK;
    mst_pass pass = {.model = model,
                     .source = weights,
                     .sink = sink,
                     .tokens = tokens,
                     .targets = targets,
                     .starts = starts,
                     .loss_scale = loss_scale,
                     .z_coefficient = z_coefficient};
    MST_CHECK(!model->options.forward_only, MST_EINVAL, "model: a forward-only model cannot be trained");
    MST_TRY(mst_check_tokens(model, tokens, model->rows, targets));
    MST_TRY(mst_check_starts(&pass));
    MST_TRY(mst_pass_begin(&pass));
    MST_TRY(mst_pass_forward(&pass));
    MST_TRY(mst_pass_head(&pass));
    MST_TRY(mst_pass_backward(&pass));
    MST_TRY(mst_pass_end(&pass, loss_out));
done:
    return status;
}

mst_status mst_model_loss(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                          const int32_t *targets, const int32_t *starts, mst_loss *loss_out) {
    mst_status status = MST_OK;
    mst_pass pass = {
        .model = model, .source = weights, .tokens = tokens, .targets = targets, .starts = starts};
    MST_TRY(check_whole(model));
    MST_TRY(mst_check_tokens(model, tokens, model->rows, targets));
    MST_TRY(mst_check_starts(&pass));
    MST_TRY(mst_pass_begin(&pass));
    MST_TRY(mst_pass_forward(&pass));
    MST_TRY(mst_pass_head(&pass));
    MST_TRY(mst_pass_end(&pass, loss_out));
done:
    return status;
}

mst_status mst_model_logits(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                            size_t position, void *logits_out) {
    mst_status status = MST_OK;
    mst_pass pass = {.model = model, .source = weights, .tokens = tokens};
    MST_TRY(check_whole(model));
    MST_CHECK(position < model->options.seq_len, MST_EINVAL,
              "model: logits of position %zu; it must be below seq_len, %zu", position,
              model->options.seq_len);
    MST_TRY(mst_check_tokens(model, tokens, model->rows, NULL));
    MST_TRY(mst_pass_begin(&pass));
    MST_TRY(mst_pass_forward(&pass));
    MST_TRY(mst_pass_logits(&pass, position, logits_out));
done:
    return status;
}
