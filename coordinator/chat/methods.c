/* Methods of texts and of mappings. A text's method of anything else is an error, as it is in Python. */
#include <string.h>

#include "callable.h"

/* What a method of texts is given. */
static mst_status text_of(const char *method, const chat_value *value, chat_text *text_out) {
    if (value->kind != KIND_STRING)
        return mst_error(MST_EFORMAT, "'%s' wants a text and has %s", method, chat_kind_name(value->kind));
    *text_out = value->text;
    return MST_OK;
}

/* ---- white space, cases ---- */

static mst_status strip_with(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                             bool left, bool right, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_text text = {0}, set = {0};
    const bool given = arguments->given[0] && arguments->at[0].kind != KIND_NONE;
    MST_TRY(text_of("strip", self, &text));
    if (given) MST_TRY(text_of("strip", &arguments->at[0], &set));
    MST_TRY(chat_strip_work(r, text, set));
    *value_out = chat_string(chat_text_strip(text, given ? &set : NULL, left, right));
done:
    return status;
}

#define METHOD(name)                                                                                         \
    static mst_status name(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,        \
                           chat_value *value_out)

METHOD(strip) {
    return strip_with(r, self, arguments, true, true, value_out);
}
METHOD(lstrip) {
    return strip_with(r, self, arguments, true, false, value_out);
}
METHOD(rstrip) {
    return strip_with(r, self, arguments, false, true, value_out);
}

/* ---- beginnings and ends ---- */

/* The argument is a text or several of them. */
static mst_status matches(chat_renderer *r, const char *method, const chat_value *self,
                          const chat_value *wanted, bool (*holds)(chat_text text, chat_text part),
                          chat_value *value_out) {
    mst_status status = MST_OK;
    chat_text text = {0}, part = {0};
    const chat_value *items = wanted;
    size_t count = 1;
    bool any = false;
    MST_TRY(text_of(method, self, &text));
    if (wanted->kind == KIND_LIST) MST_TRY(chat_elements(r, wanted, &items, &count));
    for (size_t i = 0; i < count && !any; i++) {
        MST_TRY(text_of(method, &items[i], &part));
        MST_TRY(chat_work(r, part.count));
        any = holds(text, part);
    }
    *value_out = chat_bool(any);
done:
    return status;
}

METHOD(startswith) {
    return matches(r, "startswith", self, &arguments->at[0], chat_text_begins, value_out);
}
METHOD(endswith) {
    return matches(r, "endswith", self, &arguments->at[0], chat_text_ends, value_out);
}

/* ---- parts ---- */

/* The parts of a text between separators, at most `most` cuts (negative: all), from the left. */
static mst_status cut(chat_renderer *r, chat_text text, const chat_text *separator, int64_t most,
                      chat_value *value_out) {
    mst_status status = MST_OK;
    void *memory = NULL;
    MST_TRY(chat_take(r, 0, &memory));
    size_t count = 0, from = 0, room = 2;
    const size_t width = separator->count;
    for (size_t at = 0; (at = chat_text_find(text, *separator, at)) != SIZE_MAX; at += width) room++;
    MST_TRY(chat_take(r, room * sizeof(chat_value) + text.count, &memory));
    chat_value *parts = memory;
    for (size_t at; most != 0 && (at = chat_text_find(text, *separator, from)) != SIZE_MAX; most--) {
        parts[count++] = chat_string((chat_text){text.at + from, at - from});
        from = at + width;
    }
    parts[count++] = chat_string((chat_text){text.at + from, text.count - from});
    *value_out = (chat_value){.kind = KIND_LIST, .list = {parts, count}};
done:
    return status;
}

/* The words between white space. */
static mst_status cut_words(chat_renderer *r, chat_text text, chat_value *value_out) {
    void *memory = NULL;
    size_t count = 0, at = 0, bytes;
    mst_status status = chat_take(r, (text.count / 2 + 2) * sizeof(chat_value), &memory);
    if (status != MST_OK) return status;
    chat_value *words = memory;
    while (at < text.count) {
        while ((bytes = chat_text_space(text, at)) > 0) at += bytes;
        const size_t start = at;
        while (at < text.count && chat_text_space(text, at) == 0) at += chat_text_step(text, at);
        if (at > start) words[count++] = chat_string((chat_text){text.at + start, at - start});
    }
    *value_out = (chat_value){.kind = KIND_LIST, .list = {words, count}};
    return MST_OK;
}

METHOD(split) {
    mst_status status = MST_OK;
    chat_text text = {0}, separator = {0};
    int64_t most = -1;
    MST_TRY(text_of("split", self, &text));
    if (arguments->given[1]) {
        MST_CHECK(arguments->at[1].kind == KIND_INT, MST_EFORMAT, "split with %s as the number of cuts",
                  chat_kind_name(arguments->at[1].kind));
        most = arguments->at[1].integer;
    }
    if (!arguments->given[0] || arguments->at[0].kind == KIND_NONE) {
        MST_CHECK(most < 0, MST_EUNSUPPORTED, "split at white space with a number of cuts is not supported");
        return cut_words(r, text, value_out);
    }
    MST_TRY(text_of("split", &arguments->at[0], &separator));
    MST_CHECK(separator.count > 0, MST_EFORMAT, "split at an empty text");
    MST_TRY(cut(r, text, &separator, most, value_out));
done:
    return status;
}

