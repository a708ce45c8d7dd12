/*
 * Checks the specification itself: hand-computed cases, and every backward operation against central differences of its
 * forward operation in fp64.
 */
#include "muster/random.h"
#include "ref.h"
#include "test.h"

enum { SEED = 7 };

static uint64_t drawn;

static void fill(double *x, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = mst_random_normal(SEED, MST_RANDOM_TEST, drawn++, 0, 0.0);
}

static double weighted_sum(const double *weight, const double *x, size_t count) {
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) sum += weight[i] * x[i];
    return sum;
}

/* ---------------------------------------------------------------- central differences */

/* A scalar function of everything its context points to. */
typedef double loss_fn(const void *context);

/*
 * Compares `gradient` with (loss(x + h) - loss(x - h)) / 2h for each of the elements of x. With h = 1e-5 the truncation is
 * h^2 / 6 of a third derivative, about 1e-11, and the rounding 2^-53 |loss| / h, about 1e-11 |loss|, with losses of up to
 * some ten: relative L2 error at most 1e-8.
 */
static void check_gradient(const char *what, loss_fn *loss, const void *context, double *x, const double *gradient,
                           size_t count) {
    const double h = 1e-5;
    double error2 = 0.0, norm2 = 0.0;
    for (size_t i = 0; i < count; i++) {
        double kept = x[i];
        x[i] = kept + h;
        double above = loss(context);
        x[i] = kept - h;
        double below = loss(context);
        x[i] = kept;
        double difference = (above - below) / (2.0 * h);
        error2 += (gradient[i] - difference) * (gradient[i] - difference);
        norm2 += difference * difference;
    }
    CHECK(sqrt(error2) <= 1e-8 * sqrt(norm2) && norm2 > 0.0, "%s: relative L2 error %g", what, sqrt(error2 / norm2));
    printf("%-28s relative L2 error %.1e\n", what, sqrt(error2 / norm2));
}

/* ---------------------------------------------------------------- matmul */

enum { M = 3, N = 4, K = 5 };

typedef struct matmul_context {
    double a[M * K], b[K * N], bias[N], dc[M * N];
} matmul_context;

static double matmul_loss(const void *context) {
    const matmul_context *x = context;
    double c[M * N];
    mst_matmul_args args = {.m = M, .n = N, .k = K, .dtype = MST_F64, .c_dtype = MST_F64, .a = x->a, .lda = K, .b = x->b,
                            .ldb = N, .bias = x->bias, .c = c, .ldc = N};
    CHECK_OK(mst_matmul_ref(NULL, &args));
    return weighted_sum(x->dc, c, M * N);
}

/* da = dc b^T, db = a^T dc, dbias = column sums of dc. */
static void test_matmul_gradient(void) {
    matmul_context x;
    double da[M * K], db[K * N] = {0}, dbias[N] = {0};
    fill(x.a, M * K);
    fill(x.b, K * N);
    fill(x.bias, N);
    fill(x.dc, M * N);
    mst_matmul_args for_a = {.m = M, .n = K, .k = N, .dtype = MST_F64, .c_dtype = MST_F64, .a = x.dc, .lda = N, .b = x.b,
                             .ldb = N, .b_transposed = true, .c = da, .ldc = K};
    mst_matmul_args for_b = {.m = K, .n = N, .k = M, .dtype = MST_F64, .c_dtype = MST_F64, .a = x.a, .lda = K,
                             .a_transposed = true, .b = x.dc, .ldb = N, .c = db, .ldc = N, .accumulate = true};
    mst_bias_grad_args for_bias = {.rows = M, .cols = N, .dtype = MST_F64, .dy = x.dc, .ld = N, .dbias = dbias};
    CHECK_OK(mst_matmul_ref(NULL, &for_a));
    CHECK_OK(mst_matmul_ref(NULL, &for_b));
    CHECK_OK(mst_bias_grad_ref(NULL, &for_bias));
    check_gradient("matmul da", matmul_loss, &x, x.a, da, M * K);
    check_gradient("matmul db", matmul_loss, &x, x.b, db, K * N);
    check_gradient("bias_grad", matmul_loss, &x, x.bias, dbias, N);
}

