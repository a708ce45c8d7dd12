/* Attention forward in bf16 on tensor cores, with a running maximum: Dao et al. 2022 and 2023. */
#include "attention_tile.cuh"

enum { THREADS = ATTENTION_THREADS, ROWS = ATTENTION_ROWS, KEYS = 64 };

template <int D> constexpr size_t SHARED_BYTES = TILE_BYTES<ROWS, D> + 4 * TILE_BYTES<KEYS, D>;

/* A warp's 16 queries: the running maximum and sum of two rows for each lane, and the rows' weighted sums of values. */
template <int D> struct running { float max[2], sum[2], out[D / 8][4]; };

/* The weights of a tile of keys in place of its scores; what was summed so far is brought to the new maximum. A row sees keys
 * from begin[h] on; one that has not seen any yet has no maximum, and its weights are 0. */
template <int D, bool DOCUMENTS>
MST_DEVICE void weigh(float (&p)[KEYS / 8][4], running<D> &r, float scale2, bool masked, size_t key,
                      size_t row, const size_t (&begin)[2]) {
    float max[2] = {-INFINITY, -INFINITY}, base[2], kept[2];
    MST_UNROLL for (int n = 0; n < KEYS / 8; n++) MST_UNROLL for (int i = 0; i < 4; i++) {
        p[n][i] *= scale2;
        size_t at = key + 8 * n + fragment_col(i);
        if (masked && (at > row + fragment_row(i) || (DOCUMENTS && at < begin[i / 2]))) p[n][i] = -INFINITY;
        max[i / 2] = fmaxf(max[i / 2], p[n][i]);
    }
    MST_UNROLL for (int h = 0; h < 2; h++) {
        max[h] = fmaxf(r.max[h], quad_max(max[h]));
        base[h] = DOCUMENTS && key + KEYS <= begin[h] ? 0.0f : max[h];
        kept[h] = exp2_fast(r.max[h] - base[h]);
        r.max[h] = max[h];
        r.sum[h] *= kept[h];
    }
    MST_UNROLL for (int n = 0; n < KEYS / 8; n++) MST_UNROLL for (int i = 0; i < 4; i++) {
        p[n][i] = exp2_fast(p[n][i] - base[i / 2]);
        r.sum[i / 2] += p[n][i];
    }
    MST_UNROLL for (int n = 0; n < D / 8; n++) MST_UNROLL for (int i = 0; i < 4; i++) r.out[n][i] *=
        kept[i / 2];
}

