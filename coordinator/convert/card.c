#include "card.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void put_digest(FILE *to, const char *name, const mst_digest *digest) {
    char hex[MST_DIGEST_HEX];
    mst_digest_to_hex(digest, hex);
    fprintf(to, "| %s | `%s` |\n", name, hex);
}

static uint64_t count_parameters(const mst_manifest *m) {
    uint64_t parameters = 0;
    for (size_t i = 0; i < m->tensor_count; i++) parameters += m->tensors[i].count;
    return parameters;
}

static void put_model(FILE *to, const mst_manifest *m, uint64_t parameters, mst_hf_dtype dtype) {
    const mst_model_config *model = &m->meta.model;
    fprintf(to, "| family | %s |\n| parameters | %" PRIu64 " |\n", mst_family_name(model->family),
            parameters);
    fprintf(to, "| layers, width, heads, key and value heads | %zu, %zu, %zu, %zu |\n", model->n_layers,
            model->d_model, model->n_heads, model->n_kv_heads);
    fprintf(to, "| vocabulary, longest sequence | %zu, %zu |\n", model->vocab_size, model->max_seq_len);
    fprintf(to, "| type of the weights here | %s |\n", mst_hf_dtype_name(dtype));
}

static void put_training(FILE *to, const mst_manifest *m, bool imported) {
    const mst_checkpoint_meta *meta = &m->meta;
    if (meta->step == 0) {
        fputs(imported ? "\nThese are the weights of another model, imported and not trained further.\n"
                       : "\nThese weights are not trained.\n",
              to);
        return;
    }
    fprintf(to, "\n## Training\n\n%s\n\n| | |\n|---|---|\n",
            imported ? "Training began from the weights of another model."
                     : "Training began from random weights.");
    fprintf(to, "| steps | %" PRIu64 " (%" PRIu64 " updates) |\n", meta->step, meta->updates);
    fprintf(to, "| tokens | %" PRIu64 " in %" PRIu64 " samples |\n", meta->tokens, meta->samples);
    if (meta->heldout.valid > 0)
        fprintf(to, "| held-out loss | %.4f nats a token, over %" PRIu64 " tokens |\n", meta->heldout.loss,
                meta->heldout.valid);
    if (meta->heldout.valid > 0 && isfinite(meta->heldout.bits_per_byte))
        fprintf(to, "| bits per byte, held out | %.4f |\n", meta->heldout.bits_per_byte);
    fprintf(to, "| computed on | %s |\n| run | `%s` |\n", meta->device_class, meta->run_id);
    put_digest(to, "SHA-256 of the data and its order", &meta->data);
}

static void put_proof(FILE *to, const mst_manifest *m) {
    fputs("\n## Digests\n\nOf the fp32 weights that these were rounded from, and of the whole state of "
          "training "
          "(`muster verify` prints\nboth; they do not depend on how many machines took part):\n\n| | "
          "|\n|---|---|\n",
          to);
    if (m->meta.has_base) put_digest(to, "weights of the model that was adapted", &m->meta.base);
    put_digest(to, m->meta.has_base ? "adapters" : "weights", &m->kinds[MST_KIND_MASTER]);
    if (m->meta.step > 0) put_digest(to, "state", &m->state);
    fprintf(to, "| written by | %s |\n", m->meta.versions);
}

static void put_config(FILE *to, const mst_manifest *manifest) {
    fprintf(to, "\n## Config\n\nPaths are those of the machine that it was trained on.\n\n```yaml\n%s```\n",
            manifest->meta.config);
}

static mst_status finish(FILE *to, char **text, char **text_out) {
    mst_status status = MST_OK;
    const bool failed = ferror(to) != 0;
    MST_CHECK(fclose(to) == 0 && !failed, MST_ENOMEM, "README.md: out of memory");
    *text_out = *text;
    *text = NULL;
done:
    free(*text);
    return status;
}

mst_status hf_adapter_card_make(const mst_manifest *manifest, const mst_export_options *options,
                                char **text_out) {
    mst_status status = MST_OK;
    char *text = NULL;
    size_t bytes = 0;
    const mst_export_adapters *a = options->adapters;
    FILE *to = open_memstream(&text, &bytes);
    MST_CHECK(to != NULL, MST_ENOMEM, "README.md: out of memory");
    fputs("---\nlibrary_name: peft\npipeline_tag: text-generation\ntags:\n- lora\n- muster\n---\n\n", to);
    fprintf(to, "# %s\n\n| | |\n|---|---|\n| adapters of | %s |\n| parameters | %" PRIu64 " |\n",
            options->name, a->base_name, count_parameters(manifest));
    fprintf(to, "| rank, scale | %zu, %g |\n", a->lora.rank, a->lora.scale);
    put_training(to, manifest, true);
    if (options->losses != NULL && manifest->meta.step > 0)
        fprintf(to, "\n### Losses\n\n%s", options->losses);
    put_proof(to, manifest);
    put_config(to, manifest);
    status = finish(to, &text, text_out);
done:
    return status;
}

mst_status hf_card_make(const mst_manifest *manifest, const mst_manifest *weights,
                        const mst_export_options *options, mst_hf_dtype dtype, bool imported,
                        char **text_out) {
    mst_status status = MST_OK;
    char *text = NULL;
    size_t bytes = 0;
    FILE *to = open_memstream(&text, &bytes);
    MST_CHECK(to != NULL, MST_ENOMEM, "README.md: out of memory");
    fprintf(to,
            "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- muster\n---\n\n# "
            "%s\n\n| | |\n|---|---|\n",
            options->name);
    put_model(to, manifest, count_parameters(weights), dtype);
    put_training(to, manifest, imported);
    if (options->losses != NULL && manifest->meta.step > 0)
        fprintf(to, "\n### Losses\n\n%s", options->losses);
    put_proof(to, manifest);
    if (manifest->meta.step > 0) put_config(to, manifest);
    status = finish(to, &text, text_out);
done:
    return status;
}
