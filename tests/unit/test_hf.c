/* Models in Hugging Face's layout: stored ones give the logits of transformers, and what is not understood is refused by name.
 * The models are made by tests/oracle/make_hf.py. $1 is their folder. */
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "companions.h"
#include "model_fixture.h"
#include "safetensors.h"

enum { TOKENS = 12 };
static const char *models; /* the folder */

/* As docs/huggingface.md says: some tens of roundings of 2^-24 = 6e-8 on every path give about 1e-6. */
static const double logits_bound = 1e-5;

static char *path_of(const char *folder, const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void read_exactly(const char *path, void *to, size_t bytes) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fread(to, 1, bytes, file) != bytes || fgetc(file) != EOF) {
        fprintf(stderr, "%s does not have %zu bytes\n", path, bytes);
        exit(1);
    }
    fclose(file);
}

/* ---- stored logits ---- */

static void load(mst_hf *hf, fixture *f) {
    mst_shard shards[FIXTURE_UNITS] = {{0}};
    for (size_t u = 0; u < f->layout.unit_count; u++)
        shards[u] = (mst_shard){.blocks = f->layout.units[u].blocks, .master = f->weights[u]};
    CHECK_OK(mst_hf_load(hf, &f->layout, NULL, shards, NULL, NULL, NULL));
}

static void check_logits(const char *name) {
    mst_hf *hf = NULL;
    fixture f;
    const mst_model_options options = {.dtype = MST_F32, .micro = 1, .seq_len = TOKENS};
    CHECK_OK(mst_hf_open(path_of(models, name), NULL, &hf));
    if (hf == NULL) return;
    fixture_init(&f, mst_hf_model(hf), &options, MST_DEVICE_CPU, 2, 1);
    const size_t vocab = f.config.vocab_size;
    float *logits = calloc(vocab, sizeof *logits), *expected = calloc(TOKENS * (vocab + 1), sizeof *expected);
    load(hf, &f);
    char folder[2048];
    snprintf(folder, sizeof folder, "%s/%s", models, name);
    read_exactly(path_of(folder, "expected.bin"), expected, TOKENS * (vocab + 1) * sizeof *expected);
    memcpy(f.tokens, expected, TOKENS * sizeof *f.tokens);
    const mst_weight_source source = fixture_source(&f);
    for (size_t p = 0; p < TOKENS; p++) {
        const float *wanted = expected + TOKENS + p * vocab;
        double difference = 0, norm = 0;
        CHECK_OK(mst_model_logits(f.model, &source, f.tokens, p, logits));
        for (size_t v = 0; v < vocab; v++) {
            difference += ((double)logits[v] - (double)wanted[v]) * ((double)logits[v] - (double)wanted[v]);
            norm += (double)wanted[v] * (double)wanted[v];
        }
        CHECK(sqrt(difference / norm) <= logits_bound, "%s: position %zu: relative error %g", name, p,
              sqrt(difference / norm));
    }
    free(logits);
    free(expected);
    fixture_clear(&f);
    mst_hf_close(&hf);
}

static size_t check_all_logits(void) {
    size_t count = 0;
    DIR *folder = opendir(models);
    if (folder == NULL) exit(1);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        check_logits(entry->d_name);
        count++;
    }
    closedir(folder);
    return count;
}

/* Shards of any ranges hold what the whole holds, and zeros between tensors. */
static void check_shards(void) {
    mst_hf *hf = NULL;
    CHECK_OK(mst_hf_open(path_of(models, "qwen2_9_3"), NULL, &hf));
    if (hf == NULL) return;
    const mst_layout *layout = mst_hf_layout(hf);
    mst_shard shards[FIXTURE_UNITS] = {{0}};
    float *whole[FIXTURE_UNITS];
    for (size_t u = 0; u < layout->unit_count; u++) {
        whole[u] = malloc(layout->units[u].blocks * MST_BLOCK * sizeof(float));
        if (whole[u] == NULL) exit(1);
        memset(whole[u], 0xff, layout->units[u].blocks * MST_BLOCK * sizeof(float));
        shards[u] = (mst_shard){.blocks = layout->units[u].blocks, .master = whole[u]};
    }
    CHECK_OK(mst_hf_load(hf, layout, NULL, shards, NULL, NULL, NULL));
    for (int rank = 0; rank < 3; rank++) {
        for (size_t u = 0; u < layout->unit_count; u++) {
            mst_shard_range(&layout->units[u], rank, 3, &shards[u].first_block, &shards[u].blocks);
            shards[u].master = malloc(shards[u].blocks * MST_BLOCK * sizeof(float) + 1);
            if (shards[u].master == NULL) exit(1);
            memset(shards[u].master, 0xff, shards[u].blocks * MST_BLOCK * sizeof(float));
        }
        CHECK_OK(mst_hf_load(hf, layout, NULL, shards, NULL, NULL, NULL));
        for (size_t u = 0; u < layout->unit_count; u++) {
            CHECK(memcmp(shards[u].master, whole[u] + shards[u].first_block * MST_BLOCK,
                         shards[u].blocks * MST_BLOCK * sizeof(float)) == 0,
                  "rank %d of 3: unit %zu differs", rank, u);
            free(shards[u].master);
        }
    }
    for (size_t u = 0; u < layout->unit_count; u++) free(whole[u]);
    mst_hf_close(&hf);
}

