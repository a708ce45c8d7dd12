/* Attention backward in bf16 on tensor cores: one kernel for dq, one for dk and dv, so that no two blocks add to the same
 * element. */
#include "attention_tile.cuh"

enum { THREADS = ATTENTION_THREADS, ROWS = ATTENTION_ROWS };

/* Rows of a tile that moves: as many as leave the accumulators in registers. */
template <int D> constexpr int STEP = D <= 64 ? 64 : 32;

template <int D> constexpr size_t SHARED_BYTES = 2 * TILE_BYTES<ROWS, D> + 4 * TILE_BYTES<STEP<D>, D>;

/* ---------------------------------------------------------------- dq */

/* dq = scale sum over keys of ds k, ds = p (dout . v - dout . out), p = exp(score - lse). */
template <int D, bool DOCUMENTS>
MST_KERNEL_BLOCKS(THREADS, 2)
backward_q_bf16(attention_shape s, const bf16 *q_all, const bf16 *k_all, const bf16 *v_all,
                const float *lse_all, const bf16 *dout_all, const float *work, bf16 *dq_all) {
    constexpr int KEYS = STEP<D>;
    MST_SHARED_DYNAMIC(memory);
    MST_SHARED(unsigned, found, THREADS / 32);
    bf16 *q_tile = reinterpret_cast<bf16 *>(memory), *dout_tile = q_tile + ROWS * STRIDE<D>,
         *k_tiles = dout_tile + ROWS * STRIDE<D>, *v_tiles = k_tiles + 2 * KEYS * STRIDE<D>;
    size_t sequence = blockIdx.x / s.heads, head = blockIdx.x % s.heads,
           kv_head = head / (s.heads / s.kv_heads);
    size_t first = (size_t)(gridDim.y - 1 - blockIdx.y) * ROWS; /* the longest rows first */
    long long rows = (long long)s.seq_len;
    const bf16 *k = rows_of(k_all, sequence, s.seq_len, s.ldk, kv_head, s.head_dim);
    const bf16 *v = rows_of(v_all, sequence, s.seq_len, s.ldv, kv_head, s.head_dim);
    unsigned warp_row = threadIdx.x / 32 * 16;
    size_t from = 0;   /* the tile of the first key that a query of the block sees */
    size_t newest = 0; /* where its last query's document begins: keys before are not seen by all */
    size_t begin[2] = {0, 0};
    if (DOCUMENTS) {
        from = document_begin(s, sequence, first) / KEYS;
        newest = document_begin(s, sequence, smaller(first + ROWS, s.seq_len) - 1);
        row_begins(s, sequence, first + warp_row, begin);
    }
    load_tile<ROWS, D, THREADS>(q_tile, rows_of(q_all, sequence, s.seq_len, s.ldq, head, s.head_dim), s.ldq,
                                (long long)first, rows, s.head_dim, s.wide);
    load_tile<ROWS, D, THREADS>(dout_tile, rows_of(dout_all, sequence, s.seq_len, s.ldo, head, s.head_dim),
                                s.ldo, (long long)first, rows, s.head_dim, s.wide);
    load_tile<KEYS, D, THREADS>(k_tiles + from % 2 * KEYS * STRIDE<D>, k, s.ldk, (long long)(from * KEYS),
                                rows, s.head_dim, s.wide);
    load_tile<KEYS, D, THREADS>(v_tiles + from % 2 * KEYS * STRIDE<D>, v, s.ldv, (long long)(from * KEYS),
                                rows, s.head_dim, s.wide);
    async_commit();
    float lse[2], own[2], dq[D / 8][4] = {};
    MST_UNROLL for (int h = 0; h < 2; h++) {
        size_t token = first + warp_row + fragment_row(2 * h), at = blockIdx.x * s.seq_len + token;
        lse[h] = token < s.seq_len ? lse_all[at] * LOG2_E : 0.0f;
        own[h] = token < s.seq_len ? work[at] : 0.0f;
    }
    size_t end = first + ROWS < s.seq_len ? first + ROWS : s.seq_len, steps = (end + KEYS - 1) / KEYS;
    for (size_t n = from; n < steps; n++) {
        bf16 *k_tile = k_tiles + n % 2 * KEYS * STRIDE<D>, *v_tile = v_tiles + n % 2 * KEYS * STRIDE<D>;
        if (n + 1 < steps) {
            size_t next = (n + 1) % 2 * KEYS * STRIDE<D>;
            load_tile<KEYS, D, THREADS>(k_tiles + next, k, s.ldk, (long long)(n + 1) * KEYS, rows, s.head_dim,
                                        s.wide);
            load_tile<KEYS, D, THREADS>(v_tiles + next, v, s.ldv, (long long)(n + 1) * KEYS, rows, s.head_dim,
                                        s.wide);
        }
        async_commit();
        async_wait<1>();
        __syncthreads();
        float p[KEYS / 8][4], dp[KEYS / 8][4];
        multiply_rows<KEYS, D>(p, q_tile, warp_row, k_tile);
        multiply_rows<KEYS, D>(dp, dout_tile, warp_row, v_tile);
        bool masked = (n + 1) * KEYS > first + 1 || (DOCUMENTS && n * KEYS < newest);
        MST_UNROLL for (int m = 0; m < KEYS / 8; m++) MST_UNROLL for (int i = 0; i < 4; i++) {
            size_t key = n * KEYS + 8 * m + fragment_col(i);
            bool seen =
                !masked || (key <= first + warp_row + fragment_row(i) && (!DOCUMENTS || key >= begin[i / 2]));
            p[m][i] = seen ? exp2_fast(p[m][i] * s.scale2 - lse[i / 2]) * (dp[m][i] - own[i / 2]) : 0.0f;
        }
        bool odd = masked && take_odd<KEYS, D>(k_tile, found);
        add_product<KEYS, D>(dq, p, k_tile);
        if (odd) {
            row_range seen;
            MST_UNROLL for (int h = 0; h < 2; h++) {
                size_t row = first + warp_row + fragment_row(2 * h);
                seen.from[h] = larger(n * KEYS, begin[h]);
                seen.to[h] = smaller(smaller((n + 1) * KEYS, s.seq_len), row + 1);
            }
            add_odd<D>(dq, k, s.ldk, seen, s.head_dim, true);
        }
        __syncthreads();
    }
    async_wait<0>();
    const float factor[2] = {s.scale, s.scale};
    store_rows<D>(dq, factor, rows_of(dq_all, sequence, s.seq_len, s.ldq, head, s.head_dim), s.ldq,
                  (long long)(first + warp_row), rows, s.head_dim, s.wide);
}

