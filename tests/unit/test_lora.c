/* Adapters: their names and initial values, their gradients against finite differences, merged and unmerged, threads. */
#include "lora_fixture.h"

enum { SAMPLES = 12 };
static const double loss_scale = 0.7, z_coefficient = 0.05;
static const uint64_t seed = 20240701;

static mst_lora lora_of(mst_family_id family, const char *names, size_t rank) {
    mst_lora lora = {.rank = rank, .scale = 1.7};
    fixture_need(mst_lora_targets(family, names, &lora.targets));
    return lora;
}

/* ---- names ---- */

static void check_names(void) {
    mst_layout layout = {0};
    mst_lora_pair pair;
    mst_model_config config = fixture_config(MST_FAMILY_QWEN2, 3, 4, 2);
    mst_lora lora = lora_of(MST_FAMILY_QWEN2, "v_proj,q_proj", 5);
    CHECK_OK(mst_lora_layout(&config, &lora, &layout));
    CHECK(layout.tensor_count == 12 && layout.unit_count == 3, "%zu tensors, %zu units", layout.tensor_count,
          layout.unit_count);
    CHECK(strcmp(layout.tensors[4].name, "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight") ==
              0,
          "%s", layout.tensors[4].name);
    CHECK(strcmp(layout.tensors[7].name, "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight") ==
              0,
          "%s", layout.tensors[7].name);
    CHECK(layout.tensors[4].shape[0] == 5 && layout.tensors[4].shape[1] == 32, "A is not [rank, in]");
    CHECK(layout.tensors[7].shape[0] == 16 && layout.tensors[7].shape[1] == 5, "B is not [out, rank]");
    CHECK(layout.parameters == 3 * 5 * (32 + 32 + 32 + 16), "%zu parameters", layout.parameters);
    CHECK(mst_lora_find(&config, &layout, "model.layers.2.self_attn.v_proj.weight", &pair) && pair.a == 10 &&
              pair.b == 11 && !pair.in_out,
          "v_proj of layer 2 is not found");
    CHECK(!mst_lora_find(&config, &layout, "model.layers.2.self_attn.v_proj.bias", &pair),
          "a bias has an adapter");
    CHECK(!mst_lora_find(&config, &layout, "model.layers.2.self_attn.k_proj.weight", &pair),
          "k_proj has an adapter");
    mst_layout_clear(&layout);
    /* GPT-2 calls two projections c_proj. */
    config = fixture_config(MST_FAMILY_GPT2, 1, 4, 4);
    lora = lora_of(MST_FAMILY_GPT2, "c_proj", 3);
    CHECK_OK(mst_lora_layout(&config, &lora, &layout));
    CHECK(layout.tensor_count == 4 && layout.tensors[2].shape[1] == config.d_ff, "%zu tensors",
          layout.tensor_count);
    CHECK(mst_lora_find(&config, &layout, "transformer.h.0.mlp.c_proj.weight", &pair) && pair.in_out,
          "mlp.c_proj");
    mst_layout_clear(&layout);
}

