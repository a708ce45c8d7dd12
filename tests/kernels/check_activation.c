/* Checks of RoPE, SwiGLU and GELU. */
#include "check.h"

/* ---------------------------------------------------------------- rope */

typedef struct rope_case {
    mst_rope_args args;
    check_tensor *x;
} rope_case;

static mst_status call_rope(const void *context, const mst_kernels *table, mst_queue *queue,
                            check_view view) {
    const rope_case *c = context;
    mst_rope_args args = c->args;
    args.dtype = dtype_in(args.dtype, view);
    args.x = tensor_at(c->x, view);
    args.ld = tensor_ld(c->x, view);
    return table->rope(queue, &args);
}

static rope_case set_up_rope(check_trial *trial, mst_rope_args args, const size_t *documents, size_t padding,
                             check_flavour flavour) {
    rope_case c = {.args = args};
    c.args.starts = trial_starts(trial, args.rows, args.seq_len, documents);
    size_t cols = args.heads * args.head_dim, half = args.head_dim / 2, positions = args.first + args.seq_len;
    float *cosine = trial_floats(trial, positions * half), *sine = trial_floats(trial, positions * half);
    for (size_t i = 0; i < positions * half; i++) {
        double angle = (double)(i / half) * pow(10000.0, -(double)(i % half) / (double)half);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    c.args.cosine = cosine;
    c.args.sine = sine;
    c.x = trial_tensor(trial, "x", ROLE_INOUT, args.dtype, args.rows, cols, cols + padding);
    tensor_fill(c.x, flavour, 1.0);
    return c;
}

/* x cos - y sin and y cos + x sin: two rounded products and their sum, 2 U32 (|x cos| + |y sin|) + 2 ETA. */
static void bounds_of_rope(const rope_case *c) {
    const mst_rope_args *args = &c->args;
    size_t half = args->head_dim / 2;
    for (size_t r = 0; r < args->rows; r++) {
        for (size_t k = 0; k < args->heads * half; k++) {
            size_t i = k % half, col = k / half * args->head_dim + i,
                   position = args->first + r % args->seq_len - (args->starts ? (size_t)args->starts[r] : 0);
            double x = fabs(tensor_initial(c->x, r, col)), y = fabs(tensor_initial(c->x, r, col + half));
            double cosine = fabs((double)args->cosine[position * half + i]);
            double sine = fabs((double)args->sine[position * half + i]);
            *tensor_bound(c->x, r, col) = 2.0 * U32 * (x * cosine + y * sine) + 2.0 * ETA;
            *tensor_bound(c->x, r, col + half) = 2.0 * U32 * (y * cosine + x * sine) + 2.0 * ETA;
        }
    }
}

void check_rope(check_state *checker) {
    /* rows, heads, head_dim, seq_len, first */
    static const size_t shapes[][5] = {{0, 2, 8, 4, 0},     {3, 0, 8, 4, 0},  {1, 1, 2, 1, 0},
                                       {7, 3, 6, 7, 0},     {8, 2, 64, 4, 3}, {9, 1, 34, 5, 11},
                                       {130, 3, 16, 65, 0}, {6, 4, 128, 3, 1}};
    static const size_t documents[] = {3, 1, 4, 0};
    for (size_t i = 0; i < 16 * sizeof shapes / sizeof *shapes; i++) {
        const size_t *s = shapes[i / 16];
        mst_dtype dtype = i & 1 ? MST_BF16 : MST_F32;
        mst_rope_args args = {.rows = s[0],
                              .heads = s[1],
                              .head_dim = s[2],
                              .seq_len = s[3],
                              .first = s[4],
                              .dtype = dtype,
                              .inverse = i & 2};
        size_t padding = i & 4 ? 3 : 0;
        check_trial trial;
        trial_begin(&trial, checker, "%s %zu rows, %zu heads of %zu, seq_len %zu, first %zu, padding %zu%s%s",
                    mst_dtype_name(dtype), s[0], s[1], s[2], s[3], s[4], padding,
                    args.inverse ? ", inverse" : "", i & 8 ? ", documents" : "");
        rope_case c =
            set_up_rope(&trial, args, i & 8 ? documents : NULL, padding, (check_flavour)(i % FLAVOURS));
        if (s[0] > 4 && i % 3 == 0) tensor_set(c.x, 4, 1, NAN);
        if (trial_run(&trial, call_rope, &c, REFERENCE_F64)) {
            bounds_of_rope(&c);
            trial_compare(&trial);
        }
        trial_end(&trial);
    }
    check_trial trial;
    trial_begin(&trial, checker, "odd head_dim");
    mst_rope_args odd = {.rows = 2, .heads = 1, .head_dim = 3, .seq_len = 2, .dtype = MST_F32};
    rope_case c = set_up_rope(&trial, odd, NULL, 0, PLAIN);
    trial_expect(&trial, call_rope, &c, MST_EINVAL);
    trial_end(&trial);
}

void bench_rope(check_state *checker) {
    const size_t rows = timed_size(checker, 1024, 32);
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        check_trial trial;
        trial_begin(&trial, checker, "%s %zu rows, 12 heads of 64", mst_dtype_name((mst_dtype)dtype), rows);
        mst_rope_args args = {
            .rows = rows, .heads = 12, .head_dim = 64, .seq_len = 256, .dtype = (mst_dtype)dtype};
        rope_case c = set_up_rope(&trial, args, NULL, 0, PLAIN);
        const size_t table = args.seq_len * args.head_dim / 2 * sizeof(float);
        c.args.cosine = trial_at_device(&trial, c.args.cosine, table);
        c.args.sine = trial_at_device(&trial, c.args.sine, table);
        trial_time(&trial, call_rope, &c, args.dtype, 2.0 * (double)(rows * 768 * mst_dtype_size(args.dtype)),
                   0.0);
        trial_end(&trial);
    }
}

