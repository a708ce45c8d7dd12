/* The forward and the backward pass through embedding and layers. */
#include <math.h>

#include "decoder.h"

enum { MAX_PRODUCTS = 4 };

static size_t add_product(const mst_model *model, mst_role role, void *y, size_t ldy, mst_product *products,
                          size_t count) {
    if (!mst_has(model, role)) return count;
    products[count] = (mst_product){.role = role, .y = y, .ldy = ldy};
    return count + 1;
}

/* The products that fill [rows, q + 2 kv]: one fused, or three side by side. Queries and keys that are normalised
 * first go to qk [rows, q + kv]; NULL: there are none. */
static size_t qkv_products(const mst_model *model, void *qkv, void *qk, mst_product products[MAX_PRODUCTS]) {
    size_t ld = model->width_qkv, ldqk = qk ? model->column_v : ld, count = 0;
    if (!qk) qk = qkv;
    count = add_product(model, MST_ROLE_QKV, qkv, ld, products, count);
    count = add_product(model, MST_ROLE_Q, qk, ldqk, products, count);
    count = add_product(model, MST_ROLE_K, mst_at(qk, model->column_k, model->dtype), ldqk, products, count);
    return add_product(model, MST_ROLE_V, mst_at(qkv, model->column_v, model->dtype), ld, products, count);
}

/* The norm of queries or of keys: `width` elements from a column on, in vectors as long as the weight. */
typedef struct head_norm {
    mst_role role;
    size_t column, width;
    void *rstd;
} head_norm;

static mst_status head_norm_forward(const mst_held *held, const mst_layer_buffers *layer, head_norm norm) {
    const mst_model *model = held->pass->model;
    size_t cols = model->part[norm.role].rows;
    if (!mst_has(model, norm.role)) return MST_OK;
    mst_norm_args args = {
        .rows = model->rows,
        .groups = norm.width / cols,
        .cols = cols,
        .ldx = model->column_v,
        .ldy = model->width_qkv,
        .dtype = model->dtype,
        .eps = model->config.norm_eps,
        .round_first = model->family->norm_rounds_first,
        .x = mst_at(layer->qk, norm.column, model->dtype),
        .weight = mst_weight(held, norm.role),
        .y = mst_at(layer->qkv, norm.column, model->dtype),
        .rstd = norm.rstd,
    };
    return model->norm_forward(model->queue, &args);
}

/* In place: the gradient of the norm's output in dqkv becomes that of its input. */
static mst_status head_norm_backward(const mst_held *held, const mst_layer_buffers *layer, head_norm norm) {
    const mst_model *model = held->pass->model;
    size_t cols = model->part[norm.role].rows;
    if (!mst_has(model, norm.role)) return MST_OK;
    void *gradient = mst_at(model->dqkv, norm.column, model->dtype);
    mst_norm_grad_args args = {
        .rows = model->rows,
        .groups = norm.width / cols,
        .cols = cols,
        .ldx = model->column_v,
        .ldd = model->width_qkv,
        .dtype = model->dtype,
        .x = mst_at(layer->qk, norm.column, model->dtype),
        .weight = mst_weight(held, norm.role),
        .rstd = norm.rstd,
        .dy = gradient,
        .dx = gradient,
        .dweight = mst_norm_gradient(held, norm.role),
    };
    return model->norm_backward(model->queue, &args);
}

static head_norm query_norm(const mst_model *model, const mst_layer_buffers *layer) {
    return (head_norm){MST_ROLE_Q_NORM, 0, model->width_q, layer->q_rstd};
}

static head_norm key_norm(const mst_model *model, const mst_layer_buffers *layer) {
    return (head_norm){MST_ROLE_K_NORM, model->column_k, model->width_k, layer->k_rstd};
}

static size_t mlp_products(const mst_model *model, void *gate, void *up, mst_product products[MAX_PRODUCTS]) {
    size_t count = add_product(model, MST_ROLE_GATE, gate, model->config.d_ff, products, 0);
    return add_product(model, MST_ROLE_UP, up, model->config.d_ff, products, count);
}

/* Turns queries and keys, which stand side by side like heads of one tensor, by their positions; or back. */
static mst_status turn(const mst_pass *pass, void *qkv, bool inverse) {
    const mst_model *model = pass->model;
    const mst_model_config *config = &model->config;
    if (model->family->positions != MST_POSITIONS_ROPE) return MST_OK;
    mst_rope_args args = {
        .rows = model->rows,
        .heads = config->n_heads + config->n_kv_heads,
        .head_dim = config->head_dim,
        .seq_len = model->options.seq_len,
        .first = model->first,
        .starts = mst_starts(pass),
        .dtype = model->dtype,
        .cosine = model->cosine,
        .sine = model->sine,
        .inverse = inverse,
        .x = qkv,
        .ld = model->width_qkv,
    };
    return model->kernels->rope(model->queue, &args);
}

