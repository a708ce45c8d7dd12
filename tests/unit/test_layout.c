/* Layout, shards and initial values. */
#include "model_fixture.h"

/* One tensor as Hugging Face has it. */
typedef struct expected {
    const char *name;
    size_t dims, shape[2];
} expected;

static const mst_tensor *find(const mst_layout *layout, const char *name) {
    for (size_t t = 0; t < layout->tensor_count; t++)
        if (strcmp(layout->tensors[t].name, name) == 0) return &layout->tensors[t];
    return NULL;
}

static void check_tensors(const mst_layout *layout, const expected *list, size_t count) {
    CHECK(layout->tensor_count == count, "%zu tensors, expected %zu", layout->tensor_count, count);
    for (size_t i = 0; i < count; i++) {
        const mst_tensor *t = find(layout, list[i].name);
        CHECK(t, "%s is missing", list[i].name);
        if (!t) continue;
        bool same =
            t->dims == list[i].dims && t->shape[0] == list[i].shape[0] && t->shape[1] == list[i].shape[1];
        CHECK(same, "%s is %zu x %zu, %zu dims", t->name, t->shape[0], t->shape[1], t->dims);
        bool embedding =
            strstr(t->name, "embed_tokens") || strstr(t->name, ".wte") || strstr(t->name, ".wpe");
        CHECK(t->embedding == embedding, "%s: embedding %d", t->name, t->embedding);
    }
}

/* Units follow each other without gaps; tensors start on blocks and do not overlap. */
static void check_places(const mst_layout *layout) {
    size_t block = 0, tensor = 0, parameters = 0;
    for (size_t u = 0; u < layout->unit_count; u++) {
        const mst_unit *unit = &layout->units[u];
        CHECK(unit->first_block == block && unit->first_tensor == tensor, "unit %s", unit->name);
        size_t next = 0;
        for (size_t i = 0; i < unit->tensors; i++, tensor++) {
            const mst_tensor *t = &layout->tensors[tensor];
            CHECK(t->unit == u && t->offset == next, "%s at %zu of unit %u, expected %zu", t->name, t->offset,
                  t->unit, next);
            CHECK(t->count == t->shape[0] * t->shape[1], "%s: count %zu", t->name, t->count);
            next = t->offset + (t->count + MST_BLOCK - 1) / MST_BLOCK * MST_BLOCK;
            parameters += t->count;
        }
        CHECK(next == unit->blocks * MST_BLOCK, "unit %s has %zu blocks", unit->name, unit->blocks);
        block += unit->blocks;
    }
    CHECK(block == layout->blocks && tensor == layout->tensor_count && parameters == layout->parameters,
          "totals");
}

static void check_llama(void) {
    static const expected list[] = {
        {"model.embed_tokens.weight", 2, {260, 72}},
        {"model.layers.0.input_layernorm.weight", 1, {72, 1}},
        {"model.layers.0.self_attn.q_proj.weight", 2, {72, 72}},
        {"model.layers.0.self_attn.k_proj.weight", 2, {24, 72}},
        {"model.layers.0.self_attn.v_proj.weight", 2, {24, 72}},
        {"model.layers.0.self_attn.o_proj.weight", 2, {72, 72}},
        {"model.layers.0.post_attention_layernorm.weight", 1, {72, 1}},
        {"model.layers.0.mlp.gate_proj.weight", 2, {149, 72}},
        {"model.layers.0.mlp.up_proj.weight", 2, {149, 72}},
        {"model.layers.0.mlp.down_proj.weight", 2, {72, 149}},
        {"model.norm.weight", 1, {72, 1}},
        {"lm_head.weight", 2, {260, 72}},
    };
    mst_model_config config = fixture_config(MST_FAMILY_LLAMA, 1, 9, 3);
    config.vocab_size = 260;
    config.tie_embeddings = false;
    mst_layout layout = {0};
    CHECK_OK(mst_model_layout(&config, &layout));
    check_tensors(&layout, list, sizeof list / sizeof *list);
    check_places(&layout);
    mst_flops flops = mst_model_flops(&config, &layout, 100);
    double used = 260 * 72 + 2 * 72 * 72 + 2 * 24 * 72 + 3 * 149 * 72;
    CHECK(flops.dense == 6 * used, "dense %g, expected %g", flops.dense, 6 * used);
    CHECK(flops.attention == 6.0 * 72 * 100, "attention %g", flops.attention);
    mst_layout_clear(&layout);
    config.tie_embeddings = true;
    CHECK_OK(mst_model_layout(&config, &layout));
    CHECK(!find(&layout, "lm_head.weight"), "a tied model has an LM head of its own");
    CHECK(mst_model_flops(&config, &layout, 100).dense == 6 * used, "a tied table is used once too");
    check_places(&layout);
    mst_layout_clear(&layout);
}

