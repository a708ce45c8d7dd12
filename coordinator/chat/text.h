/* Texts of a template and of what it renders: UTF-8 slices, counted in characters as Python counts them. Private to the room. */
#ifndef CHAT_TEXT_H
#define CHAT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

/* A slice of bytes that somebody else owns; without a NUL at its end. */
typedef struct chat_text {
    const char *at;
    size_t count;
} chat_text;

/* Memory that is given back as a whole. Begin with {.limit = bytes}. */
typedef struct chat_arena {
    struct chat_arena_part *parts;
    size_t used, limit; /* bytes, over all parts */
} chat_arena;

/** Zeroed memory, aligned for anything; NULL: the limit is reached, or there is none. */
void *chat_arena_take(chat_arena *arena, size_t bytes);
void chat_arena_clear(chat_arena *arena);

/** A text of a string in the code. */
chat_text chat_text_of(const char *string);
bool chat_text_is(chat_text text, const char *string);
bool chat_text_same(chat_text a, chat_text b);
/** Bytewise, which is by characters in UTF-8: below 0, 0, above 0. */
int chat_text_compare(chat_text a, chat_text b);
/** Where `part` begins in `text`, from a byte on; SIZE_MAX: nowhere. */
size_t chat_text_find(chat_text text, chat_text part, size_t from);
bool chat_text_begins(chat_text text, chat_text part);
bool chat_text_ends(chat_text text, chat_text part);

/** Whether all of it is UTF-8 (RFC 3629); otherwise where the first byte is that is not. */
bool chat_text_is_utf8(chat_text text, size_t *at_out);
/** Bytes of the character at a place, and how many characters a text has. */
size_t chat_text_step(chat_text text, size_t at);
size_t chat_text_characters(chat_text text);
/** The byte at which a character begins; the end for one behind the last. */
size_t chat_text_byte_of(chat_text text, size_t character);

/** Without the characters of `set` at the ends; NULL: without white space (Python's str.isspace). */
chat_text chat_text_strip(chat_text text, const chat_text *set, bool left, bool right);
/** Bytes of the white space that a text begins with from a place on, and whether a character is one. */
size_t chat_text_space(chat_text text, size_t at);

#endif
