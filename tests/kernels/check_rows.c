/* Checks of what works on rows of tokens: embedding, cross-entropy, bias gradient. */
#include "check.h"

/* ---------------------------------------------------------------- embedding */

typedef struct embedding_case {
    mst_embedding_args args;
    check_tensor *table, *positions, *y, *dy, *dtable, *dpositions;
} embedding_case;

static mst_embedding_args embedding_args(const embedding_case *c, check_view view) {
    mst_embedding_args args = c->args;
    args.dtype = dtype_in(args.dtype, view);
    args.table = tensor_at(c->table, view);
    args.positions = tensor_at(c->positions, view);
    args.y = tensor_at(c->y, view);
    args.dy = tensor_at(c->dy, view);
    args.dtable = tensor_at(c->dtable, view);
    args.dpositions = tensor_at(c->dpositions, view);
    return args;
}

static mst_status call_embedding_forward(const void *context, const mst_kernels *table, mst_queue *queue,
                                         check_view view) {
    mst_embedding_args args = embedding_args(context, view);
    return table->embedding_forward(queue, &args);
}

static mst_status call_embedding_backward(const void *context, const mst_kernels *table, mst_queue *queue,
                                          check_view view) {
    mst_embedding_args args = embedding_args(context, view);
    return table->embedding_backward(queue, &args);
}

static embedding_case set_up_embedding(check_trial *trial, mst_embedding_args args, const size_t *documents,
                                       bool positions, bool backward, check_flavour flavour) {
    embedding_case c = {.args = args};
    mst_dtype acc = mst_dtype_acc(args.dtype);
    size_t position_rows = args.first + args.seq_len;
    int32_t *tokens = trial_ints(trial, args.rows);
    for (size_t r = 0; r < args.rows; r++) tokens[r] = (int32_t)random_below(trial->checker, args.vocab);
    c.args.tokens = tokens;
    c.args.starts = trial_starts(trial, args.rows, args.seq_len, documents);
    if (!backward) {
        c.table = trial_tensor(trial, "table", ROLE_IN, args.dtype, args.vocab, args.cols, args.cols);
        tensor_fill(c.table, flavour, 1.0);
        if (positions) {
            c.positions =
                trial_tensor(trial, "positions", ROLE_IN, args.dtype, position_rows, args.cols, args.cols);
            tensor_fill(c.positions, flavour, 1.0);
        }
        c.y = trial_tensor(trial, "y", ROLE_OUT, args.dtype, args.rows, args.cols, args.cols);
        return c;
    }
    c.dy = trial_tensor(trial, "dy", ROLE_IN, args.dtype, args.rows, args.cols, args.cols);
    tensor_fill(c.dy, flavour, 1.0);
    c.dtable = trial_tensor(trial, "dtable", ROLE_INOUT, acc, args.vocab, args.cols, args.cols);
    tensor_fill(c.dtable, PLAIN, 1.0);
    c.dtable->bits = true;
    if (positions) {
        c.dpositions =
            trial_tensor(trial, "dpositions", ROLE_INOUT, acc, position_rows, args.cols, args.cols);
        tensor_fill(c.dpositions, PLAIN, 1.0);
        c.dpositions->bits = true;
    }
    return c;
}

/*
 * Forward: one sum, and one rounding, that of the result: bound 0.
 * Backward: rows are added in order of r, one rounding each, which leaves no choice: the same bits as the
 * specification.
 */
static void check_embedding(check_state *checker, bool backward) {
    /* rows, cols, vocab, seq_len, first */
    static const size_t shapes[][5] = {{0, 8, 4, 1, 0},    {3, 0, 4, 3, 0},    {1, 1, 1, 1, 0},
                                       {12, 17, 3, 4, 0},  {9, 64, 100, 5, 2}, {64, 33, 2, 32, 1},
                                       {200, 50, 7, 50, 0}};
    check_call_fn *call = backward ? call_embedding_backward : call_embedding_forward;
    static const size_t documents[] = {2, 1, 3, 17, 0};
    for (size_t i = 0; i < 8 * sizeof shapes / sizeof *shapes; i++) {
        const size_t *s = shapes[i / 8];
        mst_dtype dtype = i & 1 ? MST_BF16 : MST_F32;
        bool positions = i & 2;
        mst_embedding_args args = {
            .rows = s[0], .cols = s[1], .vocab = s[2], .seq_len = s[3], .first = s[4], .dtype = dtype};
        check_trial trial;
        trial_begin(&trial, checker, "%s %zu x %zu, vocab %zu, seq_len %zu, first %zu%s%s",
                    mst_dtype_name(dtype), s[0], s[1], s[2], s[3], s[4], positions ? ", positions" : "",
                    i & 4 ? ", documents" : "");
        embedding_case c = set_up_embedding(&trial, args, i & 4 ? documents : NULL, positions, backward,
                                            (check_flavour)(i / 8 % FLAVOURS));
        if (s[1] > 20) tensor_set(backward ? c.dy : c.table, 1, 20, NAN);
        if (trial_run(&trial, call, &c, backward ? REFERENCE_SAME : REFERENCE_F64)) trial_compare(&trial);
        trial_end(&trial);
    }
}

