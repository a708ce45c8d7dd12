/*
 * The fast bodies give the same bits with any compiler and any number of threads: a digest over the results
 * of every operation that does without oneDNN (whose matrix product has a test of its own), for one
 * instruction-set level, against the digest that stands here. Usage: test_cpu_bits LEVEL; with --print it
 * only prints the digests, operation by operation.
 */
#include <inttypes.h>

#include "muster/kernels.h"
#include "muster/random.h"
#include "test.h"

/*
 * Levels with a fused product and sum, and those without, give the same bits among themselves; the level that multiplies
 * pairs of bf16 has its own.
 * The values come from
 *   test_cpu_bits --print LEVEL, with x86-64-v4, x86-64-v2 and x86-64-v4-bf16
 * built with gcc and with clang, which agree.
 * They change when the arithmetic of a body is changed on purpose, and only then.
 */
static const char digest_fused[] = "1faa68ec220de6fb9a44f0a31f955efc57d57c43408f14e000aa187cc7757d79";
static const char digest_pairs[] = "2a8833fd5ce38fdf0cbda49a1f7e2b2586029f8f83bda73c9b8e3768dc6cbb5a";
static const char digest_separate[] = "1130cd70d0b43dc126338bcdfadd7572b52c31f2b7aac5040e627d63baa00164";

enum { ROWS = 37, COLS = 334, COUNT = ROWS * COLS, VOCAB = 4999, HEADS = 2, HEAD_DIM = 76, TENSORS = 80 };

/* The tensors of one operation: memory is taken in order, filled, and all of it
 * goes into the digest afterwards. */
typedef struct bits_case {
    const mst_kernels *kernels;
    mst_queue *queue;
    mst_dtype dtype;
    void *memory[TENSORS];
    size_t bytes[TENSORS];
    size_t used;
    uint64_t stream;
} bits_case;

static double normal(bits_case *c, size_t i) {
    return mst_random_normal(20, MST_RANDOM_TEST, c->stream, i, 4);
}

/** A tensor of random numbers of the given deviation. */
static void *tensor_of(bits_case *c, mst_dtype dtype, size_t count, double deviation) {
    void *memory = calloc(count, mst_dtype_size(dtype));
    if (memory == NULL) SKIP("no memory");
    for (size_t i = 0; i < count; i++) {
        float value = (float)(deviation * normal(c, i));
        if (dtype == MST_BF16)
            ((mst_bf16 *)memory)[i] = mst_bf16_from_f32(value);
        else
            ((float *)memory)[i] = value;
    }
    c->stream++;
    c->memory[c->used] = memory;
    c->bytes[c->used++] = count * mst_dtype_size(dtype);
    return memory;
}

static void *tensor(bits_case *c, size_t count) {
    return tensor_of(c, c->dtype, count, 1);
}

static float *floats(bits_case *c, size_t count) {
    return tensor_of(c, MST_F32, count, 1);
}

/** 1 / deviation of a row: positive. */
static float *positive(bits_case *c, size_t count, double scale) {
    float *values = tensor_of(c, MST_F32, count, scale);
    for (size_t i = 0; i < count; i++) values[i] = values[i] < 0 ? -values[i] : values[i];
    return values;
}

static void indices(bits_case *c, int32_t *index_out, size_t count, size_t below) {
    for (size_t i = 0; i < count; i++)
        index_out[i] = (int32_t)(mst_random_uniform(20, MST_RANDOM_TEST, c->stream, i) * (double)below);
    c->stream++;
}

/* ---------------------------------------------------------------- one function per operation */

static void run_norms(bits_case *c) {
    mst_norm_args args = {.rows = ROWS,
                          .groups = 1,
                          .cols = COLS,
                          .ldx = COLS,
                          .ldy = COLS,
                          .dtype = c->dtype,
                          .eps = 1e-5,
                          .x = tensor(c, COUNT),
                          .delta = tensor(c, COUNT),
                          .sum = tensor(c, COUNT),
                          .weight = tensor(c, COLS),
                          .y = tensor(c, COUNT),
                          .mean = floats(c, ROWS),
                          .rstd = floats(c, ROWS)};
    CHECK_OK(c->kernels->rmsnorm_forward(c->queue, &args));
    args.y = tensor(c, COUNT);
    args.rstd = floats(c, ROWS);
    args.bias = tensor(c, COLS);
    CHECK_OK(c->kernels->layernorm_forward(c->queue, &args));
}

