#include "value.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *chat_kind_name(chat_kind kind) {
    static const char *const names[] = {"an undefined value", "none",   "a truth value", "a whole number",
                                        "a real number",      "a text", "a list",        "a mapping",
                                        "a namespace",        "loop",   "a macro",       "a text made safe"};
    return names[kind];
}

chat_value chat_none(void) {
    return (chat_value){.kind = KIND_NONE};
}
chat_value chat_bool(bool truth) {
    return (chat_value){.kind = KIND_BOOL, .truth = truth};
}
chat_value chat_int(int64_t integer) {
    return (chat_value){.kind = KIND_INT, .integer = integer};
}
chat_value chat_string(chat_text text) {
    return (chat_value){.kind = KIND_STRING, .text = text};
}
chat_value chat_undefined(chat_text name) {
    return (chat_value){.kind = KIND_UNDEFINED, .text = name};
}

bool chat_is_true(const chat_value *v) {
    switch (v->kind) {
    case KIND_UNDEFINED:
    case KIND_NONE:
        return false;
    case KIND_BOOL:
        return v->truth;
    case KIND_INT:
        return v->integer != 0;
    case KIND_REAL:
        return v->real != 0;
    case KIND_STRING:
    case KIND_SAFE:
        return v->text.count > 0;
    case KIND_LIST:
        return v->list.count > 0;
    case KIND_DICT:
        return v->dict->count > 0;
    default:
        return true;
    }
}

bool chat_is_number(const chat_value *v) {
    return v->kind == KIND_INT || v->kind == KIND_REAL || v->kind == KIND_BOOL;
}

double chat_real_of(const chat_value *v) {
    return v->kind == KIND_REAL ? v->real : v->kind == KIND_BOOL ? (double)v->truth : (double)v->integer;
}

/* ---- equality ---- */

/* One step, and so many more. */
static mst_status spend(uint64_t *steps, size_t more) {
    if (*steps <= more) return mst_error(MST_EUNSUPPORTED, "the template compares too much");
    *steps -= 1 + more;
    return MST_OK;
}

static mst_status dicts_equal(const chat_dict *a, const chat_dict *b, size_t depth, uint64_t *steps,
                              bool *equal_out) {
    mst_status status = MST_OK;
    *equal_out = a->count == b->count;
    for (size_t i = 0; *equal_out && i < a->count; i++) {
        MST_TRY(spend(steps, b->count / 16));
        const chat_value *other = chat_dict_get(b, a->at[i].key);
        *equal_out = other != NULL;
        if (other != NULL) MST_TRY(chat_equal(&a->at[i].value, other, depth + 1, steps, equal_out));
    }
done:
    return status;
}

static bool is_text(const chat_value *v) {
    return v->kind == KIND_STRING || v->kind == KIND_SAFE;
}

static bool numbers_equal(const chat_value *a, const chat_value *b) {
    if (a->kind == KIND_REAL || b->kind == KIND_REAL) return chat_real_of(a) == chat_real_of(b);
    return (a->kind == KIND_BOOL ? a->truth : a->integer) == (b->kind == KIND_BOOL ? b->truth : b->integer);
}

mst_status chat_equal(const chat_value *a, const chat_value *b, size_t depth, uint64_t *steps,
                      bool *equal_out) {
    mst_status status = MST_OK;
    MST_CHECK(depth < CHAT_VALUE_DEPTH, MST_EUNSUPPORTED, "values nested deeper than %d", CHAT_VALUE_DEPTH);
    MST_TRY(spend(steps, is_text(a) ? a->text.count / 512 : 0));
    if (chat_is_number(a) && chat_is_number(b)) {
        *equal_out = numbers_equal(a, b);
        return MST_OK;
    }
    if (is_text(a) && is_text(b)) {
        *equal_out = chat_text_same(a->text, b->text);
        return MST_OK;
    }
    *equal_out = a->kind == b->kind;
    if (!*equal_out) return MST_OK;
    if (a->kind == KIND_NAMESPACE) *equal_out = a->dict == b->dict;
    if (a->kind == KIND_DICT) MST_TRY(dicts_equal(a->dict, b->dict, depth, steps, equal_out));
    if (a->kind == KIND_LIST) {
        *equal_out = a->list.count == b->list.count;
        for (size_t i = 0; *equal_out && i < a->list.count; i++)
            MST_TRY(chat_equal(&a->list.at[i], &b->list.at[i], depth + 1, steps, equal_out));
    }
done:
    return status;
}

/* ---- dicts ---- */

static chat_value *find(const chat_dict *dict, chat_text key) {
    for (size_t i = 0; i < dict->count; i++)
        if (chat_text_same(dict->at[i].key, key)) return &dict->at[i].value;
    return NULL;
}

const chat_value *chat_dict_get(const chat_dict *dict, chat_text key) {
    return find(dict, key);
}

