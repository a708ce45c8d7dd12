/*
 * Causal attention, backward, from the forward pass's lse: with p = exp(score - lse) and ds = p (dout . v -
 * dout . out), dq = scale sum ds k, dk = scale sum ds q, dv = sum p dout. Dao et al. 2022.
 *
 * A task takes all or some of the query tiles that read one key/value head, in a fixed order, and adds to
 * sums of its own for all keys; where several tasks share a head, a second loop adds their sums in order. How
 * many do is a function of the shapes. A task goes through the documents of its sequence one by one; their tiles are dealt
 * to the tasks in turn.
 */
#include "attention_pack.h"

static mst_attention_backward_fn mst_attention_backward_cpu;

enum {
    TASKS = 16,    /* wanted where there are few heads */
    TASKS_FEW = 8, /* so many heads are left whole: their keys and values are then read once */
    SUM_ROWS = 64, /* keys of a task of the second loop */
};

typedef struct backward_job {
    const mst_attention_args *args;
    mst_queue *queue;
    size_t width;  /* head_dim padded */
    size_t tokens; /* seq_len padded, and room behind the last document */
    size_t parts;  /* tasks per key/value head */
    float *sums;   /* [sequences * kv_heads * parts, dk and dv, tokens, width],
                      in thread 0's scratch; NULL for one part */
    size_t shared_bytes, scratch_bytes;
} backward_job;

/* Tokens of a sequence from `origin` on that see each other. */
typedef struct document {
    size_t sequence, origin, tokens;
} document;

typedef struct strip {
    float *q, *dout;             /* [STRIP, width], or pairs of queries; floats of q are scaled */
    float *q_panel, *dout_panel; /* [depth, STRIP] */
    float *dq;                   /* [STRIP, width] */
    float *lse, *delta;          /* [STRIP]; delta is dout . out */
} strip;

typedef struct backward_memory {
    strip strips[STRIPS];
    float *weights, *dscores;       /* [KEYS, STRIP] */
    float *key_pairs, *query_pairs; /* [KEYS, STRIP / 2] of one of them */
    float *out, *packed;            /* [STRIP, width] */
    float *k, *v;                   /* [tokens, depth] */
    float *k_pairs;                 /* [tokens / 2, width] pairs of keys */
    float *dk, *dv;                 /* [tokens, width] */
} backward_memory;

static size_t sum_floats(const backward_job *job) {
    return 2 * job->tokens * job->width;
}

static size_t backward_floats(const backward_job *job) {
    size_t width = job->width;
    size_t floats = STRIPS * STRIP * (5 * width + 2) + 3 * KEYS * STRIP + 2 * STRIP * width;
    return floats + (2 * job->tokens + round_up(job->tokens, 2) / 2) * width +
           (job->parts == 1 ? sum_floats(job) : 0);
}

/* @param part number of the task */
static backward_memory lay_out(const backward_job *job, float *memory, size_t part) {
    backward_memory m;
    size_t width = job->width, rows = job->tokens * width;
    for (size_t i = 0; i < STRIPS; i++) {
        strip *s = &m.strips[i];
        s->q = take(&memory, STRIP * width);
        s->dout = take(&memory, STRIP * width);
        s->dq = take(&memory, STRIP * width);
        s->q_panel = take(&memory, width * STRIP);
        s->dout_panel = take(&memory, width * STRIP);
        s->lse = take(&memory, STRIP);
        s->delta = take(&memory, STRIP);
    }
    m.weights = take(&memory, KEYS * STRIP);
    m.dscores = take(&memory, KEYS * STRIP);
    m.key_pairs = take(&memory, KEYS * STRIP / 2);
    m.query_pairs = take(&memory, KEYS * STRIP / 2);
    m.out = take(&memory, STRIP * width);
    m.packed = take(&memory, STRIP * width);
    m.k = take(&memory, rows);
    m.v = take(&memory, rows);
    m.k_pairs = take(&memory, round_up(job->tokens, 2) / 2 * width);
    m.dk = job->parts == 1 ? take(&memory, 2 * rows) : job->sums + part * sum_floats(job);
    m.dv = m.dk + rows;
    return m;
}

/* Sums run over MST_LANES lanes, as everywhere. */
static float dot(const float *a, const float *b, size_t width) {
    float lane[MST_LANES] = {0};
    for (size_t d = 0; d < width; d += PAD)
#pragma omp simd
        for (size_t k = 0; k < PAD; k++)
            lane[d % MST_LANES + k] = fma_f32(a[d + k], b[d + k], lane[d % MST_LANES + k]);
    return lanes_sum(lane);
}

