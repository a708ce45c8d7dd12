/* Token by token with kept keys and values: the logits of a pass over the whole sequence, for every family. */
#include "model_fixture.h"

enum { VOCAB = 19, SEQ = 37 };
static const uint64_t seed = 31;

/* A model that keeps tokens, on the weights of a fixture. */
static mst_model *keeping(fixture *f, size_t kept, size_t most) {
    mst_model_options options = {
        .dtype = f->options.dtype, .micro = 1, .seq_len = most, .forward_only = true, .kept_tokens = kept};
    mst_model *model = NULL;
    fixture_need(mst_model_create(&f->config, &f->layout, &options, f->queue, &f->kernels, &model));
    return model;
}

static void make(fixture *f, mst_family_id family, mst_dtype dtype, mst_device device, int threads) {
    mst_model_config config = fixture_config(family, 3, 6, 2);
    mst_model_options options = {.dtype = dtype, .micro = 1, .seq_len = SEQ, .forward_only = true};
    fixture_init(f, &config, &options, device, threads, seed);
}

/* Logits are ACC; as doubles. */
typedef struct logits {
    double at[VOCAB];
} logits;

static logits widened(const void *values, mst_dtype dtype) {
    logits l;
    for (size_t i = 0; i < VOCAB; i++) l.at[i] = fixture_get(values, i, mst_dtype_acc(dtype));
    return l;
}

static logits whole_pass(fixture *f, size_t position) {
    double values[VOCAB];
    mst_weight_source source = fixture_source(f);
    CHECK_OK(mst_model_logits(f->model, &source, f->tokens, position, values));
    return widened(values, f->options.dtype);
}

static logits extended(fixture *f, mst_model *model, size_t from, size_t count) {
    double values[VOCAB];
    mst_weight_source source = fixture_source(f);
    CHECK_OK(mst_model_extend(model, &source, f->tokens + from, count, values));
    CHECK(mst_model_kept(model) == from + count, "%zu tokens are kept", mst_model_kept(model));
    return widened(values, f->options.dtype);
}

static bool same_bits(const void *a, const void *b, size_t bytes) {
    return memcmp(a, b, bytes) == 0;
}

/* ||a - b|| / ||b|| */
static double distance(const logits *a, const logits *b) {
    double off = 0, norm = 0;
    for (size_t i = 0; i < VOCAB; i++) {
        off += (a->at[i] - b->at[i]) * (a->at[i] - b->at[i]);
        norm += b->at[i] * b->at[i];
    }
    return sqrt(off / norm);
}

/*
 * Prompts of every length, then one token at a time to the end, `most` tokens a pass.
 *
 * On the ref table every row is computed alone, so the bits must agree. On the cpu table products of one row are
 * summed in another order than products of many: in fp32 along any path some tens of roundings of 2^-24 and sums
 * of up to a hundred terms, about 1e-6 of the norm and at most ten times that. In bf16 such a difference of 1e-7 may
 * turn the rounding of an activation, by 2^-8 of it; that happens to few of the some hundred activations of a token
 * and its predecessors, so it is at most like one rounding of all of them, 2^-8, on each of the 3 layers.
 */
static void check_family(mst_family_id family, mst_dtype dtype, mst_device device, size_t most) {
    double bound = device == MST_DEVICE_REF ? 0 : dtype == MST_F32 ? 1e-5 : 3 * 0x1p-8, worst = 0;
    fixture f;
    make(&f, family, dtype, device, 2);
    mst_model *model = keeping(&f, SEQ, most);
    logits expected[SEQ];
    for (size_t p = 0; p < SEQ; p++) expected[p] = whole_pass(&f, p);
    for (size_t prompt = 1; prompt <= SEQ; prompt++) {
        mst_model_keep_first(model, 0);
        for (size_t count = prompt, p = 0; p < SEQ; p += count, count = 1) {
            logits found = extended(&f, model, p, count);
            double error = distance(&found, &expected[p + count - 1]);
            CHECK(error <= bound, "%s %s, prompt of %zu: position %zu is off by %.3g",
                  mst_family_name(family), mst_dtype_name(dtype), prompt, p + count - 1, error);
            worst = error > worst ? error : worst;
        }
    }
    for (size_t u = 0; u < f.layout.unit_count; u++) CHECK(f.held[u] == 0, "unit %zu is held", u);
    printf("%s, %s on %s, %zu a pass: worst logits %.1e\n", mst_family_name(family), mst_dtype_name(dtype),
           f.kernels.name, most, worst);
    mst_model_destroy(&model);
    fixture_clear(&f);
}

