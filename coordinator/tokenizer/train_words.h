/* How often every word of a text stands in it: a table that grows with the distinct words alone. */
#ifndef TOKENIZER_TRAIN_WORDS_H
#define TOKENIZER_TRAIN_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

enum {
    WORD_BYTES_MAX =
        4096 /* a longer word counts as pieces of this length, so that no token grows without end */
};

typedef struct counted_word {
    uint64_t count;
    uint64_t at; /* where its bytes begin in `bytes` */
    uint32_t length, hash;
} counted_word;

/* Open addressing, at most two thirds full. A zeroed table is empty. */
typedef struct word_table {
    uint8_t *bytes; /* of all words */
    size_t bytes_used, bytes_room;
    counted_word *words;
    size_t count, room;
    uint32_t *slots; /* index of a word + 1; 0: empty */
    size_t slot_count;
} word_table;

/** Adds to a word's count. @param length at most WORD_BYTES_MAX
 * @param hash of the bytes; the low bits choose the slot @retval MST_ENOMEM */
mst_status word_table_add(word_table *table, const uint8_t *bytes, size_t length, uint32_t hash,
                          uint64_t count);

/** Forgets the words, and keeps the memory. */
void word_table_empty(word_table *table);
void word_table_clear(word_table *table);

#endif
