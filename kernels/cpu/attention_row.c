/*
 * Causal attention, forward, of one query per sequence: a token that goes on from kept keys. Here keys stand side
 * by side in vector lanes, since there is but one query. Every number is computed by the same operations in the
 * same order as in a strip of attention.c, so that the bits are the same.
 */
#include "attention_pack.h"

enum { KEY_STRIPS = KEYS / STRIP, VECTORS = STRIP / VECTOR };

typedef struct row_job {
    const mst_attention_args *args;
    mst_queue *queue;
    size_t width; /* head_dim padded */
    size_t scratch_bytes;
} row_job;

/* The query of one head on its way. */
typedef struct row_state {
    float *query; /* [depth] scaled unless it is pairs */
    float *out;   /* [width] sum of exp(score - maximum) v */
    float maximum, sum;
} row_state;

typedef struct row_memory {
    float *keys;        /* [KEYS, depth] */
    float *values;      /* [KEYS, width], or [KEYS / 2, width] pairs */
    float *packed;      /* [KEYS, width] */
    float *panel;       /* [KEY_STRIPS] of [depth, STRIP]: the keys transposed */
    float *scores;      /* [KEYS] */
    float *key_pairs;   /* [KEYS / 2] of the weights that scores become */
    float *query, *out; /* [heads of a group, width] */
    row_state *rows;    /* [heads of a group] */
} row_memory;

static size_t row_bytes(size_t width, size_t group) {
    return (4 * KEYS * width + 2 * KEYS + 2 * group * width) * sizeof(float) + group * sizeof(row_state);
}

static row_memory lay_out(float *memory, size_t width, size_t group) {
    row_memory m;
    m.keys = take(&memory, KEYS * width);
    m.values = take(&memory, KEYS * width);
    m.packed = take(&memory, KEYS * width);
    m.panel = take(&memory, KEYS * width);
    m.scores = take(&memory, KEYS);
    m.key_pairs = take(&memory, KEYS);
    m.query = take(&memory, group * width);
    m.out = take(&memory, group * width);
    m.rows = (row_state *)(void *)memory;
    return m;
}

/* scores[key] = query . key, summed in order of depth. */
MST_INLINE void score_keys(bool pairs, const float *panel, size_t ld, const float *query, size_t depth,
                           float *scores) {
    for (size_t s = 0; s < KEY_STRIPS; s++, panel += ld * STRIP, scores += STRIP) {
        vector sum[VECTORS];
#pragma GCC unroll 8
        for (size_t i = 0; i < VECTORS; i++) sum[i] = vector_of(0.0f);
        for (size_t d = 0; d < depth; d++) {
            vector factor = vector_of(query[d]);
#pragma GCC unroll 8
            for (size_t i = 0; i < VECTORS; i++) {
                vector keys = *(const vector *)(panel + d * STRIP + i * VECTOR);
                sum[i] = pairs ? vector_dot(keys, factor, sum[i]) : vector_fma(keys, factor, sum[i]);
            }
        }
#pragma GCC unroll 8
        for (size_t i = 0; i < VECTORS; i++) *(vector *)(scores + i * VECTOR) = sum[i];
    }
}

/* Scores become weights exp(scale score - maximum); what was summed under the former maximum is scaled. See `weigh`. */
static void weigh_row(float *scores, size_t keys, float scale, size_t width, row_state *row) {
    float former = row->maximum, maximum = former, sum = 0.0f;
    for (size_t k = 0; k < keys; k++) {
        scores[k] *= scale;
        maximum = scores[k] > maximum ? scores[k] : maximum;
    }
    float base = maximum == -__builtin_inff() ? 0.0f : maximum, factor = exp_flushed(former - base);
#pragma omp simd
    for (size_t k = 0; k < keys; k++) scores[k] = exp_flushed(scores[k] - base);
    for (size_t k = 0; k < keys; k++) sum += scores[k];
    row->maximum = maximum;
    row->sum = fma_f32(row->sum, factor, sum);
#pragma omp simd
    for (size_t d = 0; d < width; d++) row->out[d] *= factor;
}

/* out += sum over the keys, in their order, of weights[key] values[key]: the first `paired` of them, an even number, in
 * pairs where there are pairs. */
MST_INLINE void add_values(bool pairs, const row_memory *m, size_t keys, size_t paired, size_t width,
                           float *out) {
    const float *weights = pairs ? m->key_pairs : m->scores;
    for (size_t d = 0; d < width; d += VECTOR) {
        vector sum = *(const vector *)(out + d);
        for (size_t k = 0; k < (pairs ? paired / 2 : keys); k++) {
            vector value = *(const vector *)(m->values + k * width + d), weight = vector_of(weights[k]);
            sum = pairs ? vector_dot(weight, value, sum) : vector_fma(weight, value, sum);
        }
        *(vector *)(out + d) = sum;
    }
    for (size_t k = paired; pairs && k < keys; k++) add_row(true, width, m->scores[k], m->values, k, out);
}

