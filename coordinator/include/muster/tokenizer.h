/* Tokenizers in Hugging Face's format (tokenizer.json): byte-level BPE, read, used and trained. */
#ifndef MUSTER_TOKENIZER_H
#define MUSTER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "muster/data.h"
#include "muster/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_tokenizer mst_tokenizer;

/* Growing arrays that the caller owns: begin with {0}, free `at`. */
typedef struct mst_token_list {
    int32_t *at;
    size_t count, room;
} mst_token_list;
typedef struct mst_byte_list {
    uint8_t *at;
    size_t count, room;
} mst_byte_list;

/* ---- reading ---- */

/**
 * Reads a tokenizer.json: byte-level BPE with the pre-tokenizers, normalizers and added tokens of GPT-2, Llama 3,
 * SmolLM2, Qwen2.5, Qwen3 and OLMo 2. Nothing in it is trusted.
 *
 * Not collective.
 * @param name stands in messages
 * @param tokenizer_out destroyed by mst_tokenizer_destroy; json is copied
 * @retval MST_EUNSUPPORTED another kind of tokenizer, or a part of it that is not known (named)
 * @retval MST_EFORMAT not JSON, a field missing, a number out of range (place and value named)
 * @retval MST_ENOMEM
 */
mst_status mst_tokenizer_parse(const char *json, size_t bytes, const char *name,
                               mst_tokenizer **tokenizer_out);
/** As mst_tokenizer_parse, from a file. @retval MST_EIO too */
mst_status mst_tokenizer_load(const char *path, mst_tokenizer **tokenizer_out);
void mst_tokenizer_destroy(mst_tokenizer **tokenizer);

/** The tokenizer of data built without one: bytes are tokens 0 to 255, 256 is <eos>, 257 <pad>. @retval MST_ENOMEM */
mst_status mst_tokenizer_bytes(mst_tokenizer **tokenizer_out);

/** The text that was read, byte for byte, and its length. */
const char *mst_tokenizer_json(const mst_tokenizer *tokenizer, size_t *bytes_out);
/** One more than the highest id. */
size_t mst_tokenizer_vocab_size(const mst_tokenizer *tokenizer);
/** The id of a token by its content as text, such as "<|endoftext|>"; -1: there is none. */
int32_t mst_tokenizer_id(const mst_tokenizer *tokenizer, const char *content);
/** The token that ends a document: the one of the well-known names that the tokenizer has as a special token; -1: none. */
int32_t mst_tokenizer_end(const mst_tokenizer *tokenizer);
/** The bytes that a token stands for; NULL for an id without a token. A special token stands for its name. */
const uint8_t *mst_tokenizer_piece(const mst_tokenizer *tokenizer, int32_t id, size_t *bytes_out,
                                   bool *special_out);

/** Appends the ids of the added tokens: those whose names in a text become tokens, special ones and others. @retval MST_ENOMEM */
mst_status mst_tokenizer_added(const mst_tokenizer *tokenizer, mst_token_list *ids);

/* ---- using ---- */

typedef struct mst_encode_options {
    bool plain;   /* added tokens' names in the text are text: they become no added tokens */
    bool affixes; /* add what the post-processor adds, such as a begin-of-text token */
} mst_encode_options;

/**
 * Appends the tokens of a text. Any bytes are taken: those that are not UTF-8 become byte tokens.
 *
 * Not collective. Threads: a tokenizer keeps scratch memory and a cache, so one for each thread.
 * The ids are those of Hugging Face's `tokenizers` for the same file, where the text is UTF-8.
 * @retval MST_EUNSUPPORTED a byte that the vocabulary lacks; MST_EFORMAT a pattern that takes too long on this text; MST_ENOMEM.
 * Nothing is appended then
 */
mst_status mst_tokenizer_encode(mst_tokenizer *tokenizer, const uint8_t *bytes, size_t count,
                                const mst_encode_options *options, mst_token_list *tokens);

/* A part of a text, in bytes. */
typedef struct mst_text_span {
    size_t start, end;
} mst_text_span;

/**
 * As mst_tokenizer_encode, and appends to `mask` for each token 1 where it overlaps one of the spans, else 0. Where the text is
 * normalized, spans are those of its normalized form.
 *
 * @param spans [span_count] in order, apart from each other
 * @retval MST_EUNSUPPORTED a tokenizer that puts a space before texts; and as mst_tokenizer_encode
 */
