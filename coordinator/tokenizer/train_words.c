#include "train_words.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 1024 };

static mst_status no_memory(const word_table *table) {
    return mst_error(MST_ENOMEM, "out of memory for %zu distinct words; train on less text", table->count);
}

/* The slot of a word, or the empty one where it belongs. */
static uint32_t *find(const word_table *table, const uint8_t *bytes, size_t length, uint32_t hash) {
    size_t mask = table->slot_count - 1;
    for (size_t at = hash & mask;; at = (at + 1) & mask) {
        uint32_t *slot = &table->slots[at];
        if (*slot == 0) return slot;
        const counted_word *w = &table->words[*slot - 1];
        if (w->hash == hash && w->length == length && memcmp(table->bytes + w->at, bytes, length) == 0)
            return slot;
    }
}

static mst_status grow_slots(word_table *table) {
    size_t count = table->slot_count > 0 ? 2 * table->slot_count : FIRST_SLOTS, mask = count - 1;
    /* a slot holds 32 bits of index, a word 32 bits of hash */
    uint32_t *slots = count <= UINT32_MAX ? calloc(count, sizeof *slots) : NULL;
    if (slots == NULL) return no_memory(table);
    for (size_t i = 0; i < table->count; i++) {
        size_t at = table->words[i].hash & mask;
        while (slots[at] != 0) at = (at + 1) & mask;
        slots[at] = (uint32_t)i + 1;
    }
    free(table->slots);
    table->slots = slots;
    table->slot_count = count;
    return MST_OK;
}

static mst_status append(word_table *table, const uint8_t *bytes, size_t length, uint32_t hash) {
    if (table->count == table->room) {
        size_t room = table->room > 0 ? table->room + table->room / 2 : 256;
        counted_word *words = realloc(table->words, room * sizeof *words);
        if (words == NULL) return no_memory(table);
        table->words = words;
        table->room = room;
    }
    if (length > table->bytes_room - table->bytes_used) {
        size_t room = table->bytes_room + table->bytes_room / 2 + length + 1024;
        uint8_t *grown = realloc(table->bytes, room);
        if (grown == NULL) return no_memory(table);
        table->bytes = grown;
        table->bytes_room = room;
    }
    memcpy(table->bytes + table->bytes_used, bytes, length);
    table->words[table->count++] =
        (counted_word){.at = table->bytes_used, .length = (uint32_t)length, .hash = hash};
    table->bytes_used += length;
    return MST_OK;
}

mst_status word_table_add(word_table *table, const uint8_t *bytes, size_t length, uint32_t hash,
                          uint64_t count) {
    mst_status status = MST_OK;
    if (3 * table->count >= 2 * table->slot_count) MST_TRY(grow_slots(table));
    uint32_t *slot = find(table, bytes, length, hash);
    if (*slot == 0) {
        MST_TRY(append(table, bytes, length, hash));
        *slot = (uint32_t)table->count;
    }
    table->words[*slot - 1].count += count;
done:
    return status;
}

void word_table_empty(word_table *table) {
    table->count = table->bytes_used = 0;
    if (table->slot_count > 0) memset(table->slots, 0, table->slot_count * sizeof *table->slots);
}

void word_table_clear(word_table *table) {
    free(table->bytes);
    free(table->words);
    free(table->slots);
    *table = (word_table){0};
}