/* One of a strip's tensors as both of its products read it. */
MST_INLINE void pack_strip(bool pairs, const void *source, mst_dtype dtype, size_t ld, size_t count,
                           size_t head_dim, float scale, float *packed, float *rows, float *panel,
                           size_t width) {
    pack_operand(pairs, source, dtype, ld, count, STRIP, head_dim, scale, pairs ? packed : rows, width);
    transpose_strip(pairs ? packed : rows, depth_of(pairs, width), panel);
    if (pairs) pair_rows(packed, STRIP, width, rows);
}

MST_INLINE void begin_strip(bool pairs, const backward_job *job, const document *of, size_t head,
                            size_t query, const backward_memory *m, strip *s) {
    const mst_attention_args *a = job->args;
    size_t width = job->width, count = smaller(STRIP, of->tokens - query), row = a->heads * a->head_dim;
    size_t token = of->origin + query;
    const void *q = element(a->q, token_offset(a, of->sequence, token, a->ldq, head), a->dtype);
    const void *dout = element(a->dout, token_offset(a, of->sequence, token, row, head), a->dtype);
    const void *out = element(a->out, token_offset(a, of->sequence, token, row, head), a->dtype);
    const float *lse = (const float *)a->lse + (of->sequence * a->heads + head) * a->seq_len + token;
    /* dq is not in use yet: dout as floats, for delta */
    pack_rows(dout, a->dtype, row, count, STRIP, a->head_dim, 1.0f, s->dq, width);
    pack_rows(out, a->dtype, row, count, STRIP, a->head_dim, 1.0f, m->out, width);
    for (size_t i = 0; i < STRIP; i++) {
        s->lse[i] = i < count ? lse[i] : 0.0f;
        s->delta[i] = dot(s->dq + i * width, m->out + i * width, width);
    }
    for (size_t i = 0; i < STRIP * width; i++) s->dq[i] = 0.0f;
    pack_strip(pairs, q, a->dtype, a->ldq, count, a->head_dim, (float)a->scale, m->packed, s->q, s->q_panel,
               width);
    pack_strip(pairs, dout, a->dtype, row, count, a->head_dim, 1.0f, m->packed, s->dout, s->dout_panel,
               width);
}

/* From scores and dout . v: weights = exp(scale score - lse), and ds in place of dout . v.
 * Both 0 where a key is not seen. */
MST_INLINE void weigh(float *weights, float *dscores, size_t keys, float scale, ptrdiff_t distance,
                      bool masked, const strip *s) {
    for (size_t k = 0; k < keys; k++)
#pragma omp simd
        for (size_t i = 0; i < STRIP; i++) {
            float weight = exp_flushed(scale * weights[k * STRIP + i] - s->lse[i]);
            float dscore = weight * (dscores[k * STRIP + i] - s->delta[i]);
            bool seen = !masked || (int)k <= (int)distance + (int)i;
            weights[k * STRIP + i] = seen ? weight : 0.0f;
            dscores[k * STRIP + i] = seen ? dscore : 0.0f;
        }
}

/* One strip of queries meets one tile of keys. */
MST_INLINE void visit(bool pairs, const backward_job *job, const backward_memory *m, const strip *s,
                      size_t query, size_t queries, size_t key, size_t keys) {
    const mst_attention_args *a = job->args;
    size_t width = job->width, ld = depth_of(pairs, width), at = key * width;
    size_t depth = depth_of(pairs, round_up(a->head_dim, 2));
    size_t seen = smaller(keys, query + STRIP - key), rows = round_up(seen, MR);
    float scale = pairs ? (float)a->scale : 1.0f; /* else the queries are scaled */
    multiply_scores(pairs, rows, depth, m->k + key * ld, ld, s->q_panel, m->weights);
    multiply_scores(pairs, rows, depth, m->v + key * ld, ld, s->dout_panel, m->dscores);
    if (key + rows - 1 > query)
        weigh(m->weights, m->dscores, rows, scale, (ptrdiff_t)query - (ptrdiff_t)key, true, s);
    else
        weigh(m->weights, m->dscores, rows, scale, 0, false, s);
    weight_operands w = {m->weights, m->key_pairs, m->query_pairs};
    if (pairs) pair_neighbours(m->weights, rows * STRIP, m->query_pairs);
    add_over_queries(pairs, query, queries, key, seen, &w, s->dout, width, m->dv + at);
    w.weights = m->dscores;
    if (pairs) pair_neighbours(m->dscores, rows * STRIP, m->query_pairs);
    add_over_queries(pairs, query, queries, key, seen, &w, s->q, width, m->dk + at);
    if (pairs) pair_columns(m->dscores, rows, m->key_pairs);
    add_over_keys(pairs, query, key, seen, &w, pairs ? m->k_pairs + at / 2 : m->k + at, width, s->dq);
}

