/*
 * Patterns of pre-tokenizers: regular expressions as Hugging Face's `tokenizers` understands them (oniguruma, Ruby syntax),
 * matched by PCRE2. What both understand alike is taken, what differs is written anew, and everything else is refused by
 * name. Private to the room.
 */
#ifndef TOKENIZER_PATTERN_H
#define TOKENIZER_PATTERN_H

#include "muster/tokenizer.h"

typedef struct pattern pattern;

/**
 * Compiles a pattern. Not collective.
 * @param literal the text itself is looked for: no regular expression
 * @retval MST_EUNSUPPORTED a construct that is not known (named, with its place); MST_EFORMAT no regular expression;
 * MST_ENOMEM
 */
mst_status pattern_create(const char *text, size_t count, bool literal, pattern **pattern_out);
void pattern_destroy(pattern **p);

/** What matching may still cost, in PCRE2's unit of its match limit, over all matches of one text. */
typedef struct pattern_budget {
    uint64_t left;
} pattern_budget;

/** Generous for a text of this length: a pattern without nested repetition never comes near. */
pattern_budget pattern_budget_for(size_t count);

/**
 * Finds the first match that begins at text[at] or behind it.
 *
 * Not collective. Threads: a pattern has scratch memory, so one for each thread.
 * @param text is UTF-8: PCRE2's compiled code reads out of bounds in anything else
 * @param unusual whether the text has a character of unicode_is_unusual (utf8_span says that)
 * @param found_out false: no match, start_out and end_out are not set
 * @retval MST_EFORMAT the pattern takes too long on this text; MST_ENOMEM; MST_EINTERNAL
 */
mst_status pattern_find(pattern *p, const uint8_t *text, size_t count, size_t at, bool unusual,
                        pattern_budget *budget, bool *found_out, size_t *start_out, size_t *end_out);

/**
 * Writes a pattern for PCRE2; pattern_create does that itself. With `exact` the classes have the characters that are new in
 * Unicode 16 and lack those that PCRE2 adds: right for every text, and about half as fast.
 * @param paths_out in how many ways the alternatives can be chosen, one behind the other: what backtracking costs between two places
 * at which PCRE2's machine code counts, which are the repetitions only. At most PATTERN_PATHS_MAX
 * @retval as pattern_create
 */
mst_status pattern_translate(const char *text, size_t count, bool exact, mst_byte_list *out,
                             uint64_t *paths_out);
enum { PATTERN_PATHS_MAX = 1 << 20 };

#endif
