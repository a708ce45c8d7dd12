/* RMSNorm and LayerNorm, forward and backward. */
#include "element.h"
#include "ref.h"

/* ---------------------------------------------------------------- forward */

/* Vector v of a tensor begins here: group v % groups of row v / groups. */
static size_t start_of(size_t v, size_t groups, size_t cols, size_t ld) {
    return v / groups * ld + v % groups * cols;
}

static mst_status check_shape(const char *name, size_t groups, size_t cols, size_t lda, size_t ldb) {
    mst_status status = MST_OK;
    MST_CHECK(groups > 0, MST_EINVAL, "%s: groups is 0; it must be at least 1", name);
    MST_CHECK(lda >= groups * cols && ldb >= groups * cols, MST_EINVAL,
              "%s: rows are %zu and %zu elements apart; they have %zu", name, lda, ldb, groups * cols);
done:
    return status;
}

static mst_status check_forward(const char *name, const mst_norm_args *args, bool layernorm) {
    mst_status status = MST_OK;
    MST_TRY(check_shape(name, args->groups, args->cols, args->ldx, args->y ? args->ldy : args->ldx));
    MST_CHECK(!layernorm || !args->round_first, MST_EINVAL, "%s: only rmsnorm can round first", name);
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
    size_t width = args->groups * args->cols;
    if (!args->delta) return args->x;
    for (size_t r = 0; r < args->rows; r++)
        for (size_t i = r * args->ldx; i < r * args->ldx + width; i++)
            store(args->sum, args->dtype, i,
                  load(args->x, args->dtype, i) + load(args->delta, args->dtype, i));
    return args->sum;
}

/* y = (x - mean) * rstd * weight + bias of vector v, with mean = 0 for RMSNorm. */
static void write_vector(const mst_norm_args *args, const void *x, size_t v, double mean, double rstd) {
    size_t from = start_of(v, args->groups, args->cols, args->ldx);
    size_t to = start_of(v, args->groups, args->cols, args->ldy);
    for (size_t c = 0; c < args->cols; c++) {
        double normal = (load(x, args->dtype, from + c) - mean) * rstd;
        double bias = args->bias ? load(args->bias, args->dtype, c) : 0.0;
        if (args->round_first) {
            store(args->y, args->dtype, to + c, normal);
            normal = load(args->y, args->dtype, to + c);
        }
        store(args->y, args->dtype, to + c, normal * load(args->weight, args->dtype, c) + bias);
    }
}

mst_status mst_rmsnorm_forward_ref(mst_queue *queue, const mst_norm_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_TRY(check_forward("rmsnorm_forward", args, false));
    const void *x = add_residual(args);
    if (!args->y || args->cols == 0) goto done;
    for (size_t v = 0; v < args->rows * args->groups; v++) {
        size_t from = start_of(v, args->groups, args->cols, args->ldx);
        double squares = 0.0;
        for (size_t c = 0; c < args->cols; c++) {
            double value = load(x, args->dtype, from + c);
            squares += value * value;
        }
        double rstd = 1.0 / sqrt(squares / (double)args->cols + args->eps);
        store(args->rstd, mst_dtype_acc(args->dtype), v, rstd);
        write_vector(args, x, v, 0.0, rstd);
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
    for (size_t v = 0; v < args->rows * args->groups; v++) {
        size_t from = start_of(v, args->groups, args->cols, args->ldx);
        double sum = 0.0, squares = 0.0;
        for (size_t c = 0; c < args->cols; c++) sum += load(x, args->dtype, from + c);
        double mean = sum / (double)args->cols;
        for (size_t c = 0; c < args->cols; c++) {
            double centred = load(x, args->dtype, from + c) - mean;
            squares += centred * centred;
        }
        double rstd = 1.0 / sqrt(squares / (double)args->cols + args->eps);
        store(args->mean, acc, v, mean);
        store(args->rstd, acc, v, rstd);
        write_vector(args, x, v, mean, rstd);
    }
done:
    return status;
}

/* ---------------------------------------------------------------- backward */

/*
 * With xhat = (x - mean) rstd and g = weight dy, the gradient of a vector is
 *   RMSNorm:   dx = rstd (g - xhat mean(g xhat))
 *   LayerNorm: dx = rstd (g - mean(g) - xhat mean(g xhat))
 * and dweight += dy xhat, dbias += dy, vector by vector. For RMSNorm mean = 0.
 */
static void backward(const mst_norm_grad_args *args, bool layernorm) {
    mst_dtype dtype = args->dtype, acc = mst_dtype_acc(dtype);
    for (size_t v = 0; v < args->rows * args->groups; v++) {
        size_t from = start_of(v, args->groups, args->cols, args->ldx);
        size_t to = start_of(v, args->groups, args->cols, args->ldd);
        double mean = layernorm ? load(args->mean, acc, v) : 0.0, rstd = load(args->rstd, acc, v);
        double sum_g = 0.0, sum_g_xhat = 0.0;
        for (size_t c = 0; c < args->cols; c++) {
            double xhat = (load(args->x, dtype, from + c) - mean) * rstd;
            double g = load(args->weight, dtype, c) * load(args->dy, dtype, to + c);
            sum_g += g;
            sum_g_xhat += g * xhat;
        }
        double mean_g = layernorm ? sum_g / (double)args->cols : 0.0,
               mean_g_xhat = sum_g_xhat / (double)args->cols;
        for (size_t c = 0; c < args->cols; c++) {
            double xhat = (load(args->x, dtype, from + c) - mean) * rstd, dy = load(args->dy, dtype, to + c);
            double dx = rstd * (load(args->weight, dtype, c) * dy - mean_g - xhat * mean_g_xhat);
            if (args->dresidual) dx += load(args->dresidual, dtype, to + c);
            store(args->dx, dtype, to + c, dx);
        }
    }
}

/* Columns are summed over the vectors in fp64 and added to what is there once. */
static void backward_parameters(const mst_norm_grad_args *args, bool layernorm) {
    mst_dtype dtype = args->dtype, acc = mst_dtype_acc(dtype);
    for (size_t c = 0; c < args->cols; c++) {
        double dweight = 0.0, dbias = 0.0;
        for (size_t v = 0; v < args->rows * args->groups; v++) {
            size_t from = start_of(v, args->groups, args->cols, args->ldx) + c;
            double mean = layernorm ? load(args->mean, acc, v) : 0.0, rstd = load(args->rstd, acc, v);
            double dy = load(args->dy, dtype, start_of(v, args->groups, args->cols, args->ldd) + c);
            dweight += dy * (load(args->x, dtype, from) - mean) * rstd;
            dbias += dy;
        }
        add(args->dweight, acc, c, dweight);
        if (args->dbias) add(args->dbias, acc, c, dbias);
    }
}

mst_status mst_rmsnorm_backward_ref(mst_queue *queue, const mst_norm_grad_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_TRY(check_shape("rmsnorm_backward", args->groups, args->cols, args->ldx, args->ldd));
    MST_CHECK(!args->dbias, MST_EINVAL, "rmsnorm_backward: it has no bias; pass NULL for dbias");
    if (args->rows == 0) goto done;
    backward_parameters(args, false);
    backward(args, false);
done:
    return status;
}

mst_status mst_layernorm_backward_ref(mst_queue *queue, const mst_norm_grad_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_TRY(check_shape("layernorm_backward", args->groups, args->cols, args->ldx, args->ldd));
    if (args->rows == 0) goto done;
    backward_parameters(args, true);
    backward(args, true);
done:
    return status;
}
