#include "train_json.h"

#include <stdlib.h>
#include <string.h>

#include "alphabet.h"
#include "lists.h"
#include "unicode.h"

enum {
    BYTES = 256,
    SPELLING_MAX =
        2 * WORD_BYTES_MAX + 4 /* of a piece: two bytes of UTF-8 for one, and what utf8_encode wants */
};

static int compare_characters(const void *a, const void *b) {
    uint32_t x = alphabet_character(*(const uint8_t *)a), y = alphabet_character(*(const uint8_t *)b);
    return (x > y) - (x < y);
}

void train_byte_order(uint8_t order_out[BYTES]) {
    for (unsigned byte = 0; byte < BYTES; byte++) order_out[byte] = (uint8_t)byte;
    qsort(order_out, BYTES, 1, compare_characters);
}

/* Writes a piece in the characters of its bytes; returns its length in UTF-8. */
static size_t spell(const uint8_t *piece, size_t count, char *spelling_out) {
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        used += utf8_encode(alphabet_character(piece[i]), (uint8_t *)spelling_out + used);
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

/* Whether the name, read as the spelling of a token, says other bytes than its own: which of both it meant could not be told. */
static bool is_ambiguous(const char *name, uint8_t *scratch) {
    size_t length = strlen(name), spelled = alphabet_bytes((const uint8_t *)name, length, scratch);
    return spelled != SIZE_MAX && (spelled != length || memcmp(scratch, name, length) != 0);
}

static mst_status check_name(const mst_tokenizer_training *training, size_t which) {
    mst_status status = MST_OK;
    const char *name = training->special[which];
    json_t *text = json_string(name);
    uint8_t *scratch = malloc(strlen(name) + 1);
    MST_CHECK(scratch != NULL, MST_ENOMEM, "out of memory for the special token '%s'", name);
    MST_CHECK(text != NULL, MST_ECONFIG, "the name of special token %zu is not valid UTF-8", which + 1);
    MST_CHECK(name[0] != '\0', MST_ECONFIG, "the name of special token %zu is empty", which + 1);
    for (unsigned byte = 0; byte < BYTES; byte++)
        MST_CHECK(!train_is_special(&(mst_tokenizer_training){.special = &name, .special_count = 1},
                                    &(uint8_t){(uint8_t)byte}, 1),
                  MST_ECONFIG, "the special token '%s' has the name of byte %u; take a longer one", name,
                  byte);
    MST_CHECK(!is_ambiguous(name, scratch), MST_ECONFIG,
              "the special token '%s' has only letters that stand for bytes in the file; take ASCII ones",
              name);
    for (size_t i = 0; i < which; i++)
        MST_CHECK(strcmp(name, training->special[i]) != 0, MST_ECONFIG,
                  "the special token '%s' is named twice", name);
done:
    json_decref(text);
    free(scratch);
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

typedef struct written {
    mst_byte_list list; /* with a 0 behind */
    bool failed;        /* jansson (2.14) goes on when a key could not be taken */
} written;

static int take_text(const char *text, size_t count, void *context) {
    written *w = context;
    w->failed = w->failed || byte_list_reserve(&w->list, count + 1) != MST_OK;
    if (w->failed) return -1;
    memcpy(w->list.at + w->list.count, text, count);
    w->list.count += count;
    w->list.at[w->list.count] = '\0';
    return 0;
}

mst_status train_json(const mst_tokenizer_training *training, const train_scheme *scheme,
                      const merge_vocab *vocab, char **json_out) {
    mst_status status = MST_OK;
    written text = {0};
    json_t *decoder = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                "trim_offsets", 1, "use_regex", 1);
    json_t *file = json_pack("{s:s, s:n, s:n}", "version", "1.0", "truncation", "padding");
    bool done = file != NULL && put(file, "added_tokens", added_tokens(training)) &&
                put(file, "normalizer", json_null()) &&
                put(file, "pre_tokenizer", train_scheme_json(scheme, training->digits)) &&
                put(file, "post_processor", json_null()) && put(file, "decoder", json_incref(decoder)) &&
                put(file, "model", model_json(training, vocab));
    MST_CHECK(done && json_dump_callback(file, take_text, &text, JSON_INDENT(2)) == 0 && !text.failed,
              MST_ENOMEM, "out of memory to write a vocabulary of %u tokens", vocab->size);
    *json_out = (char *)text.list.at;
    text.list.at = NULL;
done:
    free(text.list.at);
    json_decref(decoder);
    json_decref(file);
    return status;
}
