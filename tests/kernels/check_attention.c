/* Checks of attention. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

typedef struct attention_case {
    mst_attention_args args;
    check_tensor *q, *k, *v, *out, *lse, *dout, *dq, *dk, *dv, *work;
} attention_case;

static mst_attention_args args_of(const attention_case *c, check_view view) {
    mst_attention_args args = c->args;
    args.dtype = dtype_in(args.dtype, view);
    args.q = tensor_at(c->q, view);
    args.k = tensor_at(c->k, view);
    args.v = tensor_at(c->v, view);
    args.out = tensor_at(c->out, view);
    args.lse = tensor_at(c->lse, view);
    args.dout = tensor_at(c->dout, view);
    args.dq = tensor_at(c->dq, view);
    args.dk = tensor_at(c->dk, view);
    args.dv = tensor_at(c->dv, view);
    args.work = tensor_at(c->work, view);
    return args;
}

static mst_status call_forward(const void *context, const mst_kernels *table, mst_queue *queue,
                               check_view view) {
    mst_attention_args args = args_of(context, view);
    return table->attention_forward(queue, &args);
}

static mst_status call_backward(const void *context, const mst_kernels *table, mst_queue *queue,
                                check_view view) {
    mst_attention_args args = args_of(context, view);
    return table->attention_backward(queue, &args);
}

typedef struct attention_shape {
    size_t sequences, seq_len, heads, kv_heads, head_dim, padding, past;
    const size_t *documents; /* as trial_starts takes them */
} attention_shape;

static attention_case set_up(check_trial *trial, attention_shape s, mst_dtype dtype, bool backward,
                             double q_scale) {
    size_t rows = s.sequences * s.seq_len, kv_rows = s.sequences * (s.past + s.seq_len);
    size_t q_cols = s.heads * s.head_dim, kv_cols = s.kv_heads * s.head_dim;
    size_t ldq = q_cols + s.padding, ldk = kv_cols + 2 * s.padding, ldv = kv_cols + s.padding;
    mst_dtype acc = mst_dtype_acc(dtype);
    check_role made = backward ? ROLE_IN : ROLE_OUT;
    attention_case c = {.args = {.sequences = s.sequences,
                                 .seq_len = s.seq_len,
                                 .heads = s.heads,
                                 .kv_heads = s.kv_heads,
                                 .head_dim = s.head_dim,
                                 .past = s.past,
                                 .starts = trial_starts(trial, rows, s.seq_len, s.documents),
                                 .dtype = dtype,
                                 .scale = 1.0 / sqrt((double)s.head_dim),
                                 .ldq = ldq,
                                 .ldk = ldk,
                                 .ldv = ldv}};
    c.q = trial_tensor(trial, "q", ROLE_IN, dtype, rows, q_cols, ldq);
    c.k = trial_tensor(trial, "k", ROLE_IN, dtype, kv_rows, kv_cols, ldk);
    c.v = trial_tensor(trial, "v", ROLE_IN, dtype, kv_rows, kv_cols, ldv);
    tensor_fill(c.q, PLAIN, q_scale);
    tensor_fill(c.k, PLAIN, 1.0);
    tensor_fill(c.v, PLAIN, 1.0);
    c.out = trial_tensor(trial, "out", made, dtype, rows, q_cols, q_cols);
    c.lse = trial_tensor(trial, "lse", made, acc, s.sequences * s.heads, s.seq_len, s.seq_len);
    if (!backward) return c;
    c.dout = trial_tensor(trial, "dout", ROLE_IN, dtype, rows, q_cols, q_cols);
    tensor_fill(c.dout, PLAIN, 1.0);
    c.dq = trial_tensor(trial, "dq", ROLE_OUT, dtype, rows, q_cols, ldq);
    c.dk = trial_tensor(trial, "dk", ROLE_OUT, dtype, rows, kv_cols, ldk);
    c.dv = trial_tensor(trial, "dv", ROLE_OUT, dtype, rows, kv_cols, ldv);
    c.work = trial_tensor(trial, "work", ROLE_SCRATCH, acc, s.sequences * s.heads, s.seq_len, s.seq_len);
    return c;
}

/* ---------------------------------------------------------------- scores, as both bounds need them */

