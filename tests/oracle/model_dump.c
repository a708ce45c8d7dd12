/*
 * Runs a small model and writes what another implementation needs to check it: weights, tokens, loss and
 * gradients, and with steps > 0 the weights after that many steps of training. A tool of the oracle tests.
 *
 *   model_dump FOLDER family=llama tied=1 d=64 layers=3 heads=6 kv=2 ff=160 vocab=101 micro=2 seq=33 ...
 *   model_dump FOLDER hf=DIR micro=2 seq=33 ...      a model in Hugging Face's layout, as `muster import` reads it
 *   model_dump FOLDER documents=1 ...                several documents in each sequence
 *
 * Files, raw and little-endian: tensors.txt (name dims rows cols, in the order of the others), weights.f32,
 * tokens.i32 and targets.i32 [steps or 1, micro * seq], starts.i32 (documents only; and then no logits) [micro * seq], logits.f32 [seq, vocab] of the first sequence,
 * gradients.f32, trained.f32, steps.f64 [steps or 1][loss, zloss, valid, norm].
 */
#include <errno.h>

#include "muster/convert.h"
#include "unit/model_fixture.h"

typedef struct settings {
    const char *folder;
    mst_hf *hf; /* the model is read from there; NULL: its settings are given, its weights random */
    mst_model_config config;
    mst_model_options options;
    mst_device device;
    uint64_t seed, steps;
    bool documents;
    double scale, z, rate, decay, clip;
} settings;

static void fail(const char *what, const char *which) {
    fprintf(stderr, "model_dump: %s %s\n", what, which);
    exit(2);
}

static mst_family_id family_named(const char *name) {
    for (int i = 0; i < MST_FAMILY_COUNT; i++)
        if (!strcmp(name, mst_family_name((mst_family_id)i))) return (mst_family_id)i;
    fail("unknown family", name);
    return MST_FAMILY_COUNT;
}

static void open_hf(settings *s, const char *path) {
    fixture_need(mst_hf_open(path, NULL, &s->hf));
    s->config = *mst_hf_model(s->hf);
}

/* In the place of the fixture's random ones; fp32. */
static void load_hf(const settings *s, fixture *f) {
    mst_shard shards[FIXTURE_UNITS] = {{0}};
    for (size_t u = 0; u < f->layout.unit_count; u++)
        shards[u] = (mst_shard){.blocks = f->layout.units[u].blocks, .master = f->weights[u]};
    fixture_need(mst_hf_load(s->hf, &f->layout, NULL, shards, NULL, NULL, NULL));
}

static void set(settings *s, const char *key, const char *value) {
    mst_model_config *c = &s->config;
    double number = strtod(value, NULL);
    size_t size = (size_t)number;
    if (!strcmp(key, "family"))
        c->family = family_named(value);
    else if (!strcmp(key, "hf"))
        open_hf(s, value);
    else if (!strcmp(key, "dtype"))
        s->options.dtype = strcmp(value, "bf16") ? MST_F32 : MST_BF16;
    else if (!strcmp(key, "device"))
        s->device = strcmp(value, "ref") ? MST_DEVICE_CPU : MST_DEVICE_REF;
    else if (!strcmp(key, "tied"))
        c->tie_embeddings = size != 0;
    else if (!strcmp(key, "d"))
        c->d_model = size;
    else if (!strcmp(key, "layers"))
        c->n_layers = size;
    else if (!strcmp(key, "heads"))
        c->n_heads = size;
    else if (!strcmp(key, "kv"))
        c->n_kv_heads = size;
    else if (!strcmp(key, "head_dim"))
        c->head_dim = size;
    else if (!strcmp(key, "ff"))
        c->d_ff = size;
    else if (!strcmp(key, "vocab"))
        c->vocab_size = size;
    else if (!strcmp(key, "positions"))
        c->max_seq_len = size;
    else if (!strcmp(key, "theta"))
        c->rope_theta = number;
    else if (!strcmp(key, "rope_factor"))
        c->rope_factor = number;
    else if (!strcmp(key, "rope_low"))
        c->rope_low_freq_factor = number;
    else if (!strcmp(key, "rope_high"))
        c->rope_high_freq_factor = number;
    else if (!strcmp(key, "rope_original"))
        c->rope_original_seq_len = size;
    else if (!strcmp(key, "eps"))
        c->norm_eps = number;
    else if (!strcmp(key, "micro"))
        s->options.micro = size;
    else if (!strcmp(key, "seq"))
        s->options.seq_len = size;
    else if (!strcmp(key, "seed"))
        s->seed = size;
    else if (!strcmp(key, "steps"))
        s->steps = size;
    else if (!strcmp(key, "documents"))
        s->documents = size != 0;
    else if (!strcmp(key, "scale"))
        s->scale = number;
    else if (!strcmp(key, "z"))
        s->z = number;
    else if (!strcmp(key, "rate"))
        s->rate = number;
    else if (!strcmp(key, "decay"))
        s->decay = number;
    else if (!strcmp(key, "clip"))
        s->clip = number;
    else
        fail("unknown setting", key);
}

