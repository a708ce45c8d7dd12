#include "control.h"

#include <stdlib.h>
#include <string.h>

/* U+F0000 and U+F0001, of a plane for private use: those of transformers. */
static const char mark_begin[] = "\xF3\xB0\x80\x80", mark_end[] = "\xF3\xB0\x80\x81";
enum { MARK_BYTES = 4 };

/* ---- the names ---- */

static bool is_blank(chat_text text) {
    return chat_text_strip(text, NULL, true, true).count == 0;
}

static int longest_first(const void *left, const void *right) {
    const chat_text *a = left, *b = right;
    if (a->count != b->count) return a->count < b->count ? 1 : -1;
    return chat_text_compare(*a, *b);
}

mst_status chat_controls_find(const chat_program *program, const mst_tokenizer *tokenizer,
                              chat_controls *controls_out) {
    mst_status status = MST_OK;
    mst_token_list ids = {0};
    const chat_text literals = {program->literals.at, program->literals.count};
    *controls_out = (chat_controls){0};
    MST_TRY(mst_tokenizer_added(tokenizer, &ids));
    controls_out->at = calloc(ids.count + 1, sizeof *controls_out->at);
    MST_CHECK(controls_out->at != NULL, MST_ENOMEM, "no memory for %zu control tokens", ids.count);
    for (size_t i = 0; i < ids.count; i++) {
        bool special = false;
        size_t bytes = 0;
        const uint8_t *piece = mst_tokenizer_piece(tokenizer, ids.at[i], &bytes, &special);
        const chat_text name = {(const char *)piece, bytes};
        if (bytes == 0 || (!special && (is_blank(name) || chat_text_find(literals, name, 0) == SIZE_MAX)))
            continue;
        controls_out->at[controls_out->count++] = name;
        controls_out->begins[piece[0]] = true;
    }
    qsort(controls_out->at, controls_out->count, sizeof *controls_out->at, longest_first);
done:
    free(ids.at);
    return status;
}

void chat_controls_clear(chat_controls *controls) {
    free(controls->at);
    *controls = (chat_controls){0};
}

/* The longest name that stands at a place; empty: none. */
static chat_text name_at(const chat_controls *controls, chat_text text, size_t at) {
    const chat_text rest = {text.at + at, text.count - at};
    if (at < text.count && controls->begins[(unsigned char)*rest.at])
        for (size_t i = 0; i < controls->count; i++)
            if (chat_text_begins(rest, controls->at[i])) return controls->at[i];
    return (chat_text){rest.at, 0};
}

static bool is_mark(chat_text text, size_t at, const char *mark) {
    return text.count - at >= MARK_BYTES && memcmp(text.at + at, mark, MARK_BYTES) == 0;
}

static bool is_any_mark(chat_text text, size_t at) {
    return is_mark(text, at, mark_begin) || is_mark(text, at, mark_end);
}

bool chat_is_ascii_or_marks(chat_text text) {
    for (size_t at = 0; at < text.count; at++) {
        if ((unsigned char)text.at[at] < 0x80) continue;
        if (!is_any_mark(text, at)) return false;
        at += MARK_BYTES - 1;
    }
    return true;
}

/* ---- marking ---- */

/* A text without marks, which could be forged. */
static mst_status drop_marks(chat_text text, chat_buffer *to) {
    mst_status status = MST_OK;
    size_t kept = 0;
    for (size_t at = 0; at < text.count; at++) {
        if (!is_any_mark(text, at)) continue;
        MST_TRY(chat_buffer_add(to, (chat_text){text.at + kept, at - kept}));
        kept = at + MARK_BYTES;
        at += MARK_BYTES - 1;
    }
    MST_TRY(chat_buffer_add(to, (chat_text){text.at + kept, text.count - kept}));
done:
    return status;
}

static mst_status mark_text(const chat_controls *controls, chat_text text, chat_buffer *to) {
    mst_status status = MST_OK;
    size_t kept = 0;
    for (size_t at = 0; at < text.count;) {
        const chat_text name = name_at(controls, text, at);
        if (name.count == 0) {
            at++;
            continue;
        }
        MST_TRY(chat_buffer_add(to, (chat_text){text.at + kept, at - kept}));
        MST_TRY(chat_buffer_add(to, (chat_text){mark_begin, MARK_BYTES}));
        MST_TRY(chat_buffer_add(to, name));
        MST_TRY(chat_buffer_add(to, (chat_text){mark_end, MARK_BYTES}));
        kept = at += name.count;
    }
    MST_TRY(chat_buffer_add(to, (chat_text){text.at + kept, text.count - kept}));
done:
    return status;
}