/* The first token that token t sees. */
static size_t first_seen(const attention_case *c, size_t sequence, size_t t) {
    const mst_attention_args *args = &c->args;
    return args->starts ? (size_t)args->starts[sequence * args->seq_len + t] : 0;
}

/* Query token t of one head with key token j: its score, and how far off it may be. */
typedef struct score {
    double value, error;
} score;

/* scale q . k: sum_error(head_dim) of the absolute products, and the rounding of products and scale. */
static score score_of(const attention_case *c, size_t sequence, size_t head, size_t t, size_t j) {
    const mst_attention_args *args = &c->args;
    size_t kv_head = head / (args->heads / args->kv_heads);
    size_t first = sequence * args->seq_len, first_key = sequence * (args->past + args->seq_len);
    double sum = 0.0, sum_abs = 0.0;
    for (size_t d = 0; d < args->head_dim; d++) {
        double product = tensor_initial(c->q, first + t, head * args->head_dim + d) *
                         tensor_initial(c->k, first_key + j, kv_head * args->head_dim + d);
        sum += product;
        sum_abs += fabs(product);
    }
    return (score){args->scale * sum, args->scale * sum_abs * (sum_error(args->head_dim) + 2.0 * U32)};
}

/* ---------------------------------------------------------------- forward */

/*
 * With eps the relative error of one p = exp(score - max): that of the score, the rounding of the difference
 * (2 U32 of the largest |score|), the exp, and one more exp and product for every tile of at least 16 keys
 * (the running maximum): out is off by sum p |v| (2 eps + 2 sum_error(t + 1) + 3 U32), as p is in the
 * numerator and in the denominator; by TINY |v| where p may be 0; and, where p is rounded to dtype, the
 * operand type of the product with v, by a relative roundoff of each p, independently, in both places; lse is
 * off by eps, sum_error(t + 1) and 3 U32 (1 + |lse| + largest |score|).
 */
static void bounds_of_token(const attention_case *c, size_t sequence, size_t head, size_t t) {
    const mst_attention_args *args = &c->args;
    size_t hd = args->head_dim, kv_head = head / (args->heads / args->kv_heads),
           first = sequence * args->seq_len, first_key = sequence * (args->past + args->seq_len);
    size_t from = first_seen(c, sequence, t), end = args->past + t + 1, seen = end - from,
           tiles = seen / 16 + 1;
    size_t lse_row = sequence * args->heads + head;
    double lse = *tensor_exact(c->lse, lse_row, t), largest = 0.0, error = 0.0,
           operand = roundoff(args->dtype);
    for (size_t j = from; j < end; j++) {
        score s = score_of(c, sequence, head, t, j);
        largest = fmax(largest, fabs(s.value));
        error = fmax(error, s.error);
    }
    double eps = error + 2.0 * U32 * largest + EXP_ERROR + (EXP_ERROR + 3.0 * U32) * (double)tiles;
    *tensor_bound(c->lse, lse_row, t) = eps + sum_error(seen) + 3.0 * U32 * (1.0 + fabs(lse) + largest);
    for (size_t j = from; j < end; j++) {
        double p = exp(score_of(c, sequence, head, t, j).value - lse);
        for (size_t d = 0; d < hd; d++) {
            double v = fabs(tensor_initial(c->v, first_key + j, kv_head * hd + d));
            double out = *tensor_exact(c->out, first + t, head * hd + d);
            *tensor_bound(c->out, first + t, head * hd + d) +=
                p * v * (2.0 * eps + 2.0 * sum_error(seen) + 3.0 * U32) + TINY * v;
            *tensor_squares(c->out, first + t, head * hd + d) += pow(operand * p, 2.0) * (v * v + out * out);
        }
    }
}

static void run_forward(check_trial *trial, const attention_case *c) {
    if (trial_run(trial, call_forward, c, REFERENCE_F64)) {
        for (size_t sequence = 0; sequence < c->args.sequences; sequence++)
            for (size_t head = 0; head < c->args.heads; head++)
                for (size_t t = 0; t < c->args.seq_len; t++) bounds_of_token(c, sequence, head, t);
        trial_compare(trial);
    }
    trial_end(trial);
}

