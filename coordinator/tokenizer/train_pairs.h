/* The pairs of neighbouring tokens: how often each stands in the text, where, and which is the most frequent. */
#ifndef TOKENIZER_TRAIN_PAIRS_H
#define TOKENIZER_TRAIN_PAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

enum { PAIR_COUNT_LEAST = 2 /* what stands once only is no pair to merge: it would be learnt by heart */ };

/* left << 32 | right: of two pairs the one with smaller ids has the smaller key. */
typedef uint64_t pair_key;
static inline pair_key pair_of(uint32_t left, uint32_t right) {
    return (pair_key)left << 32 | right;
}

/* Where a pair stands: positions of its left token in the text, ascending. */
typedef struct pair_places {
    union {
        uint32_t one;   /* count == 1 */
        uint32_t *many; /* count > 1; owned */
    } at;
    uint32_t count;
} pair_places;

typedef struct pair_record {
    pair_key key;
    uint64_t count; /* in the whole text; 0: gone */
    pair_places places;
} pair_record;

typedef struct pair_rank {
    pair_key key;
    uint64_t count; /* an upper bound: counts only fall */
} pair_rank;

/* A table by key, and a heap by count. Zeroed: empty. */
typedef struct pair_set {
    pair_record *slots; /* open addressing, at most three quarters full */
    size_t slot_count, used;
    pair_rank *heap;
    size_t heap_count, heap_room;
} pair_set;

/** Adds a pair that is not there. @param places taken over, also when it fails @retval MST_ENOMEM */
mst_status pair_set_add(pair_set *set, pair_key key, uint64_t count, pair_places places);

/** Takes from a pair's count; one that falls below PAIR_COUNT_LEAST is gone. Nothing where there is no such pair. */
void pair_set_subtract(pair_set *set, pair_key key, uint64_t count);

/** Takes out the most frequent pair, of equally frequent ones that of the smallest ids.
 * @param places_out the caller's to clear
 * @return whether there was one */
bool pair_set_take(pair_set *set, pair_key *key_out, pair_places *places_out);

static inline const uint32_t *pair_places_first(const pair_places *places) {
    return places->count == 1 ? &places->at.one : places->at.many;
}
void pair_places_clear(pair_places *places);
void pair_set_clear(pair_set *set);

#endif
