/* The decoder's contract: what it refuses, the order of its units, what its passes
 * agree on, and bits over threads. */
#include "model_fixture.h"

static const uint64_t seed = 77;

/* One wrong number and a word that the message must have. */
static void check_refused(mst_model_config config, const char *words) {
    CHECK_STATUS(mst_model_config_check(&config), MST_ECONFIG);
    CHECK(strstr(mst_error_message(), words), "the message is: %s", mst_error_message());
    mst_layout layout = {0};
    CHECK_STATUS(mst_model_layout(&config, &layout), MST_ECONFIG);
    CHECK(layout.tensors == NULL && layout.unit_count == 0, "a refused config left a layout");
}

#define REFUSED(family_, words, ...)                                                                         \
    do {                                                                                                     \
        mst_model_config config_ = fixture_config(family_, 2, 4, 2), *c = &config_;                          \
        __VA_ARGS__;                                                                                         \
        check_refused(config_, words);                                                                       \
    } while (0)

#define SCALED(c, low, high, length)                                                                         \
    ((c)->rope_factor = 8, (c)->rope_low_freq_factor = (low), (c)->rope_high_freq_factor = (high),           \
     (c)->rope_original_seq_len = (length))

static void check_refusals(void) {
    REFUSED(MST_FAMILY_LLAMA, "model.family", c->family = MST_FAMILY_COUNT);
    REFUSED(MST_FAMILY_LLAMA, "model.vocab_size is 0", c->vocab_size = 0);
    REFUSED(MST_FAMILY_LLAMA, "model.vocab_size", c->vocab_size = (size_t)1 << 40);
    REFUSED(MST_FAMILY_LLAMA, "model.d_model", c->d_model = 0);
    REFUSED(MST_FAMILY_LLAMA, "model.n_layers", c->n_layers = SIZE_MAX);
    REFUSED(MST_FAMILY_LLAMA, "model.n_heads is 0", c->n_heads = 0);
    REFUSED(MST_FAMILY_LLAMA, "must divide model.d_model, which is 32", c->n_heads = 5);
    REFUSED(MST_FAMILY_LLAMA, "must divide model.n_heads, which is 4", c->n_kv_heads = 3);
    REFUSED(MST_FAMILY_LLAMA, "must divide model.n_heads", c->n_kv_heads = 8);
    REFUSED(MST_FAMILY_LLAMA, "must be even", c->head_dim = 7);
    REFUSED(MST_FAMILY_LLAMA, "model.d_ff", c->d_ff = 0);
    REFUSED(MST_FAMILY_LLAMA, "model.norm_eps", c->norm_eps = 0);
    REFUSED(MST_FAMILY_LLAMA, "model.norm_eps is nan", c->norm_eps = NAN);
    REFUSED(MST_FAMILY_LLAMA, "model.rope_theta", c->rope_theta = 0.5);
    REFUSED(MST_FAMILY_LLAMA, "model.rope_theta is inf", c->rope_theta = INFINITY);
    REFUSED(MST_FAMILY_LLAMA, "model.init_deviation", c->init_deviation = -1);
    REFUSED(MST_FAMILY_LLAMA, "model.rope_factor is 0.5", c->rope_factor = 0.5);
    REFUSED(MST_FAMILY_QWEN2, "model.rope_factor is nan", c->rope_factor = NAN);
    REFUSED(MST_FAMILY_LLAMA, "model.rope_low_freq_factor is 0", SCALED(c, 0, 4, 8192));
    REFUSED(MST_FAMILY_LLAMA, "model.rope_high_freq_factor is 1; it must be above", SCALED(c, 1, 1, 8192));
    REFUSED(MST_FAMILY_LLAMA, "model.rope_high_freq_factor is nan", SCALED(c, 1, NAN, 8192));
    REFUSED(MST_FAMILY_LLAMA, "model.rope_original_seq_len is 0", SCALED(c, 1, 4, 0));
    REFUSED(MST_FAMILY_QWEN3, "must be even", c->head_dim = 7);
    REFUSED(MST_FAMILY_GPT2, "no grouped heads", c->n_kv_heads = 2);
    REFUSED(MST_FAMILY_GPT2, "model.head_dim is 16", c->head_dim = 16);
    REFUSED(MST_FAMILY_GPT2, "model.max_seq_len", c->max_seq_len = 0);
    CHECK(strcmp(mst_family_name(MST_FAMILY_LLAMA), "llama") == 0, "name");
    CHECK(mst_family_name(MST_FAMILY_COUNT) == NULL, "a name for no family");
}

