#include "hf_config.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 60 }; /* characters of a value in a message */

void hf_note(const mst_hf_notes *notes, const char *format, ...) {
    char text[512];
    va_list arguments;
    if (notes == NULL || notes->say == NULL) return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    notes->say(notes->context, text);
}

/* A value as it stands in the file, cut when it is long. */
static const char *shown(const json_t *value, char text_out[SHOWN + 4]) {
    char *text =
        json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6) | JSON_ENSURE_ASCII);
    const bool cut = text != NULL && strlen(text) > SHOWN;
    snprintf(text_out, SHOWN + 4, "%.*s%s", SHOWN, text != NULL ? text : "?", cut ? "..." : "");
    free(text);
    return text_out;
}

static bool any_is(const char *const *list, const char *word) {
    for (; *list != NULL; list++)
        if (strcmp(*list, word) == 0) return true;
    return false;
}

/* ---- single fields ---- */

static mst_status read_size(const json_t *value, const char *key, const char *name, size_t *size_out) {
    mst_status status = MST_OK;
    char text[SHOWN + 4];
    MST_CHECK(json_is_integer(value) && json_integer_value(value) >= 1 &&
                  json_integer_value(value) <= 1 << 24,
              MST_EFORMAT, "%s: %s is %s; it must be a whole number from 1 to %d", name, key,
              shown(value, text), 1 << 24);
    *size_out = (size_t)json_integer_value(value);
done:
    return status;
}

static mst_status read_real(const json_t *value, const char *key, const char *name, double *real_out) {
    mst_status status = MST_OK;
    char text[SHOWN + 4];
    MST_CHECK(json_is_number(value) && isfinite(json_number_value(value)), MST_EFORMAT,
              "%s: %s is %s; it must be a number", name, key, shown(value, text));
    *real_out = json_number_value(value);
done:
    return status;
}

/* One of the texts of `values`. */
static bool is_one_of(const json_t *value, const char *values) {
    bool found = false;
    for (const char *at = values; !found && *at != '\0';) {
        const size_t length = strcspn(at, "|");
        json_t *wanted = json_loadb(at, length, JSON_DECODE_ANY, NULL);
        found = json_equal(wanted, value);
        json_decref(wanted);
        at += length + (at[length] == '|');
    }
    return found;
}

static mst_status read_field(const json_t *root, const hf_field *field, const char *name,
                             mst_model_config *model) {
    mst_status status = MST_OK;
    char text[SHOWN + 4];
    const json_t *value = json_object_get(root, field->name);
    void *to = (char *)model + field->offset;
    if (field->kind == HF_IDLE) goto done;
    if (value == NULL || (json_is_null(value) && field->kind != HF_MUST)) {
        MST_CHECK(field->absence != HF_REQUIRED, MST_EFORMAT,
                  "%s: %s is %s, and no default is trusted: write in what the model was trained with", name,
                  field->name, value == NULL ? "missing" : "null");
        goto done;
    }
    if (field->kind == HF_SIZE) MST_TRY(read_size(value, field->name, name, to));
    if (field->kind == HF_REAL) MST_TRY(read_real(value, field->name, name, to));
    MST_CHECK(field->kind != HF_MUST || is_one_of(value, field->values), MST_EUNSUPPORTED,
              "%s: %s is %s; muster computes such models only with %s", name, field->name, shown(value, text),
              field->values);
done:
    return status;
}

/* ---- rotary positions ---- */

static const char *const rope_fields[] = {"rope_theta", "rope_parameters", "rope_scaling", NULL};

static mst_status read_scaling(const json_t *rope, const char *where, const char *name,
                               mst_model_config *model) {
    static const struct {
        const char *key;
        size_t offset;
    } numbers[] = {{"factor", offsetof(mst_model_config, rope_factor)},
                   {"low_freq_factor", offsetof(mst_model_config, rope_low_freq_factor)},
                   {"high_freq_factor", offsetof(mst_model_config, rope_high_freq_factor)}};
    mst_status status = MST_OK;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const json_t *value = json_object_get(rope, numbers[i].key);
        MST_CHECK(value != NULL, MST_EFORMAT, "%s: %s.%s is missing", name, where, numbers[i].key);
        MST_TRY(
            read_real(value, numbers[i].key, name, (double *)(void *)((char *)model + numbers[i].offset)));
    }
    const json_t *length = json_object_get(rope, "original_max_position_embeddings");
    MST_CHECK(length != NULL, MST_EFORMAT, "%s: %s.original_max_position_embeddings is missing", name, where);
    MST_TRY(read_size(length, "original_max_position_embeddings", name, &model->rope_original_seq_len));
    MST_CHECK(model->rope_factor >= 1, MST_EUNSUPPORTED,
              "%s: %s.factor is %g; muster knows factors from 1 on", name, where, model->rope_factor);
