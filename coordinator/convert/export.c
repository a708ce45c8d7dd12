/* A checkpoint's model as a folder in Hugging Face's layout. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "card.h"
#include "companions.h"
#include "hf_config.h"
#include "merge.h"
#include "muster/files.h"
#include "muster/tokenizer.h"
#include "safetensors.h"

enum { PART = 1 << 20, SHARDS_MAX = 99999, NAME_ROOM = 64 };

/* A weight file: consecutive tensors. */
typedef struct shard {
    size_t first, count;
    uint64_t bytes; /* of elements */
} shard;

typedef struct export {
    const mst_checkpoint_context *context;
    const mst_export_options *options;
    const char *path, *folder;
    mst_manifest manifest;
    mst_manifest base;           /* of the model that adapters are merged into; else empty */
    const mst_manifest *weights; /* whose tensors are written: one of these */
    const char *weights_path;
    hf_merge *merge;       /* NULL: nothing is merged */
    float *merged;         /* [PART], likewise */
    char *tar, *tokenizer; /* carried files; NULL: there are none */
    size_t tar_bytes, tokenizer_bytes;
    int32_t end; /* token that ends a text; -1: none is known */
    char *end_text;
    mst_hf_dtype dtype;
    hf_entry *entries; /* [manifest.tensor_count] */
    shard *shards;
    size_t shard_count;

    /* the file that is being written */
    size_t open;  /* its number; shard_count: none is */
    size_t given; /* tensors that the checkpoint gave so far */
    int fd;
    char file[4096];
    uint64_t at; /* where the next element goes */
    void *raw;   /* [PART * 4 bytes] */
    uint64_t done, all;
}
export;

/* ---- small files ---- */

static mst_status write_file(const export *e, const char *name, const void *content, size_t bytes) {
    mst_status status = MST_OK;
    char path[4096];
    MST_CHECK(snprintf(path, sizeof path, "%s/%s", e->folder, name) < (int)sizeof path, MST_EIO,
              "%s: the path is too long", e->folder);
    MST_TRY(mst_file_replace(path, content, bytes));
done:
    return status;
}

static mst_status write_json(const export *e, const char *name, json_t *root) {
    char *text = NULL;
    mst_status status =
        root != NULL ? hf_json_print(root, &text) : mst_error(MST_ENOMEM, "%s: out of memory", name);
    if (status == MST_OK) status = write_file(e, name, text, strlen(text));
    free(text);
    json_decref(root);
    return status;
}

/* ---- what is to be written ---- */

static mst_status find_end_token(export *e) {
    mst_status status = MST_OK;
    mst_tokenizer *t = NULL;
    size_t bytes = 0;
    bool special = false;
    e->end = -1;
    if (e->tokenizer == NULL) {
        hf_note(&e->options->notes, "the checkpoint holds no tokenizer.json, which transformers would need "
                                    "for text");
        goto done;
    }
    if (mst_tokenizer_parse(e->tokenizer, e->tokenizer_bytes, "tokenizer.json", &t) != MST_OK) {
        hf_note(&e->options->notes, "%s: carried through as it is", mst_error_message());
        goto done;
    }
    e->end = mst_tokenizer_end(t);
    const uint8_t *piece = e->end >= 0 ? mst_tokenizer_piece(t, e->end, &bytes, &special) : NULL;
    if (piece == NULL) goto done;
    e->end_text = strndup((const char *)piece, bytes);
    MST_CHECK(e->end_text != NULL, MST_ENOMEM, "tokenizer.json: out of memory");
done:
    mst_tokenizer_destroy(&t);
    return status;
}

static bool is_apart(const export *e) {
    return e->options->adapters != NULL && e->options->adapters->apart;
}

