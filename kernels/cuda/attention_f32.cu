/*
 * Attention in fp32 on the ordinary units. A warp has a query (dk and dv: a key); its lanes have a key each while they
 * compute scores, and elements of the head each while they add up rows. A block's eight warps share a tile of rows.
 */
#include "attention.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS, HEAD = 128, PITCH = HEAD + 1, PARTS = HEAD / 32 };
constexpr unsigned TILE = 32;

/* Rows first to first + TILE, as far as there are `rows`, into shared memory. */
MST_DEVICE void load_rows(float *tile, const float *matrix, size_t ld, size_t first, size_t rows,
                          unsigned head_dim) {
    MST_UNROLL_BY(1)
    for (unsigned r = threadIdx.x / 32; r < TILE && first + r < rows; r += WARPS)
        for (unsigned d = threadIdx.x % 32; d < head_dim; d += 32)
            tile[r * PITCH + d] = matrix[(first + r) * ld + d];
}

/* One row for each warp. */
MST_DEVICE void load_own(float *own, const float *row, unsigned head_dim) {
    for (unsigned d = threadIdx.x % 32; d < head_dim; d += 32) own[d] = row[d];
}

MST_DEVICE float dot(const float *a, const float *b, unsigned head_dim) {
    float sum = 0.0f;
    MST_UNROLL_BY(4) for (unsigned d = 0; d < head_dim; d++) sum = fmaf(a[d], b[d], sum);
    return sum;
}

/* out[d] += sum over the tile's first `count` rows of factor[row] row[d]; lanes have every 32nd d. */
MST_DEVICE void add_rows(float (&out)[PARTS], const float *factor, const float *tile, unsigned count,
                         unsigned head_dim) {
    MST_UNROLL_BY(2) for (unsigned r = 0; r < count; r++) MST_UNROLL for (int i = 0; i < PARTS; i++) {
        unsigned d = threadIdx.x % 32 + 32 * i;
        if (d < head_dim) out[i] = fmaf(factor[r], tile[r * PITCH + d], out[i]);
    }
}