done:
    return status;
}

/* A dictionary of rotary settings: rope_scaling of older files, rope_parameters of newer ones. */
static mst_status read_rope_object(const json_t *rope, const char *where, const char *name,
                                   mst_model_config *model) {
    static const char *const known[] = {"type",
                                        "rope_type",
                                        "rope_theta",
                                        "factor",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "original_max_position_embeddings",
                                        NULL};
    mst_status status = MST_OK;
    char text[SHOWN + 4], plain[HF_PLAIN_MAX];
    const char *key;
    json_t *value, *object = json_incref((json_t *)(uintptr_t)rope);
    MST_CHECK(json_is_object(rope), MST_EFORMAT, "%s: %s is %s; it must be an object", name, where,
              shown(rope, text));
    const char *newer = json_string_value(json_object_get(rope, "rope_type")),
               *type = newer != NULL ? newer : json_string_value(json_object_get(rope, "type"));
    MST_CHECK(type != NULL, MST_EFORMAT, "%s: %s says no rope_type", name, where);
    const bool scaled = strcmp(type, "llama3") == 0;
    MST_CHECK(scaled || strcmp(type, "default") == 0, MST_EUNSUPPORTED,
              "%s: %s.rope_type is '%s'; muster knows default and llama3", name, where,
              hf_plain(type, plain));
    json_object_foreach(object, key, value) MST_CHECK(
        any_is(known, key) || (strcmp(key, "partial_rotary_factor") == 0 && json_number_value(value) == 1),
        MST_EUNSUPPORTED, "%s: %s.%s is %s, which muster does not know", name, where, hf_plain(key, plain),
        shown(value, text));
    if (scaled) MST_TRY(read_scaling(rope, where, name, model));
    if (json_object_get(rope, "rope_theta") != NULL)
        MST_TRY(read_real(json_object_get(rope, "rope_theta"), "rope_theta", name, &model->rope_theta));
done:
    json_decref(object);
    return status;
}

static mst_status read_rope(const json_t *root, const char *name, mst_model_config *model) {
    mst_status status = MST_OK;
    const json_t *theta = json_object_get(root, "rope_theta");
    double inside = 0;
    for (size_t i = 1; rope_fields[i] != NULL; i++) {
        const json_t *rope = json_object_get(root, rope_fields[i]);
        if (rope == NULL || json_is_null(rope)) continue;
        MST_TRY(read_rope_object(rope, rope_fields[i], name, model));
    }
    inside = model->rope_theta;
    if (theta != NULL) MST_TRY(read_real(theta, "rope_theta", name, &model->rope_theta));
    MST_CHECK(
        model->rope_theta > 0, MST_EFORMAT,
        "%s: rope_theta is missing, and no default is trusted: write in what the model was trained with",
        name);
    MST_CHECK(inside == 0 || inside == model->rope_theta, MST_EFORMAT,
              "%s: rope_theta is given twice, as %g and as %g", name, model->rope_theta, inside);
done:
    return status;
}

/* ---- what is left ---- */