/* ---- config.json ---- */

#define LLAMA_REST                                                                                           \
    "\"hidden_size\": 8, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"intermediate_size\": 6, "   \
    "\"max_position_embeddings\": 16, \"rms_norm_eps\": 1e-5, \"hidden_act\": \"silu\""
#define LLAMA     "\"model_type\": \"llama\", \"vocab_size\": 11, " LLAMA_REST
#define LLAMA_ALL LLAMA ", \"rope_theta\": 10000"
#define QWEN2     "\"model_type\": \"qwen2\", \"vocab_size\": 11, \"rope_theta\": 1e6, " LLAMA_REST
#define SCALING   "\"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4"

static const struct {
    const char *fields;
    mst_status status;
    const char *message; /* a part of it */
} configs[] = {
    {LLAMA_ALL, MST_OK, ""},
    {LLAMA_ALL
     ", \"eos_token_id\": [1, 2], \"head_dim\": null, \"rope_scaling\": null, \"quantization_config\": null",
     MST_OK, ""},
    {LLAMA ", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 5e5}", MST_OK, ""},
    {QWEN2 ", \"use_sliding_window\": false, \"sliding_window\": 4096, \"max_window_layers\": 28", MST_OK,
     ""},
    {LLAMA_ALL ", \"_attn_implementation_autoset\": true, \"rope_interleaved\": false", MST_OK, ""},
    {QWEN2 ", \"layer_types\": [\"full_attention\"]", MST_OK, ""},
    {LLAMA, MST_EFORMAT, "rope_theta is missing, and no default is trusted"},
    {"\"model_type\": \"llama\", \"rope_theta\": 1e4, " LLAMA_REST, MST_EFORMAT, "vocab_size is missing"},
    {"\"model_type\": \"mistral\", \"rope_theta\": 1e4, \"vocab_size\": 9, " LLAMA_REST, MST_EFORMAT,
     "sliding_window is missing"},
    {"\"model_type\": \"mistral\", \"rope_theta\": 1e4, \"vocab_size\": 9, \"sliding_window\": "
     "4096, " LLAMA_REST,
     MST_EUNSUPPORTED, "sliding_window is 4096"},
    {"\"model_type\": \"qwen3\", \"rope_theta\": 1e4, \"vocab_size\": 9, " LLAMA_REST, MST_EFORMAT,
     "head_dim is missing"},
    {QWEN2 ", \"use_sliding_window\": true", MST_EUNSUPPORTED, "use_sliding_window is true"},
    {QWEN2 ", \"layer_types\": [\"sliding_attention\"]", MST_EUNSUPPORTED, "layer_types"},
    {LLAMA_ALL ", \"sliding_window\": 16", MST_EUNSUPPORTED, "sliding_window is 16"},
    {LLAMA_ALL ", \"attention_bias\": true", MST_EUNSUPPORTED, "attention_bias is true"},
    {LLAMA_ALL ", \"mlp_bias\": true", MST_EUNSUPPORTED, "mlp_bias is true"},
    {LLAMA_ALL ", \"quantization_config\": {\"bits\": 4}", MST_EUNSUPPORTED,
     "quantization_config is {\"bits\":4}"},
    {LLAMA_ALL ", \"final_logit_softcapping\": 30.0", MST_EUNSUPPORTED, "final_logit_softcapping is 30.0"},
    {LLAMA_ALL ", \"logits_scaling\": 8", MST_EUNSUPPORTED, "logits_scaling is 8"},
    {LLAMA_ALL ", \"partial_rotary_factor\": 0.5", MST_EUNSUPPORTED, "partial_rotary_factor is 0.5"},
    {LLAMA_ALL ", \"num_local_experts\": 8", MST_EUNSUPPORTED, "num_local_experts is 8"},
    {LLAMA_ALL ", \"auto_map\": {\"AutoModel\": \"x.Y\"}", MST_EUNSUPPORTED, "auto_map"},
    {LLAMA_ALL ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}", MST_EUNSUPPORTED,
     "rope_scaling.rope_type is 'linear'"},
    {LLAMA_ALL ", \"rope_scaling\": {\"type\": \"llama3\", " SCALING "}", MST_EFORMAT,
     "original_max_position_embeddings is missing"},
    {LLAMA_ALL ", \"rope_scaling\": {\"type\": \"default\", \"short_factor\": [1]}", MST_EUNSUPPORTED,
     "rope_scaling.short_factor"},
    {LLAMA_ALL ", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 5}", MST_EFORMAT,
     "rope_theta is given twice"},
    {LLAMA_ALL ", \"num_key_value_heads\": 0", MST_EFORMAT, "num_key_value_heads is 0"},
    {LLAMA_ALL ", \"num_key_value_heads\": 3", MST_EFORMAT, "n_kv_heads is 3"},
    {LLAMA_ALL ", \"tie_word_embeddings\": 1", MST_EFORMAT, "tie_word_embeddings is 1"},
    {LLAMA_ALL ", \"hidden_size\": 8", MST_EFORMAT, "duplicate"},
    {"\"model_type\": \"llama\", \"rope_theta\": 1e4, \"vocab_size\": 1e3, " LLAMA_REST, MST_EFORMAT,
     "vocab_size is 1000.0"},
    {"\"model_type\": \"llama\", \"rope_theta\": 1e4, \"vocab_size\": 99999999999, " LLAMA_REST, MST_EFORMAT,
     "vocab_size is 99999999999"},
    {"\"model_type\": \"mixtral\"", MST_EUNSUPPORTED, "'mixtral'"},
    {"\"model_type\": 3", MST_EFORMAT, "model_type is missing"},
    {"\"vocab_size\": 11", MST_EFORMAT, "model_type is missing"},
};

