/* Checks every backward operation of the specification against central differences
 * of its forward one in fp64. */
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
 * Compares `gradient` with (loss(x + h) - loss(x - h)) / 2h for each of the elements of x.
 * With h = 1e-5 the truncation is h^2 / 6 of a third derivative, about 1e-11, and the rounding
 * 2^-53 |loss| / h, about 1e-11 |loss|, with losses of up to some ten: relative L2 error at most 1e-8.
 */
static void check_gradient(const char *what, loss_fn *loss, const void *context, double *x,
                           const double *gradient, size_t count) {
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
    CHECK(sqrt(error2) <= 1e-8 * sqrt(norm2) && norm2 > 0.0, "%s: relative L2 error %g", what,
          sqrt(error2 / norm2));
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
    mst_matmul_args args = {.m = M,
                            .n = N,
                            .k = K,
                            .dtype = MST_F64,
                            .c_dtype = MST_F64,
                            .a = x->a,
                            .lda = K,
                            .b = x->b,
                            .ldb = N,
                            .bias = x->bias,
                            .c = c,
                            .ldc = N};
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
    mst_matmul_args for_a = {.m = M,
                             .n = K,
                             .k = N,
                             .dtype = MST_F64,
                             .c_dtype = MST_F64,
                             .a = x.dc,
                             .lda = N,
                             .b = x.b,
                             .ldb = N,
                             .b_transposed = true,
                             .c = da,
                             .ldc = K};
    mst_matmul_args for_b = {.m = K,
                             .n = N,
                             .k = M,
                             .dtype = MST_F64,
                             .c_dtype = MST_F64,
                             .a = x.a,
                             .lda = K,
                             .a_transposed = true,
                             .b = x.dc,
                             .ldb = N,
                             .c = db,
                             .ldc = N,
                             .accumulate = true};
    mst_bias_grad_args for_bias = {
        .rows = M, .cols = N, .dtype = MST_F64, .dy = x.dc, .ld = N, .dbias = dbias};
    CHECK_OK(mst_matmul_ref(NULL, &for_a));
    CHECK_OK(mst_matmul_ref(NULL, &for_b));
    CHECK_OK(mst_bias_grad_ref(NULL, &for_bias));
    check_gradient("matmul da", matmul_loss, &x, x.a, da, M * K);
    check_gradient("matmul db", matmul_loss, &x, x.b, db, K * N);
    check_gradient("bias_grad", matmul_loss, &x, x.bias, dbias, N);
}

/* ---------------------------------------------------------------- norms */

enum { ROWS = 3, COLS = 7, CELLS = ROWS * COLS };

typedef struct norm_context {
    bool layernorm;
    double x[CELLS], weight[COLS], bias[COLS], dy[CELLS], dresidual[CELLS], y[CELLS], mean[ROWS], rstd[ROWS];
} norm_context;

static void norm_forward(norm_context *x) {
    mst_norm_args args = {.rows = ROWS,
                          .groups = 1,
                          .cols = COLS,
                          .ldx = COLS,
                          .ldy = COLS,
                          .dtype = MST_F64,
                          .eps = 1e-3,
                          .x = x->x,
                          .weight = x->weight,
                          .bias = x->layernorm ? x->bias : NULL,
                          .y = x->y,
                          .mean = x->mean,
                          .rstd = x->rstd};
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
    mst_norm_grad_args args = {.rows = ROWS,
                               .groups = 1,
                               .cols = COLS,
                               .ldx = COLS,
                               .ldd = COLS,
                               .dtype = MST_F64,
                               .x = x.x,
                               .weight = x.weight,
                               .mean = x.mean,
                               .rstd = x.rstd,
                               .dy = x.dy,
                               .dresidual = x.dresidual,
                               .dx = dx,
                               .dweight = dweight,
                               .dbias = layernorm ? dbias : NULL};
    CHECK_OK(layernorm ? mst_layernorm_backward_ref(NULL, &args) : mst_rmsnorm_backward_ref(NULL, &args));
    check_gradient(layernorm ? "layernorm dx" : "rmsnorm dx", norm_loss, &x, x.x, dx, CELLS);
    check_gradient(layernorm ? "layernorm dweight" : "rmsnorm dweight", norm_loss, &x, x.weight, dweight,
                   COLS);
    if (layernorm) check_gradient("layernorm dbias", norm_loss, &x, x.bias, dbias, COLS);
}

/* ---------------------------------------------------------------- rope */

