/* Token files, and the samples that a step reads from them:
 * pure functions of (sources, seed, sample index). */
#ifndef MUSTER_DATA_H
#define MUSTER_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "muster/digest.h"
#include "muster/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Byte-level vocabulary: tokens 0 to 255 are bytes. */
enum { MST_BYTE_EOS = 256, MST_BYTE_PAD = 257, MST_BYTE_VOCAB = 258 };

/* One split of a token file (training or held-out). */
typedef enum mst_split { MST_SPLIT_TRAIN, MST_SPLIT_HELDOUT } mst_split;

/* ---- building ---- */

/* What tokens stand for. Nothing is owned. */
typedef struct mst_vocabulary {
    size_t size;
    int32_t end;      /* the token that ends a document; -1: none is known */
    const char *json; /* tokenizer.json, which names the tokenizer */
    size_t json_bytes;
    const uint32_t *lengths; /* [size] bytes of text that a token stands for; 0 for special ones */
} mst_vocabulary;

/* Turns documents into tokens; see coordinator/include/muster/tokenizer.h, which is above this house. Nothing is owned. */
typedef struct mst_encoder {
    void *context;
    /** The tokens of a whole document, without the one that ends it; valid until the next call. */
    mst_status (*encode)(void *context, const uint8_t *bytes, size_t count, const int32_t **tokens_out,
                         size_t *count_out);
    /** Not NULL: what is read is lines of .jsonl files, each an object, and this makes tokens of a whole line, with a mask: 0 for a
     * token that is no target of the loss. No tokens: the line is passed over. Both are valid until the next call. */
    mst_status (*encode_record)(void *context, const uint8_t *bytes, size_t count, const int32_t **tokens_out,
                                const uint8_t **mask_out, size_t *count_out);
    const char *
        template_name; /* of encode_record: what made texts of the objects, for the index; NULL: nothing to say */
    const char *template_text; /* [template_bytes] */
    size_t template_bytes;
    mst_vocabulary vocabulary; /* its json is kept in the token file; its end is a token */
} mst_encoder;

typedef struct mst_build_options {
    const char *const *inputs; /* files and folders */
    size_t input_count;
    const char *glob; /* pattern for file names in folders; NULL: *.txt *.jsonl and their .gz and .zst */
    const char *text_field;     /* of a .jsonl line; NULL: "text" */
    const char *output;         /* the .h5 file; replaced only when the build succeeds */
    double heldout_fraction;    /* of documents, 0 to 0.5, chosen by a keyed hash of the content */
    uint64_t seed;              /* the key; the same seed and fraction split alike in every token file */
    const mst_encoder *encoder; /* NULL: bytes are tokens */
    const char
        *heldout_list; /* NULL, or a file for the paths of the files that held-out documents came from */
} mst_build_options;

typedef struct mst_build_report {
    uint64_t files, documents; /* documents: with duplicates, without empty ones */
    uint64_t duplicates, empty;
    uint64_t train_tokens, heldout_tokens, train_documents, heldout_documents;
    uint64_t bytes_read; /* of the files as they lie on the disk */
    /* names the tokens: vocabulary, tokenizer, both splits; not where in the file they lie */
    mst_digest digest;
} mst_build_report;

/**
 * Reads text into a token file, atomically: output appears whole or not at all.
 *
 * Not collective. A .jsonl file has a document on each line, any other file is one document. Documents whose
 * bytes are equal are kept once; each ends with MST_BYTE_EOS. A document is held out as a whole, so one big
 * file has no held-out part. The same inputs, options and version of muster give the same bytes in the
 * output. With an encoder of records the token that ends a document is added where the record's tokens do not end with it,
 * and is no target. Memory: 16 to 48 bytes per document and one .jsonl line; tokens wait on the disk of the output,
 * which needs room for them twice.
 * @retval MST_ECONFIG no input, no text, bad pattern, or no document left to train on; MST_EIO,
 * with the free space when the disk is full; MST_EFORMAT a damaged .gz, .zst or .jsonl (file and
 * line named); MST_EHDF5; MST_ENOMEM
 */
mst_status mst_data_build(const mst_build_options *options, mst_build_report *report_out);

/** A document of the inputs, whole. `path` is that of its file.
 * @retval a failure ends the reading and is handed on */
typedef mst_status mst_document_fn(void *context, const uint8_t *bytes, size_t count, mst_split split,
                                   const char *path);