/* What a model refuses at creation and at a pass. */
static void check_misuse(void) {
    fixture f;
    mst_model_config config = fixture_config(MST_FAMILY_GPT2, 1, 2, 2);
    mst_model_options options = {.dtype = MST_F32, .micro = 1, .seq_len = 6};
    fixture_init(&f, &config, &options, MST_DEVICE_REF, 1, seed);
    mst_model *model = NULL;
    mst_model_options bad = options;
    bad.seq_len = 513;
    CHECK_STATUS(mst_model_create(&config, &f.layout, &bad, f.queue, &f.kernels, &model), MST_ECONFIG);
    CHECK(strstr(mst_error_message(), "513") && strstr(mst_error_message(), "512"), "%s",
          mst_error_message());
    bad.seq_len = 512;
    bad.micro = (size_t)1 << 30;
    CHECK_STATUS(mst_model_create(&config, &f.layout, &bad, f.queue, &f.kernels, &model), MST_ECONFIG);
    CHECK(model == NULL, "a refused model was created");
    mst_loss loss = {0};
    f.tokens[2] = 19;
    CHECK_STATUS(fixture_loss(&f, &loss), MST_EINVAL);
    CHECK(strstr(mst_error_message(), "token 2 of the microbatch is 19"), "%s", mst_error_message());
    f.tokens[2] = -1;
    CHECK_STATUS(fixture_loss(&f, &loss), MST_EINVAL);
    f.tokens[2] = 18;
    f.targets[1] = 19;
    CHECK_STATUS(fixture_train(&f, 1, 0, &loss), MST_EINVAL);
    CHECK(strstr(mst_error_message(), "target 1 of the microbatch is 19"), "%s", mst_error_message());
    CHECK(f.acquires == 0, "weights were acquired for a bad microbatch");
    float logits[19];
    mst_weight_source source = fixture_source(&f);
    CHECK_STATUS(mst_model_logits(f.model, &source, f.tokens, 6, logits), MST_EINVAL);
    fixture_clear(&f);
}

static void check_released(const fixture *f, const char *when) {
    for (size_t u = 0; u < f->layout.unit_count; u++)
        CHECK(f->held[u] == 0, "unit %zu is held %d times after %s", u, f->held[u], when);
}

/* Units complete in the order head, last layer ... first layer, embedding;
 * all weights are released, after errors too. */
static void check_units(mst_family_id family, bool tied) {
    fixture f;
    mst_model_config config = fixture_config(family, 3, 2, 1);
    config.tie_embeddings = tied;
    mst_model_options options = {.dtype = MST_F32, .micro = 1, .seq_len = 5};
    fixture_init(&f, &config, &options, MST_DEVICE_REF, 1, seed);
    mst_loss loss = {0};
    CHECK_OK(fixture_train(&f, 1, 0, &loss));
    CHECK(f.done_count == f.layout.unit_count, "%zu units done", f.done_count);
    for (size_t i = 0; i < f.done_count; i++)
        CHECK(f.done[i] == f.layout.unit_count - 1 - i, "unit %zu at %zu", f.done[i], i);
    check_released(&f, "a pass");
    size_t acquires = f.acquires;
    for (size_t n = 1; n <= acquires; n++) {
        f.acquires = 0;
        f.fail_acquire = n;
        CHECK_STATUS(fixture_train(&f, 1, 0, &loss), MST_EPEER);
        CHECK(strstr(mst_error_message(), "not to be had"), "%s", mst_error_message());
        check_released(&f, "a failure");
    }
    fixture_clear(&f);
}

/* Gradients are added, and a microbatch's gradient is the sum over its sequences:
 * also where the head's chunks cut them. */
