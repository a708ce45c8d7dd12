/* Filters: what may stand behind |. */
#include <stdlib.h>
#include <string.h>

#include "callable.h"
#include "control.h"

#define FILTER(name)                                                                                         \
    static mst_status name(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,        \
                           chat_value *value_out)

/* ---- texts ---- */

/* A value as a text that lives on. */
static mst_status text_of(chat_renderer *r, const chat_value *value, chat_text *text_out) {
    mst_status status = MST_OK;
    char buffer[32];
    chat_value copy;
    MST_TRY(chat_value_text(value, buffer, text_out));
    if (text_out->at == buffer) {
        MST_TRY(chat_join(r, text_out, 1, &copy));
        *text_out = copy.text;
    }
done:
    return status;
}

FILTER(trim) {
    mst_status status = MST_OK;
    chat_text text, set = {0};
    const bool given = arguments->given[0] && arguments->at[0].kind != KIND_NONE;
    MST_TRY(text_of(r, self, &text));
    if (given) MST_TRY(text_of(r, &arguments->at[0], &set));
    MST_TRY(chat_strip_work(r, text, set));
    *value_out = chat_string(chat_text_strip(text, given ? &set : NULL, true, true));
done:
    return status;
}

FILTER(string) {
    chat_text text = {0};
    mst_status status = text_of(r, self, &text);
    (void)arguments;
    *value_out = chat_string(text);
    return status;
}

FILTER(safe) {
    mst_status status = string(r, self, arguments, value_out);
    value_out->kind = KIND_SAFE;
    return status;
}