/* Lengths of documents: whole sequences; of one token; that end at tiles' edges, one before, one behind; odd ones. */
static const size_t whole_ones[] = {1000, 0}, single[] = {1, 0}, at_edges[] = {32, 64, 128, 1, 31, 0},
                    past_edges[] = {33, 127, 65, 2, 30, 0}, odd[] = {3, 1, 70, 8, 5, 0}, last[] = {149, 1, 0};

static const attention_shape shapes[] = {
    {0, 5, 2, 1, 8, 0, 0, NULL},        {2, 0, 2, 1, 8, 0, 0, NULL},
    {1, 1, 1, 1, 1, 0, 0, NULL},        {2, 5, 3, 3, 7, 3, 0, NULL},
    {2, 17, 4, 2, 16, 0, 0, NULL},      {1, 70, 9, 3, 12, 1, 0, NULL},
    {3, 33, 2, 1, 64, 0, 0, NULL},      {1, 1, 6, 2, 20, 2, 0, NULL},
    {1, 150, 1, 1, 80, 5, 0, NULL},     {1, 257, 2, 1, 32, 0, 0, NULL},
    {0, 5, 2, 1, 8, 0, 0, whole_ones},  {2, 33, 4, 2, 12, 1, 0, whole_ones},
    {2, 19, 2, 1, 16, 0, 0, single},    {1, 1, 2, 2, 8, 0, 0, single},
    {1, 257, 2, 1, 32, 0, 0, at_edges}, {1, 300, 3, 1, 24, 3, 0, past_edges},
    {2, 150, 4, 2, 20, 2, 0, odd},      {3, 90, 9, 3, 64, 0, 0, odd},
    {1, 150, 2, 2, 80, 0, 0, last},
};

/* A token must not see the tokens after it: other (huge, but finite) values there
 * must not change one bit before. */
static void check_causal(check_state *checker, mst_dtype dtype) {
    enum { T = 41, SEEN = 22, HEAD = 16 };
    check_trial trial;
    trial_begin(&trial, checker, "%s, huge values after token %d", mst_dtype_name(dtype), SEEN);
    attention_case c = set_up(&trial, (attention_shape){1, T, 1, 1, HEAD, 0, 0, NULL}, dtype, false, 1.0);
    if (trial_run(&trial, call_forward, &c, REFERENCE_F64)) {
        size_t bytes = (size_t)SEEN * HEAD * mst_dtype_size(dtype), at = c.out->offset;
        void *before = trial_floats(&trial, (size_t)SEEN * HEAD);
        memcpy(before, c.out->result + at, bytes);
        for (size_t t = SEEN; t < T; t++) {
            for (size_t d = 0; d < HEAD; d++) {
                tensor_set(c.k, t, d, 50.0);
                tensor_set(c.v, t, d, 0x1p100);
            }
        }
        if (trial_run(&trial, call_forward, &c, REFERENCE_F64)) {
            if (memcmp(before, c.out->result + at, bytes) != 0) trial_fail(&trial, "a token saw a later one");
            checker->values += (size_t)SEEN * HEAD;
        }
    }
    trial_end(&trial);
}

/* A NaN in v of token 5 reaches the tokens from 5 on, of its head, and nothing else. */
static void check_nonfinite(check_state *checker, mst_dtype dtype) {
    check_trial trial;
    trial_begin(&trial, checker, "%s with NaN in v", mst_dtype_name(dtype));
    attention_case c = set_up(&trial, (attention_shape){2, 19, 2, 2, 8, 0, 0, NULL}, dtype, false, 1.0);
    tensor_set(c.v, 5, 3, NAN);
    tensor_set(c.q, 19 + 7, 9, NAN);
    run_forward(&trial, &c);
}

