/* The reader of the manifest. It trusts nothing: types, ranges, names;
 * ckpt_manifest_index checks the whole. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "manifest.h"

/* No tensor and no file is larger: products with element sizes stay far from overflow. */
static const uint64_t most_elements = (uint64_t)1 << 48;
static const uint64_t most_bytes = (uint64_t)1 << 60;

/* Far above any real one: about half a million pieces, as the limit of its text. */
enum { CONTAINERS_MOST = 1 << 20, COMMAS_MOST = 4 << 20 };

/* Where we are, for messages: NAME: LIST[INDEX].KEY. */
typedef struct place {
    const char *name, *list;
    size_t index; /* ignored without a list */
} place;

static mst_status wrong(const place *at, const char *key, const char *what) {
    if (at->list == NULL) return mst_error(MST_EFORMAT, "%s: %s: %s", at->name, key, what);
    return mst_error(MST_EFORMAT, "%s: %s[%zu].%s: %s", at->name, at->list, at->index, key, what);
}

static mst_status get_number(const place *at, const json_t *object, const char *key, uint64_t most,
                             uint64_t *out) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) return wrong(at, key, "missing, or not a whole number");
    json_int_t number = json_integer_value(value);
    if (number < 0 || (uint64_t)number > most) return wrong(at, key, "out of range");
    *out = (uint64_t)number;
    return MST_OK;
}

static mst_status get_size(const place *at, const json_t *object, const char *key, size_t *out) {
    uint64_t number = 0;
    mst_status status = get_number(at, object, key, UINT32_MAX, &number);
    *out = (size_t)number;
    return status;
}

static mst_status get_real(const place *at, const json_t *object, const char *key, double *out) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value) || !isfinite(json_number_value(value)))
        return wrong(at, key, "missing, or not a finite number");
    *out = json_number_value(value);
    return MST_OK;
}

static mst_status get_text(const place *at, const json_t *object, const char *key, const char **out) {
    *out = json_string_value(json_object_get(object, key));
    return *out != NULL ? MST_OK : wrong(at, key, "missing, or not a text");
}

static mst_status copy_text(const place *at, const json_t *object, const char *key, char **out) {
    const char *text = NULL;
    mst_status status = get_text(at, object, key, &text);
    if (status != MST_OK) return status;
    *out = strdup(text);
    return *out != NULL ? MST_OK : mst_error(MST_ENOMEM, "%s: no memory for %s", at->name, key);
}

static mst_status get_digest(const place *at, const json_t *object, const char *key, mst_digest *out) {
    const char *text = NULL;
    mst_status status = get_text(at, object, key, &text);
    if (status != MST_OK) return status;
    return mst_digest_from_hex(text, out) == MST_OK ? MST_OK : wrong(at, key, "not a SHA-256");
}

static mst_status get_list(const place *at, const json_t *object, const char *key, size_t size,
                           const json_t **list_out, size_t *count_out, void *memory_out) {
    const json_t *list = json_object_get(object, key);
    if (!json_is_array(list)) return wrong(at, key, "missing, or not a list");
    void *memory = calloc(json_array_size(list) + 1, size);
    if (memory == NULL)
        return mst_error(MST_ENOMEM, "%s: no memory for %zu %s", at->name, json_array_size(list), key);
    *list_out = list;
    *count_out = json_array_size(list);
    memcpy(memory_out, &memory, sizeof memory);
    return MST_OK;
}

/* A name that is safe as a file name and as an HDF5 link: letters, digits, '.', '_', '-', no dot first. */
static bool name_is_safe(const char *name, size_t room) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strlen(name);
    return length > 0 && length < room && name[0] != '.' && strspn(name, allowed) == length;
}

static mst_status get_name(const place *at, const json_t *object, size_t room, char *out) {
    const char *name = NULL;
    mst_status status = get_text(at, object, "name", &name);
    if (status != MST_OK) return status;
    if (!name_is_safe(name, room))
        return wrong(at, "name", "not a plain name of letters, digits, '.', '_' and '-'");
    memcpy(out, name, strlen(name) + 1);
    return MST_OK;
}

/* @param inside it is within a packed checkpoint */
static mst_status get_file(const place *at, const json_t *object, const char *digest_key, bool inside,
                           mst_manifest_file *out) {
    mst_status status = MST_OK;
    if (inside) MST_TRY(get_number(at, object, "offset", most_bytes, &out->offset));
    MST_TRY(get_name(at, object, sizeof out->name, out->name));
    MST_TRY(get_number(at, object, "bytes", most_bytes, &out->bytes));
    MST_TRY(get_digest(at, object, digest_key, &out->digest));
done:
    return status;
}

