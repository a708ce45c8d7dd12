/* Checks of RMSNorm and LayerNorm. */
#include "check.h"

typedef struct norm_case {
    size_t rows, cols;
    mst_dtype dtype;
    bool layernorm, only_sum;
    double eps;
    check_tensor *x, *delta, *sum, *weight, *bias, *y, *mean, *rstd; /* forward */
    check_tensor *dy, *dresidual, *dx, *dweight, *dbias;             /* backward */
} norm_case;

/* ---------------------------------------------------------------- forward and backward */

typedef norm_case set_up_fn(check_trial *trial, bool layernorm, size_t rows, size_t cols, mst_dtype dtype,
                            int residual, bool bias, check_flavour flavour);
typedef void run_fn(check_trial *trial, norm_case *c);

/* Every size with every kind of residual; bias and flavour take turns. */
static void check_sizes(check_state *checker, bool layernorm, mst_dtype dtype, set_up_fn *set_up,
                        run_fn *run) {
    static const size_t sizes[][2] = {{0, 8},    {3, 0},   {1, 1},    {3, 17},  {5, 64},
                                      {2, 1000}, {67, 33}, {130, 96}, {300, 40}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int residual = 0; residual < 3; residual++) {
            check_trial trial;
            bool bias = layernorm && (i + (size_t)residual) % 2;
            check_flavour flavour = (check_flavour)((i + (size_t)residual) % FLAVOURS);
            trial_begin(&trial, checker, "%s %zu x %zu, residual %d%s, flavour %d", mst_dtype_name(dtype),
                        sizes[i][0], sizes[i][1], residual, bias ? ", bias" : "", (int)flavour);
            norm_case c = set_up(&trial, layernorm, sizes[i][0], sizes[i][1], dtype, residual, bias, flavour);
            run(&trial, &c);
        }
    }
}

static void bench(check_state *checker, bool layernorm, set_up_fn *set_up, check_call_fn *call) {
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        check_trial trial;
        trial_begin(&trial, checker, "%s 1024 x 768, residual", mst_dtype_name((mst_dtype)dtype));
        norm_case c = set_up(&trial, layernorm, 1024, 768, (mst_dtype)dtype, 1, layernorm, PLAIN);
        trial_time(&trial, call, &c, (mst_dtype)dtype,
                   4.0 * 1024 * 768 * (double)mst_dtype_size((mst_dtype)dtype), 0.0);
        trial_end(&trial);
    }
}

/* ---------------------------------------------------------------- forward */

/* The specification in fp64 normalises the sum as the body has stored it, so that its
 * rounding is not counted twice. */
static mst_status call_forward(const void *context, const mst_kernels *table, mst_queue *queue,
                               check_view view) {
    const norm_case *c = context;
    const check_tensor *x = c->x;
    bool widened = view == VIEW_F64 && c->sum;
    if (widened) {
        x = c->sum;
        for (size_t r = 0; r < c->rows; r++)
            for (size_t k = 0; k < c->cols; k++) *tensor_exact(x, r, k) = tensor_result(x, r, k);
    }
    mst_norm_args args = {.rows = c->rows,
                          .groups = 1,
                          .cols = c->cols,
                          .ldx = c->cols,
                          .ldy = c->cols,
                          .dtype = dtype_in(c->dtype, view),
                          .eps = c->eps,
                          .x = tensor_at(x, view),
                          .delta = widened ? NULL : tensor_at(c->delta, view),
                          .sum = widened ? NULL : tensor_at(c->sum, view),
                          .weight = tensor_at(c->weight, view),
                          .bias = tensor_at(c->bias, view),
                          .y = c->only_sum ? NULL : tensor_at(c->y, view),
                          .mean = tensor_at(c->mean, view),
                          .rstd = tensor_at(c->rstd, view)};
    return c->layernorm ? table->layernorm_forward(queue, &args) : table->rmsnorm_forward(queue, &args);
}

