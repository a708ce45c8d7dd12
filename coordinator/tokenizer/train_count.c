/*
 * Documents are collected into a batch, long ones in parts; the threads of a queue take the batch's tasks, count the words of each in a
 * table of their own, and add that to the common tables. Each of these has a lock. Sums of whole numbers do not depend on who adds
 * first, so neither do the counts on the number of threads.
 */
#include "train_count.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "muster/queue.h"

enum {
    BATCH_BYTES = 16 << 20,
    TASK_BYTES = 256 << 10, /* of the batch, for one thread at a time */
    PART_BYTES = 256 << 10, /* of a long document */
    SHARD_SHIFT = 32 - 6    /* the hash's highest bits say which of the 64 tables */
};

typedef struct word_worker {
    uint64_t seed; /* of the hash, the same for all */
    pretokenizer *pretokenizer;
    word_table words; /* of one task */
    uint64_t total;   /* words seen by this thread */
} word_worker;

struct word_counter {
    mst_queue *queue;
    size_t threads, lock_count;
    word_worker *workers; /* [threads] */
    pthread_mutex_t locks[WORD_SHARDS];
    word_table tables[WORD_SHARDS];
    uint8_t *batch;
    size_t used, room;
    size_t *starts; /* of the batch's texts */
    size_t text_count, text_room;
};

mst_status word_counter_create(const train_scheme *scheme, bool digits, size_t threads,
                               word_counter **counter_out) {
    mst_status status = MST_OK;
    const uint64_t seed = hash_seed();
    word_counter *c = calloc(1, sizeof *c);
    MST_CHECK(c != NULL, MST_ENOMEM, "out of memory to count words");
    c->workers = calloc(threads, sizeof *c->workers);
    c->batch = malloc(BATCH_BYTES);
    MST_CHECK(c->workers != NULL && c->batch != NULL, MST_ENOMEM, "out of memory to count words");
    c->threads = threads;
    c->room = BATCH_BYTES;
    for (size_t i = 0; i < threads; i++) {
        c->workers[i].seed = seed;
        MST_TRY(train_scheme_pretokenizer(scheme, digits, &c->workers[i].pretokenizer));
    }
    for (; c->lock_count < WORD_SHARDS; c->lock_count++)
        MST_CHECK(pthread_mutex_init(&c->locks[c->lock_count], NULL) == 0, MST_ENOMEM,
                  "out of memory to count words");
    MST_TRY(mst_queue_create((int)threads, &c->queue));
    *counter_out = c;
    c = NULL;
done:
    word_counter_destroy(&c);
    return status;
}

void word_counter_destroy(word_counter **counter) {
    word_counter *c = *counter;
    *counter = NULL;
    if (c == NULL) return;
    mst_queue_destroy(&c->queue);
    for (size_t i = 0; i < c->threads; i++) {
        pretokenizer_destroy(&c->workers[i].pretokenizer);
        word_table_clear(&c->workers[i].words);
    }
    for (size_t i = 0; i < c->lock_count; i++) pthread_mutex_destroy(&c->locks[i]);
    for (size_t i = 0; i < WORD_SHARDS; i++) word_table_clear(&c->tables[i]);
    free(c->workers);
    free(c->batch);
    free(c->starts);
    free(c);
}

/* ---- counting ---- */

static mst_status count_word(void *context, const uint8_t *word, size_t count) {
    mst_status status = MST_OK;
    word_worker *w = context;
    w->total++;
    for (size_t part; count > 0; word += part, count -= part) {
        part = count < WORD_BYTES_MAX ? count : WORD_BYTES_MAX;
        MST_TRY(word_table_add(&w->words, word, part, (uint32_t)(hash_bytes(word, part, w->seed) >> 32), 1));
    }
done:
    return status;
}

/* Adds the words of a task to the common tables. */
static mst_status hand_in(word_counter *c, const word_table *words) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < words->count && status == MST_OK; i++) {
        const counted_word *w = &words->words[i];
        size_t shard = w->hash >> SHARD_SHIFT;
        pthread_mutex_lock(&c->locks[shard]);
        status = word_table_add(&c->tables[shard], words->bytes + w->at, w->length, w->hash, w->count);
        pthread_mutex_unlock(&c->locks[shard]);
    }
    return status;
}

/* The first text that begins at `at` or behind it. */
static size_t text_from(const word_counter *c, size_t at) {
    size_t low = 0, high = c->text_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->starts[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A task: the texts that begin inside a stretch of TASK_BYTES. */
static mst_status count_task(void *context, size_t task, int thread) {
    mst_status status = MST_OK;
    word_counter *c = context;
    word_worker *w = &c->workers[thread];
    size_t end = text_from(c, (task + 1) * TASK_BYTES);
    word_table_empty(&w->words);
    for (size_t i = text_from(c, task * TASK_BYTES); i < end; i++) {
        size_t text_end = i + 1 < c->text_count ? c->starts[i + 1] : c->used;
        MST_TRY(pretokenizer_walk(w->pretokenizer, c->batch + c->starts[i], text_end - c->starts[i],
                                  count_word, w));
    }
    MST_TRY(hand_in(c, &w->words));
done:
    return status;
}

mst_status word_counter_finish(word_counter *c) {
    mst_status status = mst_queue_for(c->queue, (c->used + TASK_BYTES - 1) / TASK_BYTES, count_task, c);
    c->used = c->text_count = 0;
    return status;
}

/* ---- collecting ---- */

static bool is_letter(uint8_t byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

/* Between a letter and a space before a letter every pattern cuts, whatever else stands around. */
static bool is_cut(const uint8_t *at) {
    return at[0] == ' ' && is_letter(at[-1]) && is_letter(at[1]);
}

/* How much of a document to take as one text: about PART_BYTES, such that the words are those of the whole. */
static size_t part_of(const uint8_t *bytes, size_t count) {
    if (count <= PART_BYTES + PART_BYTES / 2) return count;
    for (size_t at = PART_BYTES; at > 0; at--)
        if (is_cut(bytes + at)) return at;
    for (size_t at = PART_BYTES + 1; at < count - 1; at++)
        if (is_cut(bytes + at)) return at;
    return count;
}

/* Appends a text to the batch; one that is longer than the batch makes it longer. */
static mst_status collect(word_counter *c, const uint8_t *bytes, size_t count) {
    mst_status status = MST_OK;
    if (count > c->room - c->used && c->used > 0) MST_TRY(word_counter_finish(c));
    if (count > c->room) {
        uint8_t *batch = realloc(c->batch, count);
        MST_CHECK(batch != NULL, MST_ENOMEM, "out of memory for a text of %zu bytes", count);
        c->batch = batch;
        c->room = count;
    }
    if (c->text_count == c->text_room) {
        size_t room = c->text_room > 0 ? 2 * c->text_room : 1024;
        size_t *starts = realloc(c->starts, room * sizeof *starts);
        MST_CHECK(starts != NULL, MST_ENOMEM, "out of memory for %zu texts", room);
        c->starts = starts;
        c->text_room = room;
    }
    memcpy(c->batch + c->used, bytes, count);
    c->starts[c->text_count++] = c->used;
    c->used += count;
done:
    return status;
}

mst_status word_counter_add(word_counter *c, const uint8_t *bytes, size_t count, size_t *taken_out) {
    *taken_out = part_of(bytes, count);
    return collect(c, bytes, *taken_out);
}

word_table *word_counter_tables(word_counter *c) {
    return c->tables;
}

uint64_t word_counter_words(const word_counter *c) {
    uint64_t words = 0;
    for (size_t i = 0; i < c->threads; i++) words += c->workers[i].total;
    return words;
}
