#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest.h"

/* Text in the making. The first failure is kept; later calls do nothing. */
typedef struct page {
    FILE *stream;
    mst_status status;
} page;

static void put_text(page *to, const char *key, const char *text) {
    if (to->status != MST_OK) return;
    json_t *string = json_string(text != NULL ? text : "");
    char *quoted = string != NULL ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    if (quoted != NULL)
        fprintf(to->stream, "\"%s\": %s,\n", key, quoted);
    else
        to->status = mst_error(MST_EINVAL, "checkpoint: %s is not UTF-8 text: '%.60s'", key, text);
    free(quoted);
    json_decref(string);
}

/* JSON readers keep 63 bits. */
static void put_number(page *to, const char *key, uint64_t value) {
    if (to->status != MST_OK) return;
    if (value > INT64_MAX)
        to->status =
            mst_error(MST_EINVAL, "checkpoint: %s is %" PRIu64 "; the limit is 2^63 - 1", key, value);
    fprintf(to->stream, "\"%s\": %" PRIu64 ",\n", key, value);
}

static void put_digest(page *to, const char *key, const mst_digest *digest) {
    char hex[MST_DIGEST_HEX];
    mst_digest_to_hex(digest, hex);
    fprintf(to->stream, "\"%s\": \"%s\",\n", key, hex);
}

static bool is_scaled(const mst_model_config *model) {
    return model->rope_factor != 0 && model->rope_factor != 1;
}

uint64_t ckpt_manifest_version(const mst_checkpoint_meta *meta) {
    return meta->has_base ? CKPT_VERSION_ADAPTERS : is_scaled(&meta->model) ? 2 : 1;
}

static void put_model(page *to, const mst_model_config *model) {
    if (to->status != MST_OK) return;
    const char *family = mst_family_name(model->family);
    if (family == NULL || !isfinite(model->norm_eps) || !isfinite(model->rope_theta) ||
        !isfinite(model->init_deviation) || !isfinite(model->rope_factor) ||
        !isfinite(model->rope_low_freq_factor) || !isfinite(model->rope_high_freq_factor)) {
        to->status =
            mst_error(MST_EINVAL, "checkpoint: the model's family or one of its numbers is not valid");
        return;
    }
    fprintf(
        to->stream,
        "\"model\": {\"family\": \"%s\", \"vocab_size\": %zu, \"d_model\": %zu, \"n_layers\": %zu, "
        "\"n_heads\": %zu, "
        "\"n_kv_heads\": %zu, \"head_dim\": %zu, \"d_ff\": %zu, \"max_seq_len\": %zu, \"norm_eps\": %.17g, "
        "\"rope_theta\": %.17g, \"init_deviation\": %.17g, \"tie_embeddings\": %s",
        family, model->vocab_size, model->d_model, model->n_layers, model->n_heads, model->n_kv_heads,
        model->head_dim, model->d_ff, model->max_seq_len, model->norm_eps, model->rope_theta,
        model->init_deviation, model->tie_embeddings ? "true" : "false");
    if (is_scaled(model))
        fprintf(to->stream,
                ",\n\"rope_scaling\": {\"factor\": %.17g, \"low_freq_factor\": %.17g, \"high_freq_factor\": "
                "%.17g, "
                "\"original_seq_len\": %zu}",
                model->rope_factor, model->rope_low_freq_factor, model->rope_high_freq_factor,
                model->rope_original_seq_len);
    fputs("},\n", to->stream);
}

/* Left out where nothing was evaluated, or the loss is not a number that JSON can say. */
static void put_heldout(page *to, const mst_heldout *heldout) {
    if (heldout->valid == 0 || !isfinite(heldout->loss)) return;
    fprintf(to->stream, "\"heldout\": {\"loss\": %.17g, ", heldout->loss);
    if (isfinite(heldout->bits_per_byte))
        fprintf(to->stream, "\"bits_per_byte\": %.17g, ", heldout->bits_per_byte);
    fprintf(to->stream, "\"tokens\": %" PRIu64 ", \"bytes\": %" PRIu64 "},\n", heldout->valid,
            heldout->bytes);
}

static void put_meta(page *to, const mst_manifest *manifest) {
    const mst_checkpoint_meta *meta = &manifest->meta;
    fputs("{\n", to->stream);
    put_text(to, "format", "muster checkpoint");
    put_number(to, "version", manifest->packed ? CKPT_VERSION_PACKED : ckpt_manifest_version(meta));
    put_number(to, "step", meta->step);
    put_number(to, "updates", meta->updates);
    put_number(to, "samples", meta->samples);
    put_number(to, "tokens", meta->tokens);
    put_heldout(to, &meta->heldout);
    put_text(to, "run_id", meta->run_id);
    put_text(to, "device_class", meta->device_class);
    put_text(to, "versions", meta->versions);
    if (meta->choices != NULL) put_text(to, "choices", meta->choices);
    put_text(to, "config", meta->config);
    put_model(to, &meta->model);
    put_digest(to, "data", &meta->data);
    if (meta->has_base) put_digest(to, "base", &meta->base);
    put_digest(to, "weights", &manifest->kinds[MST_KIND_MASTER]);
    put_digest(to, "exp_avg", &manifest->kinds[MST_KIND_EXP_AVG]);
    put_digest(to, "exp_avg_sq", &manifest->kinds[MST_KIND_EXP_AVG_SQ]);
    put_digest(to, "state", &manifest->state);
}

