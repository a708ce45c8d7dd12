/* Counts the words of documents on many threads. */
#ifndef TOKENIZER_TRAIN_COUNT_H
#define TOKENIZER_TRAIN_COUNT_H

#include "train_scheme.h"
#include "train_words.h"

enum { WORD_SHARDS = 64 };

typedef struct word_counter word_counter;

/** @param threads from 1 @retval MST_ENOMEM */
mst_status word_counter_create(const train_scheme *scheme, bool digits, size_t threads,
                               word_counter **counter_out);
void word_counter_destroy(word_counter **counter);

/**
 * Counts the words of a document's first part, now or later: a batch of text is collected, and then counted on all threads.
 *
 * @param count of the document's bytes that are left, from 1
 * @param taken_out how many of them the part has; the next call begins behind them
 * @retval MST_ENOMEM; MST_EFORMAT as pretokenizer_walk
 */
mst_status word_counter_add(word_counter *counter, const uint8_t *bytes, size_t count, size_t *taken_out);
/** Counts what was collected. */
mst_status word_counter_finish(word_counter *counter);

/** The words in WORD_SHARDS tables: each word is in one of them. Their order depends on the threads.
 * The caller may clear a table that it has read. */
word_table *word_counter_tables(word_counter *counter);
/** Words counted so far, with those that are equal. */
uint64_t word_counter_words(const word_counter *counter);

#endif