/* Absent: no scaling, as in every manifest of version 1. */
static mst_status get_rope_scaling(const char *name, const json_t *model, mst_model_config *config) {
    mst_status status = MST_OK;
    const place at = {.name = name};
    const json_t *object = json_object_get(model, "rope_scaling");
    if (object == NULL) goto done;
    MST_TRY(get_real(&at, object, "factor", &config->rope_factor));
    MST_TRY(get_real(&at, object, "low_freq_factor", &config->rope_low_freq_factor));
    MST_TRY(get_real(&at, object, "high_freq_factor", &config->rope_high_freq_factor));
    MST_TRY(get_size(&at, object, "original_seq_len", &config->rope_original_seq_len));
done:
    return status;
}

static mst_status get_model(const char *name, const json_t *root, mst_model_config *model) {
    mst_status status = MST_OK;
    const place at = {.name = name};
    const json_t *object = json_object_get(root, "model"), *tied = json_object_get(object, "tie_embeddings");
    const char *family = NULL;
    MST_TRY(get_text(&at, object, "family", &family));
    int id = 0;
    while (id < MST_FAMILY_COUNT && strcmp(mst_family_name((mst_family_id)id), family) != 0) id++;
    MST_CHECK(id < MST_FAMILY_COUNT, MST_EFORMAT, "%s: model.family: '%.40s' is not known to this muster",
              name, family);
    model->family = (mst_family_id)id;
    MST_TRY(get_size(&at, object, "vocab_size", &model->vocab_size));
    MST_TRY(get_size(&at, object, "d_model", &model->d_model));
    MST_TRY(get_size(&at, object, "n_layers", &model->n_layers));
    MST_TRY(get_size(&at, object, "n_heads", &model->n_heads));
    MST_TRY(get_size(&at, object, "n_kv_heads", &model->n_kv_heads));
    MST_TRY(get_size(&at, object, "head_dim", &model->head_dim));
    MST_TRY(get_size(&at, object, "d_ff", &model->d_ff));
    MST_TRY(get_size(&at, object, "max_seq_len", &model->max_seq_len));
    MST_TRY(get_real(&at, object, "norm_eps", &model->norm_eps));
    MST_TRY(get_real(&at, object, "rope_theta", &model->rope_theta));
    MST_TRY(get_real(&at, object, "init_deviation", &model->init_deviation));
    MST_TRY(get_rope_scaling(name, object, model));
    MST_CHECK(json_is_boolean(tied), MST_EFORMAT, "%s: model.tie_embeddings: missing, or not true or false",
              name);
    model->tie_embeddings = json_is_true(tied);
done:
    return status;
}

/* Absent: not evaluated at this step. */
static mst_status get_heldout(const char *name, const json_t *root, mst_heldout *heldout) {
    mst_status status = MST_OK;
    const place at = {.name = name};
    const json_t *object = json_object_get(root, "heldout");
    if (object == NULL) goto done;
    heldout->bits_per_byte = NAN;
    MST_TRY(get_real(&at, object, "loss", &heldout->loss));
    if (json_object_get(object, "bits_per_byte") != NULL)
        MST_TRY(get_real(&at, object, "bits_per_byte", &heldout->bits_per_byte));
    MST_TRY(get_number(&at, object, "tokens", INT64_MAX, &heldout->valid));
    MST_TRY(get_number(&at, object, "bytes", INT64_MAX, &heldout->bytes));
done:
    return status;
}

static mst_status get_meta(const char *name, const json_t *root, mst_manifest *manifest) {
    mst_status status = MST_OK;
    const place at = {.name = name};
    mst_checkpoint_meta *meta = &manifest->meta;
    MST_TRY(get_number(&at, root, "step", INT64_MAX, &meta->step));
    MST_TRY(get_number(&at, root, "updates", INT64_MAX, &meta->updates));
    MST_TRY(get_number(&at, root, "samples", INT64_MAX, &meta->samples));
    MST_TRY(get_number(&at, root, "tokens", INT64_MAX, &meta->tokens));
    MST_TRY(get_heldout(name, root, &meta->heldout));
    MST_TRY(copy_text(&at, root, "run_id", &meta->run_id));
    MST_TRY(copy_text(&at, root, "device_class", &meta->device_class));
    MST_TRY(copy_text(&at, root, "versions", &meta->versions));
    if (json_object_get(root, "choices") != NULL) MST_TRY(copy_text(&at, root, "choices", &meta->choices));
    MST_TRY(copy_text(&at, root, "config", &meta->config));
    MST_TRY(get_model(name, root, &meta->model));
    MST_TRY(get_digest(&at, root, "data", &meta->data));
    if (meta->has_base) MST_TRY(get_digest(&at, root, "base", &meta->base));
    MST_TRY(get_digest(&at, root, "weights", &manifest->kinds[MST_KIND_MASTER]));
    MST_TRY(get_digest(&at, root, "exp_avg", &manifest->kinds[MST_KIND_EXP_AVG]));
    MST_TRY(get_digest(&at, root, "exp_avg_sq", &manifest->kinds[MST_KIND_EXP_AVG_SQ]));
    MST_TRY(get_digest(&at, root, "state", &manifest->state));
done:
    return status;
}