void check_embedding_forward(check_state *checker) {
    check_embedding(checker, false);
}
void check_embedding_backward(check_state *checker) {
    check_embedding(checker, true);
}

static void bench_embedding(check_state *checker, bool backward) {
    const size_t rows = timed_size(checker, 1024, 16);
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        mst_embedding_args args = {
            .rows = rows, .cols = 768, .vocab = 8192, .seq_len = 256, .dtype = (mst_dtype)dtype};
        double values = (double)rows * 768.0, size = (double)mst_dtype_size(args.dtype);
        check_trial trial;
        trial_begin(&trial, checker, "%s %zu x 768, vocab 8192", mst_dtype_name(args.dtype), rows);
        embedding_case c = set_up_embedding(&trial, args, NULL, true, backward, PLAIN);
        c.args.tokens = trial_at_device(&trial, c.args.tokens, rows * sizeof *c.args.tokens);
        trial_time(&trial, backward ? call_embedding_backward : call_embedding_forward, &c, args.dtype,
                   values * (backward ? size + 16.0 : 3.0 * size), 0.0);
        trial_end(&trial);
    }
}

void bench_embedding_forward(check_state *checker) {
    bench_embedding(checker, false);
}
void bench_embedding_backward(check_state *checker) {
    bench_embedding(checker, true);
}

/* ---------------------------------------------------------------- cross-entropy */

typedef enum gradient_place { NO_GRADIENT, APART, IN_PLACE, PLACES } gradient_place;

typedef struct cross_entropy_case {
    mst_cross_entropy_args args;
    check_tensor *logits, *loss, *zloss, *dlogits;
} cross_entropy_case;

static mst_status call_cross_entropy(const void *context, const mst_kernels *table, mst_queue *queue,
                                     check_view view) {
    const cross_entropy_case *c = context;
    mst_cross_entropy_args args = c->args;
    args.dtype = dtype_in(args.dtype, view);
    args.logits = tensor_at(c->logits, view);
    args.loss = tensor_at(c->loss, view);
    args.zloss = tensor_at(c->zloss, view);
    args.dlogits = tensor_at(c->dlogits, view);
    args.ldd = tensor_ld(c->dlogits, view);
    return table->cross_entropy(queue, &args);
}

/* Every fifth row is not valid. */
static cross_entropy_case set_up_cross_entropy(check_trial *trial, size_t rows, size_t vocab, mst_dtype dtype,
                                               gradient_place place, double spread) {
    cross_entropy_case c = {
        .args = {.rows = rows, .vocab = vocab, .dtype = dtype, .scale = 0.37, .z_coefficient = 1e-3}};
    mst_dtype acc = mst_dtype_acc(dtype);
    int32_t *targets = trial_ints(trial, rows);
    for (size_t r = 0; r < rows; r++)
        targets[r] = r % 5 == 3 ? -1 : (int32_t)random_below(trial->checker, vocab);
    c.args.targets = targets;
    c.logits = trial_tensor(trial, "logits", ROLE_IN, acc, rows, vocab, vocab);
    tensor_fill(c.logits, PLAIN, spread);
    c.loss = trial_tensor(trial, "loss", ROLE_OUT, acc, 1, rows, rows);
    c.zloss = trial_tensor(trial, "zloss", ROLE_OUT, acc, 1, rows, rows);
    if (place == APART)
        c.dlogits = trial_tensor(trial, "dlogits", ROLE_OUT, dtype, rows, vocab, vocab + rows % 4);
    if (place == IN_PLACE)
        c.dlogits = trial_alias(trial, "dlogits", c.logits, dtype,
                                vocab * (mst_dtype_size(acc) / mst_dtype_size(dtype)));
    return c;
}

