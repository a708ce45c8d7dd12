/* Checks the specification against cases computed by hand. */
#include "muster/random.h"
#include "ref.h"
#include "test.h"

static void test_matmul(void) {
    const float a[] = {1, 2, 3, 4}, b[] = {5, 6, 7, 8};
    float c[] = {100, 200, 300, 400}, d[4];
    mst_matmul_args args = {.m = 2,
                            .n = 2,
                            .k = 2,
                            .dtype = MST_F32,
                            .c_dtype = MST_F32,
                            .a = a,
                            .lda = 2,
                            .b = b,
                            .ldb = 2,
                            .c = c,
                            .ldc = 2,
                            .accumulate = true};
    CHECK_OK(mst_matmul_ref(NULL, &args));
    CHECK(c[0] == 119 && c[1] == 222 && c[2] == 343 && c[3] == 450, "c += a b: %g %g %g %g", c[0], c[1], c[2],
          c[3]);
    args.accumulate = false;
    args.a_transposed = args.b_transposed = true;
    args.c = d;
    CHECK_OK(mst_matmul_ref(NULL, &args));
    CHECK(d[0] == 23 && d[1] == 31 && d[2] == 34 && d[3] == 46, "a^T b^T: %g %g %g %g", d[0], d[1], d[2],
          d[3]);
    args.lda = 1;
    CHECK_STATUS(mst_matmul_ref(NULL, &args), MST_EINVAL);
}

static void test_norms(void) {
    const double x[] = {3, 4}, delta[] = {0, 3}, weight[] = {1, 10}, bias[] = {0, 1};
    double sum[2], y[2], mean[1], rstd[1];
    mst_norm_args args = {.rows = 1,
                          .groups = 1,
                          .cols = 2,
                          .ldx = 2,
                          .ldy = 2,
                          .dtype = MST_F64,
                          .x = x,
                          .weight = weight,
                          .y = y,
                          .mean = mean,
                          .rstd = rstd};
    CHECK_OK(mst_rmsnorm_forward_ref(NULL, &args)); /* mean square 12.5 */
    CHECK(fabs(rstd[0] - 1 / sqrt(12.5)) < 1e-15 && fabs(y[1] - 40 / sqrt(12.5)) < 1e-14, "rmsnorm %g", y[1]);
    args.delta = delta;
    args.sum = sum;
    args.bias = bias;
    CHECK_OK(mst_layernorm_forward_ref(NULL, &args)); /* of 3 and 7: mean 5, deviation 2 */
    CHECK(sum[1] == 7 && mean[0] == 5 && rstd[0] == 0.5 && y[0] == -1 && y[1] == 11, "layernorm %g %g", y[0],
          y[1]);
    CHECK_STATUS(mst_rmsnorm_forward_ref(NULL, &args), MST_EINVAL); /* it has no bias */
    args.sum = NULL;
    CHECK_STATUS(mst_layernorm_forward_ref(NULL, &args), MST_EINVAL);
}

static void test_rope(void) {
    const float cosine[] = {1, 0}, sine[] = {0, 1};
    double x[] = {1, 2, 3, 4};
    mst_rope_args args = {.rows = 1,
                          .heads = 1,
                          .head_dim = 4,
                          .seq_len = 1,
                          .dtype = MST_F64,
                          .cosine = cosine,
                          .sine = sine,
                          .x = x,
                          .ld = 4};
    CHECK_OK(mst_rope_ref(NULL, &args)); /* pairs (1, 3) by 0 and (2, 4) by a quarter turn */
    CHECK(x[0] == 1 && x[1] == -4 && x[2] == 3 && x[3] == 2, "rope: %g %g %g %g", x[0], x[1], x[2], x[3]);
    args.head_dim = 3;
    CHECK_STATUS(mst_rope_ref(NULL, &args), MST_EINVAL);
}

/* silu(1) = 1 / (1 + 1/e); gelu(1) = (1 + tanh(0.79788456 * 1.044715)) / 2. */
static void test_pointwise(void) {
    const double one[] = {1.0, 0.0}, two[] = {2.0, 5.0};
    double y[2];
    mst_swiglu_args silu = {.rows = 1, .cols = 2, .dtype = MST_F64, .gate = one, .up = two, .y = y};
    CHECK_OK(mst_swiglu_forward_ref(NULL, &silu));
    CHECK(fabs(y[0] - 2.0 / (1.0 + exp(-1.0))) < 1e-15 && y[1] == 0.0, "swiglu: %.17g %g", y[0], y[1]);
    mst_gelu_args at_one = {.count = 2, .dtype = MST_F64, .x = one, .y = y};
    CHECK_OK(mst_gelu_forward_ref(NULL, &at_one));
    CHECK(fabs(y[0] - 0.8411919906082768) < 1e-15 && y[1] == 0.0, "gelu(1) = %.17g", y[0]);
}