static void count_note(void *context, const char *text) {
    CHECK(strstr(text, "pickle_jar") != NULL, "noted: %s", text);
    ++*(int *)context;
}

static void check_configs(void) {
    char text[2048];
    int notes = 0;
    hf_config config;
    json_t *root = NULL;
    const mst_hf_notes listener = {.say = count_note, .context = &notes};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        snprintf(text, sizeof text, "{%s}", configs[i].fields);
        mst_status status = hf_json_parse(text, strlen(text), "config", &root);
        if (status == MST_OK) status = hf_config_read(root, "config", NULL, &config);
        CHECK(status == configs[i].status, "%s: %s: %s", text, mst_status_name(status), mst_error_message());
        CHECK(status == MST_OK || strstr(mst_error_message(), configs[i].message) != NULL, "%s: says %s",
              text, mst_error_message());
        json_decref(root);
    }
    snprintf(text, sizeof text, "{%s, \"pickle_jar\": 3, \"use_bfloat\": false, \"pruned\": {}}", LLAMA_ALL);
    CHECK_OK(hf_json_parse(text, strlen(text), "config", &root));
    CHECK_OK(hf_config_read(root, "config", &listener, &config));
    CHECK(notes == 1, "%d notes", notes);
    json_decref(root);
}

/* A written description is read as what it was written from. */
static void check_written_configs(void) {
    for (int family = 0; family < MST_FAMILY_COUNT; family++) {
        for (int scaled = 0; scaled < (family == MST_FAMILY_GPT2 ? 1 : 2); scaled++) {
            mst_model_config model = fixture_config((mst_family_id)family, 2, 4, 2);
            json_t *root = NULL, *again = NULL;
            hf_config config = {0};
            char *text = NULL;
            model.norm_eps = 1.0 / 3e5; /* needs all its digits */
            if (scaled) {
                model.rope_factor = 32;
                model.rope_low_freq_factor = 1;
                model.rope_high_freq_factor = 4;
                model.rope_original_seq_len = 77;
            }
            CHECK_OK(hf_config_make(&model, MST_HF_BF16, 7, &root));
            CHECK_OK(hf_json_print(root, &text));
            CHECK_OK(hf_json_parse(text, strlen(text), "written", &again));
            CHECK_OK(hf_config_read(again, "written", NULL, &config));
            CHECK(hf_config_same(&config.model, &model), "family %d: another model: %s", family, text);
            json_decref(root);
            json_decref(again);
            free(text);
        }
    }
}

/* ---- safetensors ---- */

