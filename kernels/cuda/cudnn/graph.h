/* Causal attention as a graph of cuDNN's operations. Private to this folder. */
#ifndef MST_CUDNN_GRAPH_H
#define MST_CUDNN_GRAPH_H

#include "library.h"

/* What a graph depends on, with no padding: compared byte by byte. */
typedef struct attention_kind {
    uint64_t sequences, seq_len, heads, kv_heads, head_dim, ldq, ldk, ldv;
    float scale;
    uint32_t backward;
} attention_kind;

/* Tensors that are given when a graph runs. Numbers by value stand in the host's memory. */
typedef enum attention_tensor {
    TENSOR_Q = 1,
    TENSOR_K,
    TENSOR_V,
    TENSOR_OUT,
    TENSOR_LSE,
    TENSOR_SCALE,  /* by value: of the scores */
    TENSOR_HIDDEN, /* by value: the score of a token that is not seen */
    TENSOR_DOUT,   /* from here on of the backward pass alone */
    TENSOR_WORK,   /* dout . out of every token and head */
    TENSOR_ONE,    /* by value: 1 */
    TENSOR_DQ,
    TENSOR_DK,
    TENSOR_DV,
    TENSORS /* all below */
} attention_tensor;

/** The finished graph of a kind; NULL where the library refuses it (w->code). */
descriptor mst_cudnn_attention_graph(workshop *w, const attention_kind *kind);

#endif