/* The model that adapters are merged into, and they themselves. */
static mst_status open_merge(export *e) {
    mst_status status = MST_OK;
    const mst_export_adapters *adapters = e->options->adapters;
    MST_TRY(mst_manifest_read(adapters->base, &e->base));
    MST_TRY(
        hf_merge_create(e->context, e->path, &e->manifest.meta.model, &adapters->lora, &e->base, &e->merge));
    e->merged = malloc(PART * sizeof *e->merged);
    MST_CHECK(e->merged != NULL, MST_ENOMEM, "export: out of memory");
    e->weights = &e->base;
    e->weights_path = adapters->base;
done:
    return status;
}

/* PEFT takes all but the adapters from the model that they adapt, also what the run's config says otherwise. */
static mst_status check_apart(const export *e) {
    mst_status status = MST_OK;
    mst_checkpoint_meta base = {0};
    mst_checkpoint_digests digests;
    char keys[HF_KEYS_MAX];
    MST_TRY(mst_checkpoint_open(e->options->adapters->base, &base, &digests));
    hf_config_differences(&base.model, &e->manifest.meta.model, keys);
    MST_CHECK(keys[0] == '\0', MST_ECONFIG,
              "--adapter: the run's config says otherwise than the model that it adapts, which would compute "
              "something else with these adapters: model's %s; export without --adapter",
              keys);
done:
    mst_checkpoint_meta_clear(&base);
    return status;
}

/* The type of adapters apart is that of their masters; of an imported model's weights, else that of the passes in training. */
static mst_status choose_dtype(export *e) {
    mst_status status = MST_OK;
    hf_tar_file origin;
    bool found = false;
    json_t *root = NULL;
    if (e->options->dtype != NULL) {
        e->dtype = *e->options->dtype;
        goto done;
    }
    e->dtype = is_apart(e) ? MST_HF_F32 : e->options->fallback;
    if (is_apart(e)) goto done;
    MST_TRY(hf_tar_find(e->tar, e->tar_bytes, HF_ORIGIN_NAME, &origin, &found));
    if (!found) goto done;
    MST_TRY(hf_json_parse(origin.content, origin.bytes, HF_ORIGIN_NAME, &root));
    const char *name = json_string_value(json_object_get(root, "dtype"));
    for (int i = 0; name != NULL && i < MST_HF_DTYPES; i++)
        if (strcmp(name, mst_hf_dtype_name((mst_hf_dtype)i)) == 0) e->dtype = (mst_hf_dtype)i;
done:
    json_decref(root);
    return status;
}

/* Tensors in name order, as the checkpoint gives them; a file ends before the tensor that would make it too large. */
static mst_status deal(export *e) {
    mst_status status = MST_OK;
    const mst_manifest *m = e->weights;
    const size_t size = hf_dtype_size(e->dtype);
    e->entries = calloc(m->tensor_count, sizeof *e->entries);
    e->shards = calloc(m->tensor_count, sizeof *e->shards);
    e->raw = malloc(PART * sizeof(float));
    MST_CHECK(e->entries != NULL && e->shards != NULL && e->raw != NULL, MST_ENOMEM,
              "export: no memory for %zu tensors", m->tensor_count);
    for (size_t i = 0; i < m->tensor_count; i++) {
        const mst_manifest_tensor *t = &m->tensors[i];
        shard *last = e->shard_count > 0 ? &e->shards[e->shard_count - 1] : NULL;
        e->entries[i] = (hf_entry){
            .name = t->name, .dims = t->dims, .shape = {t->shape[0], t->shape[1]}, .count = t->count};
        if (last == NULL || (!is_apart(e) && last->bytes + t->count * size > e->options->shard_bytes)) {
            last = &e->shards[e->shard_count++];
            last->first = i;
        }
        last->count++;
        last->bytes += t->count * size;
        e->all += t->count * size;
    }
    MST_CHECK(e->shard_count <= SHARDS_MAX, MST_ECONFIG,
              "export: %zu weight files; choose a larger --shard-size", e->shard_count);
    e->open = e->shard_count;
done:
    return status;
}

