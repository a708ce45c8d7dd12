/* Attention by cuDNN: what is chosen for each kind of it, its text, and the calls. */
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "face.h"
#include "plan.h"

typedef struct choice {
    attention_kind kind;
    bool own; /* the library has none that would do: our kernels' turn */
    cudnn_algorithm algorithm;
    cudnn_plan *plan; /* NULL: own */
} choice;

struct mst_cudnn {
    void *stream;      /* cudaStream_t */
    bool sought;       /* the library, which is opened when it is wanted first */
    cudnn_place place; /* no handle: it is not to be had */
    choice *choices;   /* in the order in which they were made */
    size_t count, capacity;
};

/* ---------------------------------------------------------------- life */

mst_status mst_cudnn_create(void *stream, mst_cudnn **cudnn_out) {
    *cudnn_out = calloc(1, sizeof **cudnn_out);
    if (!*cudnn_out) return mst_error(MST_ENOMEM, "attention: out of memory");
    (*cudnn_out)->stream = stream;
    return MST_OK;
}

/* Where it will not begin, as with a driver that is too old for it, it is as if there were none. */
static bool is_there(mst_cudnn *cudnn) {
    cudnnHandle_t *handle = &cudnn->place.handle;
    if (cudnn->sought) return *handle != NULL;
    cudnn->sought = true;
    if (!mst_cudnn_find() || MST_CUDNN(cudnnCreate)(handle) != CUDNN_STATUS_SUCCESS) {
        *handle = NULL;
    } else if (MST_CUDNN(cudnnSetStream)(*handle, (cudaStream_t)cudnn->stream) != CUDNN_STATUS_SUCCESS) {
        MST_CUDNN(cudnnDestroy)(*handle);
        *handle = NULL;
    }
    return *handle != NULL;
}

static void choice_clear(choice *c) {
    if (c->plan) mst_cudnn_clear(&c->plan->w);
    free(c->plan);
    c->plan = NULL;
}

void mst_cudnn_forget(mst_cudnn *cudnn) {
    for (size_t i = 0; i < cudnn->count; i++) choice_clear(&cudnn->choices[i]);
    cudnn->count = 0;
}

void mst_cudnn_destroy(mst_cudnn **cudnn_pointer) {
    mst_cudnn *cudnn = *cudnn_pointer;
    if (!cudnn) return;
    mst_cudnn_forget(cudnn);
    if (cudnn->place.handle) MST_CUDNN(cudnnDestroy)(cudnn->place.handle);
    free(cudnn->choices);
    free(cudnn);
    *cudnn_pointer = NULL;
}

