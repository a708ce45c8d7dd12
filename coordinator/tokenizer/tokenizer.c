/* Tokenizers: their life, what they know, and decoding. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lists.h"
#include "state.h"

void mst_tokenizer_destroy(mst_tokenizer **tokenizer) {
    mst_tokenizer *t = *tokenizer;
    if (t == NULL) return;
    free(t->json);
    bpe_destroy(&t->model);
    vocab_clear(&t->tokens);
    pretokenizer_destroy(&t->words);
    added_clear(&t->added);
    added_clear(&t->normalized_added);
    free(t->prefix.at);
    free(t->suffix.at);
    free(t->scratch.at);
    free(t);
    *tokenizer = NULL;
}

/* Reads a file to its end, which may be a pipe, or to where it is too long. */
static mst_status read_all(FILE *file, const char *path, mst_byte_list *text) {
    size_t got;
    do {
        mst_status status = byte_list_reserve(text, 1 << 16);
        if (status != MST_OK) return status;
        got = fread(text->at + text->count, 1, text->room - text->count, file);
        text->count += got;
    } while (got > 0 && text->count <= TOKENIZER_JSON_MAX);
    return ferror(file) ? mst_error(MST_EIO, "%s: %s", path, strerror(errno)) : MST_OK;
}

mst_status mst_tokenizer_load(const char *path, mst_tokenizer **tokenizer_out) {
    mst_byte_list text = {0};
    FILE *file = fopen(path, "rb");
    *tokenizer_out = NULL;
    if (file == NULL) return mst_error(MST_EIO, "%s: %s", path, strerror(errno));
    mst_status status = read_all(file, path, &text);
    fclose(file);
    if (status == MST_OK)
        status = mst_tokenizer_parse((const char *)text.at, text.count, path, tokenizer_out);
    free(text.at);
    return status;
}

const char *mst_tokenizer_json(const mst_tokenizer *tokenizer, size_t *bytes_out) {
    *bytes_out = tokenizer->json_bytes;
    return tokenizer->json;
}

size_t mst_tokenizer_vocab_size(const mst_tokenizer *tokenizer) {
    return tokenizer->tokens.size;
}

int32_t mst_tokenizer_id(const mst_tokenizer *tokenizer, const char *content) {
    return vocab_find(&tokenizer->tokens, content, strlen(content));
}

int32_t mst_tokenizer_end(const mst_tokenizer *tokenizer) {
    static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>", "</s>",
                                        "<eos>",         "<|im_end|>",      "<|eot_id|>"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int32_t id = mst_tokenizer_id(tokenizer, names[i]);
        if (id >= 0 && tokenizer->tokens.entries[id].special) return id;
    }
    return -1;
}

const uint8_t *mst_tokenizer_piece(const mst_tokenizer *tokenizer, int32_t id, size_t *bytes_out,
                                   bool *special_out) {
    const vocab *v = &tokenizer->tokens;
    *bytes_out = 0;
    *special_out = false;
    if (id < 0 || (size_t)id >= v->size || !v->entries[id].there) return NULL;
    *bytes_out = v->entries[id].byte_count;
    *special_out = v->entries[id].special;
    return v->text.at + v->entries[id].bytes;
}

static mst_status append_ids(const added_set *set, mst_token_list *ids) {
    mst_status status = token_list_reserve(ids, set->count);
    for (size_t i = 0; status == MST_OK && i < set->count; i++) ids->at[ids->count++] = set->tokens[i].id;
    return status;
}

mst_status mst_tokenizer_added(const mst_tokenizer *t, mst_token_list *ids) {
    const mst_status status = append_ids(&t->added, ids);
    return status == MST_OK ? append_ids(&t->normalized_added, ids) : status;
}

mst_status mst_tokenizer_decode(const mst_tokenizer *tokenizer, const int32_t *tokens, size_t count,
                                bool keep_special, mst_byte_list *bytes) {
    for (size_t i = 0; i < count; i++) {
        size_t length;
        bool special;
        const uint8_t *piece = mst_tokenizer_piece(tokenizer, tokens[i], &length, &special);
        if (piece == NULL || (special && !keep_special)) continue;
        mst_status status = byte_list_reserve(bytes, length);
        if (status != MST_OK) return status;
        memcpy(bytes->at + bytes->count, piece, length);
        bytes->count += length;
    }
    return MST_OK;
}