MST_INLINE void store_rows_of(void *result, mst_dtype dtype, size_t ld, size_t rows, size_t head_dim,
                              float scale, const float *source, size_t width) {
    for (size_t r = 0; r < rows; r++)
#pragma omp simd
        for (size_t d = 0; d < head_dim; d++) store(result, r * ld + d, dtype, source[r * width + d] * scale);
}

/* The inverse of pack_rows, from element `at` of result on. */
static void store_rows(void *result, size_t at, mst_dtype dtype, size_t ld, size_t rows, size_t head_dim,
                       float scale, const float *source, size_t width) {
    if (dtype == MST_BF16)
        store_rows_of(element_mut(result, at, dtype), MST_BF16, ld, rows, head_dim, scale, source, width);
    else
        store_rows_of(element_mut(result, at, dtype), MST_F32, ld, rows, head_dim, scale, source, width);
}

/* All that one tile of queries of one head contributes. */
MST_INLINE void run_tile(bool pairs, const backward_job *job, backward_memory *m, const document *of,
                         size_t head, size_t tile) {
    const mst_attention_args *a = job->args;
    size_t first = tile * QUERIES, end = smaller(of->tokens, first + QUERIES),
           strips = tiles_of(end - first, STRIP);
    for (size_t i = 0; i < strips; i++)
        begin_strip(pairs, job, of, head, first + i * STRIP, m, &m->strips[i]);
    for (size_t key = 0; key < end; key += KEYS)
        for (size_t i = 0; i < strips; i++) {
            size_t query = first + i * STRIP;
            if (query + STRIP > key)
                visit(pairs, job, m, &m->strips[i], query, smaller(STRIP, end - query), key,
                      smaller(KEYS, end - key));
        }
    for (size_t i = 0; i < strips; i++) {
        size_t query = first + i * STRIP, count = smaller(STRIP, end - query);
        store_rows(a->dq, token_offset(a, of->sequence, of->origin + query, a->ldq, head), a->dtype, a->ldq,
                   count, a->head_dim, (float)a->scale, m->strips[i].dq, job->width);
    }
}

static void store_sums(const backward_job *job, size_t sequence, size_t kv_head, size_t first, size_t rows,
                       const float *dk, const float *dv) {
    const mst_attention_args *a = job->args;
    store_rows(a->dk, token_offset(a, sequence, first, a->ldk, kv_head), a->dtype, a->ldk, rows, a->head_dim,
               takes_pairs(a) ? (float)a->scale : 1.0f, dk, job->width);
    store_rows(a->dv, token_offset(a, sequence, first, a->ldv, kv_head), a->dtype, a->ldv, rows, a->head_dim,
               1.0f, dv, job->width);
}

/* Every parts-th query tile of a document, from tile `item` of all heads that read one key/value head. The sums' padding lies
 * in the rows of the next document, which begins after this one has ended.
 * @return where the next document's items begin for this task */
MST_INLINE size_t run_document(bool pairs, const backward_job *job, backward_memory m, const document *of,
                               size_t kv_head, size_t item) {
    const mst_attention_args *a = job->args;
    size_t group = a->heads / a->kv_heads, tiles = tiles_of(of->tokens, QUERIES), width = job->width;
    size_t padded = round_up(of->tokens, MR);
    const void *k = element(a->k, token_offset(a, of->sequence, of->origin, a->ldk, kv_head), a->dtype);
    const void *v = element(a->v, token_offset(a, of->sequence, of->origin, a->ldv, kv_head), a->dtype);
    pack_operand(pairs, k, a->dtype, a->ldk, of->tokens, padded, a->head_dim, 1.0f, m.k, width);
    pack_operand(pairs, v, a->dtype, a->ldv, of->tokens, padded, a->head_dim, 1.0f, m.v, width);
    if (pairs) pair_rows(m.k, padded, width, m.k_pairs);
    m.dk += of->origin * width;
    m.dv += of->origin * width;
    for (size_t i = 0; i < padded * width; i++) m.dk[i] = m.dv[i] = 0.0f;
    for (; item < group * tiles; item += job->parts)
        run_tile(pairs, job, &m, of, kv_head * group + item / tiles, item % tiles);
    if (job->parts == 1) store_sums(job, of->sequence, kv_head, of->origin, of->tokens, m.dk, m.dv);
    return item - group * tiles;
}