static char upper_of(char c) {
    return c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
}
static char lower_of(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* Texts in ASCII only, marks of control tokens aside: what becomes of other letters is Python's own large table. */
static mst_status change_case(chat_renderer *r, const chat_value *self, char (*first)(char),
                              char (*rest)(char), bool each_word, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_text text;
    void *memory = NULL;
    bool begins = true;
    MST_TRY(text_of(r, self, &text));
    MST_CHECK(chat_is_ascii_or_marks(text), MST_EUNSUPPORTED,
              "the case of letters outside of ASCII is not supported");
    MST_TRY(chat_take(r, text.count + 1, &memory));
    char *changed = memory;
    for (size_t i = 0; i < text.count; i++) {
        const char c = text.at[i];
        changed[i] = begins ? first(c) : rest(c);
        begins = each_word && c != '\0' && strchr(" \t\n\r\f\v-([{<", c) != NULL;
    }
    *value_out = chat_string((chat_text){changed, text.count});
done:
    return status;
}

FILTER(upper) {
    (void)arguments;
    return change_case(r, self, upper_of, upper_of, false, value_out);
}
FILTER(lower) {
    (void)arguments;
    return change_case(r, self, lower_of, lower_of, false, value_out);
}
FILTER(capitalize) {
    (void)arguments;
    return change_case(r, self, upper_of, lower_of, false, value_out);
}
FILTER(title) {
    (void)arguments;
    return change_case(r, self, upper_of, lower_of, true, value_out);
}

FILTER(replace) {
    chat_text text = {0};
    mst_status status = text_of(r, self, &text);
    const chat_value whole = chat_string(text);
    if (status != MST_OK) return status;
    return chat_find_method(chat_text_of("replace"))->call(r, &whole, arguments, value_out);
}

/* ---- JSON ---- */

static mst_status style_of(const chat_arguments *arguments, chat_json_style *style) {
    mst_status status = MST_OK;
    const chat_value *indent = &arguments->at[0], *separators = &arguments->at[3];
    *style = (chat_json_style){.indent = -1, .colon = chat_text_of(": ")};
    if (arguments->given[0] && indent->kind != KIND_NONE) {
        MST_CHECK(indent->kind == KIND_INT && indent->integer >= 0 && indent->integer <= 16, MST_EUNSUPPORTED,
                  "tojson with an indent that is no number from 0 to 16");
        style->indent = (int)indent->integer;
    }
    style->ascii = arguments->given[1] && chat_is_true(&arguments->at[1]);
    style->sorted = arguments->given[2] && chat_is_true(&arguments->at[2]);
    style->comma = chat_text_of(style->indent < 0 ? ", " : ",");
    if (arguments->given[3] && separators->kind != KIND_NONE) {
        MST_CHECK(separators->kind == KIND_LIST && separators->list.count == 2 &&
                      separators->list.at[0].kind == KIND_STRING &&
                      separators->list.at[1].kind == KIND_STRING,
                  MST_EFORMAT, "tojson with separators that are not two texts");
        style->comma = separators->list.at[0].text;
        style->colon = separators->list.at[1].text;
    }
done:
    return status;
}

FILTER(tojson) {
    mst_status status = MST_OK;
    chat_json_style style;
    chat_buffer buffer = {0};
    MST_TRY(style_of(arguments, &style));
    MST_TRY(chat_write_json(r, self, &style, 0, &buffer));
    const chat_text text = {buffer.at, buffer.count};
    MST_TRY(chat_join(r, &text, 1, value_out));
done:
    free(buffer.at);
    return status;
}

/* ---- lists ---- */

FILTER(length) {
    mst_status status = MST_OK;
    (void)r;
    (void)arguments;
    size_t count = 0;
    if (self->kind == KIND_STRING)
        count = chat_text_characters(self->text);
    else if (self->kind == KIND_LIST)
        count = self->list.count;
    else if (self->kind == KIND_DICT)
        count = self->dict->count;
    else
        MST_CHECK(self->kind == KIND_UNDEFINED, MST_EFORMAT, "%s has no length", chat_kind_name(self->kind));
    MST_TRY(chat_work(r, self->kind == KIND_STRING ? self->text.count : 0));
    *value_out = chat_int((int64_t)count);
done:
    return status;
}

static mst_status end_of(chat_renderer *r, const chat_value *self, bool last, chat_value *value_out) {
    const chat_value *items = NULL;
    size_t count = 0;
    mst_status status = chat_elements(r, self, &items, &count);
    *value_out =
        count == 0 ? chat_undefined(chat_text_of("an element of nothing")) : items[last ? count - 1 : 0];
    return status;
}

FILTER(first) {
    (void)arguments;
    return end_of(r, self, false, value_out);
}
FILTER(last) {
    (void)arguments;
    return end_of(r, self, true, value_out);
}

FILTER(list) {
    const chat_value *items = NULL;
    size_t count = 0;
    mst_status status = chat_elements(r, self, &items, &count);
    (void)arguments;
    *value_out = (chat_value){.kind = KIND_LIST};
    value_out->list.at = (chat_value *)(uintptr_t)items; /* lists never change */
    value_out->list.count = count;
    return status;
}

FILTER(reverse) {
    mst_status status = MST_OK;
    const chat_value *items = NULL;
    size_t count = 0;
    void *memory = NULL;
    (void)arguments;
    MST_CHECK(self->kind == KIND_LIST, MST_EUNSUPPORTED, "reverse of %s is not supported",
              chat_kind_name(self->kind));
    MST_TRY(chat_elements(r, self, &items, &count));
    MST_TRY(chat_take(r, (count + 1) * sizeof(chat_value), &memory));
    chat_value *reversed = memory;
    for (size_t i = 0; i < count; i++) reversed[i] = items[count - 1 - i];
    *value_out = (chat_value){.kind = KIND_LIST, .list = {reversed, count}};
done:
    return status;
}

FILTER(join) {
    mst_status status = MST_OK;
    const chat_value *items = NULL;
    size_t count = 0;
    void *memory = NULL;
    chat_text between = {"", 0};
    chat_value item;
    MST_TRY(chat_elements(r, self, &items, &count));
    if (arguments->given[0]) MST_TRY(text_of(r, &arguments->at[0], &between));
    MST_TRY(chat_take(r, 2 * (count + 1) * sizeof(chat_text), &memory));
    chat_text *parts = memory;
    for (size_t i = 0; i < count; i++) {
        item = items[i];
        if (arguments->given[1]) {
            chat_text name;
            MST_TRY(text_of(r, &arguments->at[1], &name));
            MST_TRY(chat_field(r, &items[i], name, false, &item));
        }
        MST_TRY(text_of(r, &item, &parts[2 * i]));
        parts[2 * i + 1] = between;
    }
    MST_TRY(chat_join(r, parts, count > 0 ? 2 * count - 1 : 0, value_out));
done:
    return status;
}

FILTER(items) {
    if (self->kind == KIND_UNDEFINED) {
        *value_out = (chat_value){.kind = KIND_LIST};
        return MST_OK;
    }
    return chat_find_method(chat_text_of("items"))->call(r, self, arguments, value_out);
}

/* map(attribute='name'): that field of every element. */
FILTER(map) {
    mst_status status = MST_OK;
    const chat_value *items = NULL, *name = &arguments->at[1];
    size_t count = 0;
    void *memory = NULL;
    MST_CHECK(!arguments->given[0], MST_EUNSUPPORTED,
              "map with a filter is not supported, only map(attribute=...)");
    MST_CHECK(name->kind == KIND_STRING && memchr(name->text.at, '.', name->text.count) == NULL,
              MST_EUNSUPPORTED, "map with an attribute that is no plain name");
    MST_TRY(chat_elements(r, self, &items, &count));
    MST_TRY(chat_take(r, (count + 1) * sizeof(chat_value), &memory));
    chat_value *mapped = memory;
    for (size_t i = 0; i < count; i++) {
        MST_TRY(chat_field(r, &items[i], name->text, false, &mapped[i]));
        if (mapped[i].kind == KIND_UNDEFINED && arguments->given[2]) mapped[i] = arguments->at[2];
    }
    *value_out = (chat_value){.kind = KIND_LIST, .list = {mapped, count}};
done:
    return status;
}

/* The test that a filter is given by its name and the test's argument, from a place on; NULL: none was given. */
static mst_status find_test(const chat_arguments *arguments, size_t place, const chat_callable **test_out) {
    const chat_value *name = &arguments->at[place];
    *test_out = NULL;
    if (!arguments->given[place]) return MST_OK;
    if (name->kind == KIND_STRING)
        *test_out = chat_find_test(chat_text_is(name->text, "==") ? chat_text_of("eq") : name->text);
    if (*test_out == NULL || arguments->given[place + 1] != (chat_argument_count(*test_out) > 0))
        return mst_error(MST_EUNSUPPORTED,
                         "a filter by a test that is not supported, or with another number of arguments");
    return MST_OK;
}

/* The elements that pass a test, or of which a field does (`field`); without a test those that are true. */
static mst_status select_by(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                            const chat_value *field, bool wanted, chat_value *value_out) {
    mst_status status = MST_OK;
    const size_t place = field != NULL ? 1 : 0;
    const chat_arguments rest = {.at = {arguments->at[place + 1]}, .given = {arguments->given[place + 1]}};
    const chat_value *items = NULL;
    const chat_callable *test = NULL;
    size_t count = 0, kept = 0;
    void *memory = NULL;
    MST_CHECK(field == NULL ||
                  (field->kind == KIND_STRING && memchr(field->text.at, '.', field->text.count) == NULL),
              MST_EUNSUPPORTED, "selectattr with an attribute that is no plain name");
    MST_TRY(find_test(arguments, place, &test));
    MST_TRY(chat_elements(r, self, &items, &count));
    MST_TRY(chat_take(r, (count + 1) * sizeof(chat_value), &memory));
    chat_value *selected = memory, value, holds;
    for (size_t i = 0; i < count; i++) {
        value = items[i];
        if (field != NULL) MST_TRY(chat_field(r, &items[i], field->text, false, &value));
        holds = value;
        if (test != NULL) MST_TRY(test->call(r, &value, &rest, &holds));
        if (chat_is_true(&holds) == wanted) selected[kept++] = items[i];
    }
    *value_out = (chat_value){.kind = KIND_LIST, .list = {selected, kept}};
done:
    return status;
}

FILTER(selected) {
    return select_by(r, self, arguments, NULL, true, value_out);
}
FILTER(rejected) {
    return select_by(r, self, arguments, NULL, false, value_out);
}
FILTER(selectattr) {
    return select_by(r, self, arguments, &arguments->at[0], true, value_out);
}
FILTER(rejectattr) {
    return select_by(r, self, arguments, &arguments->at[0], false, value_out);
}

/* ---- others ---- */

FILTER(otherwise) {
    (void)r;
    const bool by_truth = arguments->given[1] && chat_is_true(&arguments->at[1]);
    const bool missing = self->kind == KIND_UNDEFINED || (by_truth && !chat_is_true(self));
    *value_out = !missing ? *self : arguments->given[0] ? arguments->at[0] : chat_string((chat_text){"", 0});
    return MST_OK;
}

static const chat_callable filters[] = {{"trim", "chars", 0, trim},
                                        {"tojson", "indent ensure_ascii sort_keys separators", 0, tojson},
                                        {"length", "", 0, length},
                                        {"count", "", 0, length},
                                        {"string", "", 0, string},
                                        {"safe", "", 0, safe},
                                        {"upper", "", 0, upper},
                                        {"lower", "", 0, lower},
                                        {"capitalize", "", 0, capitalize},
                                        {"title", "", 0, title},
                                        {"replace", "old new", 2, replace},
                                        {"first", "", 0, first},
                                        {"last", "", 0, last},
                                        {"list", "", 0, list},
                                        {"reverse", "", 0, reverse},
                                        {"join", "d attribute", 0, join},
                                        {"items", "", 0, items},
                                        {"map", "filter attribute default", 0, map},
                                        {"select", "test value", 0, selected},
                                        {"reject", "test value", 0, rejected},
                                        {"selectattr", "attribute test value", 1, selectattr},
                                        {"rejectattr", "attribute test value", 1, rejectattr},
                                        {"default", "default_value boolean", 0, otherwise},
                                        {"d", "default_value boolean", 0, otherwise}};

const chat_callable *chat_find_filter(chat_text name) {
    return chat_find_in(filters, sizeof filters / sizeof *filters, name);
}