/**
 * Calls `visit` for every document that mst_data_build would keep, in its order, with the split that it falls into.
 *
 * Not collective. Memory: the longest document, and 16 to 48 bytes per document.
 * @param options output may be NULL; it is not touched, but must not be among the inputs
 * @retval as mst_data_build, but for writing; held-out documents alone are no failure; or the status of visit
 */
mst_status mst_data_documents(const mst_build_options *options, mst_document_fn *visit, void *context);

/**
 * Reads a whole token file and compares it with its index: digests, tokens, document offsets.
 *
 * Not collective. libhdf5 is not called.
 * @param digest_out as mst_build_report
 * @retval MST_EIO; MST_EFORMAT (file, field and value named); MST_EUNSUPPORTED a newer version; MST_ENOMEM
 */
mst_status mst_data_verify(const char *path, mst_digest *digest_out);

/* ---- reading ---- */

typedef struct mst_source_config {
    const char *path;    /* a token file of muster, or of another trainer (docs/data-format.md) */
    double weight;       /* > 0; relative to the other sources */
    const char *heldout; /* NULL, or the file whose tokens are held out; both are another trainer's then */
} mst_source_config;

/* The type of tokens in files that have no header to say it. */
typedef enum mst_token_type { MST_TOKENS_AUTO, MST_TOKENS_UINT16, MST_TOKENS_UINT32 } mst_token_type;

/* What a sample is: a piece of the stream of all documents; as many whole documents as fit; or one document. */
typedef enum mst_packing { MST_PACKING_STREAM, MST_PACKING_DOCUMENTS, MST_PACKING_SINGLE } mst_packing;

typedef struct mst_data_config {
    const mst_source_config *sources;
    size_t source_count;
    size_t seq_len;
    uint64_t seed;
    mst_packing packing;
    /* of files of other trainers, which do not say it; the token files of muster do not heed it */
    mst_token_type type;              /* AUTO: files without a header are refused */
    const mst_vocabulary *vocabulary; /* NULL: not known; copied */
    size_t vocab_size; /* where there is no vocabulary: every token is below it; 0: not known */
} mst_data_config;

typedef struct mst_data mst_data;

/**
 * Opens token files by bounded pread (libhdf5 is not called), and checks them: sizes against the
 * index, tokens against the vocabulary when read. What the files say is not trusted; their digests are
 * compared by mst_data_verify only.
 *
 * Files of other trainers (numpy's .npy, llm.c's .bin, Megatron's .bin and .idx, bare tokens) are one stream of tokens each.
 * What names them is a digest of a bounded sample of their bytes, so that a big file is not read whole at every start.
 *
 * Not collective. Memory: one sample and one or two open files per source; where whole documents are wanted, 8 bytes for each
 * of them, and 20 while it opens. Threads: one mst_data for each.
 * @param config copied
 * @retval MST_EIO; MST_EFORMAT (file, field and value named); MST_EUNSUPPORTED a newer version, or a layout that is not
 * read in place; MST_ECONFIG a weight that is not positive, a source with less than seq_len + 1 training tokens (the
 * held-out split may be empty) or, where whole documents are wanted, without any of two tokens, sources that disagree about the tokenizer, a file of another trainer of which neither
 * vocabulary nor vocab_size is known
 */
mst_status mst_data_open(const mst_data_config *config, mst_data **data_out);
void mst_data_close(mst_data **data);

/** Whether a source's file is there, as a regular file: under its path, or, for Megatron's, with .idx behind it.
 * Not collective. */
bool mst_data_is_there(const char *path);

/* The tokenizer that all sources share. */
typedef struct mst_data_tokenizer {
    bool is_bytes;     /* bytes are tokens */
    bool has_json;     /* mst_data_tokenizer_json reads it */
    int32_t end;       /* the token that ends a document; -1: not known */
    mst_digest digest; /* names it */
} mst_data_tokenizer;
void mst_data_tokenizer_of(const mst_data *data, mst_data_tokenizer *tokenizer_out);

/** Reads the tokenizer.json that the data was made with. Not collective.
 * @param json_out NUL behind; freed by the caller with free
 * @retval MST_EINVAL there is none; MST_EIO; MST_EFORMAT it is not the one that the index names; MST_ENOMEM */
mst_status mst_data_tokenizer_json(const mst_data *data, char **json_out, size_t *bytes_out);

/** Bytes of text that targets stand for; those below 0 count nothing. 0 for all where the tokenizer is not known.
 * @param targets [count], as mst_data_read gives them */