/* ---------------------------------------------------------------- dk and dv */

/* dk = scale sum over queries of ds q, dv = sum p dout: the heads that share a key's head in order, of each the tiles of
 * queries in order. */
template <int D, bool DOCUMENTS>
MST_KERNEL_BLOCKS(THREADS, 2)
backward_kv_bf16(attention_shape s, const bf16 *q_all, const bf16 *k_all, const bf16 *v_all,
                 const float *lse_all, const bf16 *dout_all, const float *work, bf16 *dk_all, bf16 *dv_all) {
    constexpr int QUERIES = STEP<D>;
    MST_SHARED_DYNAMIC(memory);
    MST_SHARED(unsigned, found, THREADS / 32);
    MST_SHARED(float, lse, QUERIES);
    MST_SHARED(float, own, QUERIES);
    bf16 *k_tile = reinterpret_cast<bf16 *>(memory), *v_tile = k_tile + ROWS * STRIDE<D>,
         *q_tiles = v_tile + ROWS * STRIDE<D>, *dout_tiles = q_tiles + 2 * QUERIES * STRIDE<D>;
    size_t group = s.heads / s.kv_heads, sequence = blockIdx.x / s.kv_heads,
           kv_head = blockIdx.x % s.kv_heads;
    size_t first = (size_t)blockIdx.y * ROWS; /* the keys that most queries see come first */
    long long rows = (long long)s.seq_len;
    unsigned warp_row = threadIdx.x / 32 * 16;
    load_tile<ROWS, D, THREADS>(k_tile, rows_of(k_all, sequence, s.seq_len, s.ldk, kv_head, s.head_dim),
                                s.ldk, (long long)first, rows, s.head_dim, s.wide);
    load_tile<ROWS, D, THREADS>(v_tile, rows_of(v_all, sequence, s.seq_len, s.ldv, kv_head, s.head_dim),
                                s.ldv, (long long)first, rows, s.head_dim, s.wide);
    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    /* Where the document ends of the block's last key, of its first one, and of the lane's keys. */
    size_t last_end = s.seq_len, first_end = s.seq_len, end[2] = {s.seq_len, s.seq_len};
    if (DOCUMENTS) {
        last_end = document_end(s, sequence, smaller(first + ROWS, s.seq_len) - 1);
        first_end = document_end(s, sequence, first);
        row_ends(s, sequence, first + warp_row, end);
    }
    /* step n of all: a head of the group, and a tile of its queries from the one of the first key on */
    size_t tiles = (last_end - first + QUERIES - 1) / QUERIES, steps = group * tiles;
    for (size_t n = 0; n <= steps; n++) {
        if (n < steps) { /* begin the next tile, then work on the one before */
            size_t head = kv_head * group + n / tiles, stage = n % 2 * QUERIES * STRIDE<D>;
            long long t = (long long)(first + n % tiles * QUERIES);
            load_tile<QUERIES, D, THREADS>(q_tiles + stage,
                                           rows_of(q_all, sequence, s.seq_len, s.ldq, head, s.head_dim),
                                           s.ldq, t, rows, s.head_dim, s.wide);
            load_tile<QUERIES, D, THREADS>(dout_tiles + stage,
                                           rows_of(dout_all, sequence, s.seq_len, s.ldo, head, s.head_dim),
                                           s.ldo, t, rows, s.head_dim, s.wide);
        }
        async_commit();
        if (n == 0) continue;
        size_t head = kv_head * group + (n - 1) / tiles, t = first + (n - 1) % tiles * QUERIES;
        size_t statistics = (sequence * s.heads + head) * s.seq_len;
        bf16 *q_tile = q_tiles + (n - 1) % 2 * QUERIES * STRIDE<D>,
             *dout_tile = dout_tiles + (n - 1) % 2 * QUERIES * STRIDE<D>;
        if (threadIdx.x < QUERIES) {
            size_t token = t + threadIdx.x;
            lse[threadIdx.x] = token < s.seq_len ? lse_all[statistics + token] * LOG2_E : 0.0f;
            own[threadIdx.x] = token < s.seq_len ? work[statistics + token] : 0.0f;
        }
        async_wait<1>();
        __syncthreads();
        float p[QUERIES / 8][4], ds[QUERIES / 8][4];
        multiply_rows<QUERIES, D>(p, k_tile, warp_row, q_tile);
        multiply_rows<QUERIES, D>(ds, v_tile, warp_row, dout_tile);
        bool masked = t < first + ROWS || t + QUERIES > first_end;
        MST_UNROLL for (int m = 0; m < QUERIES / 8; m++) MST_UNROLL for (int i = 0; i < 4; i++) {
            unsigned column = 8 * m + fragment_col(i);
            size_t token = t + column;
            bool seen = !masked || (token >= first + warp_row + fragment_row(i) && token < end[i / 2]);
            p[m][i] = seen ? exp2_fast(p[m][i] * s.scale2 - lse[column]) : 0.0f;
            ds[m][i] = seen ? p[m][i] * (ds[m][i] - own[column]) : 0.0f;
        }
        row_range queries;
        MST_UNROLL for (int h = 0; h < 2; h++) {
            queries.from[h] = larger(t, first + warp_row + fragment_row(2 * h));
            queries.to[h] = smaller(t + QUERIES, end[h]);
        }
        bool odd = masked && take_odd<QUERIES, D>(dout_tile, found);
        add_product<QUERIES, D>(dv, p, dout_tile);
        if (odd)
            add_odd<D>(dv, rows_of(dout_all, sequence, s.seq_len, s.ldo, head, s.head_dim), s.ldo, queries,
                       s.head_dim, false);
        odd = masked && take_odd<QUERIES, D>(q_tile, found);
        add_product<QUERIES, D>(dk, ds, q_tile);
        if (odd)
            add_odd<D>(dk, rows_of(q_all, sequence, s.seq_len, s.ldq, head, s.head_dim), s.ldq, queries,
                       s.head_dim, true);
        __syncthreads();
    }
    async_wait<0>();
    const float scale[2] = {s.scale, s.scale}, one[2] = {1.0f, 1.0f};
    store_rows<D>(dk, scale, rows_of(dk_all, sequence, s.seq_len, s.ldk, kv_head, s.head_dim), s.ldk,
                  (long long)(first + warp_row), rows, s.head_dim, s.wide);
    store_rows<D>(dv, one, rows_of(dv_all, sequence, s.seq_len, s.ldv, kv_head, s.head_dim), s.ldv,
                  (long long)(first + warp_row), rows, s.head_dim, s.wide);
}

