/* Causal attention, forward: a tile of queries visits the tiles of keys that it sees, with a running maximum
 * and sum per query. Dao et al. 2022. */
#include "attention_pack.h"

static mst_attention_forward_fn mst_attention_forward_cpu;

typedef struct forward_job {
    const mst_attention_args *args;
    mst_queue *queue;
    size_t width;             /* head_dim padded */
    size_t first_tile, tiles; /* of queries, per head; counted from the first token that is kept */
    size_t scratch_bytes;
} forward_job;

/* A strip of queries on its way. */
typedef struct strip {
    float *panel;   /* [depth, STRIP] queries, scaled unless they are pairs */
    float *out;     /* [STRIP, width] sum of exp(score - maximum) v */
    float *maximum; /* [STRIP] */
    float *sum;     /* [STRIP] of exp(score - maximum) */
} strip;

typedef struct forward_memory {
    strip strips[STRIPS];
    float *keys;      /* [KEYS, depth] */
    float *values;    /* [KEYS, width], or [KEYS / 2, width] pairs */
    float *scores;    /* [KEYS, STRIP] */
    float *key_pairs; /* [KEYS / 2, STRIP] of the weights that scores become */
    float *rows;      /* [KEYS, width] */
} forward_memory;

static size_t forward_floats(size_t width) {
    return STRIPS * STRIP * (2 * width + 2) + KEYS * (3 * width + STRIP) + KEYS / 2 * STRIP;
}

static forward_memory lay_out(float *memory, size_t width) {
    forward_memory m;
    for (size_t i = 0; i < STRIPS; i++) {
        m.strips[i].panel = take(&memory, width * STRIP);
        m.strips[i].out = take(&memory, STRIP * width);
        m.strips[i].maximum = take(&memory, STRIP);
        m.strips[i].sum = take(&memory, STRIP);
    }
    m.keys = take(&memory, KEYS * width);
    m.values = take(&memory, KEYS * width);
    m.scores = take(&memory, KEYS * STRIP);
    m.key_pairs = take(&memory, KEYS / 2 * STRIP);
    m.rows = take(&memory, KEYS * width);
    return m;
}

/* A tile of queries of one head: tokens `first` to end - 1 of the document that begins at token `origin` of its sequence. */
typedef struct query_tile {
    size_t sequence, head, origin, first, end;
} query_tile;

/* The queries of a strip that are there. Strips and tiles stand where they would stand in a pass over all tokens:
 * the first may begin with tokens of the past, whose lanes compute with zeros and are not stored. */
typedef struct lane_range {
    size_t from, until;
} lane_range;

static lane_range lanes_of(const mst_attention_args *a, const query_tile *tile, size_t query) {
    return (lane_range){.from = query < a->past ? a->past - query : 0,
                        .until = smaller(STRIP, tile->end - query)};
}

MST_INLINE void begin_strip(bool pairs, const forward_job *job, const query_tile *tile, size_t query,
                            float *rows, strip *s) {
    const mst_attention_args *a = job->args;
    const lane_range there = lanes_of(a, tile, query);
    size_t depth = depth_of(pairs, job->width), token = tile->origin + query + there.from - a->past;
    const void *q = element(a->q, token_offset(a, tile->sequence, token, a->ldq, tile->head), a->dtype);
    for (size_t i = 0; i < there.from * depth; i++) rows[i] = 0.0f;
    pack_operand(pairs, q, a->dtype, a->ldq, there.until - there.from, STRIP - there.from, a->head_dim,
                 (float)a->scale, rows + there.from * depth, job->width);
    transpose_strip(rows, depth, s->panel);
    for (size_t i = 0; i < STRIP * job->width; i++) s->out[i] = 0.0f;
    for (size_t i = 0; i < STRIP; i++) {
        s->maximum[i] = -__builtin_inff();
        s->sum[i] = 0.0f;
    }
}

/*
 * Turns scores into weights exp(scale score - maximum), and gives the factor for what was summed under the former
 * maximum. A maximum of -inf (all scores so far are -inf) is taken as 0, so that the weights are 0 and not
 * NaN. `masked`: some keys come after some queries; query - key is `distance`.
 */