static void test_matmul_by_hand(void) {
    const float a[] = {1, 2, 3, 4}, b[] = {5, 6, 7, 8};
    float c[] = {100, 200, 300, 400}, d[4];
    mst_matmul_args args = {.m = 2, .n = 2, .k = 2, .dtype = MST_F32, .c_dtype = MST_F32, .a = a, .lda = 2, .b = b, .ldb = 2,
                            .c = c, .ldc = 2, .accumulate = true};
    CHECK_OK(mst_matmul_ref(NULL, &args));
    CHECK(c[0] == 119 && c[1] == 222 && c[2] == 343 && c[3] == 450, "c += a b: %g %g %g %g", c[0], c[1], c[2], c[3]);
    args.accumulate = false;
    args.a_transposed = args.b_transposed = true;
    args.c = d;
    CHECK_OK(mst_matmul_ref(NULL, &args));
    CHECK(d[0] == 23 && d[1] == 31 && d[2] == 34 && d[3] == 46, "a^T b^T: %g %g %g %g", d[0], d[1], d[2], d[3]);
    args.lda = 1;
    CHECK_STATUS(mst_matmul_ref(NULL, &args), MST_EINVAL);
}

/* ---------------------------------------------------------------- norms */

enum { ROWS = 3, COLS = 7, CELLS = ROWS * COLS };

typedef struct norm_context {
    bool layernorm;
    double x[CELLS], weight[COLS], bias[COLS], dy[CELLS], dresidual[CELLS], y[CELLS], mean[ROWS], rstd[ROWS];
} norm_context;

static void norm_forward(norm_context *x) {
    mst_norm_args args = {.rows = ROWS, .cols = COLS, .dtype = MST_F64, .eps = 1e-3, .x = x->x, .weight = x->weight,
                          .bias = x->layernorm ? x->bias : NULL, .y = x->y, .mean = x->mean, .rstd = x->rstd};
    CHECK_OK(x->layernorm ? mst_layernorm_forward_ref(NULL, &args) : mst_rmsnorm_forward_ref(NULL, &args));
}

/* The gradient past the norm reaches x as well: hence the second term. */
static double norm_loss(const void *context) {
    norm_context copy = *(const norm_context *)context;
    norm_forward(&copy);
    return weighted_sum(copy.dy, copy.y, CELLS) + weighted_sum(copy.dresidual, copy.x, CELLS);
}

static void test_norm_gradient(bool layernorm) {
    norm_context x = {.layernorm = layernorm};
    double dx[CELLS], dweight[COLS] = {0}, dbias[COLS] = {0};
    fill(x.x, CELLS);
    fill(x.weight, COLS);
    fill(x.bias, COLS);
    fill(x.dy, CELLS);
    fill(x.dresidual, CELLS);
    norm_forward(&x);
    mst_norm_grad_args args = {.rows = ROWS, .cols = COLS, .dtype = MST_F64, .x = x.x, .weight = x.weight, .mean = x.mean,
                               .rstd = x.rstd, .dy = x.dy, .dresidual = x.dresidual, .dx = dx, .dweight = dweight,
                               .dbias = layernorm ? dbias : NULL};
    CHECK_OK(layernorm ? mst_layernorm_backward_ref(NULL, &args) : mst_rmsnorm_backward_ref(NULL, &args));
    check_gradient(layernorm ? "layernorm dx" : "rmsnorm dx", norm_loss, &x, x.x, dx, CELLS);
    check_gradient(layernorm ? "layernorm dweight" : "rmsnorm dweight", norm_loss, &x, x.weight, dweight, COLS);
    if (layernorm) check_gradient("layernorm dbias", norm_loss, &x, x.bias, dbias, COLS);
}

static void test_norm_by_hand(void) {
    const double x[] = {3, 4}, delta[] = {0, 3}, weight[] = {1, 10}, bias[] = {0, 1};
    double sum[2], y[2], mean[1], rstd[1];
    mst_norm_args args = {.rows = 1, .cols = 2, .dtype = MST_F64, .x = x, .weight = weight, .y = y, .mean = mean,
                          .rstd = rstd};
    CHECK_OK(mst_rmsnorm_forward_ref(NULL, &args)); /* mean square 12.5 */
    CHECK(fabs(rstd[0] - 1 / sqrt(12.5)) < 1e-15 && fabs(y[1] - 40 / sqrt(12.5)) < 1e-14, "rmsnorm %g", y[1]);
    args.delta = delta;
    args.sum = sum;
    args.bias = bias;
    CHECK_OK(mst_layernorm_forward_ref(NULL, &args)); /* of 3 and 7: mean 5, deviation 2 */
    CHECK(sum[1] == 7 && mean[0] == 5 && rstd[0] == 0.5 && y[0] == -1 && y[1] == 11, "layernorm %g %g", y[0], y[1]);
    CHECK_STATUS(mst_rmsnorm_forward_ref(NULL, &args), MST_EINVAL); /* it has no bias */
    args.sum = NULL;
    CHECK_STATUS(mst_layernorm_forward_ref(NULL, &args), MST_EINVAL);
}

