/* Checks of RMSNorm and LayerNorm. */
#include "check.h"

/* What a trial is to be. */
typedef struct norm_shape {
    size_t rows, groups, cols;
    mst_dtype dtype;
    bool layernorm, bias, round_first;
    int residual; /* 0 none; 1 into a tensor of its own; 2 in place of x, or dx in place of dresidual;
                     3 none, but dx in place of dy */
    check_flavour flavour;
} norm_shape;

typedef struct norm_case {
    norm_shape shape;
    size_t vectors; /* rows * groups */
    bool only_sum;
    double eps;
    check_tensor *x, *delta, *sum, *weight, *bias, *y, *mean, *rstd; /* forward */
    check_tensor *dy, *dresidual, *dx, *dweight, *dbias;             /* backward */
} norm_case;

/* ---------------------------------------------------------------- forward and backward */

typedef norm_case set_up_fn(check_trial *trial, const norm_shape *shape);
typedef void run_fn(check_trial *trial, norm_case *c);

/* A tensor of vectors; with groups its rows have a gap of `gap` elements between them. */
static check_tensor *vectors(check_trial *trial, const char *name, check_role role, const norm_shape *s,
                             size_t gap) {
    size_t width = s->groups * s->cols;
    return trial_tensor(trial, name, role, s->dtype, s->rows, width, s->groups > 1 ? width + gap : width);
}

static check_tensor *filled(check_tensor *tensor, check_flavour flavour) {
    tensor_fill(tensor, flavour, 1.0);
    return tensor;
}

/* Where element k of vector v stands in a tensor of vectors. */
static size_t row_of(const norm_case *c, size_t v) {
    return v / c->shape.groups;
}
static size_t column_of(const norm_case *c, size_t v, size_t k) {
    return v % c->shape.groups * c->shape.cols + k;
}
static double initial(const norm_case *c, const check_tensor *tensor, size_t v, size_t k) {
    return tensor_initial(tensor, row_of(c, v), column_of(c, v, k));
}

static void check_shape(check_state *checker, const norm_shape *s, set_up_fn *set_up, run_fn *run) {
    check_trial trial;
    trial_begin(&trial, checker, "%s %zu x %zu x %zu, residual %d%s%s, flavour %d", mst_dtype_name(s->dtype),
                s->rows, s->groups, s->cols, s->residual, s->bias ? ", bias" : "",
                s->round_first ? ", rounds first" : "", (int)s->flavour);
    norm_case c = set_up(&trial, s);
    run(&trial, &c);
}

/* Every size with every kind of residual; bias, rounding and flavour take turns. */
static void check_sizes(check_state *checker, bool layernorm, mst_dtype dtype, int residuals,
                        set_up_fn *set_up, run_fn *run) {
    static const size_t sizes[][3] = {{0, 1, 8},    {3, 1, 0},   {1, 1, 1},    {3, 1, 17},   {5, 1, 64},
                                      {2, 1, 1000}, {67, 1, 33}, {130, 1, 96}, {300, 1, 40}, {3, 5, 8},
                                      {70, 3, 64},  {9, 12, 1},  {40, 9, 21},  {3, 1, 1500}, {2, 2, 8192}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int residual = 0; residual < residuals; residual++) {
            size_t turn = i + (size_t)residual;
            norm_shape s = {.rows = sizes[i][0], .groups = sizes[i][1], .cols = sizes[i][2], .dtype = dtype};
            s.layernorm = layernorm;
            s.bias = layernorm && turn % 2;
            s.round_first = !layernorm && turn % 2;
            s.residual = residual;
            s.flavour = (check_flavour)(turn % FLAVOURS);
            check_shape(checker, &s, set_up, run);
        }
    }
}