/* Going on from kept keys: the bits of the same rows in a pass over all tokens, and the specification's values. */
static void check_past(check_state *checker, attention_shape all, size_t past, mst_dtype dtype) {
    check_trial trial;
    trial_begin(&trial, checker, "%s %zu tokens after %zu, %zu/%zu heads of %zu", mst_dtype_name(dtype),
                all.seq_len - past, past, all.heads, all.kv_heads, all.head_dim);
    attention_case c = set_up(&trial, all, dtype, false, 1.0);
    if (trial_run(&trial, call_forward, &c, REFERENCE_F64)) {
        mst_attention_args args = args_of(&c, VIEW_BODY);
        size_t size = mst_dtype_size(dtype), row = all.heads * all.head_dim * size, rows = all.seq_len - past;
        void *out = trial_floats(&trial, rows * row / sizeof(float) + 1);
        float *lse = trial_floats(&trial, all.heads * rows),
              *whole = (float *)(c.lse->result + c.lse->offset);
        args.past = past;
        args.seq_len = rows;
        args.q = (const char *)args.q + past * args.ldq * size;
        args.out = out;
        args.lse = lse;
        for (size_t i = 0; i < QUEUES; i++) {
            if (checker->table.attention_forward(checker->queue[i], &args) != MST_OK ||
                mst_queue_sync(checker->queue[i]) != MST_OK)
                trial_fail(&trial, "%s", mst_error_message());
            if (memcmp(out, c.out->result + c.out->offset + past * row, rows * row) != 0)
                trial_fail(&trial, "out is not that of a pass over all tokens");
            for (size_t head = 0; head < all.heads; head++)
                if (memcmp(lse + head * rows, whole + head * all.seq_len + past, rows * sizeof *lse) != 0)
                    trial_fail(&trial, "lse of head %zu is not that of a pass over all tokens", head);
        }
        checker->values += rows * all.heads * all.head_dim;
    }
    trial_end(&trial);
}

/* A document's rows have the bits of the document alone on the CPU, and its neighbours do not matter anywhere: not even where
 * they are NaN. */
static void check_alone(check_state *checker, mst_dtype dtype) {
    enum { T = 190, FROM = 45, LENGTH = 101, HEADS = 4, KV_HEADS = 2, HEAD = 24 };
    static const size_t documents[] = {FROM, LENGTH, T - FROM - LENGTH, 0};
    check_trial trial;
    trial_begin(&trial, checker, "%s, a document between others, and alone", mst_dtype_name(dtype));
    attention_case c =
        set_up(&trial, (attention_shape){1, T, HEADS, KV_HEADS, HEAD, 0, 0, documents}, dtype, false, 1.0);
    size_t size = mst_dtype_size(dtype), row = (size_t)HEADS * HEAD * size;
    if (trial_run(&trial, call_forward, &c, REFERENCE_F64)) {
        void *before = trial_floats(&trial, LENGTH * row / sizeof(float)),
             *out = trial_floats(&trial, LENGTH * row / sizeof(float)),
             *lse = trial_floats(&trial, (size_t)HEADS * LENGTH);
        size_t at = c.out->offset + FROM * row;
        memcpy(before, c.out->result + at, LENGTH * row);
        mst_attention_args args = args_of(&c, VIEW_BODY);
        args.starts = NULL;
        args.seq_len = LENGTH;
        args.q = (const char *)args.q + FROM * args.ldq * size;
        args.k = (const char *)args.k + FROM * args.ldk * size;
        args.v = (const char *)args.v + FROM * args.ldv * size;
        args.out = out;
        args.lse = lse;
        if (checker->table.attention_forward(checker->queue[0], &args) != MST_OK ||
            mst_queue_sync(checker->queue[0]) != MST_OK)
            trial_fail(&trial, "%s", mst_error_message());
        if (!is_on_gpu(checker) && memcmp(out, before, LENGTH * row) != 0)
            trial_fail(&trial, "alone it has other bits");
        for (size_t t = 0; t < T; t++) {
            if (t >= FROM && t < FROM + LENGTH) continue;
            for (size_t d = 0; d < HEAD; d++) {
                tensor_set(c.k, t, d, NAN);
                tensor_set(c.v, t, HEAD + d, t % 2 ? INFINITY : NAN);
                tensor_set(c.q, t, d, INFINITY);
            }
        }
        if (trial_run(&trial, call_forward, &c, REFERENCE_F64) &&
            memcmp(before, c.out->result + at, LENGTH * row) != 0)
            trial_fail(&trial, "its neighbours matter");
        checker->values += 2 * (size_t)LENGTH * HEADS * HEAD;
    }
    trial_end(&trial);
}