/* What attention's two passes have in common. */
static mst_attention_args attention_args(const mst_pass *pass, const mst_layer_buffers *layer) {
    const mst_model *model = pass->model;
    const mst_model_config *config = &model->config;
    size_t ld = model->width_qkv;
    return (mst_attention_args){
        .sequences = model->options.micro,
        .seq_len = model->options.seq_len,
        .heads = config->n_heads,
        .kv_heads = config->n_kv_heads,
        .head_dim = config->head_dim,
        .starts = mst_starts(pass),
        .dtype = model->dtype,
        .scale = 1 / sqrt((double)config->head_dim),
        .q = layer->qkv,
        .k = mst_at(layer->qkv, model->column_k, model->dtype),
        .v = mst_at(layer->qkv, model->column_v, model->dtype),
        .ldq = ld,
        .ldk = ld,
        .ldv = ld,
        .out = layer->attention,
        .lse = layer->lse,
        .workspace = model->options.attention_workspace,
    };
}

/* The product that ends a half of the layer, and the norm of its result where the family has one: leaves delta. */
static mst_status half_end_forward(const mst_held *held, mst_role product_role, const void *x,
                                   mst_role norm_role, const mst_norm_buffers *norm) {
    mst_status status = MST_OK;
    const mst_model *model = held->pass->model;
    mst_product product = {.role = product_role, .y = norm->x, .ldy = model->config.d_model};
    MST_TRY(mst_products_forward(held, 1, &product, x));
    if (mst_has(model, norm_role)) MST_TRY(mst_norm_forward(held, norm_role, norm->x, NULL, norm));
done:
    return status;
}

static mst_status attention_forward(const mst_held *held, const mst_layer_buffers *layer) {
    mst_status status = MST_OK;
    mst_model *model = held->pass->model;
    mst_product products[MAX_PRODUCTS];
    size_t count = qkv_products(model, layer->qkv, layer->qk, products);
    MST_TRY(mst_products_forward(held, count, products, layer->norm1.y));
    MST_TRY(head_norm_forward(held, layer, query_norm(model, layer)));
    MST_TRY(head_norm_forward(held, layer, key_norm(model, layer)));
    MST_TRY(turn(held->pass, layer->qkv, false));
    mst_attention_args args = attention_args(held->pass, layer);
    if (model->keys_values) MST_TRY(mst_keep(held, layer->qkv, &args));
    MST_TRY(model->kernels->attention_forward(model->queue, &args));
    MST_TRY(half_end_forward(held, MST_ROLE_O, layer->attention, MST_ROLE_ATTENTION_NORM,
                             &layer->attention_norm));
done:
    return status;
}

static mst_status activation_forward(const mst_model *model, const mst_layer_buffers *layer) {
    size_t rows = model->rows, cols = model->config.d_ff;
    if (model->family->mlp == MST_MLP_SWIGLU) {
        mst_swiglu_args args = {.rows = rows,
                                .cols = cols,
                                .dtype = model->dtype,
                                .gate = layer->gate,
                                .up = layer->up,
                                .y = layer->act};
        return model->kernels->swiglu_forward(model->queue, &args);
    }
    mst_gelu_args args = {.count = rows * cols, .dtype = model->dtype, .x = layer->up, .y = layer->act};
    return model->kernels->gelu_forward(model->queue, &args);
}

static mst_status mlp_products_forward(const mst_held *held, const mst_layer_buffers *layer) {
    mst_product products[MAX_PRODUCTS];
    size_t count = mlp_products(held->pass->model, layer->gate, layer->up, products);
    return mst_products_forward(held, count, products, layer->norm2.y);
}

static mst_status mlp_end_forward(const mst_held *held, const mst_layer_buffers *layer) {
    return half_end_forward(held, MST_ROLE_DOWN, layer->act, MST_ROLE_MLP_NORM, &layer->mlp_norm);
}

static mst_status mlp_forward(const mst_held *held, const mst_layer_buffers *layer) {
    mst_status status = MST_OK;
    MST_TRY(mlp_products_forward(held, layer));
    MST_TRY(activation_forward(held->pass->model, layer));
    MST_TRY(mlp_end_forward(held, layer));
done:
    return status;
}