static void bench(check_state *checker, bool layernorm, set_up_fn *set_up, check_call_fn *call) {
    const size_t rows = timed_size(checker, 1024, 64);
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        check_trial trial;
        trial_begin(&trial, checker, "%s %zu x 768, residual", mst_dtype_name((mst_dtype)dtype), rows);
        norm_shape s = {.rows = rows,
                        .groups = 1,
                        .cols = 768,
                        .dtype = (mst_dtype)dtype,
                        .layernorm = layernorm,
                        .bias = layernorm,
                        .residual = 1};
        norm_case c = set_up(&trial, &s);
        trial_time(&trial, call, &c, (mst_dtype)dtype,
                   4.0 * (double)(rows * 768 * mst_dtype_size((mst_dtype)dtype)), 0.0);
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
        for (size_t r = 0; r < x->rows; r++)
            for (size_t k = 0; k < x->cols; k++) *tensor_exact(x, r, k) = tensor_result(x, r, k);
    }
    mst_norm_args args = {.rows = c->shape.rows,
                          .groups = c->shape.groups,
                          .cols = c->shape.cols,
                          .ldx = tensor_ld(x, view),
                          .ldy = tensor_ld(c->y, view),
                          .dtype = dtype_in(c->shape.dtype, view),
                          .eps = c->eps,
                          .round_first = c->shape.round_first,
                          .x = tensor_at(x, view),
                          .delta = widened ? NULL : tensor_at(c->delta, view),
                          .sum = widened ? NULL : tensor_at(c->sum, view),
                          .weight = tensor_at(c->weight, view),
                          .bias = tensor_at(c->bias, view),
                          .y = c->only_sum ? NULL : tensor_at(c->y, view),
                          .mean = tensor_at(c->mean, view),
                          .rstd = tensor_at(c->rstd, view)};
    return c->shape.layernorm ? table->layernorm_forward(queue, &args) : table->rmsnorm_forward(queue, &args);
}

static norm_case set_up_forward(check_trial *trial, const norm_shape *s) {
    norm_case c = {.shape = *s, .vectors = s->rows * s->groups, .eps = 1e-5};
    mst_dtype acc = mst_dtype_acc(s->dtype);
    c.x = filled(vectors(trial, "x", ROLE_IN, s, 3), s->flavour);
    if (s->residual) c.delta = filled(vectors(trial, "delta", ROLE_IN, s, 3), s->flavour);
    if (s->residual == 1) c.sum = vectors(trial, "sum", ROLE_OUT, s, 3);
    if (s->residual == 2) c.sum = trial_alias(trial, "sum", c.x, s->dtype, c.x->ld);
    c.weight = filled(trial_tensor(trial, "weight", ROLE_IN, s->dtype, 1, s->cols, s->cols), PLAIN);
    if (s->bias) c.bias = filled(trial_tensor(trial, "bias", ROLE_IN, s->dtype, 1, s->cols, s->cols), PLAIN);
    c.y = vectors(trial, "y", ROLE_OUT, s, 5);
    if (s->layernorm) c.mean = trial_tensor(trial, "mean", ROLE_OUT, acc, 1, c.vectors, c.vectors);
    c.rstd = trial_tensor(trial, "rstd", ROLE_OUT, acc, 1, c.vectors, c.vectors);
    if (s->cols == 0) c.rstd->role = ROLE_SCRATCH; /* statistics of nothing */
    if (s->cols == 0 && s->layernorm) c.mean->role = ROLE_SCRATCH;
    return c;
}

/* What is normalised in vector v, element k: as the body has it. */
static double input(const norm_case *c, size_t v, size_t k) {
    return c->sum ? tensor_result(c->sum, row_of(c, v), column_of(c, v, k)) : initial(c, c->x, v, k);
}

static double to_bf16(double value) {
    return (double)mst_bf16_to_f32(mst_bf16_from_f32((float)value));
}

/*
 * The expected y of a body that rounds x rstd to bf16 first. The specification in fp64 does not round; here it is
 * done after it: x rstd is off by `error` at most before, and where that may lead to one of two neighbours either is
 * right. `flushes`: of a denormal a zero is right, too, also where it would be rounded up to a number that is none.
 */
static void expect_rounded(double normal, double error, double weight, bool flushes, double *y,
                           double *bound) {
    double least = normal - 4.0 * error, most = normal + 4.0 * error;
    double low = to_bf16(least), high = to_bf16(most);
    if (flushes && fabs(least) < TINY) low = fmin(low, 0.0);
    if (flushes && fabs(most) < TINY) high = fmax(high, 0.0);
    *y = (low + high) / 2.0 * weight;
    *bound = (high - low) / 2.0 * fabs(weight) + U32 * fabs(*y) + ETA * (1.0 + fabs(weight));
}