/*
 * lse = max + log(sum exp(x - max)): each exp is off by EXP_ERROR, and by U32 |x - max| from its argument,
 * which weighted with its share of the sum is U32 (1 + log n) at most; the sum by sum_error(n); log and the
 * last sum by 2 U32 (|max| + |lse|). loss = lse - logit; zloss = lse^2.
 * dlogits = scale ((1 + 2 z lse) p - hit) with p = exp(x - lse) off by the error of lse, U32 |x - lse| and
 * EXP_ERROR, or 0 below TINY; four roundings more, of ETA at least.
 */
static void bounds_of_row(const cross_entropy_case *c, size_t r) {
    const mst_cross_entropy_args *args = &c->args;
    if (args->targets[r] < 0) return; /* exactly 0 */
    double max = -INFINITY, sum = 0.0, z = args->z_coefficient;
    for (size_t j = 0; j < args->vocab; j++) max = fmax(max, tensor_initial(c->logits, r, j));
    for (size_t j = 0; j < args->vocab; j++) sum += exp(tensor_initial(c->logits, r, j) - max);
    double lse = max + log(sum), target = tensor_initial(c->logits, r, (size_t)args->targets[r]);
    double lse_error = EXP_ERROR + sum_error(args->vocab) + U32 * (1.0 + log((double)args->vocab)) +
                       2.0 * U32 * (fabs(max) + fabs(lse));
    *tensor_bound(c->loss, 0, r) = lse_error + U32 * (fabs(lse) + fabs(target));
    *tensor_bound(c->zloss, 0, r) = 2.0 * fabs(lse) * lse_error + U32 * lse * lse;
    for (size_t j = 0; c->dlogits && j < args->vocab; j++) {
        double x = tensor_initial(c->logits, r, j), p = exp(x - lse), factor = 1.0 + 2.0 * z * lse;
        double p_error = TINY + (p > 0.0 ? p * (lse_error + U32 * fabs(x - lse) + EXP_ERROR) : 0.0);
        double factor_error = 2.0 * z * lse_error + 2.0 * U32 * (1.0 + 2.0 * z * fabs(lse));
        double hit = j == (size_t)args->targets[r] ? 1.0 : 0.0;
        *tensor_bound(c->dlogits, r, j) = fabs(args->scale) * (fabs(factor) * p_error + p * factor_error +
                                                               4.0 * U32 * (fabs(factor) * p + hit)) +
                                          2.0 * ETA;
    }
}

static void run_cross_entropy(check_trial *trial, const cross_entropy_case *c) {
    if (trial_run(trial, call_cross_entropy, c, REFERENCE_F64)) {
        for (size_t r = 0; r < c->args.rows; r++) bounds_of_row(c, r);
        trial_compare(trial);
    }
    trial_end(trial);
}

/* NaN and infinities spoil their row alone, and not at all in a row that is not valid.
 * -Inf is a probability of 0. */
static void check_nonfinite(check_state *checker, mst_dtype dtype, gradient_place place) {
    check_trial trial;
    trial_begin(&trial, checker, "%s 9 x 21 with NaN and Inf, place %d", mst_dtype_name(dtype), (int)place);
    cross_entropy_case c = set_up_cross_entropy(&trial, 9, 21, dtype, place, 1.0);
    tensor_set(c.logits, 1, 20, NAN);
    tensor_set(c.logits, 3, 4, NAN);
    tensor_set(c.logits, 5, 2, INFINITY);
    size_t target = (size_t)c.args.targets[6];
    tensor_set(c.logits, 6, (target + 1) % 21, -INFINITY);
    for (size_t j = 0; j < 21; j++) tensor_set(c.logits, 7, j, -200.0);
    for (size_t j = 0; j < 21; j++)
        tensor_set(c.logits, 4, j, j == 8 ? 3e38 : -3e38); /* their difference overflows */
    run_cross_entropy(&trial, &c);
}

void check_cross_entropy(check_state *checker) {
    static const size_t sizes[][2] = {{0, 8}, {1, 1}, {6, 2}, {9, 17}, {5, 257}, {70, 65}, {3, 5003}};
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        for (int place = 0; place < PLACES; place++) {
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                double spread = i % 3 == 2 ? 60.0 : 2.0;
                check_trial trial;
                trial_begin(&trial, checker, "%s %zu x %zu, place %d, spread %g",
                            mst_dtype_name((mst_dtype)dtype), sizes[i][0], sizes[i][1], place, spread);
                cross_entropy_case c = set_up_cross_entropy(&trial, sizes[i][0], sizes[i][1],
                                                            (mst_dtype)dtype, (gradient_place)place, spread);
                run_cross_entropy(&trial, &c);
            }
            check_nonfinite(checker, (mst_dtype)dtype, (gradient_place)place);
        }
    }
}