/* ---------------------------------------------------------------- rope */

enum { HEADS = 2, HEAD = 6, SEQ = 3, ROPE = SEQ * HEADS * HEAD };

typedef struct rope_context {
    double x[ROPE], dy[ROPE];
    float cosine[(SEQ + 1) * HEAD / 2], sine[(SEQ + 1) * HEAD / 2];
} rope_context;

static void rope(const rope_context *c, double *x, bool inverse) {
    mst_rope_args args = {.rows = SEQ, .heads = HEADS, .head_dim = HEAD, .seq_len = SEQ, .first = 1, .dtype = MST_F64,
                          .cosine = c->cosine, .sine = c->sine, .inverse = inverse, .x = x, .ld = HEADS * HEAD};
    CHECK_OK(mst_rope_ref(NULL, &args));
}

static double rope_loss(const void *context) {
    rope_context copy = *(const rope_context *)context;
    rope(&copy, copy.x, false);
    return weighted_sum(copy.dy, copy.x, ROPE);
}

static void test_rope(void) {
    rope_context c;
    double dx[ROPE];
    for (int i = 0; i < (SEQ + 1) * HEAD / 2; i++) {
        c.cosine[i] = (float)cos(0.3 * i);
        c.sine[i] = (float)sin(0.3 * i);
    }
    fill(c.x, ROPE);
    fill(c.dy, ROPE);
    memcpy(dx, c.dy, sizeof dx);
    rope(&c, dx, true); /* a rotation's transpose is its inverse */
    check_gradient("rope dx", rope_loss, &c, c.x, dx, ROPE);
    const float cosine[] = {1, 0}, sine[] = {0, 1};
    double x[] = {1, 2, 3, 4};
    mst_rope_args args = {.rows = 1, .heads = 1, .head_dim = 4, .seq_len = 1, .dtype = MST_F64, .cosine = cosine, .sine = sine,
                          .x = x, .ld = 4};
    CHECK_OK(mst_rope_ref(NULL, &args)); /* pairs (1, 3) by 0 and (2, 4) by a quarter turn */
    CHECK(x[0] == 1 && x[1] == -4 && x[2] == 3 && x[3] == 2, "rope: %g %g %g %g", x[0], x[1], x[2], x[3]);
    args.head_dim = 3;
    CHECK_STATUS(mst_rope_ref(NULL, &args), MST_EINVAL);
}

/* ---------------------------------------------------------------- swiglu and gelu */

enum { POINTS = 24 };

typedef struct pointwise_context {
    double gate[POINTS], up[POINTS], dy[POINTS];
} pointwise_context;

static double swiglu_loss(const void *context) {
    const pointwise_context *c = context;
    double y[POINTS];
    mst_swiglu_args args = {.rows = 4, .cols = 6, .dtype = MST_F64, .gate = c->gate, .up = c->up, .y = y};
    CHECK_OK(mst_swiglu_forward_ref(NULL, &args));
    return weighted_sum(c->dy, y, POINTS);
}

static double gelu_loss(const void *context) {
    const pointwise_context *c = context;
    double y[POINTS];
    mst_gelu_args args = {.count = POINTS, .dtype = MST_F64, .x = c->gate, .y = y};
    CHECK_OK(mst_gelu_forward_ref(NULL, &args));
    return weighted_sum(c->dy, y, POINTS);
}