void mst_cudnn_class(char *text, size_t size) {
    const size_t version =
        mst_cudnn_find() ? MST_CUDNN(cudnnGetVersion)() : 0; /* major * 10000 + minor * 100 + patch */
    text[0] = '\0';
    if (version > 0)
        snprintf(text, size, "cudnn-%zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
}

/* ---------------------------------------------------------------- choosing */

static attention_kind kind_of(const mst_attention_args *a, bool backward) {
    return (attention_kind){.sequences = a->sequences,
                            .seq_len = a->seq_len,
                            .heads = a->heads,
                            .kv_heads = a->kv_heads,
                            .head_dim = a->head_dim,
                            .ldq = a->ldq,
                            .ldk = a->ldk,
                            .ldv = a->ldv,
                            .scale = (float)a->scale,
                            .backward = backward};
}

/* Whether the library can be asked at all. Its tensors lie on 16 bytes, rows too. */
static bool is_possible(const mst_attention_args *a, bool backward) {
    uintptr_t all =
        (uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v | (uintptr_t)a->out | (uintptr_t)a->lse;
    if (backward)
        all |=
            (uintptr_t)a->dout | (uintptr_t)a->dq | (uintptr_t)a->dk | (uintptr_t)a->dv | (uintptr_t)a->work;
    return a->dtype == MST_BF16 && !a->starts && a->past == 0 && all % 16 == 0 &&
           (a->head_dim | a->ldq | a->ldk | a->ldv) % 8 == 0;
}

/* Room for one choice more, which counts only once cudnn->count is raised. */
static mst_status make_room(mst_cudnn *cudnn, const attention_kind *kind, choice **choice_out) {
    if (cudnn->count == cudnn->capacity) {
        const size_t capacity = cudnn->capacity ? 2 * cudnn->capacity : 8;
        choice *choices = realloc(cudnn->choices, capacity * sizeof *choices);
        if (!choices) return mst_error(MST_ENOMEM, "attention: out of memory");
        cudnn->choices = choices;
        cudnn->capacity = capacity;
    }
    *choice_out = &cudnn->choices[cudnn->count];
    **choice_out = (choice){.kind = *kind, .plan = calloc(1, sizeof *(*choice_out)->plan)};
    return (*choice_out)->plan ? MST_OK : mst_error(MST_ENOMEM, "attention: out of memory");
}

static void count_choice(mst_cudnn *cudnn, choice *c, bool own) {
    c->own = own;
    if (own) choice_clear(c);
    cudnn->count++;
}

static choice *find(const mst_cudnn *cudnn, const attention_kind *kind) {
    for (size_t i = 0; i < cudnn->count; i++)
        if (memcmp(&cudnn->choices[i].kind, kind, sizeof *kind) == 0) return &cudnn->choices[i];
    return NULL;
}

/* NULL: nothing is chosen, and nothing is to be. */
static mst_status find_choice(mst_cudnn *cudnn, const attention_kind *kind, size_t workspace,
                              choice **choice_out) {
    mst_status status = MST_OK;
    choice *c = *choice_out = find(cudnn, kind);
    if (c || workspace == 0 || !is_there(cudnn)) goto done;
    MST_TRY(make_room(cudnn, kind, &c));
    count_choice(cudnn, c, !mst_cudnn_choose(&cudnn->place, kind, workspace, &c->algorithm, c->plan));
    *choice_out = c;
done:
    return status;
}

/* ---------------------------------------------------------------- text */

#define KIND                                                                                                 \
    "attention sequences=%zu seq_len=%zu heads=%zu kv_heads=%zu head_dim=%zu ldq=%zu ldk=%zu ldv=%zu "       \
    "scale=%a backward=%u algorithm="

size_t mst_cudnn_choice_count(const mst_cudnn *cudnn) {
    return cudnn->count;
}

static void print_choice(const choice *c, char *line, size_t size) {
    const attention_kind *k = &c->kind;
    int used = snprintf(line, size, KIND, (size_t)k->sequences, (size_t)k->seq_len, (size_t)k->heads,
                        (size_t)k->kv_heads, (size_t)k->head_dim, (size_t)k->ldq, (size_t)k->ldk,
                        (size_t)k->ldv, (double)k->scale, k->backward);
    if (c->own) {
        snprintf(line + used, size - (size_t)used, "own");
        return;
    }
    used += snprintf(line + used, size - (size_t)used, "%lld", (long long)c->algorithm.engine);
    for (size_t i = 0; i < c->algorithm.knob_count && (size_t)used < size; i++)
        used += snprintf(line + used, size - (size_t)used, ",%lld=%lld",
                         (long long)c->algorithm.knobs[i].type, (long long)c->algorithm.knobs[i].value);
}

void mst_cudnn_choice_print(const mst_cudnn *cudnn, size_t i, char *line, size_t size) {
    print_choice(&cudnn->choices[i], line, size);
}

/* "6,24=26": an engine, and its knobs. What it lets pass, the comparison of the whole line does not. */
static void read_algorithm(const char *text, cudnn_algorithm *algorithm) {
    char *end;
    algorithm->engine = strtoll(text, &end, 10);
    while (*end == ',' && algorithm->knob_count < KNOBS_MAX) {
        algorithm->knobs[algorithm->knob_count].type = strtoll(end + 1, &end, 10);
        if (*end != '=') return;
        algorithm->knobs[algorithm->knob_count++].value = strtoll(end + 1, &end, 10);
    }
}

static bool read_choice(const char *line, choice *c) {
    size_t n[8];
    float scale;
    unsigned backward;
    int at = 0;
    char again[MST_CHOICE_LINE];
    const int found = sscanf(line, KIND "%n", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7], &scale,
                             &backward, &at); // NOLINT(cert-err34-c)
    if (found != 10 || at == 0) return false;
    c->kind = (attention_kind){n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], scale, backward};
    c->own = strcmp(line + at, "own") == 0;
    if (!c->own) read_algorithm(line + at, &c->algorithm);
    print_choice(c, again, sizeof again);
    return strcmp(line, again) == 0;
}