/* Rows are added one by one in fp32: (2^24 + 1) + 1 stays 2^24, while 2^24 + (1 + 1) would not. */
static void test_embedding(void) {
    const int32_t zeros[] = {0, 0};
    const float ones[] = {1, 1};
    float total[] = {0x1p24f};
    mst_embedding_args ordered = {.rows = 2,
                                  .cols = 1,
                                  .vocab = 1,
                                  .seq_len = 2,
                                  .dtype = MST_F32,
                                  .tokens = zeros,
                                  .dy = ones,
                                  .dtable = total};
    CHECK_OK(mst_embedding_backward_ref(NULL, &ordered));
    CHECK(total[0] == 0x1p24f, "rows were not added one by one: %.9g", total[0]);
    const int32_t beyond[] = {0, 1};
    ordered.tokens = beyond;
    CHECK_STATUS(mst_embedding_backward_ref(NULL, &ordered), MST_EINVAL); /* token 1 of a vocabulary of 1 */
}

/* Two tokens, one head of 1: the first sees itself alone; the second weighs exp(0) : exp(log 3) = 1 : 3. */
static void test_attention(void) {
    const double q[] = {5, 1}, k[] = {0, log(3.0)}, v[] = {8, 4};
    double out[2], lse[2];
    mst_attention_args args = {.sequences = 1,
                               .seq_len = 2,
                               .heads = 1,
                               .kv_heads = 1,
                               .head_dim = 1,
                               .dtype = MST_F64,
                               .scale = 1.0,
                               .q = q,
                               .k = k,
                               .v = v,
                               .ldq = 1,
                               .ldk = 1,
                               .ldv = 1,
                               .out = out,
                               .lse = lse};
    CHECK_OK(mst_attention_forward_ref(NULL, &args));
    CHECK(out[0] == 8 && fabs(out[1] - 5.0) < 1e-14, "attention: %.17g %.17g", out[0], out[1]);
    CHECK(lse[0] == 0 && fabs(lse[1] - log(4.0)) < 1e-15, "lse: %.17g %.17g", lse[0], lse[1]);
    args.heads = 3;
    args.kv_heads = 2;
    CHECK_STATUS(mst_attention_forward_ref(NULL, &args), MST_EINVAL);
}

/* Five logits alike: p = 1/5, lse = 1 + log 5. The second row has no target. */
static void test_cross_entropy(void) {
    const float logits[] = {1, 1, 1, 1, 1, 7, NAN, 7, 7, 7};
    const int32_t targets[] = {2, -1};
    float loss[2], zloss[2], dlogits[10];
    mst_cross_entropy_args args = {.rows = 2,
                                   .vocab = 5,
                                   .dtype = MST_F32,
                                   .logits = logits,
                                   .targets = targets,
                                   .scale = 1.5,
                                   .loss = loss,
                                   .zloss = zloss,
                                   .dlogits = dlogits,
                                   .ldd = 5};
    CHECK_OK(mst_cross_entropy_ref(NULL, &args));
    CHECK(fabs(loss[0] - log(5.0)) < 1e-6 && fabs(zloss[0] - pow(1.0 + log(5.0), 2.0)) < 1e-6, "loss %.9g",
          loss[0]);
    CHECK(fabs(dlogits[0] - 0.3) < 1e-7 && fabs(dlogits[2] + 1.2) < 1e-7, "dlogits %.9g %.9g", dlogits[0],
          dlogits[2]);
    CHECK(loss[1] == 0 && zloss[1] == 0 && dlogits[6] == 0, "a row without a target counts: %g", loss[1]);
    args.ldd = 4;
    CHECK_STATUS(mst_cross_entropy_ref(NULL, &args), MST_EINVAL);
}

/* e = 2^-24 is half a unit of 1 and ties to even: (1 + e) + (e + e) = 1 + 2e, while ((1 + e) + e) + e = 1. */
static void test_ordered_sum(void) {
    const float one = 1.0f, e = 0x1p-24f;
    const void *sources[] = {&one, &e, &e, &e};
    const uint8_t flat[] = {0, 0, 0, 0}, right_whole[] = {0, 0, 1};
    float result = 1000.0f;
    double norm2 = 0.0;
    mst_ordered_sum_args args = {
        .count = 1, .sources = 4, .source = sources, .level = flat, .result = &result, .block_norm2 = &norm2};
    CHECK_OK(mst_ordered_sum_ref(NULL, &args));
    CHECK(result == 1.0f + 0x1p-23f, "the tree: %.9g", result);
    CHECK(norm2 == (double)result * result, "its norm: %.17g", norm2);
    args.level = right_whole;
    args.sources = 3; /* (1 + e) + e, the second e being a whole subtree: 1 */
    CHECK_OK(mst_ordered_sum_ref(NULL, &args));
    CHECK(result == 1.0f, "levels 0 0 1: %.9g", result);
    args.accumulate = true;
    CHECK_OK(mst_ordered_sum_ref(NULL, &args));
    CHECK(result == 2.0f && norm2 == 4.0, "accumulated: %.9g", result);
    args.level = flat;
    CHECK_STATUS(mst_ordered_sum_ref(NULL, &args), MST_EINVAL); /* 3 lanes are no power of two */
}