static void check_refusals(void) {
    uint64_t targets;
    mst_layout layout = {0};
    const mst_model_config config = fixture_config(MST_FAMILY_LLAMA, 1, 4, 2);
    static const char *const wrong[] = {"c_attn", "q_proj,lm_head", "embed_tokens", "q_proj,,v_proj",
                                        "",       "q_proj.weight"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(mst_lora_targets(MST_FAMILY_LLAMA, wrong[i], &targets) == MST_ECONFIG, "'%s' is taken",
              wrong[i]);
    CHECK(mst_lora_targets(MST_FAMILY_LLAMA, "lm_head", &targets) == MST_ECONFIG &&
              strstr(mst_error_message(), "'lm_head'") &&
              strstr(mst_error_message(), "q_proj, k_proj, v_proj, o_proj"),
          "%s", mst_error_message());
    mst_lora lora = lora_of(MST_FAMILY_LLAMA, "all-linear", 4);
    lora.rank = 0;
    CHECK(mst_lora_layout(&config, &lora, &layout) == MST_ECONFIG, "rank 0 has a layout");
}

/* ---- initial values ---- */

static void check_initial(void) {
    mst_model_config config = fixture_config(MST_FAMILY_LLAMA, 1, 12, 4);
    const mst_lora lora = lora_of(MST_FAMILY_LLAMA, "down_proj,q_proj", 96);
    mst_layout layout = {0};
    mst_queue *queue = NULL;
    mst_kernels kernels;
    fixture_need(mst_queue_create(2, &queue));
    fixture_need(mst_kernels_open(MST_DEVICE_CPU, NULL, &kernels));
    CHECK_OK(mst_lora_layout(&config, &lora, &layout));
    const size_t blocks = layout.units[0].blocks;
    float *whole = malloc(blocks * MST_BLOCK * sizeof *whole),
          *parts = malloc(blocks * MST_BLOCK * sizeof *parts);
    if (!whole || !parts) exit(1);
    memset(whole, 0xff, blocks * MST_BLOCK * sizeof *whole);
    CHECK_OK(mst_model_init_blocks(&config, &layout, 0, 9, 0, blocks, queue, &kernels, whole));
    for (size_t b = 0; b < blocks; b++)
        CHECK_OK(mst_model_init_blocks(&config, &layout, 0, 9, b, 1, queue, &kernels, parts + b * MST_BLOCK));
    CHECK(memcmp(whole, parts, blocks * MST_BLOCK * sizeof *whole) == 0, "block by block other values");
    for (size_t t = 0; t < layout.tensor_count; t++) {
        const mst_tensor *tensor = &layout.tensors[t];
        const double bound = t % 2 == 0 ? 1 / sqrt((double)tensor->shape[1]) : 0;
        double most = 0, sum = 0;
        for (size_t i = 0; i < tensor->count; i++) {
            most = fmax(most, fabs((double)whole[tensor->offset + i]));
            sum += (double)whole[tensor->offset + i];
        }
        CHECK(most <= bound && most >= 0.99 * bound, "%s: up to %g, bound %g", tensor->name, most, bound);
        /* The mean of n uniform values has a deviation of bound / sqrt(3 n). */
        CHECK(fabs(sum) <= 5 * bound * sqrt((double)tensor->count / 3), "%s: mean %g", tensor->name,
              sum / (double)tensor->count);
        for (size_t i = tensor->count; i % MST_BLOCK != 0; i++)
            CHECK(whole[tensor->offset + i] == 0, "%s: padding is not zero", tensor->name);
    }
    free(whole);
    free(parts);
    mst_layout_clear(&layout);
    mst_queue_destroy(&queue);
}

/* ---- gradients ---- */

static double objective(lora_fixture *x) {
    mst_loss loss = {0};
    CHECK_OK(fixture_loss(&x->f, &loss));
    return loss_scale * (loss.loss + z_coefficient * loss.zloss);
}

/* As in test_model_gradient.c. */
static double difference(lora_fixture *x, const mst_tensor *tensor, size_t i) {
    static const double h = 1e-3, factor[3] = {45, -9, 1};
    double *weight = (double *)x->f.weights[x->first + tensor->unit] + tensor->offset + i, kept = *weight,
           sum = 0;
    for (int s = 1; s <= 3; s++) {
        *weight = kept + s * h;
        double above = objective(x);
        *weight = kept - s * h;
        sum += factor[s - 1] * (above - objective(x));
    }
    *weight = kept;
    return sum / (60 * h);
}

static double check_tensor(lora_fixture *x, size_t number) {
    const mst_tensor *tensor = &x->adapters.tensors[number];
    double wrong = 0, norm = 0;
    for (size_t s = 0; s < SAMPLES; s++) {
        size_t i =
            (size_t)((double)tensor->count * mst_random_uniform(seed, MST_RANDOM_TEST, 4000 + number, s));
        double expected = difference(x, tensor, i);
        double seen = ((const double *)x->gradients[tensor->unit])[tensor->offset + i];
        wrong += (seen - expected) * (seen - expected);
        norm += expected * expected;
    }
    const double error = sqrt(wrong / norm);
    CHECK(norm > 1e-8, "%s: the sample's gradient is %g: too small to tell", tensor->name, sqrt(norm));
    CHECK(error <= 1e-9, "%s: relative error %.3g", tensor->name, error);
    return error;
}

/* The units are the adapters', in the order of the backward pass; everything acquired is given back. */
static void check_course(lora_fixture *x) {
    const size_t layers = x->f.config.n_layers;
    CHECK(x->f.done_count == layers, "%zu units are done", x->f.done_count);
    for (size_t i = 0; i < layers; i++)
        CHECK(x->f.done[i] == layers - 1 - i, "unit %zu is done", x->f.done[i]);
    for (size_t u = 0; u < FIXTURE_UNITS; u++) CHECK(x->f.held[u] == 0, "unit %zu is held", u);
}

static void check_gradients(const mst_model_config *config, const char *names) {
    lora_fixture x;
    mst_loss loss = {0};
    const mst_lora lora = lora_of(config->family, names, 3);
    lora_fixture_init(&x, config, &lora, MST_F64, MST_DEVICE_REF, 1, seed);
    CHECK_OK(lora_train(&x, loss_scale, z_coefficient, &loss));
    check_course(&x);
    double worst = 0;
    for (size_t t = 0; t < x.adapters.tensor_count; t++) worst = fmax(worst, check_tensor(&x, t));
    printf("%s %s: %zu tensors, worst relative error %.2e\n", mst_family_name(config->family), names,
           x.adapters.tensor_count, worst);
    lora_fixture_clear(&x);
}

/* Every acquire that fails ends the pass, and nothing stays held. */
static void check_failures(void) {
    lora_fixture x;
    mst_loss loss;
    const mst_model_config config = fixture_config(MST_FAMILY_LLAMA, 2, 2, 1);
    const mst_lora lora = lora_of(MST_FAMILY_LLAMA, "all-linear", 2);
    lora_fixture_init(&x, &config, &lora, MST_F32, MST_DEVICE_CPU, 1, seed);
    CHECK_OK(lora_train(&x, 1, 0, &loss));
    const size_t acquires = x.f.acquires;
    for (size_t n = 1; n <= acquires; n++) {
        x.f.acquires = 0;
        x.f.fail_acquire = n;
        CHECK(lora_train(&x, 1, 0, &loss) == MST_EPEER, "acquire %zu of %zu", n, acquires);
        for (size_t u = 0; u < FIXTURE_UNITS; u++) CHECK(x.f.held[u] == 0, "unit %zu is held", u);
    }
    lora_fixture_clear(&x);
}

/* ---- merged and unmerged ---- */

static double relative(const void *a, const void *b, size_t count, mst_dtype dtype) {
    double wrong = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        const double x = fixture_get(a, i, dtype), y = fixture_get(b, i, dtype);
        wrong += (x - y) * (x - y);
        norm += y * y;
    }
    return sqrt(wrong / norm);
}

