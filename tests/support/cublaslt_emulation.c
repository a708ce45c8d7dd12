/*
 * A stand-in for cuBLASLt with its signatures, as far as kernels/cuda/matmul.c uses them: columns first, transpositions,
 * bias epilogue, beta. It refuses what the library would refuse: calls whose description and memory do not fit, and (to
 * have the other path tested) products whose n is 17 modulo 32.
 *
 * It has two algorithms, which add in other orders and so give other bits. The environment says which one its heuristics
 * prefer (MST_EMULATED_ALGORITHM: 0, 1, or "rank" for the parity of the rank), up to which it has any
 * (MST_EMULATED_ALGORITHMS: 2), and its version (MST_EMULATED_CUBLAS).
 */
#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

#include "emulation_graph.h"
#include "emulation_memory.h"
#include "muster/dtype.h"

typedef struct operation {
    cublasOperation_t a, b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
} operation;

typedef struct layout {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld;
} layout;

static const char algorithm_marks[][32] = {"an algorithm of the stand-in", "another one of the stand-in"};

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : otherwise;
}

static const char *preferred_mark(void) {
    const char *text = getenv("MST_EMULATED_ALGORITHM");
    const long number = text && strcmp(text, "rank") == 0 ? setting("OMPI_COMM_WORLD_RANK", 0)
                                                          : setting("MST_EMULATED_ALGORITHM", 0);
    return algorithm_marks[number % 2];
}