/* Values that say that something is not there. */
static bool is_nothing(const json_t *value) {
    return json_is_null(value) || json_is_false(value) ||
           (json_is_number(value) && json_number_value(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static bool is_full_attention(const json_t *types) {
    size_t i;
    const json_t *type;
    json_array_foreach(types, i, type) {
        if (!json_is_string(type) || strcmp(json_string_value(type), "full_attention") != 0) return false;
    }
    return json_is_array(types);
}

static mst_status check_unknown(const char *key, const json_t *value, const char *name,
                                const mst_hf_notes *notes) {
    mst_status status = MST_OK;
    char text[SHOWN + 4], plain[HF_PLAIN_MAX];
    if (is_nothing(value)) goto done;
    for (const char *const *part = hf_suspicious; *part != NULL; part++)
        MST_CHECK(strstr(key, *part) == NULL, MST_EUNSUPPORTED,
                  "%s: %s is %s, which muster does not know and which may change what the model computes",
                  name, hf_plain(key, plain), shown(value, text));
    hf_note(notes, "%s: %s is not known, and is passed over", name, hf_plain(key, plain));
done:
    return status;
}

static mst_status check_rest(const json_t *root, const hf_family *family, const char *name,
                             const mst_hf_notes *notes) {
    mst_status status = MST_OK;
    char text[SHOWN + 4];
    const char *key;
    json_t *value, *object = json_incref((json_t *)(uintptr_t)root);
    json_object_foreach(object, key, value) {
        const hf_field *field = family->fields;
        while (field->name != NULL && strcmp(field->name, key) != 0) field++;
        if (field->name != NULL || any_is(hf_harmless, key) || strcmp(key, "tie_word_embeddings") == 0)
            continue;
        if (family->rope && any_is(rope_fields, key)) continue;
        if (strcmp(key, "layer_types") == 0) {
            MST_CHECK(is_full_attention(value), MST_EUNSUPPORTED,
                      "%s: layer_types is %s; muster computes full_attention only", name, shown(value, text));
            continue;
        }
        MST_TRY(check_unknown(key, value, name, notes));
    }
done:
    json_decref(object);
    return status;
}

void hf_config_fill_scaling(mst_model_config *model) {
    if (model->rope_factor > 1) return;
    model->rope_factor = model->rope_low_freq_factor = 1;
    model->rope_high_freq_factor = 4;
    model->rope_original_seq_len = 8192;
}

/* What follows from other fields by definition, in all versions of transformers. */
static void derive(const hf_family *family, mst_model_config *model) {
    if (model->n_kv_heads == 0) model->n_kv_heads = model->n_heads;
    if (model->head_dim == 0) model->head_dim = model->d_model / model->n_heads;
    if (model->d_ff == 0) model->d_ff = 4 * model->d_model;
    if (model->init_deviation == 0) model->init_deviation = 0.02; /* only for weights that are made anew */
    if (!family->rope) model->rope_theta = 10000; /* not used, as in a config that does not name it */
    hf_config_fill_scaling(model);
}

mst_status hf_config_read(const json_t *root, const char *name, const mst_hf_notes *notes,
                          hf_config *config_out) {
    mst_status status = MST_OK;
    char text[SHOWN + 4], plain[HF_PLAIN_MAX];
    const char *type = json_string_value(json_object_get(root, "model_type"));
    hf_config c = {0};
    MST_CHECK(type != NULL, MST_EFORMAT, "%s: model_type is missing", name);
    c.family = hf_family_typed(type);
    MST_CHECK(c.family != NULL, MST_EUNSUPPORTED, "%s: model_type is '%s'; muster knows %s", name,
              hf_plain(type, plain), hf_family_names);
    c.model.family = c.family->family;
    for (const hf_field *field = c.family->fields; field->name != NULL; field++)
        MST_TRY(read_field(root, field, name, &c.model));
    if (c.family->rope) MST_TRY(read_rope(root, name, &c.model));
    const json_t *tie = json_object_get(root, "tie_word_embeddings");
    MST_CHECK(tie == NULL || json_is_boolean(tie), MST_EFORMAT,
              "%s: tie_word_embeddings is %s; it must be true or false", name, shown(tie, text));
    c.tie_given = tie != NULL;
    c.model.tie_embeddings = json_is_true(tie);
    MST_TRY(check_rest(root, c.family, name, notes));
    derive(c.family, &c.model);
    if (mst_model_config_check(&c.model) != MST_OK)
        MST_TRY(mst_error(MST_EFORMAT, "%s: as muster names it, %s", name, mst_error_message()));
    *config_out = c;
done:
    return status;
}

void hf_config_differences(const mst_model_config *one, const mst_model_config *other,
                           char keys_out[HF_KEYS_MAX]) {
    const mst_model_config *a = one, *b = other;
    const bool scaled = a->rope_factor > 1, both = scaled && b->rope_factor > 1,
               rope = a->family != MST_FAMILY_GPT2;
    const struct {
        const char *name;
        bool differs;
    } keys[] = {
        {"family", a->family != b->family},
        {"vocab_size", a->vocab_size != b->vocab_size},
        {"d_model", a->d_model != b->d_model},
        {"n_layers", a->n_layers != b->n_layers},
        {"n_heads", a->n_heads != b->n_heads},
        {"n_kv_heads", a->n_kv_heads != b->n_kv_heads},
        {"head_dim", a->head_dim != b->head_dim},
        {"d_ff", a->d_ff != b->d_ff},
        {"max_seq_len", a->max_seq_len != b->max_seq_len},
        {"norm_eps", a->norm_eps != b->norm_eps},
        {"rope_theta", rope && a->rope_theta != b->rope_theta},
        {"rope_factor", scaled ? a->rope_factor != b->rope_factor : b->rope_factor > 1},
        {"rope_low_freq_factor", both && a->rope_low_freq_factor != b->rope_low_freq_factor},
        {"rope_high_freq_factor", both && a->rope_high_freq_factor != b->rope_high_freq_factor},
        {"rope_original_seq_len", both && a->rope_original_seq_len != b->rope_original_seq_len},
        {"tie_embeddings", a->tie_embeddings != b->tie_embeddings},
    };
    size_t length = 0;
    keys_out[0] = '\0';
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].differs)
            length += (size_t)snprintf(keys_out + length, HF_KEYS_MAX - length, "%s%s",
                                       length > 0 ? ", " : "", keys[i].name);
}

bool hf_config_same(const mst_model_config *one, const mst_model_config *other) {
    char keys[HF_KEYS_MAX];
    hf_config_differences(one, other, keys);
    return keys[0] == '\0';
}

/* ---- writing ---- */

static int put_field(json_t *root, const hf_field *field, const mst_model_config *model) {
    const void *from = (const char *)model + field->offset;
    if (field->kind == HF_IDLE || field->absence == HF_OPTIONAL) return 0;
    if (field->kind == HF_SIZE)
        return json_object_set_new(root, field->name, json_integer((json_int_t) * (const size_t *)from));
    if (field->kind == HF_REAL)
        return json_object_set_new(root, field->name, json_real(*(const double *)from));
    return json_object_set_new(root, field->name,
                               json_loadb(field->values, strcspn(field->values, "|"), JSON_DECODE_ANY, NULL));
}

/* rope_theta at the top and rope_scaling: what old and new readers understand. */
static int put_rope(json_t *root, const mst_model_config *m) {
    int failed = json_object_set_new(root, "rope_theta", json_real(m->rope_theta));
    json_t *scaling = json_null();
    if (m->rope_factor > 1)
        scaling = json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", m->rope_factor,
                            "low_freq_factor", m->rope_low_freq_factor, "high_freq_factor",
                            m->rope_high_freq_factor, "original_max_position_embeddings",
                            (json_int_t)m->rope_original_seq_len);
    return failed | json_object_set_new(root, "rope_scaling", scaling);
}