template <int D, bool DOCUMENTS> static mst_status start(mst_cuda *cuda, const mst_attention_args *a) {
    attention_shape s = mst_attention_shape_of(a);
    s.wide = s.wide && mst_is_wide(a->dq) && mst_is_wide(a->dk) && mst_is_wide(a->dv);
    size_t tiles = (a->seq_len + ROWS - 1) / ROWS;
    const bf16 *q = static_cast<const bf16 *>(a->q), *k = static_cast<const bf16 *>(a->k),
               *v = static_cast<const bf16 *>(a->v), *dout = static_cast<const bf16 *>(a->dout);
    const float *lse = static_cast<const float *>(a->lse), *work = static_cast<const float *>(a->work);
    dim3 grid;
    MST_RETURN_IF(mst_attention_grid("attention_backward", tiles, a->sequences * a->heads, &grid));
    MST_RETURN_IF(allow_shared(cuda, backward_q_bf16<D, DOCUMENTS>, SHARED_BYTES<D>));
    MST_RETURN_IF(allow_shared(cuda, backward_kv_bf16<D, DOCUMENTS>, SHARED_BYTES<D>));
    MST_RETURN_IF(MST_LAUNCH(cuda, (backward_q_bf16<D, DOCUMENTS>), grid, THREADS, SHARED_BYTES<D>, s, q, k,
                             v, lse, dout, work, static_cast<bf16 *>(a->dq)));
    MST_RETURN_IF(mst_attention_grid("attention_backward", tiles, a->sequences * a->kv_heads, &grid));
    return MST_LAUNCH(cuda, (backward_kv_bf16<D, DOCUMENTS>), grid, THREADS, SHARED_BYTES<D>, s, q, k, v, lse,
                      dout, work, static_cast<bf16 *>(a->dk), static_cast<bf16 *>(a->dv));
}

mst_status mst_attention_backward_bf16(mst_cuda *cuda, const mst_attention_args *a) {
    if (a->starts) return a->head_dim <= 64 ? start<64, true>(cuda, a) : start<128, true>(cuda, a);
    return a->head_dim <= 64 ? start<64, false>(cuda, a) : start<128, false>(cuda, a);
}
