/* A checkpoint opened to be used: held-out loss, text. One process, no run folder is touched. */
#ifndef MUSTER_INFERENCE_H
#define MUSTER_INFERENCE_H

#include "muster/config.h"
#include "muster/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_inference mst_inference;

/**
 * Loads the weights of a checkpoint; every block is verified against its digest.
 *
 * Not collective.
 * @param path a checkpoint folder, or a run folder (then its newest checkpoint)
 * @param precision "f32", "bf16", or NULL for the one that it was trained in
 * @param threads 0: all cores that this process may use
 * @retval MST_EIO, MST_EFORMAT as the checkpoint room says; MST_ECONFIG unknown precision
 */
mst_status mst_inference_open(const char *path, const char *precision, int threads,
                              mst_inference **inference_out);
void mst_inference_close(mst_inference **inference);

/** The config that the checkpoint was trained with, and the folder it was read from.
 * Owned by the inference. */
const mst_config *mst_inference_config(const mst_inference *inference);
const char *mst_inference_path(const mst_inference *inference);

/** The tokenizer that the checkpoint holds, or that of bytes. Owned by the inference. */
mst_tokenizer *mst_inference_tokenizer(const mst_inference *inference);
/** Whether the checkpoint holds none: then bytes are tokens, or what they stand for is not known. */
bool mst_inference_bytes_are_tokens(const mst_inference *inference);
/** Whether it is known what its tokens stand for: it holds a tokenizer, was given one, or has the vocabulary of bytes. */
bool mst_inference_text_is_known(const mst_inference *inference);
/** Gives a tokenizer to a checkpoint that holds none. Not collective. @param name "bytes", or the path of a tokenizer.json
 * @retval MST_ECONFIG it holds one, or the model has fewer tokens; as mst_tokenizer_load */
mst_status mst_inference_take_tokenizer(mst_inference *inference, const char *name);

typedef struct mst_evaluation {
    double loss;          /* mean over valid tokens, nats */
    double perplexity;    /* exp(loss) */
    double bits_per_byte; /* of the text that the tokens stand for; NaN where the tokenizer is not known */
    uint64_t tokens, bytes;
} mst_evaluation;

/**
 * Mean loss over a whole split, every token but the first of each source once: windows of seq_len tokens in file
 * order, of which each sees itself only. Memory: activations of one microbatch.
 *
 * Not collective.
 * @param batches 0: all; otherwise only the first so many microbatches
 * @retval MST_ECONFIG the data does not fit the model, or the split has no token to predict
 */
mst_status mst_inference_evaluate(mst_inference *inference, mst_data *data, mst_split split, uint64_t batches,
                                  mst_evaluation *evaluation_out);

/* ---- text and tokens ---- */

/** The tokens of a text. @param tokens_out its `at` is freed by the caller with free @retval MST_ENOMEM */
mst_status mst_inference_encode(mst_inference *inference, const uint8_t *bytes, size_t count,
                                mst_token_list *tokens_out);
/** The bytes of text that a token stands for: none for a special one. Valid while the inference is open. */
const uint8_t *mst_inference_piece(const mst_inference *inference, int32_t token, size_t *bytes_out);
/** The token that stands between documents; -1: there is none. */
int32_t mst_inference_end_token(const mst_inference *inference);

/* ---- sampling ---- */

typedef struct mst_sampling {
    uint64_t seed;
    double temperature; /* 0: always the likeliest token; of equally likely ones that of the lowest number */
    double top_p;       /* only the likeliest tokens that together have this probability; 1: all */
    size_t top_k;       /* only so many of the likeliest tokens; 0: all. Applied before top_p */
} mst_sampling;

/* A token with its weight in the draw. */
typedef struct mst_candidate {
    double weight;
    int32_t token;
} mst_candidate;

/**
 * Draws a token from softmax(logits / temperature), restricted by top_k, then by top_p of what is left. Holtzman et
 * al. 2020. The same result on every machine: no mathematics library is used.
 *
 * Not collective.
 * @param uniform in [0, 1); the same number gives the same token
 * @param candidates [vocab] scratch
 * @retval MST_ENONFINITE a logit is NaN or +inf, or all are -inf
 */
