/*
 * The heart of BPE training: joins the most frequent pair of neighbouring tokens, again and again. Works on distinct words with
 * their counts; the pairs' counts and places are kept up to date, so that a merge costs what it changes and no more.
 *
 * Sennrich et al. 2016. Of equally frequent pairs that of the smallest ids is taken, first by the left one.
 */
#ifndef TOKENIZER_TRAIN_MERGE_H
#define TOKENIZER_TRAIN_MERGE_H

#include <stdbool.h>

#include "train_words.h"

typedef struct merge_pair {
    uint32_t left, right;
} merge_pair;

/* The tokens of a vocabulary that grows: their bytes lie one behind the other. Ids below `special` have none. */
typedef struct merge_vocab {
    uint32_t special; /* tokens of this number come first, then the 256 bytes, then what was merged */
    uint32_t size, room;
    size_t *ends; /* [room] where the bytes of each token end */
    uint8_t *bytes;
    size_t bytes_room;
    merge_pair *merges; /* [size - special - 256] */
} merge_vocab;

static inline const uint8_t *merge_vocab_piece(const merge_vocab *vocab, uint32_t id, size_t *count_out) {
    size_t begin = id > 0 ? vocab->ends[id - 1] : 0;
    *count_out = vocab->ends[id] - begin;
    return vocab->bytes + begin;
}

typedef struct merger merger;

/**
 * Takes the words out of the tables, which are cleared one by one.
 *
 * @param byte_order [256] the bytes in the order of their ids
 * @param vocab_size with the special tokens and the bytes
 * @retval MST_ENOMEM; MST_EUNSUPPORTED more than 4 GiB of distinct words
 */
mst_status merger_create(word_table *tables, size_t table_count, uint32_t special,
                         const uint8_t byte_order[256], uint32_t vocab_size, merger **merger_out);
void merger_destroy(merger **m);

/** Says of the bytes of a token whether it may not come to be; then its pair stays apart for ever. */
typedef bool merge_refusal(void *context, const uint8_t *bytes, size_t count);

/**
 * Does one merge.
 *
 * @param refuse may be NULL
 * @param done_out true: the vocabulary is full, or no pair stands twice in the text
 * @retval MST_ENOMEM
 */
mst_status merger_step(merger *m, merge_refusal *refuse, void *context, bool *done_out);

const merge_vocab *merger_vocab(const merger *m);
/** Distinct words, and tokens of the whole text as it is cut now. */
uint64_t merger_words(const merger *m);
uint64_t merger_tokens(const merger *m);

#endif
