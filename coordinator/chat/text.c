#include "text.h"

#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

enum { PART_BYTES = 64 << 10, ALIGNMENT = 16 };

typedef struct chat_arena_part {
    struct chat_arena_part *next;
    size_t used, room;
    _Alignas(ALIGNMENT) unsigned char at[];
} chat_arena_part;

void *chat_arena_take(chat_arena *arena, size_t bytes) {
    chat_arena_part *part = arena->parts;
    if (bytes > arena->limit || arena->limit - bytes < arena->used) return NULL;
    const size_t whole = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (part == NULL || part->room - part->used < whole) {
        const size_t room = whole > PART_BYTES ? whole : PART_BYTES;
        part = calloc(1, sizeof *part + room);
        if (part == NULL) return NULL;
        part->room = room;
        part->next = arena->parts;
        arena->parts = part;
    }
    void *taken = part->at + part->used;
    part->used += whole;
    arena->used += whole;
    return taken;
}

void chat_arena_clear(chat_arena *arena) {
    while (arena->parts != NULL) {
        chat_arena_part *next = arena->parts->next;
        free(arena->parts);
        arena->parts = next;
    }
    arena->used = 0;
}

/* ---- bytes ---- */

chat_text chat_text_of(const char *string) {
    return (chat_text){string, strlen(string)};
}

bool chat_text_same(chat_text a, chat_text b) {
    return a.count == b.count && (a.count == 0 || memcmp(a.at, b.at, a.count) == 0);
}

bool chat_text_is(chat_text text, const char *string) {
    return chat_text_same(text, chat_text_of(string));
}

int chat_text_compare(chat_text a, chat_text b) {
    const size_t shorter = a.count < b.count ? a.count : b.count;
    const int order = shorter > 0 ? memcmp(a.at, b.at, shorter) : 0;
    return order != 0 ? order : (a.count > b.count) - (a.count < b.count);
}

size_t chat_text_find(chat_text text, chat_text part, size_t from) {
    if (from > text.count || part.count > text.count - from) return SIZE_MAX;
    if (part.count == 0) return from;
    const char *found = memmem(text.at + from, text.count - from, part.at, part.count);
    return found != NULL ? (size_t)(found - text.at) : SIZE_MAX;
}

bool chat_text_begins(chat_text text, chat_text part) {
    return part.count <= text.count && (part.count == 0 || memcmp(text.at, part.at, part.count) == 0);
}

bool chat_text_ends(chat_text text, chat_text part) {
    return part.count <= text.count &&
           (part.count == 0 || memcmp(text.at + text.count - part.count, part.at, part.count) == 0);
}

/* ---- characters ---- */

/* The character at a place and its bytes; 0 bytes: it is no UTF-8. */
static uint32_t decode(chat_text text, size_t at, size_t *bytes_out) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *b = (const unsigned char *)text.at + at;
    *bytes_out = b[0] < 0x80 ? 1 : b[0] < 0xC2 ? 0 : b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : b[0] < 0xF5 ? 4 : 0;
    if (*bytes_out <= 1) return b[0];
    uint32_t code = b[0] & (0xFFU >> (*bytes_out + 1));
    bool good = text.count - at >= *bytes_out;
    for (size_t i = 1; good && i < *bytes_out; i++) {
        good = (b[i] & 0xC0) == 0x80;
        code = code << 6 | (b[i] & 0x3F);
    }
    if (!good || code < smallest[*bytes_out] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        *bytes_out = 0;
    return code;
}

bool chat_text_is_utf8(chat_text text, size_t *at_out) {
    for (size_t at = 0, bytes; at < text.count; at += bytes) {
        *at_out = at;
        (void)decode(text, at, &bytes);
        if (bytes == 0) return false;
    }
    return true;
}

size_t chat_text_step(chat_text text, size_t at) {
    size_t bytes = 1;
    while (at + bytes < text.count && ((unsigned char)text.at[at + bytes] & 0xC0) == 0x80) bytes++;
    return bytes;
}

size_t chat_text_characters(chat_text text) {
    size_t count = 0;
    for (size_t i = 0; i < text.count; i++) count += ((unsigned char)text.at[i] & 0xC0) != 0x80;
    return count;
}

size_t chat_text_byte_of(chat_text text, size_t character) {
    size_t at = 0;
    while (character-- > 0 && at < text.count) at += chat_text_step(text, at);
    return at;
}

/* ---- white space ---- */

static bool is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

size_t chat_text_space(chat_text text, size_t at) {
    size_t bytes;
    return at < text.count && is_space(decode(text, at, &bytes)) ? bytes : 0;
}

/* Whether the character of `bytes` bytes at a place goes. */
static bool goes(chat_text text, size_t at, size_t bytes, const chat_text *set) {
    if (set == NULL) return chat_text_space(text, at) > 0;
    return chat_text_find(*set, (chat_text){text.at + at, bytes}, 0) != SIZE_MAX;
}

chat_text chat_text_strip(chat_text text, const chat_text *set, bool left, bool right) {
    size_t bytes;
    while (left && text.count > 0 && goes(text, 0, bytes = chat_text_step(text, 0), set))
        text = (chat_text){text.at + bytes, text.count - bytes};
    while (right && text.count > 0) {
        size_t start = text.count - 1;
        while (start > 0 && ((unsigned char)text.at[start] & 0xC0) == 0x80) start--;
        if (!goes(text, start, text.count - start, set)) break;
        text.count = start;
    }
    return text;
}
