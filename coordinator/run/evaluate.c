/* The loss of a checkpoint on a whole split. */
#include <math.h>
#include <stdlib.h>

#include "inference_state.h"

/* Makes the model, unless it stands. */
static mst_status prepare(mst_inference *x) {
    const mst_model_options options = {.micro = x->config.batch.micro, .seq_len = x->config.data.seq_len};
    if (x->model != NULL) return MST_OK;
    return inference_model(x, options, &x->model);
}

/* A microbatch, [micro * seq_len] each. */
typedef struct microbatch {
    int32_t *tokens, *targets;
    int32_t *starts; /* NULL: samples are pieces of a stream */
} microbatch;

static void microbatch_clear(microbatch *m) {
    free(m->tokens);
    free(m->targets);
    free(m->starts);
}

static mst_status microbatch_init(microbatch *m, const mst_data *data, size_t tokens) {
    mst_status status = MST_OK;
    const bool packed = mst_data_packing(data) != MST_PACKING_STREAM;
    m->tokens = calloc(tokens, sizeof *m->tokens);
    m->targets = calloc(tokens, sizeof *m->targets);
    if (packed) m->starts = calloc(tokens, sizeof *m->starts);
    MST_CHECK(m->tokens != NULL && m->targets != NULL && (m->starts != NULL || !packed), MST_ENOMEM,
              "evaluation: out of memory for %zu tokens", tokens);
done:
    return status;
}

/* Adds microbatch `number` to the sums. What is missing in the last one is filled with windows that have no target. */
static mst_status add_microbatch(mst_inference *x, mst_data *data, mst_split split, uint64_t number,
                                 const microbatch *m, mst_evaluation *sum) {
    mst_status status = MST_OK;
    const mst_weight_source weights = inference_weights(x);
    const size_t micro = x->config.batch.micro, seq_len = x->config.data.seq_len;
    const uint64_t left = mst_data_windows(data, split) - number * micro;
    const size_t there = left < micro ? (size_t)left : micro;
    mst_loss loss;
    MST_TRY(mst_data_read_windows(data, split, number * micro, there, m->tokens, m->targets, m->starts));
    for (size_t i = there * seq_len; i < micro * seq_len; i++) {
        m->tokens[i] = 0;
        m->targets[i] = -1;
        if (m->starts != NULL) m->starts[i] = 0;
    }
    MST_TRY(mst_model_settle(x->model,
                             mst_model_loss(x->model, &weights, m->tokens, m->targets, m->starts, &loss)));
    sum->loss += loss.loss;
    sum->tokens += loss.valid;
    sum->bytes += mst_data_bytes(data, m->targets, micro * seq_len);
done:
    return status;
}

/* From sums to means. */
static void finish(mst_evaluation *evaluation) {
    const double nats = evaluation->loss;
    evaluation->loss = nats / (double)evaluation->tokens;
    evaluation->perplexity = exp(evaluation->loss);
    evaluation->bits_per_byte = evaluation->bytes > 0 ? nats / log(2.0) / (double)evaluation->bytes : NAN;
}

mst_status mst_inference_evaluate(mst_inference *inference, mst_data *data, mst_split split, uint64_t batches,
                                  mst_evaluation *evaluation_out) {
    mst_status status = MST_OK;
    mst_inference *x = inference;
    const size_t micro = x->config.batch.micro, tokens_of = micro * x->config.data.seq_len;
    const uint64_t whole = (mst_data_windows(data, split) + micro - 1) / micro;
    const uint64_t count = batches == 0 || batches > whole ? whole : batches;
    microbatch m = {0};
    *evaluation_out = (mst_evaluation){0};
    MST_TRY(microbatch_init(&m, data, tokens_of));
    MST_TRY(inference_check_tokenizer(x, data));
    MST_CHECK(mst_data_vocab(data) <= x->model_config.vocab_size, MST_ECONFIG,
              "the data has %zu different tokens, the model %zu: they do not belong together",
              mst_data_vocab(data), x->model_config.vocab_size);
    MST_TRY(prepare(x));
    for (uint64_t i = 0; i < count; i++) MST_TRY(add_microbatch(x, data, split, i, &m, evaluation_out));
    MST_CHECK(
        evaluation_out->tokens > 0 || mst_data_tokens(data, split) < 2, MST_ECONFIG,
        "none of the split's tokens that were read (it has %llu) is a target of the loss: all are masked, or "
        "cut off at data.seq_len (%zu)",
        (unsigned long long)mst_data_tokens(data, split), x->config.data.seq_len);
    MST_CHECK(evaluation_out->tokens > 0, MST_ECONFIG,
              "the split has no token to predict: it has %llu tokens; 'muster data build --heldout' holds "
              "some out, and another trainer's file is all --split train",
              (unsigned long long)mst_data_tokens(data, split));
    finish(evaluation_out);
done:
    microbatch_clear(&m);
    return status;
}