static void check_pasts(check_state *checker, mst_dtype dtype) {
    static const attention_shape continued[] = {
        {1, 1, 2, 1, 8, 0, 1, NULL},    {2, 1, 6, 2, 20, 3, 63, NULL},  {1, 1, 3, 3, 64, 0, 130, NULL},
        {3, 1, 4, 1, 7, 1, 64, NULL},   {1, 5, 2, 2, 12, 2, 3, NULL},   {2, 40, 4, 2, 16, 0, 33, NULL},
        {1, 150, 2, 1, 32, 0, 7, NULL}, {1, 3, 1, 1, 80, 5, 190, NULL}, {2, 129, 2, 1, 8, 0, 128, NULL}};
    for (size_t i = 0; i < sizeof continued / sizeof *continued; i++) {
        attention_shape s = continued[i];
        check_trial trial;
        trial_begin(&trial, checker, "%s %zu x %zu tokens after %zu, %zu/%zu heads of %zu, padding %zu",
                    mst_dtype_name(dtype), s.sequences, s.seq_len, s.past, s.heads, s.kv_heads, s.head_dim,
                    s.padding);
        attention_case c = set_up(&trial, s, dtype, false, i % 3 == 2 ? 30.0 : 1.0);
        run_forward(&trial, &c);
    }
    static const size_t pasts[] = {0, 1, 31, 32, 63, 64, 65, 127, 128, 129, 200, 255, 256};
    for (size_t i = 0; i < sizeof pasts / sizeof *pasts; i++) {
        check_past(checker, (attention_shape){1, 257, 4, 2, 24, 3, 0, NULL}, pasts[i], dtype);
        check_past(checker, (attention_shape){1, pasts[i] + 1, 3, 3, 9, 0, 0, NULL}, pasts[i], dtype);
    }
}

/*
 * An algorithm of a library, where the body may take memory for one: tensors on 16 bytes, bf16. Where there is a library it has to
 * have served some of these shapes, or nothing was checked.
 */
static const attention_shape library_shapes[] = {
    {1, 64, 2, 2, 64, 0, 0, NULL},  {2, 100, 4, 2, 64, 8, 0, NULL}, {1, 129, 6, 2, 128, 0, 0, NULL},
    {3, 40, 3, 3, 32, 16, 0, NULL}, {1, 17, 2, 1, 64, 0, 0, NULL},  {1, 256, 1, 1, 80, 0, 0, NULL},
};

static bool is_served(check_state *checker, bool backward) {
    char *choices = NULL, pass[16];
    bool served = false;
    snprintf(pass, sizeof pass, " backward=%d ", backward);
    if (mst_queue_choices(checker->queue[0], &choices) != MST_OK || choices == NULL) return false;
    for (char *rest, *line = strtok_r(choices, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        served |= strncmp(line, "attention ", 10) == 0 && strstr(line, pass) != NULL &&
                  strstr(line, "algorithm=own") == NULL;
    free(choices);
    return served;
}

static void check_library(check_state *checker, bool backward,
                          void (*run)(check_trial *trial, const attention_case *c)) {
    enum { WORKSPACE = 1 << 30 };
    char library[64] = "";
    check_trial trial;
    if (is_on_gpu(checker)) mst_kernels_attention_library(library, sizeof library);
    if (!library[0]) return;
    checker->aligned = true;
    for (size_t i = 0; i < sizeof library_shapes / sizeof *library_shapes; i++) {
        const attention_shape s = library_shapes[i];
        const double q_scale = i % 3 == 2 ? 30.0 : 1.0;
        trial_begin(&trial, checker,
                    "%s: bf16 %zu x %zu tokens, %zu/%zu heads of %zu, padding %zu, q scale %g", library,
                    s.sequences, s.seq_len, s.heads, s.kv_heads, s.head_dim, s.padding, q_scale);
        attention_case c = set_up(&trial, s, MST_BF16, backward, q_scale);
        c.args.workspace = WORKSPACE;
        run(&trial, &c);
    }
    checker->aligned = false;
    trial_begin(&trial, checker, "%s", library);
    if (!is_served(checker, backward)) trial_fail(&trial, "it has served none of the shapes");
    trial_end(&trial);
}

void check_attention_forward(check_state *checker) {
    check_library(checker, false, run_forward);
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            attention_shape s = shapes[i];
            double q_scale = i % 3 == 2 ? 30.0 : 1.0; /* scores far apart: exp underflows */
            check_trial trial;
            trial_begin(&trial, checker,
                        "%s %zu x %zu tokens, %zu/%zu heads of %zu, padding %zu, q scale %g%s",
                        mst_dtype_name((mst_dtype)dtype), s.sequences, s.seq_len, s.heads, s.kv_heads,
                        s.head_dim, s.padding, q_scale, s.documents ? ", documents" : "");
            attention_case c = set_up(&trial, s, (mst_dtype)dtype, false, q_scale);
            run_forward(&trial, &c);
        }
        check_causal(checker, (mst_dtype)dtype);
        check_nonfinite(checker, (mst_dtype)dtype);
        check_pasts(checker, (mst_dtype)dtype);
        check_alone(checker, (mst_dtype)dtype);
        check_trial trial;
        trial_begin(&trial, checker, "%s documents and a past", mst_dtype_name((mst_dtype)dtype));
        attention_case c =
            set_up(&trial, (attention_shape){1, 5, 2, 2, 8, 0, 0, single}, (mst_dtype)dtype, false, 1.0);
        c.args.past = 1;
        trial_expect(&trial, call_forward, &c, MST_EINVAL);
        trial_end(&trial);
    }
    if (takes_f64(checker)) return;
    check_trial trial;
    trial_begin(&trial, checker, "f64");
    attention_case c = set_up(&trial, shapes[3], MST_F64, false, 1.0);
    trial_expect(&trial, call_forward, &c, MST_EUNSUPPORTED);
    trial_end(&trial);
}