/* With a bf16 wire every source and every sum rounds to 8 bits. */
static void test_bf16_wire(void) {
    const float a = 1.0f + 0x1p-9f, b = 0x1p-8f, c = 0x1p-8f, d = 0x1p-9f;
    const void *sources[] = {&a, &b, &c, &d};
    const uint8_t flat[] = {0, 0, 0, 0};
    mst_bf16 result = 0;
    mst_ordered_sum_args args = {.count = 1,
                                 .sources = 4,
                                 .source = sources,
                                 .level = flat,
                                 .wire = MST_BF16,
                                 .result = &result,
                                 .result_dtype = MST_BF16};
    /* a rounds to 1; 1 + 2^-8 ties to 1; 2^-8 + 2^-9 is exact; 1 + 1.5 * 2^-8 rounds to 1 + 2^-7. */
    CHECK_OK(mst_ordered_sum_ref(NULL, &args));
    CHECK(mst_bf16_to_f32(result) == 1.0078125f, "bf16 wire: %.9g", mst_bf16_to_f32(result));
    args.wire = MST_F32;
    CHECK_STATUS(mst_ordered_sum_ref(NULL, &args), MST_EINVAL);
}

/* First step from zero moments: m / correction1 = g, sqrt(v) / correction2_sqrt = |g|,
 * so the step is lr g / (|g| + eps). */
static void test_adamw(void) {
    const float gradient[] = {8.0f, -0.5f};
    float m[2] = {0}, v[2] = {0}, master[] = {1.0f, 1.0f}, weight[2];
    const mst_adamw_part all = {.count = 2, .weight_decay = 0.2};
    mst_adamw_args args = {.parts = &all,
                           .part_count = 1,
                           .gradient = gradient,
                           .m = m,
                           .v = v,
                           .master = master,
                           .weight = weight,
                           .weight_dtype = MST_F32,
                           .gradient_scale = 0.5,
                           .lr = 0.1,
                           .beta1 = 0.9,
                           .beta2 = 0.99,
                           .eps = 1e-8,
                           .correction1 = 0.1,
                           .correction2_sqrt = 0.1};
    CHECK_OK(mst_adamw_ref(NULL, &args));
    CHECK(fabs(m[0] - 0.4) < 1e-7 && fabs(v[0] - 0.16) < 1e-7, "moments %g %g", m[0], v[0]);
    CHECK(fabs(master[0] - (0.98 - 0.1)) < 1e-6 && fabs(master[1] - (0.98 + 0.1)) < 1e-6, "master %g %g",
          master[0], master[1]);
    CHECK(weight[0] == master[0] && weight[1] == master[1], "the copy differs");
}

/* Two parts with a gap before each: what decays is the one's, what lies outside stays as it was. */
static void test_adamw_parts(void) {
    enum { COUNT = 5 };
    const float gradient[COUNT] = {0};
    const mst_adamw_part parts[] = {{.offset = 4, .count = 1, .weight_decay = 0.5},
                                    {.offset = 1, .count = 2}};
    const float expected[COUNT] = {-1.0f, 8.0f, 8.0f, -1.0f, 6.0f}; /* 8 (1 - 0.5 * 0.5) */
    float m[COUNT] = {0}, v[COUNT] = {0}, master[COUNT], weight[COUNT] = {-1.0f, 0.0f, 0.0f, -1.0f, 0.0f};
    mst_adamw_args args = {.parts = parts,
                           .part_count = 2,
                           .gradient = gradient,
                           .m = m,
                           .v = v,
                           .master = master,
                           .weight = weight,
                           .gradient_scale = 1,
                           .lr = 0.5,
                           .eps = 1e-8,
                           .correction1 = 1,
                           .correction2_sqrt = 1};
    for (size_t i = 0; i < COUNT; i++) master[i] = 8.0f;
    CHECK_OK(mst_adamw_ref(NULL, &args));
    CHECK(memcmp(weight, expected, sizeof weight) == 0, "weights %g %g %g %g %g", (double)weight[0],
          (double)weight[1], (double)weight[2], (double)weight[3], (double)weight[4]);
    CHECK(master[0] == 8.0f && master[3] == 8.0f, "masters of no part: %g %g", (double)master[0],
          (double)master[3]);
    CHECK(mst_adamw_extent(&args) == COUNT, "parts end at %zu", mst_adamw_extent(&args));
}