static mst_status prepare(export *e) {
    mst_status status = MST_OK;
    MST_TRY(mst_manifest_read(e->path, &e->manifest));
    e->weights = &e->manifest;
    e->weights_path = e->path;
    if (e->options->adapters != NULL) MST_TRY(is_apart(e) ? check_apart(e) : open_merge(e));
    MST_TRY(mst_checkpoint_companions(e->path, &e->tar, &e->tar_bytes));
    MST_TRY(mst_checkpoint_tokenizer(e->path, &e->tokenizer, &e->tokenizer_bytes));
    MST_TRY(find_end_token(e));
    MST_TRY(choose_dtype(e));
    MST_TRY(deal(e));
done:
    return status;
}

/* ---- weights ---- */

static const char *shard_name(const export *e, size_t number, char name_out[NAME_ROOM]) {
    if (is_apart(e))
        snprintf(name_out, NAME_ROOM, "adapter_model.safetensors");
    else if (e->shard_count == 1)
        snprintf(name_out, NAME_ROOM, "model.safetensors");
    else
        snprintf(name_out, NAME_ROOM, "model-%05zu-of-%05zu.safetensors", number + 1, e->shard_count);
    return name_out;
}

static mst_status close_shard(export *e) {
    mst_status status = MST_OK;
    if (e->fd < 0) goto done;
    if (fsync(e->fd) != 0) MST_TRY(mst_file_write_error(e->fd, e->file, errno));
    const int closed = close(e->fd);
    e->fd = -1;
    MST_CHECK(closed == 0, MST_EIO, "writing '%s': %s", e->file, strerror(errno));
done:
    return status;
}