static void check_gpt2(void) {
    static const expected list[] = {
        {"transformer.wte.weight", 2, {19, 24}},
        {"transformer.wpe.weight", 2, {512, 24}},
        {"transformer.h.0.ln_1.weight", 1, {24, 1}},
        {"transformer.h.0.ln_1.bias", 1, {24, 1}},
        {"transformer.h.0.attn.c_attn.weight", 2, {24, 72}},
        {"transformer.h.0.attn.c_attn.bias", 1, {72, 1}},
        {"transformer.h.0.attn.c_proj.weight", 2, {24, 24}},
        {"transformer.h.0.attn.c_proj.bias", 1, {24, 1}},
        {"transformer.h.0.ln_2.weight", 1, {24, 1}},
        {"transformer.h.0.ln_2.bias", 1, {24, 1}},
        {"transformer.h.0.mlp.c_fc.weight", 2, {24, 53}},
        {"transformer.h.0.mlp.c_fc.bias", 1, {53, 1}},
        {"transformer.h.0.mlp.c_proj.weight", 2, {53, 24}},
        {"transformer.h.0.mlp.c_proj.bias", 1, {24, 1}},
        {"transformer.ln_f.weight", 1, {24, 1}},
        {"transformer.ln_f.bias", 1, {24, 1}},
    };
    mst_model_config config = fixture_config(MST_FAMILY_GPT2, 1, 3, 3);
    mst_layout layout = {0};
    CHECK_OK(mst_model_layout(&config, &layout));
    check_tensors(&layout, list, sizeof list / sizeof *list);
    check_places(&layout);
    mst_layout_clear(&layout);
}

typedef struct real_model {
    const char *name;
    mst_model_config config;
    size_t parameters;
} real_model;

/* The published models: the number of parameters is known to the last one. */
static const real_model real_models[] = {
    {"GPT-2 124M",
     {.family = MST_FAMILY_GPT2,
      .vocab_size = 50257,
      .d_model = 768,
      .n_layers = 12,
      .n_heads = 12,
      .n_kv_heads = 12,
      .head_dim = 64,
      .d_ff = 3072,
      .max_seq_len = 1024,
      .tie_embeddings = true},
     124439808},
    {"SmolLM2-135M",
     {.family = MST_FAMILY_LLAMA,
      .vocab_size = 49152,
      .d_model = 576,
      .n_layers = 30,
      .n_heads = 9,
      .n_kv_heads = 3,
      .head_dim = 64,
      .d_ff = 1536,
      .tie_embeddings = true},
     134515008},
    {"Llama-3.2-1B",
     {.family = MST_FAMILY_LLAMA,
      .vocab_size = 128256,
      .d_model = 2048,
      .n_layers = 16,
      .n_heads = 32,
      .n_kv_heads = 8,
      .head_dim = 64,
      .d_ff = 8192,
      .tie_embeddings = true,
      .rope_factor = 32,
      .rope_low_freq_factor = 1,
      .rope_high_freq_factor = 4,
      .rope_original_seq_len = 8192},
     1235814400},
    {"Mistral-7B-v0.3",
     {.family = MST_FAMILY_LLAMA,
      .vocab_size = 32768,
      .d_model = 4096,
      .n_layers = 32,
      .n_heads = 32,
      .n_kv_heads = 8,
      .head_dim = 128,
      .d_ff = 14336},
     7248023552},
    {"Qwen2.5-0.5B",
     {.family = MST_FAMILY_QWEN2,
      .vocab_size = 151936,
      .d_model = 896,
      .n_layers = 24,
      .n_heads = 14,
      .n_kv_heads = 2,
      .head_dim = 64,
      .d_ff = 4864,
      .tie_embeddings = true},
     494032768},
    {"Qwen3-0.6B",
     {.family = MST_FAMILY_QWEN3,
      .vocab_size = 151936,
      .d_model = 1024,
      .n_layers = 28,
      .n_heads = 16,
      .n_kv_heads = 8,
      .head_dim = 128,
      .d_ff = 3072,
      .tie_embeddings = true},
     596049920},
    {"OLMo 2 7B",
     {.family = MST_FAMILY_OLMO2,
      .vocab_size = 100352,
      .d_model = 4096,
      .n_layers = 32,
      .n_heads = 32,
      .n_kv_heads = 32,
      .head_dim = 128,
      .d_ff = 11008},
     7298617344},
};

static void check_real_models(void) {
    for (size_t i = 0; i < sizeof real_models / sizeof *real_models; i++) {
        mst_model_config config = real_models[i].config;
        mst_layout layout = {0};
        config.norm_eps = 1e-5, config.rope_theta = 1e4, config.init_deviation = 0.02;
        CHECK_OK(mst_model_layout(&config, &layout));
        CHECK(layout.parameters == real_models[i].parameters, "%s has %zu parameters, expected %zu",
              real_models[i].name, layout.parameters, real_models[i].parameters);
        mst_layout_clear(&layout);
    }
}

