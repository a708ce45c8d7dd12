/* What an open inference is made of. Private to the room. */
#ifndef RUN_INFERENCE_STATE_H
#define RUN_INFERENCE_STATE_H

#include "muster/inference.h"

struct mst_inference {
    char path[4096];
    mst_config config;
    mst_model_config model_config;
    mst_layout layout;
    mst_kernels kernels;
    mst_queue *queue;
    void **weights; /* [units] flat, in `precision` */
    mst_dtype precision;
    uint8_t bytes[MST_BYTE_EOS]; /* what the tokens of bytes stand for */
    mst_model *model; /* for evaluation: batch.micro sequences of seq_len tokens; NULL until it is needed */
};

/** All weights, for as long as the inference is open. */
mst_weight_source inference_weights(mst_inference *inference);

#endif