static void test_pointwise(void) {
    pointwise_context c;
    double dgate[POINTS], dup[POINTS], dx[POINTS];
    fill(c.gate, POINTS);
    fill(c.up, POINTS);
    fill(c.dy, POINTS);
    mst_swiglu_args swiglu = {.rows = 4, .cols = 6, .dtype = MST_F64, .gate = c.gate, .up = c.up, .dy = c.dy, .dgate = dgate,
                              .dup = dup};
    CHECK_OK(mst_swiglu_backward_ref(NULL, &swiglu));
    check_gradient("swiglu dgate", swiglu_loss, &c, c.gate, dgate, POINTS);
    check_gradient("swiglu dup", swiglu_loss, &c, c.up, dup, POINTS);
    mst_gelu_args gelu = {.count = POINTS, .dtype = MST_F64, .x = c.gate, .dy = c.dy, .dx = dx};
    CHECK_OK(mst_gelu_backward_ref(NULL, &gelu));
    check_gradient("gelu dx", gelu_loss, &c, c.gate, dx, POINTS);
    /* silu(1) = 1 / (1 + 1/e); gelu(1) = (1 + tanh(0.79788456 * 1.044715)) / 2. */
    const double one[] = {1.0, 0.0}, two[] = {2.0, 5.0};
    double y[2];
    mst_swiglu_args silu = {.rows = 1, .cols = 2, .dtype = MST_F64, .gate = one, .up = two, .y = y};
    CHECK_OK(mst_swiglu_forward_ref(NULL, &silu));
    CHECK(fabs(y[0] - 2.0 / (1.0 + exp(-1.0))) < 1e-15 && y[1] == 0.0, "swiglu: %.17g %g", y[0], y[1]);
    mst_gelu_args at_one = {.count = 2, .dtype = MST_F64, .x = one, .y = y};
    CHECK_OK(mst_gelu_forward_ref(NULL, &at_one));
    CHECK(fabs(y[0] - 0.8411919906082768) < 1e-15 && y[1] == 0.0, "gelu(1) = %.17g", y[0]);
}

/* ---------------------------------------------------------------- embedding */

enum { VOCAB = 4, EMB_ROWS = 6, EMB_SEQ = 3, EMB_COLS = 2 };
static const int32_t embedding_tokens[EMB_ROWS] = {1, 3, 1, 0, 1, 3};

typedef struct embedding_context {
    double table[VOCAB * EMB_COLS], positions[EMB_SEQ * EMB_COLS], dy[EMB_ROWS * EMB_COLS];
} embedding_context;

static double embedding_loss(const void *context) {
    const embedding_context *c = context;
    double y[EMB_ROWS * EMB_COLS];
    mst_embedding_args args = {.rows = EMB_ROWS, .cols = EMB_COLS, .vocab = VOCAB, .seq_len = EMB_SEQ, .dtype = MST_F64,
                               .tokens = embedding_tokens, .table = c->table, .positions = c->positions, .y = y};
    CHECK_OK(mst_embedding_forward_ref(NULL, &args));
    return weighted_sum(c->dy, y, EMB_ROWS * EMB_COLS);
}

static void test_embedding(void) {
    embedding_context c;
    double dtable[VOCAB * EMB_COLS] = {0}, dpositions[EMB_SEQ * EMB_COLS] = {0};
    fill(c.table, VOCAB * EMB_COLS);
    fill(c.positions, EMB_SEQ * EMB_COLS);
    fill(c.dy, EMB_ROWS * EMB_COLS);
    mst_embedding_args args = {.rows = EMB_ROWS, .cols = EMB_COLS, .vocab = VOCAB, .seq_len = EMB_SEQ, .dtype = MST_F64,
                               .tokens = embedding_tokens, .dy = c.dy, .dtable = dtable, .dpositions = dpositions};
    CHECK_OK(mst_embedding_backward_ref(NULL, &args));
    check_gradient("embedding dtable", embedding_loss, &c, c.table, dtable, VOCAB * EMB_COLS);
    check_gradient("embedding dpositions", embedding_loss, &c, c.positions, dpositions, EMB_SEQ * EMB_COLS);
    args.vocab = 3;
    CHECK_STATUS(mst_embedding_backward_ref(NULL, &args), MST_EINVAL); /* token 3 */
    /* Rows are added one by one in fp32: (2^24 + 1) + 1 stays 2^24, while 2^24 + (1 + 1) would not. */
    const int32_t zeros[] = {0, 0};
    const float ones[] = {1, 1};
    float total[] = {0x1p24f};
    mst_embedding_args ordered = {.rows = 2, .cols = 1, .vocab = 1, .seq_len = 2, .dtype = MST_F32, .tokens = zeros,
                                  .dy = ones, .dtable = total};
    CHECK_OK(mst_embedding_backward_ref(NULL, &ordered));
    CHECK(total[0] == 0x1p24f, "rows were not added one by one: %.9g", total[0]);
}