enum { HEADS = 2, HEAD = 6, SEQ = 3, ROPE = SEQ * HEADS * HEAD };

typedef struct rope_context {
    double x[ROPE], dy[ROPE];
    float cosine[(SEQ + 1) * HEAD / 2], sine[(SEQ + 1) * HEAD / 2];
    const int32_t *starts;
} rope_context;

static void rope(const rope_context *c, double *x, bool inverse) {
    mst_rope_args args = {.rows = SEQ,
                          .heads = HEADS,
                          .head_dim = HEAD,
                          .seq_len = SEQ,
                          .first = 1,
                          .starts = c->starts,
                          .dtype = MST_F64,
                          .cosine = c->cosine,
                          .sine = c->sine,
                          .inverse = inverse,
                          .x = x,
                          .ld = HEADS * HEAD};
    CHECK_OK(mst_rope_ref(NULL, &args));
}

static double rope_loss(const void *context) {
    rope_context copy = *(const rope_context *)context;
    rope(&copy, copy.x, false);
    return weighted_sum(copy.dy, copy.x, ROPE);
}

static void test_rope_gradient(const int32_t *starts) {
    rope_context c = {.starts = starts};
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

static void test_pointwise_gradient(void) {
    pointwise_context c;
    double dgate[POINTS], dup[POINTS], dx[POINTS];
    fill(c.gate, POINTS);
    fill(c.up, POINTS);
    fill(c.dy, POINTS);
    mst_swiglu_args swiglu = {.rows = 4,
                              .cols = 6,
                              .dtype = MST_F64,
                              .gate = c.gate,
                              .up = c.up,
                              .dy = c.dy,
                              .dgate = dgate,
                              .dup = dup};
    CHECK_OK(mst_swiglu_backward_ref(NULL, &swiglu));
    check_gradient("swiglu dgate", swiglu_loss, &c, c.gate, dgate, POINTS);
    check_gradient("swiglu dup", swiglu_loss, &c, c.up, dup, POINTS);
    mst_gelu_args gelu = {.count = POINTS, .dtype = MST_F64, .x = c.gate, .dy = c.dy, .dx = dx};
    CHECK_OK(mst_gelu_backward_ref(NULL, &gelu));
    check_gradient("gelu dx", gelu_loss, &c, c.gate, dx, POINTS);
}

/* ---------------------------------------------------------------- embedding */

enum { VOCAB = 4, EMB_ROWS = 6, EMB_SEQ = 3, EMB_COLS = 2 };
static const int32_t embedding_tokens[EMB_ROWS] = {1, 3, 1, 0, 1, 3};

typedef struct embedding_context {
    double table[VOCAB * EMB_COLS], positions[EMB_SEQ * EMB_COLS], dy[EMB_ROWS * EMB_COLS];
    const int32_t *starts;
} embedding_context;

static double embedding_loss(const void *context) {
    const embedding_context *c = context;
    double y[EMB_ROWS * EMB_COLS];
    mst_embedding_args args = {.rows = EMB_ROWS,
                               .cols = EMB_COLS,
                               .vocab = VOCAB,
                               .seq_len = EMB_SEQ,
                               .dtype = MST_F64,
                               .tokens = embedding_tokens,
                               .starts = c->starts,
                               .table = c->table,
                               .positions = c->positions,
                               .y = y};
    CHECK_OK(mst_embedding_forward_ref(NULL, &args));
    return weighted_sum(c->dy, y, EMB_ROWS * EMB_COLS);
}

static void test_embedding_gradient(const int32_t *starts) {
    embedding_context c = {.starts = starts};
    double dtable[VOCAB * EMB_COLS] = {0}, dpositions[EMB_SEQ * EMB_COLS] = {0};
    fill(c.table, VOCAB * EMB_COLS);
    fill(c.positions, EMB_SEQ * EMB_COLS);
    fill(c.dy, EMB_ROWS * EMB_COLS);
    mst_embedding_args args = {.rows = EMB_ROWS,
                               .cols = EMB_COLS,
                               .vocab = VOCAB,
                               .seq_len = EMB_SEQ,
                               .dtype = MST_F64,
                               .tokens = embedding_tokens,
                               .starts = c.starts,
                               .dy = c.dy,
                               .dtable = dtable,
                               .dpositions = dpositions};
    CHECK_OK(mst_embedding_backward_ref(NULL, &args));
    check_gradient("embedding dtable", embedding_loss, &c, c.table, dtable, VOCAB * EMB_COLS);
    check_gradient("embedding dpositions", embedding_loss, &c, c.positions, dpositions, EMB_SEQ * EMB_COLS);
}

/* ---------------------------------------------------------------- attention */

enum {
    SEQS = 2,
    T = 5,
    Q_HEADS = 4,
    KV_HEADS = 2,
    D = 3,
    Q = SEQS * T * Q_HEADS * D,
    KV = SEQS * T * KV_HEADS * D
};

typedef struct attention_context {
    double q[Q], k[KV], v[KV], dout[Q], out[Q], lse[SEQS * Q_HEADS * T];
    const int32_t *starts;
} attention_context;

static mst_attention_args attention_args(attention_context *c) {
    return (mst_attention_args){.sequences = SEQS,
                                .seq_len = T,
                                .heads = Q_HEADS,
                                .kv_heads = KV_HEADS,
                                .head_dim = D,
                                .starts = c->starts,
                                .dtype = MST_F64,
                                .scale = 0.7,
                                .q = c->q,
                                .k = c->k,
                                .v = c->v,
                                .ldq = Q_HEADS * D,
                                .ldk = KV_HEADS * D,
                                .ldv = KV_HEADS * D,
                                .out = c->out,
                                .lse = c->lse,
                                .dout = c->dout};
}

static double attention_loss(const void *context) {
    attention_context copy = *(const attention_context *)context;
    mst_attention_args args = attention_args(&copy);
    CHECK_OK(mst_attention_forward_ref(NULL, &args));
    return weighted_sum(copy.dout, copy.out, Q);
}

static void test_attention_gradient(const int32_t *starts) {
    attention_context c = {.starts = starts};
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
}

/* ---------------------------------------------------------------- cross-entropy */

enum { CE_ROWS = 4, CE_VOCAB = 5 };
static const int32_t ce_targets[CE_ROWS] = {2, -1, 0, 4};

typedef struct cross_entropy_context {
    double logits[CE_ROWS * CE_VOCAB];
} cross_entropy_context;

static mst_cross_entropy_args cross_entropy_args(const double *logits, double *loss, double *zloss) {
    return (mst_cross_entropy_args){.rows = CE_ROWS,
                                    .vocab = CE_VOCAB,
                                    .dtype = MST_F64,
                                    .logits = logits,
                                    .targets = ce_targets,
                                    .scale = 1.7,
                                    .z_coefficient = 0.1,
                                    .loss = loss,
                                    .zloss = zloss};
}

static double cross_entropy_loss(const void *context) {
    const cross_entropy_context *c = context;
    double loss[CE_ROWS], zloss[CE_ROWS], sum = 0.0;
    mst_cross_entropy_args args = cross_entropy_args(c->logits, loss, zloss);
    CHECK_OK(mst_cross_entropy_ref(NULL, &args));
    for (int r = 0; r < CE_ROWS; r++) sum += args.scale * (loss[r] + args.z_coefficient * zloss[r]);
    return sum;
}

static void test_cross_entropy_gradient(void) {
    cross_entropy_context c;
    double loss[CE_ROWS], zloss[CE_ROWS], dlogits[CE_ROWS * CE_VOCAB];
    fill(c.logits, CE_ROWS * CE_VOCAB);
    mst_cross_entropy_args args = cross_entropy_args(c.logits, loss, zloss);
    args.dlogits = dlogits;
    args.ldd = CE_VOCAB;
    CHECK_OK(mst_cross_entropy_ref(NULL, &args));
    check_gradient("cross_entropy dlogits", cross_entropy_loss, &c, c.logits, dlogits, CE_ROWS * CE_VOCAB);
    CHECK(loss[1] == 0 && zloss[1] == 0 && dlogits[CE_VOCAB] == 0, "a row without a target counts: %g",
          loss[1]);
}

int main(void) {
    printf("seed %d\n", SEED);
    test_matmul_gradient();
    test_norm_gradient(false);
    test_norm_gradient(true);
    test_rope_gradient(NULL);
    test_rope_gradient((const int32_t[SEQ]){0, 1, 1});
    test_pointwise_gradient();
    test_embedding_gradient(NULL);
    test_embedding_gradient((const int32_t[EMB_ROWS]){0, 0, 2, 0, 1, 1});
    test_attention_gradient(NULL);
    test_attention_gradient((const int32_t[SEQS *T]){0, 0, 2, 2, 2, 0, 1, 2, 2, 2});
    test_cross_entropy_gradient();
    return test_finish("check_gradients");
}
