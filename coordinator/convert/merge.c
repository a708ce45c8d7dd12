#include "merge.h"

#include <stdlib.h>
#include <string.h>

struct hf_merge {
    const mst_model_config *model; /* not owned, like lora */
    const mst_lora *lora;
    mst_layout layout;
    float **values; /* [layout.tensor_count] */
    size_t given;   /* elements */
    double *row;    /* [longest row of a weight] */
};

static mst_status keep(void *context, const mst_manifest_tensor *tensor, uint64_t first, const float *values,
                       uint64_t count) {
    mst_status status = MST_OK;
    hf_merge *m = context;
    size_t i = 0;
    while (i < m->layout.tensor_count && strcmp(m->layout.tensors[i].name, tensor->name) != 0) i++;
    const mst_tensor *wanted = &m->layout.tensors[i];
    MST_CHECK(i < m->layout.tensor_count && tensor->dims == 2 && tensor->shape[0] == wanted->shape[0] &&
                  tensor->shape[1] == wanted->shape[1] && tensor->count == wanted->count,
              MST_EFORMAT, "tensor %s is no adapter of this model", tensor->name);
    memcpy(m->values[i] + first, values, (size_t)count * sizeof *values);
    m->given += (size_t)count;
done:
    return status;
}

static mst_status allocate(hf_merge *m) {
    mst_status status = MST_OK;
    size_t longest = 0;
    m->values = calloc(m->layout.tensor_count, sizeof *m->values);
    for (size_t i = 0; m->values != NULL && i < m->layout.tensor_count; i++) {
        const mst_tensor *t = &m->layout.tensors[i];
        m->values[i] = malloc(t->count * sizeof **m->values);
        MST_CHECK(m->values[i] != NULL, MST_ENOMEM, "no memory for adapter %s", t->name);
        if (t->shape[0] > longest) longest = t->shape[0];
        if (t->shape[1] > longest) longest = t->shape[1];
    }
    m->row = malloc(longest * sizeof *m->row);
    MST_CHECK(m->values != NULL && m->row != NULL, MST_ENOMEM, "no memory for %zu adapters",
              m->layout.tensor_count);
done:
    return status;
}

/* Whether the base's weights have the shapes that the adapters' products have, and none is missing. */
static mst_status check_base(const hf_merge *m, const mst_manifest *base) {
    mst_status status = MST_OK;
    mst_lora_pair pair;
    size_t pairs = 0;
    for (size_t i = 0; i < base->tensor_count; i++) {
        const mst_manifest_tensor *t = &base->tensors[i];
        if (!mst_lora_find(m->model, &m->layout, t->name, &pair)) continue;
        const size_t in = m->layout.tensors[pair.a].shape[1], out = m->layout.tensors[pair.b].shape[0];
        const size_t rows = pair.in_out ? in : out, cols = pair.in_out ? out : in;
        MST_CHECK(t->dims == 2 && t->shape[0] == rows && t->shape[1] == cols && t->count == rows * cols,
                  MST_EFORMAT, "tensor %s is not [%zu, %zu], as its adapters are: they are of another model",
                  t->name, rows, cols);
        pairs++;
    }
    MST_CHECK(2 * pairs == m->layout.tensor_count, MST_EFORMAT,
              "%zu of %zu weights with adapters are there: these are of another model", pairs,
              m->layout.tensor_count / 2);
done:
    return status;
}

mst_status hf_merge_create(const mst_checkpoint_context *context, const char *path,
                           const mst_model_config *model, const mst_lora *lora, const mst_manifest *base,
                           hf_merge **merge_out) {
    mst_status status = MST_OK;
    hf_merge *m = calloc(1, sizeof *m);
    *merge_out = NULL;
    MST_CHECK(m != NULL, MST_ENOMEM, "%s: out of memory", path);
    *m = (hf_merge){.model = model, .lora = lora};
    MST_TRY(mst_lora_layout(model, lora, &m->layout));
    MST_TRY(check_base(m, base));
    MST_TRY(allocate(m));
    MST_TRY(mst_checkpoint_weights(context, path, keep, m));
    MST_CHECK(m->given == m->layout.parameters, MST_EFORMAT, "%s holds other adapters than its config says",
              path);
    *merge_out = m;
    m = NULL;
done:
    hf_merge_destroy(&m);
    return status;
}

void hf_merge_destroy(hf_merge **merge) {
    hf_merge *m = *merge;
    if (m == NULL) return;
    for (size_t i = 0; m->values != NULL && i < m->layout.tensor_count; i++) free(m->values[i]);
    free(m->values);
    free(m->row);
    mst_layout_clear(&m->layout);
    free(m);
    *merge = NULL;
}

/* Columns [begin, end) of a row of scale B A, or of its transpose, into m->row. With weights stored [out, in], row r is
 * sum over k of B[r, k] A[k, :]; stored [in, out], it is sum over k of A[k, r] B[:, k]. */
static void compute_row(const hf_merge *m, const mst_lora_pair *pair, size_t r, size_t begin, size_t end) {
    const size_t rank = m->lora->rank, in = m->layout.tensors[pair->a].shape[1];
    const float *a = m->values[pair->a], *b = m->values[pair->b];
    for (size_t c = begin; c < end; c++) m->row[c] = 0;
    for (size_t k = 0; k < rank; k++) {
        if (pair->in_out) {
            const double factor = a[k * in + r];
            for (size_t c = begin; c < end; c++) m->row[c] += factor * b[c * rank + k];
        } else {
            const double factor = b[r * rank + k];
            for (size_t c = begin; c < end; c++) m->row[c] += factor * a[k * in + c];
        }
    }
}

void hf_merge_add(const hf_merge *merge, const char *tensor, size_t cols, uint64_t first, uint64_t count,
                  float *values) {
    mst_lora_pair pair;
    if (!mst_lora_find(merge->model, &merge->layout, tensor, &pair)) return;
    for (uint64_t at = first, end = first + count; at < end;) {
        const size_t r = (size_t)(at / cols), begin = (size_t)(at % cols);
        const size_t stop = end - at < cols - begin ? begin + (size_t)(end - at) : cols;
        compute_row(merge, &pair, r, begin, stop);
        for (size_t c = begin; c < stop; c++, values++)
            *values = (float)(*values + merge->lora->scale * merge->row[c]);
        at += stop - begin;
    }
}