/* ---------------------------------------- swiglu and gelu: elementwise, so one frame */

typedef struct pointwise_case {
    size_t rows, cols;
    mst_dtype dtype;
    check_tensor *x, *up, *y; /* x is the gate of SwiGLU */
    check_tensor *dy, *dx, *dup;
} pointwise_case;

static mst_swiglu_args swiglu_args(const pointwise_case *c, check_view view) {
    return (mst_swiglu_args){.rows = c->rows,
                             .cols = c->cols,
                             .dtype = dtype_in(c->dtype, view),
                             .gate = tensor_at(c->x, view),
                             .up = tensor_at(c->up, view),
                             .y = tensor_at(c->y, view),
                             .dy = tensor_at(c->dy, view),
                             .dgate = tensor_at(c->dx, view),
                             .dup = tensor_at(c->dup, view)};
}

static mst_gelu_args gelu_args(const pointwise_case *c, check_view view) {
    return (mst_gelu_args){.count = c->rows * c->cols,
                           .dtype = dtype_in(c->dtype, view),
                           .x = tensor_at(c->x, view),
                           .y = tensor_at(c->y, view),
                           .dy = tensor_at(c->dy, view),
                           .dx = tensor_at(c->dx, view)};
}

static mst_status call_swiglu_forward(const void *context, const mst_kernels *table, mst_queue *queue,
                                      check_view view) {
    mst_swiglu_args args = swiglu_args(context, view);
    return table->swiglu_forward(queue, &args);
}

static mst_status call_swiglu_backward(const void *context, const mst_kernels *table, mst_queue *queue,
                                       check_view view) {
    mst_swiglu_args args = swiglu_args(context, view);
    return table->swiglu_backward(queue, &args);
}

static mst_status call_gelu_forward(const void *context, const mst_kernels *table, mst_queue *queue,
                                    check_view view) {
    mst_gelu_args args = gelu_args(context, view);
    return table->gelu_forward(queue, &args);
}

static mst_status call_gelu_backward(const void *context, const mst_kernels *table, mst_queue *queue,
                                     check_view view) {
    mst_gelu_args args = gelu_args(context, view);
    return table->gelu_backward(queue, &args);
}

typedef struct pointwise {
    check_call_fn *call;
    bool swiglu, backward;
    void (*bounds)(const pointwise_case *c, size_t r, size_t k);
} pointwise;

static pointwise_case set_up_pointwise(check_trial *trial, pointwise op, size_t rows, size_t cols,
                                       mst_dtype dtype, bool in_place, check_flavour flavour, double scale) {
    pointwise_case c = {.rows = rows, .cols = cols, .dtype = dtype};
    c.x = trial_tensor(trial, "x", ROLE_IN, dtype, rows, cols, cols);
    tensor_fill(c.x, flavour, scale);
    if (op.swiglu) {
        c.up = trial_tensor(trial, "up", ROLE_IN, dtype, rows, cols, cols);
        tensor_fill(c.up, PLAIN, 1.0);
    }
    if (!op.backward) {
        c.y = trial_tensor(trial, "y", ROLE_OUT, dtype, rows, cols, cols);
        return c;
    }
    c.dy = trial_tensor(trial, "dy", ROLE_IN, dtype, rows, cols, cols);
    tensor_fill(c.dy, flavour, 1.0);
    c.dx = !in_place ? trial_tensor(trial, "dx", ROLE_OUT, dtype, rows, cols, cols)
                     : trial_alias(trial, "dx", op.swiglu ? c.x : c.dy, dtype, cols);
    if (op.swiglu)
        c.dup = in_place ? trial_alias(trial, "dup", c.up, dtype, cols)
                         : trial_tensor(trial, "dup", ROLE_OUT, dtype, rows, cols, cols);
    return c;
}

