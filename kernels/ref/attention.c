/* Causal attention with grouped heads, forward and backward. Memory is linear in seq_len. */
#include <stdlib.h>

#include "element.h"
#include "ref.h"

static mst_status check(const char *name, const mst_attention_args *args) {
    mst_status status = MST_OK;
    size_t q_cols = args->heads * args->head_dim, kv_cols = args->kv_heads * args->head_dim;
    MST_CHECK(args->kv_heads > 0 ? args->heads % args->kv_heads == 0 : args->heads == 0, MST_EINVAL,
              "%s: %zu query heads cannot share %zu key/value heads; heads must be a multiple of kv_heads",
              name, args->heads, args->kv_heads);
    MST_CHECK(args->ldq >= q_cols, MST_EINVAL, "%s: ldq %zu is less than heads * head_dim = %zu", name,
              args->ldq, q_cols);
    MST_CHECK(args->ldk >= kv_cols && args->ldv >= kv_cols, MST_EINVAL,
              "%s: ldk %zu or ldv %zu is less than kv_heads * head_dim = %zu", name, args->ldk, args->ldv,
              kv_cols);
    MST_CHECK(!args->starts || args->past == 0, MST_EINVAL,
              "%s: starts of documents and a past of %zu; only one of them is possible", name, args->past);
done:
    return status;
}

/* Where the head_dim elements of one token and one head begin, in q and in out. */
static size_t at(const mst_attention_args *args, size_t sequence, size_t token, size_t ld, size_t head) {
    return (sequence * args->seq_len + token) * ld + head * args->head_dim;
}

/* The same in k and in v, which have the past tokens before the others. */
static size_t at_key(const mst_attention_args *args, size_t sequence, size_t token, size_t ld, size_t head) {
    return (sequence * (args->past + args->seq_len) + token) * ld + head * args->head_dim;
}

/* Dot product of head_dim elements of a from i on and of b from j on. */
static double dot(const mst_attention_args *args, const void *a, size_t i, const void *b, size_t j) {
    double sum = 0.0;
    for (size_t d = 0; d < args->head_dim; d++)
        sum += load(a, args->dtype, i + d) * load(b, args->dtype, j + d);
    return sum;
}

/* The first token that token t sees. */
static size_t first_seen(const mst_attention_args *args, size_t sequence, size_t t) {
    return args->starts ? (size_t)args->starts[sequence * args->seq_len + t] : 0;
}

/* Scores of query token t with the tokens first_seen to past + t that it sees, by their numbers. */
static void scores_of(const mst_attention_args *args, size_t sequence, size_t head, size_t t,
                      double *scores) {
    size_t kv_head = head / (args->heads / args->kv_heads);
    for (size_t j = first_seen(args, sequence, t); j <= args->past + t; j++)
        scores[j] = args->scale * dot(args, args->q, at(args, sequence, t, args->ldq, head), args->k,
                                      at_key(args, sequence, j, args->ldk, kv_head));
}

static double log_sum_exp(const double *scores, size_t count) {
    double max = -INFINITY, sum = 0.0;
    for (size_t j = 0; j < count; j++) max = scores[j] > max ? scores[j] : max;
    for (size_t j = 0; j < count; j++) sum += exp(scores[j] - max);
    return max + log(sum);
}

/* One query token of one head: its softmax, and the weighted sum of the values. */
static void forward_token(const mst_attention_args *args, size_t sequence, size_t head, size_t t,
                          double *scores) {
    size_t kv_head = head / (args->heads / args->kv_heads);
    scores_of(args, sequence, head, t, scores);
    size_t first = first_seen(args, sequence, t), end = args->past + t + 1;
    double lse = log_sum_exp(scores + first, end - first);
    store(args->lse, mst_dtype_acc(args->dtype), (sequence * args->heads + head) * args->seq_len + t, lse);
    for (size_t d = 0; d < args->head_dim; d++) {
        double sum = 0.0;
        for (size_t j = first; j < end; j++)
            sum += exp(scores[j] - lse) *
                   load(args->v, args->dtype, at_key(args, sequence, j, args->ldv, kv_head) + d);
        store(args->out, args->dtype, at(args, sequence, t, args->heads * args->head_dim, head) + d, sum);
    }
}