void bench_cross_entropy(check_state *checker) {
    const size_t rows = timed_size(checker, 128, 8);
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        double size = 4.0 + (double)mst_dtype_size((mst_dtype)dtype);
        check_trial trial;
        trial_begin(&trial, checker, "%s %zu x 50304", mst_dtype_name((mst_dtype)dtype), rows);
        cross_entropy_case c = set_up_cross_entropy(&trial, rows, 50304, (mst_dtype)dtype, APART, 1.0);
        c.args.targets = trial_at_device(&trial, c.args.targets, rows * sizeof *c.args.targets);
        trial_time(&trial, call_cross_entropy, &c, (mst_dtype)dtype, (double)rows * 50304.0 * size, 0.0);
        trial_end(&trial);
    }
}

/* ---------------------------------------------------------------- bias gradient */

typedef struct bias_grad_case {
    size_t rows, cols;
    mst_dtype dtype;
    check_tensor *dy, *dbias;
} bias_grad_case;

static mst_status call_bias_grad(const void *context, const mst_kernels *table, mst_queue *queue,
                                 check_view view) {
    const bias_grad_case *c = context;
    mst_bias_grad_args args = {.rows = c->rows,
                               .cols = c->cols,
                               .dtype = dtype_in(c->dtype, view),
                               .dy = tensor_at(c->dy, view),
                               .ld = tensor_ld(c->dy, view),
                               .dbias = tensor_at(c->dbias, view)};
    return table->bias_grad(queue, &args);
}

static bias_grad_case set_up_bias_grad(check_trial *trial, size_t rows, size_t cols, size_t padding,
                                       mst_dtype dtype, check_flavour flavour) {
    bias_grad_case c = {.rows = rows, .cols = cols, .dtype = dtype};
    c.dy = trial_tensor(trial, "dy", ROLE_IN, dtype, rows, cols, cols + padding);
    c.dbias = trial_tensor(trial, "dbias", ROLE_INOUT, mst_dtype_acc(dtype), 1, cols, cols);
    tensor_fill(c.dy, flavour, 1.0);
    tensor_fill(c.dbias, PLAIN, 1.0);
    return c;
}

/* A sum of the rows and the old value: sum_error(rows + 1) of the absolute values. */
static void bounds_of_bias_grad(const bias_grad_case *c) {
    for (size_t k = 0; k < c->cols; k++) {
        double sum = fabs(tensor_initial(c->dbias, 0, k));
        for (size_t r = 0; r < c->rows; r++) sum += fabs(tensor_initial(c->dy, r, k));
        *tensor_bound(c->dbias, 0, k) = sum_error(c->rows + 1) * sum;
    }
}

void check_bias_grad(check_state *checker) {
    static const size_t sizes[][2] = {{0, 8},  {3, 0},    {1, 1},    {3, 17},
                                      {5, 64}, {1000, 3}, {67, 133}, {300, 40}};
    for (size_t i = 0; i < 4 * sizeof sizes / sizeof *sizes; i++) {
        const size_t *s = sizes[i / 4];
        mst_dtype dtype = i & 1 ? MST_BF16 : MST_F32;
        size_t padding = i & 2 ? 5 : 0;
        check_trial trial;
        trial_begin(&trial, checker, "%s %zu x %zu, padding %zu", mst_dtype_name(dtype), s[0], s[1], padding);
        bias_grad_case c =
            set_up_bias_grad(&trial, s[0], s[1], padding, dtype, (check_flavour)(i / 4 % FLAVOURS));
        if (s[0] > 2 && s[1] > 2) tensor_set(c.dy, 2, 2, i & 1 ? NAN : INFINITY);
        if (trial_run(&trial, call_bias_grad, &c, REFERENCE_F64)) {
            bounds_of_bias_grad(&c);
            trial_compare(&trial);
        }
        trial_end(&trial);
    }
}

void bench_bias_grad(check_state *checker) {
    const size_t rows = timed_size(checker, 1024, 16);
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        check_trial trial;
        trial_begin(&trial, checker, "%s %zu x 3072", mst_dtype_name((mst_dtype)dtype), rows);
        bias_grad_case c = set_up_bias_grad(&trial, rows, 3072, 0, (mst_dtype)dtype, PLAIN);
        trial_time(&trial, call_bias_grad, &c, c.dtype, (double)(rows * 3072 * mst_dtype_size(c.dtype)), 0.0);
        trial_end(&trial);
    }
}