mst_status mst_cudnn_choice_take(mst_cudnn *cudnn, const char *line) {
    mst_status status = MST_OK;
    choice given = {.own = false}, *c;
    MST_CHECK(read_choice(line, &given), MST_EFORMAT,
              "attention: a recorded choice of an algorithm is damaged: '%.160s'", line);
    MST_CHECK(given.own || is_there(cudnn), MST_EUNSUPPORTED,
              "attention: there is no libcudnn.so.%d; " MST_CUDNN_ADVICE, CUDNN_MAJOR);
    MST_TRY(make_room(cudnn, &given.kind, &c));
    c->algorithm = given.algorithm;
    const bool planned = !given.own && mst_cudnn_plan(&cudnn->place, &c->kind, &c->algorithm, c->plan);
    count_choice(cudnn, c, !planned);
    MST_CHECK(planned || given.own, MST_EUNSUPPORTED,
              "attention: cuDNN does not offer the algorithm that was chosen: '%.200s'", line);
done:
    return status;
}

/* ---------------------------------------------------------------- running */

/* The tensors of a pass. */
typedef struct operands {
    size_t count;
    int64_t numbers[TENSORS];
    void *memory[TENSORS];
} operands;

static void give(operands *o, attention_tensor number, const void *memory) {
    o->numbers[o->count] = number;
    o->memory[o->count++] =
        (void *)(uintptr_t)memory; /* the library says void * of what it only reads, too */
}

static mst_status run(mst_cudnn *cudnn, const choice *c, const operands *o, void *workspace) {
    workshop w = {.place = cudnn->place};
    descriptor pack = mst_cudnn_make(&w, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    mst_cudnn_set(&w, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, (int64_t)o->count,
                  o->numbers);
    mst_cudnn_set(&w, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, (int64_t)o->count,
                  o->memory);
    mst_cudnn_set(&w, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    mst_cudnn_finish(&w, pack);
    if (w.code == CUDNN_STATUS_SUCCESS)
        w.code = MST_CUDNN(cudnnBackendExecute)(cudnn->place.handle, c->plan->plan, pack);
    mst_cudnn_clear(&w);
    if (w.code == CUDNN_STATUS_SUCCESS) return MST_OK;
    return mst_error(MST_ELIBRARY,
                     "attention: cuDNN: status %d; device.attention_workspace: 0 does without it in new runs",
                     (int)w.code);
}

mst_status mst_cudnn_attention(mst_cuda *cuda, const mst_attention_args *a, bool backward, bool *served_out) {
    static const float hidden = -FLT_MAX, one = 1.0f;
    mst_status status = MST_OK;
    mst_cudnn *cudnn = cuda->cudnn;
    choice *c = NULL;
    void *workspace;
    operands o = {.count = 0};
    *served_out = false;
    const attention_kind kind = kind_of(a, backward);
    if (!is_possible(a, backward)) goto done;
    MST_TRY(find_choice(cudnn, &kind, a->workspace, &c));
    if (!c || c->own) goto done;
    MST_TRY(mst_cuda_scratch(cuda, c->plan->workspace, &workspace));
    give(&o, TENSOR_Q, a->q);
    give(&o, TENSOR_K, a->k);
    give(&o, TENSOR_V, a->v);
    give(&o, TENSOR_OUT, a->out);
    give(&o, TENSOR_LSE, a->lse);
    give(&o, TENSOR_SCALE, &kind.scale);
    give(&o, TENSOR_HIDDEN, &hidden);
    if (backward) {
        give(&o, TENSOR_DOUT, a->dout);
        give(&o, TENSOR_WORK, a->work);
        give(&o, TENSOR_ONE, &one);
        give(&o, TENSOR_DQ, a->dq);
        give(&o, TENSOR_DK, a->dk);
        give(&o, TENSOR_DV, a->dv);
    }
    *served_out = true;
    MST_TRY(run(cudnn, c, &o, workspace));
done:
    return status;
}
