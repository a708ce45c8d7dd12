/* The tokens of a tokenizer: by id and by content. Private to the room. */
#ifndef TOKENIZER_VOCAB_H
#define TOKENIZER_VOCAB_H

#include "muster/tokenizer.h"

/* Ids lie below this, which bounds the memory that a file can ask for. */
enum { VOCAB_IDS_MAX = 1 << 21 };

typedef struct vocab_entry {
    size_t content, bytes; /* where they begin in `text` */
    uint32_t content_count, byte_count;
    bool there, spelled; /* there is such a token; it is spelled in the alphabet */
    bool special;
} vocab_entry;

/** Begin with {0}. */
typedef struct vocab {
    mst_byte_list text;
    vocab_entry *entries; /* by id */
    size_t size, room;    /* one more than the highest id */
    size_t count;         /* tokens */
    int32_t *slots;       /* by hash of the content: id, or -1 */
    size_t slot_count;    /* 0 or a power of two */
    uint64_t seed;
} vocab;

void vocab_clear(vocab *v);

/**
 * Adds a token. Not collective.
 * @param content UTF-8, not empty; copied
 * @param literal it stands for its content, however it is spelled; else for the bytes that its characters are in the alphabet, or, where
 * one is not of it, for its content
 * @retval MST_EFORMAT an id that is out of range or taken, a content that is taken; MST_ENOMEM
 */
mst_status vocab_add(vocab *v, const char *content, size_t count, int64_t id, bool literal);

/** The id of a content; -1: none. */
int32_t vocab_find(const vocab *v, const char *content, size_t count);

#endif
