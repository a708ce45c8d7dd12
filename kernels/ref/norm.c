/* RMSNorm and LayerNorm, forward and backward. */
#include "element.h"
#include "ref.h"

/* ---------------------------------------------------------------- forward */

static mst_status check_forward(const char *name, const mst_norm_args *args, bool layernorm) {
    mst_status status = MST_OK;
    MST_CHECK((args->sum == NULL) == (args->delta == NULL), MST_EINVAL,
              "%s: `delta` and `sum` come together; one of them is NULL", name);
    MST_CHECK(layernorm || !args->bias, MST_EINVAL, "%s: it has no bias; pass NULL", name);
    MST_CHECK(!args->y || args->rstd, MST_EINVAL, "%s: `rstd` is NULL; it is an output beside `y`", name);
    MST_CHECK(!args->y || !layernorm || args->mean, MST_EINVAL,
              "%s: `mean` is NULL; it is an output beside `y`", name);
done:
    return status;
}

/* Adds the residual where there is one, and returns the tensor that is to be normalised. */
static const void *add_residual(const mst_norm_args *args) {
    if (!args->delta) return args->x;
    for (size_t i = 0; i < args->rows * args->cols; i++)
        store(args->sum, args->dtype, i, load(args->x, args->dtype, i) + load(args->delta, args->dtype, i));
    return args->sum;
}

/* y = (x - mean) * rstd * weight + bias of row r, with mean = 0 for RMSNorm. */
static void write_row(const mst_norm_args *args, const void *x, size_t r, double mean, double rstd) {
    for (size_t c = 0; c < args->cols; c++) {
        size_t i = r * args->cols + c;
        double normal = (load(x, args->dtype, i) - mean) * rstd;
        double bias = args->bias ? load(args->bias, args->dtype, c) : 0.0;
        store(args->y, args->dtype, i, normal * load(args->weight, args->dtype, c) + bias);
    }
}

mst_status mst_rmsnorm_forward_ref(mst_queue *queue, const mst_norm_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_TRY(check_forward("rmsnorm_forward", args, false));
    const void *x = add_residual(args);
    if (!args->y || args->cols == 0) goto done;
    for (size_t r = 0; r < args->rows; r++) {
        double squares = 0.0;
        for (size_t c = 0; c < args->cols; c++) {
            double value = load(x, args->dtype, r * args->cols + c);
            squares += value * value;
        }
        double rstd = 1.0 / sqrt(squares / (double)args->cols + args->eps);
        store(args->rstd, mst_dtype_acc(args->dtype), r, rstd);
        write_row(args, x, r, 0.0, rstd);
    }
done:
    return status;
}

mst_status mst_layernorm_forward_ref(mst_queue *queue, const mst_norm_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_TRY(check_forward("layernorm_forward", args, true));
    const void *x = add_residual(args);
    if (!args->y || args->cols == 0) goto done;
    mst_dtype acc = mst_dtype_acc(args->dtype);
    for (size_t r = 0; r < args->rows; r++) {
        double sum = 0.0, squares = 0.0;
        for (size_t c = 0; c < args->cols; c++) sum += load(x, args->dtype, r * args->cols + c);
        double mean = sum / (double)args->cols;
        for (size_t c = 0; c < args->cols; c++) {
            double centred = load(x, args->dtype, r * args->cols + c) - mean;
            squares += centred * centred;
        }
        double rstd = 1.0 / sqrt(squares / (double)args->cols + args->eps);
        store(args->mean, acc, r, mean);
        store(args->rstd, acc, r, rstd);
        write_row(args, x, r, mean, rstd);
    }
done:
    return status;
}

/* ---------------------------------------------------------------- backward */

/*
 * With xhat = (x - mean) rstd and g = weight dy, the gradient of a row is
 *   RMSNorm:   dx = rstd (g - xhat mean(g xhat))
 *   LayerNorm: dx = rstd (g - mean(g) - xhat mean(g xhat))
 * and dweight += dy xhat, dbias += dy, row by row. For RMSNorm mean = 0.
 */
static void backward(const mst_norm_grad_args *args, bool layernorm) {
    mst_dtype dtype = args->dtype, acc = mst_dtype_acc(dtype);
    for (size_t r = 0; r < args->rows; r++) {
        double mean = layernorm ? load(args->mean, acc, r) : 0.0, rstd = load(args->rstd, acc, r);
        double sum_g = 0.0, sum_g_xhat = 0.0;
        for (size_t c = 0; c < args->cols; c++) {
            size_t i = r * args->cols + c;
            double xhat = (load(args->x, dtype, i) - mean) * rstd;
            double g = load(args->weight, dtype, c) * load(args->dy, dtype, i);
            sum_g += g;
            sum_g_xhat += g * xhat;
        }
        double mean_g = layernorm ? sum_g / (double)args->cols : 0.0,
               mean_g_xhat = sum_g_xhat / (double)args->cols;
        for (size_t c = 0; c < args->cols; c++) {
            size_t i = r * args->cols + c;
            double xhat = (load(args->x, dtype, i) - mean) * rstd, dy = load(args->dy, dtype, i);
            double dx = rstd * (load(args->weight, dtype, c) * dy - mean_g - xhat * mean_g_xhat);
            if (args->dresidual) dx += load(args->dresidual, dtype, i);
            store(args->dx, dtype, i, dx);
        }
    }
}

/* Columns are summed over the rows in fp64 and added to what is there once. */
static void backward_parameters(const mst_norm_grad_args *args, bool layernorm) {
    mst_dtype dtype = args->dtype, acc = mst_dtype_acc(dtype);
    for (size_t c = 0; c < args->cols; c++) {
        double dweight = 0.0, dbias = 0.0;
        for (size_t r = 0; r < args->rows; r++) {
            size_t i = r * args->cols + c;
            double mean = layernorm ? load(args->mean, acc, r) : 0.0, rstd = load(args->rstd, acc, r);
            double dy = load(args->dy, dtype, i);
            dweight += dy * (load(args->x, dtype, i) - mean) * rstd;
            dbias += dy;
        }
        add(args->dweight, acc, c, dweight);
        if (args->dbias) add(args->dbias, acc, c, dbias);
    }
}

mst_status mst_rmsnorm_backward_ref(mst_queue *queue, const mst_norm_grad_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_CHECK(!args->dbias, MST_EINVAL, "rmsnorm_backward: it has no bias; pass NULL for dbias");
    if (args->rows == 0) goto done;
    backward_parameters(args, false);
    backward(args, false);
done:
    return status;
}

mst_status mst_layernorm_backward_ref(mst_queue *queue, const mst_norm_grad_args *args) {
    (void)queue;
    if (args->rows == 0) return MST_OK;
    backward_parameters(args, true);
    backward(args, true);
    return MST_OK;
}