static void put_file(page *to, const char *before, const mst_manifest_file *file, const char *digest_key,
                     const char *after) {
    char hex[MST_DIGEST_HEX];
    mst_digest_to_hex(&file->digest, hex);
    fprintf(to->stream, "%s{\"name\": \"%s\", \"bytes\": %" PRIu64 ", \"%s\": \"%s\"", before, file->name,
            file->bytes, digest_key, hex);
    if (file->offset > 0) fprintf(to->stream, ", \"offset\": %" PRIu64, file->offset);
    fprintf(to->stream, "}%s\n", after);
}

/* The files that stand for themselves, or the one that holds everything. */
static void put_shards(page *to, const mst_manifest *manifest) {
    if (manifest->packed) {
        fprintf(to->stream, "\"kinds\": [\"master\"%s],\n\"packed_bytes\": %" PRIu64 ",\n",
                manifest->weights_only ? "" : ", \"exp_avg\", \"exp_avg_sq\"", manifest->shards[0].bytes);
        put_digest(to, "outside_sha256", &manifest->shards[0].digest);
        return;
    }
    fputs("\"shards\": [\n", to->stream);
    for (size_t i = 0; i < manifest->shard_count; i++)
        put_file(to, "", &manifest->shards[i], "outside_sha256", i + 1 < manifest->shard_count ? "," : "");
    fputs("],\n", to->stream);
}

static void put_piece(page *to, const mst_manifest *manifest, const mst_manifest_piece *piece,
                      const char *after) {
    fprintf(to->stream, "{\"kind\": \"%s\", \"tensor\": \"%s\", \"first\": %" PRIu64 ", \"count\": %" PRIu64,
            mst_tensor_kind_name(piece->kind), manifest->tensors[piece->tensor].name, piece->first,
            piece->count);
    if (!manifest->packed) fprintf(to->stream, ", \"shard\": %zu", piece->shard);
    fprintf(to->stream, ", \"offset\": %" PRIu64 "}%s\n", piece->offset, after);
}

static void put_lists(page *to, const mst_manifest *manifest) {
    put_file(to, "\"block_digests\": ", &manifest->digests, "sha256", ",");
    if (manifest->checksums.name[0] != '\0')
        put_file(to, "\"block_checksums\": ", &manifest->checksums, "sha256", ",");
    if (!manifest->packed) put_file(to, "\"model_file\": ", &manifest->model, "sha256", ",");
    if (manifest->tokenizer.name[0] != '\0')
        put_file(to, "\"tokenizer_file\": ", &manifest->tokenizer, "sha256", ",");
    if (manifest->companions.name[0] != '\0')
        put_file(to, "\"companions_file\": ", &manifest->companions, "sha256", ",");
    put_shards(to, manifest);
    put_number(to, "block", MST_BLOCK);
    fputs("\"tensors\": [\n", to->stream);
    for (size_t i = 0; i < manifest->tensor_count; i++) {
        const mst_manifest_tensor *tensor = &manifest->tensors[i];
        fprintf(to->stream, "{\"name\": \"%s\", \"dtype\": \"f32\", \"shape\": [%zu", tensor->name,
                tensor->shape[0]);
        if (tensor->dims == 2) fprintf(to->stream, ", %zu", tensor->shape[1]);
        fprintf(to->stream, "]}%s\n", i + 1 < manifest->tensor_count ? "," : "");
    }
    fputs("],\n\"pieces\": [\n", to->stream);
    for (size_t i = 0; i < manifest->piece_count; i++)
        put_piece(to, manifest, &manifest->pieces[i], i + 1 < manifest->piece_count ? "," : "");
    fputs("],\n", to->stream);
}

static mst_status seal(FILE *stream, const char *text, size_t bytes) {
    mst_digest digest;
    char hex[MST_DIGEST_HEX];
    mst_status status = mst_digest_of(text, bytes, &digest);
    if (status != MST_OK) return status;
    mst_digest_to_hex(&digest, hex);
    fprintf(stream, CKPT_SEAL_HEAD "%s" CKPT_SEAL_TAIL, hex);
    return MST_OK;
}

static mst_status print(const mst_manifest *manifest, bool whole, char **text_out, size_t *bytes_out) {
    mst_status status = MST_OK;
    char *text = NULL;
    size_t bytes = 0;
    page to = {.stream = open_memstream(&text, &bytes)};
    MST_CHECK(to.stream != NULL, MST_ENOMEM, "checkpoint: no memory for the manifest");
    put_meta(&to, manifest);
    if (whole) put_lists(&to, manifest);
    status = to.status;
    if (status == MST_OK && whole && fflush(to.stream) == 0) status = seal(to.stream, text, bytes);
    bool failed = ferror(to.stream) != 0;
    if (fclose(to.stream) != 0) failed = true;
    if (status == MST_OK && failed) status = mst_error(MST_ENOMEM, "checkpoint: no memory for the manifest");
    if (status != MST_OK) goto done;
    *text_out = text;
    *bytes_out = bytes;
    text = NULL;
done:
    free(text);
    return status;
}

mst_status ckpt_manifest_print(const mst_manifest *manifest, char **text_out, size_t *bytes_out) {
    return print(manifest, true, text_out, bytes_out);
}

mst_status ckpt_manifest_print_meta(const mst_manifest *manifest, char **text_out) {
    size_t bytes;
    return print(manifest, false, text_out, &bytes);
}