static void run_norm_grads(bits_case *c) {
    mst_norm_grad_args args = {.rows = ROWS,
                               .groups = 1,
                               .cols = COLS,
                               .ldx = COLS,
                               .ldd = COLS,
                               .dtype = c->dtype,
                               .x = tensor(c, COUNT),
                               .weight = tensor(c, COLS),
                               .mean = floats(c, ROWS),
                               .rstd = positive(c, ROWS, 1),
                               .dy = tensor(c, COUNT),
                               .dx = tensor(c, COUNT),
                               .dweight = floats(c, COLS)};
    CHECK_OK(c->kernels->rmsnorm_backward(c->queue, &args));
    args.dresidual = tensor(c, COUNT);
    args.dx = tensor(c, COUNT);
    args.dbias = floats(c, COLS);
    CHECK_OK(c->kernels->layernorm_backward(c->queue, &args));
}

static void run_rope(bits_case *c) {
    float *cosine = floats(c, ROWS * HEAD_DIM / 2), *sine = floats(c, ROWS * HEAD_DIM / 2);
    mst_rope_args args = {.rows = ROWS,
                          .heads = HEADS,
                          .head_dim = HEAD_DIM,
                          .seq_len = 12,
                          .first = 3,
                          .dtype = c->dtype,
                          .cosine = cosine,
                          .sine = sine,
                          .x = tensor(c, (size_t)ROWS * HEADS * HEAD_DIM),
                          .ld = (size_t)HEADS * HEAD_DIM};
    CHECK_OK(c->kernels->rope(c->queue, &args));
    args.inverse = true;
    args.first = 7;
    CHECK_OK(c->kernels->rope(c->queue, &args));
}

static void run_swiglu(bits_case *c) {
    mst_swiglu_args args = {.rows = ROWS,
                            .cols = COLS,
                            .dtype = c->dtype,
                            .gate = tensor_of(c, c->dtype, COUNT, 10),
                            .up = tensor(c, COUNT),
                            .y = tensor(c, COUNT),
                            .dy = tensor(c, COUNT),
                            .dgate = tensor(c, COUNT),
                            .dup = tensor(c, COUNT)};
    CHECK_OK(c->kernels->swiglu_forward(c->queue, &args));
    CHECK_OK(c->kernels->swiglu_backward(c->queue, &args));
}

static void run_gelu(bits_case *c) {
    mst_gelu_args args = {.count = COUNT,
                          .dtype = c->dtype,
                          .x = tensor_of(c, c->dtype, COUNT, 3),
                          .y = tensor(c, COUNT),
                          .dy = tensor(c, COUNT),
                          .dx = tensor(c, COUNT)};
    CHECK_OK(c->kernels->gelu_forward(c->queue, &args));
    CHECK_OK(c->kernels->gelu_backward(c->queue, &args));
}

static void run_embedding(bits_case *c) {
    enum { WORDS = 19 };
    int32_t tokens[ROWS];
    indices(c, tokens, ROWS, WORDS);
    mst_embedding_args args = {.rows = ROWS,
                               .cols = COLS,
                               .vocab = WORDS,
                               .seq_len = 12,
                               .first = 2,
                               .dtype = c->dtype,
                               .tokens = tokens,
                               .table = tensor(c, (size_t)WORDS * COLS),
                               .positions = tensor(c, (size_t)14 * COLS),
                               .y = tensor(c, COUNT),
                               .dy = tensor(c, COUNT),
                               .dtable = floats(c, (size_t)WORDS * COLS),
                               .dpositions = floats(c, (size_t)14 * COLS)};
    CHECK_OK(c->kernels->embedding_forward(c->queue, &args));
    CHECK_OK(c->kernels->embedding_backward(c->queue, &args));
}

