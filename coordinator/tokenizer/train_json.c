#include "train_json.h"

#include <stdlib.h>
#include <string.h>

enum {
    BYTES = 256,
    SPELLING_MAX = 2 * WORD_BYTES_MAX /* of a piece: at most two bytes of UTF-8 for each of its own */
};

/* The character of a byte: the printable ones of Latin-1 stand for themselves, the other bytes, in their order, for those from
 * U+0100 on. Radford et al. 2019. */
static unsigned character_of(unsigned byte) {
    if (byte <= ' ') return 0x100 + byte;
    if (byte < 0x7F) return byte;
    if (byte <= 0xA0) return 0x100 + ' ' + 1 + byte - 0x7F;
    return byte == 0xAD ? 0x143 : byte;
}

static int compare_characters(const void *a, const void *b) {
    unsigned x = character_of(*(const uint8_t *)a), y = character_of(*(const uint8_t *)b);
    return (x > y) - (x < y);
}

void train_byte_order(uint8_t order_out[BYTES]) {
    for (unsigned byte = 0; byte < BYTES; byte++) order_out[byte] = (uint8_t)byte;
    qsort(order_out, BYTES, 1, compare_characters);
}

/* Writes a piece in the characters of its bytes; returns its length in UTF-8. */
static size_t spell(const uint8_t *piece, size_t count, char *spelling_out) {
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned c = character_of(piece[i]);
        if (c >= 0x80) spelling_out[used++] = (char)(0xC0 | c >> 6);
        spelling_out[used++] = (char)(c >= 0x80 ? 0x80 | (c & 0x3F) : c);
    }
    return used;
}

/* ---- special tokens ---- */

bool train_is_special(void *context, const uint8_t *bytes, size_t count) {
    const mst_tokenizer_training *training = context;
    for (size_t i = 0; i < training->special_count; i++) {
        char spelling[SPELLING_MAX];
        size_t length = strlen(training->special[i]);
        if (length < count || length > 2 * count) continue;
        if (spell(bytes, count, spelling) == length && memcmp(spelling, training->special[i], length) == 0)
            return true;
    }
    return false;
}

static mst_status check_name(const mst_tokenizer_training *training, size_t which) {
    mst_status status = MST_OK;
    const char *name = training->special[which];
    json_t *text = json_string(name);
    MST_CHECK(text != NULL, MST_ECONFIG, "the name of special token %zu is not valid UTF-8", which + 1);
    MST_CHECK(name[0] != '\0', MST_ECONFIG, "the name of special token %zu is empty", which + 1);
    for (unsigned byte = 0; byte < BYTES; byte++)
        MST_CHECK(!train_is_special(&(mst_tokenizer_training){.special = &name, .special_count = 1},
                                    &(uint8_t){(uint8_t)byte}, 1),
                  MST_ECONFIG, "the special token '%s' has the name of byte %u; take a longer one", name,
                  byte);
    for (size_t i = 0; i < which; i++)
        MST_CHECK(strcmp(name, training->special[i]) != 0, MST_ECONFIG,
                  "the special token '%s' is named twice", name);
done:
    json_decref(text);
    return status;
}

mst_status train_check_special(const mst_tokenizer_training *training) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < training->special_count; i++) MST_TRY(check_name(training, i));
done:
    return status;
}

/* ---- the parts of the file; each is a new value, NULL without memory ---- */

/* Puts `value` into `object`, and takes it over. @return whether there was memory for both */
static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

static json_t *added_tokens(const mst_tokenizer_training *training) {
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < training->special_count; i++) {
        json_t *token = json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i, "content",
                                  training->special[i], "single_word", 0, "lstrip", 0, "rstrip", 0,
                                  "normalized", 0, "special", 1);
        if (json_array_append_new(list, token) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *vocab_json(const mst_tokenizer_training *training, const merge_vocab *vocab) {
    json_t *object = json_object();
    bool done = object != NULL;
    for (size_t i = 0; done && i < training->special_count; i++)
        done = put(object, training->special[i], json_integer((json_int_t)i));
    for (uint32_t id = vocab->special; done && id < vocab->size; id++) {
        char key[SPELLING_MAX + 1];
        size_t count;
        const uint8_t *piece = merge_vocab_piece(vocab, id, &count);
        key[spell(piece, count, key)] = '\0';
        done = put(object, key, json_integer(id));
    }
    if (done) return object;
    json_decref(object);
    return NULL;
}

/* "left right", which every version of Hugging Face's reader knows; spellings have no spaces. */
static json_t *merges_json(const merge_vocab *vocab) {
    json_t *list = json_array();
    size_t merges = vocab->size - vocab->special - BYTES;
    for (size_t i = 0; list != NULL && i < merges; i++) {
        char text[2 * SPELLING_MAX + 1];
        size_t count, used;
        const uint8_t *piece = merge_vocab_piece(vocab, vocab->merges[i].left, &count);
        used = spell(piece, count, text);
        text[used++] = ' ';
        piece = merge_vocab_piece(vocab, vocab->merges[i].right, &count);
        used += spell(piece, count, text + used);
        if (json_array_append_new(list, json_stringn(text, used)) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *model_json(const mst_tokenizer_training *training, const merge_vocab *vocab) {
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b}", "type", "BPE", "dropout",
                              "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                              "byte_fallback", 0, "ignore_merges", 0);
    if (model != NULL && put(model, "vocab", vocab_json(training, vocab)) &&
        put(model, "merges", merges_json(vocab)))
        return model;
    json_decref(model);
    return NULL;
}

mst_status train_json(const mst_tokenizer_training *training, const train_scheme *scheme,
                      const merge_vocab *vocab, char **json_out) {
    mst_status status = MST_OK;
    json_t *decoder = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                "trim_offsets", 1, "use_regex", 1);
    json_t *file = json_pack("{s:s, s:n, s:n}", "version", "1.0", "truncation", "padding");
    bool done = file != NULL && put(file, "added_tokens", added_tokens(training)) &&
                put(file, "normalizer", json_null()) &&
                put(file, "pre_tokenizer", train_scheme_json(scheme, training->digits)) &&
                put(file, "post_processor", json_null()) && put(file, "decoder", json_incref(decoder)) &&
                put(file, "model", model_json(training, vocab));
    *json_out = done ? json_dumps(file, JSON_INDENT(2)) : NULL;
    MST_CHECK(*json_out != NULL, MST_ENOMEM, "out of memory to write a vocabulary of %u tokens", vocab->size);
done:
    json_decref(decoder);
    json_decref(file);
    return status;
}