/* ---------------------------------------------------------------- backward */

/* Runs the specification forward in dtype, so that `out` and `lse` are what a forward pass leaves. */
static bool fill_forward(check_trial *trial, const attention_case *c) {
    mst_attention_args args = c->args;
    args.q = c->q->initial + c->q->offset;
    args.k = c->k->initial + c->k->offset;
    args.v = c->v->initial + c->v->offset;
    args.out = c->out->initial + c->out->offset;
    args.lse = c->lse->initial + c->lse->offset;
    mst_status status = trial->checker->ref.attention_forward(NULL, &args);
    if (status != MST_OK) trial_fail(trial, "forward: %s", mst_error_message());
    return status == MST_OK;
}

/* Absolute dot product of head_dim elements of two rows, and the dot product itself. */
static void dots(const attention_case *c, const check_tensor *a, size_t row_a, size_t head_a,
                 const check_tensor *b, size_t row_b, size_t head_b, double *sum, double *sum_abs) {
    *sum = *sum_abs = 0.0;
    for (size_t d = 0; d < c->args.head_dim; d++) {
        double product = tensor_initial(a, row_a, head_a * c->args.head_dim + d) *
                         tensor_initial(b, row_b, head_b * c->args.head_dim + d);
        *sum += product;
        *sum_abs += fabs(product);
    }
}

/*
 * One pair (t, j) adds to the bounds of dq[t], dk[j] and dv[j]. p = exp(score - lse) is off by the factor
 * eps: the score, 2 U32 (|score| + |lse|), the exp; or it is 0 below TINY. ds = p (dout.v - dout.out) is off
 * by p (|dout|.|v| + |dout|.|out|) (sum_error(head_dim) + 2 U32) + |ds| (eps + 3 U32), and where p is 0 by
 * TINY times the bracket. The sums over tokens (and over the heads of a group for dk, dv) add sum_error(their
 * length) of what they add up. p and ds are operands of products, so they may be rounded to dtype:
 * independent errors of a relative roundoff.
 */