static FILE *open_file(const settings *s, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", s->folder, name);
    FILE *file = fopen(path, "ab");
    if (!file) fail(strerror(errno), path);
    return file;
}

/* Appends, so that steps follow each other. */
static void append(const settings *s, const char *name, const void *data, size_t bytes) {
    FILE *file = open_file(s, name);
    if (fwrite(data, 1, bytes, file) != bytes) fail("cannot write", name);
    if (fclose(file)) fail("cannot close", name);
}

/* All tensors one after the other as fp32, without padding. */
static void write_tensors(const settings *s, const fixture *f, const char *name, void *const *units,
                          mst_dtype dtype) {
    for (size_t t = 0; t < f->layout.tensor_count; t++) {
        const mst_tensor *tensor = &f->layout.tensors[t];
        float *values = malloc(tensor->count * sizeof *values);
        if (!values) fail("no memory for", tensor->name);
        for (size_t i = 0; i < tensor->count; i++)
            values[i] = (float)fixture_get(units[tensor->unit], tensor->offset + i, dtype);
        append(s, name, values, tensor->count * sizeof *values);
        free(values);
    }
}

static void write_start(const settings *s, const fixture *f) {
    FILE *list = open_file(s, "tensors.txt");
    for (size_t t = 0; t < f->layout.tensor_count; t++) {
        const mst_tensor *tensor = &f->layout.tensors[t];
        fprintf(list, "%s %zu %zu %zu\n", tensor->name, tensor->dims, tensor->shape[0], tensor->shape[1]);
    }
    if (fclose(list)) fail("cannot close", "tensors.txt");
    write_tensors(s, f, "weights.f32", f->weights, f->options.dtype);
}

/* One microbatch: tokens, gradient and what they gave. Returns the gradient's norm per valid token. */
static double pass(const settings *s, fixture *f, mst_loss *loss) {
    size_t rows = f->options.micro * f->options.seq_len;
    fixture_clear_gradients(f);
    fixture_need(fixture_train(f, s->scale, s->z, loss));
    double norm2 = 0;
    for (size_t t = 0; t < f->layout.tensor_count; t++) {
        const mst_tensor *tensor = &f->layout.tensors[t];
        const float *g = (const float *)f->gradients[tensor->unit] + tensor->offset;
        for (size_t i = 0; i < tensor->count; i++) norm2 += (double)g[i] * (double)g[i];
    }
    double record[4] = {loss->loss, loss->zloss, (double)loss->valid,
                        sqrt(norm2) / (s->scale * (double)loss->valid)};
    append(s, "tokens.i32", f->tokens, rows * sizeof *f->tokens);
    append(s, "targets.i32", f->targets, rows * sizeof *f->targets);
    append(s, "steps.f64", record, sizeof record);
    return record[3];
}

/* Two steps of warm-up, then a cosine to a tenth. */
static double rate_of(const settings *s, uint64_t step) {
    double warm = 2, t = ((double)step + 1 - warm) / ((double)s->steps - warm);
    if ((double)step < warm) return s->rate * ((double)step + 1) / warm;
    return s->rate * (0.1 + 0.9 * 0.5 * (1 + cos(acos(-1.0) * t)));
}

