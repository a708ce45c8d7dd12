/*
 * cuDNN knows attention by the operations that it consists of: where a graph holds exactly these, one kernel does them all.
 * Scores, probabilities and their gradients are *virtual* tensors, which never stand in memory.
 *
 *   forward    s = scale q k^T, masked;  m = max s;  e = exp(s - m);  l = sum e
 *              lse = m + log l;  p = e / l (bf16);  out = p v
 *   backward   w = sum dout out;  p = exp(s - lse), masked;  dv = p^T dout
 *              ds = scale (dout v^T - w) p;  dk = ds^T q;  dq = ds k
 *
 * Query heads that share keys have gradients of their own for them, in fp32, which are added at the end.
 */
#include "graph.h"

enum { DIMS = 4, OPERATIONS_MAX = 32 };

/* [sequences, heads, rows, cols], and elements from one to the next. */
typedef struct shape {
    int64_t dims[DIMS], strides[DIMS];
} shape;

typedef struct graph {
    workshop *w;
    const attention_kind *kind;
    int64_t next; /* number of the next virtual tensor */
    size_t count;
    descriptor operations[OPERATIONS_MAX];
} graph;

/* ---------------------------------------------------------------- shapes */

/* A tensor of ours: [sequences * seq_len, ld], with heads beside each other. */
static shape rows_shape(const graph *g, uint64_t heads, uint64_t ld) {
    const attention_kind *k = g->kind;
    return (shape){
        {(int64_t)k->sequences, (int64_t)heads, (int64_t)k->seq_len, (int64_t)k->head_dim},
        {(int64_t)(k->seq_len * ld), (int64_t)k->head_dim, (int64_t)ld, 1},
    };
}

static shape transposed(shape s) {
    return (shape){{s.dims[0], s.dims[1], s.dims[3], s.dims[2]},
                   {s.strides[0], s.strides[1], s.strides[3], s.strides[2]}};
}

/* Dense, of all query heads. */
static shape dense_shape(const graph *g, uint64_t rows, uint64_t cols) {
    const attention_kind *k = g->kind;
    const int64_t matrix = (int64_t)(rows * cols);
    return (shape){
        {(int64_t)k->sequences, (int64_t)k->heads, (int64_t)rows, (int64_t)cols},
        {matrix * (int64_t)k->heads, matrix, (int64_t)cols, 1},
    };
}

static shape scores_shape(const graph *g) {
    return dense_shape(g, g->kind->seq_len, g->kind->seq_len);
}

static shape tokens_shape(const graph *g) {
    return dense_shape(g, g->kind->seq_len, 1);
}

/* ---------------------------------------------------------------- tensors */

