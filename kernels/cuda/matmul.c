/*
 * Matrix products by cuBLASLt. The library is loaded when a GPU is opened, so that the program also starts where there
 * is none. Its heuristics are asked once for each kind of product (sizes, types, strides, whether all pointers lie on 16
 * bytes); the first algorithm that it offers is kept, and only such as sum in one fixed order.
 */
#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "product.h"

/* ---------------------------------------------------------------- the library */

#define LIBRARY(X)                                                                                           \
    X(cublasLtCreate)                                                                                        \
    X(cublasLtDestroy)                                                                                       \
    X(cublasLtGetVersion)                                                                                    \
    X(cublasLtMatmul)                                                                                        \
    X(cublasLtMatmulAlgoCheck)                                                                               \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                        \
    X(cublasLtMatmulDescCreate)                                                                              \
    X(cublasLtMatmulDescDestroy)                                                                             \
    X(cublasLtMatmulDescSetAttribute)                                                                        \
    X(cublasLtMatmulPreferenceCreate)                                                                        \
    X(cublasLtMatmulPreferenceDestroy)                                                                       \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                  \
    X(cublasLtMatrixLayoutCreate)                                                                            \
    X(cublasLtMatrixLayoutDestroy)

#ifdef MST_CUDA_EMULATED
static bool library_find(void) {
    return true; /* tests/support/cublaslt_emulation.c is linked */
}
static void *library_part(void) {
    return NULL;
}
#define CALL(name) name
#else
static struct {
    void *handle;
#define MEMBER(name) __typeof__(name) *name;
    LIBRARY(MEMBER)
#undef MEMBER
} library;
#define CALL(name) library.name

