/* Checks of the matrix product. */
#include "check.h"

typedef struct matmul_case {
    mst_matmul_args args;
    check_tensor *a, *b, *bias, *c;
} matmul_case;

/* The shape and kind of one trial. */
typedef struct matmul_shape {
    size_t m, n, k;
    mst_dtype dtype;
    bool a_transposed, b_transposed, accumulate, bias, c_acc;
    double scale;   /* 0: none */
    size_t padding; /* of every row */
} matmul_shape;

static mst_status call(const void *context, const mst_kernels *table, mst_queue *queue, check_view view) {
    const matmul_case *c = context;
    mst_matmul_args args = c->args;
    args.dtype = dtype_in(args.dtype, view);
    args.c_dtype = dtype_in(args.c_dtype, view);
    args.a = tensor_at(c->a, view);
    args.b = tensor_at(c->b, view);
    args.bias = tensor_at(c->bias, view);
    args.c = tensor_at(c->c, view);
    return table->matmul(queue, &args);
}

static matmul_case set_up(check_trial *trial, matmul_shape s, check_flavour flavour) {
    size_t a_rows = s.a_transposed ? s.k : s.m, a_cols = s.a_transposed ? s.m : s.k;
    size_t b_rows = s.b_transposed ? s.n : s.k, b_cols = s.b_transposed ? s.k : s.n;
    mst_dtype c_dtype = s.c_acc ? mst_dtype_acc(s.dtype) : s.dtype;
    matmul_case c = {.args = {.m = s.m,
                              .n = s.n,
                              .k = s.k,
                              .dtype = s.dtype,
                              .c_dtype = c_dtype,
                              .a_transposed = s.a_transposed,
                              .b_transposed = s.b_transposed,
                              .lda = a_cols + s.padding,
                              .ldb = b_cols + s.padding,
                              .ldc = s.n + s.padding,
                              .accumulate = s.accumulate,
                              .scale = s.scale}};
    c.a = trial_tensor(trial, "a", ROLE_IN, s.dtype, a_rows, a_cols, c.args.lda);
    c.b = trial_tensor(trial, "b", ROLE_IN, s.dtype, b_rows, b_cols, c.args.ldb);
    c.bias = s.bias ? trial_tensor(trial, "bias", ROLE_IN, s.dtype, 1, s.n, s.n) : NULL;
    c.c = trial_tensor(trial, "c", s.accumulate ? ROLE_INOUT : ROLE_OUT, c_dtype, s.m, s.n, c.args.ldc);
    tensor_fill(c.a, flavour, 1.0);
    tensor_fill(c.b, flavour == DENORMAL ? PLAIN : flavour, 1.0);
    if (c.bias) tensor_fill(c.bias, PLAIN, 1.0);
    if (s.accumulate) tensor_fill(c.c, PLAIN, 1.0);
    return c;
}

static double a_at(const matmul_case *c, size_t i, size_t l) {
    return c->args.a_transposed ? tensor_initial(c->a, l, i) : tensor_initial(c->a, i, l);
}

static double b_at(const matmul_case *c, size_t l, size_t j) {
    return c->args.b_transposed ? tensor_initial(c->b, j, l) : tensor_initial(c->b, l, j);
}

/*
 * A sum of k products (exact for bf16 in fp32, else rounded once each), the bias and the old c:
 * (sum_error(k + 2) + U32) (sum |a| |b| + |bias| + |c|) + k ETA, times the scale, which rounds once more.
 * Processors' own bf16 dot products take denormal operands for zero: TINY times the other operand for each.
 */
static void bounds(const matmul_case *c) {
    const mst_matmul_args *args = &c->args;
    for (size_t i = 0; i < args->m; i++) {
        for (size_t j = 0; j < args->n; j++) {
            double sum = c->bias ? fabs(tensor_initial(c->bias, 0, j)) : 0.0, lost = ETA * (double)args->k;
            if (args->accumulate) sum += fabs(tensor_initial(c->c, i, j));
            for (size_t l = 0; l < args->k; l++) {
                double a = fabs(a_at(c, i, l)), b = fabs(b_at(c, l, j));
                sum += a * b;
                lost += args->dtype == MST_BF16 ? TINY * (a + b) : 0.0;
            }
            if (args->scale != 0)
                *tensor_bound(c->c, i, j) = fabs(args->scale) * ((sum_error(args->k + 4) + U32) * sum + lost);
            else
                *tensor_bound(c->c, i, j) = (sum_error(args->k + 2) + U32) * sum + lost;
        }
    }
}

static void check_one(check_state *checker, matmul_shape s, check_flavour flavour) {
    check_trial trial;
    trial_begin(&trial, checker, "%s -> %s, %zu x %zu x %zu%s%s%s%s, padding %zu, flavour %d",
                mst_dtype_name(s.dtype), s.c_acc ? "acc" : "same", s.m, s.n, s.k,
                s.a_transposed ? ", a^T" : "", s.b_transposed ? ", b^T" : "", s.accumulate ? ", +=" : "",
                s.bias ? ", bias" : "", s.padding, (int)flavour);
    matmul_case c = set_up(&trial, s, flavour);
    if (trial_run(&trial, call, &c, REFERENCE_F64)) {
        bounds(&c);
        trial_compare(&trial);
    }
    trial_end(&trial);
}