/* The one file that holds everything. */
static mst_status get_packed(const char *name, const json_t *root, mst_manifest *manifest) {
    mst_status status = MST_OK;
    const place at = {.name = name};
    const json_t *kinds = json_object_get(root, "kinds");
    const size_t count = json_array_size(kinds);
    MST_CHECK(count == 1 || count == MST_KIND_COUNT, MST_EFORMAT,
              "%s: kinds: neither \"master\" alone nor with the optimizer's moments", name);
    for (size_t i = 0; i < count; i++) {
        const char *kind = json_string_value(json_array_get(kinds, i));
        MST_CHECK(kind != NULL && strcmp(kind, mst_tensor_kind_name((mst_tensor_kind)i)) == 0, MST_EFORMAT,
                  "%s: kinds[%zu]: not \"%s\"", name, i, mst_tensor_kind_name((mst_tensor_kind)i));
    }
    manifest->weights_only = count == 1;
    manifest->shards = calloc(1, sizeof *manifest->shards);
    MST_CHECK(manifest->shards != NULL, MST_ENOMEM, "%s: no memory to read it", name);
    manifest->shard_count = 1;
    MST_TRY(get_number(&at, root, "packed_bytes", most_bytes, &manifest->shards[0].bytes));
    MST_TRY(get_digest(&at, root, "outside_sha256", &manifest->shards[0].digest));
done:
    return status;
}

static mst_status get_shards(const char *name, const json_t *root, mst_manifest *manifest) {
    mst_status status = MST_OK;
    place at = {.name = name};
    const json_t *list = NULL;
    MST_TRY(get_file(&at, json_object_get(root, "model_file"), "sha256", false, &manifest->model));
    MST_CHECK(strcmp(manifest->model.name, "model.h5") == 0, MST_EFORMAT, "%s: model_file must name model.h5",
              name);
    if (json_object_get(root, "block_checksums") != NULL) {
        MST_TRY(
            get_file(&at, json_object_get(root, "block_checksums"), "sha256", false, &manifest->checksums));
        MST_CHECK(strcmp(manifest->checksums.name, CKPT_CHECKSUMS_NAME) == 0, MST_EFORMAT,
                  "%s: block_checksums must name " CKPT_CHECKSUMS_NAME, name);
    }
    MST_TRY(get_list(&at, root, "shards", sizeof *manifest->shards, &list, &manifest->shard_count,
                     &manifest->shards));
    at.list = "shards";
    for (at.index = 0; at.index < manifest->shard_count; at.index++) {
        mst_manifest_file *shard = &manifest->shards[at.index];
        MST_TRY(get_file(&at, json_array_get(list, at.index), "outside_sha256", false, shard));
        /* The names ascend, so that no file can stand for two. */
        bool ascends = at.index == 0 || strcmp(shard[-1].name, shard->name) < 0;
        MST_CHECK(strncmp(shard->name, "shard-", 6) == 0 && ascends, MST_EFORMAT,
                  "%s: shards[%zu].name: '%s' is not a shard's, or not in order", name, at.index,
                  shard->name);
    }
done:
    return status;
}