/* residual: 0 none, 1 into a tensor of its own, 2 in place of x. */
static norm_case set_up_forward(check_trial *trial, bool layernorm, size_t rows, size_t cols, mst_dtype dtype,
                                int residual, bool bias, check_flavour flavour) {
    norm_case c = {.rows = rows, .cols = cols, .dtype = dtype, .layernorm = layernorm, .eps = 1e-5};
    mst_dtype acc = mst_dtype_acc(dtype);
    c.x = trial_tensor(trial, "x", ROLE_IN, dtype, rows, cols, cols);
    tensor_fill(c.x, flavour, 1.0);
    if (residual) {
        c.delta = trial_tensor(trial, "delta", ROLE_IN, dtype, rows, cols, cols);
        tensor_fill(c.delta, flavour, 1.0);
    }
    if (residual == 1) c.sum = trial_tensor(trial, "sum", ROLE_OUT, dtype, rows, cols, cols);
    if (residual == 2) c.sum = trial_alias(trial, "sum", c.x, dtype, cols);
    c.weight = trial_tensor(trial, "weight", ROLE_IN, dtype, 1, cols, cols);
    tensor_fill(c.weight, PLAIN, 1.0);
    if (bias) {
        c.bias = trial_tensor(trial, "bias", ROLE_IN, dtype, 1, cols, cols);
        tensor_fill(c.bias, PLAIN, 1.0);
    }
    c.y = trial_tensor(trial, "y", ROLE_OUT, dtype, rows, cols, cols);
    if (layernorm) c.mean = trial_tensor(trial, "mean", ROLE_OUT, acc, 1, rows, rows);
    c.rstd = trial_tensor(trial, "rstd", ROLE_OUT, acc, 1, rows, rows);
    if (cols == 0) c.rstd->role = ROLE_SCRATCH; /* statistics of nothing */
    if (cols == 0 && layernorm) c.mean->role = ROLE_SCRATCH;
    return c;
}

/* What is normalised in row r, column k: as the body has it. */
static double input(const norm_case *c, size_t r, size_t k) {
    return c->sum ? tensor_result(c->sum, r, k) : tensor_initial(c->x, r, k);
}

/*
 * Row r, with d = x - mean and n columns, for a body that computes the mean first and then the variance
 * from d:
 *   mean      off by dm = sum_error(n + 1) mean|x| (0 for RMSNorm)
 *   d         off by dm + U32 |d|
 *   variance  off by the factor e = sum_error(n) + 4 U32 + dm^2 / (variance + eps):
 *             sum d = 0, so dm counts squared only
 *   rstd      off by the factor e / 2 + 3 U32
 *   y         off by |weight| rstd (dm + U32 |d|) + |weight d rstd| (e / 2 + 5 U32) + U32 |y|,
 *             and for products below the normal range by ETA (1 + |weight| + rstd)
 */
static void bounds_of_row(const norm_case *c, size_t r) {
    double n = (double)c->cols, sum_abs = 0.0, variance = 0.0;
    double mean = c->layernorm ? *tensor_exact(c->mean, 0, r) : 0.0, rstd = *tensor_exact(c->rstd, 0, r);
    for (size_t k = 0; k < c->cols; k++) {
        double x = input(c, r, k);
        sum_abs += fabs(x);
        variance += (x - mean) * (x - mean) / n;
    }
    double dm = c->layernorm ? (sum_error(c->cols + 1) + U32) * sum_abs / n : 0.0;
    double e = sum_error(c->cols) + 4.0 * U32 + dm * dm / (variance + c->eps);
    if (c->mean) *tensor_bound(c->mean, 0, r) = dm;
    *tensor_bound(c->rstd, 0, r) = rstd * (e / 2.0 + 3.0 * U32);
    for (size_t k = 0; k < c->cols; k++) {
        double d = fabs(input(c, r, k) - mean), weight = fabs(tensor_initial(c->weight, 0, k));
        *tensor_bound(c->y, r, k) = weight * rstd * (dm + U32 * d) +
                                    weight * d * rstd * (e / 2.0 + 5.0 * U32) +
                                    U32 * fabs(*tensor_exact(c->y, r, k)) + ETA * (1.0 + weight + rstd);
    }
}

