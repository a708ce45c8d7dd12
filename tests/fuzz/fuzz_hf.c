/* Fuzzing of the reader of models in Hugging Face's layout: mutations of config.json, of a weight file and of an index, one at a time
 * beside the others as they should be. Each is refused with one of the statuses that the header promises, or all of its weights
 * can be read. The archive that a checkpoint carries is a fourth kind of input. */
#include <sys/stat.h>

#include "companions.h"
#include "fuzz.h"
#include "safetensors.h"

/* The first byte of an input says what the rest is. */
enum { KIND_CONFIG = 'c', KIND_WEIGHTS = 'w', KIND_INDEX = 'i', KIND_ARCHIVE = 'a' };

static char folder[64]; /* in memory where /dev/shm is */
static uint8_t weights[FUZZ_ROOM / 2];
static size_t weights_bytes, header_bytes;
static char index_text[1 << 14];
static char *archive;
static size_t archive_bytes;

static const char config_text[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 11, \"hidden_size\": 8, \"num_hidden_layers\": 1, "
    "\"num_attention_heads\": 4, "
    "\"num_key_value_heads\": 2, \"head_dim\": 2, \"intermediate_size\": 6, \"max_position_embeddings\": 16, "
    "\"rms_norm_eps\": 1e-05, "
    "\"hidden_act\": \"silu\", \"rope_theta\": 10000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", "
    "\"factor\": 8.0, "
    "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8}, "
    "\"attention_bias\": false, "
    "\"tie_word_embeddings\": true, \"eos_token_id\": [1, 2], \"layer_types\": [\"full_attention\"]}";

static char *place(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void need(bool fine, const char *what) {
    if (fine) return;
    fprintf(stderr, "fuzz_hf: %s: %s\n", what, mst_error_message());
    exit(1);
}

static void put(const char *name, const void *content, size_t bytes) {
    FILE *file = fopen(place(name), "wb");
    need(file != NULL && fwrite(content, 1, bytes, file) == bytes && fclose(file) == 0, name);
}

static void clean(void) {
    static const char *const names[] = {"config.json", "model.safetensors", "a.safetensors",
                                        "model.safetensors.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(place(names[i]));
    rmdir(folder);
}

/* A weight file of the config's model, all zeros, and an index that names it. */
static void make_weights(void) {
    json_t *root = NULL;
    hf_config config;
    mst_layout layout;
    hf_entry entries[64];
    char *header = NULL;
    size_t used;
    need(hf_json_parse(config_text, strlen(config_text), "fuzz", &root) == MST_OK, "config");
    need(hf_config_read(root, "fuzz", NULL, &config) == MST_OK &&
             mst_model_layout(&config.model, &layout) == MST_OK,
         "model");
    for (size_t i = 0; i < layout.tensor_count; i++) {
        const mst_tensor *t = &layout.tensors[i];
        entries[i] = (hf_entry){
            .name = t->name, .dims = t->dims, .shape = {t->shape[0], t->shape[1]}, .count = t->count};
        weights_bytes += t->count * 2;
    }
    need(hf_header_make(entries, layout.tensor_count, MST_HF_BF16, &header, &header_bytes) == MST_OK,
         "header");
    memcpy(weights, header, header_bytes);
    weights_bytes += header_bytes;
    used = (size_t)snprintf(index_text, sizeof index_text,
                            "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    for (size_t i = 0; i < layout.tensor_count; i++)
        used += (size_t)snprintf(index_text + used, sizeof index_text - used, "%s\"%s\": \"a.safetensors\"",
                                 i > 0 ? ", " : "", layout.tensors[i].name);
    snprintf(index_text + used, sizeof index_text - used, "}}");
    free(header);
    mst_layout_clear(&layout);
    json_decref(root);
}

static void prepare(void) {
    if (folder[0] != '\0') return;
    snprintf(folder, sizeof folder, "%s/muster-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    need(mkdtemp(folder) != NULL, "folder");
    atexit(clean);
    make_weights();
    put("config.json", config_text, sizeof config_text - 1);
    need(hf_tar_make(folder, "{\"version\": 1}\n", NULL, &archive, &archive_bytes) == MST_OK, "archive");
}

static bool is_refusal(mst_status status) {
    return status == MST_EUNSUPPORTED || status == MST_EFORMAT || status == MST_EIO || status == MST_ENOMEM;
}

static void open_folder(void) {
    float values[64];
    mst_hf *hf = NULL;
    const mst_status status = mst_hf_open(folder, NULL, &hf);
    if ((status == MST_OK) != (hf != NULL) || (status != MST_OK && !is_refusal(status))) abort();
    if (hf == NULL) return;
    fuzz_accepted++;
    const mst_layout *layout = mst_hf_layout(hf);
    for (size_t t = 0; t < layout->tensor_count; t++)
        for (uint64_t first = 0, count; first < layout->tensors[t].count; first += count) {
            count = layout->tensors[t].count - first < 64 ? layout->tensors[t].count - first : 64;
            if (mst_hf_read(hf, t, first, count, values) != MST_OK) abort();
        }
    mst_hf_close(&hf);
}

/* As a checkpoint hands it out: with a NUL behind. */
static void open_archive(const uint8_t *data, size_t size) {
    hf_tar_file file;
    bool found = true;
    size_t at = 0, files = 0;
    char *tar = malloc(size + 1);
    need(tar != NULL, "memory");
    memcpy(tar, data, size);
    tar[size] = '\0';
    mst_status status = MST_OK;
    while (found && status == MST_OK) {
        status = hf_tar_next(tar, size, &at, &file, &found);
        if (status != MST_OK && status != MST_EFORMAT) abort();
        if (!found || status != MST_OK) break;
        if (file.content < tar || file.content + file.bytes > tar + size || strchr(file.name, '/') != NULL)
            abort();
        files++;
    }
    if (status == MST_OK && files > 0) fuzz_accepted++;
    free(tar);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    prepare();
    if (size == 0) return 0;
    const uint8_t kind = data[0];
    data++;
    size--;
    if (kind == KIND_ARCHIVE) {
        open_archive(data, size);
        return 0;
    }
    const bool index = kind == KIND_INDEX;
    put("config.json", kind == KIND_CONFIG ? (const void *)data : config_text,
        kind == KIND_CONFIG ? size : sizeof config_text - 1);
    put(index ? "a.safetensors" : "model.safetensors", kind == KIND_WEIGHTS ? (const void *)data : weights,
        kind == KIND_WEIGHTS ? size : weights_bytes);
    if (index) put("model.safetensors.index.json", data, size);
    open_folder();
    unlink(place(index ? "a.safetensors" : "model.safetensors"));
    if (index) unlink(place("model.safetensors.index.json"));
    return 0;
}

static size_t fuzz_valid(size_t number, uint8_t *data) {
    prepare();
    const struct {
        uint8_t kind;
        const void *content;
        size_t bytes;
    } valid[] = {{KIND_CONFIG, config_text, sizeof config_text - 1},
                 {KIND_WEIGHTS, weights, weights_bytes},
                 {KIND_INDEX, index_text, strlen(index_text)},
                 {KIND_ARCHIVE, archive, archive_bytes}};
    if (number >= sizeof valid / sizeof *valid) return 0;
    data[0] = valid[number].kind;
    memcpy(data + 1, valid[number].content, valid[number].bytes);
    return valid[number].bytes + 1;
}

/* A word that means something, in the place of one of some length. */
static void change_word(uint8_t *data, size_t *size, size_t high) {
    static const char *const words[] = {"\"F64\"",
                                        "\"F32\"",
                                        "\"U8\"",
                                        "\"BOOL\"",
                                        "\"BF16\"",
                                        "\"I16 F16 BF16 F16\"",
                                        "[4294967296,4294967296]",
                                        "[0,0]",
                                        "[0,9223372036854775807]",
                                        "[-1,4]",
                                        "[1,2,3,4,5,6,7,8,9]",
                                        "\"lm_head.weight\":",
                                        "\"__metadata__\":",
                                        "\"../config.json\"",
                                        "\"/etc/passwd\"",
                                        "\"a.safetensors\"",
                                        "\"gpt2\"",
                                        "\"qwen3\"",
                                        "\"olmo2\"",
                                        "null",
                                        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
                                        "{\"a\":",
                                        "NaN",
                                        "true",
                                        "16777216",
                                        "4096",
                                        "\"rotary_emb.inv_freq\""};
    size_t at = 1 + fuzz_random(high - 1), end;
    while (at < high && strchr(":[, ", data[at]) == NULL) at++;
    for (end = ++at; end < high && strchr(",]}", data[end]) == NULL;) end++;
    if (end > high || at >= high) return;
    const char *word = words[fuzz_random(sizeof words / sizeof *words)];
    fuzz_splice(data, size, at, fuzz_random(2) ? end - at : 0, word, strlen(word));
}

/* In a weight file mostly the header, whose length is then mostly set right again. */
static void fuzz_change(uint8_t *data, size_t *size) {
    const bool is_weights = data[0] == KIND_WEIGHTS;
    const size_t before = *size;
    size_t high = is_weights && fuzz_random(8) > 0 ? 1 + header_bytes : *size;
    for (uint64_t changes = 1 + fuzz_random(3); changes > 0; changes--) {
        if (high > *size) high = *size;
        if (fuzz_random(2) && high > 2)
            change_word(data, size, high);
        else
            fuzz_mutate(data, size, 1, high);
    }
    if (is_weights && fuzz_random(8) > 0 && *size > 9) {
        const uint64_t length = header_bytes - 8 + *size - before;
        memcpy(data + 1, &length, sizeof length);
    }
    if (fuzz_random(32) == 0) *size = fuzz_random(*size + 1);
}

#ifndef MST_LIBFUZZER
int main(int argc, char **argv) {
    return fuzz_main(argc, argv, "fuzz_hf");
}
#endif