MST_DEVICE float warp_max(float x) {
    MST_UNROLL for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* Of a tile's first `count` rows from position j on, how many stand before `begin`. */
MST_DEVICE unsigned rows_before(size_t begin, size_t j, unsigned count) {
    return begin <= j ? 0 : begin - j < count ? (unsigned)(begin - j) : count;
}

/* ---------------------------------------------------------------- forward */

MST_KERNEL(THREADS)
forward_f32(attention_shape s, const float *q_all, const float *k_all, const float *v_all, float *out_all,
            float *lse_all) {
    MST_SHARED(float, tile, TILE *PITCH);
    MST_SHARED(float, q_shared, WARPS *HEAD);
    MST_SHARED(float, p_shared, WARPS *TILE);
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    size_t sequence = blockIdx.x / s.heads, head = blockIdx.x % s.heads,
           kv_head = head / (s.heads / s.kv_heads);
    size_t keys = s.past + s.seq_len, first = (s.past / WARPS + blockIdx.y) * WARPS, at = first + warp;
    bool inside = at >= s.past && at < keys; /* its position in the whole sequence */
    size_t token = inside ? at - s.past : 0;
    const float *k = rows_of(k_all, sequence, keys, s.ldk, kv_head, s.head_dim);
    const float *v = rows_of(v_all, sequence, keys, s.ldv, kv_head, s.head_dim);
    float *q = q_shared + warp * HEAD, *p = p_shared + warp * TILE;
    load_own(q, rows_of(q_all, sequence, s.seq_len, s.ldq, head, s.head_dim) + token * s.ldq, s.head_dim);
    float out[PARTS] = {0.0f}, max = -INFINITY, sum = 0.0f;
    size_t end = first + WARPS < keys ? first + WARPS : keys; /* keys that some query of the block sees */
    size_t begin = document_begin(s, sequence, token);        /* the first that this one sees */
    for (size_t j = document_begin(s, sequence, first) / TILE * TILE; j < end; j += TILE) {
        unsigned count = !inside || at < j ? 0 : at - j + 1 < TILE ? (unsigned)(at - j) + 1 : TILE;
        unsigned skipped = rows_before(begin, j, count);
        bool seen = lane >= skipped && lane < count;
        __syncthreads();
        load_rows(tile, k, s.ldk, j, keys, s.head_dim);
        __syncthreads();
        float score = seen ? dot(q, tile + lane * PITCH, s.head_dim) * s.scale2 : -INFINITY;
        float new_max = fmaxf(max, warp_max(score));
        float weight = seen ? exp2_fast(score - new_max) : 0.0f;
        float kept = count > skipped ? exp2_fast(max - new_max) : 1.0f;
        p[lane] = weight;
        sum = sum * kept + warp_sum(weight);
        MST_UNROLL for (int i = 0; i < PARTS; i++) out[i] *= kept;
        max = new_max;
        __syncthreads();
        load_rows(tile, v, s.ldv, j, keys, s.head_dim);
        __syncthreads();
        add_rows(out, p + skipped, tile + skipped * PITCH, count - skipped, s.head_dim);
    }
    if (!inside) return;
    float *to = rows_of(out_all, sequence, s.seq_len, s.ldo, head, s.head_dim) + token * s.ldo;
    MST_UNROLL for (int i = 0; i < PARTS; i++) if (lane + 32 * i < s.head_dim) to[lane + 32 * i] =
        out[i] / sum;
    if (lane == 0) lse_all[blockIdx.x * s.seq_len + token] = max * LN_2 + logf(sum);
}

mst_status mst_attention_forward_f32(mst_cuda *cuda, const mst_attention_args *a) {
    const attention_shape s = mst_attention_shape_of(a);
    dim3 grid;
    size_t tiles = (a->past + a->seq_len + WARPS - 1) / WARPS - a->past / WARPS;
    MST_RETURN_IF(mst_attention_grid("attention_forward", tiles, a->sequences * a->heads, &grid));
    return MST_LAUNCH(cuda, forward_f32, grid, THREADS, 0, s, static_cast<const float *>(a->q),
                      static_cast<const float *>(a->k), static_cast<const float *>(a->v),
                      static_cast<float *>(a->out), static_cast<float *>(a->lse));
}

/* ---------------------------------------------------------------- backward */

/* With p = exp(score - lse): ds = p (dout . v - dout . out), dq = scale sum ds k. */
MST_KERNEL(THREADS)
backward_q_f32(attention_shape s, const float *q_all, const float *k_all, const float *v_all,
               const float *lse_all, const float *dout_all, const float *work, float *dq_all) {
    MST_SHARED(float, tile, TILE *PITCH);
    MST_SHARED(float, q_shared, WARPS *HEAD);
    MST_SHARED(float, dout_shared, WARPS *HEAD);
    MST_SHARED(float, ds_shared, WARPS *TILE);
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    size_t sequence = blockIdx.x / s.heads, head = blockIdx.x % s.heads,
           kv_head = head / (s.heads / s.kv_heads);
    size_t first = (size_t)blockIdx.y * WARPS, token = first + warp;
    bool inside = token < s.seq_len;
    if (!inside) token = 0;
    const float *k = rows_of(k_all, sequence, s.seq_len, s.ldk, kv_head, s.head_dim);
    const float *v = rows_of(v_all, sequence, s.seq_len, s.ldv, kv_head, s.head_dim);
    float *q = q_shared + warp * HEAD, *dout = dout_shared + warp * HEAD, *ds = ds_shared + warp * TILE;
    load_own(q, rows_of(q_all, sequence, s.seq_len, s.ldq, head, s.head_dim) + token * s.ldq, s.head_dim);
    load_own(dout, rows_of(dout_all, sequence, s.seq_len, s.ldo, head, s.head_dim) + token * s.ldo,
             s.head_dim);
    float lse = lse_all[blockIdx.x * s.seq_len + token] * LOG2_E, own = work[blockIdx.x * s.seq_len + token];
    float dq[PARTS] = {0.0f};
    size_t end = first + WARPS < s.seq_len ? first + WARPS : s.seq_len;
    size_t begin = document_begin(s, sequence, token);
    for (size_t j = document_begin(s, sequence, first) / TILE * TILE; j < end; j += TILE) {
        unsigned count = !inside || token < j ? 0 : token - j + 1 < TILE ? (unsigned)(token - j) + 1 : TILE;
        unsigned skipped = rows_before(begin, j, count);
        bool seen = lane >= skipped && lane < count;
        __syncthreads();
        load_rows(tile, v, s.ldv, j, s.seq_len, s.head_dim);
        __syncthreads();
        float dp = seen ? dot(dout, tile + lane * PITCH, s.head_dim) : 0.0f;
        __syncthreads();
        load_rows(tile, k, s.ldk, j, s.seq_len, s.head_dim);
        __syncthreads();
        float score = seen ? dot(q, tile + lane * PITCH, s.head_dim) * s.scale2 : 0.0f;
        ds[lane] = seen ? exp2_fast(score - lse) * (dp - own) : 0.0f;
        __syncwarp();
        add_rows(dq, ds + skipped, tile + skipped * PITCH, count - skipped, s.head_dim);
    }
    if (!inside) return;
    float *to = rows_of(dq_all, sequence, s.seq_len, s.ldq, head, s.head_dim) + token * s.ldq;
    MST_UNROLL for (int i = 0; i < PARTS; i++) if (lane + 32 * i < s.head_dim) to[lane + 32 * i] =
        s.scale * dq[i];
}

/* dk = scale sum ds q and dv = sum p dout over the queries that see a key, of all heads that share it, in order. */
MST_KERNEL(THREADS)
backward_kv_f32(attention_shape s, const float *q_all, const float *k_all, const float *v_all,
                const float *lse_all, const float *dout_all, const float *work, float *dk_all,
                float *dv_all) {
    MST_SHARED(float, tile, TILE *PITCH);
    MST_SHARED(float, k_shared, WARPS *HEAD);
    MST_SHARED(float, v_shared, WARPS *HEAD);
    MST_SHARED(float, p_shared, WARPS *TILE);
    MST_SHARED(float, ds_shared, WARPS *TILE);
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    size_t group = s.heads / s.kv_heads, sequence = blockIdx.x / s.kv_heads,
           kv_head = blockIdx.x % s.kv_heads;
    size_t first = (size_t)blockIdx.y * WARPS, key = first + warp;
    bool inside = key < s.seq_len;
    if (!inside) key = 0;
    float *k = k_shared + warp * HEAD, *v = v_shared + warp * HEAD;
    float *p = p_shared + warp * TILE, *ds = ds_shared + warp * TILE;
    load_own(k, rows_of(k_all, sequence, s.seq_len, s.ldk, kv_head, s.head_dim) + key * s.ldk, s.head_dim);
    load_own(v, rows_of(v_all, sequence, s.seq_len, s.ldv, kv_head, s.head_dim) + key * s.ldv, s.head_dim);
    float dk[PARTS] = {0.0f}, dv[PARTS] = {0.0f};
    size_t last = first + WARPS < s.seq_len ? first + WARPS - 1 : s.seq_len - 1;
    size_t end = document_end(s, sequence, last), own_end = document_end(s, sequence, key);
    for (size_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        const float *q = rows_of(q_all, sequence, s.seq_len, s.ldq, head, s.head_dim);
        const float *dout = rows_of(dout_all, sequence, s.seq_len, s.ldo, head, s.head_dim);
        size_t statistics = (sequence * s.heads + head) * s.seq_len;
        for (size_t t = first / TILE * TILE; t < end; t += TILE) {
            size_t token = t + lane;
            bool seen = inside && token >= key && token < own_end;
            unsigned skipped = rows_before(key, t, TILE);
            unsigned rows = rows_before(own_end, t, TILE);
            unsigned count = inside && skipped < rows ? rows - skipped : 0;
            __syncthreads();
            load_rows(tile, q, s.ldq, t, s.seq_len, s.head_dim);
            __syncthreads();
            float score = seen ? dot(k, tile + lane * PITCH, s.head_dim) * s.scale2 : 0.0f;
            float weight = seen ? exp2_fast(score - lse_all[statistics + token] * LOG2_E) : 0.0f;
            __syncthreads();
            load_rows(tile, dout, s.ldo, t, s.seq_len, s.head_dim);
            __syncthreads();
            float dp = seen ? dot(v, tile + lane * PITCH, s.head_dim) : 0.0f;
            p[lane] = weight;
            ds[lane] = seen ? weight * (dp - work[statistics + token]) : 0.0f;
            __syncwarp();
            add_rows(dv, p + skipped, tile + skipped * PITCH, count, s.head_dim);
            __syncthreads();
            load_rows(tile, q, s.ldq, t, s.seq_len, s.head_dim);
            __syncthreads();
            add_rows(dk, ds + skipped, tile + skipped * PITCH, count, s.head_dim);
        }
    }
    if (!inside) return;
    float *to_k = rows_of(dk_all, sequence, s.seq_len, s.ldk, kv_head, s.head_dim) + key * s.ldk;
    float *to_v = rows_of(dv_all, sequence, s.seq_len, s.ldv, kv_head, s.head_dim) + key * s.ldv;
    MST_UNROLL for (int i = 0; i < PARTS; i++) {
        if (lane + 32 * i >= s.head_dim) break;
        to_k[lane + 32 * i] = s.scale * dk[i];
        to_v[lane + 32 * i] = dv[i];
    }
}

mst_status mst_attention_backward_f32(mst_cuda *cuda, const mst_attention_args *a) {
    attention_shape s = mst_attention_shape_of(a);
    size_t tiles = (a->seq_len + WARPS - 1) / WARPS;
    const float *q = static_cast<const float *>(a->q), *k = static_cast<const float *>(a->k),
                *v = static_cast<const float *>(a->v), *lse = static_cast<const float *>(a->lse),
                *dout = static_cast<const float *>(a->dout), *work = static_cast<const float *>(a->work);
    dim3 grid;
    MST_RETURN_IF(mst_attention_grid("attention_backward", tiles, a->sequences * a->heads, &grid));
    MST_RETURN_IF(MST_LAUNCH(cuda, backward_q_f32, grid, THREADS, 0, s, q, k, v, lse, dout, work,
                             static_cast<float *>(a->dq)));
    MST_RETURN_IF(mst_attention_grid("attention_backward", tiles, a->sequences * a->kv_heads, &grid));
    return MST_LAUNCH(cuda, backward_kv_f32, grid, THREADS, 0, s, q, k, v, lse, dout, work,
                      static_cast<float *>(a->dk), static_cast<float *>(a->dv));
}