static descriptor tensor(graph *g, int64_t number, cudnnDataType_t type, shape s, bool is_virtual,
                         bool by_value) {
    enum { ALIGNMENT = 16 };
    descriptor d = mst_cudnn_make(g->w, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    mst_cudnn_set(g->w, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    mst_cudnn_set(g->w, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, DIMS, s.dims);
    mst_cudnn_set(g->w, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, DIMS, s.strides);
    mst_cudnn_set_number(g->w, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, number);
    mst_cudnn_set_number(g->w, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, ALIGNMENT);
    mst_cudnn_set(g->w, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    mst_cudnn_set(g->w, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    mst_cudnn_finish(g->w, d);
    return d;
}

static descriptor given(graph *g, attention_tensor number, cudnnDataType_t type, shape s) {
    return tensor(g, number, type, s, false, false);
}

static descriptor number(graph *g, attention_tensor which) {
    const shape one = {{1, 1, 1, 1}, {1, 1, 1, 1}};
    return tensor(g, which, CUDNN_DATA_FLOAT, one, false, true);
}

static descriptor between(graph *g, cudnnDataType_t type, shape s) {
    return tensor(g, g->next++, type, s, true, false);
}

/* ---------------------------------------------------------------- operations: each returns its result */

static void add(graph *g, descriptor operation) {
    mst_cudnn_finish(g->w, operation);
    if (g->count == OPERATIONS_MAX) g->w->code = CUDNN_STATUS_ALLOC_FAILED;
    if (g->w->code == CUDNN_STATUS_SUCCESS) g->operations[g->count++] = operation;
}

static descriptor product(graph *g, descriptor a, descriptor b, descriptor c) {
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    descriptor how = mst_cudnn_make(g->w, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    mst_cudnn_set(g->w, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    mst_cudnn_finish(g->w, how);
    descriptor d = mst_cudnn_make(g->w, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    add(g, d);
    return c;
}

static descriptor reduction(graph *g, cudnnReduceTensorOp_t operator, descriptor x, descriptor y) {
    const cudnnDataType_t precision = CUDNN_DATA_FLOAT;
    descriptor how = mst_cudnn_make(g->w, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    mst_cudnn_set(g->w, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &operator);
    mst_cudnn_set(g->w, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &precision);
    mst_cudnn_finish(g->w, how);
    descriptor d = mst_cudnn_make(g->w, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    add(g, d);
    return y;
}

/* The same elements, seen in another order, or as another type. */
static descriptor reshape(graph *g, descriptor x, descriptor y) {
    descriptor d = mst_cudnn_make(g->w, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    add(g, d);
    return y;
}

typedef struct elementwise {
    cudnnPointwiseMode_t mode;
    cudnnDataType_t precision; /* FLOAT is 0 */
    int64_t axis;              /* of GEN_INDEX */
    descriptor x, b, chosen_by, y;
} elementwise;

static descriptor apply(graph *g, elementwise e) {
    descriptor how = mst_cudnn_make(g->w, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    mst_cudnn_set(g->w, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &e.mode);
    mst_cudnn_set(g->w, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &e.precision);
    if (e.mode == CUDNN_POINTWISE_GEN_INDEX)
        mst_cudnn_set_number(g->w, how, CUDNN_ATTR_POINTWISE_AXIS, e.axis);
    mst_cudnn_finish(g->w, how);
    descriptor d = mst_cudnn_make(g->w, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, e.x);
    if (e.b) mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, e.b);
    if (e.chosen_by) mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, e.chosen_by);
    mst_cudnn_set_part(g->w, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, e.y);
    add(g, d);
    return e.y;
}

static descriptor binary(graph *g, cudnnPointwiseMode_t mode, descriptor x, descriptor b, descriptor y) {
    return apply(g, (elementwise){.mode = mode, .x = x, .b = b, .y = y});
}

static descriptor unary(graph *g, cudnnPointwiseMode_t mode, descriptor x, descriptor y) {
    return apply(g, (elementwise){.mode = mode, .x = x, .y = y});
}

/* ---------------------------------------------------------------- what both passes have */

static descriptor scores(graph *g) {
    return between(g, CUDNN_DATA_FLOAT, scores_shape(g));
}

static descriptor tokens(graph *g) {
    return between(g, CUDNN_DATA_FLOAT, tokens_shape(g));
}

static descriptor index_along(graph *g, descriptor x, int64_t axis) {
    descriptor y = between(g, CUDNN_DATA_INT32, scores_shape(g));
    return apply(g, (elementwise){.mode = CUDNN_POINTWISE_GEN_INDEX, .axis = axis, .x = x, .y = y});
}

/* Token t sees tokens 0 to t. */
static descriptor masked(graph *g, descriptor x) {
    descriptor row = index_along(g, x, 2), column = index_along(g, x, 3);
    descriptor seen = apply(g, (elementwise){.mode = CUDNN_POINTWISE_CMP_GE,
                                             .precision = CUDNN_DATA_BOOLEAN,
                                             .x = row,
                                             .b = column,
                                             .y = between(g, CUDNN_DATA_BOOLEAN, scores_shape(g))});
    return apply(g, (elementwise){.mode = CUDNN_POINTWISE_BINARY_SELECT,
                                  .x = x,
                                  .b = number(g, TENSOR_HIDDEN),
                                  .chosen_by = seen,
                                  .y = scores(g)});
}

/* scale q k^T */
static descriptor scaled_scores(graph *g, descriptor q, descriptor k_transposed, descriptor scale) {
    return binary(g, CUDNN_POINTWISE_MUL, product(g, q, k_transposed, scores(g)), scale, scores(g));
}

static descriptor finished(graph *g) {
    descriptor d = mst_cudnn_make(g->w, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (g->w->place.handle)
        mst_cudnn_set(g->w, d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->w->place.handle);
    mst_cudnn_set(g->w, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, (int64_t)g->count,
                  g->operations);
    mst_cudnn_finish(g->w, d);
    return d;
}

/* ---------------------------------------------------------------- the passes */

static void forward(graph *g) {
    const attention_kind *k = g->kind;
    const cudnnDataType_t bf16 = CUDNN_DATA_BFLOAT16;
    descriptor q = given(g, TENSOR_Q, bf16, rows_shape(g, k->heads, k->ldq)),
               key = given(g, TENSOR_K, bf16, transposed(rows_shape(g, k->kv_heads, k->ldk))),
               v = given(g, TENSOR_V, bf16, rows_shape(g, k->kv_heads, k->ldv)),
               out = given(g, TENSOR_OUT, bf16, rows_shape(g, k->heads, k->heads * k->head_dim)),
               lse = given(g, TENSOR_LSE, CUDNN_DATA_FLOAT, tokens_shape(g));
    descriptor s = masked(g, scaled_scores(g, q, key, number(g, TENSOR_SCALE)));
    descriptor most = reduction(g, CUDNN_REDUCE_TENSOR_MAX, s, tokens(g));
    descriptor e =
        unary(g, CUDNN_POINTWISE_EXP, binary(g, CUDNN_POINTWISE_SUB, s, most, scores(g)), scores(g));
    descriptor sum = reduction(g, CUDNN_REDUCE_TENSOR_ADD, e, tokens(g));
    binary(g, CUDNN_POINTWISE_ADD, most, unary(g, CUDNN_POINTWISE_LOG, sum, tokens(g)), lse);
    product(g, binary(g, CUDNN_POINTWISE_DIV, e, sum, between(g, bf16, scores_shape(g))), v, out);
}

/* c = a^T b where each query head has keys of its own; else their sum over the heads that share them. */
static void key_gradient(graph *g, descriptor a, descriptor b, descriptor c) {
    const attention_kind *k = g->kind;
    descriptor turned = reshape(g, a, between(g, CUDNN_DATA_BFLOAT16, transposed(scores_shape(g))));
    if (k->heads == k->kv_heads) {
        product(g, turned, b, c);
        return;
    }
    descriptor each = between(g, CUDNN_DATA_FLOAT, dense_shape(g, k->seq_len, k->head_dim));
    reduction(g, CUDNN_REDUCE_TENSOR_ADD, product(g, turned, b, each), c);
}

static void backward(graph *g) {
    const attention_kind *k = g->kind;
    const cudnnDataType_t bf16 = CUDNN_DATA_BFLOAT16;
    const shape q_shape = rows_shape(g, k->heads, k->ldq), k_shape = rows_shape(g, k->kv_heads, k->ldk),
                v_shape = rows_shape(g, k->kv_heads, k->ldv),
                out_shape = rows_shape(g, k->heads, k->heads * k->head_dim);
    descriptor q = given(g, TENSOR_Q, bf16, q_shape), key = given(g, TENSOR_K, bf16, transposed(k_shape)),
               v = given(g, TENSOR_V, bf16, transposed(v_shape)), out = given(g, TENSOR_OUT, bf16, out_shape),
               dout = given(g, TENSOR_DOUT, bf16, out_shape),
               lse = given(g, TENSOR_LSE, CUDNN_DATA_FLOAT, tokens_shape(g)),
               work = given(g, TENSOR_WORK, CUDNN_DATA_FLOAT, tokens_shape(g)),
               scale = number(g, TENSOR_SCALE);
    shape dots_shape = dense_shape(g, k->seq_len, k->head_dim);
    descriptor dots = binary(g, CUDNN_POINTWISE_MUL, dout, out, between(g, CUDNN_DATA_FLOAT, dots_shape));
    descriptor sums = reduction(g, CUDNN_REDUCE_TENSOR_ADD, dots, tokens(g));
    binary(g, CUDNN_POINTWISE_MUL, sums, number(g, TENSOR_ONE), work);

    descriptor s = binary(g, CUDNN_POINTWISE_SUB, scaled_scores(g, q, key, scale), lse, scores(g));
    descriptor p = unary(g, CUDNN_POINTWISE_EXP, masked(g, s), scores(g));
    key_gradient(g, p, dout, given(g, TENSOR_DV, bf16, v_shape));

    descriptor dp = binary(g, CUDNN_POINTWISE_SUB, product(g, dout, v, scores(g)), work, scores(g));
    descriptor ds =
        binary(g, CUDNN_POINTWISE_MUL, binary(g, CUDNN_POINTWISE_MUL, dp, p, scores(g)), scale, scores(g));
    key_gradient(g, ds, q, given(g, TENSOR_DK, bf16, k_shape));
    product(g, ds, reshape(g, key, between(g, CUDNN_DATA_FLOAT, k_shape)),
            given(g, TENSOR_DQ, bf16, q_shape));
}

descriptor mst_cudnn_attention_graph(workshop *w, const attention_kind *kind) {
    graph g = {.w = w, .kind = kind, .next = TENSORS};
    if (kind->backward)
        backward(&g);
    else
        forward(&g);
    descriptor d = finished(&g);
    return w->code == CUDNN_STATUS_SUCCESS ? d : NULL;
}
