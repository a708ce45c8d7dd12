/*
 * The distinct words lie one behind the other in `text`, a cell for each byte, with a separator before, between and behind them. A token
 * of n bytes has n cells: the first and the last one hold its id, so that both neighbours are found from it without links; those
 * between hold nothing that is looked at. Where a token begins, longer ones may come to begin, until a merge takes it in from the left;
 * nothing ever begins there again. So "this cell holds that id" is all it takes to tell whether a place that was noted for
 * a pair still has it.
 *
 * A pair's count and places are complete when the later of its two tokens has been made: from then on both only fall. Hence a pair that
 * is too rare at that time need not be kept, and the heap's counts are upper bounds.
 */
#include "train_merge.h"

#include <stdlib.h>
#include <string.h>

#include "train_pairs.h"

#define SEPARATOR UINT32_MAX
#define TAKEN     (UINT32_MAX - 1) /* a token began here and was joined with the one before */

enum { BYTES = 256 };

/* 64 cells: in which of them words begin (their separators), and how many words began before. */
typedef struct word_block {
    uint64_t begins;
    uint32_t before;
} word_block;

/* What one merge changes for the pairs with one neighbouring token on one side. */
typedef struct neighbour {
    uint64_t lost, gained; /* by the pair with the part that was joined; by the pair with the new token */
    uint32_t count, filled;
    pair_places places; /* of the pair with the new token */
} neighbour;

typedef struct event {
    uint32_t token, at;
} event;

/* All neighbours on one side of what a merge joins. */
typedef struct side {
    neighbour *of;     /* [vocab.room] by token; zeroed between merges */
    uint32_t *touched; /* [vocab.room] */
    size_t touched_count;
    event *events; /* in the order of the text */
    size_t event_count, event_room;
} side;

struct merger {
    uint32_t *text;
    size_t cells;
    word_block *blocks;
    uint64_t *counts; /* of each word of two bytes or more */
    size_t word_count;
    pair_set pairs;
    side left, right;
    merge_vocab vocab;
    uint64_t words, tokens;
};

/* ---- words ---- */

static uint32_t length_of(const merge_vocab *vocab, uint32_t id) {
    return (uint32_t)(vocab->ends[id] - (id > 0 ? vocab->ends[id - 1] : 0));
}

/* How often the word around a cell stands in the text. */
static uint64_t count_at(const merger *m, uint32_t at) {
    const word_block *block = &m->blocks[at / 64];
    uint64_t upto = block->begins & (UINT64_MAX >> (63 - at % 64));
    return m->counts[block->before + (uint32_t)__builtin_popcountll(upto) - 1];
}

static mst_status measure(merger *m, const word_table *tables, size_t table_count) {
    mst_status status = MST_OK;
    m->cells = 1;
    for (size_t t = 0; t < table_count; t++)
        for (size_t i = 0; i < tables[t].count; i++) {
            const counted_word *w = &tables[t].words[i];
            m->words++;
            m->tokens += w->count * w->length;
            if (w->length < 2) continue; /* nothing to join */
            m->word_count++;
            m->cells += w->length + 1;
        }
    MST_CHECK(m->cells < TAKEN, MST_EUNSUPPORTED,
              "the distinct words have %zu bytes together, more than 4 GiB; train on less text", m->cells);
    m->text = malloc(m->cells * sizeof *m->text);
    m->counts = malloc((m->word_count + 1) * sizeof *m->counts);
    m->blocks = calloc(m->cells / 64 + 1, sizeof *m->blocks);
    MST_CHECK(m->text != NULL && m->counts != NULL && m->blocks != NULL, MST_ENOMEM,
              "out of memory for %zu distinct words; train on less text", m->word_count);
done:
    return status;
}

