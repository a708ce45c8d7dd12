/* What both passes are made of: units held, products and norms. */
#include "decoder.h"

/* How the source numbers the unit of a layer's adapters. */
static size_t adapter_unit(const mst_model *model, size_t unit) {
    return model->layout->unit_count + unit - mst_layer_unit(0);
}

mst_status mst_held_acquire(const mst_pass *pass, size_t unit, const mst_gradient_sink *sink,
                            mst_held *held_out) {
    mst_status status = MST_OK;
    const mst_model *model = pass->model;
    const void *weights = NULL;
    *held_out = (mst_held){.pass = pass, .unit = unit, .sink = sink};
    MST_TRY(pass->source->acquire(pass->source->context, unit, &weights));
    held_out->weights = weights;
    if (!mst_is_frozen(model)) {
        if (sink) held_out->gradients = sink->gradients[unit];
    } else if (mst_is_layer(model, unit)) {
        const size_t adapters = mst_layer_of(held_out);
        MST_TRY(pass->source->acquire(pass->source->context, adapter_unit(model, unit), &weights));
        held_out->adapters = weights;
        if (sink) held_out->adapter_gradients = sink->gradients[adapters];
    }
done:
    return status;
}

void mst_held_release(mst_held *held) {
    if (!held->weights) return;
    const mst_weight_source *source = held->pass->source;
    if (held->adapters) source->release(source->context, adapter_unit(held->pass->model, held->unit));
    source->release(source->context, held->unit);
    held->weights = held->adapters = NULL;
}

const void *mst_weight(const mst_held *held, mst_role role) {
    const mst_model *model = held->pass->model;
    return mst_has(model, role) ? mst_at(held->weights, model->part[role].offset, model->dtype) : NULL;
}

void *mst_gradient(const mst_held *held, mst_role role) {
    const mst_model *model = held->pass->model;
    if (!held->gradients || !mst_has(model, role)) return NULL;
    return mst_at(held->gradients, model->part[role].offset, model->acc);
}

void *mst_norm_gradient(const mst_held *held, mst_role role) {
    const mst_model *model = held->pass->model;
    return mst_is_frozen(model) ? model->discarded : mst_gradient(held, role);
}

mst_status mst_unit_done(const mst_pass *pass, size_t unit) {
    const mst_model *model = pass->model;
    if (!pass->sink->unit_done) return MST_OK;
    if (!mst_is_frozen(model)) return pass->sink->unit_done(pass->sink->context, unit);
    return mst_is_layer(model, unit) ? pass->sink->unit_done(pass->sink->context, unit - mst_layer_unit(0))
                                     : MST_OK;
}

/* Widths of a product's input and output, however its weight is stored. */
static size_t width_in(const mst_model *model, const mst_part *w) {
    return model->family->in_out ? w->rows : w->cols;
}

static size_t width_out(const mst_model *model, const mst_part *w) {
    return model->family->in_out ? w->cols : w->rows;
}

static mst_status product_forward(const mst_held *held, const mst_product *product, const void *x) {
    const mst_model *model = held->pass->model;
    const mst_part *w = &model->part[product->role];
    bool in_out = model->family->in_out;
    size_t in = width_in(model, w), out = width_out(model, w);
    mst_matmul_args y = {
        .m = model->rows,
        .n = out,
        .k = in,
        .dtype = model->dtype,
        .c_dtype = model->dtype,
        .b_transposed = !in_out,
        .a = x,
        .lda = in,
        .b = mst_weight(held, product->role),
        .ldb = w->cols,
        .bias = mst_weight(held, product->role + 1),
        .c = product->y,
        .ldc = product->ldy,
    };
    return model->kernels->matmul(model->queue, &y);
}

mst_status mst_products_forward(const mst_held *held, size_t count, const mst_product *products,
                                const void *x) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < count; i++) {
        MST_TRY(product_forward(held, &products[i], x));
        MST_TRY(mst_lora_forward(held, &products[i], x));
    }
done:
    return status;
}

/* Adds the gradients of one weight, [out, in] += dy^T x or [in, out] += x^T dy, and of its bias. */
static mst_status product_backward_weight(const mst_held *held, const mst_product *product, const void *x) {
    mst_status status = MST_OK;
    const mst_model *model = held->pass->model;
    const mst_part *w = &model->part[product->role];
    bool in_out = model->family->in_out;
    size_t in = width_in(model, w), out = width_out(model, w);
    if (mst_is_frozen(model)) goto done;
    mst_matmul_args dw = {
        .m = w->rows,
        .n = w->cols,
        .k = model->rows,
        .dtype = model->dtype,
        .c_dtype = model->acc,
        .a_transposed = true,
        .a = in_out ? x : product->y,
        .lda = in_out ? in : product->ldy,
        .b = in_out ? product->y : x,
        .ldb = in_out ? product->ldy : in,
        .c = mst_gradient(held, product->role),
        .ldc = w->cols,
        .accumulate = true,
    };
    MST_TRY(model->kernels->matmul(model->queue, &dw));
    if (mst_has(model, product->role + 1)) {
        mst_bias_grad_args db = {
            .rows = model->rows,
            .cols = out,
            .dtype = model->dtype,
            .dy = product->y,
            .ld = product->ldy,
            .dbias = mst_gradient(held, product->role + 1),
        };
        MST_TRY(model->kernels->bias_grad(model->queue, &db));
    }
done:
    return status;
}

