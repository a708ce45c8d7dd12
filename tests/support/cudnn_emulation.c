/*
 * A stand-in for cuDNN's graph interface, as far as kernels/cuda/cudnn uses it. It does not know attention: it does the operations
 * of a graph one after the other, each result rounded to its tensor's type, so that a wrong graph gives wrong numbers. Like the
 * library it refuses parts that are not finished, attributes of what is finished, and calls in which something is missing.
 *
 * It has three engines: the first one says that its sums follow no order, the others add in opposite orders and so give other
 * bits. It refuses sequences of 17 modulo 32 tokens, to have the other path tested. The environment says its version
 * (MST_EMULATED_CUDNN: 0, which stands for none), which engine its heuristics prefer and how many it has, as for cuBLASLt.
 */
#include <cudnn.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "emulation_graph.h"
#include "emulation_memory.h"
#include "muster/dtype.h"
#include "muster/footprint.h"

enum { ATTRIBUTES = 12, ENGINES = 3, TENSORS = 64, OPERATIONS = 32, DIMS = 4, KNOB = 24 };

/* ---------------------------------------------------------------- descriptors */

typedef struct attribute {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t count;
    void *values;
} attribute;

typedef struct made {
    cudnnBackendDescriptorType_t type;
    bool finished;
    size_t count;
    attribute attributes[ATTRIBUTES];
} made;

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : otherwise;
}

static size_t size_of(cudnnBackendAttributeType_t type) {
    switch (type) {
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    case CUDNN_TYPE_INT64:
        return sizeof(int64_t);
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return sizeof(void *);
    default:
        return sizeof(int); /* enumerations */
    }
}

static const attribute *find(const made *m, cudnnBackendAttributeName_t name) {
    for (size_t i = 0; m && i < m->count; i++)
        if (m->attributes[i].name == name) return &m->attributes[i];
    return NULL;
}

static const made *part_of(const made *m, cudnnBackendAttributeName_t name) {
    const attribute *a = find(m, name);
    return a ? *(made *const *)a->values : NULL;
}

static int64_t number_of(const made *m, cudnnBackendAttributeName_t name) {
    const attribute *a = find(m, name);
    if (!a) return -1;
    return a->type == CUDNN_TYPE_INT64     ? *(const int64_t *)a->values
           : a->type == CUDNN_TYPE_BOOLEAN ? *(const bool *)a->values
                                           : *(const int *)a->values;
}

size_t cudnnGetVersion(void) {
    return (size_t)setting("MST_EMULATED_CUDNN", 0);
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) {
    *handle = calloc(1, sizeof(void *)); /* its stream */
    return *handle ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_ALLOC_FAILED;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
    free(handle);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
    *(cudaStream_t *)handle = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out) {
    made *m = calloc(1, sizeof *m);
    if (!m) return CUDNN_STATUS_ALLOC_FAILED;
    m->type = type;
    *out = m;
    return CUDNN_STATUS_SUCCESS;
}