/* Reads the residual stream as x + delta (layer 0: norm1.x) and leaves it as norm2.x + delta. */
static mst_status layer_forward(const mst_held *held) {
    mst_status status = MST_OK;
    const mst_model *model = held->pass->model;
    const size_t number = mst_layer_of(held);
    const mst_layer_buffers *layer = mst_layer(model, number);
    const void *x = number > 0 ? mst_layer(model, number - 1)->norm2.x : layer->norm1.x;
    MST_TRY(mst_norm_forward(held, MST_ROLE_NORM1, x, number > 0 ? model->delta : NULL, &layer->norm1));
    MST_TRY(attention_forward(held, layer));
    MST_TRY(mst_norm_forward(held, MST_ROLE_NORM2, layer->norm1.x, model->delta, &layer->norm2));
    MST_TRY(mlp_forward(held, layer));
done:
    return status;
}

/*
 * What the backward pass of a layer reads and was not kept, by the kernels and from the values of the forward pass. The last
 * layer's is still there. Not computed again: what only the next layer would read.
 */
static mst_status recompute(const mst_held *held, const mst_layer_buffers *layer) {
    mst_status status = MST_OK;
    const mst_model *model = held->pass->model;
    const bool full = model->options.recompute == MST_RECOMPUTE_FULL,
               last = mst_layer_of(held) + 1 == model->config.n_layers;
    if (model->options.recompute == MST_RECOMPUTE_NONE || last) goto done;
    if (mst_has(model, MST_ROLE_NORM1))
        MST_TRY(mst_norm_forward(held, MST_ROLE_NORM1, layer->norm1.x, NULL, &layer->norm1));
    if (full) MST_TRY(attention_forward(held, layer));
    if (full)
        MST_TRY(mst_norm_forward(held, MST_ROLE_NORM2, layer->norm1.x, model->delta, &layer->norm2));
    else if (mst_has(model, MST_ROLE_NORM2))
        MST_TRY(mst_norm_forward(held, MST_ROLE_NORM2, layer->norm2.x, NULL, &layer->norm2));
    if (full) MST_TRY(mlp_products_forward(held, layer));
    MST_TRY(activation_forward(model, layer));
    if (full && mst_has(model, MST_ROLE_MLP_NORM)) MST_TRY(mlp_end_forward(held, layer));
done:
    return status;
}

/* What the embedding's two passes have in common. */
static mst_embedding_args embedding_args(const mst_pass *pass) {
    const mst_model *model = pass->model;
    return (mst_embedding_args){
        .rows = model->rows,
        .cols = model->config.d_model,
        .vocab = model->config.vocab_size,
        .seq_len = model->options.seq_len,
        .first = model->first,
        .dtype = model->dtype,
        .tokens = model->tokens,
        .starts = mst_starts(pass),
    };
}

static mst_status embedding_forward(const mst_held *held) {
    const mst_model *model = held->pass->model;
    mst_embedding_args args = embedding_args(held->pass);
    args.table = mst_weight(held, MST_ROLE_TOKENS);
    args.positions = mst_weight(held, MST_ROLE_POSITIONS);
    args.y = mst_layer(model, 0)->norm1.x;
    return model->kernels->embedding_forward(model->queue, &args);
}

/* Holds the unit meanwhile. */
static mst_status pass_unit(const mst_pass *pass, size_t unit, const mst_gradient_sink *sink,
                            mst_stretch_fn *work) {
    mst_status status = MST_OK;
    mst_held held;
    MST_TRY(mst_held_acquire(pass, unit, sink, &held));
    MST_TRY(mst_stretch(work, &held, 1));
done:
    mst_held_release(&held);
    return status;
}

mst_status mst_pass_forward(const mst_pass *pass) {
    mst_status status = MST_OK;
    const mst_model *model = pass->model;
    size_t unit = 0;
    MST_TRY(pass_unit(pass, unit, NULL, embedding_forward));
    for (size_t i = 0; i < model->config.n_layers; i++) {
        unit = mst_layer_unit(i);
        MST_TRY(pass_unit(pass, unit, NULL, layer_forward));
    }
done:
    return status ? mst_error_context(status, "forward pass of %s", model->layout->units[unit].name) : MST_OK;
}

/* From dact; the gradient of gate takes gate's place, that of up takes act's, which is no longer needed. */
static mst_status activation_backward(const mst_model *model, const mst_layer_buffers *layer) {
    size_t rows = model->rows, cols = model->config.d_ff;
    if (model->family->mlp == MST_MLP_SWIGLU) {
        mst_swiglu_args args = {.rows = rows,
                                .cols = cols,
                                .dtype = model->dtype,
                                .gate = layer->gate,
                                .up = layer->up,
                                .dy = model->dact,
                                .dgate = layer->gate,
                                .dup = layer->act};
        return model->kernels->swiglu_backward(model->queue, &args);
    }
    mst_gelu_args args = {
        .count = rows * cols, .dtype = model->dtype, .x = layer->up, .dy = model->dact, .dx = layer->act};
    return model->kernels->gelu_backward(model->queue, &args);
}