/* Values where exp overflows, tanh saturates, and the product of a large x with a
 * tail that should be zero shows. */
static void set_extremes(const pointwise_case *c) {
    static const double extremes[] = {0.0,      -0.0,  88.8,     -88.8, 104.0,      -104.0, 5.6,
                                      -5.6,     10.0,  -10.0,    1e4,   -1e4,       1e9,    -1e9,
                                      0x1p-149, 1e-20, INFINITY, NAN,   -1.2784645, 0.75,   -0.75};
    for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++)
        tensor_set(c->x, i / c->cols, i % c->cols, extremes[i]);
}

static void run_pointwise(check_trial *trial, pointwise op, const pointwise_case *c) {
    if (trial_run(trial, op.call, c, REFERENCE_F64)) {
        for (size_t r = 0; r < c->rows; r++)
            for (size_t k = 0; k < c->cols; k++) op.bounds(c, r, k);
        trial_compare(trial);
    }
    trial_end(trial);
}

static void check_pointwise(check_state *checker, pointwise op) {
    static const size_t sizes[][2] = {{0, 4}, {3, 0}, {1, 1}, {3, 17}, {5, 64}, {1, 4099}, {67, 300}};
    for (size_t i = 0; i < 4 * sizeof sizes / sizeof *sizes; i++) {
        const size_t *s = sizes[i / 4];
        mst_dtype dtype = i & 1 ? MST_BF16 : MST_F32;
        bool in_place = i & 2;
        check_flavour flavour = (check_flavour)(i / 4 % FLAVOURS);
        check_trial trial;
        trial_begin(&trial, checker, "%s %zu x %zu%s, flavour %d", mst_dtype_name(dtype), s[0], s[1],
                    in_place ? ", in place" : "", (int)flavour);
        pointwise_case c = set_up_pointwise(&trial, op, s[0], s[1], dtype, in_place, flavour, 2.0);
        if (s[0] * s[1] > 40) set_extremes(&c);
        run_pointwise(&trial, op, &c);
    }
    if (takes_f64(checker)) return;
    check_trial trial;
    trial_begin(&trial, checker, "f64");
    pointwise_case c = set_up_pointwise(&trial, op, 2, 3, MST_F64, false, PLAIN, 1.0);
    trial_expect(&trial, op.call, &c, MST_EUNSUPPORTED);
    trial_end(&trial);
}

/* streams: tensors read and written. */
static void bench_pointwise(check_state *checker, pointwise op, double streams) {
    const size_t rows = timed_size(checker, 1024, 32);
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        check_trial trial;
        trial_begin(&trial, checker, "%s %zu x 3072", mst_dtype_name((mst_dtype)dtype), rows);
        pointwise_case c = set_up_pointwise(&trial, op, rows, 3072, (mst_dtype)dtype, false, PLAIN, 1.0);
        trial_time(&trial, op.call, &c, (mst_dtype)dtype,
                   streams * (double)(rows * 3072 * mst_dtype_size((mst_dtype)dtype)), 0.0);
        trial_end(&trial);
    }
}

/* ---------------------------------------------------------------- bounds of swiglu */

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

/*
 * s = 1 / (1 + exp(-gate)): EXP_ERROR exp(-gate) s + 2 U32, relative; below TINY it may be 0.
 * Then two products: |y| (EXP_ERROR + 4 U32) + TINY |gate up|, and ETA for each product, times
 * what it is multiplied with later.
 */
static void bounds_of_swiglu_forward(const pointwise_case *c, size_t r, size_t k) {
    double gate = tensor_initial(c->x, r, k), up = tensor_initial(c->up, r, k), y = *tensor_exact(c->y, r, k);
    *tensor_bound(c->y, r, k) =
        fabs(y) * (EXP_ERROR + 4.0 * U32) + TINY * fabs(gate * up) + ETA * (1.0 + fabs(gate) + fabs(up));
}

/*
 * dup = dy gate s as above.
 * dgate = dy up s (1 + gate (1 - s)): 1 - s may come from a subtraction, off by
 * (EXP_ERROR + 2 U32) s + U32 <= EXP_ERROR + 3 U32, so the bracket is off by
 * |gate| (EXP_ERROR + 4 U32) + 2 U32, and s and the products add a relative EXP_ERROR + 5 U32 of it.
 * Products below the normal range: ETA as above.
 */
