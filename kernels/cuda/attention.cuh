/*
 * What the attention kernels share. Private to this folder.
 *
 * Scores are kept in units of ln 2, so that exp is exp2. Tiles of queries and of keys begin at multiples of their size
 * in the whole sequence, past tokens included, and a query meets the tiles of keys in order: its bits do not depend on
 * where a pass began. Where a sequence holds several documents, tiles are still those of the sequence; the ones that a block's
 * documents do not reach are left out. Sums stay inside a block, in a fixed order: no atomics, nothing quadratic in memory.
 */
#ifndef MST_ATTENTION_CUH
#define MST_ATTENTION_CUH

#include "tensor_core.cuh"

struct attention_shape {
    size_t seq_len, past, heads, kv_heads, ldq, ldk, ldv, ldo;
    const int32_t *starts; /* as mst_attention_args has it */
    unsigned head_dim;
    float scale;  /* of the scores */
    float scale2; /* scale / ln 2 */
    bool wide;    /* rows begin on 16 bytes in every tensor, and so does each head */
};

#define LOG2_E 1.44269504088896340736f
#define LN_2   0.69314718055994530942f

/* Rows of sequence and head in a tensor of `tokens` rows for each sequence. */
template <class T>
MST_DEVICE T *rows_of(T *tensor, size_t sequence, size_t tokens, size_t ld, size_t head, unsigned head_dim) {
    return tensor + sequence * tokens * ld + head * head_dim;
}

/* Where in its sequence the document of a token begins. */
MST_DEVICE size_t document_begin(const attention_shape &s, size_t sequence, size_t token) {
    return s.starts ? (size_t)s.starts[sequence * s.seq_len + token] : 0;
}

/* Where it ends: the first token behind it that begins a document, found by halving, as starts never fall. */
MST_DEVICE size_t document_end(const attention_shape &s, size_t sequence, size_t token) {
    size_t low = token + 1, high = s.seq_len;
    if (!s.starts) return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (document_begin(s, sequence, middle) > token)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

mst_status mst_attention_check(const char *name, const mst_attention_args *args);
attention_shape mst_attention_shape_of(const mst_attention_args *args);

/* Blocks of a launch: tiles of tokens, and heads of all sequences. */
mst_status mst_attention_grid(const char *name, size_t tiles, size_t heads, dim3 *grid_out);

mst_status mst_attention_forward_f32(mst_cuda *cuda, const mst_attention_args *args);
mst_status mst_attention_backward_f32(mst_cuda *cuda, const mst_attention_args *args);
mst_status mst_attention_forward_bf16(mst_cuda *cuda, const mst_attention_args *args);
mst_status mst_attention_backward_bf16(mst_cuda *cuda, const mst_attention_args *args);

#endif
