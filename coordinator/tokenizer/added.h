/* Added tokens: names that are looked for in a text before anything else is done with it. Private to the room. */
#ifndef TOKENIZER_ADDED_H
#define TOKENIZER_ADDED_H

#include "muster/tokenizer.h"

/* One added token, as in the file. */
typedef struct added_token {
    int32_t id;
    bool lstrip, rstrip; /* takes the white space before, behind */
    bool single_word;    /* only between what is no letter or digit */
} added_token;

/** A set of them: a trie in a hash table. Begin with {0}. */
typedef struct added_set {
    added_token *tokens;
    size_t count, room;
    struct added_edge *edges; /* by hash of (node, byte) */
    size_t edge_count, slot_count;
    int32_t *token_at; /* by node: number in `tokens`, or -1 */
    size_t node_count, node_room;
    bool first[256]; /* bytes that begin one */
    uint64_t seed;
} added_set;

enum { ADDED_BYTES_MAX = 1024 };

void added_clear(added_set *set);

/** Adds a token that is looked for as these bytes.
 * @retval MST_EUNSUPPORTED more than ADDED_BYTES_MAX bytes; MST_EFORMAT the bytes stand twice, or none; MST_ENOMEM */
mst_status added_add(added_set *set, const uint8_t *bytes, size_t count, added_token token);

/* A piece of a text: an added token, or (id -1) what lies between two of them. */
typedef struct added_piece {
    size_t start, end;
    int32_t id;
} added_piece;

/* Where a search stands; begin with {0}. */
typedef struct added_search {
    size_t done; /* pieces were found up to here */
    size_t from; /* the next match begins here or behind */
    added_piece next;
    bool waits; /* `next` follows */
} added_search;

/** Finds the next piece; false: that was all. Matches are the leftmost, of these the longest, as if no flag were set; then the flags
 * are looked at. Pieces may be empty. */
bool added_next(const added_set *set, const uint8_t *text, size_t count, added_search *search,
                added_piece *piece_out);

#endif