static void bounds_of_swiglu_backward(const pointwise_case *c, size_t r, size_t k) {
    double gate = tensor_initial(c->x, r, k), up = tensor_initial(c->up, r, k),
           dy = tensor_initial(c->dy, r, k);
    double s = sigmoid(gate), bracket = 1.0 + gate * sigmoid(-gate);
    double bracket_error = fabs(gate) * (EXP_ERROR + 4.0 * U32) + 2.0 * U32;
    double lost = ETA * (1.0 + fabs(dy) + fabs(gate) + fabs(up)) * (1.0 + fabs(bracket));
    *tensor_bound(c->dup, r, k) = fabs(dy * gate) * (s * (EXP_ERROR + 4.0 * U32) + TINY) + lost;
    *tensor_bound(c->dx, r, k) =
        fabs(dy * up) * ((s + TINY) * bracket_error + (s * (EXP_ERROR + 5.0 * U32) + TINY) * fabs(bracket)) +
        lost;
}

static const pointwise swiglu_forward = {call_swiglu_forward, true, false, bounds_of_swiglu_forward};
static const pointwise swiglu_backward = {call_swiglu_backward, true, true, bounds_of_swiglu_backward};
void check_swiglu_forward(check_state *checker) {
    check_pointwise(checker, swiglu_forward);
}
void check_swiglu_backward(check_state *checker) {
    check_pointwise(checker, swiglu_backward);
}
void bench_swiglu_forward(check_state *checker) {
    bench_pointwise(checker, swiglu_forward, 3.0);
}
void bench_swiglu_backward(check_state *checker) {
    bench_pointwise(checker, swiglu_backward, 5.0);
}

/* ---------------------------------------------------------------- bounds of gelu */

static const double gelu_scale = 0.79788456080286535588, gelu_cubic = 0.044715;

/*
 * t = tanh(z) with a relative error of EXP_ERROR + 2 U32, and z off by 4 U32 |z| (scale, cube, sum, product),
 * which moves t by 4 U32 |z| (1 - t^2).
 */
static double tanh_error(double z) {
    return fabs(tanh(z)) * (EXP_ERROR + 2.0 * U32) + 4.0 * U32 * fabs(z) / pow(cosh(z), 2.0);
}

/* x (1 + t) / 2: |x| / 2 times the error of t; two more roundings; ETA for each product. */
static void bounds_of_gelu_forward(const pointwise_case *c, size_t r, size_t k) {
    double x = tensor_initial(c->x, r, k), z = gelu_scale * (x + gelu_cubic * x * x * x);
    *tensor_bound(c->y, r, k) =
        0.5 * fabs(x) * tanh_error(z) + 2.0 * U32 * fabs(*tensor_exact(c->y, r, k)) + ETA * (2.0 + fabs(x));
}

/*
 * dy ((1 + t) / 2 + x (1 - t^2) dz / 2), dz = scale (1 + 3 cubic x^2): 1 - t^2 is off by 2 |t| times the
 * error of t and by 2 U32 t^2; its product with x dz / 2 adds 6 U32 of itself, and the sum U32.
 * Beyond |z| = 10 tanh is 1 in fp32, and nothing else will do: whatever 1 - t^2 were off would be multiplied
 * by x dz, which grows without limit. There the derivative is 0 or 1, to 2 U32.
 */
static void bounds_of_gelu_backward(const pointwise_case *c, size_t r, size_t k) {
    double x = tensor_initial(c->x, r, k), dy = tensor_initial(c->dy, r, k),
           z = gelu_scale * (x + gelu_cubic * x * x * x);
    double dz = gelu_scale * (1.0 + 3.0 * gelu_cubic * x * x), t = tanh(z), t_error = tanh_error(z);
    if (fabs(z) > 10.0) {
        *tensor_bound(c->dx, r, k) = 2.0 * U32 * fabs(dy) + ETA;
        return;
    }
    double slope = 1.0 / pow(cosh(z), 2.0), slope_error = 2.0 * fabs(t) * t_error + 2.0 * U32 * t * t;
    double error = 0.5 * t_error + 0.5 * fabs(x) * dz * (slope_error + 6.0 * U32 * slope);
    *tensor_bound(c->dx, r, k) =
        fabs(dy) * (error + 2.0 * U32 * (0.5 * (1.0 + t) + 0.5 * fabs(x) * dz * slope) + ETA) + ETA;
}

static const pointwise gelu_forward = {call_gelu_forward, false, false, bounds_of_gelu_forward};
static const pointwise gelu_backward = {call_gelu_backward, false, true, bounds_of_gelu_backward};
void check_gelu_forward(check_state *checker) {
    check_pointwise(checker, gelu_forward);
}
void check_gelu_backward(check_state *checker) {
    check_pointwise(checker, gelu_backward);
}
void bench_gelu_forward(check_state *checker) {
    bench_pointwise(checker, gelu_forward, 2.0);
}
void bench_gelu_backward(check_state *checker) {
    bench_pointwise(checker, gelu_backward, 3.0);
}
