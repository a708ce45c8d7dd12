/* Adapters in PEFT's layout, read: exactly those that a config asks for, or a refusal. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hf.h"
#include "json.h"

#define CONFIG_NAME  "adapter_config.json"
#define WEIGHTS_NAME "adapter_model.safetensors"

/* Whether a field has no effect: it is not there, null, false, 0, "none", or an empty list or object. */
static bool is_idle(const json_t *value) {
    if (value == NULL || json_is_null(value) || json_is_false(value)) return true;
    if (json_is_number(value)) return json_number_value(value) == 0;
    if (json_is_string(value)) return strcmp(json_string_value(value), "none") == 0;
    return json_array_size(value) == 0 && json_object_size(value) == 0 && !json_is_true(value);
}

/* What would make something else of the adapters than products with A and B, or of the model than the one that was given. */
static mst_status check_idle(const json_t *root, const char *path) {
    static const char *const fields[] = {"bias",
                                         "use_dora",
                                         "rank_pattern",
                                         "alpha_pattern",
                                         "modules_to_save",
                                         "lora_bias",
                                         "target_parameters",
                                         "trainable_token_indices",
                                         "use_qalora",
                                         "use_bdlora",
                                         "alora_invocation_tokens",
                                         "layer_replication",
                                         "arrow_config",
                                         "kasa_config",
                                         "monteclora_config",
                                         NULL};
    mst_status status = MST_OK;
    for (const char *const *name = fields; *name != NULL; name++)
        MST_CHECK(is_idle(json_object_get(root, *name)), MST_EUNSUPPORTED,
                  "%s: %s is in use; muster reads plain adapters, of matrices A and B alone", path, *name);
done:
    return status;
}

/* Other beginnings (pissa, olora, corda, loftq ...) change the model that they adapt, too. */
static mst_status check_beginning(const json_t *root, const char *path) {
    mst_status status = MST_OK;
    const json_t *value = json_object_get(root, "init_lora_weights");
    const char *text = json_string_value(value);
    const bool plain = value == NULL || json_is_null(value) || json_is_boolean(value) ||
                       (text != NULL && strcmp(text, "gaussian") == 0);
    MST_CHECK(plain, MST_EUNSUPPORTED,
              "%s: init_lora_weights is %s: such adapters may be of a changed model; muster reads those that "
              "began with true, false or \"gaussian\"",
              path, text != NULL ? text : "of another kind");
done:
    return status;
}

static mst_status check_config(const char *path, const mst_lora *lora) {
    mst_status status = MST_OK;
    json_t *root = NULL;
    MST_TRY(hf_json_load(path, &root));
    const char *type = json_string_value(json_object_get(root, "peft_type"));
    const json_t *rank = json_object_get(root, "r"), *alpha = json_object_get(root, "lora_alpha");
    MST_CHECK(type != NULL && strcmp(type, "LORA") == 0, MST_EUNSUPPORTED, "%s: peft_type is not LORA", path);
    MST_TRY(check_idle(root, path));
    MST_TRY(check_beginning(root, path));
    MST_CHECK(json_is_integer(rank) && json_is_number(alpha), MST_EFORMAT, "%s: r or lora_alpha is missing",
              path);
    MST_CHECK(json_integer_value(rank) == (json_int_t)lora->rank, MST_ECONFIG,
              "%s: r is %" JSON_INTEGER_FORMAT ", lora.rank is %zu", path, json_integer_value(rank),
              lora->rank);
    const bool rslora = json_is_true(json_object_get(root, "use_rslora"));
    const double scale = json_number_value(alpha) / (rslora ? sqrt((double)lora->rank) : (double)lora->rank);
    MST_CHECK(fabs(scale - lora->scale) <= 1e-12 * lora->scale, MST_ECONFIG,
              "%s: lora_alpha and use_rslora make a scale of %g, lora.alpha and lora.rslora one of %g", path,
              scale, lora->scale);
done:
    json_decref(root);
    return status;
}

static mst_status take(mst_hf *hf, size_t number) {
    mst_status status = MST_OK;
    const mst_tensor *wanted = &hf->layout.tensors[number];
    char theirs[128], ours[128];
    const uint64_t shape[2] = {wanted->shape[0], wanted->shape[1]};
    hf_tensor *t = hf_tensors_find(&hf->tensors, wanted->name);
    MST_CHECK(t != NULL, MST_ECONFIG, "%s: tensor %s is missing: other targets than lora.targets", hf->folder,
              wanted->name);
    MST_CHECK(t->dims == 2 && t->shape[0] == shape[0] && t->shape[1] == shape[1], MST_ECONFIG,
              "%s: tensor %s has shape %s; this model asks for %s", hf->folder, t->name,
              hf_shape_text(t->shape, t->dims, theirs), hf_shape_text(shape, 2, ours));
    MST_CHECK(t->dtype != MST_HF_DTYPES, MST_EUNSUPPORTED,
              "%s: tensor %s is of type %s; muster reads F32, F16 and BF16", hf->folder, t->name, t->tag);
    if (number == 0) hf->dtype = t->dtype;
    if (t->dtype != hf->dtype) hf->dtype = MST_HF_F32;
    t->used = true;
    hf->of[number] = t;
done:
    return status;
}

static mst_status open_adapters(mst_hf *hf, const mst_model_config *model, const mst_lora *lora) {
    mst_status status = MST_OK;
    char path[HF_PATH_MAX];
    MST_TRY(hf_path_in(hf->folder, CONFIG_NAME, path));
    MST_TRY(check_config(path, lora));
    MST_TRY(mst_lora_layout(model, lora, &hf->layout));
    hf->files = calloc(1, sizeof *hf->files);
    hf->of = calloc(hf->layout.tensor_count, sizeof *hf->of);
    MST_CHECK(hf->files != NULL && hf->of != NULL, MST_ENOMEM, "%s: no memory for %zu tensors", hf->folder,
              hf->layout.tensor_count);
    MST_TRY(hf_open_weights(hf, WEIGHTS_NAME));
    MST_TRY(hf_tensors_sort(&hf->tensors));
    for (size_t i = 0; i < hf->layout.tensor_count; i++) MST_TRY(take(hf, i));
    for (size_t i = 0; i < hf->tensors.count; i++)
        MST_CHECK(hf->tensors.at[i].used, MST_ECONFIG,
                  "%s: tensor %s is of no projection that lora.targets names", hf->folder,
                  hf->tensors.at[i].name);
done:
    return status;
}

mst_status mst_hf_open_adapters(const char *folder, const mst_model_config *model, const mst_lora *lora,
                                mst_hf **hf_out) {
    mst_status status = MST_OK;
    mst_hf *hf = calloc(1, sizeof *hf);
    *hf_out = NULL;
    MST_CHECK(hf != NULL && (hf->folder = strdup(folder)) != NULL, MST_ENOMEM, "%s: out of memory", folder);
    MST_TRY(open_adapters(hf, model, lora));
    *hf_out = hf;
    hf = NULL;
done:
    mst_hf_close(&hf);
    return status;
}