/* The residual sum has one rounding, that of the result: bound 0. */
static void expect_sum(const norm_case *c, const check_tensor *x) {
    for (size_t r = 0; c->sum && r < c->rows; r++)
        for (size_t k = 0; k < c->cols; k++)
            *tensor_exact(c->sum, r, k) = tensor_initial(x, r, k) + tensor_initial(c->delta, r, k);
}

static void run_forward(check_trial *trial, norm_case *c) {
    if (trial_run(trial, call_forward, c, REFERENCE_F64)) {
        if (!c->only_sum)
            for (size_t r = 0; r < c->rows; r++) bounds_of_row(c, r);
        expect_sum(c, c->x);
        trial_compare(trial);
    }
    trial_end(trial);
}

static void check_only_sum(check_state *checker, bool layernorm, mst_dtype dtype) {
    check_trial trial;
    trial_begin(&trial, checker, "%s 5 x 19, only the sum", mst_dtype_name(dtype));
    norm_case c = set_up_forward(&trial, layernorm, 5, 19, dtype, 1, false, PLAIN);
    c.only_sum = true;
    c.y->role = c.rstd->role = ROLE_IN; /* must stay as they are */
    if (c.mean) c.mean->role = ROLE_IN;
    run_forward(&trial, &c);
}

/* A row far from zero: a variance from sum(x^2) - sum(x)^2 would lose all its digits. */
static void check_offset(check_state *checker, bool layernorm, mst_dtype dtype) {
    check_trial trial;
    trial_begin(&trial, checker, "%s 6 x 200, around 1000", mst_dtype_name(dtype));
    norm_case c = set_up_forward(&trial, layernorm, 6, 200, dtype, 0, false, PLAIN);
    for (size_t r = 0; r < 6; r++)
        for (size_t k = 0; k < 200; k++) tensor_set(c.x, r, k, 1000.0 + 10.0 * random_normal(checker));
    run_forward(&trial, &c);
}

static void check_nonfinite_forward(check_state *checker, bool layernorm, mst_dtype dtype) {
    check_trial trial;
    trial_begin(&trial, checker, "%s 5 x 37 with NaN, Inf and a row of zeros", mst_dtype_name(dtype));
    norm_case c = set_up_forward(&trial, layernorm, 5, 37, dtype, 0, false, PLAIN);
    tensor_set(c.x, 1, 30, NAN);
    tensor_set(c.x, 3, 2, -INFINITY);
    for (size_t k = 0; k < 37; k++) tensor_set(c.x, 4, k, 0.0);
    run_forward(&trial, &c);
}

static void check_forward(check_state *checker, bool layernorm) {
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        check_sizes(checker, layernorm, (mst_dtype)dtype, set_up_forward, run_forward);
        check_only_sum(checker, layernorm, (mst_dtype)dtype);
        check_offset(checker, layernorm, (mst_dtype)dtype);
        check_nonfinite_forward(checker, layernorm, (mst_dtype)dtype);
    }
    if (takes_f64(checker)) return;
    check_trial trial;
    trial_begin(&trial, checker, "f64");
    norm_case c = set_up_forward(&trial, layernorm, 2, 4, MST_F64, 0, false, PLAIN);
    trial_expect(&trial, call_forward, &c, MST_EUNSUPPORTED);
    trial_end(&trial);
}

void check_rmsnorm_forward(check_state *checker) {
    check_forward(checker, false);
}
void check_layernorm_forward(check_state *checker) {
    check_forward(checker, true);
}

void bench_rmsnorm_forward(check_state *checker) {
    bench(checker, false, set_up_forward, call_forward);
}
void bench_layernorm_forward(check_state *checker) {
    bench(checker, true, set_up_forward, call_forward);
}

/* ---------------------------------------------------------------- backward */