static void bounds_of_pair(const attention_case *c, size_t sequence, size_t head, size_t t, size_t j) {
    const mst_attention_args *args = &c->args;
    size_t hd = args->head_dim, group = args->heads / args->kv_heads, kv_head = head / group;
    size_t row_t = sequence * args->seq_len + t, row_j = sequence * args->seq_len + j;
    score s = score_of(c, sequence, head, t, j);
    double lse = tensor_initial(c->lse, sequence * args->heads + head, t), p = exp(s.value - lse);
    double dp, dp_abs, own, own_abs, operand = roundoff(args->dtype), scale = args->scale;
    dots(c, c->dout, row_t, head, c->v, row_j, kv_head, &dp, &dp_abs);
    dots(c, c->dout, row_t, head, c->out, row_t, head, &own, &own_abs);
    double eps = s.error + 2.0 * U32 * (fabs(s.value) + fabs(lse)) + EXP_ERROR, ds = fabs(p * (dp - own));
    double ds_error = p * (dp_abs + own_abs) * (sum_error(hd) + 2.0 * U32) + ds * (eps + 3.0 * U32) +
                      TINY * (dp_abs + own_abs);
    double length = sum_error(group * args->seq_len) + 2.0 * U32;
    for (size_t d = 0; d < hd; d++) {
        size_t col = head * hd + d, kv_col = kv_head * hd + d;
        double q = fabs(tensor_initial(c->q, row_t, col)), k = fabs(tensor_initial(c->k, row_j, kv_col));
        double dout = fabs(tensor_initial(c->dout, row_t, col));
        *tensor_bound(c->dq, row_t, col) += scale * k * (ds_error + ds * length);
        *tensor_bound(c->dk, row_j, kv_col) += scale * q * (ds_error + ds * length);
        *tensor_bound(c->dv, row_j, kv_col) += dout * (p * (eps + length) + TINY);
        *tensor_squares(c->dq, row_t, col) += pow(operand * scale * ds * k, 2.0);
        *tensor_squares(c->dk, row_j, kv_col) += pow(operand * scale * ds * q, 2.0);
        *tensor_squares(c->dv, row_j, kv_col) += pow(operand * p * dout, 2.0);
    }
}

static void run_backward(check_trial *trial, const attention_case *c) {
    if (fill_forward(trial, c) && trial_run(trial, call_backward, c, REFERENCE_F64)) {
        for (size_t sequence = 0; sequence < c->args.sequences; sequence++)
            for (size_t head = 0; head < c->args.heads; head++)
                for (size_t t = 0; t < c->args.seq_len; t++)
                    for (size_t j = first_seen(c, sequence, t); j <= t; j++)
                        bounds_of_pair(c, sequence, head, t, j);
        trial_compare(trial);
    }
    trial_end(trial);
}

void check_attention_backward(check_state *checker) {
    check_library(checker, true, run_backward);
    for (int dtype = MST_F32; dtype <= MST_BF16; dtype++) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            attention_shape s = shapes[i];
            double q_scale = i % 3 == 2 ? 30.0 : 1.0;
            check_trial trial;
            trial_begin(&trial, checker,
                        "%s %zu x %zu tokens, %zu/%zu heads of %zu, padding %zu, q scale %g%s",
                        mst_dtype_name((mst_dtype)dtype), s.sequences, s.seq_len, s.heads, s.kv_heads,
                        s.head_dim, s.padding, q_scale, s.documents ? ", documents" : "");
            attention_case c = set_up(&trial, s, (mst_dtype)dtype, true, q_scale);
            run_backward(&trial, &c);
        }
        check_trial trial;
        trial_begin(&trial, checker, "%s with NaN in the first and last dout",
                    mst_dtype_name((mst_dtype)dtype));
        attention_case c =
            set_up(&trial, (attention_shape){1, 19, 2, 2, 8, 0, 0, NULL}, (mst_dtype)dtype, true, 1.0);
        tensor_set(c.dout, 0, 0, NAN);
        tensor_set(c.dout, 18, 9, NAN);
        run_backward(&trial, &c);
        check_trial between;
        trial_begin(&between, checker, "%s with NaN in dout, q and k of a document between others",
                    mst_dtype_name((mst_dtype)dtype));
        c = set_up(&between, (attention_shape){1, 150, 2, 1, 8, 0, 0, odd}, (mst_dtype)dtype, true, 1.0);
        tensor_set(c.dout, 40, 9, NAN);
        tensor_set(c.q, 41, 3, INFINITY);
        tensor_set(c.k, 42, 3, NAN);
        run_backward(&between, &c);
        check_trial past;
        trial_begin(&past, checker, "%s with a past", mst_dtype_name((mst_dtype)dtype));
        c = set_up(&past, (attention_shape){1, 5, 2, 2, 8, 0, 0, NULL}, (mst_dtype)dtype, true, 1.0);
        c.args.past = 1;
        trial_expect(&past, call_backward, &c, MST_EINVAL);
        trial_end(&past);
    }
}

/* ---------------------------------------------------------------- timing */

