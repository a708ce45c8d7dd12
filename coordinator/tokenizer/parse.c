#include "parse.h"

#include <string.h>

mst_status parse_string(const json_t *object, const char *where, const char *field, const char **text_out,
                        size_t *bytes_out) {
    const json_t *value = json_object_get(object, field);
    if (!json_is_string(value)) return mst_error(MST_EFORMAT, "%s.%s is not a text", where, field);
    *text_out = json_string_value(value);
    *bytes_out = json_string_length(value);
    return MST_OK;
}

mst_status parse_bool(const json_t *object, const char *where, const char *field, bool otherwise,
                      bool *value_out) {
    const json_t *value = json_object_get(object, field);
    *value_out = otherwise;
    if (value == NULL || json_is_null(value)) return MST_OK;
    if (!json_is_boolean(value))
        return mst_error(MST_EFORMAT, "%s.%s is neither true nor false", where, field);
    *value_out = json_is_true(value);
    return MST_OK;
}

mst_status parse_list(const json_t *object, const char *where, const char *field, const json_t **list_out) {
    *list_out = json_object_get(object, field);
    return json_is_array(*list_out) ? MST_OK : mst_error(MST_EFORMAT, "%s.%s is not a list", where, field);
}

mst_status parse_type(const json_t *object, const char *where, const char **type_out) {
    size_t bytes;
    if (!json_is_object(object)) return mst_error(MST_EFORMAT, "%s is not an object", where);
    return parse_string(object, where, "type", type_out, &bytes);
}

mst_status parse_known(const json_t *object, const char *where, const char *const *known) {
    /* jansson's iterator wants what it will not change */
    void *at = json_object_iter((json_t *)(uintptr_t)object);
    for (; at != NULL; at = json_object_iter_next((json_t *)(uintptr_t)object, at)) {
        const char *const *name = known;
        while (*name != NULL && strcmp(*name, json_object_iter_key(at)) != 0) name++;
        if (*name == NULL)
            return mst_error(MST_EUNSUPPORTED, "%s has a field '%.60s', which is not known", where,
                             json_object_iter_key(at));
    }
    return MST_OK;
}

/* ---- the whole file ---- */

static mst_status parse_root(mst_tokenizer *t, const json_t *root) {
    static const char *const known[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    mst_status status = MST_OK;
    const char *version = "";
    size_t bytes;
    if (!json_is_object(root)) return mst_error(MST_EFORMAT, "not an object");
    MST_TRY(parse_known(root, "the file", known));
    MST_TRY(parse_string(root, "the file", "version", &version, &bytes));
    MST_CHECK(strcmp(version, "1.0") == 0, MST_EUNSUPPORTED, "version '%.20s'; 1.0 is known", version);
    MST_TRY(parse_model(t, json_object_get(root, "model")));
    MST_TRY(parse_normalizer(t, json_object_get(root, "normalizer")));
    MST_TRY(parse_added(t, json_object_get(root, "added_tokens")));
    MST_TRY(parse_pre_tokenizer(t, json_object_get(root, "pre_tokenizer")));
    MST_TRY(parse_decoder(json_object_get(root, "decoder")));
    MST_TRY(parse_post_processor(t, json_object_get(root, "post_processor")));
done:
    return status;
}

mst_status mst_tokenizer_parse(const char *json, size_t bytes, const char *name,
                               mst_tokenizer **tokenizer_out) {
    json_error_t error;
    json_t *root = NULL;
    mst_tokenizer *t = calloc(1, sizeof *t);
    mst_status status = MST_OK;
    *tokenizer_out = NULL;
    MST_CHECK(t != NULL, MST_ENOMEM, "no memory");
    MST_CHECK(bytes <= TOKENIZER_JSON_MAX, MST_EUNSUPPORTED, "%zu bytes; at most %d are read", bytes,
              TOKENIZER_JSON_MAX);
    t->json = malloc(bytes + 1);
    MST_CHECK(t->json != NULL, MST_ENOMEM, "no memory for %zu bytes", bytes);
    memcpy(t->json, json, bytes);
    t->json[bytes] = '\0';
    t->json_bytes = bytes;
    root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL && json_error_code(&error) == json_error_out_of_memory)
        MST_CHECK(false, MST_ENOMEM, "no memory for %zu bytes of JSON", bytes);
    MST_CHECK(root != NULL, MST_EFORMAT, "not JSON: line %d, column %d: %s", error.line, error.column,
              error.text);
    MST_TRY(parse_root(t, root));
done:
    json_decref(root);
    if (status == MST_OK)
        *tokenizer_out = t;
    else
        mst_tokenizer_destroy(&t);
    return status == MST_OK ? MST_OK : mst_error_context(status, "%s", name);
}