static mst_status mark_string(const chat_controls *controls, const json_t *string, json_t **marked_out) {
    mst_status status = MST_OK;
    chat_buffer plain = {0}, marked = {0};
    MST_TRY(drop_marks((chat_text){json_string_value(string), json_string_length(string)}, &plain));
    MST_TRY(mark_text(controls, (chat_text){plain.at, plain.count}, &marked));
    *marked_out = json_stringn(marked.count > 0 ? marked.at : "", marked.count);
done:
    free(plain.at);
    free(marked.at);
    return status;
}

static mst_status mark_value(const chat_controls *controls, json_t *value, json_t **marked_out);

static mst_status mark_array(const chat_controls *controls, json_t *array, json_t *marked) {
    mst_status status = MST_OK;
    json_t *element = NULL;
    for (size_t i = 0; i < json_array_size(array); i++) {
        MST_TRY(mark_value(controls, json_array_get(array, i), &element));
        MST_CHECK(json_array_append_new(marked, element) == 0, MST_ENOMEM,
                  "out of memory for a conversation");
    }
done:
    return status;
}

/* Keys are the template's business. */
static mst_status mark_object(const chat_controls *controls, json_t *object, json_t *marked) {
    mst_status status = MST_OK;
    const char *key;
    json_t *value, *element = NULL;
    json_object_foreach(object, key, value) {
        MST_TRY(mark_value(controls, value, &element));
        MST_CHECK(json_object_set_new(marked, key, element) == 0, MST_ENOMEM,
                  "out of memory for a conversation");
    }
done:
    return status;
}

/* NULL stays NULL. */
static mst_status mark_value(const chat_controls *controls, json_t *value, json_t **marked_out) {
    mst_status status = MST_OK;
    *marked_out = NULL;
    if (value == NULL) return MST_OK;
    if (json_is_string(value))
        MST_TRY(mark_string(controls, value, marked_out));
    else
        *marked_out = json_is_array(value)    ? json_array()
                      : json_is_object(value) ? json_object()
                                              : json_incref(value);
    MST_CHECK(*marked_out != NULL, MST_ENOMEM, "out of memory for a conversation");
    if (json_is_array(value)) MST_TRY(mark_array(controls, value, *marked_out));
    if (json_is_object(value)) MST_TRY(mark_object(controls, value, *marked_out));
done:
    if (status != MST_OK) {
        json_decref(*marked_out);
        *marked_out = NULL;
    }
    return status;
}

mst_status chat_mark(const chat_controls *controls, const mst_conversation *conversation,
                     mst_conversation **marked_out) {
    mst_status status = MST_OK;
    mst_conversation *marked = calloc(1, sizeof *marked);
    *marked_out = NULL;
    MST_CHECK(marked != NULL, MST_ENOMEM, "out of memory for a conversation");
    marked->learned = conversation->learned;
    MST_TRY(mark_value(controls, conversation->messages, &marked->messages));
    MST_TRY(mark_value(controls, conversation->tools, &marked->tools));
    MST_TRY(mark_value(controls, conversation->documents, &marked->documents));
    MST_TRY(mark_value(controls, conversation->variables, &marked->variables));
    *marked_out = marked;
    marked = NULL;
done:
    mst_conversation_destroy(&marked);
    return status;
}

/* ---- unmarking ---- */

typedef struct unmarking {
    mst_chat_text *text;
    size_t read, written; /* in place */
    size_t bound;         /* the next start or end of a span that is not moved yet: two for each */
} unmarking;

static size_t *bound_at(mst_chat_text *text, size_t bound) {
    mst_text_span *span = &text->spans[bound / 2];
    return bound % 2 == 0 ? &span->start : &span->end;
}

/* Keeps the next bytes, and with them the bounds of spans that lie in them. */
static void keep(unmarking *u, size_t bytes) {
    for (; u->bound < 2 * u->text->span_count; u->bound++) {
        size_t *bound = bound_at(u->text, u->bound);
        if (*bound > u->read + bytes) break;
        *bound = *bound < u->read ? u->written : u->written + (*bound - u->read);
    }
    memmove(u->text->at + u->written, u->text->at + u->read, bytes);
    u->read += bytes;
    u->written += bytes;
}

static mst_status add_name(mst_chat_text *text, size_t start, size_t end) {
    mst_status status = MST_OK;
    if ((text->name_count & (text->name_count + 1)) == 0) { /* it is full at every power of two less one */
        mst_text_span *grown = realloc(text->names, (2 * text->name_count + 1) * sizeof *grown);
        MST_CHECK(grown != NULL, MST_ENOMEM, "out of memory for the names of control tokens");
        text->names = grown;
    }
    text->names[text->name_count++] = (mst_text_span){start, end};
done:
    return status;
}