/* From dx, the gradient of delta, to that of the last product's input x. Overwrites dnorm where there is a norm. */
static mst_status half_end_backward(const mst_held *held, mst_role product_role, const void *x,
                                    void *gradient, mst_role norm_role, const mst_norm_buffers *norm) {
    mst_status status = MST_OK;
    const mst_model *model = held->pass->model;
    mst_product product = {.role = product_role, .y = model->dx, .ldy = model->config.d_model};
    if (mst_has(model, norm_role)) {
        MST_TRY(mst_norm_backward(held, norm_role, norm, model->dx, NULL, model->dnorm));
        product.y = model->dnorm;
    }
    MST_TRY(mst_products_backward(held, 1, &product, x, gradient));
done:
    return status;
}

/* From dx, the gradient of the layer's output, to dnorm, that of norm2's. */
static mst_status mlp_backward(const mst_held *held, const mst_layer_buffers *layer) {
    mst_status status = MST_OK;
    mst_model *model = held->pass->model;
    MST_TRY(
        half_end_backward(held, MST_ROLE_DOWN, layer->act, model->dact, MST_ROLE_MLP_NORM, &layer->mlp_norm));
    MST_TRY(activation_backward(model, layer));
    mst_product products[MAX_PRODUCTS];
    size_t count = mlp_products(model, layer->gate, layer->act, products);
    MST_TRY(mst_products_backward(held, count, products, layer->norm2.y, model->dnorm));
done:
    return status;
}

/* From dx, the gradient of what attention was added to, to dnorm, that of norm1's output. */
static mst_status attention_backward(const mst_held *held, const mst_layer_buffers *layer) {
    mst_status status = MST_OK;
    mst_model *model = held->pass->model;
    MST_TRY(half_end_backward(held, MST_ROLE_O, layer->attention, model->dattention, MST_ROLE_ATTENTION_NORM,
                              &layer->attention_norm));
    mst_attention_args args = attention_args(held->pass, layer);
    args.dout = model->dattention;
    args.dq = model->dqkv;
    args.dk = mst_at(model->dqkv, model->column_k, model->dtype);
    args.dv = mst_at(model->dqkv, model->column_v, model->dtype);
    args.work = model->work;
    MST_TRY(model->kernels->attention_backward(model->queue, &args));
    MST_TRY(turn(held->pass, model->dqkv, true));
    MST_TRY(head_norm_backward(held, layer, query_norm(model, layer)));
    MST_TRY(head_norm_backward(held, layer, key_norm(model, layer)));
    mst_product products[MAX_PRODUCTS];
    size_t count = qkv_products(model, model->dqkv, NULL, products);
    MST_TRY(mst_products_backward(held, count, products, layer->norm1.y, model->dnorm));
done:
    return status;
}

static mst_status layer_backward(const mst_held *held) {
    mst_status status = MST_OK;
    const mst_model *model = held->pass->model;
    const mst_layer_buffers *layer = mst_layer(model, mst_layer_of(held));
    MST_TRY(recompute(held, layer));
    MST_TRY(mlp_backward(held, layer));
    MST_TRY(mst_norm_backward(held, MST_ROLE_NORM2, &layer->norm2, model->dnorm, model->dx, model->dx));
    MST_TRY(attention_backward(held, layer));
    MST_TRY(mst_norm_backward(held, MST_ROLE_NORM1, &layer->norm1, model->dnorm, model->dx, model->dx));
done:
    return status;
}

static mst_status embedding_backward(const mst_held *held) {
    const mst_model *model = held->pass->model;
    mst_embedding_args args = embedding_args(held->pass);
    args.dy = model->dx;
    args.dtable = mst_gradient(held, MST_ROLE_TOKENS);
    args.dpositions = mst_gradient(held, MST_ROLE_POSITIONS);
    return model->kernels->embedding_backward(model->queue, &args);
}

mst_status mst_pass_backward(const mst_pass *pass) {
    mst_status status = MST_OK;
    const mst_model *model = pass->model;
    size_t unit = 0;
    for (size_t i = model->config.n_layers; i > 0; i--) {
        unit = mst_layer_unit(i - 1);
        MST_TRY(pass_unit(pass, unit, pass->sink, layer_backward));
        MST_TRY(mst_unit_done(pass, unit));
    }
    unit = 0;
    if (mst_is_frozen(model)) goto done;
    /* No weights are needed, so none are taken. */
    const mst_held embedding = {
        .pass = pass, .unit = unit, .sink = pass->sink, .gradients = pass->sink->gradients[unit]};
    MST_TRY(mst_stretch(embedding_backward, &embedding, 1));
    MST_TRY(mst_unit_done(pass, unit));
done:
    return status ? mst_error_context(status, "backward pass of %s", model->layout->units[unit].name)
                  : MST_OK;
}