mst_status hf_config_make(const mst_model_config *model, mst_hf_dtype dtype, int32_t end, json_t **root_out) {
    mst_status status = MST_OK;
    const hf_family *family = hf_family_written(model->family);
    json_t *root =
        json_pack("{s:[s], s:s}", "architectures", family->architecture, "model_type", family->model_type);
    int failed = root == NULL;
    for (const hf_field *field = family->fields; field->name != NULL; field++)
        failed |= put_field(root, field, model);
    if (family->rope) failed |= put_rope(root, model);
    failed |= json_object_set_new(root, "tie_word_embeddings", json_boolean(model->tie_embeddings));
    failed |= json_object_set_new(root, "torch_dtype", json_string(hf_dtype_torch(dtype)));
    failed |= json_object_set_new(root, "bos_token_id", json_null());
    failed |= json_object_set_new(root, "eos_token_id", end >= 0 ? json_integer(end) : json_null());
    failed |= json_object_set_new(root, "pad_token_id", json_null());
    MST_CHECK(failed == 0, MST_ENOMEM, "config.json: out of memory");
    *root_out = root;
    root = NULL;
done:
    json_decref(root);
    return status;
}

mst_status hf_json_print(const json_t *root, char **text_out) {
    mst_status status = MST_OK;
    char *text = NULL;
    bool same = false;
    for (size_t digits = 15; digits <= 17 && !same; digits++) {
        free(text);
        text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(digits));
        MST_CHECK(text != NULL, MST_ENOMEM, "JSON: out of memory");
        json_t *again = json_loads(text, 0, NULL);
        same = json_equal((json_t *)(uintptr_t)root, again);
        json_decref(again);
    }
    const size_t length = strlen(text);
    char *ended = realloc(text, length + 2);
    MST_CHECK(ended != NULL, MST_ENOMEM, "JSON: out of memory");
    text = ended;
    memcpy(text + length, "\n", 2);
    *text_out = text;
    text = NULL;
done:
    free(text);
    return status;
}