#define T(name, dtype, shape, offsets)                                                                       \
    "\"" name "\": {\"dtype\": \"" dtype "\", \"shape\": " shape ", \"data_offsets\": " offsets "}"

static const struct {
    const char *header;
    uint64_t bytes; /* of data */
    mst_status status;
    const char *message;
} headers[] = {
    {"{}", 0, MST_OK, ""},
    {"{" T("a", "F32", "[2, 3]", "[0, 24]") "}  ", 24, MST_OK, ""},
    {"{\"__metadata__\": {\"format\": \"pt\"}, " T("b", "BF16", "[2]", "[4, 8]") ", " T("a", "F32", "[]",
                                                                                        "[0, 4]") "}",
     8, MST_OK, ""},
    {"{" T("a", "F32", "[0, 7]", "[0, 0]") ", " T("b", "U8", "[1]", "[0, 1]") "}", 1, MST_OK, ""},
    {"{" T("a", "F32", "[2]", "[0, 8]") "}", 7, MST_EFORMAT, "bytes 0 to 8 are not in the file"},
    {"{" T("a", "F32", "[2]", "[0, 8]") "}", 9, MST_EFORMAT, "end at byte 8, its data at 9"},
    {"{" T("a", "F32", "[2]", "[0, 4]") "}", 8, MST_EFORMAT, "take 8 bytes, and the header gives it 4"},
    {"{" T("a", "F32", "[1]", "[4, 8]") "}", 8, MST_EFORMAT, "begins at byte 4"},
    {"{" T("a", "F32", "[1]", "[0, 4]") ", " T("b", "F32", "[1]", "[0, 4]") "}", 4, MST_EFORMAT,
     "begins at byte 0"},
    {"{" T("a", "F32", "[1]", "[0, 4]") ", " T("b", "F32", "[2]", "[2, 10]") "}", 10, MST_EFORMAT,
     "begins at byte 2"},
    {"{" T("a", "F32", "[1]", "[0, 4]") ", " T("a", "F32", "[1]", "[4, 8]") "}", 8, MST_EFORMAT, "duplicate"},
    {"{" T("a", "F32", "[4294967296, 4294967296]", "[0, 0]") "}", 0, MST_EFORMAT, "more than 2^48"},
    {"{" T("a", "F32", "[4611686018427387904, 4]", "[0, 0]") "}", 0, MST_EFORMAT, "more than 2^48"},
    {"{" T("a", "F32", "[18446744073709551616]", "[0, 0]") "}", 0, MST_EFORMAT, "too big"},
    {"{" T("a", "F32", "[-1]", "[0, 0]") "}", 0, MST_EFORMAT, "no whole number"},
    {"{" T("a", "F32", "[1.0]", "[0, 4]") "}", 4, MST_EFORMAT, "no whole number"},
    {"{" T("a", "F32", "[1]", "[4, 0]") "}", 8, MST_EFORMAT, "bytes 4 to 0"},
    {"{" T("a", "F32", "[1]", "[-4, 0]") "}", 8, MST_EFORMAT, "bytes -4 to 0"},
    {"{" T("a", "F32", "[1]", "[0, 9223372036854775807]") "}", 8, MST_EFORMAT, "not in the file"},
    {"{" T("a", "F32", "[1]", "[0]") "}", 4, MST_EFORMAT, "data_offsets"},
    {"{" T("a", "F32", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", "[0, 4]") "}", 4, MST_EFORMAT, "at most 8"},
    {"{" T("a", "F4", "[2]", "[0, 1]") "}", 1, MST_EFORMAT, "'F4' is not known"},
    {"{" T("\\u001b[2J", "F32", "[1]", "[0, 4]") "}", 4, MST_EFORMAT, "holds the byte 27"},
    {"{" T("a", "I16 F16 BF16 and more than there is room for", "[2]", "[0, 4]") "}", 4, MST_EFORMAT,
     "is not known"},
    {"{" T("a", "U8 I8", "[2]", "[0, 2]") "}", 2, MST_EFORMAT, "'U8 I8' is not known"},
    {"{\"a\": 3}", 0, MST_EFORMAT, "no dtype"},
    {"[]", 0, MST_EFORMAT, "no JSON object"},
    {"", 0, MST_EFORMAT, ""},
};

static void check_headers(void) {
    static char deep[1 << 16], many[1 << 21];
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        hf_tensor_list list = {0};
        const mst_status status =
            hf_header_parse(headers[i].header, strlen(headers[i].header), headers[i].bytes, "file", 0, &list);
        CHECK(status == headers[i].status, "%s: %s: %s", headers[i].header, mst_status_name(status),
              mst_error_message());
        CHECK(status == MST_OK || strstr(mst_error_message(), headers[i].message) != NULL, "%s: says %s",
              headers[i].header, mst_error_message());
        free(list.at);
    }
    hf_tensor_list list = {0};
    memset(deep, '[', sizeof deep);
    CHECK_STATUS(hf_header_parse(deep, sizeof deep, 0, "deep", 0, &list), MST_EFORMAT);
    memset(many, ',', sizeof many);
    CHECK_STATUS(hf_header_parse(many, sizeof many, 0, "many", 0, &list), MST_EFORMAT);
    CHECK(list.at == NULL, "something was allocated");
}