/* The same bits on any number of threads, with sizes that make several tasks of every operation. */
static void check_threads(mst_family_id family, mst_dtype dtype) {
    enum { LENGTH = 150, WIDE = 2000 };
    static const int threads[] = {1, 2, 3, 8};
    float first[LENGTH][WIDE], now[WIDE];
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        fixture f;
        mst_model_config config = fixture_config(family, 2, 12, 4);
        config.vocab_size = WIDE;
        mst_model_options options = {.dtype = dtype, .micro = 1, .seq_len = LENGTH, .forward_only = true};
        fixture_init(&f, &config, &options, MST_DEVICE_CPU, threads[i], seed);
        mst_model *model = keeping(&f, LENGTH, 64);
        mst_weight_source source = fixture_source(&f);
        for (size_t p = 0, count = 70; p < LENGTH; p += count, count = 1) {
            CHECK_OK(mst_model_extend(model, &source, f.tokens + p, count, i == 0 ? first[p] : now));
            CHECK(i == 0 || same_bits(first[p], now, sizeof now), "%s %s: position %zu with %d threads",
                  mst_family_name(family), mst_dtype_name(dtype), p, threads[i]);
        }
        mst_model_destroy(&model);
        fixture_clear(&f);
    }
}

/* What is forgotten has no effect. */
static void check_forgetting(mst_family_id family) {
    fixture f;
    make(&f, family, MST_F32, MST_DEVICE_CPU, 1);
    mst_model *model = keeping(&f, SEQ, SEQ), *fresh = keeping(&f, SEQ, SEQ);
    extended(&f, model, 0, 11);
    logits expected = extended(&f, model, 11, 9);
    mst_model_keep_first(model, 30);
    CHECK(mst_model_kept(model) == 20, "%zu tokens", mst_model_kept(model));
    mst_model_keep_first(model, 11);
    int32_t saved = f.tokens[11];
    f.tokens[11] = (saved + 1) % VOCAB;
    logits other = extended(&f, model, 11, 9);
    CHECK(!same_bits(&other, &expected, sizeof other), "another token changes nothing");
    f.tokens[11] = saved;
    mst_model_keep_first(model, 11);
    logits again = extended(&f, model, 11, 9);
    CHECK(same_bits(&again, &expected, sizeof again), "forgotten tokens are seen");
    extended(&f, fresh, 0, 11);
    again = extended(&f, fresh, 11, 9);
    CHECK(same_bits(&again, &expected, sizeof again), "two models differ");
    mst_model_destroy(&model);
    mst_model_destroy(&fresh);
    fixture_clear(&f);
}

/* A failure anywhere keeps what was kept, and releases every weight. */
static void check_failures(mst_family_id family) {
    fixture f;
    make(&f, family, MST_F32, MST_DEVICE_CPU, 1);
    mst_model *model = keeping(&f, SEQ, 8);
    mst_weight_source source = fixture_source(&f);
    float values[VOCAB];
    extended(&f, model, 0, 5);
    f.acquires = 0;
    logits expected = extended(&f, model, 5, 20);
    size_t acquires = f.acquires;
    for (size_t n = 1; n <= acquires; n++) {
        mst_model_keep_first(model, 5);
        f.acquires = 0;
        f.fail_acquire = n;
        CHECK_STATUS(mst_model_extend(model, &source, f.tokens + 5, 20, values), MST_EPEER);
        CHECK(mst_model_kept(model) == 5, "%zu tokens are kept after a failure", mst_model_kept(model));
        for (size_t u = 0; u < f.layout.unit_count; u++) CHECK(f.held[u] == 0, "unit %zu is held", u);
    }
    f.fail_acquire = 0;
    logits again = extended(&f, model, 5, 20);
    CHECK(same_bits(&again, &expected, sizeof again), "a failure left something behind");
    mst_model_destroy(&model);
    fixture_clear(&f);
}

