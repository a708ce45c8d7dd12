/* Small tokenizer.json texts for tests: the 256 bytes, some merges, and parts that a test chooses. */
#ifndef TOKENIZER_FIXTURE_H
#define TOKENIZER_FIXTURE_H

#include "alphabet.h"
#include "muster/tokenizer.h"
#include "test.h"
#include "unicode.h"

/* JSON texts; NULL: a usual one. */
typedef struct tokenizer_parts {
    const char *added, *normalizer, *pre_tokenizer, *post_processor, *decoder, *merges,
        *model;        /* model: fields before vocab */
    const char *vocab; /* members behind the bytes */
} tokenizer_parts;

/* Ids 0 to 255 are the bytes; then "ab" 256, "abc" 257, "bc" 258, "Ġa" (space, a) 259, "12" 260, "aa" 261, "aaaa" 262. */
#define TOKENIZER_VOCAB                                                                                      \
    "\"ab\": 256, \"abc\": 257, \"bc\": 258, \"\\u0120a\": 259, \"12\": 260, \"aa\": 261, \"aaaa\": 262"
#define TOKENIZER_MERGES "[\"a b\", [\"ab\", \"c\"], \"b c\", \"\\u0120 a\", \"1 2\", \"a a\", \"aa aa\"]"
#define BYTE_LEVEL                                                                                           \
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}"
enum { TOKENIZER_NEXT = 263 }; /* the id of the first added token */

static inline const char *part_or(const char *text, const char *otherwise) {
    return text != NULL ? text : otherwise;
}

/* The members of a vocabulary that are the bytes: "a": 97, and so on. */
static inline size_t print_bytes(char *out, size_t room) {
    size_t used = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t character[5] = {0};
        utf8_encode(alphabet_character((uint8_t)byte), character);
        const char *escape = character[0] == '"' || character[0] == '\\' ? "\\" : "";
        used += (size_t)snprintf(out + used, room - used, "\"%s%s\": %u, ", escape, (const char *)character,
                                 byte);
    }
    return used;
}

/* A tokenizer.json, in static storage. */
static inline const char *tokenizer_text(tokenizer_parts p) {
    static char text[16384], bytes[8192];
    print_bytes(bytes, sizeof bytes);
    int used =
        snprintf(text, sizeof text,
                 "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": %s, "
                 "\"normalizer\": %s, \"pre_tokenizer\": %s, \"post_processor\": %s, \"decoder\": %s, "
                 "\"model\": {%s, \"vocab\": {%s%s}, \"merges\": %s}}",
                 part_or(p.added, "[]"), part_or(p.normalizer, "null"), part_or(p.pre_tokenizer, BYTE_LEVEL),
                 part_or(p.post_processor, "null"), part_or(p.decoder, BYTE_LEVEL),
                 part_or(p.model, "\"type\": \"BPE\""), bytes, part_or(p.vocab, TOKENIZER_VOCAB),
                 part_or(p.merges, TOKENIZER_MERGES));
    CHECK(used > 0 && (size_t)used < sizeof text, "the text has %d bytes", used);
    return text;
}

/* The tokenizer of these parts. The test ends where it is refused. */
static inline mst_tokenizer *open_tokenizer(tokenizer_parts p) {
    mst_tokenizer *tokenizer = NULL;
    const char *text = tokenizer_text(p);
    CHECK_OK(mst_tokenizer_parse(text, strlen(text), "test", &tokenizer));
    if (tokenizer == NULL) exit(1);
    return tokenizer;
}

#endif