static mst_status get_files(const char *name, const json_t *root, mst_manifest *manifest) {
    mst_status status = MST_OK;
    const place at = {.name = name};
    const json_t *digests = json_object_get(root, "block_digests"),
                 *tokenizer = json_object_get(root, "tokenizer_file"),
                 *companions = json_object_get(root, "companions_file");
    MST_TRY(get_file(&at, digests, "sha256", manifest->packed, &manifest->digests));
    MST_CHECK(strcmp(manifest->digests.name, CKPT_DIGESTS_NAME) == 0, MST_EFORMAT,
              "%s: block_digests must name " CKPT_DIGESTS_NAME, name);
    if (tokenizer != NULL) {
        MST_TRY(get_file(&at, tokenizer, "sha256", manifest->packed, &manifest->tokenizer));
        MST_CHECK(strcmp(manifest->tokenizer.name, CKPT_TOKENIZER_NAME) == 0, MST_EFORMAT,
                  "%s: tokenizer_file must name " CKPT_TOKENIZER_NAME, name);
    }
    if (companions != NULL) {
        MST_TRY(get_file(&at, companions, "sha256", manifest->packed, &manifest->companions));
        MST_CHECK(strcmp(manifest->companions.name, CKPT_COMPANIONS_NAME) == 0, MST_EFORMAT,
                  "%s: companions_file must name " CKPT_COMPANIONS_NAME, name);
    }
    MST_TRY(manifest->packed ? get_packed(name, root, manifest) : get_shards(name, root, manifest));
done:
    return status;
}

static mst_status get_tensors(const char *name, const json_t *root, mst_manifest *manifest) {
    mst_status status = MST_OK;
    place at = {.name = name};
    const json_t *list = NULL;
    const char *dtype = NULL;
    MST_TRY(get_list(&at, root, "tensors", sizeof *manifest->tensors, &list, &manifest->tensor_count,
                     &manifest->tensors));
    at.list = "tensors";
    for (at.index = 0; at.index < manifest->tensor_count; at.index++) {
        mst_manifest_tensor *tensor = &manifest->tensors[at.index];
        const json_t *object = json_array_get(list, at.index), *shape = json_object_get(object, "shape");
        MST_TRY(get_name(&at, object, sizeof tensor->name, tensor->name));
        MST_TRY(get_text(&at, object, "dtype", &dtype));
        if (strcmp(dtype, "f32") != 0) MST_TRY(wrong(&at, "dtype", "not \"f32\""));
        tensor->dims = json_array_size(shape);
        if (tensor->dims < 1 || tensor->dims > 2)
            MST_TRY(wrong(&at, "shape", "not a list of one or two sizes"));
        tensor->count = 1;
        tensor->shape[1] = 1;
        for (size_t d = 0; d < tensor->dims; d++) {
            json_int_t side = json_integer_value(json_array_get(shape, d)); /* 0 when it is not a number */
            if (side < 1 || (uint64_t)side > most_elements / tensor->count)
                MST_TRY(wrong(&at, "shape", "out of range"));
            tensor->shape[d] = (size_t)side;
            tensor->count *= (uint64_t)side;
        }
    }
done:
    return status;
}

/* Pieces stand by kind, then tensor, so the tensor's number needs no search:
 * it is the last piece's or the next one. */
static mst_status get_pieces(const char *name, const json_t *root, mst_manifest *manifest) {
    mst_status status = MST_OK;
    place at = {.name = name};
    const json_t *list = NULL;
    const char *kind = NULL, *tensor = NULL;
    size_t last_kind = 0, last_tensor = 0;
    MST_TRY(get_list(&at, root, "pieces", sizeof *manifest->pieces, &list, &manifest->piece_count,
                     &manifest->pieces));
    at.list = "pieces";
    for (at.index = 0; at.index < manifest->piece_count; at.index++) {
        mst_manifest_piece *piece = &manifest->pieces[at.index];
        const json_t *object = json_array_get(list, at.index);
        MST_TRY(get_text(&at, object, "kind", &kind));
        MST_TRY(get_text(&at, object, "tensor", &tensor));
        MST_TRY(get_number(&at, object, "first", most_elements, &piece->first));
        MST_TRY(get_number(&at, object, "count", most_elements, &piece->count));
        if (!manifest->packed) MST_TRY(get_size(&at, object, "shard", &piece->shard));
        MST_TRY(get_number(&at, object, "offset", most_bytes, &piece->offset));
        if (piece->shard >= manifest->shard_count)
            MST_TRY(wrong(&at, "shard", "there are not so many shards"));
        if (piece->first == 0 && at.index > 0 && ++last_tensor == manifest->tensor_count) {
            last_tensor = 0;
            last_kind++;
        }
        if (last_kind >= mst_manifest_kinds(manifest) || last_tensor >= manifest->tensor_count ||
            strcmp(kind, mst_tensor_kind_name((mst_tensor_kind)last_kind)) != 0 ||
            strcmp(tensor, manifest->tensors[last_tensor].name) != 0)
            MST_TRY(wrong(&at, "tensor", "not in the order of kinds and tensors"));
        piece->kind = (mst_tensor_kind)last_kind;
        piece->tensor = last_tensor;
    }
done:
    return status;
}