static void run_cross_entropy(bits_case *c) {
    enum { TOKENS = 6 };
    int32_t targets[TOKENS];
    indices(c, targets, TOKENS, VOCAB);
    targets[4] = -1;
    mst_cross_entropy_args args = {.rows = TOKENS,
                                   .vocab = VOCAB,
                                   .dtype = c->dtype,
                                   .logits = tensor_of(c, MST_F32, (size_t)TOKENS * VOCAB, 8),
                                   .targets = targets,
                                   .scale = 0.3,
                                   .z_coefficient = 1e-3,
                                   .loss = floats(c, TOKENS),
                                   .zloss = floats(c, TOKENS),
                                   .dlogits = tensor(c, (size_t)TOKENS * VOCAB),
                                   .ldd = VOCAB};
    CHECK_OK(c->kernels->cross_entropy(c->queue, &args));
}

static void run_bias_grad(bits_case *c) {
    mst_bias_grad_args args = {.rows = ROWS,
                               .cols = COLS - 5,
                               .dtype = c->dtype,
                               .dy = tensor(c, COUNT),
                               .ld = COLS,
                               .dbias = floats(c, COLS - 5)};
    CHECK_OK(c->kernels->bias_grad(c->queue, &args));
}

static void run_ordered_sum(bits_case *c) {
    const void *sources[5];
    const uint8_t levels[5] = {1, 0, 0, 2, 3};
    for (size_t i = 0; i < 5; i++) sources[i] = tensor(c, COUNT);
    mst_ordered_sum_args args = {.count = COUNT,
                                 .sources = 5,
                                 .source = sources,
                                 .level = levels,
                                 .source_dtype = c->dtype,
                                 .wire = MST_F32,
                                 .result = floats(c, COUNT),
                                 .result_dtype = MST_F32,
                                 .accumulate = true,
                                 .block_norm2 =
                                     (double *)(void *)floats(c, 2 * ((COUNT + MST_BLOCK - 1) / MST_BLOCK))};
    CHECK_OK(c->kernels->ordered_sum(c->queue, &args));
    args.wire = MST_BF16;
    args.accumulate = false;
    args.result = floats(c, COUNT);
    CHECK_OK(c->kernels->ordered_sum(c->queue, &args));
}

static void run_adamw(bits_case *c) {
    const mst_adamw_part all = {.count = COUNT, .weight_decay = 0.1};
    mst_adamw_args args = {.parts = &all,
                           .part_count = 1,
                           .gradient = floats(c, COUNT),
                           .m = floats(c, COUNT),
                           .v = positive(c, COUNT, 0.1),
                           .master = floats(c, COUNT),
                           .weight = tensor(c, COUNT),
                           .weight_dtype = c->dtype,
                           .gradient_scale = 0.7,
                           .lr = 1e-2,
                           .beta1 = 0.9,
                           .beta2 = 0.95,
                           .eps = 1e-8,
                           .correction1 = 0.4,
                           .correction2_sqrt = 0.5};
    CHECK_OK(c->kernels->adamw(c->queue, &args));
}

static void run_flat(bits_case *c) {
    mst_cast_args cast = {.count = COUNT,
                          .source = tensor(c, COUNT),
                          .source_dtype = c->dtype,
                          .result = floats(c, COUNT),
                          .result_dtype = c->dtype == MST_BF16 ? MST_F32 : MST_BF16};
    CHECK_OK(c->kernels->cast(c->queue, &cast));
    mst_random_normal_args random = {.count = COUNT,
                                     .seed = 3,
                                     .stream = 4,
                                     .first = 5,
                                     .deviation = 0.02,
                                     .limit = 3,
                                     .result = floats(c, COUNT)};
    CHECK_OK(c->kernels->random_normal(c->queue, &random));
}

