/* Byte-pair encoding of one word: the merges of a tokenizer, and a cache of what words became. Private to the room. */
#ifndef TOKENIZER_BPE_H
#define TOKENIZER_BPE_H

#include "muster/tokenizer.h"
#include "vocab.h"

typedef struct bpe bpe;

/**
 * Makes a model without merges. Not collective.
 * @param v its tokens of one byte are where words begin; kept, must outlive the model, and must be whole already
 * @param whole_words a word that is a token is that token, whatever the merges say (ignore_merges)
 * @param merges how many are added at most
 * @retval MST_ENOMEM
 */
mst_status bpe_create(const vocab *v, bool whole_words, size_t merges, bpe **model_out);
void bpe_destroy(bpe **model);

/** Adds the next merge; of two for one pair the later one holds. */
void bpe_add_merge(bpe *model, int32_t left, int32_t right, int32_t merged);

/**
 * Appends the tokens of a word: of all neighbours, those of the earliest merge are merged, the leftmost first, until none is left.
 *
 * Not collective. Threads: a model keeps a cache and scratch memory, so one for each thread.
 * Time: n log n for n bytes; words of at most 24 bytes come from the cache.
 * @retval MST_EUNSUPPORTED a byte that the vocabulary lacks, a word of 2 GiB; MST_ENOMEM
 */
mst_status bpe_encode(bpe *model, const uint8_t *word, size_t count, mst_token_list *tokens);

#endif