/* fp64: 1e-12, some thousand roundings of 1e-16. fp32: that of the other comparisons of models. */
static void check_merged(const mst_model_config *config, mst_dtype dtype, mst_device device, double bound) {
    lora_fixture x;
    fixture merged;
    double worst = 0, logits[2][64];
    const mst_lora lora = lora_of(config->family, "all-linear", 3);
    const mst_model_options options = {.dtype = dtype, .micro = 2, .seq_len = 7};
    lora_fixture_init(&x, config, &lora, dtype, device, 2, seed);
    fixture_init(&merged, config, &options, device, 2, seed);
    lora_merge(&x, &merged);
    mst_weight_source one = fixture_source(&x.f), other = fixture_source(&merged);
    for (size_t p = 0; p < options.seq_len; p++) {
        CHECK_OK(mst_model_logits(x.f.model, &one, x.f.tokens, p, logits[0]));
        CHECK_OK(mst_model_logits(merged.model, &other, x.f.tokens, p, logits[1]));
        const double off = relative(logits[0], logits[1], config->vocab_size, mst_dtype_acc(dtype));
        CHECK(off <= bound, "%s %s: position %zu: merged and unmerged logits differ by %.2e",
              mst_family_name(config->family), mst_dtype_name(dtype), p, off);
        worst = fmax(worst, off);
    }
    printf("%s %s: logits, merged and unmerged: %.1e\n", mst_family_name(config->family),
           mst_dtype_name(dtype), worst);
    fixture_clear(&merged);
    lora_fixture_clear(&x);
}