static void update(const settings *s, fixture *f, const mst_tensor *t, void *const state[3], uint64_t step,
                   double scale) {
    const mst_adamw_part all = {.count = t->count, .weight_decay = t->dims == 2 ? s->decay : 0};
    mst_adamw_args args = {
        .parts = &all,
        .part_count = 1,
        .gradient = (const float *)f->gradients[t->unit] + t->offset,
        .m = (float *)state[0] + t->offset,
        .v = (float *)state[1] + t->offset,
        .master = (float *)state[2] + t->offset,
        .weight = (float *)f->weights[t->unit] + t->offset,
        .weight_dtype = MST_F32,
        .gradient_scale = scale,
        .lr = rate_of(s, step),
        .beta1 = 0.9,
        .beta2 = 0.95,
        .eps = 1e-8,
        .correction1 = 1 - pow(0.9, (double)step + 1),
        .correction2_sqrt = sqrt(1 - pow(0.95, (double)step + 1)),
    };
    fixture_need(f->kernels.adamw(f->queue, &args));
}

static void train(const settings *s, fixture *f) {
    void *state[FIXTURE_UNITS][3];
    for (size_t u = 0; u < f->layout.unit_count; u++) {
        size_t bytes = f->layout.units[u].blocks * MST_BLOCK * sizeof(float);
        for (size_t i = 0; i < 3; i++)
            if (!(state[u][i] = calloc(1, bytes))) fail("no memory for", "the optimizer");
        memcpy(state[u][2], f->weights[u], bytes);
    }
    for (uint64_t step = 0; step < s->steps; step++) {
        mst_loss loss = {0};
        fixture_fill_tokens(f, s->seed + step);
        double norm = pass(s, f, &loss), clip = norm > s->clip ? s->clip / norm : 1;
        for (size_t t = 0; t < f->layout.tensor_count; t++) {
            const mst_tensor *tensor = &f->layout.tensors[t];
            update(s, f, tensor, state[tensor->unit], step, clip / (s->scale * (double)loss.valid));
        }
    }
    for (size_t u = 0; u < f->layout.unit_count; u++)
        for (size_t i = 0; i < 3; i++) free(state[u][i]);
}

static void write_logits(const settings *s, fixture *f) {
    mst_weight_source source = fixture_source(f);
    float *logits = malloc(s->config.vocab_size * sizeof *logits);
    if (!logits) fail("no memory for", "logits");
    for (size_t p = 0; p < s->options.seq_len; p++) {
        fixture_need(mst_model_logits(f->model, &source, f->tokens, p, logits));
        append(s, "logits.f32", logits, s->config.vocab_size * sizeof *logits);
    }
    free(logits);
}

/* Documents of 1 to 17 tokens in turn, other ones in each sequence. */
static const int32_t *add_documents(const settings *s, fixture *f) {
    const size_t seq_len = f->options.seq_len, rows = f->options.micro * seq_len;
    int32_t *starts = malloc(rows * sizeof *starts);
    if (!starts) fail("no memory for", "documents");
    for (size_t r = 0, length = 1, left = 0; r < rows; r++, left--) {
        const bool begins = r % seq_len == 0 || left == 0;
        starts[r] = begins ? (int32_t)(r % seq_len) : starts[r - 1];
        if (!begins) continue;
        left = length;
        length = (length + 4) % 17 + 1;
    }
    append(s, "starts.i32", starts, rows * sizeof *starts);
    return starts;
}

int main(int argc, char **argv) {
    settings s = {.config = fixture_config(MST_FAMILY_LLAMA, 2, 4, 2),
                  .seed = 1,
                  .scale = 1,
                  .z = 1e-3,
                  .rate = 1e-3,
                  .decay = 0.1,
                  .clip = 1,
                  .options = {.dtype = MST_F32, .micro = 2, .seq_len = 8}};
    if (argc < 2) fail("usage:", "model_dump FOLDER key=value...");
    s.folder = argv[1];
    for (int i = 2; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (!equals) fail("not key=value:", argv[i]);
        *equals = '\0';
        set(&s, argv[i], equals + 1);
    }
    fixture f;
    fixture_init(&f, &s.config, &s.options, s.device, 2, s.seed);
    if (s.hf != NULL) load_hf(&s, &f);
    write_start(&s, &f);
    const int32_t *starts = s.documents ? add_documents(&s, &f) : NULL;
    f.starts = starts;
    if (s.steps > 0) {
        train(&s, &f);
        write_tensors(&s, &f, "trained.f32", f.weights, MST_F32);
    } else {
        mst_loss loss = {0};
        pass(&s, &f, &loss);
        write_tensors(&s, &f, "gradients.f32", f.gradients, MST_F32);
        if (!s.documents) write_logits(&s, &f);
    }
    free((void *)(uintptr_t)starts);
    fixture_clear(&f);
    mst_hf_close(&s.hf);
    return 0;
}