/*
 * Vector v, with d = x - mean and n elements, for a body that computes the mean first and then the variance from d:
 *   mean      off by dm = sum_error(n + 1) mean|x| (0 for RMSNorm)
 *   d         off by dm + U32 |d|
 *   variance  off by the factor e = sum_error(n) + 4 U32 + dm^2 / (variance + eps):
 *             sum d = 0, so dm counts squared only
 *   rstd      off by the factor e / 2 + 3 U32
 *   y         off by |weight| rstd (dm + U32 |d|) + |weight d rstd| (e / 2 + 5 U32) + U32 |y|,
 *             and for products below the normal range by ETA (1 + |weight| + rstd)
 */
static void bounds_of_vector(const norm_case *c, size_t v) {
    size_t cols = c->shape.cols;
    double n = (double)cols, sum_abs = 0.0, variance = 0.0;
    double mean = c->mean ? *tensor_exact(c->mean, 0, v) : 0.0, rstd = *tensor_exact(c->rstd, 0, v);
    for (size_t k = 0; k < cols; k++) {
        double x = input(c, v, k);
        sum_abs += fabs(x);
        variance += (x - mean) * (x - mean) / n;
    }
    double dm = c->mean ? (sum_error(cols + 1) + U32) * sum_abs / n : 0.0;
    double e = sum_error(cols) + 4.0 * U32 + dm * dm / (variance + c->eps);
    if (c->mean) *tensor_bound(c->mean, 0, v) = dm;
    *tensor_bound(c->rstd, 0, v) = rstd * (e / 2.0 + 3.0 * U32);
    for (size_t k = 0; k < cols; k++) {
        double d = input(c, v, k) - mean, weight = tensor_initial(c->weight, 0, k), size = fabs(weight);
        double *y = tensor_exact(c->y, row_of(c, v), column_of(c, v, k));
        double *bound = tensor_bound(c->y, row_of(c, v), column_of(c, v, k));
        double error = rstd * (dm + U32 * fabs(d)) + fabs(d) * rstd * (e / 2.0 + 5.0 * U32);
        *bound = size * error + U32 * fabs(*y) + ETA * (1.0 + size + rstd);
        if (c->shape.round_first && c->shape.dtype == MST_BF16)
            expect_rounded(d * rstd, error + ETA * (1.0 + rstd), weight, flushes_bf16(c->x->trial->checker),
                           y, bound);
    }
}

/* The residual sum has one rounding, that of the result: bound 0. */
static void expect_sum(const norm_case *c, const check_tensor *x) {
    for (size_t r = 0; c->sum && r < x->rows; r++)
        for (size_t k = 0; k < x->cols; k++)
            *tensor_exact(c->sum, r, k) = tensor_initial(x, r, k) + tensor_initial(c->delta, r, k);
}

static void run_forward(check_trial *trial, norm_case *c) {
    if (trial_run(trial, call_forward, c, REFERENCE_F64)) {
        if (!c->only_sum)
            for (size_t v = 0; v < c->vectors; v++) bounds_of_vector(c, v);
        expect_sum(c, c->x);
        trial_compare(trial);
    }
    trial_end(trial);
}

static void check_only_sum(check_state *checker, bool layernorm, mst_dtype dtype) {
    check_trial trial;
    trial_begin(&trial, checker, "%s 5 x 19, only the sum", mst_dtype_name(dtype));
    norm_case c = set_up_forward(&trial, &(norm_shape){5, 1, 19, dtype, layernorm, false, false, 1, PLAIN});
    c.only_sum = true;
    c.y->role = c.rstd->role = ROLE_IN; /* must stay as they are */
    if (c.mean) c.mean->role = ROLE_IN;
    run_forward(&trial, &c);
}

/* A row far from zero: a variance from sum(x^2) - sum(x)^2 would lose all its digits. */
static void check_offset(check_state *checker, bool layernorm, mst_dtype dtype) {
    check_trial trial;
    trial_begin(&trial, checker, "%s 6 x 200, around 1000", mst_dtype_name(dtype));
    norm_case c = set_up_forward(&trial, &(norm_shape){6, 1, 200, dtype, layernorm, false, false, 0, PLAIN});
    for (size_t r = 0; r < 6; r++)
        for (size_t k = 0; k < 200; k++) tensor_set(c.x, r, k, 1000.0 + 10.0 * random_normal(checker));
    run_forward(&trial, &c);
}

