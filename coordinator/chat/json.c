/* The filter tojson, which writes as Python's json.dumps does. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "callable.h"

typedef struct writer {
    chat_renderer *r;
    const chat_json_style *style;
    chat_buffer *to;
} writer;

static mst_status write_value(const writer *w, const chat_value *value, size_t depth);

static mst_status put(const writer *w, const char *text) {
    return chat_buffer_add(w->to, chat_text_of(text));
}

/* A character above ASCII as \uXXXX, in two halves where it has to be. */
static mst_status put_escaped(const writer *w, uint32_t code) {
    char text[16];
    if (code > 0xFFFF)
        snprintf(text, sizeof text, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((code - 0x10000) >> 10)),
                 (unsigned)(0xDC00 + ((code - 0x10000) & 0x3FF)));
    else
        snprintf(text, sizeof text, "\\u%04x", (unsigned)code);
    return put(w, text);
}

static uint32_t code_of(chat_text text, size_t at, size_t bytes) {
    uint32_t code = (unsigned char)text.at[at] & (0xFFU >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++) code = code << 6 | ((unsigned char)text.at[at + i] & 0x3F);
    return code;
}

static mst_status write_text(const writer *w, chat_text text) {
    static const char from[] = "\"\\\n\r\t\f\b";
    static const char *const to[] = {"\\\"", "\\\\", "\\n", "\\r", "\\t", "\\f", "\\b"};
    mst_status status = MST_OK;
    size_t plain = 0; /* from here on nothing needs an escape */
    MST_TRY(chat_work(w->r, text.count));
    MST_TRY(put(w, "\""));
    for (size_t at = 0, bytes; at < text.count; at += bytes) {
        const unsigned char c = (unsigned char)text.at[at];
        bytes = chat_text_step(text, at);
        size_t known = 0;
        while (known < sizeof to / sizeof *to && (unsigned char)from[known] != c) known++;
        const bool is_known = known < sizeof to / sizeof *to;
        if (!is_known && c >= 0x20 && (c < 0x7F || !w->style->ascii)) continue;
        MST_TRY(chat_buffer_add(w->to, (chat_text){text.at + plain, at - plain}));
        MST_TRY(is_known ? put(w, to[known]) : put_escaped(w, bytes == 1 ? c : code_of(text, at, bytes)));
        plain = at + bytes;
    }
    MST_TRY(chat_buffer_add(w->to, (chat_text){text.at + plain, text.count - plain}));
    MST_TRY(put(w, "\""));
done:
    return status;
}

static mst_status new_line(const writer *w, size_t depth) {
    mst_status status = MST_OK;
    if (w->style->indent < 0) return MST_OK;
    MST_TRY(put(w, "\n"));
    for (size_t i = 0; i < depth * (size_t)w->style->indent; i++) MST_TRY(put(w, " "));
done:
    return status;
}

/* What stands before an element: a comma behind another one, and a new line. */
static mst_status begin_element(const writer *w, size_t number, size_t depth) {
    mst_status status = MST_OK;
    if (number > 0) MST_TRY(chat_buffer_add(w->to, w->style->comma));
    MST_TRY(new_line(w, depth + 1));
done:
    return status;
}

static mst_status write_list(const writer *w, const chat_value *value, size_t depth) {
    mst_status status = MST_OK;
    if (value->list.count == 0) return put(w, "[]");
    MST_TRY(put(w, "["));
    for (size_t i = 0; i < value->list.count; i++) {
        MST_TRY(begin_element(w, i, depth));
        MST_TRY(write_value(w, &value->list.at[i], depth + 1));
    }
    MST_TRY(new_line(w, depth));
    MST_TRY(put(w, "]"));
done:
    return status;
}

static int by_key(const void *a, const void *b) {
    const chat_pair *const *x = a, *const *y = b;
    return chat_text_compare((*x)->key, (*y)->key);
}

static mst_status write_dict(const writer *w, const chat_dict *dict, size_t depth) {
    mst_status status = MST_OK;
    void *memory = NULL;
    if (dict->count == 0) return put(w, "{}");
    MST_TRY(chat_take(w->r, dict->count * sizeof(chat_pair *), &memory));
    const chat_pair **order = memory;
    for (size_t i = 0; i < dict->count; i++) order[i] = &dict->at[i];
    if (w->style->sorted) qsort(order, dict->count, sizeof *order, by_key);
    MST_TRY(put(w, "{"));
    for (size_t i = 0; i < dict->count; i++) {
        MST_TRY(begin_element(w, i, depth));
        MST_TRY(write_text(w, order[i]->key));
        MST_TRY(chat_buffer_add(w->to, w->style->colon));
        MST_TRY(write_value(w, &order[i]->value, depth + 1));
    }
    MST_TRY(new_line(w, depth));
    MST_TRY(put(w, "}"));
done:
    return status;
}

static mst_status write_value(const writer *w, const chat_value *value, size_t depth) {
    char buffer[32];
    mst_status status = chat_work(w->r, 0);
    if (status != MST_OK) return status;
    if (depth >= CHAT_VALUE_DEPTH)
        return mst_error(MST_EUNSUPPORTED, "values nested deeper than %d", CHAT_VALUE_DEPTH);
    switch (value->kind) {
    case KIND_NONE:
        return put(w, "null");
    case KIND_BOOL:
        return put(w, value->truth ? "true" : "false");
    case KIND_STRING:
        return write_text(w, value->text);
    case KIND_LIST:
        return write_list(w, value, depth);
    case KIND_DICT:
        return write_dict(w, value->dict, depth);
    case KIND_REAL:
        if (!isfinite(value->real))
            return mst_error(MST_EUNSUPPORTED, "JSON has no number for %f", value->real);
        return chat_buffer_add(w->to, chat_number_text(value, buffer));
    case KIND_INT:
        return chat_buffer_add(w->to, chat_number_text(value, buffer));
    default:
        return mst_error(MST_EFORMAT, "%s is nothing that JSON has", chat_kind_name(value->kind));
    }
}

mst_status chat_write_json(chat_renderer *r, const chat_value *value, const chat_json_style *style,
                           size_t depth, chat_buffer *to) {
    const writer w = {r, style, to};
    return write_value(&w, value, depth);
}
