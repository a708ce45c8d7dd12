/*
 * What a model in Hugging Face's layout computes with adapters in PEFT's: tokens and targets (int32 [2, 7]), logits at every position of
 * the first sequence (fp32), the loss, and the gradients of the adapters, whose names stand in tensors.txt. A tool of the oracle tests.
 *
 *   lora_dump FOLDER MODEL ADAPTERS RANK SCALE TARGETS
 */
#include <errno.h>

#include "muster/convert.h"
#include "unit/lora_fixture.h"

static const char *folder;

static void fail(const char *what, const char *which) {
    fprintf(stderr, "lora_dump: %s %s\n", what, which);
    exit(2);
}

static FILE *open_file(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "ab");
    if (!file) fail(strerror(errno), path);
    return file;
}

static void append(const char *name, const void *data, size_t bytes) {
    FILE *file = open_file(name);
    if (fwrite(data, 1, bytes, file) != bytes) fail("cannot write", name);
    if (fclose(file)) fail("cannot close", name);
}

/* Into weights of the fixture, fp32, from unit `first` on. */
static void load(mst_hf *hf, const mst_layout *layout, void *const *weights) {
    mst_shard shards[FIXTURE_UNITS] = {{0}};
    for (size_t u = 0; u < layout->unit_count; u++)
        shards[u] = (mst_shard){.blocks = layout->units[u].blocks, .master = weights[u]};
    fixture_need(mst_hf_load(hf, layout, NULL, shards, NULL, NULL, NULL));
}

static void write_gradients(const lora_fixture *x) {
    FILE *list = open_file("tensors.txt");
    for (size_t t = 0; t < x->adapters.tensor_count; t++) {
        const mst_tensor *tensor = &x->adapters.tensors[t];
        fprintf(list, "%s %zu %zu\n", tensor->name, tensor->shape[0], tensor->shape[1]);
        append("gradients.f32", (const float *)x->gradients[tensor->unit] + tensor->offset,
               tensor->count * sizeof(float));
    }
    if (fclose(list)) fail("cannot close", "tensors.txt");
}

int main(int argc, char **argv) {
    mst_hf *model = NULL, *adapters = NULL;
    lora_fixture x;
    mst_loss loss;
    if (argc != 7) fail("usage:", "lora_dump FOLDER MODEL ADAPTERS RANK SCALE TARGETS");
    folder = argv[1];
    fixture_need(mst_hf_open(argv[2], NULL, &model));
    const mst_model_config config = *mst_hf_model(model);
    mst_lora lora = {.rank = strtoull(argv[4], NULL, 10), .scale = strtod(argv[5], NULL)};
    fixture_need(mst_lora_targets(config.family, argv[6], &lora.targets));
    fixture_need(mst_hf_open_adapters(argv[3], &config, &lora, &adapters));
    lora_fixture_init(&x, &config, &lora, MST_F32, MST_DEVICE_CPU, 1, 11);
    load(model, &x.f.layout, x.f.weights);
    load(adapters, &x.adapters, x.f.weights + x.first);
    fixture_need(lora_train(&x, 1, 0, &loss));
    const size_t rows = x.f.options.micro * x.f.options.seq_len, vocab = config.vocab_size;
    append("tokens.i32", x.f.tokens, rows * sizeof *x.f.tokens);
    append("targets.i32", x.f.targets, rows * sizeof *x.f.targets);
    append("loss.f64", &loss.loss, sizeof loss.loss);
    write_gradients(&x);
    mst_weight_source source = fixture_source(&x.f);
    float *logits = malloc(vocab * sizeof *logits);
    if (!logits) fail("no memory for", "logits");
    for (size_t p = 0; p < x.f.options.seq_len; p++) {
        fixture_need(mst_model_logits(x.f.model, &source, x.f.tokens, p, logits));
        append("logits.f32", logits, vocab * sizeof *logits);
    }
    free(logits);
    lora_fixture_clear(&x);
    mst_hf_close(&model);
    mst_hf_close(&adapters);
    return 0;
}
