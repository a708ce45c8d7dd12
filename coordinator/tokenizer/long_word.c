#include "long_word.h"

#include <stdlib.h>

enum { KEEP_MAX = 1 << 20 }; /* scratch memory for longer words is given back */

/* A word is a list of tokens that are linked by their places; a pair lives at the place of its left token. The heap has every
 * pair that a merge exists for, and old ones: the rank at the place tells them apart, as no two pairs have one rank. */

void long_word_clear(long_word *s) {
    free(s->next);
    free(s->previous);
    free(s->rank);
    free(s->heap);
    *s = (long_word){0};
}

static mst_status reserve(long_word *s, size_t count) {
    if (count <= s->room) return MST_OK;
    if (count > INT32_MAX) return mst_error(MST_EUNSUPPORTED, "a word of %zu bytes", count);
    long_word_clear(s);
    s->next = malloc(count * sizeof *s->next);
    s->previous = malloc(count * sizeof *s->previous);
    s->rank = malloc(count * sizeof *s->rank);
    s->heap =
        malloc(3 * count * sizeof *s->heap); /* one for each pair at first, and two more for each merge */
    if (s->next == NULL || s->previous == NULL || s->rank == NULL || s->heap == NULL) {
        long_word_clear(s);
        return mst_error(MST_ENOMEM, "no memory for a word of %zu bytes", count);
    }
    s->room = count;
    return MST_OK;
}

static void push(long_word *s, uint64_t entry) {
    size_t at = s->heap_count++;
    for (size_t up; at > 0 && s->heap[up = (at - 1) / 2] > entry; at = up) s->heap[at] = s->heap[up];
    s->heap[at] = entry;
}

static uint64_t pop(long_word *s) {
    uint64_t top = s->heap[0], last = s->heap[--s->heap_count];
    size_t at = 0, down;
    while ((down = 2 * at + 1) < s->heap_count) {
        if (down + 1 < s->heap_count && s->heap[down + 1] < s->heap[down]) down++;
        if (s->heap[down] >= last) break;
        s->heap[at] = s->heap[down];
        at = down;
    }
    s->heap[at] = last;
    return top;
}

/* Looks the pair at a place up. */
static void look(long_word *s, const merge_table *merges, const int32_t *tokens, uint32_t at,
                 uint32_t count) {
    uint32_t right = s->next[at];
    s->rank[at] = right < count ? merge_find(merges, tokens[at], tokens[right])->rank : RANK_NONE;
    if (s->rank[at] != RANK_NONE) push(s, (uint64_t)s->rank[at] << 32 | at);
}

static void merge_at(long_word *s, const merge_table *merges, int32_t *tokens, uint32_t at, uint32_t count) {
    uint32_t right = s->next[at], behind = s->next[right];
    tokens[at] = merge_find(merges, tokens[at], tokens[right])->merged;
    s->rank[right] = RANK_NONE;
    s->next[at] = behind;
    if (behind < count) s->previous[behind] = at;
    look(s, merges, tokens, at, count);
    if (at > 0) look(s, merges, tokens, s->previous[at], count);
}

mst_status long_word_merge(long_word *s, const merge_table *merges, int32_t *tokens, size_t count,
                           size_t *left_out) {
    mst_status status = reserve(s, count);
    uint32_t n = (uint32_t)count, left = 0;
    if (status != MST_OK) return status;
    s->heap_count = 0;
    for (uint32_t i = 0; i < n; i++) {
        s->next[i] = i + 1;
        s->previous[i] = i - 1; /* nobody asks for that of the first */
    }
    for (uint32_t i = 0; i < n; i++) look(s, merges, tokens, i, n);
    while (s->heap_count > 0) {
        uint64_t top = pop(s);
        uint32_t at = (uint32_t)top;
        if (s->rank[at] == (uint32_t)(top >> 32)) merge_at(s, merges, tokens, at, n);
    }
    for (uint32_t i = 0; i < n; i = s->next[i]) tokens[left++] = tokens[i];
    *left_out = left;
    if (s->room > KEEP_MAX) long_word_clear(s);
    return MST_OK;
}
