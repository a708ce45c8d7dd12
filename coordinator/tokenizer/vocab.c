#include "vocab.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "alphabet.h"
#include "hash.h"
#include "lists.h"

void vocab_clear(vocab *v) {
    free(v->text.at);
    free(v->entries);
    free(v->slots);
    *v = (vocab){0};
}

/* The slot of a content: its own, or the empty one where it belongs. */
static size_t find_slot(const vocab *v, const uint8_t *content, size_t count) {
    size_t mask = v->slot_count - 1, at = hash_bytes(content, count, v->seed) & mask;
    for (; v->slots[at] >= 0; at = (at + 1) & mask) {
        const vocab_entry *entry = &v->entries[v->slots[at]];
        if (entry->content_count == count && memcmp(v->text.at + entry->content, content, count) == 0) break;
    }
    return at;
}

int32_t vocab_find(const vocab *v, const char *content, size_t count) {
    return v->slot_count == 0 ? -1 : v->slots[find_slot(v, (const uint8_t *)content, count)];
}

/* Keeps the table at most half full. */
static mst_status grow_slots(vocab *v) {
    if (v->count + 1 <= v->slot_count / 2) return MST_OK;
    size_t slot_count = v->slot_count == 0 ? 1024 : 2 * v->slot_count;
    int32_t *slots = malloc(slot_count * sizeof *slots);
    if (slots == NULL) return mst_error(MST_ENOMEM, "vocabulary: no memory");
    memset(slots, 0xFF, slot_count * sizeof *slots);
    free(v->slots);
    v->slots = slots;
    v->slot_count = slot_count;
    v->seed = hash_seed();
    for (size_t id = 0; id < v->size; id++) {
        const vocab_entry *entry = &v->entries[id];
        if (entry->there)
            slots[find_slot(v, v->text.at + entry->content, entry->content_count)] = (int32_t)id;
    }
    return MST_OK;
}

static mst_status grow_entries(vocab *v, size_t id) {
    if (id >= v->room) {
        size_t room = v->room < 512 ? 512 : v->room;
        while (room <= id) room *= 2;
        vocab_entry *entries = realloc(v->entries, room * sizeof *entries);
        if (entries == NULL) return mst_error(MST_ENOMEM, "vocabulary: no memory");
        v->entries = entries;
        v->room = room;
    }
    if (id >= v->size) memset(v->entries + v->size, 0, (id + 1 - v->size) * sizeof *v->entries);
    if (id >= v->size) v->size = id + 1;
    return MST_OK;
}

/* Stores what a token is called and what it stands for, which is often the same. */
static mst_status fill(vocab *v, vocab_entry *entry, const uint8_t *content, size_t count, bool literal) {
    mst_status status = byte_list_reserve(&v->text, 2 * count);
    if (status != MST_OK) return status;
    uint8_t *at = v->text.at + v->text.count;
    memcpy(at, content, count);
    size_t bytes = alphabet_bytes(content, count, at + count);
    *entry = (vocab_entry){.content = v->text.count, .bytes = v->text.count, .there = true};
    entry->content_count = entry->byte_count = (uint32_t)count;
    entry->spelled = bytes != SIZE_MAX;
    v->text.count += count;
    if (entry->spelled && !literal && (bytes != count || memcmp(at, at + count, bytes) != 0)) {
        entry->bytes = v->text.count;
        entry->byte_count = (uint32_t)bytes;
        v->text.count += bytes;
    }
    return MST_OK;
}

mst_status vocab_add(vocab *v, const char *content, size_t count, int64_t id, bool literal) {
    if (id < 0 || id >= VOCAB_IDS_MAX)
        return mst_error(MST_EFORMAT, "id %" PRId64 " is out of range (0 to %d)", id, VOCAB_IDS_MAX - 1);
    if (count == 0 || count > UINT32_MAX / 4) return mst_error(MST_EFORMAT, "a token of %zu bytes", count);
    if (vocab_find(v, content, count) >= 0) return mst_error(MST_EFORMAT, "the token stands twice");
    mst_status status = grow_entries(v, (size_t)id);
    if (status == MST_OK) status = grow_slots(v);
    if (status != MST_OK) return status;
    vocab_entry *entry = &v->entries[id];
    if (entry->there)
        return mst_error(MST_EFORMAT, "id %" PRId64 " is that of '%.*s'", id,
                         (int)(entry->content_count < 60 ? entry->content_count : 60),
                         (const char *)v->text.at + entry->content);
    size_t slot = find_slot(v, (const uint8_t *)content, count);
    status = fill(v, entry, (const uint8_t *)content, count, literal);
    if (status != MST_OK) return status;
    v->slots[slot] = (int32_t)id;
    v->count++;
    return MST_OK;
}