static void check_nonfinite_forward(check_state *checker, bool layernorm, mst_dtype dtype) {
    check_trial trial;
    trial_begin(&trial, checker, "%s 5 x 37 with NaN, Inf and a row of zeros", mst_dtype_name(dtype));
    norm_case c = set_up_forward(&trial, &(norm_shape){5, 1, 37, dtype, layernorm, false, false, 0, PLAIN});
    tensor_set(c.x, 1, 30, NAN);
    tensor_set(c.x, 3, 2, -INFINITY);
    for (size_t k = 0; k < 37; k++) tensor_set(c.x, 4, k, 0.0);
    run_forward(&trial, &c);
}

static void check_forward(check_state *checker, bool layernorm) {
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        check_sizes(checker, layernorm, (mst_dtype)dtype, 3, set_up_forward, run_forward);
        check_only_sum(checker, layernorm, (mst_dtype)dtype);
        check_offset(checker, layernorm, (mst_dtype)dtype);
        check_nonfinite_forward(checker, layernorm, (mst_dtype)dtype);
    }
    check_trial trial;
    norm_shape s = {2, 1, 4, MST_F32, layernorm, false, layernorm, 0, PLAIN};
    if (!layernorm) s.groups = 0;
    trial_begin(&trial, checker, layernorm ? "rounds first" : "no groups");
    norm_case c = set_up_forward(&trial, &s);
    trial_expect(&trial, call_forward, &c, MST_EINVAL);
    trial_end(&trial);
    if (takes_f64(checker)) return;
    trial_begin(&trial, checker, "f64");
    c = set_up_forward(&trial, &(norm_shape){2, 1, 4, MST_F64, layernorm, false, false, 0, PLAIN});
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
    mst_norm_grad_args args = {.rows = c->shape.rows,
                               .groups = c->shape.groups,
                               .cols = c->shape.cols,
                               .ldx = tensor_ld(c->x, view),
                               .ldd = tensor_ld(c->dx, view),
                               .dtype = dtype_in(c->shape.dtype, view),
                               .x = tensor_at(c->x, view),
                               .weight = tensor_at(c->weight, view),
                               .mean = tensor_at(c->mean, view),
                               .rstd = tensor_at(c->rstd, view),
                               .dy = tensor_at(c->dy, view),
                               .dresidual = tensor_at(c->dresidual, view),
                               .dx = tensor_at(c->dx, view),
                               .dweight = tensor_at(c->dweight, view),
                               .dbias = tensor_at(c->dbias, view)};
    return c->shape.layernorm ? table->layernorm_backward(queue, &args)
                              : table->rmsnorm_backward(queue, &args);
}

/* Mean and 1 / deviation of the vectors of x, as a forward pass would leave them. */
static void fill_statistics(norm_case *c) {
    size_t cols = c->shape.cols;
    for (size_t v = 0; v < c->vectors; v++) {
        double mean = 0.0, square = 0.0, n = (double)cols;
        for (size_t k = 0; c->mean && k < cols; k++) mean += initial(c, c->x, v, k) / n;
        for (size_t k = 0; k < cols; k++) square += pow(initial(c, c->x, v, k) - mean, 2.0) / n;
        if (c->mean) tensor_set(c->mean, 0, v, mean);
        tensor_set(c->rstd, 0, v, 1.0 / sqrt(square + 1e-5));
    }
}

static check_tensor *set_up_dx(check_trial *trial, const norm_case *c) {
    const norm_shape *s = &c->shape;
    if (s->residual == 2) return trial_alias(trial, "dx", c->dresidual, s->dtype, c->dresidual->ld);
    if (s->residual == 3) return trial_alias(trial, "dx", c->dy, s->dtype, c->dy->ld);
    return vectors(trial, "dx", ROLE_OUT, s, 5);
}