mst_status mst_tokenizer_encode_spans(mst_tokenizer *tokenizer, const uint8_t *bytes, size_t count,
                                      const mst_encode_options *options, const mst_text_span *spans,
                                      size_t span_count, mst_token_list *tokens, mst_byte_list *mask);

/** Appends the bytes of tokens; special ones only with keep_special. Ids without a token give nothing.
 * @retval MST_ENOMEM */
mst_status mst_tokenizer_decode(const mst_tokenizer *tokenizer, const int32_t *tokens, size_t count,
                                bool keep_special, mst_byte_list *bytes);

/* ---- for token files ---- */

/** What the tokens of a tokenizer stand for; its end is mst_tokenizer_end. Not collective.
 * @param vocabulary_out refers to the tokenizer, which must outlive it; cleared by mst_tokenizer_vocabulary_clear, also after a
 * failure
 * @retval MST_ENOMEM */
mst_status mst_tokenizer_vocabulary(const mst_tokenizer *tokenizer, mst_vocabulary *vocabulary_out);
void mst_tokenizer_vocabulary_clear(mst_vocabulary *vocabulary);

/**
 * Makes what mst_data_build needs to build with a tokenizer. Names of special tokens in the text stay text.
 *
 * Not collective.
 * @param tokenizer kept by reference; must outlive the encoder
 * @param end content of the token that ends a document; NULL: mst_tokenizer_end
 * @param encoder_out destroyed by mst_tokenizer_encoder_destroy
 * @retval MST_ECONFIG no such token; MST_ENOMEM
 */
mst_status mst_tokenizer_encoder(mst_tokenizer *tokenizer, const char *end, mst_encoder **encoder_out);
void mst_tokenizer_encoder_destroy(mst_encoder **encoder);

/** The tokenizer that data was made with. Not collective.
 * @retval MST_EUNSUPPORTED the data does not say how it was made; and as mst_data_tokenizer_json, mst_tokenizer_parse */
mst_status mst_tokenizer_of_data(const mst_data *data, mst_tokenizer **tokenizer_out);

/* ---- training ---- */

typedef struct mst_tokenizer_training {
    const mst_build_options
        *text;                  /* what is read; `output` is not used; held-out documents are passed over */
    size_t vocab_size;          /* with the 256 bytes and the special tokens */
    const char *const *special; /* names of special tokens; they get the first ids */
    size_t special_count;
    const char *pattern; /* how text is cut into words: gpt2 (NULL, too), cl100k (that of Llama 3), qwen2 */
    bool digits;         /* each digit is a word of its own, as for SmolLM2 */
    size_t threads;      /* 0: as many as there are cores; no effect on the result */
    FILE *progress;      /* NULL: none */
} mst_tokenizer_training;

typedef struct mst_tokenizer_report {
    uint64_t documents, bytes, words, distinct_words; /* of what was read */
    uint64_t tokens;                                  /* that it is cut into by what was trained */
    size_t merges; /* fewer than asked for when no further pair of tokens stands twice in the text */
    double seconds;
} mst_tokenizer_report;

/**
 * Trains byte-level BPE on text, as a tokenizer.json that Hugging Face's `tokenizers` reads, too.
 *
 * Not collective. Merges the most frequent pair of neighbours inside a word again and again, as long as it stands there twice; of
 * equally frequent ones that of the smallest ids, so that the result is a function of the text alone. Sennrich et al. 2016.
 * Special tokens have the first ids, then the bytes, in the order of their characters in the file, then the merged
 * tokens. A pair whose joined name would be that of a special token is passed over. Words of more than 4096 bytes count as parts.
 * Memory: some 30 bytes for each byte of the distinct words, the longest document, 30 MB.
 * @param json_out freed by the caller with free
 * @retval MST_ECONFIG a vocabulary of less than 256 and the special tokens or more than 2^20, an unknown pattern, a special token that
 * is empty, not UTF-8, there twice or the name of a byte; no text; the statuses of mst_data_documents; MST_ENOMEM
 */
mst_status mst_tokenizer_train(const mst_tokenizer_training *training, char **json_out,
                               mst_tokenizer_report *report_out);

#ifdef __cplusplus
}
#endif
#endif
