/* The parts of a tokenizer.json around the model: normalizer, pre-tokenizer, decoder, post-processor. */
#include <string.h>

#include "lists.h"
#include "parse.h"

/* A part of which there may be several inside of a Sequence. */
typedef mst_status part_fn(mst_tokenizer *t, const json_t *part, const char *type, const char *where);

/* Calls `each` for a part, or for those of a Sequence, one after the other. Sequences do not nest. */
static mst_status parse_parts(mst_tokenizer *t, const json_t *part, const char *where, const char *list_name,
                              part_fn *each) {
    const char *type;
    const json_t *list;
    char inner[PARSE_WHERE];
    mst_status status = parse_type(part, where, &type);
    if (status != MST_OK) return status;
    if (strcmp(type, "Sequence") != 0) return each(t, part, type, where);
    status = parse_known(part, where, (const char *const[]){"type", list_name, NULL});
    if (status == MST_OK) status = parse_list(part, where, list_name, &list);
    for (size_t i = 0; status == MST_OK && i < json_array_size(list); i++) {
        snprintf(inner, sizeof inner, "%s.%s[%zu]", where, list_name, i);
        status = parse_type(json_array_get(list, i), inner, &type);
        if (status == MST_OK) status = each(t, json_array_get(list, i), type, inner);
    }
    return status;
}

/* ---- normalizer ---- */

static mst_status parse_one_normalizer(mst_tokenizer *t, const json_t *part, const char *type,
                                       const char *where) {
    if (strcmp(type, "NFC") != 0)
        return mst_error(MST_EUNSUPPORTED, "normalizer '%.60s' is not supported (%s); NFC is", type, where);
    t->nfc = true;
    return parse_known(part, where, (const char *const[]){"type", NULL});
}

mst_status parse_normalizer(mst_tokenizer *t, const json_t *normalizer) {
    if (normalizer == NULL || json_is_null(normalizer)) return MST_OK;
    return parse_parts(t, normalizer, "normalizer", "normalizers", parse_one_normalizer);
}

/* ---- pre-tokenizer ---- */

static mst_status parse_byte_level(mst_tokenizer *t, const json_t *part, const char *where) {
    static const char *const known[] = {"type", "add_prefix_space", "trim_offsets", "use_regex", NULL};
    bool prefix, regex;
    mst_status status = parse_known(part, where, known);
    if (status == MST_OK) status = parse_bool(part, where, "add_prefix_space", true, &prefix);
    if (status == MST_OK) status = parse_bool(part, where, "use_regex", true, &regex);
    return status == MST_OK ? pretokenizer_add_byte_level(t->words, prefix, regex) : status;
}

static mst_status parse_digits(mst_tokenizer *t, const json_t *part, const char *where) {
    bool individual;
    mst_status status = parse_known(part, where, (const char *const[]){"type", "individual_digits", NULL});
    if (status == MST_OK) status = parse_bool(part, where, "individual_digits", false, &individual);
    return status == MST_OK ? pretokenizer_add_digits(t->words, individual) : status;
}

static mst_status parse_behavior(const json_t *part, const char *where, split_behavior *behavior_out) {
    static const struct {
        split_behavior behavior;
        const char *name;
    } known[] = {
#define BEHAVIOR(code, name) {code, name},
        SPLIT_BEHAVIORS(BEHAVIOR)
#undef BEHAVIOR
    };
    const char *name;
    size_t bytes;
    mst_status status = parse_string(part, where, "behavior", &name, &bytes);
    if (status != MST_OK) return status;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            *behavior_out = known[i].behavior;
            return MST_OK;
        }
    return mst_error(MST_EUNSUPPORTED, "%s.behavior is '%.60s', which is not known", where, name);
}

static mst_status parse_split(mst_tokenizer *t, const json_t *part, const char *where) {
    static const char *const known[] = {"type", "pattern", "behavior", "invert", NULL};
    const json_t *pattern = json_object_get(part, "pattern");
    const char *kind = json_object_get(pattern, "Regex") != NULL ? "Regex" : "String", *text;
    size_t bytes;
    bool invert;
    split_behavior behavior = SPLIT_ISOLATED;
    char inner[PARSE_WHERE + 16];
    mst_status status = MST_OK;
    MST_TRY(parse_known(part, where, known));
    snprintf(inner, sizeof inner, "%s.pattern", where);
    MST_CHECK(json_is_object(pattern), MST_EFORMAT, "%s is not an object", inner);
    MST_TRY(parse_known(pattern, inner, (const char *const[]){kind, NULL}));
    MST_TRY(parse_string(pattern, inner, kind, &text, &bytes));
    MST_TRY(parse_behavior(part, where, &behavior));
    MST_TRY(parse_bool(part, where, "invert", false, &invert));
    status = pretokenizer_add_split(t->words, text, bytes, strcmp(kind, "String") == 0, behavior, invert);
    if (status != MST_OK) mst_error_context(status, "%s", where);
done:
    return status;
}

static mst_status parse_step(mst_tokenizer *t, const json_t *part, const char *type, const char *where) {
    if (strcmp(type, "ByteLevel") == 0) return parse_byte_level(t, part, where);
    if (strcmp(type, "Digits") == 0) return parse_digits(t, part, where);
    if (strcmp(type, "Split") == 0) return parse_split(t, part, where);
    return mst_error(MST_EUNSUPPORTED,
                     "pre-tokenizer '%.60s' is not supported (%s); ByteLevel, Digits and Split are", type,
                     where);
}