/* As fill_forward by the body itself: what is timed is too large for the specification. Pinned memory, which the CPU reads. */
static bool fill_forward_on_gpu(check_trial *trial, const attention_case *c) {
    check_tensor *const given[] = {c->q, c->k, c->v}, *const computed[] = {c->out, c->lse};
    for (size_t i = 0; i < 3; i++) memcpy(given[i]->memory, given[i]->initial, given[i]->bytes);
    mst_status status = call_forward(c, &trial->checker->table, trial->checker->bench_queue, VIEW_BODY);
    if (status == MST_OK) status = mst_queue_sync(trial->checker->bench_queue);
    if (status != MST_OK) trial_fail(trial, "forward: %s", mst_error_message());
    for (size_t i = 0; i < 2; i++) memcpy(computed[i]->initial, computed[i]->memory, computed[i]->bytes);
    return status == MST_OK;
}

/* Two products of t (t + 1) / 2 pairs forward, five backward. @param library "": the body's own */
static void bench_shape(check_state *checker, attention_shape s, mst_dtype dtype, const char *library,
                        bool backward) {
    const bool on_gpu = is_on_gpu(checker);
    const double pairs = (double)(s.sequences * s.heads) * (double)s.seq_len * (double)(s.seq_len + 1) / 2.0,
                 flops = (backward ? 5.0 : 2.0) * 2.0 * pairs * (double)s.head_dim;
    check_trial trial;
    trial_begin(&trial, checker, "%s%s%s %zu x %zu, %zu/%zu heads of %zu", library, library[0] ? " " : "",
                mst_dtype_name(dtype), s.sequences, s.seq_len, s.heads, s.kv_heads, s.head_dim);
    attention_case c = set_up(&trial, s, dtype, backward, 1.0);
    if (library[0]) c.args.workspace = SIZE_MAX;
    if (!backward || (on_gpu ? fill_forward_on_gpu : fill_forward)(&trial, &c))
        trial_time(&trial, backward ? call_backward : call_forward, &c, dtype, 0.0, flops);
    trial_end(&trial);
}

/* GPT-2 124M, and a long grouped one. */
static void bench(check_state *checker, bool backward) {
    static const attention_shape shapes_of_cpu[] = {{4, 256, 12, 12, 64, 0, 0, NULL},
                                                    {1, 1024, 9, 3, 64, 0, 0, NULL}};
    static const attention_shape shapes_of_gpu[] = {{16, 1024, 12, 12, 64, 0, 0, NULL},
                                                    {2, 4096, 32, 8, 128, 0, 0, NULL}};
    const bool on_gpu = is_on_gpu(checker);
    const attention_shape *timed = on_gpu ? shapes_of_gpu : shapes_of_cpu;
    char library[64] = "";
    if (on_gpu) mst_kernels_attention_library(library, sizeof library);
    for (size_t i = 0; i < 2; i++) {
        bench_shape(checker, timed[i], MST_F32, "", backward);
        bench_shape(checker, timed[i], MST_BF16, "", backward);
        if (library[0]) bench_shape(checker, timed[i], MST_BF16, library, backward);
    }
}

/* One token after a context: flops as above, bytes those of the kept keys and values. */
static void bench_token(check_state *checker) {
    for (int i = 0; i < 4; i++) {
        attention_shape s = {1, 1, 9, i < 2 ? 9 : 3, 64, 0, 1023, NULL};
        mst_dtype dtype = i % 2 ? MST_BF16 : MST_F32;
        check_trial trial;
        trial_begin(&trial, checker, "%s 1 after %zu, %zu/%zu heads of %zu", mst_dtype_name(dtype), s.past,
                    s.heads, s.kv_heads, s.head_dim);
        attention_case c = set_up(&trial, s, dtype, false, 1.0);
        double kept = (double)((s.past + 1) * s.head_dim);
        trial_time(&trial, call_forward, &c, dtype, 2.0 * kept * (double)(s.kv_heads * mst_dtype_size(dtype)),
                   4.0 * kept * (double)s.heads);
        trial_end(&trial);
    }
}

void bench_attention_forward(check_state *checker) {
    bench(checker, false);
    bench_token(checker);
}
void bench_attention_backward(check_state *checker) {
    bench(checker, true);
}