static void check_sums(mst_family_id family) {
    enum { SEQ = 150, SEQUENCES = 2 };
    fixture both, one;
    mst_model_config config = fixture_config(family, 2, 2, 1);
    mst_model_options options = {.dtype = MST_F64, .micro = SEQUENCES, .seq_len = SEQ};
    fixture_init(&both, &config, &options, MST_DEVICE_REF, 1, seed);
    options.micro = 1;
    fixture_init(&one, &config, &options, MST_DEVICE_REF, 1, seed);
    mst_loss loss = {0}, sum = {0};
    CHECK_OK(fixture_train(&both, 0.5, 1e-3, &loss));
    for (size_t s = 0; s < SEQUENCES; s++) {
        mst_loss part = {0};
        memcpy(one.tokens, both.tokens + s * SEQ, SEQ * sizeof *one.tokens);
        memcpy(one.targets, both.targets + s * SEQ, SEQ * sizeof *one.targets);
        CHECK_OK(fixture_train(&one, 0.5, 1e-3, &part));
        sum.loss += part.loss, sum.zloss += part.zloss, sum.valid += part.valid;
    }
    /* fp64 sums of some hundred terms, in another order: 1e-16 times a few tens. */
    CHECK(sum.valid == loss.valid && loss.valid == 240, "%zu valid", (size_t)loss.valid);
    CHECK(fabs(sum.loss / loss.loss - 1) <= 1e-13, "loss %.17g and %.17g", loss.loss, sum.loss);
    CHECK(fabs(sum.zloss / loss.zloss - 1) <= 1e-13, "zloss %.17g and %.17g", loss.zloss, sum.zloss);
    for (size_t t = 0; t < both.layout.tensor_count; t++) {
        double error = fixture_gradient_error(&both, &one, &both.layout.tensors[t]);
        CHECK(error <= 1e-12, "%s: %.3g", both.layout.tensors[t].name, error);
    }
    fixture_clear(&both);
    fixture_clear(&one);
}

/* However many rows of logits there are at a time, the sums are the same up to rounding; fewer take less memory. */
static void check_head_rows(mst_family_id family) {
    enum { SEQ = 150, SEQUENCES = 2 };
    fixture all, some;
    mst_model_config config = fixture_config(family, 2, 2, 1);
    mst_model_options options = {
        .dtype = MST_F64, .micro = SEQUENCES, .seq_len = SEQ, .head_rows = SEQ * SEQUENCES};
    fixture_init(&all, &config, &options, MST_DEVICE_REF, 1, seed);
    mst_loss loss = {0}, other = {0};
    CHECK_OK(fixture_train(&all, 0.5, 1e-3, &loss));
    size_t bytes = mst_model_bytes(all.model);
    for (size_t rows = 0; rows <= 64; rows += 32) {
        options.head_rows = rows;
        fixture_init(&some, &config, &options, MST_DEVICE_REF, 1, seed);
        CHECK_OK(fixture_train(&some, 0.5, 1e-3, &other));
        CHECK(fabs(other.loss / loss.loss - 1) <= 1e-13, "%zu rows: loss %.17g, not %.17g", rows, other.loss,
              loss.loss);
        for (size_t t = 0; t < all.layout.tensor_count; t++) {
            double error = fixture_gradient_error(&some, &all, &all.layout.tensors[t]);
            CHECK(error <= 1e-12, "%zu rows, %s: %.3g", rows, all.layout.tensors[t].name, error);
        }
        size_t held = rows == 0 ? 256 : rows, saved = (SEQ * SEQUENCES - held) * config.vocab_size;
        CHECK(bytes - mst_model_bytes(some.model) >= saved * sizeof(double) - 64, "%zu rows save %zu bytes",
              rows, bytes - mst_model_bytes(some.model));
        fixture_clear(&some);
    }
    fixture_clear(&all);
}

/* A forward-only model is smaller and gives the same loss to the last bit;
 * logits give the same loss again. */
static void check_forward_only(mst_family_id family, mst_dtype dtype, mst_device device) {
    fixture f, forward;
    mst_model_config config = fixture_config(family, 3, 4, 2);
    mst_model_options options = {.dtype = dtype, .micro = 2, .seq_len = 12};
    fixture_init(&f, &config, &options, device, 2, seed);
    options.forward_only = true;
    fixture_init(&forward, &config, &options, device, 2, seed);
    mst_loss trained = {0}, loss = {0}, only = {0};
    CHECK_OK(fixture_train(&f, 1, 1e-4, &trained));
    CHECK_OK(fixture_loss(&f, &loss));
    CHECK_OK(fixture_loss(&forward, &only));
    CHECK(memcmp(&trained, &loss, sizeof loss) == 0 && memcmp(&loss, &only, sizeof loss) == 0,
          "%.17g %.17g %.17g", trained.loss, loss.loss, only.loss);
    CHECK(mst_model_bytes(forward.model) < mst_model_bytes(f.model), "forward only: %zu bytes, training: %zu",
          mst_model_bytes(forward.model), mst_model_bytes(f.model));
    CHECK_STATUS(fixture_train(&forward, 1, 0, &loss), MST_EINVAL);

    double sum = 0;
    mst_weight_source source = fixture_source(&forward);
    for (size_t r = 12; r < 24; r++) forward.targets[r] = -1; /* logits are of the first sequence */
    for (size_t r = 0; r < 12; r++) {
        double logits[19], total = 0;
        CHECK_OK(mst_model_logits(forward.model, &source, forward.tokens, r, logits));
        for (size_t j = 0; j < 19; j++) total += exp(fixture_get(logits, j, mst_dtype_acc(dtype)));
        if (forward.targets[r] < 0) continue;
        sum += log(total) - fixture_get(logits, (size_t)forward.targets[r], mst_dtype_acc(dtype));
    }
    CHECK_OK(fixture_loss(&forward, &only));
    /* Both from fp32 logits; a row's loss is rounded to fp32 and its exponentials have a few ulp. */
    CHECK(fabs(sum / only.loss - 1) <= 1e-6, "loss %.9g, from logits %.9g", only.loss, sum);
    fixture_clear(&f);
    fixture_clear(&forward);
}

