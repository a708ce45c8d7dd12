/* The table of merges, and merging of words that are too long to be looked through again and again. Private to the room. */
#ifndef TOKENIZER_LONG_WORD_H
#define TOKENIZER_LONG_WORD_H

#include "hash.h"
#include "muster/tokenizer.h"

#define MERGE_NONE UINT64_MAX
#define RANK_NONE  UINT32_MAX

typedef struct merge {
    uint64_t pair; /* left << 32 | right; MERGE_NONE: an empty slot */
    uint32_t rank; /* earlier merges first */
    int32_t merged;
} merge;

typedef struct merge_table {
    merge *at;
    uint32_t mask; /* slots - 1 */
    uint64_t seed;
} merge_table;

static inline uint64_t merge_pair(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/** The slot of a pair: its own, or an empty one, whose rank is RANK_NONE. */
static inline merge *merge_find(const merge_table *table, int32_t left, int32_t right) {
    uint64_t pair = merge_pair(left, right);
    uint32_t at = (uint32_t)hash_mix(pair ^ table->seed) & table->mask;
    while (table->at[at].pair != pair && table->at[at].pair != MERGE_NONE) at = (at + 1) & table->mask;
    return &table->at[at];
}

/** Scratch memory; begin with {0}. */
typedef struct long_word {
    uint32_t *next, *previous, *rank;
    uint64_t *heap; /* rank << 32 | place */
    size_t room, heap_count;
} long_word;

void long_word_clear(long_word *scratch);

/**
 * Merges a word in place, in n log n.
 * @param tokens [count]; the first *left_out remain
 * @retval MST_ENOMEM; MST_EUNSUPPORTED 2^31 tokens or more
 */
mst_status long_word_merge(long_word *scratch, const merge_table *merges, int32_t *tokens, size_t count,
                           size_t *left_out);

#endif