static void check_refusals(void) {
    fixture f;
    make(&f, MST_FAMILY_GPT2, MST_F32, MST_DEVICE_REF, 1);
    mst_weight_source source = fixture_source(&f);
    mst_model *model = NULL;
    mst_model_options options = {
        .dtype = MST_F32, .micro = 1, .seq_len = 4, .forward_only = true, .kept_tokens = 513};
    CHECK_STATUS(mst_model_create(&f.config, &f.layout, &options, f.queue, &f.kernels, &model), MST_ECONFIG);
    CHECK(strstr(mst_error_message(), "context of 513 tokens; it must be 1 to 512"), "%s",
          mst_error_message());
    options.kept_tokens = 8, options.micro = 2;
    CHECK_STATUS(mst_model_create(&f.config, &f.layout, &options, f.queue, &f.kernels, &model), MST_EINVAL);
    options.micro = 1, options.forward_only = false;
    CHECK_STATUS(mst_model_create(&f.config, &f.layout, &options, f.queue, &f.kernels, &model), MST_EINVAL);
    CHECK(model == NULL, "a refused model was created");

    double values[VOCAB];
    mst_loss loss;
    CHECK_STATUS(mst_model_extend(f.model, &source, f.tokens, 1, values), MST_EINVAL);
    model = keeping(&f, 8, 4);
    CHECK_STATUS(mst_model_extend(model, &source, f.tokens, 0, values), MST_EINVAL);
    CHECK_STATUS(mst_model_extend(model, &source, f.tokens, 9, values), MST_EINVAL);
    extended(&f, model, 0, 7);
    CHECK_STATUS(mst_model_extend(model, &source, f.tokens, 2, values), MST_EINVAL);
    CHECK(strstr(mst_error_message(), "2 tokens after 7") && strstr(mst_error_message(), "kept_tokens is 8"),
          "%s", mst_error_message());
    f.tokens[7] = VOCAB;
    CHECK_STATUS(mst_model_extend(model, &source, f.tokens + 7, 1, values), MST_EINVAL);
    CHECK(mst_model_kept(model) == 7, "%zu tokens", mst_model_kept(model));
    CHECK_STATUS(mst_model_loss(model, &source, f.tokens, f.targets, NULL, &loss), MST_EINVAL);
    CHECK_STATUS(mst_model_logits(model, &source, f.tokens, 0, values), MST_EINVAL);
    mst_model_destroy(&model);
    fixture_clear(&f);
}

/* The memory that model.h states. */
static void check_memory(void) {
    fixture f;
    make(&f, MST_FAMILY_LLAMA, MST_BF16, MST_DEVICE_CPU, 1);
    mst_model *small = keeping(&f, 100, 4), *large = keeping(&f, 1100, 4);
    const mst_model_config *c = &f.config;
    size_t kept = 1000 * c->n_layers * 2 * c->n_kv_heads * c->head_dim * sizeof(mst_bf16);
    size_t angles = 1000 * c->head_dim * sizeof(float),
           more = mst_model_bytes(large) - mst_model_bytes(small);
    CHECK(more == kept + angles, "1000 more tokens take %zu bytes, stated are %zu and %zu", more, kept,
          angles);
    mst_model_destroy(&small);
    mst_model_destroy(&large);
    fixture_clear(&f);
}

/* ---- greedy text of a trained model, with kept tokens and by whole passes ---- */

enum { PERIOD = 11, TEXT = 64 };

static int32_t likeliest(const logits *l) {
    size_t best = 0;
    for (size_t i = 1; i < VOCAB; i++)
        if (l->at[i] > l->at[best]) best = i;
    return (int32_t)best;
}