/* A mark at the place: with a name and the other mark behind it, or alone where the template took them apart. */
static mst_status take_mark(const chat_controls *controls, unmarking *u) {
    const chat_text text = {u->text->at, u->text->count};
    const size_t behind = u->read + MARK_BYTES;
    const chat_text name =
        is_mark(text, u->read, mark_begin) ? name_at(controls, text, behind) : (chat_text){0};
    const bool whole = name.count > 0 && is_mark(text, behind + name.count, mark_end);
    const size_t start = u->written;
    u->read = behind;
    if (whole) {
        keep(u, name.count);
        u->read += MARK_BYTES;
    }
    return add_name(u->text, start, u->written);
}

mst_status chat_unmark(const chat_controls *controls, mst_chat_text *text) {
    mst_status status = MST_OK;
    unmarking u = {.text = text};
    const chat_text whole = {text->at, text->count};
    while (u.read < whole.count) {
        const char *next = memchr(whole.at + u.read, mark_begin[0], whole.count - u.read);
        const size_t at = next != NULL ? (size_t)(next - whole.at) : whole.count;
        const bool mark = next != NULL && is_any_mark(whole, at);
        keep(&u, at - u.read + (next != NULL && !mark));
        if (mark) MST_TRY(take_mark(controls, &u));
    }
    keep(&u, 0);
    text->count = u.written;
    text->at[text->count] = '\0';
done:
    return status;
}

/* ---- tokens ---- */

/* The spans within a part of the text, counted from its beginning. @param scratch [span_count] */
static size_t spans_within(const mst_chat_text *text, size_t start, size_t end, mst_text_span *scratch) {
    size_t count = 0;
    for (size_t i = 0; i < text->span_count; i++) {
        const mst_text_span s = text->spans[i];
        const size_t from = s.start > start ? s.start : start, to = s.end < end ? s.end : end;
        if (from < to) scratch[count++] = (mst_text_span){from - start, to - start};
    }
    return count;
}

static mst_status encode_part(mst_tokenizer *tokenizer, const mst_chat_text *text, mst_text_span part,
                              bool plain, mst_token_list *tokens, mst_byte_list *mask) {
    mst_status status = MST_OK;
    const mst_encode_options options = {.plain = plain};
    const uint8_t *bytes = (const uint8_t *)text->at + part.start;
    mst_text_span *spans = NULL;
    if (mask == NULL) return mst_tokenizer_encode(tokenizer, bytes, part.end - part.start, &options, tokens);
    spans = calloc(text->span_count + 1, sizeof *spans);
    MST_CHECK(spans != NULL, MST_ENOMEM, "out of memory for %zu spans", text->span_count);
    const size_t count = spans_within(text, part.start, part.end, spans);
    MST_TRY(mst_tokenizer_encode_spans(tokenizer, bytes, part.end - part.start, &options, spans, count,
                                       tokens, mask));
done:
    free(spans);
    return status;
}

/* A vocabulary may spell a control token in plain text, too; then nothing can keep them apart. */
static mst_status check_plain(mst_tokenizer *tokenizer, const mst_chat_text *text, mst_text_span name,
                              const int32_t *tokens, size_t count) {
    mst_status status = MST_OK;
    char *content = strndup(text->at + name.start, name.end - name.start);
    MST_CHECK(content != NULL, MST_ENOMEM, "out of memory for a token's name");
    const int32_t id = mst_tokenizer_id(tokenizer, content);
    for (size_t i = 0; i < count; i++)
        MST_CHECK(tokens[i] != id, MST_EUNSUPPORTED,
                  "the tokenizer makes the token '%s' of its name in plain text", content);
done:
    free(content);
    return status;
}

mst_status chat_encode(mst_tokenizer *tokenizer, const mst_chat_text *text, mst_token_list *tokens,
                       mst_byte_list *mask) {
    mst_status status = MST_OK;
    size_t at = 0;
    for (size_t i = 0; i < text->name_count; i++) {
        const mst_text_span name = text->names[i];
        MST_TRY(encode_part(tokenizer, text, (mst_text_span){at, name.start}, false, tokens, mask));
        const size_t before = tokens->count;
        MST_TRY(encode_part(tokenizer, text, name, true, tokens, mask));
        MST_TRY(check_plain(tokenizer, text, name, tokens->at + before, tokens->count - before));
        at = name.end;
    }
    MST_TRY(encode_part(tokenizer, text, (mst_text_span){at, text->count}, false, tokens, mask));
done:
    return status;
}