/* ByteLevel spells the text anew, so that nothing may come behind it; without it, the model were not one of bytes. */
static mst_status check_byte_level(const json_t *pre_tokenizer) {
    const json_t *list = json_object_get(pre_tokenizer, "pretokenizers");
    size_t count = list == NULL ? 1 : json_array_size(list), found = 0, at = 0;
    for (size_t i = 0; i < count; i++) {
        const json_t *part = list == NULL ? pre_tokenizer : json_array_get(list, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        if (type == NULL || strcmp(type, "ByteLevel") != 0) continue;
        at = i;
        found++;
    }
    if (found == 1 && at + 1 == count) return MST_OK;
    return mst_error(MST_EUNSUPPORTED,
                     found == 0 ? "a pre_tokenizer without ByteLevel is not supported"
                                : "a pre_tokenizer in which ByteLevel is not the last is not supported");
}

mst_status parse_pre_tokenizer(mst_tokenizer *t, const json_t *pre_tokenizer) {
    mst_status status = pretokenizer_create(&t->words);
    if (status != MST_OK) return status;
    if (pre_tokenizer == NULL || json_is_null(pre_tokenizer))
        return mst_error(MST_EUNSUPPORTED, "a pre_tokenizer without ByteLevel is not supported");
    status = parse_parts(t, pre_tokenizer, "pre_tokenizer", "pretokenizers", parse_step);
    return status == MST_OK ? check_byte_level(pre_tokenizer) : status;
}

/* ---- decoder ---- */

static mst_status parse_one_decoder(mst_tokenizer *t, const json_t *part, const char *type,
                                    const char *where) {
    (void)t;
    if (strcmp(type, "ByteLevel") != 0)
        return mst_error(MST_EUNSUPPORTED, "decoder '%.60s' is not supported (%s); ByteLevel is", type,
                         where);
    return parse_known(part, where,
                       (const char *const[]){"type", "add_prefix_space", "trim_offsets", "use_regex", NULL});
}

mst_status parse_decoder(const json_t *decoder) {
    if (decoder == NULL || json_is_null(decoder))
        return mst_error(MST_EUNSUPPORTED, "decoder null is not supported; ByteLevel is");
    return parse_parts(NULL, decoder, "decoder", "decoders", parse_one_decoder);
}

/* ---- post-processor ---- */

/* Appends the ids of a special token of a template. */
static mst_status append_special(mst_tokenizer *t, const json_t *template, const char *where,
                                 const json_t *piece, mst_token_list *list) {
    const char *name;
    const json_t *ids = NULL;
    size_t bytes;
    mst_status status = parse_string(piece, where, "id", &name, &bytes);
    const json_t *token =
        status == MST_OK ? json_object_get(json_object_get(template, "special_tokens"), name) : NULL;
    if (status == MST_OK && token == NULL)
        status = mst_error(MST_EFORMAT, "%s: '%.60s' is not among the special_tokens", where, name);
    if (status == MST_OK) status = parse_list(token, where, "ids", &ids);
    for (size_t i = 0; status == MST_OK && i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || (size_t)value >= t->tokens.size || !t->tokens.entries[value].there)
            return mst_error(MST_EFORMAT, "%s: the id of '%.60s' is none of a token", where, name);
        status = token_list_reserve(list, 1);
        if (status == MST_OK) list->at[list->count++] = (int32_t)value;
    }
    return status;
}

/* Puts `front` before what is there. */
static mst_status prepend(mst_token_list *list, const mst_token_list *front) {
    mst_status status = token_list_reserve(list, front->count);
    if (status != MST_OK || front->count == 0) return status;
    memmove(list->at + front->count, list->at, list->count * sizeof *list->at);
    memcpy(list->at, front->at, front->count * sizeof *list->at);
    list->count += front->count;
    return MST_OK;
}

static mst_status parse_template(mst_tokenizer *t, const json_t *part, const char *where) {
    static const char *const known[] = {"type", "single", "pair", "special_tokens", NULL};
    const json_t *single;
    mst_token_list before = {0};
    bool behind = false;
    mst_status status = MST_OK;
    MST_TRY(parse_known(part, where, known));
    MST_TRY(parse_list(part, where, "single", &single));
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i), *special = json_object_get(piece, "SpecialToken");
        const json_t *sequence = json_object_get(piece, "Sequence");
        const char *id = json_string_value(json_object_get(sequence, "id"));
        if (special != NULL) {
            MST_TRY(append_special(t, part, where, special, behind ? &t->suffix : &before));
            continue;
        }
        MST_CHECK(id != NULL && strcmp(id, "A") == 0 && !behind, MST_EUNSUPPORTED,
                  "%s.single is not special tokens around one Sequence A", where);
        behind = true;
    }
    MST_CHECK(behind, MST_EUNSUPPORTED, "%s.single is not special tokens around one Sequence A", where);
    MST_TRY(prepend(&t->prefix, &before));
done:
    free(before.at);
    return status;
}

static mst_status parse_one_post_processor(mst_tokenizer *t, const json_t *part, const char *type,
                                           const char *where) {
    if (strcmp(type, "TemplateProcessing") == 0) return parse_template(t, part, where);
    if (strcmp(type, "ByteLevel") == 0) /* it moves offsets only, which are not asked for */
        return parse_known(
            part, where,
            (const char *const[]){"type", "add_prefix_space", "trim_offsets", "use_regex", NULL});
    return mst_error(MST_EUNSUPPORTED,
                     "post-processor '%.60s' is not supported (%s); TemplateProcessing and ByteLevel are",
                     type, where);
}

mst_status parse_post_processor(mst_tokenizer *t, const json_t *post_processor) {
    if (post_processor == NULL || json_is_null(post_processor)) return MST_OK;
    return parse_parts(t, post_processor, "post_processor", "processors", parse_one_post_processor);
}