static void check_shards(void) {
    for (size_t blocks = 0; blocks < 40; blocks++) {
        mst_unit unit = {.blocks = blocks};
        for (int size = 1; size < 12; size++) {
            size_t next = 0;
            for (int rank = 0; rank < size; rank++) {
                size_t first = 99, count = 99;
                mst_shard_range(&unit, rank, size, &first, &count);
                CHECK(first == next, "%zu blocks, rank %d of %d begins at %zu, not %zu", blocks, rank, size,
                      first, next);
                CHECK(count <= blocks / (size_t)size + 1, "%zu blocks, rank %d of %d has %zu", blocks, rank,
                      size, count);
                next = first + count;
            }
            CHECK(next == blocks, "%zu blocks on %d ranks: the last ends at %zu", blocks, size, next);
        }
    }
}

/* Values of one tensor: mean and deviation as wished, none beyond three deviations, zeros behind. */
static void check_values(const mst_tensor *t, double wished_deviation, const float *unit) {
    const float *value = unit + t->offset;
    double sum = 0, squares = 0, largest = 0;
    for (size_t i = 0; i < t->count; i++) {
        double z = (double)value[i] - t->init_mean;
        sum += z;
        squares += z * z;
        largest = fmax(largest, fabs(z));
    }
    /* Truncated at 3 deviations a normal has 0.98658 of its deviation. Sampling errors: 5 standard errors. */
    double n = (double)t->count, deviation = wished_deviation * 0.98658;
    CHECK(fabs(sum / n) <= 5 * deviation / sqrt(n), "%s: mean is off by %g", t->name, sum / n);
    CHECK(fabs(sqrt(squares / n) - deviation) <= 5 * deviation / sqrt(2 * n), "%s: deviation %g, wished %g",
          t->name, sqrt(squares / n), deviation);
    CHECK(largest <= 3 * wished_deviation * (1 + 1e-6), "%s: largest %g", t->name, largest);
    size_t padded = (t->count + MST_BLOCK - 1) / MST_BLOCK * MST_BLOCK;
    for (size_t i = t->count; i < padded; i++)
        CHECK(value[i] == 0, "%s: padding %zu is %g", t->name, i, (double)value[i]);
}

static void check_init(mst_family_id family) {
    mst_queue *queue = NULL;
    mst_kernels kernels;
    mst_layout layout = {0};
    mst_model_config config = fixture_config(family, 2, 9, 3);
    config.d_ff = 151;
    fixture_need(mst_queue_create(1, &queue));
    fixture_need(mst_kernels_open(MST_DEVICE_REF, NULL, &kernels));
    fixture_need(mst_model_layout(&config, &layout));
    for (size_t u = 0; u < layout.unit_count; u++) {
        const mst_unit *unit = &layout.units[u];
        size_t count = unit->blocks * MST_BLOCK;
        float *whole = malloc(count * sizeof *whole), *parts = malloc(count * sizeof *parts);
        if (!whole || !parts) exit(1);
        memset(whole, 0xff, count * sizeof *whole);
        memset(parts, 0xff, count * sizeof *parts);
        CHECK_OK(mst_model_init_blocks(&config, &layout, u, 7, 0, unit->blocks, queue, &kernels, whole));
        for (size_t i = unit->first_tensor; i < unit->first_tensor + unit->tensors; i++) {
            const mst_tensor *t = &layout.tensors[i];
            bool residual = strstr(t->name, "c_proj.weight"); /* GPT-2 only: 1 / sqrt(2 layers) */
            check_values(t, t->dims == 1 ? 0 : residual ? 0.02 / 2 : 0.02, whole);
        }
        /* The same values whoever computes them. */
        for (size_t b = 0; b < unit->blocks;) {
            size_t part = 1 + b % 3 < unit->blocks - b ? 1 + b % 3 : unit->blocks - b;
            CHECK_OK(mst_model_init_blocks(&config, &layout, u, 7, b, part, queue, &kernels,
                                           parts + b * MST_BLOCK));
            b += part;
        }
        CHECK(memcmp(whole, parts, count * sizeof *whole) == 0, "unit %s differs when made in parts",
              unit->name);
        CHECK_STATUS(mst_model_init_blocks(&config, &layout, u, 7, 1, unit->blocks, queue, &kernels, parts),
                     MST_EINVAL);
        free(whole);
        free(parts);
    }
    mst_layout_clear(&layout);
    mst_queue_destroy(&queue);
}

int main(void) {
    check_llama();
    check_gpt2();
    check_real_models();
    check_shards();
    for (int family = 0; family < MST_FAMILY_COUNT; family++) check_init((mst_family_id)family);
    return test_finish("test_layout");
}
