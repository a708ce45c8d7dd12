#include "bpe.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "lists.h"
#include "long_word.h"

enum { KEY_MAX = 24, CACHED_MAX = 9, CACHE_SLOTS = 1 << 16, SCAN_MAX = 48 };

/* What a word became; a line of the processor's cache. */
typedef struct cached {
    uint64_t key[KEY_MAX / 8]; /* the word, zeros behind it */
    uint8_t length, count;     /* length 0: empty */
    int32_t tokens[CACHED_MAX];
} cached;

struct bpe {
    merge_table merges;
    int32_t of_byte[256];
    uint32_t rank; /* of the next merge */
    const vocab *words;
    int32_t *whole; /* by hash of the bytes: ids, or -1; NULL without whole_words */
    size_t whole_count;
    cached *cache;
    long_word scratch;
};

/* ---- making ---- */

static uint32_t table_size(size_t entries) {
    uint32_t size = 64;
    while (size < 2 * entries) size *= 2;
    return size;
}

static size_t whole_slot(const bpe *model, const uint8_t *word, size_t count) {
    const vocab *v = model->words;
    size_t mask = model->whole_count - 1, at = hash_bytes(word, count, model->merges.seed) & mask;
    for (; model->whole[at] >= 0; at = (at + 1) & mask) {
        const vocab_entry *entry = &v->entries[model->whole[at]];
        if (entry->byte_count == count && memcmp(v->text.at + entry->bytes, word, count) == 0) break;
    }
    return at;
}

static mst_status make_whole(bpe *model) {
    const vocab *v = model->words;
    model->whole_count = table_size(v->count);
    model->whole = malloc(model->whole_count * sizeof *model->whole);
    if (model->whole == NULL) return mst_error(MST_ENOMEM, "merges: no memory");
    memset(model->whole, 0xFF, model->whole_count * sizeof *model->whole);
    for (size_t id = 0; id < v->size; id++) {
        const vocab_entry *entry = &v->entries[id];
        if (entry->there && entry->spelled)
            model->whole[whole_slot(model, v->text.at + entry->bytes, entry->byte_count)] = (int32_t)id;
    }
    return MST_OK;
}

mst_status bpe_create(const vocab *v, bool whole_words, size_t merges, bpe **model_out) {
    *model_out = NULL;
    if (merges > 1u << 28) return mst_error(MST_EUNSUPPORTED, "%zu merges", merges);
    bpe *model = calloc(1, sizeof *model);
    if (model == NULL) return mst_error(MST_ENOMEM, "merges: no memory");
    model->words = v;
    model->merges.seed = hash_seed();
    model->merges.mask = table_size(merges) - 1;
    model->merges.at = malloc(((size_t)model->merges.mask + 1) * sizeof *model->merges.at);
    model->cache = calloc(CACHE_SLOTS, sizeof *model->cache);
    mst_status status = model->merges.at == NULL || model->cache == NULL
                            ? mst_error(MST_ENOMEM, "merges: no memory")
                            : MST_OK;
    for (size_t i = 0; status == MST_OK && i <= model->merges.mask; i++)
        model->merges.at[i] = (merge){.pair = MERGE_NONE, .rank = RANK_NONE};
    memset(model->of_byte, 0xFF, sizeof model->of_byte);
    for (size_t id = 0; id < v->size; id++) {
        const vocab_entry *entry = &v->entries[id];
        if (entry->there && entry->spelled && entry->byte_count == 1)
            model->of_byte[v->text.at[entry->bytes]] = (int32_t)id;
    }
    if (status == MST_OK && whole_words) status = make_whole(model);
    if (status == MST_OK)
        *model_out = model;
    else
        bpe_destroy(&model);
    return status;
}

void bpe_destroy(bpe **model) {
    if (*model == NULL) return;
    free((*model)->merges.at);
    free((*model)->whole);
    free((*model)->cache);
    long_word_clear(&(*model)->scratch);
    free(*model);
    *model = NULL;
}

void bpe_add_merge(bpe *model, int32_t left, int32_t right, int32_t merged) {
    merge *at = merge_find(&model->merges, left, right);
    *at = (merge){.pair = merge_pair(left, right), .rank = model->rank++, .merged = merged};
}

/* ---- encoding ---- */

/* Merges a short word in place: looks for the earliest merge again and again. Returns how many tokens are left. */
static size_t merge_short(const merge_table *merges, int32_t *tokens, size_t count) {
    merge found[SCAN_MAX];
    for (size_t i = 0; i + 1 < count; i++) found[i] = *merge_find(merges, tokens[i], tokens[i + 1]);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (found[i].rank < found[best].rank) best = i;
        if (found[best].rank == RANK_NONE) break;
        tokens[best] = found[best].merged;
        count--;
        memmove(tokens + best + 1, tokens + best + 2, (count - best - 1) * sizeof *tokens);
        if (best + 1 < count) memmove(found + best, found + best + 1, (count - best - 1) * sizeof *found);
        if (best > 0) found[best - 1] = *merge_find(merges, tokens[best - 1], tokens[best]);
        if (best + 1 < count) found[best] = *merge_find(merges, tokens[best], tokens[best + 1]);
    }
    return count;
}

static mst_status encode_new(bpe *model, const uint8_t *word, size_t count, mst_token_list *tokens) {
    mst_status status = token_list_reserve(tokens, count);
    if (status != MST_OK) return status;
    int32_t *at = tokens->at + tokens->count;
    if (model->whole != NULL && (*at = model->whole[whole_slot(model, word, count)]) >= 0) {
        tokens->count++;
        return MST_OK;
    }
    for (size_t i = 0; i < count; i++) {
        at[i] = model->of_byte[word[i]];
        if (at[i] < 0)
            return mst_error(MST_EUNSUPPORTED, "the vocabulary has no token for the byte 0x%02X", word[i]);
    }
    size_t left = count;
    if (count <= SCAN_MAX)
        left = merge_short(&model->merges, at, count);
    else
        status = long_word_merge(&model->scratch, &model->merges, at, count, &left);
    if (status == MST_OK) tokens->count += left;
    return status;
}

/* A word of at most KEY_MAX bytes as numbers, zeros behind it. */
static void load_key(const uint8_t *word, size_t count, uint64_t key[KEY_MAX / 8]) {
    key[0] = key[1] = key[2] = 0;
    memcpy(key, word, count);
}

mst_status bpe_encode(bpe *model, const uint8_t *word, size_t count, mst_token_list *tokens) {
    uint64_t key[KEY_MAX / 8];
    if (count > KEY_MAX) return encode_new(model, word, count, tokens);
    load_key(word, count, key);
    size_t hash = hash_mix(hash_mix(key[0] ^ count) + hash_mix(key[1]) * 3 + key[2] * 0x9E3779B97F4A7C15u);
    cached *slot = &model->cache[hash & (CACHE_SLOTS - 1)];
    if (slot->length == count && memcmp(slot->key, key, sizeof key) == 0) {
        mst_status status = token_list_reserve(tokens, CACHED_MAX);
        if (status != MST_OK) return status;
        memcpy(tokens->at + tokens->count, slot->tokens, sizeof slot->tokens);
        tokens->count += slot->count;
        return MST_OK;
    }
    size_t before = tokens->count;
    mst_status status = encode_new(model, word, count, tokens);
    size_t made = tokens->count - before;
    if (status != MST_OK || made > CACHED_MAX) return status;
    memcpy(slot->key, key, sizeof key);
    memcpy(slot->tokens, tokens->at + before, made * sizeof *slot->tokens);
    slot->length = (uint8_t)count;
    slot->count = (uint8_t)made;
    return MST_OK;
}
