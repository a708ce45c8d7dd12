/* UTF-8, and the properties of characters that PCRE2 and utf8proc may be too old to know. Private to the room. */
#ifndef TOKENIZER_UNICODE_H
#define TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** The bytes of the UTF-8 character at text[0], 1 to 4; 0: there is none (RFC 3629: no surrogates, no
 * overlong forms, nothing above U+10FFFF). */
size_t utf8_length(const uint8_t *text, size_t count);

/** The character at a place that is known to be UTF-8, and its bytes. */
uint32_t utf8_decode(const uint8_t *text, size_t *length_out);

/** Where the character before text[count] begins; count > 0, text is UTF-8. */
size_t utf8_before(const uint8_t *text, size_t count);

/** Writes a character; returns its bytes, 1 to 4. */
size_t utf8_encode(uint32_t character, uint8_t out[4]);

/**
 * The bytes at the beginning of a text that are UTF-8: all of them, or those before the first that is not.
 * @param unusual_out whether they have a character of unicode_is_unusual
 */
size_t utf8_span(const uint8_t *text, size_t count, bool *unusual_out);

/** A range of characters, and their general category, such as "Lu". */
typedef struct unicode_range {
    uint32_t first, last;
    char category[3];
} unicode_range;

/** The characters that Unicode 15.0, 15.1 and 16.0 added. PCRE2 10.42 knows those of 14.0. */
extern const unicode_range unicode_added[];
extern const size_t unicode_added_count;

/** Whether PCRE2 may answer otherwise than Unicode 16 about a character: one of unicode_added, and U+180E, which PCRE2
 * takes for white space. */
bool unicode_is_unusual(uint32_t character);

/** Whether Rust's char::is_numeric holds: the categories Nd, Nl and No of Unicode 17. */
bool unicode_is_numeric(uint32_t character);

/** White_Space, and the \w of Rust's regex: Alphabetic, M, Nd, Pc, Join_Control. Both of Unicode 16. */
bool unicode_is_space(uint32_t character);
bool unicode_is_word(uint32_t character);

#endif