/* NaN and Inf reach exactly the rows and columns that they belong to. */
static void check_nonfinite(check_state *checker, mst_dtype dtype) {
    check_trial trial;
    trial_begin(&trial, checker, "%s with NaN and Inf", mst_dtype_name(dtype));
    matmul_case c =
        set_up(&trial, (matmul_shape){.m = 9, .n = 11, .k = 13, .dtype = dtype, .c_acc = true}, PLAIN);
    tensor_set(c.a, 3, 5, NAN);
    tensor_set(c.b, 2, 7, INFINITY);
    tensor_set(c.a, 6, 2, 0.0); /* 0 * Inf is NaN */
    if (trial_run(&trial, call, &c, REFERENCE_F64)) {
        bounds(&c);
        trial_compare(&trial);
    }
    trial_end(&trial);
}

static void expect(check_state *checker, const char *what, mst_matmul_args change, mst_status expected) {
    check_trial trial;
    trial_begin(&trial, checker, "%s", what);
    matmul_shape s = {.m = 4, .n = 4, .k = 4, .dtype = change.dtype, .bias = change.accumulate};
    matmul_case c = set_up(&trial, s, PLAIN);
    c.args.accumulate = change.accumulate;
    c.args.scale = change.scale;
    if (change.lda) c.args.lda = change.lda;
    trial_expect(&trial, call, &c, expected);
    trial_end(&trial);
}

void check_matmul(check_state *checker) {
    static const size_t sizes[][3] = {
        {0, 3, 4}, {3, 0, 4},     {1, 1, 1},     {1, 7, 5},     {5, 1, 9},     {16, 16, 16},  {17, 33, 65},
        {2, 3, 1}, {31, 64, 257}, {130, 70, 96}, {1, 300, 200}, {1, 129, 640}, {9, 50, 16500}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int kind = 0; kind < 4; kind++) {
            for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
                matmul_shape s = {
                    .m = sizes[i][0], .n = sizes[i][1], .k = sizes[i][2], .dtype = (mst_dtype)dtype};
                s.a_transposed = kind & 1;
                s.b_transposed = kind & 2;
                s.padding = (i + (size_t)kind) % 3 * 5;
                s.c_acc = i % 2;
                s.bias = kind == (int)(i % 4);
                check_one(checker, s, (check_flavour)(i % FLAVOURS));
                s.bias = false;
                s.accumulate = s.c_acc = true;
                check_one(checker, s, (check_flavour)((i + 1) % FLAVOURS));
                s.accumulate = false;
                s.c_acc = kind & 1;
                s.scale = kind & 2 ? 1.7 : 0.25;
                check_one(checker, s, PLAIN);
            }
        }
    }
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        /* Larger than any tile in one direction at least. */
        matmul_shape large = {
            .m = 300, .n = 530, .k = 70, .dtype = (mst_dtype)dtype, .b_transposed = true, .bias = true};
        check_one(checker, large, PLAIN);
        matmul_shape deep = {
            .m = 40, .n = 30, .k = 2100, .dtype = (mst_dtype)dtype, .a_transposed = true, .c_acc = true};
        deep.accumulate = true;
        check_one(checker, deep, PLAIN);
        check_nonfinite(checker, (mst_dtype)dtype);
        expect(checker, "bias and accumulate",
               (mst_matmul_args){.dtype = (mst_dtype)dtype, .accumulate = true}, MST_EINVAL);
        expect(checker, "scale and accumulate",
               (mst_matmul_args){.dtype = (mst_dtype)dtype, .accumulate = true, .scale = 2}, MST_EINVAL);
        expect(checker, "lda too small", (mst_matmul_args){.dtype = (mst_dtype)dtype, .lda = 3}, MST_EINVAL);
    }
    if (!takes_f64(checker)) expect(checker, "f64", (mst_matmul_args){.dtype = MST_F64}, MST_EUNSUPPORTED);
}

/* GPT-2 124M at B4 T256: c_fc forward, its gradients, and a chunk of the head. */
void bench_matmul(check_state *checker) {
    const size_t rows = timed_size(checker, 1024, 16);
    const struct {
        const char *name;
        matmul_shape shape;
    } shapes[] = {
        {"x w^T", {.m = rows, .n = 3072, .k = 768, .b_transposed = true, .bias = true}},
        {"dy w", {.m = rows, .n = 768, .k = 3072}},
        {"dw += dy^T x",
         {.m = 3072, .n = 768, .k = rows, .a_transposed = true, .accumulate = true, .c_acc = true}},
        {"logits", {.m = rows / 8, .n = 50304, .k = 768, .b_transposed = true, .c_acc = true}},
        {"one row x w^T", {.m = 1, .n = 3072, .k = 768, .b_transposed = true}},
        {"one row x w", {.m = 1, .n = 3072, .k = 768}},
    };
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
        matmul_shape s = shapes[i / 2].shape;
        s.dtype = i % 2 ? MST_BF16 : MST_F32;
        check_trial trial;
        trial_begin(&trial, checker, "%s %s %zux%zux%zu", mst_dtype_name(s.dtype), shapes[i / 2].name, s.m,
                    s.n, s.k);
        matmul_case c = set_up(&trial, s, PLAIN);
        double weights = s.m == 1 ? (double)(s.n * s.k * mst_dtype_size(s.dtype)) : 0.0;
        trial_time(&trial, call, &c, s.dtype, weights, 2.0 * (double)s.m * (double)s.n * (double)s.k);
        trial_end(&trial);
    }
}