/* Token by token: as a whole pass, to the bound of test_model_cache. */
static void check_cached(void) {
    lora_fixture x;
    mst_model *keeps = NULL;
    float whole[64], one[64];
    const mst_model_config config = fixture_config(MST_FAMILY_QWEN2, 2, 4, 2);
    const mst_lora lora = lora_of(MST_FAMILY_QWEN2, "all-linear", 3);
    lora_fixture_init(&x, &config, &lora, MST_F32, MST_DEVICE_CPU, 2, seed);
    const mst_model_options options = {
        .dtype = MST_F32, .micro = 1, .seq_len = 4, .forward_only = true, .kept_tokens = 7, .lora = lora};
    CHECK_OK(mst_model_create(&config, &x.f.layout, &options, x.f.queue, &x.f.kernels, &keeps));
    mst_weight_source source = fixture_source(&x.f);
    for (size_t p = 0; p < 7; p++) {
        CHECK_OK(mst_model_extend(keeps, &source, x.f.tokens + p, 1, one));
        CHECK_OK(mst_model_logits(x.f.model, &source, x.f.tokens, p, whole));
        const double off = relative(one, whole, config.vocab_size, MST_F32);
        CHECK(off <= 1e-5, "token %zu: logits differ by %.2e", p, off);
    }
    mst_model_destroy(&keeps);
    lora_fixture_clear(&x);
}

/* ---- threads, and the fast kernels ---- */

static void check_threads(mst_family_id family, mst_dtype dtype) {
    static const int counts[] = {1, 2, 3};
    const mst_model_config config = fixture_config(family, 2, 12, 4);
    const mst_lora lora = lora_of(family, "all-linear", 5);
    lora_fixture first, other;
    mst_loss a = {0}, b = {0};
    lora_fixture_init(&first, &config, &lora, dtype, MST_DEVICE_CPU, counts[0], seed);
    CHECK_OK(lora_train(&first, 1, 1e-3, &a));
    for (size_t i = 1; i < sizeof counts / sizeof *counts; i++) {
        lora_fixture_init(&other, &config, &lora, dtype, MST_DEVICE_CPU, counts[i], seed);
        CHECK_OK(lora_train(&other, 1, 1e-3, &b));
        CHECK(memcmp(&a, &b, sizeof a) == 0, "%s %s: another loss with %d threads", mst_family_name(family),
              mst_dtype_name(dtype), counts[i]);
        for (size_t u = 0; u < first.adapters.unit_count; u++)
            CHECK(memcmp(first.gradients[u], other.gradients[u], lora_unit_bytes(&first, u, MST_F32)) == 0,
                  "%s %s: other gradients of layer %zu with %d threads", mst_family_name(family),
                  mst_dtype_name(dtype), u, counts[i]);
        lora_fixture_clear(&other);
    }
    lora_fixture_clear(&first);
}

/* Relative error of a tensor's gradients. */
static double gradient_error(const lora_fixture *x, const lora_fixture *truth, const mst_tensor *tensor) {
    const mst_dtype acc = mst_dtype_acc(x->f.options.dtype), wide = mst_dtype_acc(truth->f.options.dtype);
    double wrong = 0, norm = 0;
    for (size_t i = tensor->offset; i < tensor->offset + tensor->count; i++) {
        const double seen = fixture_get(x->gradients[tensor->unit], i, acc),
                     right = fixture_get(truth->gradients[tensor->unit], i, wide);
        wrong += (seen - right) * (seen - right);
        norm += right * right;
    }
    return sqrt(wrong / norm);
}

