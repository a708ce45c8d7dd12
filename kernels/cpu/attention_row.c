/*
 * Causal attention, forward, of one query per sequence: a token that goes on from kept keys. Here keys stand side
 * by side in vector lanes, since there is but one query. Every number is computed by the same operations in the
 * same order as in a strip of attention.c, so that the bits are the same.
 */
#include "attention.h"
#include "cpu_math.h"

enum { KEY_STRIPS = KEYS / STRIP, VECTORS = STRIP / VECTOR };

typedef struct row_job {
    const mst_attention_args *args;
    mst_queue *queue;
    size_t width; /* head_dim padded */
    size_t scratch_bytes;
} row_job;

/* The query of one head on its way. */
typedef struct row_state {
    float *query; /* [width] scaled */
    float *out;   /* [width] sum of exp(score - maximum) v */
    float maximum, sum;
} row_state;

typedef struct row_memory {
    float *keys, *values; /* [KEYS, width] */
    float *panel;         /* [KEY_STRIPS] of [width, STRIP]: the keys transposed */
    float *scores;        /* [KEYS] */
    float *query, *out;   /* [heads of a group, width] */
    row_state *rows;      /* [heads of a group] */
} row_memory;

static size_t row_bytes(size_t width, size_t group) {
    return (3 * KEYS * width + KEYS + 2 * group * width) * sizeof(float) + group * sizeof(row_state);
}

static row_memory lay_out(float *memory, size_t width, size_t group) {
    row_memory m;
    m.keys = take(&memory, KEYS * width);
    m.values = take(&memory, KEYS * width);
    m.panel = take(&memory, KEYS * width);
    m.scores = take(&memory, KEYS);
    m.query = take(&memory, group * width);
    m.out = take(&memory, group * width);
    m.rows = (row_state *)(void *)memory;
    return m;
}

/* scores[key] = query . key, summed in order of depth. */
static void score_keys(const float *panel, size_t width, const float *query, size_t head_dim, float *scores) {
    for (size_t s = 0; s < KEY_STRIPS; s++, panel += width * STRIP, scores += STRIP) {
        vector sum[VECTORS];
#pragma GCC unroll 8
        for (size_t i = 0; i < VECTORS; i++) sum[i] = vector_of(0.0f);
        for (size_t d = 0; d < head_dim; d++) {
            vector factor = vector_of(query[d]);
#pragma GCC unroll 8
            for (size_t i = 0; i < VECTORS; i++)
                sum[i] = vector_fma(*(const vector *)(panel + d * STRIP + i * VECTOR), factor, sum[i]);
        }
#pragma GCC unroll 8
        for (size_t i = 0; i < VECTORS; i++) *(vector *)(scores + i * VECTOR) = sum[i];
    }
}

/* Scores become weights exp(score - maximum); what was summed under the former maximum is scaled. See `weigh`. */
static void weigh_row(float *scores, size_t keys, size_t width, row_state *row) {
    float former = row->maximum, maximum = former, sum = 0.0f;
    for (size_t k = 0; k < keys; k++) maximum = scores[k] > maximum ? scores[k] : maximum;
    float base = maximum == -__builtin_inff() ? 0.0f : maximum, factor = exp_flushed(former - base);
#pragma omp simd
    for (size_t k = 0; k < keys; k++) scores[k] = exp_flushed(scores[k] - base);
    for (size_t k = 0; k < keys; k++) sum += scores[k];
    row->maximum = maximum;
    row->sum = fma_f32(row->sum, factor, sum);
#pragma omp simd
    for (size_t d = 0; d < width; d++) row->out[d] *= factor;
}

/* out += sum over the keys, in their order, of weights[key] values[key]. */
static void add_values(const float *weights, size_t keys, const float *values, size_t width, float *out) {
    for (size_t d = 0; d < width; d += VECTOR) {
        vector sum = *(const vector *)(out + d);
        for (size_t k = 0; k < keys; k++)
            sum = vector_fma(vector_of(weights[k]), *(const vector *)(values + k * width + d), sum);
        *(vector *)(out + d) = sum;
    }
}

/* A tile of keys and values as fp32, the keys transposed for score_keys. */
static void load_tile(const row_job *job, size_t sequence, size_t kv_head, size_t key, size_t keys,
                      const row_memory *m) {
    const mst_attention_args *a = job->args;
    size_t width = job->width;
    const void *k = element(a->k, key_offset(a, sequence, key, a->ldk, kv_head), a->dtype);
    const void *v = element(a->v, key_offset(a, sequence, key, a->ldv, kv_head), a->dtype);
    pack_rows(k, a->dtype, a->ldk, keys, KEYS, a->head_dim, 1.0f, m->keys, width);
    pack_rows(v, a->dtype, a->ldv, keys, keys, a->head_dim, 1.0f, m->values, width);
    for (size_t s = 0; s < KEY_STRIPS; s++)
        transpose_strip(m->keys + s * STRIP * width, width, m->panel + s * STRIP * width);
}

static void begin_row(const row_job *job, size_t sequence, size_t head, row_state *row) {
    const mst_attention_args *a = job->args;
    const void *q = element(a->q, token_offset(a, sequence, 0, a->ldq, head), a->dtype);
    pack_rows(q, a->dtype, a->ldq, 1, 1, a->head_dim, (float)a->scale, row->query, job->width);
    for (size_t d = 0; d < job->width; d++) row->out[d] = 0.0f;
    row->maximum = -__builtin_inff();
    row->sum = 0.0f;
}

static void visit(const row_job *job, const row_memory *m, size_t keys, row_state *row) {
    score_keys(m->panel, job->width, row->query, job->args->head_dim, m->scores);
    weigh_row(m->scores, keys, job->width, row);
    add_values(m->scores, keys, m->values, job->width, row->out);
}

static void end_row(const row_job *job, size_t sequence, size_t head, const row_state *row) {
    const mst_attention_args *a = job->args;
    store_row(a->out, token_offset(a, sequence, 0, a->heads * a->head_dim, head), a->dtype, row->out,
              row->sum, a->head_dim);
    ((float *)a->lse)[sequence * a->heads + head] = log_sum_exp(row->maximum, row->sum);
}

/* Task: one key/value head, with the query heads that read it. */
static mst_status row_task(void *context, size_t task, int thread) {
    mst_status status = MST_OK;
    const row_job *job = context;
    const mst_attention_args *a = job->args;
    size_t kv_head = task % a->kv_heads, sequence = task / a->kv_heads, group = a->heads / a->kv_heads;
    float *memory = mst_queue_scratch(job->queue, thread, job->scratch_bytes);
    MST_CHECK(memory != NULL, MST_ENOMEM, "attention_forward: no memory for %zu bytes of scratch",
              job->scratch_bytes);
    row_memory m = lay_out(memory, job->width, group);
    for (size_t h = 0; h < group; h++) {
        m.rows[h] = (row_state){.query = m.query + h * job->width, .out = m.out + h * job->width};
        begin_row(job, sequence, kv_head * group + h, &m.rows[h]);
    }
    for (size_t key = 0; key <= a->past; key += KEYS) {
        size_t keys = smaller(KEYS, a->past + 1 - key);
        load_tile(job, sequence, kv_head, key, keys, &m);
        for (size_t h = 0; h < group; h++) visit(job, &m, keys, &m.rows[h]);
    }
    for (size_t h = 0; h < group; h++) end_row(job, sequence, kv_head * group + h, &m.rows[h]);
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
