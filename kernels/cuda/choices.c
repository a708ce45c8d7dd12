/*
 * The algorithms of matrix products as text, a line for each kind of product: what it depends on, and the 64 bytes by
 * which cuBLASLt names an algorithm of one version of itself. Those of attention follow, in lines of their own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudnn/face.h"
#include "product.h"

enum {
    DIGITS = 2 * sizeof(cublasLtMatmulAlgo_t),
    NAME = DIGITS + 1, /* of an algorithm, with the final NUL */
    LINE = MST_CHOICE_LINE,
};

#define KIND                                                                                                 \
    "matmul m=%zu n=%zu k=%zu lda=%zu ldb=%zu ldc=%zu bf16=%hhu c_bf16=%hhu a_t=%hhu b_t=%hhu bias=%hhu "    \
    "add=%hhu wide=%hhu algorithm="

static void print_line(const product_kind *k, const char *algorithm, char line[LINE]) {
    snprintf(line, LINE, KIND "%s", k->m, k->n, k->k, k->lda, k->ldb, k->ldc, k->bf16, k->c_bf16,
             k->a_transposed, k->b_transposed, k->bias, k->accumulate, k->wide, algorithm);
}

static void name_algorithm(const product_choice *choice, char name[NAME]) {
    const unsigned char *bytes = (const unsigned char *)&choice->algorithm;
    snprintf(name, NAME, "own");
    for (size_t i = 0; !choice->own && i < sizeof choice->algorithm; i++)
        snprintf(name + 2 * i, 3, "%02x", bytes[i]);
}

mst_status mst_cuda_choices(const mst_cuda *cuda, char **text_out) {
    const mst_product *product = cuda->product;
    const size_t attentions = mst_cudnn_choice_count(cuda->cudnn);
    char *text = malloc((product->count + attentions) * LINE + 1), name[NAME], line[LINE];
    if (!text) return mst_error(MST_ENOMEM, "choices: out of memory");
    text[0] = '\0';
    char *end = text;
    for (size_t i = 0; i < product->count; i++) {
        name_algorithm(&product->choices[i], name);
        print_line(&product->choices[i].kind, name, line);
        end += snprintf(end, LINE, "%s\n", line);
    }
    for (size_t i = 0; i < attentions; i++) {
        mst_cudnn_choice_print(cuda->cudnn, i, line, LINE - 1);
        end += snprintf(end, LINE, "%s\n", line);
    }
    *text_out = text;
    return MST_OK;
}

/* ---------------------------------------------------------------- reading */

static bool read_algorithm(const char *name, cublasLtMatmulAlgo_t *algorithm) {
    unsigned char *bytes = (unsigned char *)algorithm;
    for (size_t i = 0; i < sizeof *algorithm; i++) {
        const char digits[3] = {name[2 * i], name[2 * i + 1], '\0'};
        bytes[i] = (unsigned char)strtoul(digits, NULL, 16);
    }
    return strspn(name, "0123456789abcdef") == DIGITS;
}

/* A line is right when it is what would be written for what was read of it. */
static mst_status take_product(mst_cuda *cuda, const char *given) {
    mst_status status = MST_OK;
    product_kind k = {0};
    cublasLtMatmulAlgo_t algorithm = {{0}};
    char name[NAME] = "", again[LINE];
    _Static_assert(DIGITS == 128, "as many as the format below takes");
    /* what sscanf lets pass, the comparison does not */
    sscanf(given, KIND "%128[own0-9a-f]", &k.m, &k.n, &k.k, &k.lda, &k.ldb, &k.ldc, &k.bf16,
           &k.c_bf16, // NOLINT(cert-err34-c)
           &k.a_transposed, &k.b_transposed, &k.bias, &k.accumulate, &k.wide, name);
    print_line(&k, name, again);
    bool own = strcmp(name, "own") == 0;
    MST_CHECK(strcmp(given, again) == 0 && (own || read_algorithm(name, &algorithm)), MST_EFORMAT,
              "matmul: a recorded choice of an algorithm is damaged: '%.160s'", given);
    MST_TRY(mst_product_take(cuda, &k, own ? NULL : &algorithm));
done:
    return status;
}

static mst_status take_line(mst_cuda *cuda, const char *line, size_t length) {
    char given[LINE]; /* what is longer is cut, and then no right line */
    snprintf(given, sizeof given, "%.*s", (int)length, line);
    return strncmp(given, "attention ", strlen("attention ")) == 0 ? mst_cudnn_choice_take(cuda->cudnn, given)
                                                                   : take_product(cuda, given);
}

mst_status mst_cuda_choose(mst_cuda *cuda, const char *text) {
    mst_status status = MST_OK;
    mst_product_forget(cuda->product);
    mst_cudnn_forget(cuda->cudnn);
    cuda->basis++;
    for (const char *line = text, *end; *line; line = *end ? end + 1 : end) {
        end = line + strcspn(line, "\n");
        MST_TRY(take_line(cuda, line, (size_t)(end - line)));
    }
done:
    return status;
}