uint64_t mst_data_bytes(const mst_data *data, const int32_t *targets, size_t count);

size_t mst_data_vocab(const mst_data *data);
/** Tokens and whole samples of a split, over all sources.
 * A source of n tokens has (n - 1) / seq_len samples. */
uint64_t mst_data_tokens(const mst_data *data, mst_split split);
uint64_t mst_data_samples(const mst_data *data, mst_split split);
/* What whole documents came to, of one split and all sources. */
typedef struct mst_packing_report {
    uint64_t documents, sequences; /* documents: without those of less than two tokens */
    uint64_t places;               /* of sequences * seq_len that are taken */
    uint64_t cut, cut_tokens;      /* documents longer than seq_len + 1 tokens, and what was cut off them */
} mst_packing_report;

mst_packing mst_data_packing(const mst_data *data);
/** All zero for MST_PACKING_STREAM. */
void mst_data_packing_report(const mst_data *data, mst_split split, mst_packing_report *report_out);

/**
 * Counts the documents of a split, of those that mst_data_packing_report counts, that have no target of the loss: all that a
 * sequence takes of them is masked.
 *
 * Not collective. Reads the bounds and the mask of every document. Memory: none allocated.
 * @param documents_out 0 for MST_PACKING_STREAM, and where there is no mask
 * @retval MST_EIO; MST_EFORMAT bounds that changed
 */
mst_status mst_data_untargeted(mst_data *data, mst_split split, uint64_t *documents_out);

/** SHA-256 over the sources' contents and shares of the mix, packing, seq_len and seed: names the order of samples. */
void mst_data_digest(const mst_data *data, mst_digest *digest_out);

/**
 * Reads samples first to first + count - 1 of the training order (endless: an epoch follows an epoch, each
 * source permuted anew) or of the held-out split (source by source in file order; first + count <= samples).
 *
 * Not collective. Memory: none allocated. Sample i of a source is tokens i * seq_len to (i + 1) * seq_len of
 * its stream, so that its last token is the next one's first. Where whole documents are wanted, it is documents one behind
 * the other, each without its last token, which is a target only and cut to seq_len + 1 tokens; behind them tokens are 0 and
 * targets -1.
 * @param tokens_out, targets_out [count * seq_len]; target t is token t + 1 of the sample; -1 where not valid
 * @param starts_out [count * seq_len] where in its sequence the document of each token begins; what follows the last one
 * counts as one. For MST_PACKING_STREAM not touched, and may be NULL
 * @retval MST_EIO; MST_EFORMAT a token outside the vocabulary, a file that ends too early;
 * MST_EINVAL no such held-out sample
 */
mst_status mst_data_read(mst_data *data, mst_split split, uint64_t first, size_t count, int32_t *tokens_out,
                         int32_t *targets_out, int32_t *starts_out);

/** Windows of a split: a source of n tokens has (n - 1) / seq_len, rounded up. Unlike samples they cover it whole. Where
 * whole documents are wanted, windows are the samples. */
uint64_t mst_data_windows(const mst_data *data, mst_split split);

/**
 * Reads windows first to first + count - 1 of a split, source by source in file order, whatever their weights: every
 * token but the first of a source is a target once. The last window of a source may be shorter than seq_len; behind
 * its end tokens are 0 and targets -1.
 *
 * Not collective. Memory: none allocated.
 * @param tokens_out, targets_out, starts_out [count * seq_len], as mst_data_read
 * @retval MST_EIO; MST_EFORMAT as mst_data_read; MST_EINVAL no such window
 */
mst_status mst_data_read_windows(mst_data *data, mst_split split, uint64_t first, size_t count,
                                 int32_t *tokens_out, int32_t *targets_out, int32_t *starts_out);

/* Where a sample stands, for `muster data show`. */
typedef struct mst_sample_place {
    const char *path;
    uint64_t epoch, first_token; /* of its source; in the split's token stream */
    uint64_t documents; /* that it holds, where whole documents are wanted: then there is no first_token */
} mst_sample_place;
/** Finds a sample without reading it. `path` lives as long as data.
 * @retval MST_EINVAL no such held-out sample */
mst_status mst_data_locate(mst_data *data, mst_split split, uint64_t sample, mst_sample_place *place_out);

/** Bytes as tokens. @param tokens_out [count] */
void mst_bytes_encode(const uint8_t *bytes, size_t count, int32_t *tokens_out);

#ifdef __cplusplus
}
#endif
#endif