mst_status mst_sample(const float *logits, size_t vocab, const mst_sampling *sampling, double uniform,
                      mst_candidate *candidates, int32_t *token_out);

/* ---- generation ---- */

typedef struct mst_generation {
    uint64_t count;        /* tokens at most */
    int32_t end_tokens[2]; /* each of them ends the text and is not given out; -1: none */
    size_t context;        /* tokens that the model sees at most; 0: data.seq_len of its training */
    mst_sampling sampling;
} mst_generation;

/* What was done. */
typedef struct mst_generated {
    uint64_t tokens;       /* given out */
    size_t prompt;         /* tokens of the prompt that were seen */
    size_t kept;           /* of these, whose keys and values were there from an earlier call */
    size_t context;        /* as chosen */
    size_t bytes;          /* of memory, besides the weights: activations, keys and values */
    double prompt_seconds; /* until the first token was there */
    double seconds;        /* after that */
} mst_generated;

/** The context that a generation will have. @param wanted tokens; 0: data.seq_len of the model's training
 * @retval MST_ECONFIG beyond max_seq_len */
mst_status mst_inference_context(const mst_inference *inference, size_t wanted, size_t *context_out);

/** Called with every token as it comes; *stop_out = true ends the text after it, a failure ends it with its status. */
typedef mst_status mst_token_fn(void *context, int32_t token, bool *stop_out);

/* A model that writes, and remembers what it has seen. */
typedef struct mst_generator mst_generator;

/** Not collective. @param inference kept by reference; must outlive it @param context as mst_generation
 * @retval MST_ECONFIG context beyond max_seq_len; MST_ENOMEM */
mst_status mst_generator_create(mst_inference *inference, size_t context, mst_generator **generator_out);
void mst_generator_destroy(mst_generator **generator);

/**
 * As mst_inference_generate, with the keys and values of the tokens that this prompt has in common with the last one, the answer to it
 * included, kept. `wanted->context` is not used: the generator has one. Draws go on from those of the last call.
 */
mst_status mst_generator_run(mst_generator *generator, const int32_t *prompt, size_t prompt_count,
                             const mst_generation *wanted, mst_token_fn *emit, void *context,
                             mst_generated *generated_out);

/**
 * Continues a text token by token, with kept keys and values: the work of a token is linear in the tokens seen.
 *
 * Not collective. When `context` tokens are there, the older half is forgotten and the newer half computed again
 * from position 0. The result is the same for any number of threads.
 * @param prompt [prompt_count]; empty: the beginning of a document. Only its last `context` tokens are seen
 * @param generated_out NULL: not wanted
 * @retval MST_ECONFIG context beyond max_seq_len, nothing to begin with; MST_ENONFINITE logits that are not finite;
 * MST_ENOMEM; or the status of emit
 */
mst_status mst_inference_generate(mst_inference *inference, const int32_t *prompt, size_t prompt_count,
                                  const mst_generation *wanted, mst_token_fn *emit, void *context,
                                  mst_generated *generated_out);

/* ---- text as it comes ---- */

/* Writes bytes as they come, but only whole UTF-8 characters, and neither a stop text nor what follows it. Bytes that
 * are not UTF-8 are passed on as they are. */
typedef struct mst_text_stream mst_text_stream;
typedef mst_status mst_write_fn(void *context, const uint8_t *bytes, size_t count);

/** @param stops [stop_count], copied @retval MST_ECONFIG an empty stop text; MST_ENOMEM */
mst_status mst_text_stream_create(const char *const *stops, size_t stop_count, mst_write_fn *write,
                                  void *context, mst_text_stream **stream_out);
void mst_text_stream_destroy(mst_text_stream **stream);

/** Adds bytes, and writes what cannot belong to a stop text or to half a character any more.
 * @param stopped_out a stop text is complete: the text is at its end @retval MST_ENOMEM; that of write */
mst_status mst_text_stream_push(mst_text_stream *stream, const uint8_t *bytes, size_t count,
                                bool *stopped_out);
/** Writes what is still held back.
 * @param whole_characters half a character at the end becomes U+FFFD, for a terminal */
mst_status mst_text_stream_end(mst_text_stream *stream, bool whole_characters);

#ifdef __cplusplus
}
#endif
#endif
