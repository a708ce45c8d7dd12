/* What an open inference is made of. Private to the room. */
#ifndef RUN_INFERENCE_STATE_H
#define RUN_INFERENCE_STATE_H

#include "muster/frozen.h"
#include "muster/inference.h"

struct mst_inference {
    char path[4096];
    mst_config config;
    mst_model_config model_config;
    mst_digest base;    /* weights that its adapters adapt */
    mst_lora lora;      /* rank 0: it holds a whole model */
    mst_layout layout;  /* of the model */
    mst_layout stored;  /* of what the checkpoint holds: the model, or its adapters */
    mst_frozen *frozen; /* the model's weights where the checkpoint holds adapters; else NULL */
    mst_kernels kernels;
    mst_queue *queue;
    void **weights; /* [units of `stored`] flat, in `precision` */
    mst_dtype precision;
    mst_tokenizer *tokenizer; /* that of the training data */
    bool bytes_are_tokens;    /* it is that of bytes, since the checkpoint holds none */
    bool text_is_known;       /* its pieces are what the tokens stand for, and no guess */
    mst_model *model; /* for evaluation: batch.micro sequences of seq_len tokens; NULL until it is needed */
};

/** Opens the tokenizer that the checkpoint keeps, or that of bytes. @retval as mst_checkpoint_tokenizer, mst_tokenizer_parse */
mst_status inference_open_tokenizer(mst_inference *inference);

/** That data was made with this tokenizer, as far as it says. @retval MST_ECONFIG */
mst_status inference_check_tokenizer(const mst_inference *inference, const mst_data *data);

/** A model of this inference, with its adapters if it has any, that computes no gradients. @param options sequences, their length, and
 * tokens that are kept; the rest is the inference's @retval as mst_model_create */
mst_status inference_model(mst_inference *inference, mst_model_options options, mst_model **model_out);

/** All weights, for as long as the inference is open. */
mst_weight_source inference_weights(mst_inference *inference);

#endif
