/* The model of a tokenizer.json: vocabulary, merges, added tokens. */
#include <inttypes.h>
#include <string.h>

#include "lists.h"
#include "normalize.h"
#include "parse.h"

/* Null, false and empty texts are as if the field were not there. */
static bool is_nothing(const json_t *value) {
    return value == NULL || json_is_null(value) || json_is_false(value) ||
           (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_real(value) && json_real_value(value) == 0.0) ||
           (json_is_integer(value) && json_integer_value(value) == 0);
}

static mst_status check_kind(const json_t *model) {
    static const char *const known[] = {"type",
                                        "dropout",
                                        "unk_token",
                                        "continuing_subword_prefix",
                                        "end_of_word_suffix",
                                        "fuse_unk",
                                        "byte_fallback",
                                        "ignore_merges",
                                        "vocab",
                                        "merges",
                                        NULL};
    static const char *const refused[] = {
        "dropout",  "unk_token",    "continuing_subword_prefix", "end_of_word_suffix",
        "fuse_unk", "byte_fallback"};
    const char *type;
    mst_status status = parse_type(model, "model", &type);
    if (status != MST_OK) return status;
    if (strcmp(type, "BPE") != 0)
        return mst_error(MST_EUNSUPPORTED, "model '%.60s' is not supported; BPE is", type);
    status = parse_known(model, "model", known);
    for (size_t i = 0; i < sizeof refused / sizeof *refused && status == MST_OK; i++)
        if (!is_nothing(json_object_get(model, refused[i])))
            status = mst_error(MST_EUNSUPPORTED, "model.%s is not supported", refused[i]);
    return status;
}

static mst_status parse_vocab(vocab *v, const json_t *object) {
    if (!json_is_object(object)) return mst_error(MST_EFORMAT, "model.vocab is not an object");
    void *at = json_object_iter((json_t *)(uintptr_t)object);
    for (; at != NULL; at = json_object_iter_next((json_t *)(uintptr_t)object, at)) {
        const char *content = json_object_iter_key(at);
        const json_t *id = json_object_iter_value(at);
        mst_status status = json_is_integer(id)
                                ? vocab_add(v, content, strlen(content), json_integer_value(id), false)
                                : mst_error(MST_EFORMAT, "not a whole number");
        if (status != MST_OK) return mst_error_context(status, "model.vocab: '%.60s'", content);
    }
    return v->count > 0 ? MST_OK : mst_error(MST_EFORMAT, "model.vocab is empty");
}

/* "a b", or ["a", "b"]. */
static bool split_merge(const json_t *value, const char *sides[2], size_t counts[2]) {
    if (json_is_array(value) && json_array_size(value) == 2) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *side = json_array_get(value, i);
            sides[i] = json_string_value(side);
            counts[i] = json_string_length(side);
        }
        return sides[0] != NULL && sides[1] != NULL;
    }
    const char *text = json_string_value(value), *space = text == NULL ? NULL : strchr(text, ' ');
    if (space == NULL || strchr(space + 1, ' ') != NULL) return false;
    sides[0] = text;
    counts[0] = (size_t)(space - text);
    sides[1] = space + 1;
    counts[1] = strlen(space + 1);
    return true;
}

static mst_status find_token(const vocab *v, const char *content, size_t count, int32_t *id_out) {
    *id_out = vocab_find(v, content, count);
    if (*id_out >= 0) return MST_OK;
    return mst_error(MST_EFORMAT, "'%.*s' is not in the vocabulary", (int)(count < 60 ? count : 60), content);
}

static mst_status parse_merge(mst_tokenizer *t, const json_t *value, mst_byte_list *whole) {
    const char *sides[2];
    size_t counts[2];
    int32_t ids[3];
    mst_status status = MST_OK;
    MST_CHECK(split_merge(value, sides, counts), MST_EFORMAT, "neither \"a b\" nor [\"a\", \"b\"]");
    for (size_t i = 0; i < 2; i++) MST_TRY(find_token(&t->tokens, sides[i], counts[i], &ids[i]));
    whole->count = 0;
    MST_TRY(byte_list_reserve(whole, counts[0] + counts[1]));
    memcpy(whole->at, sides[0], counts[0]);
    memcpy(whole->at + counts[0], sides[1], counts[1]);
    MST_TRY(find_token(&t->tokens, (const char *)whole->at, counts[0] + counts[1], &ids[2]));
    bpe_add_merge(t->model, ids[0], ids[1], ids[2]);
done:
    return status;
}