/* Plain gradient descent on a text with a period. */
static double train(fixture *f) {
    mst_loss loss = {0};
    for (size_t t = 0; t < TEXT; t++) {
        f->tokens[t] = (int32_t)(t * t % PERIOD);
        f->targets[t] = (int32_t)((t + 1) * (t + 1) % PERIOD);
    }
    for (int step = 0; step < 150; step++) {
        fixture_clear_gradients(f);
        CHECK_OK(fixture_train(f, 1.0 / TEXT, 0, &loss));
        for (size_t u = 0; u < f->layout.unit_count; u++)
            for (size_t i = 0; i < f->layout.units[u].blocks * MST_BLOCK; i++)
                ((float *)f->weights[u])[i] -= 0.1f * ((const float *)f->gradients[u])[i];
    }
    return loss.loss / (double)loss.valid;
}

/* From a prompt of five tokens to the whole length, the likeliest token each time. */
static void greedy(fixture *f, bool keep, int32_t text[TEXT]) {
    mst_model *model = keep ? keeping(f, TEXT, TEXT) : NULL;
    for (size_t t = 5; t < TEXT; t++) {
        logits l = !keep    ? whole_pass(f, t - 1)
                   : t == 5 ? extended(f, model, 0, 5)
                            : extended(f, model, t - 1, 1);
        f->tokens[t] = likeliest(&l);
    }
    memcpy(text, f->tokens, TEXT * sizeof *text);
    mst_model_destroy(&model);
}

static void check_greedy(mst_family_id family) {
    fixture trained, rounded;
    int32_t kept[TEXT], whole[TEXT];
    mst_model_config config = fixture_config(family, 2, 4, 2);
    mst_model_options options = {.dtype = MST_F32, .micro = 1, .seq_len = TEXT};
    fixture_init(&trained, &config, &options, MST_DEVICE_CPU, 2, seed);
    options.dtype = MST_BF16;
    fixture_init(&rounded, &config, &options, MST_DEVICE_CPU, 2, seed);
    double loss = train(&trained);
    CHECK(loss < 0.5, "%s: loss %.3f after training", mst_family_name(family), loss);
    for (size_t u = 0; u < trained.layout.unit_count; u++)
        for (size_t i = 0; i < trained.layout.units[u].blocks * MST_BLOCK; i++)
            fixture_set(rounded.weights[u], i, MST_BF16, (double)((float *)trained.weights[u])[i]);
    memcpy(rounded.tokens, trained.tokens, TEXT * sizeof *rounded.tokens);
    fixture *both[] = {&trained, &rounded};
    for (size_t i = 0; i < 2; i++) {
        greedy(both[i], true, kept);
        greedy(both[i], false, whole);
        CHECK(memcmp(kept, whole, sizeof kept) == 0, "%s %s: the texts differ", mst_family_name(family),
              mst_dtype_name(both[i]->options.dtype));
        size_t right = 0;
        for (size_t t = 5; t < TEXT; t++) right += kept[t] == (int32_t)(t * t % PERIOD);
        CHECK(right > TEXT / 2, "%s %s: %zu tokens as trained", mst_family_name(family),
              mst_dtype_name(both[i]->options.dtype), right);
    }
    fixture_clear(&trained);
    fixture_clear(&rounded);
}

int main(void) {
    check_refusals();
    check_memory();
    for (int i = 0; i < MST_FAMILY_COUNT; i++) {
        mst_family_id family = (mst_family_id)i;
        check_family(family, MST_F64, MST_DEVICE_REF, SEQ);
        check_family(family, MST_BF16, MST_DEVICE_REF, 8);
        check_family(family, MST_F32, MST_DEVICE_CPU, SEQ);
        check_family(family, MST_F32, MST_DEVICE_CPU, 8);
        check_family(family, MST_BF16, MST_DEVICE_CPU, SEQ);
        check_family(family, MST_BF16, MST_DEVICE_CPU, 5);
        check_threads(family, MST_F32);
        check_threads(family, MST_BF16);
        check_forgetting(family);
        check_failures(family);
        check_greedy(family);
    }
    return test_finish("test_model_cache");
}