MST_INLINE void weigh(float *scores, size_t keys, float scale, ptrdiff_t distance, bool masked, strip *s,
                      float *factor) {
    float base[STRIP], sum[STRIP] = {0};
    float *maximum = s->maximum;
    for (size_t i = 0; i < STRIP; i++) base[i] = maximum[i];
    for (size_t k = 0; k < keys; k++)
#pragma omp simd
        for (size_t i = 0; i < STRIP; i++) {
            float score = scale * scores[k * STRIP + i];
            bool seen = !masked || (int)k <= (int)distance + (int)i;
            score = seen ? score : -__builtin_inff();
            scores[k * STRIP + i] = score;
            base[i] = score > base[i] ? score : base[i];
        }
#pragma omp simd
    for (size_t i = 0; i < STRIP; i++) {
        float former = maximum[i];
        maximum[i] = base[i];
        base[i] = base[i] == -__builtin_inff() ? 0.0f : base[i];
        factor[i] = exp_flushed(former - base[i]);
    }
    for (size_t k = 0; k < keys; k++)
#pragma omp simd
        for (size_t i = 0; i < STRIP; i++) {
            float weight = exp_flushed(scores[k * STRIP + i] - base[i]);
            scores[k * STRIP + i] = weight;
            sum[i] += weight;
        }
#pragma omp simd
    for (size_t i = 0; i < STRIP; i++) s->sum[i] = fma_f32(s->sum[i], factor[i], sum[i]);
}

/* One strip of queries meets one tile of keys. */
MST_INLINE void visit(bool pairs, const forward_job *job, const forward_memory *m, strip *s, size_t query,
                      size_t key, size_t keys) {
    size_t width = job->width, seen = smaller(keys, query + STRIP - key), rows = round_up(seen, MR);
    float factor[STRIP], scale = pairs ? (float)job->args->scale : 1.0f; /* else the queries are scaled */
    multiply_scores(pairs, rows, depth_of(pairs, round_up(job->args->head_dim, 2)), m->keys,
                    depth_of(pairs, width), s->panel, m->scores);
    if (key + seen - 1 > query)
        weigh(m->scores, seen, scale, (ptrdiff_t)query - (ptrdiff_t)key, true, s, factor);
    else
        weigh(m->scores, seen, scale, 0, false, s, factor);
    if (pairs) pair_columns(m->scores, rows, m->key_pairs);
    for (size_t i = 0; i < STRIP; i++)
#pragma omp simd
        for (size_t d = 0; d < width; d++) s->out[i * width + d] *= factor[i];
    const weight_operands weights = {.weights = m->scores, .key_pairs = m->key_pairs};
    add_over_keys(pairs, query, key, seen, &weights, m->values, width, s->out);
}

static void end_strip(const forward_job *job, const query_tile *tile, size_t query, const strip *s) {
    const mst_attention_args *a = job->args;
    const lane_range there = lanes_of(a, tile, query);
    float *lse = (float *)a->lse + (tile->sequence * a->heads + tile->head) * a->seq_len;
    for (size_t i = there.from; i < there.until; i++) {
        size_t token = tile->origin + query + i - a->past;
        size_t at = token_offset(a, tile->sequence, token, a->heads * a->head_dim, tile->head);
        store_row(a->out, at, a->dtype, s->out + i * job->width, s->sum[i], a->head_dim);
        lse[token] = log_sum_exp(s->maximum[i], s->sum[i]);
    }
}

/* A tile of keys and values, as the products read them. */
MST_INLINE void load_tile(bool pairs, const forward_job *job, const forward_memory *m, const query_tile *tile,
                          size_t key, size_t keys) {
    const mst_attention_args *a = job->args;
    size_t kv_head = tile->head / (a->heads / a->kv_heads), token = tile->origin + key;
    const void *k = element(a->k, key_offset(a, tile->sequence, token, a->ldk, kv_head), a->dtype);
    const void *v = element(a->v, key_offset(a, tile->sequence, token, a->ldv, kv_head), a->dtype);
    pack_operand(pairs, k, a->dtype, a->ldk, keys, round_up(keys, MR), a->head_dim, 1.0f, m->keys,
                 job->width);
    pack_operand(pairs, v, a->dtype, a->ldv, keys, keys, a->head_dim, 1.0f, pairs ? m->rows : m->values,
                 job->width);
    if (pairs) pair_rows(m->rows, keys, job->width, m->values);
}