/* A later token changes no earlier logit, and does change its own. */
static void check_causal(mst_family_id family) {
    fixture f;
    mst_model_config config = fixture_config(family, 2, 4, 2);
    mst_model_options options = {.dtype = MST_F32, .micro = 1, .seq_len = 9, .forward_only = true};
    fixture_init(&f, &config, &options, MST_DEVICE_REF, 1, seed);
    mst_weight_source source = fixture_source(&f);
    float before[9][19], after[9][19];
    for (size_t r = 0; r < 9; r++) CHECK_OK(mst_model_logits(f.model, &source, f.tokens, r, before[r]));
    f.tokens[5] = (f.tokens[5] + 1) % 19;
    for (size_t r = 0; r < 9; r++) CHECK_OK(mst_model_logits(f.model, &source, f.tokens, r, after[r]));
    for (size_t r = 0; r < 9; r++) {
        bool same = memcmp(before[r], after[r], sizeof before[r]) == 0;
        CHECK(same == (r < 5), "logits of position %zu %s by token 5", r, same ? "unchanged" : "changed");
    }
    fixture_clear(&f);
}

/*
 * fp32 on the fast table against the specification. Along any path there are some tens of roundings of 2^-24
 * and sums of up to a hundred terms: about 1e-6 of a tensor's norm, at most ten times that.
 */
static void check_fast_table(mst_family_id family) {
    fixture ref, cpu;
    mst_model_config config = fixture_config(family, 3, 6, 2);
    mst_model_options options = {.dtype = MST_F32, .micro = 2, .seq_len = 37};
    fixture_init(&ref, &config, &options, MST_DEVICE_REF, 1, seed);
    fixture_init(&cpu, &config, &options, MST_DEVICE_CPU, 2, seed);
    mst_loss expected = {0}, loss = {0};
    CHECK_OK(fixture_train(&ref, 1, 1e-4, &expected));
    CHECK_OK(fixture_train(&cpu, 1, 1e-4, &loss));
    double error = fabs(loss.loss / expected.loss - 1), worst = 0;
    CHECK(error <= 1e-6, "loss %.9g, expected %.9g", loss.loss, expected.loss);
    for (size_t t = 0; t < ref.layout.tensor_count; t++) {
        double e = fixture_gradient_error(&cpu, &ref, &ref.layout.tensors[t]);
        CHECK(e <= 1e-5, "%s: relative error %.3g", ref.layout.tensors[t].name, e);
        worst = e > worst ? e : worst;
    }
    printf("%s, f32, cpu against ref: loss %.1e, worst gradient %.1e\n", mst_family_name(family), error,
           worst);
    fixture_clear(&ref);
    fixture_clear(&cpu);
}

/* The same bits with any number of threads: loss and every gradient. */
static void check_threads(mst_family_id family, mst_dtype dtype) {
    static const int threads[] = {2, 3, 8};
    fixture alone;
    mst_model_config config = fixture_config(family, 2, 9, 3);
    config.vocab_size = 301;
    mst_model_options options = {.dtype = dtype, .micro = 3, .seq_len = 101};
    fixture_init(&alone, &config, &options, MST_DEVICE_CPU, 1, seed);
    mst_loss expected = {0};
    CHECK_OK(fixture_train(&alone, 1, 1e-4, &expected));
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        fixture f;
        fixture_init(&f, &config, &options, MST_DEVICE_CPU, threads[i], seed);
        mst_loss loss = {0};
        CHECK_OK(fixture_train(&f, 1, 1e-4, &loss));
        CHECK(memcmp(&loss, &expected, sizeof loss) == 0, "%s %s: loss with %d threads",
              mst_family_name(family), mst_dtype_name(dtype), threads[i]);
        for (size_t u = 0; u < f.layout.unit_count; u++) {
            size_t bytes = f.layout.units[u].blocks * MST_BLOCK * sizeof(float);
            CHECK(memcmp(f.gradients[u], alone.gradients[u], bytes) == 0,
                  "%s %s: gradient of %s with %d threads", mst_family_name(family), mst_dtype_name(dtype),
                  f.layout.units[u].name, threads[i]);
        }
        fixture_clear(&f);
    }
    fixture_clear(&alone);
}