/* Part `part` of the query tiles of all heads that read one key/value head. */
MST_INLINE void run_part(bool pairs, const backward_job *job, const backward_memory *m, size_t sequence,
                         size_t kv_head, size_t part) {
    const mst_attention_args *a = job->args;
    size_t item = part;
    for (size_t begin = 0, end; begin < a->seq_len; begin = end) {
        end = document_end(a, sequence, begin, a->seq_len);
        item = run_document(pairs, job, *m, &(document){sequence, begin, end - begin}, kv_head, item);
    }
}

static mst_status backward_task(void *context, size_t task, int thread) {
    mst_status status = MST_OK;
    const backward_job *job = context;
    const mst_attention_args *a = job->args;
    size_t kv_head = task / job->parts % a->kv_heads, sequence = task / job->parts / a->kv_heads;
    size_t shared = thread == 0 ? job->shared_bytes : 0;
    char *memory = mst_queue_scratch(job->queue, thread, shared + job->scratch_bytes);
    MST_CHECK(memory != NULL, MST_ENOMEM, "attention_backward: no memory for %zu bytes of scratch",
              shared + job->scratch_bytes);
    backward_memory m = lay_out(job, (float *)(memory + shared), task);
    if (takes_pairs(a))
        run_part(true, job, &m, sequence, kv_head, task % job->parts);
    else
        run_part(false, job, &m, sequence, kv_head, task % job->parts);
done:
    return status;
}

/* Task of the second loop: some keys of one key/value head; the parts are added to the first in order. */
static mst_status sum_task(void *context, size_t task, int thread) {
    const backward_job *job = context;
    const mst_attention_args *a = job->args;
    (void)thread;
    size_t tiles = tiles_of(a->seq_len, SUM_ROWS), first = task % tiles * SUM_ROWS, head = task / tiles;
    size_t rows = smaller(SUM_ROWS, a->seq_len - first), at = first * job->width;
    float *dk = job->sums + head * job->parts * sum_floats(job) + at, *dv = dk + job->tokens * job->width;
    for (size_t part = 1; part < job->parts; part++) {
        const float *more_dk = dk + part * sum_floats(job), *more_dv = dv + part * sum_floats(job);
#pragma omp simd
        for (size_t i = 0; i < rows * job->width; i++) {
            dk[i] += more_dk[i];
            dv[i] += more_dv[i];
        }
    }
    store_sums(job, head / a->kv_heads, head % a->kv_heads, first, rows, dk, dv);
    return MST_OK;
}

static backward_job plan(mst_queue *queue, const mst_attention_args *a) {
    backward_job job = {.args = a, .queue = queue, .parts = 1};
    job.width = round_up(a->head_dim, PAD);
    job.tokens = round_up(a->seq_len + (a->starts ? (size_t)MR - 1 : 0), MR);
    size_t heads = a->sequences * a->kv_heads, items = a->heads / a->kv_heads * tiles_of(a->seq_len, QUERIES);
    if (heads < TASKS_FEW) job.parts = smaller(tiles_of(TASKS, heads), items);
    job.shared_bytes = job.parts == 1 ? 0 : heads * job.parts * sum_floats(&job) * sizeof(float);
    job.scratch_bytes = backward_floats(&job) * sizeof(float);
    return job;
}

static mst_status mst_attention_backward_cpu(mst_queue *queue, const mst_attention_args *args) {
    mst_status status = MST_OK;
    if (is_empty(args)) return MST_OK;
    MST_TRY(check_attention("attention_backward", args));
    MST_CHECK(args->past == 0, MST_EINVAL,
              "attention_backward: past is %zu; only the forward pass has kept keys", args->past);
    backward_job job = plan(queue, args);
    size_t heads = args->sequences * args->kv_heads;
    for (int thread = 0; thread < mst_queue_threads(queue); thread++) {
        size_t bytes = job.scratch_bytes + (thread == 0 ? job.shared_bytes : 0);
        void *memory = mst_queue_scratch(queue, thread, bytes);
        MST_CHECK(memory != NULL, MST_ENOMEM, "attention_backward: no memory for %zu bytes of scratch",
                  bytes);
        if (thread == 0) job.sums = memory;
    }
    MST_TRY(mst_queue_for(queue, heads * job.parts, backward_task, &job));
    if (job.parts > 1)
        MST_TRY(mst_queue_for(queue, heads * tiles_of(args->seq_len, SUM_ROWS), sum_task, &job));
done:
    return status;
}

void MST_AT_LEVEL(mst_cpu_fill_attention_grad)(mst_kernels *table) {
    table->attention_backward = mst_attention_backward_cpu;
}