static mst_status open_shard(export *e, size_t number) {
    mst_status status = MST_OK;
    char name[NAME_ROOM], *header = NULL;
    size_t bytes = 0;
    const shard *s = &e->shards[number];
    MST_TRY(close_shard(e));
    MST_CHECK(snprintf(e->file, sizeof e->file, "%s/%s", e->folder, shard_name(e, number, name)) <
                  (int)sizeof e->file,
              MST_EIO, "%s: the path is too long", e->folder);
    e->fd = open(e->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    MST_CHECK(e->fd >= 0, MST_EIO, "cannot write '%s': %s", e->file, strerror(errno));
    MST_TRY(hf_header_make(e->entries + s->first, s->count, e->dtype, &header, &bytes));
    MST_TRY(mst_file_write(e->fd, e->file, 0, header, bytes));
    e->open = number;
    e->at = bytes;
done:
    free(header);
    return status;
}

static mst_status put_weights(void *context, const mst_manifest_tensor *tensor, uint64_t first,
                              const float *values, uint64_t count) {
    mst_status status = MST_OK;
    export *e = context;
    const size_t bytes = (size_t)count * hf_dtype_size(e->dtype);
    if (first == 0) {
        const size_t next = e->open == e->shard_count ? 0 : e->open + 1;
        if (next < e->shard_count && e->given == e->shards[next].first) MST_TRY(open_shard(e, next));
        e->given++;
    }
    const hf_entry *entry = &e->entries[e->given - 1];
    MST_CHECK(e->given <= e->weights->tensor_count && strcmp(tensor->name, entry->name) == 0 &&
                  tensor->count == entry->count,
              MST_EFORMAT, "%s changed while it was exported", e->weights_path);
    if (e->merge != NULL) {
        memcpy(e->merged, values, (size_t)count * sizeof *values);
        hf_merge_add(e->merge, entry->name, (size_t)entry->shape[1], first, count, e->merged);
        values = e->merged;
    }
    const size_t lost = hf_narrow(e->dtype, values, (size_t)count, e->raw);
    MST_CHECK(lost == count, MST_EUNSUPPORTED,
              "tensor %s: element %" PRIu64 ", %g, is beyond what %s can hold; choose --dtype f32",
              tensor->name, first + lost, (double)values[lost], mst_hf_dtype_name(e->dtype));
    MST_TRY(mst_file_write(e->fd, e->file, e->at, e->raw, bytes));
    e->at += bytes;
    e->done += bytes;
    if (e->options->progress != NULL)
        MST_TRY(e->options->progress(e->options->progress_context, e->done, e->all));
done:
    return status;
}

static mst_status write_index(const export *e) {
    char name[NAME_ROOM];
    int failed = 0;
    if (e->shard_count == 1) return MST_OK;
    json_t *map = json_object(), *root = json_pack("{s:{s:I}, s:O}", "metadata", "total_size",
                                                   (json_int_t)e->all, "weight_map", map);
    for (size_t s = 0; s < e->shard_count; s++)
        for (size_t i = 0; i < e->shards[s].count; i++)
            failed |= json_object_set_new(map, e->entries[e->shards[s].first + i].name,
                                          json_string(shard_name(e, s, name)));
    json_decref(map);
    if (failed != 0) {
        json_decref(root);
        root = NULL;
    }
    return write_json(e, "model.safetensors.index.json", root);
}

/* ---- what stands beside them ---- */

/* The origin's own text where it still says what the model is. *written_out: whether it does. */
static mst_status write_origin_config(const export *e, const hf_tar_file *origin, bool *written_out) {
    mst_status status = MST_OK;
    json_t *root = NULL;
    hf_config config;
    *written_out = false;
    MST_TRY(hf_json_parse(origin->content, origin->bytes, "the origin's config.json", &root));
    MST_TRY(hf_config_read(root, "the origin's config.json", NULL, &config));
    if (!config.tie_given) config.model.tie_embeddings = e->manifest.meta.model.tie_embeddings;
    if (!hf_config_same(&config.model, &e->manifest.meta.model)) goto done;
    const char *key = json_object_get(root, "dtype") != NULL ? "dtype" : "torch_dtype",
               *dtype = json_string_value(json_object_get(root, key)), *wanted = hf_dtype_torch(e->dtype);
    *written_out = true;
    if (dtype != NULL && strcmp(dtype, wanted) == 0) {
        MST_TRY(write_file(e, "config.json", origin->content, origin->bytes));
    } else {
        MST_CHECK(json_object_set_new(root, key, json_string(wanted)) == 0, MST_ENOMEM,
                  "config.json: out of memory");
        MST_TRY(write_json(e, "config.json", json_incref(root)));
    }
done:
    json_decref(root);
    return status;
}

static mst_status write_config(const export *e) {
    mst_status status = MST_OK;
    hf_tar_file origin;
    bool found = false, written = false;
    json_t *root = NULL;
    MST_TRY(hf_tar_find(e->tar, e->tar_bytes, "config.json", &origin, &found));
    if (found) MST_TRY(write_origin_config(e, &origin, &written));
    if (written) goto done;
    if (found)
        hf_note(&e->options->notes,
                "config.json is written anew, since the model was changed after its import");
    MST_TRY(hf_config_make(&e->manifest.meta.model, e->dtype, e->end, &root));
    MST_TRY(write_json(e, "config.json", root));
done:
    return status;
}

/* What came with an imported model, byte for byte. */
static mst_status write_companions(const export *e) {
    mst_status status = MST_OK;
    hf_tar_file file;
    size_t at = 0;
    for (bool found = e->tar != NULL; found;) {
        MST_TRY(hf_tar_next(e->tar, e->tar_bytes, &at, &file, &found));
        if (!found || !hf_is_companion(file.name) || strcmp(file.name, "config.json") == 0) continue;
        const bool card = strcmp(file.name, "README.md") == 0;
        MST_TRY(write_file(e, card ? "README-origin.md" : file.name, file.content, file.bytes));
    }
done:
    return status;
}

/* What transformers needs to read the tokenizer and to end a text, where nothing came with the model. */
static mst_status write_substitutes(const export *e) {
    mst_status status = MST_OK;
    const size_t length = e->manifest.meta.model.max_seq_len;
    if (e->end >= 0 && !hf_file_exists(e->folder, "generation_config.json"))
        MST_TRY(write_json(e, "generation_config.json", json_pack("{s:i}", "eos_token_id", (int)e->end)));
    if (e->tokenizer == NULL || hf_file_exists(e->folder, "tokenizer_config.json")) goto done;
    json_t *root =
        json_pack("{s:s, s:I, s:b, s:s*}", "tokenizer_class", "PreTrainedTokenizerFast", "model_max_length",
                  (json_int_t)length, "clean_up_tokenization_spaces", 0, "eos_token", e->end_text);
    MST_TRY(write_json(e, "tokenizer_config.json", root));
done:
    return status;
}

static mst_status write_rest(const export *e) {
    mst_status status = MST_OK;
    char *card = NULL;
    MST_TRY(write_index(e));
    MST_TRY(write_companions(e));
    if (e->tokenizer != NULL) MST_TRY(write_file(e, "tokenizer.json", e->tokenizer, e->tokenizer_bytes));
    MST_TRY(write_substitutes(e));
    MST_TRY(hf_card_make(&e->manifest, e->weights, e->options, e->dtype, e->tar != NULL, &card));
    MST_TRY(write_file(e, "README.md", card, strlen(card)));
    MST_TRY(write_config(e));
done:
    free(card);
    return status;
}

/* One word, or a list. */
static json_t *targets_json(const char *targets) {
    if (strcmp(targets, "all-linear") == 0) return json_string(targets);
    json_t *list = json_array();
    for (const char *at = targets; *at != '\0' && list != NULL;) {
        const size_t length = strcspn(at, ",");
        json_array_append_new(list, json_stringn(at, length));
        at += length + (at[length] == ',');
    }
    return list;
}

static json_t *adapter_config(const export *e) {
    const mst_export_adapters *a = e->options->adapters;
    const bool in_out = e->manifest.meta.model.family == MST_FAMILY_GPT2; /* Conv1D */
    json_t *alpha = a->alpha == floor(a->alpha) ? json_integer((json_int_t)a->alpha) : json_real(a->alpha);
    return json_pack("{s:s, s:s, s:s, s:n, s:o, s:b, s:b, s:I, s:o, s:f, s:s, s:b, s:b, s:n}", "peft_type",
                     "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", a->base_name, "revision",
                     "target_modules", targets_json(a->targets), "inference_mode", 1, "init_lora_weights", 1,
                     "r", (json_int_t)a->lora.rank, "lora_alpha", alpha, "lora_dropout", 0.0, "bias", "none",
                     "use_rslora", (int)a->rslora, "fan_in_fan_out", (int)in_out, "modules_to_save");
}

/* What stands beside adapters apart: what they are, and how they are to be used. */
static mst_status write_apart(const export *e) {
    mst_status status = MST_OK;
    char *card = NULL;
    MST_TRY(hf_adapter_card_make(&e->manifest, e->options, &card));
    MST_TRY(write_file(e, "README.md", card, strlen(card)));
    MST_TRY(write_json(e, "adapter_config.json", adapter_config(e)));
done:
    free(card);
    return status;
}

mst_status mst_hf_export(const mst_checkpoint_context *context, const char *path, const char *folder,
                         const mst_export_options *options) {
    mst_status status = MST_OK;
    export e = {.context = context, .options = options, .path = path, .folder = folder, .fd = -1};
    MST_TRY(prepare(&e));
    MST_TRY(mst_checkpoint_weights(context, e.weights_path, put_weights, &e));
    MST_TRY(close_shard(&e));
    MST_TRY(is_apart(&e) ? write_apart(&e) : write_rest(&e));
done:
    if (e.fd >= 0) close(e.fd);
    mst_manifest_clear(&e.manifest);
    mst_manifest_clear(&e.base);
    hf_merge_destroy(&e.merge);
    free(e.merged);
    free(e.tar);
    free(e.tokenizer);
    free(e.end_text);
    free(e.entries);
    free(e.shards);
    free(e.raw);
    return status;
}