/* ---------------------------------------------------------------- attention */

enum { SEQS = 2, T = 5, Q_HEADS = 4, KV_HEADS = 2, D = 3, Q = SEQS * T * Q_HEADS * D, KV = SEQS * T * KV_HEADS * D };

typedef struct attention_context {
    double q[Q], k[KV], v[KV], dout[Q], out[Q], lse[SEQS * Q_HEADS * T];
} attention_context;

static mst_attention_args attention_args(attention_context *c) {
    return (mst_attention_args){.sequences = SEQS, .seq_len = T, .heads = Q_HEADS, .kv_heads = KV_HEADS, .head_dim = D,
                                .dtype = MST_F64, .scale = 0.7, .q = c->q, .k = c->k, .v = c->v, .ldq = Q_HEADS * D,
                                .ldk = KV_HEADS * D, .ldv = KV_HEADS * D, .out = c->out, .lse = c->lse, .dout = c->dout};
}

static double attention_loss(const void *context) {
    attention_context copy = *(const attention_context *)context;
    mst_attention_args args = attention_args(&copy);
    CHECK_OK(mst_attention_forward_ref(NULL, &args));
    return weighted_sum(copy.dout, copy.out, Q);
}

static void test_attention_gradient(void) {
    attention_context c;
    double dq[Q], dk[KV], dv[KV], work[SEQS * Q_HEADS * T];
    fill(c.q, Q);
    fill(c.k, KV);
    fill(c.v, KV);
    fill(c.dout, Q);
    mst_attention_args args = attention_args(&c);
    CHECK_OK(mst_attention_forward_ref(NULL, &args));
    args.dq = dq;
    args.dk = dk;
    args.dv = dv;
    args.work = work;
    CHECK_OK(mst_attention_backward_ref(NULL, &args));
    check_gradient("attention dq", attention_loss, &c, c.q, dq, Q);
    check_gradient("attention dk", attention_loss, &c, c.k, dk, KV);
    check_gradient("attention dv", attention_loss, &c, c.v, dv, KV);
    args.kv_heads = 3;
    CHECK_STATUS(mst_attention_forward_ref(NULL, &args), MST_EINVAL);
}

/* Two tokens, one head of 1: the first sees itself alone; the second weighs exp(0) : exp(log 3) = 1 : 3. */
static void test_attention_by_hand(void) {
    const double q[] = {5, 1}, k[] = {0, log(3.0)}, v[] = {8, 4};
    double out[2], lse[2];
    mst_attention_args args = {.sequences = 1, .seq_len = 2, .heads = 1, .kv_heads = 1, .head_dim = 1, .dtype = MST_F64,
                               .scale = 1.0, .q = q, .k = k, .v = v, .ldq = 1, .ldk = 1, .ldv = 1, .out = out, .lse = lse};
    CHECK_OK(mst_attention_forward_ref(NULL, &args));
    CHECK(out[0] == 8 && fabs(out[1] - 5.0) < 1e-14, "attention: %.17g %.17g", out[0], out[1]);
    CHECK(lse[0] == 0 && fabs(lse[1] - log(4.0)) < 1e-15, "lse: %.17g %.17g", lse[0], lse[1]);
}

/* ---------------------------------------------------------------- cross-entropy */

enum { CE_ROWS = 4, CE_VOCAB = 5 };
static const int32_t ce_targets[CE_ROWS] = {2, -1, 0, 4};

typedef struct cross_entropy_context {
    double logits[CE_ROWS * CE_VOCAB];
} cross_entropy_context;

static mst_cross_entropy_args cross_entropy_args(const double *logits, double *loss, double *zloss) {
    return (mst_cross_entropy_args){.rows = CE_ROWS, .vocab = CE_VOCAB, .dtype = MST_F64, .logits = logits,
                                    .targets = ce_targets, .scale = 1.7, .z_coefficient = 0.1, .loss = loss, .zloss = zloss};
}