/* A decoder whose logits are its final norm: the layer adds nothing, and the head is the identity. */
static void fill_norm_only(fixture *f) {
    size_t d = f->config.d_model;
    for (size_t t = 0; t < f->layout.tensor_count; t++) {
        const mst_tensor *tensor = &f->layout.tensors[t];
        bool head = strcmp(tensor->name, "lm_head.weight") == 0;
        bool layer = tensor->unit == 1 && tensor->dims == 2;
        for (size_t i = 0; i < tensor->count && (head || layer); i++)
            fixture_set(f->weights[tensor->unit], tensor->offset + i, f->options.dtype,
                        head && i / d == i % d);
    }
}

/*
 * In bf16 Hugging Face's Llama and Qwen round the normalised value before it is multiplied by the weight, and OLMo 2
 * only after (tests/oracle/check_families.py asks them); the two orders differ in some elements.
 */
static void check_norm_order(mst_family_id family, bool rounds_first) {
    fixture f;
    enum { D = 64, ROWS = 8 };
    mst_model_config config = fixture_config(family, 1, 8, 4);
    config.vocab_size = D;
    config.tie_embeddings = false;
    mst_model_options options = {.dtype = MST_BF16, .micro = 1, .seq_len = ROWS, .forward_only = true};
    fixture_init(&f, &config, &options, MST_DEVICE_CPU, 1, seed);
    fill_norm_only(&f);
    const mst_tensor *table = &f.layout.tensors[0], *norm = &f.layout.tensors[f.layout.tensor_count - 2];
    mst_weight_source source = fixture_source(&f);
    size_t as_expected = 0, as_other = 0;
    for (size_t r = 0; r < ROWS; r++) {
        float logits[D];
        double squares = 0;
        size_t row = table->offset + (size_t)f.tokens[r] * D;
        CHECK_OK(mst_model_logits(f.model, &source, f.tokens, r, logits));
        for (size_t i = 0; i < D; i++) squares += pow(fixture_get(f.weights[0], row + i, MST_BF16), 2);
        float rstd = (float)(1 / sqrt(squares / D + config.norm_eps));
        for (size_t i = 0; i < D; i++) {
            float normal = (float)fixture_get(f.weights[0], row + i, MST_BF16) * rstd;
            float weight = (float)fixture_get(f.weights[norm->unit], norm->offset + i, MST_BF16);
            float first =
                mst_bf16_to_f32(mst_bf16_from_f32(mst_bf16_to_f32(mst_bf16_from_f32(normal)) * weight));
            float last = mst_bf16_to_f32(mst_bf16_from_f32(normal * weight));
            as_expected += logits[i] == (rounds_first ? first : last);
            as_other += logits[i] == (rounds_first ? last : first);
        }
    }
    /* An rstd that is off by its last bit may turn a value or two. */
    CHECK(as_expected >= ROWS * D - 2 && as_other < ROWS * D - 20,
          "%s: %zu of %d norms as expected, %zu the other way", mst_family_name(family), as_expected,
          ROWS * D, as_other);
    fixture_clear(&f);
}

int main(void) {
    printf("seed %llu\n", (unsigned long long)seed);
    check_refusals();
    check_misuse();
    for (int i = 0; i < MST_FAMILY_COUNT; i++) {
        mst_family_id family = (mst_family_id)i;
        check_units(family, true);
        check_units(family, false);
        check_sums(family);
        check_head_rows(family);
        check_causal(family);
        check_forward_only(family, MST_F32, MST_DEVICE_REF);
        check_forward_only(family, MST_BF16, MST_DEVICE_REF);
        check_forward_only(family, MST_F32, MST_DEVICE_CPU);
        check_forward_only(family, MST_BF16, MST_DEVICE_CPU);
        check_fast_table(family);
        check_threads(family, MST_F32);
        check_threads(family, MST_BF16);
    }
    check_norm_order(MST_FAMILY_LLAMA, true);
    check_norm_order(MST_FAMILY_QWEN2, true);
    check_norm_order(MST_FAMILY_QWEN3, true);
    check_norm_order(MST_FAMILY_OLMO2, false);
    return test_finish("test_model");
}
