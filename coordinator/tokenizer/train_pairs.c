#include "train_pairs.h"

#include <stdlib.h>

#define EMPTY UINT64_MAX /* no pair: ids are below 2^31 */

enum { FIRST_SLOTS = 1024 };

/* ---- the table ---- */

static pair_record *find(const pair_set *set, pair_key key) {
    size_t mask = set->slot_count - 1;
    uint64_t hash = key * UINT64_C(0x9E3779B97F4A7C15); /* 2^64 / golden ratio */
    for (size_t at = (size_t)(hash ^ hash >> 32) & mask;; at = (at + 1) & mask) {
        pair_record *slot = &set->slots[at];
        if (slot->key == key || slot->key == EMPTY) return slot;
    }
}

/* Makes room for another record; those that are gone are left out. */
static mst_status reserve(pair_set *set) {
    if (4 * (set->used + 1) <= 3 * set->slot_count) return MST_OK;
    size_t alive = 0;
    for (size_t i = 0; i < set->slot_count; i++)
        alive += set->slots[i].key != EMPTY && set->slots[i].count > 0;
    pair_set larger = {.slot_count = FIRST_SLOTS, .used = alive};
    while (larger.slot_count < 2 * (alive + 1)) larger.slot_count *= 2;
    larger.slots = malloc(larger.slot_count * sizeof *larger.slots);
    if (larger.slots == NULL)
        return mst_error(MST_ENOMEM, "out of memory for %zu pairs of tokens; train on less text", alive);
    for (size_t i = 0; i < larger.slot_count; i++) larger.slots[i] = (pair_record){.key = EMPTY};
    for (size_t i = 0; i < set->slot_count; i++)
        if (set->slots[i].key != EMPTY && set->slots[i].count > 0)
            *find(&larger, set->slots[i].key) = set->slots[i];
    free(set->slots);
    set->slots = larger.slots;
    set->slot_count = larger.slot_count;
    set->used = larger.used;
    return MST_OK;
}

/* ---- the heap ---- */

static bool is_before(pair_rank a, pair_rank b) {
    return a.count != b.count ? a.count > b.count : a.key < b.key;
}

static mst_status heap_push(pair_set *set, pair_rank rank) {
    if (set->heap_count == set->heap_room) {
        size_t room = set->heap_room > 0 ? set->heap_room + set->heap_room / 2 : FIRST_SLOTS;
        pair_rank *heap = realloc(set->heap, room * sizeof *heap);
        if (heap == NULL)
            return mst_error(MST_ENOMEM, "out of memory to rank %zu pairs of tokens; train on less text",
                             room);
        set->heap = heap;
        set->heap_room = room;
    }
    size_t at = set->heap_count++;
    for (; at > 0 && is_before(rank, set->heap[(at - 1) / 2]); at = (at - 1) / 2)
        set->heap[at] = set->heap[(at - 1) / 2];
    set->heap[at] = rank;
    return MST_OK;
}

/* Puts a rank in the place of the first one, and lets it sink to where it belongs. */
static void heap_sink(pair_set *set, pair_rank rank) {
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < set->heap_count; at = child) {
        if (child + 1 < set->heap_count && is_before(set->heap[child + 1], set->heap[child])) child++;
        if (!is_before(set->heap[child], rank)) break;
        set->heap[at] = set->heap[child];
    }
    set->heap[at] = rank;
}

static void heap_drop(pair_set *set) {
    pair_rank last = set->heap[--set->heap_count];
    if (set->heap_count > 0) heap_sink(set, last);
}

/* ---- both ---- */

mst_status pair_set_add(pair_set *set, pair_key key, uint64_t count, pair_places places) {
    mst_status status = MST_OK;
    MST_TRY(reserve(set));
    MST_TRY(heap_push(set, (pair_rank){key, count}));
    pair_record *record = find(set, key);
    set->used += record->key == EMPTY;
    *record = (pair_record){key, count, places};
    places.count = 0;
done:
    pair_places_clear(&places);
    return status;
}

static void remove_record(pair_record *record) {
    pair_places_clear(&record->places);
    record->count = 0;
}

void pair_set_subtract(pair_set *set, pair_key key, uint64_t count) {
    if (set->slot_count == 0) return;
    pair_record *record = find(set, key);
    if (record->key == EMPTY || record->count == 0) return;
    record->count -= count;
    if (record->count < PAIR_COUNT_LEAST) remove_record(record);
}

bool pair_set_take(pair_set *set, pair_key *key_out, pair_places *places_out) {
    while (set->heap_count > 0) {
        pair_rank first = set->heap[0];
        pair_record *record = find(set, first.key);
        uint64_t count = record->key == EMPTY ? 0 : record->count;
        if (count == 0) {
            heap_drop(set);
        } else if (count < first.count) { /* its rank is out of date */
            heap_sink(set, (pair_rank){first.key, count});
        } else {
            heap_drop(set);
            *key_out = first.key;
            *places_out = record->places;
            record->places.count = 0;
            record->count = 0;
            return true;
        }
    }
    return false;
}

void pair_places_clear(pair_places *places) {
    if (places->count > 1) free(places->at.many);
    places->count = 0;
}

void pair_set_clear(pair_set *set) {
    for (size_t i = 0; i < set->slot_count; i++)
        if (set->slots[i].key != EMPTY) pair_places_clear(&set->slots[i].places);
    free(set->slots);
    free(set->heap);
    *set = (pair_set){0};
}