static mst_status call_backward(const void *context, const mst_kernels *table, mst_queue *queue,
                                check_view view) {
    const norm_case *c = context;
    mst_norm_grad_args args = {.rows = c->rows,
                               .groups = 1,
                               .cols = c->cols,
                               .ldx = c->cols,
                               .ldd = c->cols,
                               .dtype = dtype_in(c->dtype, view),
                               .x = tensor_at(c->x, view),
                               .weight = tensor_at(c->weight, view),
                               .mean = tensor_at(c->mean, view),
                               .rstd = tensor_at(c->rstd, view),
                               .dy = tensor_at(c->dy, view),
                               .dresidual = tensor_at(c->dresidual, view),
                               .dx = tensor_at(c->dx, view),
                               .dweight = tensor_at(c->dweight, view),
                               .dbias = tensor_at(c->dbias, view)};
    return c->layernorm ? table->layernorm_backward(queue, &args) : table->rmsnorm_backward(queue, &args);
}

/* Mean and 1 / deviation of the rows of x, as a forward pass would leave them. */
static void fill_statistics(norm_case *c) {
    for (size_t r = 0; r < c->rows; r++) {
        double mean = 0.0, square = 0.0, n = (double)c->cols;
        for (size_t k = 0; c->layernorm && k < c->cols; k++) mean += tensor_initial(c->x, r, k) / n;
        for (size_t k = 0; k < c->cols; k++) square += pow(tensor_initial(c->x, r, k) - mean, 2.0) / n;
        if (c->mean) tensor_set(c->mean, 0, r, mean);
        tensor_set(c->rstd, 0, r, 1.0 / sqrt(square + 1e-5));
    }
}

static norm_case set_up_backward(check_trial *trial, bool layernorm, size_t rows, size_t cols,
                                 mst_dtype dtype, int residual, bool bias, check_flavour flavour) {
    norm_case c = {.rows = rows, .cols = cols, .dtype = dtype, .layernorm = layernorm};
    mst_dtype acc = mst_dtype_acc(dtype);
    c.x = trial_tensor(trial, "x", ROLE_IN, dtype, rows, cols, cols);
    c.weight = trial_tensor(trial, "weight", ROLE_IN, dtype, 1, cols, cols);
    c.dy = trial_tensor(trial, "dy", ROLE_IN, dtype, rows, cols, cols);
    c.rstd = trial_tensor(trial, "rstd", ROLE_IN, acc, 1, rows, rows);
    if (layernorm) c.mean = trial_tensor(trial, "mean", ROLE_IN, acc, 1, rows, rows);
    if (residual) {
        c.dresidual = trial_tensor(trial, "dresidual", ROLE_IN, dtype, rows, cols, cols);
        tensor_fill(c.dresidual, PLAIN, 1.0);
    }
    c.dx = residual == 2 ? trial_alias(trial, "dx", c.dresidual, dtype, cols)
                         : trial_tensor(trial, "dx", ROLE_OUT, dtype, rows, cols, cols);
    c.dweight = trial_tensor(trial, "dweight", ROLE_INOUT, acc, 1, cols, cols);
    tensor_fill(c.dweight, PLAIN, 1.0);
    if (bias) {
        c.dbias = trial_tensor(trial, "dbias", ROLE_INOUT, acc, 1, cols, cols);
        tensor_fill(c.dbias, PLAIN, 1.0);
    }
    tensor_fill(c.x, flavour, 1.0);
    tensor_fill(c.weight, PLAIN, 1.0);
    tensor_fill(c.dy, flavour, 1.0);
    fill_statistics(&c);
    return c;
}

/*
 * dx = rstd (g - mean(g) - xhat mean(g xhat)) + dresidual
 * with g = weight dy (1 rounding), xhat = (x - mean) rstd (2):
 *   rstd (3 U32 |g| + s mean|g| + |xhat| (s + 5 U32) mean|g xhat|), s = sum_error(n) + 3 U32,
 * and 3 U32 of each of the terms that are added up; below the normal range ETA (1 + rstd) for each product,
 * times what it is multiplied with later.
 */