static double cross_entropy_loss(const void *context) {
    const cross_entropy_context *c = context;
    double loss[CE_ROWS], zloss[CE_ROWS], sum = 0.0;
    mst_cross_entropy_args args = cross_entropy_args(c->logits, loss, zloss);
    CHECK_OK(mst_cross_entropy_ref(NULL, &args));
    for (int r = 0; r < CE_ROWS; r++) sum += args.scale * (loss[r] + args.z_coefficient * zloss[r]);
    return sum;
}

static void test_cross_entropy(void) {
    cross_entropy_context c;
    double loss[CE_ROWS], zloss[CE_ROWS], dlogits[CE_ROWS * CE_VOCAB];
    fill(c.logits, CE_ROWS * CE_VOCAB);
    mst_cross_entropy_args args = cross_entropy_args(c.logits, loss, zloss);
    args.dlogits = dlogits;
    args.ldd = CE_VOCAB;
    CHECK_OK(mst_cross_entropy_ref(NULL, &args));
    check_gradient("cross_entropy dlogits", cross_entropy_loss, &c, c.logits, dlogits, CE_ROWS * CE_VOCAB);
    CHECK(loss[1] == 0 && zloss[1] == 0 && dlogits[CE_VOCAB] == 0, "a row without a target counts: %g", loss[1]);
    for (int i = 0; i < CE_ROWS * CE_VOCAB; i++) c.logits[i] = 1.0; /* all alike: p = 1/5, lse = 1 + log 5 */
    args.z_coefficient = 0.0;
    CHECK_OK(mst_cross_entropy_ref(NULL, &args));
    CHECK(fabs(loss[0] - log(5.0)) < 1e-15 && fabs(zloss[0] - pow(1.0 + log(5.0), 2.0)) < 1e-14, "loss %.17g", loss[0]);
    CHECK(fabs(dlogits[0] - 1.7 * 0.2) < 1e-15 && fabs(dlogits[2] + 1.7 * 0.8) < 1e-15, "dlogits %g", dlogits[2]);
    args.ldd = CE_VOCAB - 1;
    CHECK_STATUS(mst_cross_entropy_ref(NULL, &args), MST_EINVAL);
}

/* ---------------------------------------------------------------- ordered sum */

/* e = 2^-24 is half a unit of 1 and ties to even: (1 + e) + (e + e) = 1 + 2e, while ((1 + e) + e) + e = 1. */
static void test_ordered_sum(void) {
    const float one = 1.0f, e = 0x1p-24f;
    const void *sources[] = {&one, &e, &e, &e};
    const uint8_t flat[] = {0, 0, 0, 0}, right_whole[] = {0, 0, 1};
    float result = 1000.0f;
    double norm2 = 0.0;
    mst_ordered_sum_args args = {.count = 1, .sources = 4, .source = sources, .level = flat, .result = &result,
                                 .block_norm2 = &norm2};
    CHECK_OK(mst_ordered_sum_ref(NULL, &args));
    CHECK(result == 1.0f + 0x1p-23f, "the tree: %.9g", result);
    CHECK(norm2 == (double)result * result, "its norm: %.17g", norm2);
    args.level = right_whole;
    args.sources = 3; /* (1 + e) + e, the second e being a whole subtree: 1 */
    CHECK_OK(mst_ordered_sum_ref(NULL, &args));
    CHECK(result == 1.0f, "levels 0 0 1: %.9g", result);
    args.accumulate = true;
    CHECK_OK(mst_ordered_sum_ref(NULL, &args));
    CHECK(result == 2.0f && norm2 == 4.0, "accumulated: %.9g", result);
    args.level = flat;
    CHECK_STATUS(mst_ordered_sum_ref(NULL, &args), MST_EINVAL); /* 3 lanes are no power of two */
}

/* With a bf16 wire every source and every sum rounds to 8 bits. */
static void test_bf16_wire(void) {
    const float a = 1.0f + 0x1p-9f, b = 0x1p-8f, c = 0x1p-8f, d = 0x1p-9f;
    const void *sources[] = {&a, &b, &c, &d};
    const uint8_t flat[] = {0, 0, 0, 0};
    mst_bf16 result = 0;
    mst_ordered_sum_args args = {.count = 1, .sources = 4, .source = sources, .level = flat, .wire = MST_BF16,
                                 .result = &result, .result_dtype = MST_BF16};
    /* a rounds to 1; 1 + 2^-8 ties to 1; 2^-8 + 2^-9 is exact; 1 + 1.5 * 2^-8 rounds to 1 + 2^-7. */
    CHECK_OK(mst_ordered_sum_ref(NULL, &args));
    CHECK(mst_bf16_to_f32(result) == 1.0078125f, "bf16 wire: %.9g", mst_bf16_to_f32(result));
    args.wire = MST_F32;
    CHECK_STATUS(mst_ordered_sum_ref(NULL, &args), MST_EINVAL);
}