/* The digest at the end must be that of all bytes before it. */
static mst_status check_seal(const char *text, size_t bytes, const char *name) {
    mst_digest digest;
    char expected[CKPT_SEAL_BYTES + 1] = CKPT_SEAL_HEAD;
    if (bytes < CKPT_SEAL_BYTES)
        return mst_error(MST_EFORMAT, "%s is cut short: it has only %zu bytes", name, bytes);
    mst_status status = mst_digest_of(text, bytes - CKPT_SEAL_BYTES, &digest);
    if (status != MST_OK) return status;
    mst_digest_to_hex(&digest, expected + sizeof CKPT_SEAL_HEAD - 1);
    memcpy(expected + CKPT_SEAL_BYTES - (sizeof CKPT_SEAL_TAIL - 1), CKPT_SEAL_TAIL, sizeof CKPT_SEAL_TAIL);
    if (memcmp(text + bytes - CKPT_SEAL_BYTES, expected, CKPT_SEAL_BYTES) != 0)
        return mst_error(MST_EFORMAT, "%s is damaged: its last line is not the SHA-256 of what stands before",
                         name);
    return MST_OK;
}

static mst_status parse_root(const char *name, const json_t *root, size_t bytes, mst_manifest *manifest) {
    mst_status status = MST_OK;
    const place at = {.name = name};
    const char *format = NULL;
    uint64_t version = 0, block = 0;
    MST_TRY(get_text(&at, root, "format", &format));
    MST_CHECK(strcmp(format, "muster checkpoint") == 0, MST_EFORMAT,
              "%s: format: '%.40s' is not 'muster checkpoint'", name, format);
    MST_TRY(get_number(&at, root, "version", INT64_MAX, &version));
    MST_CHECK(version >= 1 && version <= MST_CHECKPOINT_VERSION, MST_EFORMAT,
              "%s: version: %llu is not one that this muster reads (1 to %d); use a newer muster", name,
              (unsigned long long)version, MST_CHECKPOINT_VERSION);
    MST_TRY(get_number(&at, root, "block", UINT32_MAX, &block));
    MST_CHECK(block == MST_BLOCK, MST_EFORMAT, "%s: block: %llu is not %d", name, (unsigned long long)block,
              MST_BLOCK);
    manifest->packed = version == CKPT_VERSION_PACKED;
    manifest->meta.has_base = version == CKPT_VERSION_ADAPTERS;
    manifest->head = manifest->packed ? CKPT_HEAD_BYTES + bytes : 0;
    MST_TRY(get_meta(name, root, manifest));
    MST_TRY(get_files(name, root, manifest));
    MST_TRY(get_tensors(name, root, manifest));
    MST_TRY(get_pieces(name, root, manifest));
    MST_TRY(ckpt_manifest_index(manifest, name));
done:
    return status;
}

/* A tree of JSON takes far more memory than its text: some 250 bytes for each `{}`. So its size is known before it is made. */
static mst_status check_values(const char *text, size_t bytes, const char *name) {
    mst_status status = MST_OK;
    size_t containers = 0, commas = 0;
    for (size_t i = 0; i < bytes; i++) {
        containers += text[i] == '{' || text[i] == '[';
        commas += text[i] == ',';
    }
    MST_CHECK(containers <= CONTAINERS_MOST && commas <= COMMAS_MOST, MST_EFORMAT,
              "%s is larger than any checkpoint's manifest: %zu lists and objects, the limit is %d; %zu "
              "commas, the limit is %d",
              name, containers, CONTAINERS_MOST, commas, COMMAS_MOST);
done:
    return status;
}

mst_status mst_manifest_parse(const char *text, size_t bytes, const char *name, mst_manifest *manifest_out) {
    mst_status status = MST_OK;
    mst_manifest manifest = {0};
    json_error_t error;
    json_t *root = NULL;
    *manifest_out = manifest;
    MST_TRY(check_seal(text, bytes, name));
    MST_TRY(check_values(text, bytes, name));
    root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    MST_CHECK(root != NULL, MST_EFORMAT, "%s:%d:%d: %s", name, error.line, error.column, error.text);
    MST_TRY(parse_root(name, root, bytes, &manifest));
    *manifest_out = manifest;
    manifest = (mst_manifest){0};
done:
    mst_manifest_clear(&manifest);
    json_decref(root);
    return status;
}
