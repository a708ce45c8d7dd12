#include "digest_set.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 1024 };

/* The slot that holds the key, or the empty one where it belongs. */
static digest_key *find(const digest_set *set, digest_key key) {
    size_t mask = set->slot_count - 1;
    size_t at = (size_t)key.low & mask; /* the key is a hash already */
    for (;; at = (at + 1) & mask) {
        digest_key *slot = &set->slots[at];
        bool empty = slot->low == 0 && slot->high == 0;
        if (empty || (slot->low == key.low && slot->high == key.high)) return slot;
    }
}

static mst_status grow(digest_set *set) {
    digest_set larger = {.slot_count = set->slot_count > 0 ? 2 * set->slot_count : FIRST_SLOTS,
                         .used = set->used};
    larger.slots = calloc(larger.slot_count, sizeof *larger.slots);
    if (larger.slots == NULL)
        return mst_error(MST_ENOMEM,
                         "out of memory to remember %zu documents (%zu MiB); build fewer files at once",
                         set->used, larger.slot_count * sizeof *larger.slots >> 20);
    for (size_t i = 0; i < set->slot_count; i++)
        if (set->slots[i].low != 0 || set->slots[i].high != 0) *find(&larger, set->slots[i]) = set->slots[i];
    free(set->slots);
    *set = larger;
    return MST_OK;
}

mst_status digest_set_add(digest_set *set, const mst_digest *digest, bool *new_out) {
    if (3 * set->used >= 2 * set->slot_count) {
        mst_status status = grow(set);
        if (status != MST_OK) return status;
    }
    digest_key key;
    memcpy(&key.low, digest->bytes, 8);
    memcpy(&key.high, digest->bytes + 8, 8);
    if (key.low == 0 && key.high == 0) key.low = 1;
    digest_key *slot = find(set, key);
    *new_out = slot->low == 0 && slot->high == 0;
    if (*new_out) {
        *slot = key;
        set->used++;
    }
    return MST_OK;
}

void digest_set_clear(digest_set *set) {
    free(set->slots);
    *set = (digest_set){0};
}