static void take_words(merger *m, word_table *tables, size_t table_count, const uint32_t id_of[BYTES]) {
    size_t at = 0, word = 0;
    for (size_t t = 0; t < table_count; t++) {
        for (size_t i = 0; i < tables[t].count; i++) {
            const counted_word *w = &tables[t].words[i];
            if (w->length < 2) continue;
            m->blocks[at / 64].begins |= UINT64_C(1) << at % 64;
            m->text[at++] = SEPARATOR;
            m->counts[word++] = w->count;
            for (uint32_t k = 0; k < w->length; k++) m->text[at++] = id_of[tables[t].bytes[w->at + k]];
        }
        word_table_clear(&tables[t]);
    }
    m->text[at] = SEPARATOR;
    uint32_t before = 0;
    for (size_t i = 0; i <= m->cells / 64; i++) {
        m->blocks[i].before = before;
        before += (uint32_t)__builtin_popcountll(m->blocks[i].begins);
    }
}

/* ---- the first pairs: those of bytes ---- */

/* Makes room for the places of a pair. @return where to write them; NULL without memory */
static uint32_t *places_new(pair_places *places, uint32_t count) {
    if (count == 1) {
        places->count = 1;
        return &places->at.one;
    }
    uint32_t *many = malloc(count * sizeof *many);
    if (many == NULL) return NULL;
    *places = (pair_places){.at.many = many, .count = count};
    return many;
}

typedef struct byte_pair {
    uint64_t count;
    uint32_t places, filled;
    uint32_t *at;
    pair_places list;
} byte_pair;

/* Which pair of bytes begins at a cell; -1: none. */
static int byte_pair_at(const merger *m, size_t at) {
    uint32_t left = m->text[at], right = m->text[at + 1], first = m->vocab.special;
    return left == SEPARATOR || right == SEPARATOR ? -1 : (int)((left - first) * BYTES + (right - first));
}

static mst_status find_byte_pairs(merger *m, byte_pair *pairs) {
    mst_status status = MST_OK;
    for (size_t at = 0; at + 1 < m->cells; at++) {
        int pair = byte_pair_at(m, at);
        if (pair < 0) continue;
        pairs[pair].count += count_at(m, (uint32_t)at);
        pairs[pair].places++;
    }
    for (int i = 0; i < BYTES * BYTES; i++) {
        if (pairs[i].count < PAIR_COUNT_LEAST) continue;
        pairs[i].at = places_new(&pairs[i].list, pairs[i].places);
        MST_CHECK(pairs[i].at != NULL, MST_ENOMEM,
                  "out of memory for %u places of a pair; train on less text", pairs[i].places);
    }
    for (size_t at = 0; at + 1 < m->cells; at++) {
        int pair = byte_pair_at(m, at);
        if (pair >= 0 && pairs[pair].at != NULL) pairs[pair].at[pairs[pair].filled++] = (uint32_t)at;
    }
done:
    return status;
}

static mst_status add_byte_pairs(merger *m) {
    mst_status status = MST_OK;
    byte_pair *pairs = calloc(BYTES * BYTES, sizeof *pairs);
    MST_CHECK(pairs != NULL, MST_ENOMEM, "out of memory for pairs of bytes");
    MST_TRY(find_byte_pairs(m, pairs));
    for (uint32_t i = 0; i < BYTES * BYTES; i++) {
        if (pairs[i].at == NULL) continue;
        pair_places list = pairs[i].list;
        pairs[i].list.count = 0;
        MST_TRY(pair_set_add(&m->pairs, pair_of(m->vocab.special + i / BYTES, m->vocab.special + i % BYTES),
                             pairs[i].count, list));
    }
done:
    for (int i = 0; pairs != NULL && i < BYTES * BYTES; i++) pair_places_clear(&pairs[i].list);
    free(pairs);
    return status;
}

/* ---- making and freeing ---- */

static mst_status side_init(side *s, uint32_t room) {
    s->of = calloc(room, sizeof *s->of);
    s->touched = calloc(room, sizeof *s->touched);
    return s->of != NULL && s->touched != NULL
               ? MST_OK
               : mst_error(MST_ENOMEM, "out of memory for a vocabulary of %u tokens", room);
}

static void side_clear(side *s) {
    for (size_t i = 0; i < s->touched_count; i++) pair_places_clear(&s->of[s->touched[i]].places);
    free(s->of);
    free(s->touched);
    free(s->events);
}