/* A product of one row does without oneDNN, too. */
static void run_row_product(bits_case *c) {
    enum { OUT = 203 };
    mst_matmul_args args = {.m = 1,
                            .n = OUT,
                            .k = COLS,
                            .dtype = c->dtype,
                            .c_dtype = c->dtype,
                            .b_transposed = true,
                            .a = tensor(c, COLS),
                            .lda = COLS,
                            .b = tensor(c, (size_t)OUT * COLS),
                            .ldb = COLS,
                            .bias = tensor(c, OUT),
                            .c = tensor(c, OUT),
                            .ldc = OUT};
    CHECK_OK(c->kernels->matmul(c->queue, &args));
    args.b_transposed = false;
    args.ldb = OUT;
    args.c_dtype = MST_F32;
    args.c = floats(c, OUT);
    CHECK_OK(c->kernels->matmul(c->queue, &args));
}

/* The product of bf16 that is muster's own, at the one level that has it: every layout, incomplete tiles, a single last element of k,
 * and k in one slab and in three. */
static void run_panel_product(bits_case *c) {
    enum { M = 77, N = 83 };
    if (c->dtype != MST_BF16 || strncmp(c->kernels->class_name, "cpu x86-64-v4-bf16 ", 19) != 0) return;
    static const size_t depths[] = {2, 333, 9001};
    for (size_t i = 0; i < 4 * sizeof depths / sizeof *depths; i++) {
        const size_t k = depths[i / 4];
        mst_matmul_args args = {.m = M,
                                .n = N,
                                .k = k,
                                .dtype = MST_BF16,
                                .c_dtype = MST_F32,
                                .ldc = N,
                                .a_transposed = i & 1,
                                .b_transposed = i & 2};
        args.lda = args.a_transposed ? M : k;
        args.ldb = args.b_transposed ? k : N;
        args.a = tensor(c, M * k);
        args.b = tensor(c, N * k);
        args.c = floats(c, (size_t)M * N);
        args.accumulate = i % 3 == 0;
        CHECK_OK(c->kernels->matmul(c->queue, &args));
        args.accumulate = false;
        args.c_dtype = MST_BF16;
        args.c = tensor(c, (size_t)M * N);
        if (i % 3 == 1) args.scale = 0.3;
        if (i % 3 == 2) args.bias = tensor(c, N);
        CHECK_OK(c->kernels->matmul(c->queue, &args));
    }
}

/* Several tokens, and one, after kept ones. */
static void run_attention(bits_case *c) {
    enum { KEPT = 90, NEW = 40, WIDTH = 4 * HEAD_DIM, KV = 2 * HEAD_DIM };
    mst_attention_args args = {.sequences = 1,
                               .seq_len = NEW,
                               .heads = 4,
                               .kv_heads = 2,
                               .head_dim = HEAD_DIM,
                               .past = KEPT,
                               .dtype = c->dtype,
                               .scale = 0.1,
                               .q = tensor(c, (size_t)NEW * WIDTH),
                               .k = tensor(c, (size_t)(KEPT + NEW) * KV),
                               .v = tensor(c, (size_t)(KEPT + NEW) * KV),
                               .ldq = WIDTH,
                               .ldk = KV,
                               .ldv = KV,
                               .out = tensor(c, (size_t)NEW * WIDTH),
                               .lse = floats(c, (size_t)4 * NEW)};
    CHECK_OK(c->kernels->attention_forward(c->queue, &args));
    args.seq_len = 1;
    args.out = tensor(c, WIDTH);
    args.lse = floats(c, 4);
    CHECK_OK(c->kernels->attention_forward(c->queue, &args));
}

static const struct {
    const char *name;
    void (*run)(bits_case *c);
} operations[] = {{"norms", run_norms},         {"norm gradients", run_norm_grads},
                  {"rope", run_rope},           {"swiglu", run_swiglu},
                  {"gelu", run_gelu},           {"embedding", run_embedding},
                  {"bias_grad", run_bias_grad}, {"cross_entropy", run_cross_entropy},
                  {"adamw", run_adamw},         {"ordered_sum", run_ordered_sum},
                  {"flat arrays", run_flat},    {"row product", run_row_product},
                  {"attention", run_attention}, {"panel product", run_panel_product}};