/* dx (+)= dy W^T for one product; dx [rows, in] dense of type dx_dtype. */
static mst_status product_backward_input(const mst_held *held, const mst_product *product, void *dx,
                                         mst_dtype dx_dtype, bool accumulate) {
    const mst_model *model = held->pass->model;
    const mst_part *w = &model->part[product->role];
    bool in_out = model->family->in_out;
    size_t in = width_in(model, w), out = width_out(model, w);
    mst_matmul_args args = {
        .m = model->rows,
        .n = in,
        .k = out,
        .dtype = model->dtype,
        .c_dtype = dx_dtype,
        .b_transposed = in_out,
        .a = product->y,
        .lda = product->ldy,
        .b = mst_weight(held, product->role),
        .ldb = w->cols,
        .c = dx,
        .ldc = in,
        .accumulate = accumulate,
    };
    return model->kernels->matmul(model->queue, &args);
}

mst_status mst_products_backward(const mst_held *held, size_t count, const mst_product *products,
                                 const void *x, void *dx) {
    mst_status status = MST_OK;
    const mst_model *model = held->pass->model;
    bool added_up = (count > 1 || mst_is_adapted(model, products[0].role)) && model->dtype != model->acc;
    void *sum = added_up ? model->dsum : dx;
    mst_dtype sum_dtype = added_up ? model->acc : model->dtype;
    for (size_t i = 0; i < count; i++) {
        MST_TRY(product_backward_weight(held, &products[i], x));
        MST_TRY(product_backward_input(held, &products[i], sum, sum_dtype, i > 0));
        MST_TRY(mst_lora_backward(held, &products[i], x, sum));
    }
    if (added_up) {
        mst_cast_args rounded = {
            .count = model->rows * width_in(model, &model->part[products[0].role]),
            .source = sum,
            .source_dtype = sum_dtype,
            .result = dx,
            .result_dtype = model->dtype,
        };
        MST_TRY(model->kernels->cast(model->queue, &rounded));
    }
done:
    return status;
}

mst_status mst_norm_forward(const mst_held *held, mst_role role, const void *x, const void *delta,
                            const mst_norm_buffers *norm) {
    const mst_model *model = held->pass->model;
    mst_norm_args args = {
        .rows = model->rows,
        .groups = 1,
        .cols = model->config.d_model,
        .ldx = model->config.d_model,
        .ldy = model->config.d_model,
        .dtype = model->dtype,
        .eps = model->config.norm_eps,
        .round_first = model->family->norm_rounds_first,
        .x = x,
        .delta = delta,
        .sum = delta ? norm->x : NULL,
        .weight = mst_weight(held, role),
        .bias = mst_weight(held, role + 1),
        .y = mst_has(model, role) ? norm->y : NULL,
        .mean = norm->mean,
        .rstd = norm->rstd,
    };
    return model->norm_forward(model->queue, &args);
}

mst_status mst_add(const mst_model *model, size_t cols, size_t ld, const void *x, const void *delta,
                   void *sum) {
    mst_norm_args args = {
        .rows = model->rows,
        .groups = 1,
        .cols = cols,
        .ldx = ld,
        .dtype = model->dtype,
        .x = x,
        .delta = delta,
        .sum = sum,
    };
    return model->norm_forward(model->queue, &args);
}

mst_status mst_norm_backward(const mst_held *held, mst_role role, const mst_norm_buffers *norm,
                             const void *dy, const void *dresidual, void *dx) {
    const mst_model *model = held->pass->model;
    if (!mst_has(model, role))
        return mst_add(model, model->config.d_model, model->config.d_model, dresidual, dy, dx);
    mst_norm_grad_args args = {
        .rows = model->rows,
        .groups = 1,
        .cols = model->config.d_model,
        .ldx = model->config.d_model,
        .ldd = model->config.d_model,
        .dtype = model->dtype,
        .x = norm->x,
        .weight = mst_weight(held, role),
        .mean = norm->mean,
        .rstd = norm->rstd,
        .dy = dy,
        .dresidual = dresidual,
        .dx = dx,
        .dweight = mst_norm_gradient(held, role),
        .dbias = mst_gradient(held, role + 1),
    };
    return model->norm_backward(model->queue, &args);
}