/* ---------------------------------------------------------------- adamw, cast, digest */

/* First step from zero moments: m / correction1 = g, sqrt(v) / correction2_sqrt = |g|, so the step is lr g / (|g| + eps). */
static void test_adamw(void) {
    const float gradient[] = {8.0f, -0.5f};
    float m[2] = {0}, v[2] = {0}, master[] = {1.0f, 1.0f}, weight[2];
    mst_adamw_args args = {.count = 2, .gradient = gradient, .m = m, .v = v, .master = master, .weight = weight,
                           .weight_dtype = MST_F32, .gradient_scale = 0.5, .lr = 0.1, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8,
                           .weight_decay = 0.2, .correction1 = 0.1, .correction2_sqrt = 0.1};
    CHECK_OK(mst_adamw_ref(NULL, &args));
    CHECK(fabs(m[0] - 0.4) < 1e-7 && fabs(v[0] - 0.16) < 1e-7, "moments %g %g", m[0], v[0]);
    CHECK(fabs(master[0] - (0.98 - 0.1)) < 1e-6 && fabs(master[1] - (0.98 + 0.1)) < 1e-6, "master %g %g", master[0], master[1]);
    CHECK(weight[0] == master[0] && weight[1] == master[1], "the copy differs");
}

static void test_cast(void) {
    /* Through fp32 the first would become a tie and go down. */
    const double source[] = {1.0 + 0x1p-8 + 0x1p-40, 1.0 + 0x1p-8, 1.0 + 0x1.8p-7, -0.0, INFINITY, NAN, 1e300, 0x1p-140};
    const double expected[] = {1.0 + 0x1p-7, 1.0, 1.0 + 0x1p-6, -0.0, INFINITY, NAN, INFINITY, 0.0};
    mst_bf16 result[8];
    mst_cast_args args = {.count = 8, .source = source, .source_dtype = MST_F64, .result = result, .result_dtype = MST_BF16};
    CHECK_OK(mst_cast_ref(NULL, &args));
    for (int i = 0; i < 8; i++) {
        double value = mst_bf16_to_f32(result[i]);
        CHECK(isnan(expected[i]) ? isnan(value) : value == expected[i] && !signbit(value) == !signbit(expected[i]),
              "%.17g became %.9g", source[i], value);
    }
}

/* printf ab | sha256sum */
static void test_block_digest(void) {
    const uint16_t data = 0x6261;
    char hex[MST_DIGEST_HEX];
    mst_digest digest;
    mst_block_digest_args args = {.count = 1, .dtype = MST_BF16, .data = &data, .digest = &digest};
    CHECK_OK(mst_block_digest_ref(NULL, &args));
    mst_digest_to_hex(&digest, hex);
    CHECK(strcmp(hex, "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603") == 0, "digest %s", hex);
}

static void test_random_normal(void) {
    float result[3];
    mst_random_normal_args args = {.count = 3, .seed = SEED, .stream = 4, .first = 9, .mean = 2.0, .deviation = 0.5,
                                   .limit = 1.0, .result = result};
    CHECK_OK(mst_random_normal_ref(NULL, &args));
    for (uint64_t i = 0; i < 3; i++) {
        double z = mst_random_normal(SEED, MST_RANDOM_INIT, 4, 9 + i, 1.0);
        CHECK(result[i] == (float)(2.0 + 0.5 * z) && fabs(z) <= 1.0, "value %g", result[i]);
    }
}

int main(void) {
    printf("seed %d\n", SEED);
    test_matmul_gradient();
    test_matmul_by_hand();
    test_norm_gradient(false);
    test_norm_gradient(true);
    test_norm_by_hand();
    test_rope();
    test_pointwise();
    test_embedding();
    test_attention_gradient();
    test_attention_by_hand();
    test_cross_entropy();
    test_ordered_sum();
    test_bf16_wire();
    test_adamw();
    test_cast();
    test_block_digest();
    test_random_normal();
    return test_finish("check_ref");
}