mst_status parse_model(mst_tokenizer *t, const json_t *model) {
    const json_t *merges;
    mst_byte_list whole = {0};
    bool whole_words;
    mst_status status = MST_OK;
    MST_TRY(check_kind(model));
    MST_TRY(parse_bool(model, "model", "ignore_merges", false, &whole_words));
    MST_TRY(parse_vocab(&t->tokens, json_object_get(model, "vocab")));
    MST_TRY(parse_list(model, "model", "merges", &merges));
    MST_TRY(bpe_create(&t->tokens, whole_words, json_array_size(merges), &t->model));
    for (size_t i = 0; i < json_array_size(merges) && status == MST_OK; i++) {
        status = parse_merge(t, json_array_get(merges, i), &whole);
        if (status != MST_OK) mst_error_context(status, "model.merges[%zu]", i);
    }
done:
    free(whole.at);
    return status;
}

/* ---- added tokens ---- */

/* A token of the model keeps its id, and stands for one text: as a token of the model, and as an added one. A new token's id must be
 * `next`: Hugging Face's tokenizers takes that, whatever the file says. */
static mst_status add_to_vocab(vocab *v, const char *content, size_t count, int64_t id, int64_t next) {
    int32_t known = vocab_find(v, content, count);
    if (known < 0 && id != next)
        return mst_error(MST_EFORMAT, "id %" PRId64 ", but the next one is %" PRId64, id, next);
    if (known < 0) return vocab_add(v, content, count, id, true);
    if (known != id)
        return mst_error(MST_EFORMAT, "id %" PRId64 ", but the vocabulary has %" PRId32, id, known);
    const vocab_entry *entry = &v->entries[known];
    if (entry->bytes == entry->content) return MST_OK;
    return mst_error(MST_EUNSUPPORTED, "an added token that also spells other bytes is not supported");
}

/* Puts a token among those that are looked for before or after normalization. */
static mst_status look_for(mst_tokenizer *t, const char *content, size_t count, bool normalized,
                           added_token token) {
    mst_byte_list form = {0};
    mst_status status = MST_OK;
    if (!normalized || !t->nfc)
        return added_add(normalized ? &t->normalized_added : &t->added, (const uint8_t *)content, count,
                         token);
    status = normalize_nfc((const uint8_t *)content, count, &form);
    if (status == MST_OK) status = added_add(&t->normalized_added, form.at, form.count, token);
    free(form.at);
    return status;
}

/* `next` is the id that a new token gets, and then that of the one behind it. */
static mst_status parse_added_token(mst_tokenizer *t, const json_t *value, const char *where, int64_t *next) {
    static const char *const known[] = {"id",     "content",    "single_word", "lstrip",
                                        "rstrip", "normalized", "special",     NULL};
    added_token token = {0};
    const json_t *id = json_object_get(value, "id");
    const char *content;
    size_t count;
    bool normalized, special;
    mst_status status = MST_OK;
    MST_CHECK(json_is_object(value), MST_EFORMAT, "%s is not an object", where);
    MST_TRY(parse_known(value, where, known));
    MST_TRY(parse_string(value, where, "content", &content, &count));
    MST_CHECK(json_is_integer(id), MST_EFORMAT, "%s.id is not a whole number", where);
    MST_TRY(parse_bool(value, where, "single_word", false, &token.single_word));
    MST_TRY(parse_bool(value, where, "lstrip", false, &token.lstrip));
    MST_TRY(parse_bool(value, where, "rstrip", false, &token.rstrip));
    MST_TRY(parse_bool(value, where, "special", false, &special));
    MST_TRY(parse_bool(value, where, "normalized", !special, &normalized));
    status = add_to_vocab(&t->tokens, content, count, json_integer_value(id), *next);
    if (status == MST_OK) {
        token.id = (int32_t)json_integer_value(id);
        if (token.id >= *next) *next = (int64_t)token.id + 1;
        t->tokens.entries[token.id].special = special;
        status = look_for(t, content, count, normalized, token);
    }
    if (status != MST_OK) mst_error_context(status, "%s ('%.60s')", where, content);
done:
    return status;
}

mst_status parse_added(mst_tokenizer *t, const json_t *added) {
    mst_status status = MST_OK;
    int64_t next = (int64_t)t->tokens.count;
    if (added == NULL || json_is_null(added)) return MST_OK;
    if (!json_is_array(added)) return mst_error(MST_EFORMAT, "added_tokens is not a list");
    for (size_t i = 0; i < json_array_size(added) && status == MST_OK; i++) {
        char where[PARSE_WHERE];
        snprintf(where, sizeof where, "added_tokens[%zu]", i);
        status = parse_added_token(t, json_array_get(added, i), where, &next);
    }
    return status;
}