static norm_case set_up_backward(check_trial *trial, const norm_shape *s) {
    norm_case c = {.shape = *s, .vectors = s->rows * s->groups};
    mst_dtype acc = mst_dtype_acc(s->dtype);
    c.x = filled(vectors(trial, "x", ROLE_IN, s, 3), s->flavour);
    c.weight = filled(trial_tensor(trial, "weight", ROLE_IN, s->dtype, 1, s->cols, s->cols), PLAIN);
    c.dy = filled(vectors(trial, "dy", ROLE_IN, s, 5), s->flavour);
    c.rstd = trial_tensor(trial, "rstd", ROLE_IN, acc, 1, c.vectors, c.vectors);
    if (s->layernorm) c.mean = trial_tensor(trial, "mean", ROLE_IN, acc, 1, c.vectors, c.vectors);
    if (s->residual == 1 || s->residual == 2)
        c.dresidual = filled(vectors(trial, "dresidual", ROLE_IN, s, 5), PLAIN);
    c.dx = set_up_dx(trial, &c);
    c.dweight = filled(trial_tensor(trial, "dweight", ROLE_INOUT, acc, 1, s->cols, s->cols), PLAIN);
    if (s->bias) c.dbias = filled(trial_tensor(trial, "dbias", ROLE_INOUT, acc, 1, s->cols, s->cols), PLAIN);
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
static void bounds_of_dx(const norm_case *c, size_t v) {
    size_t cols = c->shape.cols;
    double n = (double)cols, mean = c->mean ? tensor_initial(c->mean, 0, v) : 0.0;
    double rstd = tensor_initial(c->rstd, 0, v), mean_g = 0.0, mean_g_xhat = 0.0,
           s = sum_error(cols) + 3.0 * U32;
    for (size_t k = 0; k < cols; k++) {
        double g = fabs(tensor_initial(c->weight, 0, k) * initial(c, c->dy, v, k));
        mean_g += c->mean ? g / n : 0.0;
        mean_g_xhat += g * fabs(initial(c, c->x, v, k) - mean) * rstd / n;
    }
    for (size_t k = 0; k < cols; k++) {
        double g = fabs(tensor_initial(c->weight, 0, k) * initial(c, c->dy, v, k));
        double xhat = fabs(initial(c, c->x, v, k) - mean) * rstd;
        double residual = c->dresidual ? fabs(initial(c, c->dresidual, v, k)) : 0.0;
        *tensor_bound(c->dx, row_of(c, v), column_of(c, v, k)) =
            rstd * (6.0 * U32 * g + (s + 3.0 * U32) * mean_g + xhat * (s + 8.0 * U32) * mean_g_xhat) +
            U32 * residual + ETA * (1.0 + rstd) * (4.0 + xhat + mean_g_xhat);
    }
}

/* Sums over the vectors and the old value: sum_error(vectors + 1), and 3 roundings of dy (x - mean) rstd,
 * each ETA at least. */
static void bounds_of_parameters(const norm_case *c) {
    for (size_t k = 0; k < c->shape.cols; k++) {
        double lost = 0.0, dweight = fabs(tensor_initial(c->dweight, 0, k));
        double dbias = c->dbias ? fabs(tensor_initial(c->dbias, 0, k)) : 0.0;
        for (size_t v = 0; v < c->vectors; v++) {
            double mean = c->mean ? tensor_initial(c->mean, 0, v) : 0.0, dy = fabs(initial(c, c->dy, v, k));
            double rstd = tensor_initial(c->rstd, 0, v);
            dweight += dy * fabs(initial(c, c->x, v, k) - mean) * rstd;
            lost += ETA * (1.0 + rstd + dy);
            dbias += dy;
        }
        *tensor_bound(c->dweight, 0, k) = (sum_error(c->vectors + 1) + 3.0 * U32) * dweight + lost;
        if (c->dbias) *tensor_bound(c->dbias, 0, k) = sum_error(c->vectors + 1) * dbias;
    }
}

static void run_backward(check_trial *trial, norm_case *c) {
    if (trial_run(trial, call_backward, c, REFERENCE_F64)) {
        for (size_t v = 0; v < c->vectors; v++) bounds_of_dx(c, v);
        bounds_of_parameters(c);
        trial_compare(trial);
    }
    trial_end(trial);
}

static void check_backward(check_state *checker, bool layernorm) {
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        check_sizes(checker, layernorm, (mst_dtype)dtype, 4, set_up_backward, run_backward);
        check_trial trial;
        trial_begin(&trial, checker, "%s 6 x 21 with NaN", mst_dtype_name((mst_dtype)dtype));
        norm_shape s = {6, 1, 21, (mst_dtype)dtype, layernorm, layernorm, false, 0, PLAIN};
        norm_case c = set_up_backward(&trial, &s);
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