static mst_status vocab_init(merge_vocab *v, uint32_t special, const uint8_t byte_order[BYTES],
                             uint32_t room) {
    mst_status status = MST_OK;
    *v = (merge_vocab){
        .special = special, .size = special + BYTES, .room = room, .bytes_room = 16 * (size_t)room};
    MST_CHECK(room >= v->size, MST_ECONFIG,
              "a vocabulary of %u tokens; the bytes and the special tokens are %u", room, v->size);
    v->ends = calloc(room, sizeof *v->ends);
    v->merges = malloc(room * sizeof *v->merges);
    v->bytes = malloc(v->bytes_room);
    MST_CHECK(v->ends != NULL && v->merges != NULL && v->bytes != NULL, MST_ENOMEM,
              "out of memory for a vocabulary of %u tokens", room);
    memcpy(v->bytes, byte_order, BYTES);
    for (uint32_t i = 0; i < BYTES; i++) v->ends[special + i] = i + 1;
done:
    return status;
}

mst_status merger_create(word_table *tables, size_t table_count, uint32_t special,
                         const uint8_t byte_order[BYTES], uint32_t vocab_size, merger **merger_out) {
    mst_status status = MST_OK;
    uint32_t id_of[BYTES];
    merger *m = calloc(1, sizeof *m);
    MST_CHECK(m != NULL, MST_ENOMEM, "out of memory to merge words");
    for (uint32_t i = 0; i < BYTES; i++) id_of[byte_order[i]] = special + i;
    MST_TRY(vocab_init(&m->vocab, special, byte_order, vocab_size));
    MST_TRY(side_init(&m->left, vocab_size));
    MST_TRY(side_init(&m->right, vocab_size));
    MST_TRY(measure(m, tables, table_count));
    take_words(m, tables, table_count, id_of);
    MST_TRY(add_byte_pairs(m));
    *merger_out = m;
    m = NULL;
done:
    merger_destroy(&m);
    return status;
}

void merger_destroy(merger **m) {
    merger *old = *m;
    *m = NULL;
    if (old == NULL) return;
    side_clear(&old->left);
    side_clear(&old->right);
    pair_set_clear(&old->pairs);
    free(old->text);
    free(old->counts);
    free(old->blocks);
    free(old->vocab.ends);
    free(old->vocab.merges);
    free(old->vocab.bytes);
    free(old);
}

/* ---- one merge ---- */

static void side_note(side *s, uint32_t token, uint32_t at, uint64_t lost, uint64_t gained) {
    neighbour *n = &s->of[token];
    if (n->count++ == 0) s->touched[s->touched_count++] = token;
    n->lost += lost;
    n->gained += gained;
    s->events[s->event_count++] = (event){token, at};
}

/* Joins the pair at a cell, if it is still there, and notes its neighbours. */
static void join_at(merger *m, merge_pair pair, uint32_t joined, uint32_t at) {
    const merge_vocab *v = &m->vocab;
    uint32_t middle = at + length_of(v, pair.left), behind = middle + length_of(v, pair.right);
    if (m->text[at] != pair.left || m->text[middle] != pair.right) return;
    uint64_t count = count_at(m, at);
    uint32_t before = m->text[at - 1], after = m->text[behind];
    if (before == joined) { /* made a moment ago: then the pair's left part was noted to be right of it */
        m->right.of[pair.left].gained -= count;
        side_note(&m->left, joined, at - length_of(v, joined), 0, count);
    } else if (before != SEPARATOR) {
        side_note(&m->left, before, at - length_of(v, before), count, count);
    }
    if (after != SEPARATOR) side_note(&m->right, after, at, count, count);
    m->text[middle] = TAKEN;
    m->text[at] = m->text[behind - 1] = joined;
    m->tokens -= count;
}

static pair_key key_on(bool is_left, uint32_t other, uint32_t token) {
    return is_left ? pair_of(other, token) : pair_of(token, other);
}

/* Brings the pairs up to date with what was noted on one side.
 * @param former the part of the merge on this side */