static void bounds_of_dx(const norm_case *c, size_t r) {
    double n = (double)c->cols, mean = c->mean ? tensor_initial(c->mean, 0, r) : 0.0;
    double rstd = tensor_initial(c->rstd, 0, r), mean_g = 0.0, mean_g_xhat = 0.0,
           s = sum_error(c->cols) + 3.0 * U32;
    for (size_t k = 0; k < c->cols; k++) {
        double g = fabs(tensor_initial(c->weight, 0, k) * tensor_initial(c->dy, r, k));
        mean_g += c->layernorm ? g / n : 0.0;
        mean_g_xhat += g * fabs(tensor_initial(c->x, r, k) - mean) * rstd / n;
    }
    for (size_t k = 0; k < c->cols; k++) {
        double g = fabs(tensor_initial(c->weight, 0, k) * tensor_initial(c->dy, r, k));
        double xhat = fabs(tensor_initial(c->x, r, k) - mean) * rstd;
        double residual = c->dresidual ? fabs(tensor_initial(c->dresidual, r, k)) : 0.0;
        *tensor_bound(c->dx, r, k) =
            rstd * (6.0 * U32 * g + (s + 3.0 * U32) * mean_g + xhat * (s + 8.0 * U32) * mean_g_xhat) +
            U32 * residual + ETA * (1.0 + rstd) * (4.0 + xhat + mean_g_xhat);
    }
}

/* Sums over the rows and the old value: sum_error(rows + 1), and 3 roundings of dy (x - mean) rstd,
 * each ETA at least. */
static void bounds_of_parameters(const norm_case *c) {
    for (size_t k = 0; k < c->cols; k++) {
        double lost = 0.0, dweight = fabs(tensor_initial(c->dweight, 0, k));
        double dbias = c->dbias ? fabs(tensor_initial(c->dbias, 0, k)) : 0.0;
        for (size_t r = 0; r < c->rows; r++) {
            double mean = c->mean ? tensor_initial(c->mean, 0, r) : 0.0,
                   dy = fabs(tensor_initial(c->dy, r, k));
            double rstd = tensor_initial(c->rstd, 0, r);
            dweight += dy * fabs(tensor_initial(c->x, r, k) - mean) * rstd;
            lost += ETA * (1.0 + rstd + dy);
            dbias += dy;
        }
        *tensor_bound(c->dweight, 0, k) = (sum_error(c->rows + 1) + 3.0 * U32) * dweight + lost;
        if (c->dbias) *tensor_bound(c->dbias, 0, k) = sum_error(c->rows + 1) * dbias;
    }
}

static void run_backward(check_trial *trial, norm_case *c) {
    if (trial_run(trial, call_backward, c, REFERENCE_F64)) {
        for (size_t r = 0; r < c->rows; r++) bounds_of_dx(c, r);
        bounds_of_parameters(c);
        trial_compare(trial);
    }
    trial_end(trial);
}

static void check_backward(check_state *checker, bool layernorm) {
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        check_sizes(checker, layernorm, (mst_dtype)dtype, set_up_backward, run_backward);
        check_trial trial;
        trial_begin(&trial, checker, "%s 6 x 21 with NaN", mst_dtype_name((mst_dtype)dtype));
        norm_case c = set_up_backward(&trial, layernorm, 6, 21, (mst_dtype)dtype, 0, layernorm, PLAIN);
        tensor_set(c.dy, 4, 20, NAN);
        run_backward(&trial, &c);
    }
}

void check_rmsnorm_backward(check_state *checker) {
    check_backward(checker, false);
}
void check_layernorm_backward(check_state *checker) {
    check_backward(checker, true);
}

void bench_rmsnorm_backward(check_state *checker) {
    bench(checker, false, set_up_backward, call_backward);
}
void bench_layernorm_backward(check_state *checker) {
    bench(checker, true, set_up_backward, call_backward);
}
