/*
 * The pre-tokenizer: cuts a text into the words inside of which BPE merges. A list of steps, as in tokenizer.json, each of which
 * cuts what the one before handed on. Private to the room.
 *
 * A trainer makes one for each of its threads, hands it whole documents, and counts the words that it is called with:
 *
 *     pretokenizer *words = NULL;
 *     MST_TRY(pretokenizer_create(&words));
 *     MST_TRY(pretokenizer_add_split(words, pattern, strlen(pattern), false, SPLIT_ISOLATED, false));
 *     MST_TRY(pretokenizer_add_byte_level(words, false, false));    (* a sequence may do without *)
 *     for (each document) MST_TRY(pretokenizer_walk(words, bytes, count, count_word, &counts));
 *     pretokenizer_destroy(&words);
 *
 * The words are the document's bytes; ByteLevel's alphabet of printable characters is only the spelling of bytes in the
 * file's vocabulary, see alphabet.h.
 */
#ifndef TOKENIZER_PRETOKENIZE_H
#define TOKENIZER_PRETOKENIZE_H

#include "muster/tokenizer.h"

typedef struct pretokenizer pretokenizer;

/* What becomes of the matches of a Split; the names are those of tokenizer.json. */
#define SPLIT_BEHAVIORS(X)                                                                                   \
    X(SPLIT_ISOLATED, "Isolated")                                                                            \
    X(SPLIT_REMOVED, "Removed")                                                                              \
    X(SPLIT_CONTIGUOUS, "Contiguous")                                                                        \
    X(SPLIT_MERGED_WITH_PREVIOUS, "MergedWithPrevious")                                                      \
    X(SPLIT_MERGED_WITH_NEXT, "MergedWithNext")

typedef enum split_behavior {
#define SPLIT_ENUM(code, name) code,
    SPLIT_BEHAVIORS(SPLIT_ENUM)
#undef SPLIT_ENUM
} split_behavior;

/** The pattern of GPT-2, which ByteLevel with use_regex splits by. */
extern const char pretokenizer_gpt2[];

/** Makes one without steps: a text is one word. @retval MST_ENOMEM */
mst_status pretokenizer_create(pretokenizer **p_out);
void pretokenizer_destroy(pretokenizer **p);

/**
 * Adds a step Split: {"type": "Split", "pattern": {"Regex" or "String": text}, "behavior": .., "invert": ..}.
 * @param literal a String: the text itself is looked for
 * @retval MST_EUNSUPPORTED, MST_EFORMAT as pattern_create; more steps than there may be; MST_ENOMEM
 */
mst_status pretokenizer_add_split(pretokenizer *p, const char *text, size_t bytes, bool literal,
                                  split_behavior behavior, bool invert);
/** Adds a step Digits: numbers become words, or each digit becomes one. @retval MST_EUNSUPPORTED too many steps */
mst_status pretokenizer_add_digits(pretokenizer *p, bool individual);
/** Adds a step ByteLevel: a space before what does not begin with one; a split by pretokenizer_gpt2.
 * @retval as pretokenizer_add_split */
mst_status pretokenizer_add_byte_level(pretokenizer *p, bool add_prefix_space, bool use_regex);

/** Takes one word, which is not empty and lives until this returns. @retval a failure ends the walk and is handed on */
typedef mst_status word_fn(void *context, const uint8_t *word, size_t count);

/**
 * Calls `visit` for the words of a text, in their order.
 *
 * Not collective. Threads: a pre-tokenizer has scratch memory, so one for each thread. Memory: that of one word, mostly.
 * @param text any bytes. Those that are no UTF-8 come as words of one byte each, which are not below 0x80; what is between them is
 * split as if it stood alone
 * @retval MST_EFORMAT a pattern that takes too long; the status of visit; MST_ENOMEM
 */
mst_status pretokenizer_walk(pretokenizer *p, const uint8_t *text, size_t count, word_fn *visit,
                             void *context);

#endif