/* The same weights in fp64, rounded or not. */
static void copy_weights(const lora_fixture *from, lora_fixture *to) {
    for (size_t u = 0; u < from->first + from->adapters.unit_count; u++) {
        const size_t blocks =
            u < from->first ? from->f.layout.units[u].blocks : from->adapters.units[u - from->first].blocks;
        for (size_t i = 0; i < blocks * MST_BLOCK; i++)
            fixture_set(to->f.weights[u], i, MST_F64,
                        fixture_get(from->f.weights[u], i, from->f.options.dtype));
    }
}

/*
 * The fast kernels beside the specification, both with the truth in fp64. fp32: as test_model. In bf16 both round at the same places,
 * so their errors are noise of the same size: the fast ones' may be half as much again, which a rounding more would exceed.
 */
static void check_kernels(mst_family_id family, mst_dtype dtype) {
    const mst_model_config config = fixture_config(family, 2, 4, 2);
    const mst_lora lora = lora_of(family, "all-linear", 4);
    lora_fixture fast, ref, truth;
    mst_loss loss = {0};
    double worst = 0, noise = 0;
    lora_fixture_init(&fast, &config, &lora, dtype, MST_DEVICE_CPU, 2, seed);
    lora_fixture_init(&ref, &config, &lora, dtype, MST_DEVICE_REF, 1, seed);
    lora_fixture_init(&truth, &config, &lora, MST_F64, MST_DEVICE_REF, 1, seed);
    copy_weights(&fast, &truth);
    CHECK_OK(lora_train(&fast, 1, 1e-3, &loss));
    CHECK_OK(lora_train(&ref, 1, 1e-3, &loss));
    CHECK_OK(lora_train(&truth, 1, 1e-3, &loss));
    for (size_t t = 0; t < fast.adapters.tensor_count; t++) {
        const mst_tensor *tensor = &fast.adapters.tensors[t];
        const double error = gradient_error(&fast, &truth, tensor),
                     theirs = gradient_error(&ref, &truth, tensor);
        CHECK(dtype == MST_F32 ? error <= 1e-5 : error <= 1.5 * theirs,
              "%s %s: %s: error %.2e, of the specification %.2e", mst_family_name(family),
              mst_dtype_name(dtype), tensor->name, error, theirs);
        worst = fmax(worst, error);
        noise = fmax(noise, theirs);
    }
    printf("%s %s: errors of the fast kernels %.1e, of the specification %.1e\n", mst_family_name(family),
           mst_dtype_name(dtype), worst, noise);
    lora_fixture_clear(&fast);
    lora_fixture_clear(&ref);
    lora_fixture_clear(&truth);
}

int main(void) {
    check_names();
    check_refusals();
    check_initial();
    check_failures();
    check_cached();
    for (int i = 0; i < MST_FAMILY_COUNT; i++) {
        const mst_family_id family = (mst_family_id)i;
        mst_model_config config = fixture_config(family, 2, 3, 1);
        check_gradients(&config, "all-linear");
        check_merged(&config, MST_F64, MST_DEVICE_REF, 1e-12);
        check_merged(&config, MST_F32, MST_DEVICE_CPU, 1e-5);
        check_threads(family, MST_F32);
        check_threads(family, MST_BF16);
        check_kernels(family, MST_F32);
        check_kernels(family, MST_BF16);
    }
    mst_model_config config = fixture_config(MST_FAMILY_LLAMA, 2, 4, 2);
    config.head_dim = 6; /* o_proj reads less than the residual stream's width */
    check_gradients(&config, "o_proj,q_proj");
    config.head_dim = 10; /* and more */
    check_gradients(&config, "o_proj,down_proj");
    return test_finish("test_lora");
}