static void forget(made *m) {
    for (size_t i = 0; i < m->count; i++) free(m->attributes[i].values);
    m->count = 0;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d) {
    forget(d);
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t keep(made *m, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                          int64_t count, const void *values) {
    const size_t bytes = (size_t)count * size_of(type);
    void *copy = malloc(bytes);
    if (!copy || m->count == ATTRIBUTES) abort();
    memcpy(copy, values, bytes);
    m->attributes[m->count++] = (attribute){name, type, count, copy};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    made *m = d;
    if (m->finished || find(m, name) || count <= 0) return CUDNN_STATUS_BAD_PARAM;
    for (int64_t i = 0; type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < count; i++) {
        const made *part = ((made *const *)values)[i];
        if (!part || !part->finished) return CUDNN_STATUS_BAD_PARAM;
    }
    return keep(m, name, type, count, values);
}

/* ---------------------------------------------------------------- the program of a graph */

typedef struct tensor {
    int64_t number, dims[DIMS], strides[DIMS];
    cudnnDataType_t type;
    bool is_virtual, by_value;
} tensor;

typedef struct operation {
    cudnnBackendDescriptorType_t type;
    int mode; /* pointwise, or of a reduction */
    int64_t axis;
    int x, b, t, y; /* places among the tensors; -1: none */
} operation;

typedef struct program {
    size_t tensor_count, operation_count;
    tensor tensors[TENSORS];
    operation operations[OPERATIONS];
} program;

/* The tensor's place; -1: there is none. The same number stands for the same tensor. */
static int place_of(program *p, const made *m) {
    if (!m) return -1;
    const int64_t number = number_of(m, CUDNN_ATTR_TENSOR_UNIQUE_ID);
    for (size_t i = 0; i < p->tensor_count; i++)
        if (p->tensors[i].number == number) return (int)i;
    if (p->tensor_count == TENSORS) abort();
    tensor *t = &p->tensors[p->tensor_count];
    *t = (tensor){.number = number,
                  .type = (cudnnDataType_t)number_of(m, CUDNN_ATTR_TENSOR_DATA_TYPE),
                  .is_virtual = number_of(m, CUDNN_ATTR_TENSOR_IS_VIRTUAL) == 1,
                  .by_value = number_of(m, CUDNN_ATTR_TENSOR_IS_BY_VALUE) == 1};
    memcpy(t->dims, find(m, CUDNN_ATTR_TENSOR_DIMENSIONS)->values, sizeof t->dims);
    memcpy(t->strides, find(m, CUDNN_ATTR_TENSOR_STRIDES)->values, sizeof t->strides);
    return (int)p->tensor_count++;
}

static operation operation_of(program *p, const made *m) {
    operation o = {.type = m->type, .x = -1, .b = -1, .t = -1, .y = -1};
    switch (m->type) {
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        o.x = place_of(p, part_of(m, CUDNN_ATTR_OPERATION_MATMUL_ADESC));
        o.b = place_of(p, part_of(m, CUDNN_ATTR_OPERATION_MATMUL_BDESC));
        o.y = place_of(p, part_of(m, CUDNN_ATTR_OPERATION_MATMUL_CDESC));
        break;
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        o.mode =
            (int)number_of(part_of(m, CUDNN_ATTR_OPERATION_REDUCTION_DESC), CUDNN_ATTR_REDUCTION_OPERATOR);
        o.x = place_of(p, part_of(m, CUDNN_ATTR_OPERATION_REDUCTION_XDESC));
        o.y = place_of(p, part_of(m, CUDNN_ATTR_OPERATION_REDUCTION_YDESC));
        break;
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        o.x = place_of(p, part_of(m, CUDNN_ATTR_OPERATION_RESHAPE_XDESC));
        o.y = place_of(p, part_of(m, CUDNN_ATTR_OPERATION_RESHAPE_YDESC));
        break;
    default: {
        const made *how = part_of(m, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
        o.mode = (int)number_of(how, CUDNN_ATTR_POINTWISE_MODE);
        o.axis = number_of(how, CUDNN_ATTR_POINTWISE_AXIS);
        o.x = place_of(p, part_of(m, CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
        o.b = place_of(p, part_of(m, CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
        o.t = place_of(p, part_of(m, CUDNN_ATTR_OPERATION_POINTWISE_TDESC));
        o.y = place_of(p, part_of(m, CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    }
    }
    return o;
}

static void read_program(const made *graph, program *p) {
    const attribute *operations = find(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    *p = (program){0};
    if (operations->count > OPERATIONS) abort();
    for (int64_t i = 0; i < operations->count; i++)
        p->operations[p->operation_count++] = operation_of(p, ((made *const *)operations->values)[i]);
}

/* ---------------------------------------------------------------- engines */

/* A graph's scores: its first product. */
static const tensor *scores_of(const program *p) {
    for (size_t i = 0; i < p->operation_count; i++)
        if (p->operations[i].type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)
            return &p->tensors[p->operations[i].y];
    return NULL;
}

static bool is_refused(const made *graph) {
    program p;
    read_program(graph, &p);
    const tensor *s = scores_of(&p);
    return !s || s->dims[2] % 32 == 17;
}

/* Only a backward pass turns something: what it holds of the probabilities' gradients stands there. */
static size_t workspace_of(const program *p) {
    const operation *first = NULL;
    size_t turned = 0;
    for (size_t i = 0; i < p->operation_count; i++) {
        const operation *o = &p->operations[i];
        if (!first && o->type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) first = o;
        turned += o->type == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR;
    }
    const int64_t *q = p->tensors[first->x].dims, *k = p->tensors[first->b].dims;
    if (turned == 0) return 256;
    return mst_attention_workspace((size_t)q[0], (size_t)q[2], (size_t)q[1], (size_t)k[1], (size_t)q[3]);
}

static const made *graph_of_plan(const made *plan) {
    const made *configuration = part_of(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    return part_of(part_of(configuration, CUDNN_ATTR_ENGINECFG_ENGINE), CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
}

static int64_t engine_of_plan(const made *plan) {
    const made *configuration = part_of(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    return number_of(part_of(configuration, CUDNN_ATTR_ENGINECFG_ENGINE), CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d) {
    made *m = d;
    if (m->finished) return CUDNN_STATUS_BAD_PARAM;
    if (m->type == CUDNN_BACKEND_ENGINE_DESCRIPTOR) {
        const int64_t index = number_of(m, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
        if (index < 0 || index >= setting("MST_EMULATED_ALGORITHMS", 2) + 1)
            return CUDNN_STATUS_NOT_SUPPORTED;
    }
    if (m->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR &&
        is_refused(part_of(m, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)))
        return CUDNN_STATUS_NOT_SUPPORTED;
    if (m->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR &&
        (!find(m, CUDNN_ATTR_EXECUTION_PLAN_HANDLE) || is_refused(graph_of_plan(m))))
        return CUDNN_STATUS_NOT_SUPPORTED;
    m->finished = true;
    return CUDNN_STATUS_SUCCESS;
}

/* A descriptor that was made for it becomes an engine, a configuration or a choice of a knob. */
static void become_engine(made *m, const made *graph, int64_t index) {
    forget(m);
    keep(m, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
    keep(m, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index);
    m->finished = true;
}

/* The first engine comes first, as if it were the fastest; then the one that is preferred. */
static int64_t propose(const made *heuristics, made *const *results, int64_t room) {
    const made *graph = part_of(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    const char *text = getenv("MST_EMULATED_ALGORITHM");
    const long preferred = text && strcmp(text, "rank") == 0 ? setting("OMPI_COMM_WORLD_RANK", 0)
                                                             : setting("MST_EMULATED_ALGORITHM", 0);
    const int64_t order[ENGINES] = {0, 1 + preferred % 2, 2 - preferred % 2};
    for (int64_t i = 0; i < ENGINES && i < room; i++) {
        forget(results[i]);
        keep(results[i], CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_INT64, 1, &order[i]);
        keep(results[i], CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
        results[i]->finished = true;
    }
    return ENGINES;
}

static int64_t describe_engine(const made *engine, cudnnBackendAttributeName_t name, void *values) {
    const int64_t index = number_of(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    if (name == CUDNN_ATTR_ENGINE_GLOBAL_INDEX) {
        *(int64_t *)values = index;
        return 1;
    }
    ((cudnnBackendNumericalNote_t *)values)[0] = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    ((cudnnBackendNumericalNote_t *)values)[1] = CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    return index == 0 ? 2 : 1;
}

static int64_t describe_configuration(const made *m, cudnnBackendAttributeName_t name, void *values) {
    made *part = *(made **)values;
    const int64_t index = number_of(m, CUDNN_ATTR_ENGINECFG_ENGINE), type = KNOB, value = 7 + index;
    if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {
        become_engine(part, part_of(m, CUDNN_ATTR_ENGINE_OPERATION_GRAPH), index);
        return 1;
    }
    forget(part);
    keep(part, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_INT64, 1, &type);
    keep(part, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
    part->finished = true;
    return 1;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t room, int64_t *count,
                                       void *values) {
    const made *m = d;
    program p;
    (void)type;
    if (!m->finished || room < 1) return CUDNN_STATUS_BAD_PARAM;
    *count = 1;
    switch (m->type) {
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        *count = propose(m, values, room);
        break;
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
        *count = describe_engine(m, name, values);
        break;
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
        *count = describe_configuration(m, name, values);
        break;
    case CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR:
        if (name == CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE)
            *(cudnnBackendKnobType_t *)values = (cudnnBackendKnobType_t)number_of(m, name);
        else
            *(int64_t *)values = number_of(m, name);
        break;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        read_program(graph_of_plan(m), &p);
        *(int64_t *)values = (int64_t)workspace_of(&p);
        break;
    default:
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
    return CUDNN_STATUS_SUCCESS;
}

/* ---------------------------------------------------------------- doing it */

/* A run with all that it depends on: what is given by value is read when it is asked for. */
typedef struct run {
    program p;
    int64_t engine;
    void *memory[TENSORS]; /* of tensors that are not virtual */
    float value[TENSORS];  /* of those by value */
    unsigned char *workspace;
    size_t workspace_bytes;
} run;

/* Elements are numbered by their indices, rows of the last one at a time. */
static size_t cols_of(const tensor *t) {
    return (size_t)t->dims[3];
}

static size_t rows_of(const tensor *t) {
    return (size_t)(t->dims[0] * t->dims[1] * t->dims[2]);
}

static size_t elements(const tensor *t) {
    return rows_of(t) * cols_of(t);
}

static void index_of(const tensor *t, size_t row, int64_t index[DIMS]) {
    index[3] = 0;
    for (int d = DIMS - 1; d-- > 0; row /= (size_t)t->dims[d]) index[d] = (int64_t)(row % (size_t)t->dims[d]);
}

/* Where a row begins in memory. */
static size_t offset_of(const tensor *t, size_t row) {
    int64_t index[DIMS];
    size_t at = 0;
    index_of(t, row, index);
    for (int d = 0; d < DIMS; d++) at += (size_t)(index[d] * t->strides[d]);
    return at;
}

/* The first element of the row of a tensor that belongs to a row of a larger one: dims of 1 serve all, and heads serve a group. */
static size_t shared(const tensor *t, const tensor *of, size_t row) {
    int64_t index[DIMS];
    size_t at = 0;
    index_of(of, row, index);
    for (int d = 0; d < DIMS; d++)
        at = at * (size_t)t->dims[d] + (size_t)(index[d] / (of->dims[d] / t->dims[d]));
    return at;
}

static float rounded(const tensor *t, float x) {
    return t->type == CUDNN_DATA_BFLOAT16 ? mst_bf16_to_f32(mst_bf16_from_f32(x)) : x;
}

static float element(const run *r, int place, size_t at) {
    const tensor *t = &r->p.tensors[place];
    if (t->by_value) return r->value[place];
    return t->type == CUDNN_DATA_BFLOAT16 ? mst_bf16_to_f32(((const mst_bf16 *)r->memory[place])[at])
                                          : ((const float *)r->memory[place])[at];
}

static float *load(const run *r, int place) {
    const tensor *t = &r->p.tensors[place];
    const size_t cols = cols_of(t);
    float *values = malloc(elements(t) * sizeof *values);
    if (!values) abort();
    for (size_t row = 0; row < rows_of(t); row++) {
        const size_t at = offset_of(t, row);
        for (size_t j = 0; j < cols; j++)
            values[row * cols + j] = element(r, place, at + j * (size_t)t->strides[3]);
    }
    return values;
}

static void store(const run *r, int place, const float *values) {
    const tensor *t = &r->p.tensors[place];
    const size_t cols = cols_of(t);
    for (size_t row = 0; row < rows_of(t); row++) {
        const size_t first = offset_of(t, row);
        for (size_t j = 0; j < cols; j++) {
            const size_t at = first + j * (size_t)t->strides[3];
            if (t->type == CUDNN_DATA_BFLOAT16)
                ((mst_bf16 *)r->memory[place])[at] = mst_bf16_from_f32(values[row * cols + j]);
            else
                ((float *)r->memory[place])[at] = values[row * cols + j];
        }
    }
}

/* Where the matrix of one sequence and head begins, whose heads may serve a group. */
static size_t matrix_at(const tensor *t, const tensor *of, size_t matrix) {
    const size_t heads = (size_t)of->dims[1], sequence = matrix / heads, head = matrix % heads;
    const size_t own = head / (heads / (size_t)t->dims[1]);
    return (sequence * (size_t)t->dims[1] + own) * (size_t)t->dims[2] * cols_of(t);
}

/* The second engine adds from the end. */
static void multiply(const run *r, const operation *o, float *const *all, float *y) {
    const tensor *a = &r->p.tensors[o->x], *b = &r->p.tensors[o->b], *c = &r->p.tensors[o->y];
    const size_t rows = (size_t)c->dims[2], cols = cols_of(c), sum = cols_of(a);
    for (size_t matrix = 0; matrix < (size_t)(c->dims[0] * c->dims[1]); matrix++) {
        const float *left = all[o->x] + matrix_at(a, c, matrix), *right = all[o->b] + matrix_at(b, c, matrix);
        for (size_t i = 0; i < rows; i++) {
            float *to = y + (matrix * rows + i) * cols;
            for (size_t j = 0; j < cols; j++) to[j] = 0.0f;
            for (size_t n = 0; n < sum; n++) {
                const size_t k = r->engine == 1 ? n : sum - 1 - n;
                for (size_t j = 0; j < cols; j++) to[j] += left[i * sum + k] * right[k * cols + j];
            }
        }
    }
}

static void reduce(const run *r, const operation *o, const float *x, float *y) {
    const tensor *from = &r->p.tensors[o->x], *to = &r->p.tensors[o->y];
    const bool greatest = o->mode == CUDNN_REDUCE_TENSOR_MAX;
    const size_t cols = cols_of(from), step = cols_of(to) > 1;
    for (size_t i = 0; i < elements(to); i++) y[i] = greatest ? -INFINITY : 0.0f;
    for (size_t row = 0; row < rows_of(from); row++) {
        float *at = y + shared(to, from, row);
        for (size_t j = 0; j < cols; j++, at += step) {
            const float value = x[row * cols + j];
            *at = greatest ? fmaxf(*at, value) : *at + value;
        }
    }
}

/* The same memory, seen otherwise. */
static void turn(const run *r, const operation *o, const float *x, float *y) {
    const tensor *from = &r->p.tensors[o->x], *to = &r->p.tensors[o->y];
    const size_t cols = cols_of(from), to_cols = cols_of(to);
    size_t span = 1;
    for (int d = 0; d < DIMS; d++) span += (size_t)((from->dims[d] - 1) * from->strides[d]);
    float *memory = malloc(span * sizeof *memory);
    if (!memory) abort();
    for (size_t row = 0; row < rows_of(from); row++)
        for (size_t j = 0, at = offset_of(from, row); j < cols; j++)
            memory[at + j * (size_t)from->strides[3]] = x[row * cols + j];
    for (size_t row = 0; row < rows_of(to); row++)
        for (size_t j = 0, at = offset_of(to, row); j < to_cols; j++)
            y[row * to_cols + j] = memory[at + j * (size_t)to->strides[3]];
    free(memory);
}

static float pointwise(int mode, float x, float b, float t) {
    switch (mode) {
    case CUDNN_POINTWISE_ADD:
        return x + b;
    case CUDNN_POINTWISE_SUB:
        return x - b;
    case CUDNN_POINTWISE_MUL:
        return x * b;
    case CUDNN_POINTWISE_DIV:
        return x / b;
    case CUDNN_POINTWISE_EXP:
        return expf(x);
    case CUDNN_POINTWISE_LOG:
        return logf(x);
    case CUDNN_POINTWISE_CMP_GE:
        return x >= b;
    case CUDNN_POINTWISE_BINARY_SELECT:
        return t != 0 ? x : b;
    default:
        abort();
    }
}

static void apply(const run *r, const operation *o, float *const *all, float *y) {
    const tensor *to = &r->p.tensors[o->y];
    const int from[3] = {o->x, o->b, o->t};
    const size_t cols = cols_of(to);
    for (size_t row = 0; row < rows_of(to); row++) {
        const float *value[3] = {NULL};
        size_t step[3] = {0};
        int64_t index[DIMS];
        index_of(to, row, index);
        for (int k = 0; k < 3; k++) {
            if (from[k] < 0) continue;
            value[k] = all[from[k]] + shared(&r->p.tensors[from[k]], to, row);
            step[k] = cols_of(&r->p.tensors[from[k]]) > 1;
        }
        for (size_t j = 0; j < cols; j++) {
            const float x = value[0][j * step[0]], b = value[1] ? value[1][j * step[1]] : 0.0f,
                        t = value[2] ? value[2][j * step[2]] : 0.0f;
            y[row * cols + j] = o->mode == CUDNN_POINTWISE_GEN_INDEX
                                    ? (float)(o->axis == 3 ? (int64_t)j : index[o->axis])
                                    : pointwise(o->mode, x, b, t);
        }
    }
}

static void execute(const void *arguments) {
    const run *r = arguments;
    float *all[TENSORS] = {NULL};
    mst_emulation_open();
    memset(r->workspace, 0xff, r->workspace_bytes);
    for (size_t n = 0; n < r->p.operation_count; n++) {
        const operation *o = &r->p.operations[n];
        const int from[3] = {o->x, o->b, o->t};
        for (int k = 0; k < 3; k++)
            if (from[k] >= 0 && !all[from[k]]) all[from[k]] = load(r, from[k]);
        const tensor *to = &r->p.tensors[o->y];
        float *y = all[o->y] = malloc(elements(to) * sizeof *y);
        if (!y) abort();
        if (o->type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)
            multiply(r, o, all, y);
        else if (o->type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)
            reduce(r, o, all[o->x], y);
        else if (o->type == CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR)
            turn(r, o, all[o->x], y);
        else
            apply(r, o, all, y);
        for (size_t i = 0; i < elements(to); i++) y[i] = rounded(to, y[i]);
        if (!to->is_virtual) store(r, o->y, y);
    }
    for (size_t i = 0; i < r->p.tensor_count; i++) free(all[i]);
    mst_emulation_close();
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t variant_pack) {
    run *r = calloc(1, sizeof *r);
    const made *m = plan, *pack = variant_pack;
    if (!r || !m->finished || !pack->finished) abort();
    read_program(graph_of_plan(m), &r->p);
    r->engine = engine_of_plan(m);
    r->workspace = *(void *const *)find(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE)->values;
    r->workspace_bytes = workspace_of(&r->p);
    const attribute *numbers = find(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS),
                    *pointers = find(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    for (size_t i = 0; i < r->p.tensor_count; i++) {
        const tensor *t = &r->p.tensors[i];
        for (int64_t n = 0; !t->is_virtual && n < numbers->count; n++)
            if (((const int64_t *)numbers->values)[n] == t->number)
                r->memory[i] = ((void *const *)pointers->values)[n];
        if (t->is_virtual) continue;
        if (!r->memory[i]) status = CUDNN_STATUS_BAD_PARAM;
        if (r->memory[i] && t->by_value) r->value[i] = *(const float *)r->memory[i];
    }
    if (status == CUDNN_STATUS_SUCCESS &&
        mst_emulation_do(*(cudaStream_t *)handle, execute, r, sizeof *r) != 0)
        status = CUDNN_STATUS_EXECUTION_FAILED;
    free(r);
    return status;
}