/* A tile of keys and values as the products read them, the keys transposed for score_keys. */
MST_INLINE void load_tile(bool pairs, const row_job *job, size_t sequence, size_t kv_head, size_t key,
                          size_t keys, const row_memory *m) {
    const mst_attention_args *a = job->args;
    size_t width = job->width, depth = depth_of(pairs, width);
    const void *k = element(a->k, key_offset(a, sequence, key, a->ldk, kv_head), a->dtype);
    const void *v = element(a->v, key_offset(a, sequence, key, a->ldv, kv_head), a->dtype);
    pack_operand(pairs, k, a->dtype, a->ldk, keys, KEYS, a->head_dim, 1.0f, m->keys, width);
    pack_operand(pairs, v, a->dtype, a->ldv, keys, keys, a->head_dim, 1.0f, pairs ? m->packed : m->values,
                 width);
    if (pairs) pair_rows(m->packed, keys, width, m->values);
    for (size_t s = 0; s < KEY_STRIPS; s++)
        transpose_strip(m->keys + s * STRIP * depth, depth, m->panel + s * STRIP * depth);
}

MST_INLINE void begin_row(bool pairs, const row_job *job, size_t sequence, size_t head, row_state *row) {
    const mst_attention_args *a = job->args;
    const void *q = element(a->q, token_offset(a, sequence, 0, a->ldq, head), a->dtype);
    pack_operand(pairs, q, a->dtype, a->ldq, 1, 1, a->head_dim, (float)a->scale, row->query, job->width);
    for (size_t d = 0; d < job->width; d++) row->out[d] = 0.0f;
    row->maximum = -__builtin_inff();
    row->sum = 0.0f;
}

MST_INLINE void visit(bool pairs, const row_job *job, const row_memory *m, size_t key, size_t keys,
                      row_state *row) {
    const mst_attention_args *a = job->args;
    /* The keys that a strip multiplies in pairs for this query and its MR - 1 neighbours: those that all of them see. */
    size_t block = a->past / MR * MR, paired = block > key ? smaller(keys / 2 * 2, block - key) : 0;
    score_keys(pairs, m->panel, depth_of(pairs, job->width), row->query,
               depth_of(pairs, round_up(a->head_dim, 2)), m->scores);
    weigh_row(m->scores, keys, pairs ? (float)a->scale : 1.0f, job->width, row);
    if (pairs) pair_neighbours(m->scores, KEYS, m->key_pairs);
    add_values(pairs, m, keys, paired, job->width, row->out);
}

static void end_row(const row_job *job, size_t sequence, size_t head, const row_state *row) {
    const mst_attention_args *a = job->args;
    store_row(a->out, token_offset(a, sequence, 0, a->heads * a->head_dim, head), a->dtype, row->out,
              row->sum, a->head_dim);
    ((float *)a->lse)[sequence * a->heads + head] = log_sum_exp(row->maximum, row->sum);
}

/* One key/value head, with the query heads that read it. */
MST_INLINE void run_head(bool pairs, const row_job *job, const row_memory *m, size_t sequence,
                         size_t kv_head) {
    const mst_attention_args *a = job->args;
    size_t group = a->heads / a->kv_heads;
    for (size_t h = 0; h < group; h++) {
        m->rows[h] = (row_state){.query = m->query + h * job->width, .out = m->out + h * job->width};
        begin_row(pairs, job, sequence, kv_head * group + h, &m->rows[h]);
    }
    for (size_t key = 0; key <= a->past; key += KEYS) {
        size_t keys = smaller(KEYS, a->past + 1 - key);
        load_tile(pairs, job, sequence, kv_head, key, keys, m);
        for (size_t h = 0; h < group; h++) visit(pairs, job, m, key, keys, &m->rows[h]);
    }
    for (size_t h = 0; h < group; h++) end_row(job, sequence, kv_head * group + h, &m->rows[h]);
}

static mst_status row_task(void *context, size_t task, int thread) {
    mst_status status = MST_OK;
    const row_job *job = context;
    const mst_attention_args *a = job->args;
    float *memory = mst_queue_scratch(job->queue, thread, job->scratch_bytes);
    MST_CHECK(memory != NULL, MST_ENOMEM, "attention_forward: no memory for %zu bytes of scratch",
              job->scratch_bytes);
    row_memory m = lay_out(memory, job->width, a->heads / a->kv_heads);
    if (takes_pairs(a))
        run_head(true, job, &m, task / a->kv_heads, task % a->kv_heads);
    else
        run_head(false, job, &m, task / a->kv_heads, task % a->kv_heads);
done:
    return status;
}

mst_status MST_AT_LEVEL(mst_attention_row)(mst_queue *queue, const mst_attention_args *args) {
    mst_status status = MST_OK;
    row_job job = {.args = args, .queue = queue, .width = round_up(args->head_dim, PAD)};
    job.scratch_bytes = row_bytes(job.width, args->heads / args->kv_heads);
    for (int thread = 0; thread < mst_queue_threads(queue); thread++)
        MST_CHECK(mst_queue_scratch(queue, thread, job.scratch_bytes) != NULL, MST_ENOMEM,
                  "attention_forward: no memory for %zu bytes of scratch per thread", job.scratch_bytes);
    status = mst_queue_for(queue, args->sequences * args->kv_heads, row_task, &job);
done:
    return status;
}