static mst_status side_settle(merger *m, side *s, bool is_left, uint32_t former, uint32_t joined) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < s->touched_count; i++) {
        neighbour *n = &s->of[s->touched[i]];
        if (n->lost > 0) pair_set_subtract(&m->pairs, key_on(is_left, s->touched[i], former), n->lost);
        if (n->gained >= PAIR_COUNT_LEAST)
            MST_CHECK(places_new(&n->places, n->count) != NULL, MST_ENOMEM,
                      "out of memory for %u places of a pair; train on less text", n->count);
    }
    for (size_t i = 0; i < s->event_count; i++) {
        neighbour *n = &s->of[s->events[i].token];
        if (n->places.count == 1) n->places.at.one = s->events[i].at;
        if (n->places.count > 1) n->places.at.many[n->filled++] = s->events[i].at;
    }
    while (s->touched_count > 0) {
        uint32_t token = s->touched[--s->touched_count];
        neighbour n = s->of[token];
        s->of[token] = (neighbour){0};
        if (n.places.count > 0)
            MST_TRY(pair_set_add(&m->pairs, key_on(is_left, token, joined), n.gained, n.places));
    }
    s->event_count = 0;
done:
    return status;
}

static mst_status side_reserve(side *s, size_t events) {
    if (events <= s->event_room) return MST_OK;
    free(s->events); /* they are of no use any more */
    s->event_room = 0;
    s->events = calloc(events, sizeof *s->events);
    if (s->events == NULL)
        return mst_error(MST_ENOMEM, "out of memory for %zu places of a pair; train on less text", events);
    s->event_room = events;
    return MST_OK;
}

static mst_status join_all(merger *m, merge_pair pair, uint32_t joined, const pair_places *places) {
    mst_status status = MST_OK;
    const uint32_t *at = pair_places_first(places);
    MST_TRY(side_reserve(&m->left, places->count));
    MST_TRY(side_reserve(&m->right, places->count));
    for (uint32_t i = 0; i < places->count; i++) join_at(m, pair, joined, at[i]);
    MST_TRY(side_settle(m, &m->left, true, pair.left, joined));
    MST_TRY(side_settle(m, &m->right, false, pair.right, joined));
done:
    return status;
}

/* Writes the bytes of a pair behind those of the last token, where the next token's belong. */
static mst_status write_piece(merge_vocab *v, merge_pair pair, const uint8_t **piece_out, size_t *count_out) {
    size_t left = length_of(v, pair.left), right = length_of(v, pair.right), begin = v->ends[v->size - 1];
    size_t end = begin + left + right;
    if (end > v->bytes_room) {
        size_t room = 2 * end;
        uint8_t *bytes = realloc(v->bytes, room);
        if (bytes == NULL)
            return mst_error(MST_ENOMEM, "out of memory for a vocabulary of %u tokens", v->room);
        v->bytes = bytes;
        v->bytes_room = room;
    }
    memcpy(v->bytes + begin, v->bytes + v->ends[pair.left] - left, left);
    memcpy(v->bytes + begin + left, v->bytes + v->ends[pair.right] - right, right);
    *piece_out = v->bytes + begin;
    *count_out = left + right;
    return MST_OK;
}

mst_status merger_step(merger *m, merge_refusal *refuse, void *context, bool *done_out) {
    mst_status status = MST_OK;
    merge_vocab *v = &m->vocab;
    pair_places places = {.count = 0};
    const uint8_t *piece = NULL;
    size_t count = 0;
    merge_pair pair;
    for (bool refused = true; refused;) {
        pair_key key;
        pair_places_clear(&places);
        *done_out = v->size == v->room || !pair_set_take(&m->pairs, &key, &places);
        if (*done_out) goto done;
        pair = (merge_pair){(uint32_t)(key >> 32), (uint32_t)key};
        MST_TRY(write_piece(v, pair, &piece, &count));
        refused = refuse != NULL && refuse(context, piece, count);
    }
    uint32_t joined = v->size++;
    v->ends[joined] = v->ends[joined - 1] + count;
    v->merges[joined - v->special - BYTES] = pair;
    MST_TRY(join_all(m, pair, joined, &places));
done:
    pair_places_clear(&places);
    return status;
}

const merge_vocab *merger_vocab(const merger *m) {
    return &m->vocab;
}

uint64_t merger_words(const merger *m) {
    return m->words;
}

uint64_t merger_tokens(const merger *m) {
    return m->tokens;
}