static mst_status append(chat_dict *dict, chat_text key, const chat_value *value, chat_arena *arena) {
    if (dict->count == dict->room) {
        const size_t room = dict->room > 0 ? 2 * dict->room : 8;
        chat_pair *grown = chat_arena_take(arena, room * sizeof *grown);
        if (grown == NULL) return mst_error(MST_ENOMEM, "out of memory for a mapping of %zu keys", room);
        if (dict->count > 0) memcpy(grown, dict->at, dict->count * sizeof *grown);
        dict->at = grown;
        dict->room = room;
    }
    dict->at[dict->count++] = (chat_pair){key, *value};
    return MST_OK;
}

mst_status chat_dict_set(chat_dict *dict, chat_text key, const chat_value *value, chat_arena *arena) {
    chat_value *old = find(dict, key);
    if (old == NULL) return append(dict, key, value, arena);
    *old = *value;
    return MST_OK;
}

/* ---- JSON ---- */

static mst_status copy_text(const char *at, size_t count, chat_arena *arena, chat_text *text_out) {
    char *copy = chat_arena_take(arena, count + 1);
    if (copy == NULL) return mst_error(MST_ENOMEM, "out of memory for a text of %zu bytes", count);
    memcpy(copy, at, count);
    *text_out = (chat_text){copy, count};
    return MST_OK;
}

static mst_status object_of_json(const json_t *json, size_t depth, chat_arena *arena, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_dict *dict = chat_arena_take(arena, sizeof *dict);
    MST_CHECK(dict != NULL, MST_ENOMEM, "out of memory for a mapping");
    *value_out = (chat_value){.kind = KIND_DICT, .dict = dict};
    /* jansson walks in the order of insertion, and asks for an object that is not const */
    json_t *object = json_incref((json_t *)(uintptr_t)json);
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        chat_text key;
        chat_value value;
        const char *name = json_object_iter_key(at);
        MST_TRY(copy_text(name, strlen(name), arena, &key));
        MST_TRY(chat_value_of_json(json_object_iter_value(at), depth + 1, arena, &value));
        MST_TRY(append(dict, key, &value, arena));
    }
done:
    json_decref((json_t *)(uintptr_t)json);
    return status;
}

static mst_status array_of_json(const json_t *json, size_t depth, chat_arena *arena, chat_value *value_out) {
    mst_status status = MST_OK;
    const size_t count = json_array_size(json);
    chat_value *at = chat_arena_take(arena, (count + 1) * sizeof *at);
    MST_CHECK(at != NULL, MST_ENOMEM, "out of memory for a list of %zu", count);
    for (size_t i = 0; i < count; i++)
        MST_TRY(chat_value_of_json(json_array_get(json, i), depth + 1, arena, &at[i]));
    *value_out = (chat_value){.kind = KIND_LIST, .list = {at, count}};
done:
    return status;
}

mst_status chat_value_of_json(const json_t *json, size_t depth, chat_arena *arena, chat_value *value_out) {
    mst_status status = MST_OK;
    MST_CHECK(depth < CHAT_VALUE_DEPTH, MST_EUNSUPPORTED, "values nested deeper than %d", CHAT_VALUE_DEPTH);
    *value_out = chat_none();
    if (json_is_object(json)) return object_of_json(json, depth, arena, value_out);
    if (json_is_array(json)) return array_of_json(json, depth, arena, value_out);
    if (json_is_boolean(json)) *value_out = chat_bool(json_is_true(json));
    if (json_is_integer(json)) *value_out = chat_int(json_integer_value(json));
    if (json_is_real(json)) *value_out = (chat_value){.kind = KIND_REAL, .real = json_real_value(json)};
    if (json_is_string(json)) {
        value_out->kind = KIND_STRING;
        MST_TRY(copy_text(json_string_value(json), json_string_length(json), arena, &value_out->text));
    }
done:
    return status;
}

/* ---- numbers ---- */

/* The shortest digits that stand for the number, written as Python's repr writes them. */
static void print_real(double real, char buffer[32]) {
    char digits[32], *exponent;
    int precision = 0;
    do snprintf(digits, sizeof digits, "%.*e", precision, real);
    while (precision++ < 17 && strtod(digits, NULL) != real);
    exponent = strchr(digits, 'e');
    if (exponent == NULL) { /* Python's inf and nan */
        snprintf(buffer, 32, "%s", digits);
        return;
    }
    const int power = atoi(exponent + 1);
    *exponent = '\0';
    const int places = (int)strlen(digits) - (real < 0 ? 3 : 2); /* behind the point; negative: no point */
    if (power < -4 || power >= 16)
        snprintf(buffer, 32, "%.20se%c%02d", digits, power < 0 ? '-' : '+', abs(power) % 1000);
    else
        snprintf(buffer, 32, "%.*f", places - power > 1 ? places - power : 1, real);
}

chat_text chat_number_text(const chat_value *v, char *buffer) {
    if (v->kind == KIND_NONE) return chat_text_of("None");
    if (v->kind == KIND_BOOL) return chat_text_of(v->truth ? "True" : "False");
    if (v->kind == KIND_INT)
        snprintf(buffer, 32, "%" PRId64, v->integer);
    else
        print_real(v->real, buffer);
    return chat_text_of(buffer);
}