MST_INLINE void run_tile(bool pairs, const forward_job *job, forward_memory *m, const query_tile *tile) {
    size_t first = tile->first, strips = tiles_of(tile->end - first, STRIP);
    for (size_t i = 0; i < strips; i++)
        begin_strip(pairs, job, tile, first + i * STRIP, m->rows, &m->strips[i]);
    for (size_t key = 0; key < tile->end; key += KEYS) {
        size_t keys = smaller(KEYS, tile->end - key);
        load_tile(pairs, job, m, tile, key, keys);
        for (size_t i = 0; i < strips; i++) {
            size_t query = first + i * STRIP;
            if (query + STRIP > key) visit(pairs, job, m, &m->strips[i], query, key, keys);
        }
    }
    for (size_t i = 0; i < strips; i++) end_strip(job, tile, first + i * STRIP, &m->strips[i]);
}

/* Tokens `first` to `limit` - 1 of a sequence: those tiles of its documents that begin there. Without documents that is one
 * tile, which begins in the strip of the first token that is not past. */
MST_INLINE void run_tiles(bool pairs, const forward_job *job, forward_memory *m, size_t sequence, size_t head,
                          size_t first, size_t limit) {
    const mst_attention_args *a = job->args;
    for (size_t token = first, next; token < limit; token = next) {
        size_t origin = document_begin(a, sequence, token), inside = (token - origin) % QUERIES;
        next = document_end(a, sequence, token, smaller(a->past + a->seq_len, token - inside + QUERIES));
        if (inside > 0) continue;
        size_t begin = token < a->past ? a->past / STRIP * STRIP : token;
        run_tile(pairs, job, m, &(query_tile){sequence, head, origin, begin - origin, next - origin});
    }
}

/* Task: QUERIES tokens of one head, sequence by sequence. The last ones see most keys and go first. */
static mst_status forward_task(void *context, size_t task, int thread) {
    mst_status status = MST_OK;
    const forward_job *job = context;
    const mst_attention_args *a = job->args;
    size_t tile = job->first_tile + job->tiles - 1 - task % job->tiles, head = task / job->tiles % a->heads,
           sequence = task / job->tiles / a->heads;
    size_t first = tile * QUERIES, limit = smaller(a->past + a->seq_len, first + QUERIES);
    float *memory = mst_queue_scratch(job->queue, thread, job->scratch_bytes);
    MST_CHECK(memory != NULL, MST_ENOMEM, "attention_forward: no memory for %zu bytes of scratch",
              job->scratch_bytes);
    forward_memory m = lay_out(memory, job->width);
    if (takes_pairs(a))
        run_tiles(true, job, &m, sequence, head, first, limit);
    else
        run_tiles(false, job, &m, sequence, head, first, limit);
done:
    return status;
}

static mst_status mst_attention_forward_cpu(mst_queue *queue, const mst_attention_args *args) {
    mst_status status = MST_OK;
    if (is_empty(args)) return MST_OK;
    MST_TRY(check_attention("attention_forward", args));
    if (args->seq_len == 1) return MST_AT_LEVEL(mst_attention_row)(queue, args);
    forward_job job = {.args = args, .queue = queue};
    job.width = round_up(args->head_dim, PAD);
    job.first_tile = args->past / QUERIES;
    job.tiles = tiles_of(args->past + args->seq_len, QUERIES) - job.first_tile;
    job.scratch_bytes = forward_floats(job.width) * sizeof(float);
    for (int thread = 0; thread < mst_queue_threads(queue); thread++)
        MST_CHECK(mst_queue_scratch(queue, thread, job.scratch_bytes) != NULL, MST_ENOMEM,
                  "attention_forward: no memory for %zu bytes of scratch per thread", job.scratch_bytes);
    status = mst_queue_for(queue, args->sequences * args->heads * job.tiles, forward_task, &job);
done:
    return status;
}

void MST_AT_LEVEL(mst_cpu_fill_attention)(mst_kernels *table) {
    table->attention_forward = mst_attention_forward_cpu;
    MST_AT_LEVEL(mst_cpu_fill_attention_grad)(table);
}
