#include "added.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "unicode.h"

typedef struct added_edge {
    uint64_t key; /* node << 8 | byte, and 1 << 63; 0: empty */
    uint32_t to;
} added_edge;

void added_clear(added_set *set) {
    free(set->tokens);
    free(set->edges);
    free(set->token_at);
    *set = (added_set){0};
}

/* ---- the trie; node 0 is its root ---- */

static added_edge *find_edge(const added_set *set, uint32_t node, uint8_t byte) {
    uint64_t key = (uint64_t)1 << 63 | (uint64_t)node << 8 | byte;
    size_t mask = set->slot_count - 1, at = hash_mix(key ^ set->seed) & mask;
    while (set->edges[at].key != key && set->edges[at].key != 0) at = (at + 1) & mask;
    return &set->edges[at];
}

static mst_status grow_edges(added_set *set) {
    added_edge *old = set->edges;
    size_t old_count = set->slot_count;
    if (2 * (set->edge_count + 1) <= old_count) return MST_OK;
    set->edges = calloc(old_count == 0 ? 256 : 2 * old_count, sizeof *set->edges);
    if (set->edges == NULL) {
        set->edges = old;
        return mst_error(MST_ENOMEM, "added tokens: no memory");
    }
    set->slot_count = old_count == 0 ? 256 : 2 * old_count;
    set->seed = hash_seed();
    for (size_t i = 0; i < old_count; i++)
        if (old[i].key != 0) *find_edge(set, (uint32_t)(old[i].key << 1 >> 9), (uint8_t)old[i].key) = old[i];
    free(old);
    return MST_OK;
}

static mst_status new_node(added_set *set) {
    if (set->node_count == set->node_room) {
        size_t room = set->node_room == 0 ? 256 : 2 * set->node_room;
        int32_t *grown = room > UINT32_MAX ? NULL : realloc(set->token_at, room * sizeof *grown);
        if (grown == NULL) return mst_error(MST_ENOMEM, "added tokens: no memory");
        set->token_at = grown;
        set->node_room = room;
    }
    set->token_at[set->node_count++] = -1;
    return MST_OK;
}

/* The node behind a byte, made where there is none. */
static mst_status step_into(added_set *set, uint32_t *node, uint8_t byte) {
    mst_status status = grow_edges(set);
    if (status != MST_OK) return status;
    added_edge *edge = find_edge(set, *node, byte);
    if (edge->key == 0) {
        status = new_node(set);
        if (status != MST_OK) return status;
        *edge = (added_edge){.key = (uint64_t)1 << 63 | (uint64_t)*node << 8 | byte,
                             .to = (uint32_t)set->node_count - 1};
        set->edge_count++;
    }
    *node = edge->to;
    return MST_OK;
}

static mst_status append(added_set *set, added_token token) {
    if (set->count == set->room) {
        size_t room = set->room == 0 ? 64 : 2 * set->room;
        added_token *grown = realloc(set->tokens, room * sizeof *grown);
        if (grown == NULL) return mst_error(MST_ENOMEM, "added tokens: no memory");
        set->tokens = grown;
        set->room = room;
    }
    set->tokens[set->count++] = token;
    return MST_OK;
}

mst_status added_add(added_set *set, const uint8_t *bytes, size_t count, added_token token) {
    uint32_t node = 0;
    mst_status status = set->node_count == 0 ? new_node(set) : MST_OK;
    if (count == 0) return mst_error(MST_EFORMAT, "an empty added token");
    if (count > ADDED_BYTES_MAX)
        return mst_error(MST_EUNSUPPORTED, "an added token of %zu bytes; at most %d are supported", count,
                         ADDED_BYTES_MAX);
    for (size_t i = 0; i < count && status == MST_OK; i++) status = step_into(set, &node, bytes[i]);
    if (status == MST_OK && set->token_at[node] >= 0)
        status = mst_error(MST_EFORMAT, "the added token stands twice");
    if (status == MST_OK) status = append(set, token);
    if (status != MST_OK) return status;
    set->token_at[node] = (int32_t)set->count - 1;
    set->first[bytes[0]] = true;
    return MST_OK;
}

/* The longest token that begins at a place: its number; -1: none. */
static int32_t longest(const added_set *set, const uint8_t *text, size_t count, size_t *length_out) {
    uint32_t node = 0;
    int32_t found = -1;
    for (size_t i = 0; i < count; i++) {
        const added_edge *edge = find_edge(set, node, text[i]);
        if (edge->key == 0) break;
        node = edge->to;
        if (set->token_at[node] < 0) continue;
        found = set->token_at[node];
        *length_out = i + 1;
    }
    return found;
}

/* ---- the flags ---- */

/* The character before a place; 0: there is none, or no UTF-8. */
static uint32_t character_before(const uint8_t *text, size_t at, size_t *start_out) {
    size_t length;
    if (at == 0) return 0;
    *start_out = utf8_before(text, at);
    if (utf8_length(text + *start_out, at - *start_out) != at - *start_out) return 0;
    return utf8_decode(text + *start_out, &length);
}

static uint32_t character_behind(const uint8_t *text, size_t count, size_t at, size_t *end_out) {
    size_t length = utf8_length(text + at, count - at);
    *end_out = at + length;
    return length == 0 ? 0 : utf8_decode(text + at, &length);
}

static bool is_single(const uint8_t *text, size_t count, size_t start, size_t end) {
    size_t ignored;
    return !unicode_is_word(character_before(text, start, &ignored)) &&
           !unicode_is_word(character_behind(text, count, end, &ignored));
}

static size_t strip_left(const uint8_t *text, size_t from, size_t start) {
    size_t before;
    while (start > from && unicode_is_space(character_before(text, start, &before))) start = before;
    return start < from ? from : start;
}

static size_t strip_right(const uint8_t *text, size_t count, size_t end) {
    size_t behind;
    while (end < count && unicode_is_space(character_behind(text, count, end, &behind))) end = behind;
    return end;
}

/* ---- searching ---- */

/* The next match that its flags allow, as a piece. */
static bool find_match(const added_set *set, const uint8_t *text, size_t count, added_search *s,
                       added_piece *piece) {
    for (size_t at = s->from, length = 0; at < count; at++) {
        int32_t number = set->first[text[at]] ? longest(set, text + at, count - at, &length) : -1;
        if (number < 0) continue;
        const added_token *token = &set->tokens[number];
        size_t end = at + length;
        s->from = end;
        if (token->single_word && !is_single(text, count, at, end)) {
            at = end - 1;
            continue;
        }
        size_t start = token->lstrip ? strip_left(text, s->done, at) : at;
        *piece = (added_piece){start, token->rstrip ? strip_right(text, count, end) : end, token->id};
        return true;
    }
    s->from = count;
    return false;
}

bool added_next(const added_set *set, const uint8_t *text, size_t count, added_search *s,
                added_piece *piece_out) {
    added_piece match;
    if (s->waits) {
        *piece_out = s->next;
        s->waits = false;
        return true;
    }
    while (set->count > 0 && find_match(set, text, count, s, &match)) {
        if (match.start >= match.end) continue; /* the white space that it is was taken by the token before */
        bool gap = s->done < match.start;
        *piece_out = gap ? (added_piece){s->done, match.start, -1} : match;
        s->next = match;
        s->waits = gap;
        s->done = match.end;
        return true;
    }
    if (s->done >= count) return false;
    *piece_out = (added_piece){s->done, count, -1};
    s->done = s->from = count;
    return true;
}
