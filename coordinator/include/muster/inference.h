/* A checkpoint opened to be used: held-out loss, text. One process, no run folder is touched. */
#ifndef MUSTER_INFERENCE_H
#define MUSTER_INFERENCE_H

#include "muster/config.h"

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

typedef struct mst_evaluation {
    double loss; /* mean over valid tokens, nats */
    uint64_t tokens;
} mst_evaluation;

/**
 * Mean loss over a split: its first `batches` microbatches (0: all whole ones).
 *
 * Not collective.
 * @retval MST_ECONFIG the data does not fit the model, or the split has not one whole microbatch
 */
mst_status mst_inference_evaluate(mst_inference *inference, mst_data *data, mst_split split, uint64_t batches,
                                  mst_evaluation *evaluation_out);

typedef struct mst_sampling {
    uint64_t seed;
    double temperature; /* 0: always the likeliest token */
    double top_p;       /* only the likeliest tokens that together have this probability; 1: all */
} mst_sampling;

/**
 * Continues a text token by token until `count` tokens or `end_token`.
 *
 * Not collective. The last seq_len tokens are the context.
 * @param prompt [prompt_count] at least one
 * @param emit called with every token as it comes; may stop the generation by a status
 */
mst_status mst_inference_generate(mst_inference *inference, const int32_t *prompt, size_t prompt_count,
                                  size_t count, int32_t end_token, const mst_sampling *sampling,
                                  mst_status (*emit)(void *context, int32_t token), void *context);

#ifdef __cplusplus
}
#endif
#endif