mst_status mst_attention_forward_ref(mst_queue *queue, const mst_attention_args *args) {
    mst_status status = MST_OK;
    double *scores = NULL;
    (void)queue;
    MST_TRY(check("attention_forward", args));
    size_t keys = args->past + args->seq_len;
    scores = calloc(keys + 1, sizeof *scores);
    MST_CHECK(scores, MST_ENOMEM, "attention_forward: no memory for %zu scores", keys);
    for (size_t sequence = 0; sequence < args->sequences; sequence++)
        for (size_t head = 0; head < args->heads; head++)
            for (size_t t = 0; t < args->seq_len; t++) forward_token(args, sequence, head, t, scores);
done:
    free(scores);
    return status;
}

/*
 * One query token of one head, with p = exp(score - lse), the derivative of the score
 *   ds[j] = p[j] (dout . v[j] - dout . out)
 * gives dq = scale sum_j ds[j] k[j], dk[j] += scale ds[j] q, dv[j] += p[j] dout.
 * dk and dv are [seq_len, head_dim], sums over the query heads that share them.
 */
static void backward_token(const mst_attention_args *args, size_t sequence, size_t head, size_t t, double *ds,
                           double *dk, double *dv) {
    size_t kv_head = head / (args->heads / args->kv_heads), head_dim = args->head_dim;
    size_t at_q = at(args, sequence, t, args->ldq, head),
           at_out = at(args, sequence, t, args->heads * head_dim, head);
    double lse =
        load(args->lse, mst_dtype_acc(args->dtype), (sequence * args->heads + head) * args->seq_len + t);
    double dout_out = dot(args, args->dout, at_out, args->out, at_out);
    size_t first = first_seen(args, sequence, t);
    scores_of(args, sequence, head, t, ds);
    for (size_t j = first; j <= t; j++) {
        double p = exp(ds[j] - lse);
        ds[j] = p * (dot(args, args->dout, at_out, args->v, at_key(args, sequence, j, args->ldv, kv_head)) -
                     dout_out);
        for (size_t d = 0; d < head_dim; d++) {
            dk[j * head_dim + d] += args->scale * ds[j] * load(args->q, args->dtype, at_q + d);
            dv[j * head_dim + d] += p * load(args->dout, args->dtype, at_out + d);
        }
    }
    for (size_t d = 0; d < head_dim; d++) {
        double dq = 0.0;
        for (size_t j = first; j <= t; j++)
            dq += ds[j] * load(args->k, args->dtype, at_key(args, sequence, j, args->ldk, kv_head) + d);
        store(args->dq, args->dtype, at_q + d, args->scale * dq);
    }
}

/* One key/value head of one sequence: all the query heads that read it. */
static void backward_group(const mst_attention_args *args, size_t sequence, size_t kv_head, double *ds,
                           double *dk, double *dv) {
    size_t group = args->heads / args->kv_heads, count = args->seq_len * args->head_dim;
    for (size_t i = 0; i < count; i++) dk[i] = dv[i] = 0.0;
    for (size_t head = kv_head * group; head < (kv_head + 1) * group; head++)
        for (size_t t = 0; t < args->seq_len; t++) backward_token(args, sequence, head, t, ds, dk, dv);
    for (size_t t = 0; t < args->seq_len; t++) {
        for (size_t d = 0; d < args->head_dim; d++) {
            store(args->dk, args->dtype, at(args, sequence, t, args->ldk, kv_head) + d,
                  dk[t * args->head_dim + d]);
            store(args->dv, args->dtype, at(args, sequence, t, args->ldv, kv_head) + d,
                  dv[t * args->head_dim + d]);
        }
    }
}

mst_status mst_attention_backward_ref(mst_queue *queue, const mst_attention_args *args) {
    mst_status status = MST_OK;
    double *ds = NULL, *dk = NULL, *dv = NULL;
    size_t count = args->seq_len * args->head_dim;
    (void)queue;
    MST_TRY(check("attention_backward", args));
    MST_CHECK(args->past == 0, MST_EINVAL,
              "attention_backward: past is %zu; only the forward pass has kept keys", args->past);
    ds = calloc(args->seq_len + 1, sizeof *ds);
    dk = calloc(count + 1, sizeof *dk);
    dv = calloc(count + 1, sizeof *dv);
    MST_CHECK(ds && dk && dv, MST_ENOMEM, "attention_backward: no memory for %zu sums",
              2 * count + args->seq_len);
    for (size_t sequence = 0; sequence < args->sequences; sequence++)
        for (size_t kv_head = 0; kv_head < args->kv_heads; kv_head++)
            backward_group(args, sequence, kv_head, ds, dk, dv);
done:
    free(ds);
    free(dk);
    free(dv);
    return status;
}