template <int D, bool DOCUMENTS>
MST_KERNEL_BLOCKS(THREADS, 3)
forward_bf16(attention_shape s, const bf16 *q_all, const bf16 *k_all, const bf16 *v_all, bf16 *out_all,
             float *lse_all) {
    MST_SHARED_DYNAMIC(memory);
    MST_SHARED(unsigned, found, THREADS / 32);
    bf16 *q_tile = reinterpret_cast<bf16 *>(memory), *k_tiles = q_tile + ROWS * STRIDE<D>,
         *v_tiles = k_tiles + 2 * KEYS * STRIDE<D>;
    size_t sequence = blockIdx.x / s.heads, head = blockIdx.x % s.heads,
           kv_head = head / (s.heads / s.kv_heads);
    size_t tile = s.past / ROWS + gridDim.y - 1 - blockIdx.y,
           keys = s.past + s.seq_len; /* the longest rows first */
    const bf16 *k = rows_of(k_all, sequence, keys, s.ldk, kv_head, s.head_dim);
    const bf16 *v = rows_of(v_all, sequence, keys, s.ldv, kv_head, s.head_dim);
    unsigned warp_row = threadIdx.x / 32 * 16;
    long long first_token = (long long)(tile * ROWS) - (long long)s.past;
    size_t from = 0;   /* the tile of the first key that a query of the block sees */
    size_t newest = 0; /* where its last query's document begins: keys before are not seen by all */
    size_t begin[2] = {0, 0};
    if (DOCUMENTS) {
        from = document_begin(s, sequence, tile * ROWS) / KEYS;
        newest = document_begin(s, sequence, smaller(tile * ROWS + ROWS, keys) - 1);
        row_begins(s, sequence, tile * ROWS + warp_row, begin);
    }
    load_tile<ROWS, D, THREADS>(q_tile, rows_of(q_all, sequence, s.seq_len, s.ldq, head, s.head_dim), s.ldq,
                                first_token, (long long)s.seq_len, s.head_dim, s.wide);
    load_tile<KEYS, D, THREADS>(k_tiles + from % 2 * KEYS * STRIDE<D>, k, s.ldk, (long long)(from * KEYS),
                                (long long)keys, s.head_dim, s.wide);
    load_tile<KEYS, D, THREADS>(v_tiles + from % 2 * KEYS * STRIDE<D>, v, s.ldv, (long long)(from * KEYS),
                                (long long)keys, s.head_dim, s.wide);
    async_commit();
    running<D> r = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}, {}};
    for (size_t n = from; n <= tile; n++) { /* tiles of keys are as long as tiles of queries */
        bf16 *k_tile = k_tiles + n % 2 * KEYS * STRIDE<D>, *v_tile = v_tiles + n % 2 * KEYS * STRIDE<D>;
        if (n < tile) {
            size_t next = (n + 1) % 2 * KEYS * STRIDE<D>;
            load_tile<KEYS, D, THREADS>(k_tiles + next, k, s.ldk, (long long)(n + 1) * KEYS, (long long)keys,
                                        s.head_dim, s.wide);
            load_tile<KEYS, D, THREADS>(v_tiles + next, v, s.ldv, (long long)(n + 1) * KEYS, (long long)keys,
                                        s.head_dim, s.wide);
        }
        async_commit();
        async_wait<1>();
        __syncthreads();
        float p[KEYS / 8][4];
        multiply_rows<KEYS, D>(p, q_tile, warp_row, k_tile);
        bool masked = n == tile || (DOCUMENTS && n * KEYS < newest);
        weigh<D, DOCUMENTS>(p, r, s.scale2, masked, n * KEYS, tile * ROWS + warp_row, begin);
        bool odd = masked && take_odd<KEYS, D>(v_tile, found);
        add_product<KEYS, D>(r.out, p, v_tile);
        if (odd) {
            row_range seen;
            MST_UNROLL for (int h = 0; h < 2; h++) {
                size_t row = tile * ROWS + warp_row + fragment_row(2 * h);
                seen.from[h] = larger(n * KEYS, begin[h]);
                seen.to[h] = smaller(smaller(n * KEYS + KEYS, keys), row + 1);
            }
            add_odd<D>(r.out, v, s.ldv, seen, s.head_dim, false);
        }
        __syncthreads();
    }
    async_wait<0>();
    float inverse[2];
    MST_UNROLL for (int h = 0; h < 2; h++) {
        float sum = quad_sum(r.sum[h]);
        long long token = first_token + warp_row + fragment_row(2 * h);
        inverse[h] = 1.0f / sum;
        if (threadIdx.x % 4 == 0 && token >= 0 && token < (long long)s.seq_len)
            lse_all[blockIdx.x * s.seq_len + (size_t)token] = r.max[h] * LN_2 + logf(sum);
    }
    store_rows<D>(r.out, inverse, rows_of(out_all, sequence, s.seq_len, s.ldo, head, s.head_dim), s.ldo,
                  first_token + warp_row, (long long)s.seq_len, s.head_dim, s.wide);
}

template <int D, bool DOCUMENTS> static mst_status start(mst_cuda *cuda, const mst_attention_args *a) {
    const attention_shape s = mst_attention_shape_of(a);
    dim3 grid;
    size_t tiles = (a->past + a->seq_len + ROWS - 1) / ROWS - a->past / ROWS;
    MST_RETURN_IF(mst_attention_grid("attention_forward", tiles, a->sequences * a->heads, &grid));
    MST_RETURN_IF(allow_shared(cuda, forward_bf16<D, DOCUMENTS>, SHARED_BYTES<D>));
    return MST_LAUNCH(cuda, (forward_bf16<D, DOCUMENTS>), grid, THREADS, SHARED_BYTES<D>, s,
                      static_cast<const bf16 *>(a->q), static_cast<const bf16 *>(a->k),
                      static_cast<const bf16 *>(a->v), static_cast<bf16 *>(a->out),
                      static_cast<float *>(a->lse));
}

mst_status mst_attention_forward_bf16(mst_cuda *cuda, const mst_attention_args *a) {
    if (a->starts) return a->head_dim <= 64 ? start<64, true>(cuda, a) : start<128, true>(cuda, a);
    return a->head_dim <= 64 ? start<64, false>(cuda, a) : start<128, false>(cuda, a);
}