/* The mean of many roundings of one value is that value, while to nearest it would stand still; what is exact stays. */
static void test_adamw_rounding(void) {
    enum { COUNT = 20000 };
    static mst_bf16 m[COUNT], v[COUNT];
    static float gradient[COUNT], master[COUNT], weight[COUNT];
    double sum = 0, square = 0;
    const mst_adamw_part all = {.count = COUNT, .rounding_key = 5};
    mst_adamw_args args = {.parts = &all,
                           .part_count = 1,
                           .gradient = gradient,
                           .m = m,
                           .v = v,
                           .moments = MST_BF16,
                           .master = master,
                           .weight = weight,
                           .gradient_scale = 1,
                           .lr = 0.1,
                           .beta1 = 1,
                           .beta2 = 0.999,
                           .eps = 1e-8,
                           .correction1 = 1,
                           .correction2_sqrt = 1};
    for (size_t i = 0; i < COUNT; i++) m[i] = v[i] = mst_bf16_from_f32(1.0f);
    CHECK_OK(mst_adamw_ref(NULL, &args));
    for (size_t i = 0; i < COUNT; i++) {
        sum += mst_bf16_to_f32(v[i]);
        square += mst_bf16_to_f32(v[i]) != 1.0f;
        CHECK(mst_bf16_to_f32(m[i]) == 1.0f, "an exact moment %zu became %g", i,
              (double)mst_bf16_to_f32(m[i]));
    }
    /* 0.999 lies between 1 - 2^-8 and 1: that many are expected to go down, give or take five deviations. */
    const double odds = 0.001 / 0x1p-8, deviation = sqrt(COUNT * odds * (1 - odds));
    CHECK(fabs(square - COUNT * odds) < 5 * deviation, "%g of %d went down, expected %g", square, (int)COUNT,
          COUNT * odds);
    CHECK(fabs(sum / COUNT - 0.999) < 5 * deviation / COUNT * 0x1p-8, "mean %.9g", sum / COUNT);
}

static void test_cast(void) {
    /* Through fp32 the first would become a tie and go down. */
    const double source[] = {
        1.0 + 0x1p-8 + 0x1p-40, 1.0 + 0x1p-8, 1.0 + 0x1.8p-7, -0.0, INFINITY, NAN, 1e300, 0x1p-140};
    const double expected[] = {1.0 + 0x1p-7, 1.0, 1.0 + 0x1p-6, -0.0, INFINITY, NAN, INFINITY, 0.0};
    mst_bf16 result[8];
    mst_cast_args args = {
        .count = 8, .source = source, .source_dtype = MST_F64, .result = result, .result_dtype = MST_BF16};
    CHECK_OK(mst_cast_ref(NULL, &args));
    for (int i = 0; i < 8; i++) {
        double value = mst_bf16_to_f32(result[i]);
        CHECK(isnan(expected[i]) ? isnan(value)
                                 : value == expected[i] && !signbit(value) == !signbit(expected[i]),
              "%.17g became %.9g", source[i], value);
    }
}

/* printf ab | sha256sum, and xxhsum -H3 */
static void test_block_digest(void) {
    const uint16_t data = 0x6261;
    char hex[MST_DIGEST_HEX];
    mst_digest digest;
    uint64_t checksum;
    mst_block_digest_args args = {
        .count = 1, .dtype = MST_BF16, .data = &data, .digest = &digest, .checksum = &checksum};
    CHECK_OK(mst_block_digest_ref(NULL, &args));
    mst_digest_to_hex(&digest, hex);
    CHECK(strcmp(hex, "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603") == 0, "digest %s",
          hex);
    CHECK(checksum == UINT64_C(0xa873719c24d5735c), "checksum %016llx", (unsigned long long)checksum);
}

static void test_random_normal(void) {
    float result[3];
    mst_random_normal_args args = {.count = 3,
                                   .seed = 7,
                                   .stream = 4,
                                   .first = 9,
                                   .mean = 2.0,
                                   .deviation = 0.5,
                                   .limit = 1.0,
                                   .result = result};
    CHECK_OK(mst_random_normal_ref(NULL, &args));
    for (uint64_t i = 0; i < 3; i++) {
        double z = mst_random_normal(7, MST_RANDOM_INIT, 4, 9 + i, 1.0);
        CHECK(result[i] == (float)(2.0 + 0.5 * z) && fabs(z) <= 1.0, "value %g", result[i]);
    }
}

int main(void) {
    test_matmul();
    test_norms();
    test_rope();
    test_pointwise();
    test_embedding();
    test_attention();
    test_cross_entropy();
    test_ordered_sum();
    test_bf16_wire();
    test_adamw();
    test_adamw_parts();
    test_adamw_rounding();
    test_cast();
    test_block_digest();
    test_random_normal();
    return test_finish("check_ref");
}