/* As the system's loader finds it, else in the toolkit's usual places: the version that this was built for, no other. */
static void *library_open(void) {
    const char *const folders[] = {getenv("CUDA_HOME"), getenv("CUDA_PATH"), "/usr/local/cuda"};
    char path[4096];
    snprintf(path, sizeof path, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; !handle && i < sizeof folders / sizeof *folders; i++) {
        if (!folders[i]) continue;
        snprintf(path, sizeof path, "%s/lib64/libcublasLt.so.%d", folders[i], CUBLAS_VER_MAJOR);
        handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    return handle;
}

static bool library_find(void) {
    if (library.handle) return true;
    void *handle = library_open();
    if (!handle) return false;
    bool whole = true;
#define FIND(name)                                                                                           \
    *(void **)&library.name = dlsym(handle, #name);                                                          \
    whole = whole && library.name;
    LIBRARY(FIND)
#undef FIND
    if (whole) library.handle = handle;
    return whole;
}

/* An address in it. */
static void *library_part(void) {
    return *(void **)&library.cublasLtGetVersion;
}
#endif

void mst_product_class(char *text, size_t size) {
    size_t version =
        library_find() ? CALL(cublasLtGetVersion)() : 0; /* major * 10000 + minor * 100 + patch */
    text[0] = '\0';
    if (version > 0)
        snprintf(text, size, "cublas-%zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
}

void mst_product_describe(char *text, size_t size) {
    char version[64];
    Dl_info found = {0};
    mst_product_class(version, sizeof version);
    if (!version[0])
        snprintf(text, size, "no libcublasLt.so.%d: " MST_CUBLAS_ADVICE, CUBLAS_VER_MAJOR);
    else if (library_part() && dladdr(library_part(), &found) && found.dli_fname)
        snprintf(text, size, "%s, %s", version, found.dli_fname);
    else
        snprintf(text, size, "%s", version);
}

/* ---------------------------------------------------------------- kinds of products */

static mst_status failed(const char *what, cublasStatus_t code) {
    return mst_error(MST_ELIBRARY, "matmul: cuBLASLt could not %s: status %d", what, (int)code);
}

#define MST_TRY_CUBLAS(what, call)                                                                           \
    do {                                                                                                     \
        cublasStatus_t code = (call);                                                                        \
        if (code != CUBLAS_STATUS_SUCCESS) {                                                                 \
            status = failed(what, code);                                                                     \
            goto done;                                                                                       \
        }                                                                                                    \
    } while (0)

static void choice_clear(product_choice *choice) {
    if (choice->operation) CALL(cublasLtMatmulDescDestroy)(choice->operation);
    if (choice->a) CALL(cublasLtMatrixLayoutDestroy)(choice->a);
    if (choice->b) CALL(cublasLtMatrixLayoutDestroy)(choice->b);
    if (choice->c) CALL(cublasLtMatrixLayoutDestroy)(choice->c);
}

mst_status mst_product_create(mst_product **product_out) {
    mst_status status = MST_OK;
    mst_product *product = NULL;
    MST_CHECK(library_find(), MST_EUNSUPPORTED, "cuda: libcublasLt.so.%d is not found; " MST_CUBLAS_ADVICE,
              CUBLAS_VER_MAJOR);
    product = calloc(1, sizeof *product);
    MST_CHECK(product, MST_ENOMEM, "matmul: out of memory");
    MST_TRY_CUBLAS("begin", CALL(cublasLtCreate)(&product->handle));
    *product_out = product;
    product = NULL;
done:
    mst_product_destroy(&product);
    return status;
}

void mst_product_forget(mst_product *product) {
    for (size_t i = 0; i < product->count; i++) choice_clear(&product->choices[i]);
    product->count = 0;
}

void mst_product_destroy(mst_product **product_pointer) {
    mst_product *product = *product_pointer;
    if (!product) return;
    mst_product_forget(product);
    if (product->handle) CALL(cublasLtDestroy)(product->handle);
    free(product->choices);
    free(product);
    *product_pointer = NULL;
}

/* ---------------------------------------------------------------- choosing */

static bool is_wide(const mst_matmul_args *args) {
    size_t size = mst_dtype_size(args->dtype), c_size = mst_dtype_size(args->c_dtype);
    return ((uintptr_t)args->a | (uintptr_t)args->b | (uintptr_t)args->c | (uintptr_t)args->bias |
            args->lda * size | args->ldb * size | args->ldc * c_size) %
               16 ==
           0;
}

static product_kind kind_of(const mst_matmul_args *args) {
    return (product_kind){.m = args->m,
                          .n = args->n,
                          .k = args->k,
                          .lda = args->lda,
                          .ldb = args->ldb,
                          .ldc = args->ldc,
                          .bf16 = args->dtype == MST_BF16,
                          .c_bf16 = args->c_dtype == MST_BF16,
                          .a_transposed = args->a_transposed,
                          .b_transposed = args->b_transposed,
                          .bias = args->bias != NULL,
                          .accumulate = args->accumulate,
                          .wide = is_wide(args)};
}

/* Bias by the library: only where it has the type of c; otherwise c begins as the bias and is added to. */
static bool has_epilogue(const product_kind *kind) {
    return kind->bias && kind->bf16 == kind->c_bf16;
}

/*
 * The library's matrices stand by columns, so it computes c^T = op(b)^T op(a)^T: b is its first operand. A matrix that
 * we store by rows is its transpose to it: op(b)^T needs a transposition where b is stored transposed.
 */
static mst_status describe(const product_kind *kind, product_choice *choice) {
    mst_status status = MST_OK;
    cudaDataType_t type = kind->bf16 ? CUDA_R_16BF : CUDA_R_32F,
                   c_type = kind->c_bf16 ? CUDA_R_16BF : CUDA_R_32F;
    cublasOperation_t op_a = kind->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
                      op_b = kind->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    MST_TRY_CUBLAS("describe a product",
                   CALL(cublasLtMatmulDescCreate)(&choice->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    MST_TRY_CUBLAS("take an operand",
                   CALL(cublasLtMatmulDescSetAttribute)(choice->operation, CUBLASLT_MATMUL_DESC_TRANSA, &op_b,
                                                        sizeof op_b));
    MST_TRY_CUBLAS("take an operand",
                   CALL(cublasLtMatmulDescSetAttribute)(choice->operation, CUBLASLT_MATMUL_DESC_TRANSB, &op_a,
                                                        sizeof op_a));
    if (has_epilogue(kind))
        MST_TRY_CUBLAS("take a bias",
                       CALL(cublasLtMatmulDescSetAttribute)(choice->operation, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                                            &epilogue, sizeof epilogue));
    MST_TRY_CUBLAS("describe b", CALL(cublasLtMatrixLayoutCreate)(
                                     &choice->b, type, kind->b_transposed ? kind->k : kind->n,
                                     kind->b_transposed ? kind->n : kind->k, (int64_t)kind->ldb));
    MST_TRY_CUBLAS("describe a", CALL(cublasLtMatrixLayoutCreate)(
                                     &choice->a, type, kind->a_transposed ? kind->m : kind->k,
                                     kind->a_transposed ? kind->k : kind->m, (int64_t)kind->lda));
    MST_TRY_CUBLAS("describe c", CALL(cublasLtMatrixLayoutCreate)(&choice->c, c_type, kind->n, kind->m,
                                                                  (int64_t)kind->ldc));
done:
    return status;
}

static mst_status set_bias(product_choice *choice, const void *bias) {
    mst_status status = MST_OK;
    MST_TRY_CUBLAS("take a bias",
                   CALL(cublasLtMatmulDescSetAttribute)(choice->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                        &bias, sizeof bias));
done:
    return status;
}

static mst_status set_preferences(const product_kind *kind, cublasLtMatmulPreference_t preference) {
    mst_status status = MST_OK;
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    size_t workspace = MST_PRODUCT_WORKSPACE;
    /* parts of a split k are added in fp32 and in order, in the workspace */
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    MST_TRY_CUBLAS("limit its workspace",
                   CALL(cublasLtMatmulPreferenceSetAttribute)(
                       preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
    MST_TRY_CUBLAS("limit its sums",
                   CALL(cublasLtMatmulPreferenceSetAttribute)(
                       preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes));
    for (size_t i = 0; i < 4; i++) {
        uint32_t bytes = kind->wide ? 16 : (i < 2 ? kind->bf16 : kind->c_bf16) ? 2 : 4;
        MST_TRY_CUBLAS("take an alignment", CALL(cublasLtMatmulPreferenceSetAttribute)(
                                                preference, alignments[i], &bytes, sizeof bytes));
    }
done:
    return status;
}

static mst_status choose(mst_product *product, const product_kind *kind, const void *bias,
                         product_choice *choice) {
    mst_status status = MST_OK;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    choice->kind = *kind;
    MST_TRY(describe(kind, choice));
    if (has_epilogue(kind)) MST_TRY(set_bias(choice, bias)); /* the heuristics look at it, too */
    MST_TRY_CUBLAS("state a preference", CALL(cublasLtMatmulPreferenceCreate)(&preference));
    MST_TRY(set_preferences(kind, preference));
    cublasStatus_t code =
        CALL(cublasLtMatmulAlgoGetHeuristic)(product->handle, choice->operation, choice->b, choice->a,
                                             choice->c, choice->c, preference, 1, &result, &found);
    choice->own = code != CUBLAS_STATUS_SUCCESS || found == 0;
    if (!choice->own) choice->algorithm = result.algo;
done:
    if (preference) CALL(cublasLtMatmulPreferenceDestroy)(preference);
    return status;
}

/* Room for one choice more, which counts only once product->count is raised. */
static mst_status make_room(mst_product *product, product_choice **choice_out) {
    mst_status status = MST_OK;
    if (product->count == product->capacity) {
        size_t capacity = product->capacity ? 2 * product->capacity : 64;
        product_choice *choices = realloc(product->choices, capacity * sizeof *choices);
        MST_CHECK(choices, MST_ENOMEM, "matmul: out of memory");
        product->choices = choices;
        product->capacity = capacity;
    }
    *choice_out = &product->choices[product->count];
    **choice_out = (product_choice){0};
done:
    return status;
}

static mst_status find_choice(mst_product *product, const product_kind *kind, const void *bias,
                              product_choice **choice_out) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < product->count; i++) {
        *choice_out = &product->choices[i];
        if (memcmp(&product->choices[i].kind, kind, sizeof *kind) == 0) return MST_OK;
    }
    MST_TRY(make_room(product, choice_out));
    status = choose(product, kind, bias, *choice_out);
    if (status == MST_OK)
        product->count++;
    else
        choice_clear(*choice_out);
done:
    return status;
}

mst_status mst_product_take(mst_cuda *cuda, const product_kind *kind, const cublasLtMatmulAlgo_t *algorithm) {
    mst_status status = MST_OK;
    product_choice *choice = NULL;
    cublasLtMatmulHeuristicResult_t result;
    void *workspace; /* stands for the bias, which must be somewhere */
    MST_TRY(make_room(cuda->product, &choice));
    choice->kind = *kind;
    choice->own = algorithm == NULL;
    MST_TRY(describe(kind, choice));
    if (algorithm) {
        choice->algorithm = *algorithm;
        MST_TRY(mst_cuda_scratch(cuda, MST_PRODUCT_WORKSPACE, &workspace));
        if (has_epilogue(kind)) MST_TRY(set_bias(choice, workspace));
        cublasStatus_t code =
            CALL(cublasLtMatmulAlgoCheck)(cuda->product->handle, choice->operation, choice->b, choice->a,
                                          choice->c, choice->c, algorithm, &result);
        MST_CHECK(code == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= MST_PRODUCT_WORKSPACE,
                  MST_EUNSUPPORTED,
                  "matmul: cuBLASLt does not offer the algorithm that was chosen for products of %zu x %zu x "
                  "%zu (status %d)",
                  kind->m, kind->n, kind->k, (int)code);
    }
    cuda->product->count++;
done:
    if (status != MST_OK && choice) choice_clear(choice);
    return status;
}

/* ---------------------------------------------------------------- the body */

static mst_status check(const mst_matmul_args *args) {
    mst_status status = MST_OK;
    size_t a_cols = args->a_transposed ? args->m : args->k, b_cols = args->b_transposed ? args->k : args->n;
    MST_TRY(mst_cuda_check_dtype("matmul", args->dtype));
    MST_CHECK(args->c_dtype == args->dtype || args->c_dtype == MST_F32, MST_EINVAL,
              "matmul: c of %s for operands of %s; use %s or f32", mst_dtype_name(args->c_dtype),
              mst_dtype_name(args->dtype), mst_dtype_name(args->dtype));
    MST_CHECK(!args->accumulate || (args->c_dtype == MST_F32 && !args->bias), MST_EINVAL,
              "matmul: only c of f32 without a bias can accumulate");
    MST_CHECK(args->scale == 0 || (!args->accumulate && !args->bias), MST_EINVAL,
              "matmul: a scale with a bias or accumulate; leave it out");
    MST_CHECK(args->lda >= a_cols && args->ldb >= b_cols && args->ldc >= args->n, MST_EINVAL,
              "matmul: lda %zu, ldb %zu or ldc %zu is less than the %zu, %zu or %zu columns", args->lda,
              args->ldb, args->ldc, a_cols, b_cols, args->n);
done:
    return status;
}

static mst_status multiply(mst_cuda *cuda, product_choice *choice, const mst_matmul_args *args) {
    mst_status status = MST_OK;
    const float one = 1.0f, zero = 0.0f, scale = args->scale != 0 ? (float)args->scale : one;
    void *workspace;
    bool prepared = args->bias && !has_epilogue(&choice->kind);
    MST_TRY(mst_cuda_scratch(cuda, MST_PRODUCT_WORKSPACE, &workspace));
    if (prepared) MST_TRY(mst_cuda_fill_rows(cuda, args));
    if (has_epilogue(&choice->kind)) MST_TRY(set_bias(choice, args->bias));
    MST_TRY_CUBLAS("multiply",
                   CALL(cublasLtMatmul)(cuda->product->handle, choice->operation, &scale, args->b, choice->b,
                                        args->a, choice->a, args->accumulate || prepared ? &one : &zero,
                                        args->c, choice->c, args->c, choice->c, &choice->algorithm, workspace,
                                        MST_PRODUCT_WORKSPACE, (cudaStream_t)cuda->stream));
done:
    return status;
}

mst_status mst_matmul_cuda(mst_queue *queue, const mst_matmul_args *args) {
    mst_status status = MST_OK;
    mst_cuda *cuda;
    product_choice *choice = NULL;
    MST_TRY(check(args));
    MST_TRY(mst_cuda_of(queue, &cuda));
    if (args->m == 0 || args->n == 0) goto done;
    if (args->k == 0) {
        if (!args->accumulate) MST_TRY(mst_cuda_fill_rows(cuda, args));
        goto done;
    }
    product_kind kind = kind_of(args);
    MST_TRY(find_choice(cuda->product, &kind, args->bias, &choice));
    MST_TRY(choice->own ? mst_cuda_plain_product(cuda, args) : multiply(cuda, choice, args));
done:
    return status;
}