METHOD(replace) {
    mst_status status = MST_OK;
    chat_text text = {0}, old = {0}, by = {0};
    chat_value parts;
    void *memory = NULL;
    MST_TRY(text_of("replace", self, &text));
    MST_TRY(text_of("replace", &arguments->at[0], &old));
    MST_TRY(text_of("replace", &arguments->at[1], &by));
    MST_CHECK(old.count > 0, MST_EUNSUPPORTED, "replace of an empty text is not supported");
    MST_TRY(cut(r, text, &old, -1, &parts));
    MST_TRY(chat_take(r, 2 * parts.list.count * sizeof(chat_text), &memory));
    chat_text *pieces = memory;
    for (size_t i = 0; i < parts.list.count; i++) {
        pieces[2 * i] = parts.list.at[i].text;
        pieces[2 * i + 1] = by;
    }
    MST_TRY(chat_join(r, pieces, 2 * parts.list.count - 1, value_out));
done:
    return status;
}

METHOD(find) {
    mst_status status = MST_OK;
    chat_text text = {0}, part = {0};
    MST_TRY(text_of("find", self, &text));
    MST_TRY(text_of("find", &arguments->at[0], &part));
    MST_TRY(chat_work(r, text.count));
    const size_t at = chat_text_find(text, part, 0);
    *value_out = chat_int(at == SIZE_MAX ? -1 : (int64_t)chat_text_characters((chat_text){text.at, at}));
done:
    return status;
}

/* ---- mappings ---- */

static mst_status dict_of(const char *method, const chat_value *value, const chat_dict **dict_out) {
    if (value->kind != KIND_DICT)
        return mst_error(MST_EFORMAT, "'%s' wants a mapping and has %s", method, chat_kind_name(value->kind));
    *dict_out = value->dict;
    return MST_OK;
}

METHOD(get) {
    mst_status status = MST_OK;
    const chat_dict *dict = NULL;
    MST_TRY(dict_of("get", self, &dict));
    MST_TRY(chat_work(r, dict->count * CHAT_LOOK_BYTES));
    const chat_value *key = &arguments->at[0];
    const chat_value *found = key->kind == KIND_STRING ? chat_dict_get(dict, key->text) : NULL;
    *value_out = found != NULL ? *found : arguments->given[1] ? arguments->at[1] : chat_none();
done:
    return status;
}

/* Keys, values, or pairs of both. */
static mst_status list_dict(chat_renderer *r, const char *method, const chat_value *self,
                            chat_value *value_out) {
    mst_status status = MST_OK;
    const chat_dict *dict = NULL;
    void *memory = NULL;
    const bool keys = strcmp(method, "values") != 0, values = strcmp(method, "keys") != 0;
    MST_TRY(dict_of(method, self, &dict));
    MST_TRY(chat_take(r, (3 * dict->count + 1) * sizeof(chat_value), &memory));
    chat_value *list = memory, *pairs = list + dict->count;
    for (size_t i = 0; i < dict->count; i++) {
        const chat_value key = chat_string(dict->at[i].key);
        pairs[2 * i] = key;
        pairs[2 * i + 1] = dict->at[i].value;
        list[i] = keys && values ? (chat_value){.kind = KIND_LIST, .list = {&pairs[2 * i], 2}}
                  : keys         ? key
                                 : dict->at[i].value;
    }
    *value_out = (chat_value){.kind = KIND_LIST, .list = {list, dict->count}};
done:
    return status;
}

METHOD(items) {
    (void)arguments;
    return list_dict(r, "items", self, value_out);
}
METHOD(keys) {
    (void)arguments;
    return list_dict(r, "keys", self, value_out);
}
METHOD(values) {
    (void)arguments;
    return list_dict(r, "values", self, value_out);
}

/* The filter of the same name does the work. */
static mst_status by_filter(const char *name, chat_renderer *r, const chat_value *self,
                            const chat_arguments *arguments, chat_value *value_out) {
    chat_text text = {0};
    mst_status status = text_of(name, self, &text);
    if (status != MST_OK) return status;
    return chat_find_filter(chat_text_of(name))->call(r, self, arguments, value_out);
}

METHOD(upper) {
    return by_filter("upper", r, self, arguments, value_out);
}
METHOD(lower) {
    return by_filter("lower", r, self, arguments, value_out);
}
METHOD(capitalize) {
    return by_filter("capitalize", r, self, arguments, value_out);
}

static const chat_callable methods[] = {{"strip", "chars", 0, strip},
                                        {"lstrip", "chars", 0, lstrip},
                                        {"rstrip", "chars", 0, rstrip},
                                        {"startswith", "prefix", 1, startswith},
                                        {"endswith", "suffix", 1, endswith},
                                        {"split", "sep maxsplit", 0, split},
                                        {"replace", "old new", 2, replace},
                                        {"find", "sub", 1, find},
                                        {"upper", "", 0, upper},
                                        {"lower", "", 0, lower},
                                        {"capitalize", "", 0, capitalize},
                                        {"get", "key default", 1, get},
                                        {"items", "", 0, items},
                                        {"keys", "", 0, keys},
                                        {"values", "", 0, values}};

const chat_callable *chat_find_method(chat_text name) {
    return chat_find_in(methods, sizeof methods / sizeof *methods, name);
}