/* ---------------------------------------------------------------- digests */

/** Runs one operation and adds all of its memory to the digest. */
static void digest_operation(size_t operation, const mst_kernels *kernels, mst_queue *queue, mst_dtype dtype,
                             mst_hasher *hasher) {
    bits_case c = {.kernels = kernels, .queue = queue, .dtype = dtype, .stream = 100 * operation};
    operations[operation].run(&c);
    for (size_t i = 0; i < c.used; i++) {
        CHECK_OK(mst_hasher_update(hasher, c.memory[i], c.bytes[i]));
        free(c.memory[i]);
    }
}

/** Digest of the operations first to last - 1 on `threads` threads. */
static void digest_all(const mst_kernels *kernels, int threads, size_t first, size_t last,
                       char hex_out[MST_DIGEST_HEX]) {
    mst_queue *queue = NULL;
    mst_hasher *hasher = NULL;
    mst_digest digest = {{0}};
    CHECK_OK(mst_queue_create(threads, &queue));
    CHECK_OK(mst_hasher_create(&hasher));
    for (size_t i = first; i < last; i++) {
        digest_operation(i, kernels, queue, MST_F32, hasher);
        digest_operation(i, kernels, queue, MST_BF16, hasher);
    }
    CHECK_OK(mst_hasher_finish(hasher, &digest));
    mst_digest_to_hex(&digest, hex_out);
    mst_hasher_destroy(&hasher);
    mst_queue_destroy(&queue);
}

static void test_refusals(const mst_kernels *kernels) {
    mst_kernels other;
    CHECK_STATUS(mst_kernels_open(MST_DEVICE_CPU, "x86-64-v9", &other), MST_EUNSUPPORTED);
    CHECK(strstr(mst_error_message(), "x86-64-v9") != NULL, "not named: %s", mst_error_message());
    mst_gelu_args gelu = {.count = 1, .dtype = MST_F64};
    CHECK_STATUS(kernels->gelu_forward(NULL, &gelu), MST_EUNSUPPORTED);
    CHECK(strstr(mst_error_message(), "gelu_forward") != NULL, "not named: %s", mst_error_message());
}

int main(int argc, char **argv) {
    enum { OPERATIONS = sizeof operations / sizeof operations[0] };
    bool print = argc == 3 && strcmp(argv[1], "--print") == 0;
    if (argc != 2 && !print) return fprintf(stderr, "usage: test_cpu_bits [--print] LEVEL\n"), 2;
    const char *level = argv[argc - 1];
    mst_kernels kernels;
    mst_status status = mst_kernels_open(MST_DEVICE_CPU, level, &kernels);
    if (status == MST_EUNSUPPORTED) SKIP("%s", mst_error_message());
    CHECK_OK(status);
    if (status != MST_OK) return test_finish("test_cpu_bits");

    char digest[MST_DIGEST_HEX], on_threads[MST_DIGEST_HEX];
    for (size_t i = 0; print && i < OPERATIONS; i++) {
        digest_all(&kernels, 1, i, i + 1, digest);
        printf("%-16s %s\n", operations[i].name, digest);
    }
    digest_all(&kernels, 1, 0, OPERATIONS, digest);
    printf("%-16s %s\n", level, digest);
    if (print) return test_failures > 0;
    const char *expected = strcmp(level, "x86-64-v2") == 0        ? digest_separate
                           : strcmp(level, "x86-64-v4-bf16") == 0 ? digest_pairs
                                                                  : digest_fused;
#if !defined(__x86_64__) && !defined(__ARM_FEATURE_FMA)
    expected = digest_separate;
#endif
    CHECK(strcmp(digest, expected) == 0, "%s has other bits than those that stand in this test", level);
    const int threads[] = {2, 3, 8};
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        digest_all(&kernels, threads[i], 0, OPERATIONS, on_threads);
        CHECK(strcmp(on_threads, digest) == 0, "%d threads give other bits than one", threads[i]);
    }
    test_refusals(&kernels);
    return test_finish("test_cpu_bits");
}