/* 0 or 1; -1: it is none of this version. */
static int algorithm_of(const cublasLtMatmulAlgo_t *algorithm) {
    for (int i = 0; i < setting("MST_EMULATED_ALGORITHMS", 2); i++)
        if (memcmp(algorithm, algorithm_marks[i], sizeof algorithm_marks[i]) == 0) return i;
    return -1;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = malloc(1);
    return *handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void) {
    return (size_t)setting("MST_EMULATED_CUBLAS", CUBLAS_VERSION);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    operation *op = calloc(1, sizeof *op);
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    op->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    *description = (cublasLtMatmulDesc_t)op;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
    free(description);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t take(void *to, size_t size, const void *value, size_t given) {
    if (size != given) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t size) {
    operation *op = (operation *)description;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return take(&op->a, sizeof op->a, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return take(&op->b, sizeof op->b, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(&op->epilogue, sizeof op->epilogue, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(&op->bias, sizeof op->bias, value, size);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    *preference = calloc(1, sizeof(uint32_t));
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    free(preference);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t size) {
    (void)preference, (void)value;
    return size == (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? sizeof(size_t) : sizeof(uint32_t))
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
    layout *l = malloc(sizeof *l);
    if (!l || ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
    *l = (layout){type, rows, cols, ld};
    *out = (cublasLtMatrixLayout_t)l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
    free(l);
    return CUBLAS_STATUS_SUCCESS;
}

/* Do the operands fit? Then m, n, k of the library's product. */
static int fits(const operation *op, const layout *a, const layout *b, const layout *d,
                uint64_t size_out[3]) {
    uint64_t m = op->a == CUBLAS_OP_N ? a->rows : a->cols, k = op->a == CUBLAS_OP_N ? a->cols : a->rows;
    uint64_t k_b = op->b == CUBLAS_OP_N ? b->rows : b->cols, n = op->b == CUBLAS_OP_N ? b->cols : b->rows;
    size_out[0] = m;
    size_out[1] = n;
    size_out[2] = k;
    return k == k_b && d->rows == m && d->cols == n && a->type == b->type &&
           (d->type == a->type || d->type == CUDA_R_32F) &&
           (op->epilogue == CUBLASLT_EPILOGUE_DEFAULT || d->type == a->type);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *found) {
    uint64_t size[3];
    (void)handle, (void)c, (void)preference, (void)wanted;
    *found =
        fits((operation *)description, (layout *)a, (layout *)b, (layout *)d, size) && size[0] % 32 != 17;
    if (!*found) return CUBLAS_STATUS_NOT_SUPPORTED;
    memset(results, 0, sizeof *results);
    memcpy(&results->algo, preferred_mark(), sizeof *algorithm_marks);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algorithm,
                                       cublasLtMatmulHeuristicResult_t *result) {
    uint64_t size[3];
    (void)handle, (void)c;
    if (!fits((operation *)description, (layout *)a, (layout *)b, (layout *)d, size))
        return CUBLAS_STATUS_INVALID_VALUE;
    memset(result, 0, sizeof *result);
    return algorithm_of(algorithm) >= 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

static float load(const void *memory, cudaDataType type, size_t i) {
    return type == CUDA_R_32F ? ((const float *)memory)[i] : mst_bf16_to_f32(((const mst_bf16 *)memory)[i]);
}

/* The operand with the summed index innermost: [count, k]. */
static float *packed(const void *memory, const layout *l, int k_is_row, size_t count, size_t k) {
    float *values = malloc((count * k + 1) * sizeof *values);
    if (!values) abort();
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < k; j++)
            values[i * k + j] =
                load(memory, l->type, k_is_row ? j + i * (size_t)l->ld : i + j * (size_t)l->ld);
    return values;
}

enum { LANES = 16, COLUMNS = 4 };

/* Dot products of one row with up to COLUMNS columns; the rest of the program is not built for fast arithmetic. */
__attribute__((target_clones("avx2", "default"))) static void
dots(int algorithm, const float *row, const float *cols, size_t count, size_t k, float *sums) {
    float lane[COLUMNS][LANES] = {{0}};
    size_t whole = k / LANES * LANES;
    for (size_t i = 0; i < whole && count == COLUMNS; i += LANES)
        for (size_t c = 0; c < COLUMNS; c++)
            for (size_t j = 0; j < LANES; j++) lane[c][j] += row[i + j] * cols[c * k + i + j];
    for (size_t c = 0; c < count; c++) {
        sums[c] = 0.0f;
        for (size_t j = 0; j < LANES; j++) sums[c] += lane[c][algorithm == 0 ? j : LANES - 1 - j];
        for (size_t i = count == COLUMNS ? whole : 0; i < k; i++) sums[c] += row[i] * cols[c * k + i];
    }
}

/* A product with all that it depends on. */
typedef struct product {
    operation op;
    layout a_layout, b_layout, c_layout, d_layout;
    uint64_t size[3];
    int algorithm;
    float scale, keep;
    const void *a, *b, *c;
    void *d, *workspace;
    size_t workspace_bytes;
} product;

static void multiply(const void *arguments) {
    const product *p = arguments;
    const uint64_t *size = p->size;
    const layout *lc = &p->c_layout, *ld = &p->d_layout;
    mst_emulation_open();
    memset(p->workspace, 0xff, p->workspace_bytes < 4096 ? p->workspace_bytes : 4096);
    float *rows = packed(p->a, &p->a_layout, p->op.a == CUBLAS_OP_T, size[0], size[2]);
    float *cols = packed(p->b, &p->b_layout, p->op.b == CUBLAS_OP_N, size[1], size[2]);
    for (size_t j = 0; j < size[1]; j += COLUMNS) {
        size_t count = size[1] - j < COLUMNS ? size[1] - j : COLUMNS;
        for (size_t i = 0; i < size[0]; i++) {
            float sums[COLUMNS];
            dots(p->algorithm, rows + i * size[2], cols + j * size[2], count, size[2], sums);
            for (size_t n = 0; n < count; n++) {
                float sum = p->scale * sums[n];
                if (p->keep != 0.0f) sum += p->keep * load(p->c, lc->type, i + (j + n) * (size_t)lc->ld);
                if (p->op.epilogue == CUBLASLT_EPILOGUE_BIAS) sum += load(p->op.bias, ld->type, i);
                size_t at = i + (j + n) * (size_t)ld->ld;
                if (ld->type == CUDA_R_32F)
                    ((float *)p->d)[at] = sum;
                else
                    ((mst_bf16 *)p->d)[at] = mst_bf16_from_f32(sum);
            }
        }
    }
    free(rows);
    free(cols);
    mst_emulation_close();
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t description, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
    product p = {.op = *(operation *)description,
                 .a_layout = *(layout *)a_layout,
                 .b_layout = *(layout *)b_layout,
                 .c_layout = *(layout *)c_layout,
                 .d_layout = *(layout *)d_layout,
                 .algorithm = algorithm_of(algorithm),
                 .scale = *(const float *)alpha,
                 .keep = *(const float *)beta,
                 .a = a,
                 .b = b,
                 .c = c,
                 .d = d,
                 .workspace = workspace,
                 .workspace_bytes = workspace_bytes};
    (void)handle;
    if (!fits(&p.op, &p.a_layout, &p.b_layout, &p.d_layout, p.size) || p.algorithm < 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    return mst_emulation_do(stream, multiply, &p, sizeof p) == 0 ? CUBLAS_STATUS_SUCCESS
                                                                 : CUBLAS_STATUS_EXECUTION_FAILED;
}