/* ---- numbers ---- */

static void check_halves(void) {
    for (int dtype = MST_HF_F16; dtype <= MST_HF_BF16; dtype++) {
        for (uint32_t half = 0; half < 1u << 16; half++) {
            const uint16_t raw = (uint16_t)half;
            uint16_t back = 0;
            float value = 0;
            memcpy((char *)&value + 2, &raw, sizeof raw);
            hf_widen((mst_hf_dtype)dtype, &value, 1);
            hf_narrow((mst_hf_dtype)dtype, &value, 1, &back);
            const bool nan = value != value;
            CHECK(nan ? (back & 0x7fff) > (dtype == MST_HF_F16 ? 0x7c00 : 0x7f80) : back == raw,
                  "%04x became %g and %04x", half, (double)value, back);
        }
    }
    /* ties to even, the smallest and the largest, and what does not fit */
    const float values[] = {
        1 + 0x1p-11f, 1 + 3 * 0x1p-11f, 0x1p-24f, 0x1p-25f, 3 * 0x1p-25f, 0x1.8p-25f, 65504, 65519, 65520,
        -1e6f};
    const uint16_t wanted[] = {0x3c00, 0x3c02, 1, 0, 2, 1, 0x7bff, 0x7bff, 0x7c00, 0xfc00};
    uint16_t found[sizeof wanted / sizeof *wanted];
    CHECK(hf_narrow(MST_HF_F16, values, sizeof wanted / sizeof *wanted, found) == 8,
          "the first that does not fit is another");
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        CHECK(found[i] == wanted[i], "%a became %04x, not %04x", (double)values[i], found[i], wanted[i]);
}

/* ---- the archive ---- */

static void check_archive(void) {
    char folder[] = "/tmp/muster-hf-XXXXXX", *tar = NULL;
    size_t bytes = 0, at = 0;
    hf_tar_file file;
    bool found = false;
    if (mkdtemp(folder) == NULL) exit(1);
    const char *const names[] = {"config.json", "a", "model.safetensors", ".hidden", "tokenizer.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        FILE *out = fopen(path_of(folder, names[i]), "wb");
        if (out == NULL || fwrite("x\0y", 1, 3, out) != 3 || fclose(out) != 0) exit(1);
    }
    CHECK(mkdir(path_of(folder, "onnx"), 0777) == 0, "mkdir");
    CHECK_OK(hf_tar_make(folder, "{}", NULL, &tar, &bytes));
    CHECK(bytes % 512 == 0, "%zu bytes", bytes);
    const char *const wanted[] = {HF_ORIGIN_NAME, "a", "config.json"};
    for (size_t i = 0; i < 3; i++) {
        CHECK_OK(hf_tar_next(tar, bytes, &at, &file, &found));
        CHECK(found && strcmp(file.name, wanted[i]) == 0, "file %zu is %s", i, file.name);
        CHECK(i == 0 || (file.bytes == 3 && memcmp(file.content, "x\0y", 3) == 0), "%s has %zu bytes",
              file.name, file.bytes);
    }
    CHECK_OK(hf_tar_next(tar, bytes, &at, &file, &found));
    CHECK(!found, "more than three files: %s", file.name);
    tar[0] = '/';
    at = 0;
    CHECK_STATUS(hf_tar_next(tar, bytes, &at, &file, &found), MST_EFORMAT);
    CHECK_STATUS(hf_tar_find(tar, 100, "a", &file, &found), MST_EFORMAT);
    free(tar);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(path_of(folder, names[i]));
    rmdir(path_of(folder, "onnx"));
    rmdir(folder);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    models = argv[1];
    const size_t count = check_all_logits();
    CHECK(count == 10, "%zu models in %s", count, models);
    check_shards();
    check_configs();
    check_written_configs();
    check_headers();
    check_halves();
    check_archive();
    return test_finish("hf");
}
