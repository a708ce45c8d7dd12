#include "muster/inference.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "muster/checkpoint.h"
#include "muster/random.h"

struct mst_inference {
    char path[4096];
    mst_config config;
    mst_model_config model_config;
    mst_layout layout;
    mst_kernels kernels;
    mst_queue *queue;
    void **weights; /* [units] flat, in `precision` */
    mst_dtype precision;
    mst_model *model; /* for `micro` sequences of seq_len tokens */
    size_t micro;
};

static mst_status acquire(void *context, size_t unit, const void **weights_out) {
    mst_inference *x = context;
    *weights_out = x->weights[unit];
    return MST_OK;
}

static void release(void *context, size_t unit) {
    (void)context;
    (void)unit;
}

static mst_weight_source source(mst_inference *x) {
    return (mst_weight_source){.context = x, .acquire = acquire, .release = release};
}

static mst_status read_meta(mst_inference *x) {
    mst_status status = MST_OK;
    mst_checkpoint_meta meta = {0};
    mst_checkpoint_digests digests;
    MST_TRY(mst_checkpoint_open(x->path, &meta, &digests));
    x->model_config = meta.model;
    status = mst_config_parse(meta.config, x->path, NULL, 0, stderr, &x->config);
    if (status != MST_OK) mst_error_context(status, "the config in %s", x->path);
done:
    mst_checkpoint_meta_clear(&meta);
    return status;
}

/* Reads the masters, and keeps them in the compute precision only. */
static mst_status read_weights(mst_inference *x) {
    mst_status status = MST_OK;
    mst_checkpoint_context context = {.queue = x->queue, .kernels = &x->kernels};
    mst_shard *shards = calloc(x->layout.unit_count, sizeof *shards);
    x->weights = calloc(x->layout.unit_count, sizeof *x->weights);
    MST_CHECK(shards != NULL && x->weights != NULL, MST_ENOMEM, "%s: out of memory", x->path);
    MST_TRY(mst_comm_create_alone(&context.comm));
    for (size_t u = 0; u < x->layout.unit_count; u++) {
        void *master = NULL;
        shards[u].blocks = x->layout.units[u].blocks;
        MST_TRY(mst_memory_alloc(MST_SPACE_HOST, shards[u].blocks * MST_BLOCK * sizeof(float), &master));
        shards[u].master = master;
    }
    MST_TRY(mst_checkpoint_load(&context, x->path, &x->layout, shards));
    for (size_t u = 0; u < x->layout.unit_count; u++) {
        const size_t count = shards[u].blocks * MST_BLOCK;
        MST_TRY(mst_memory_alloc(MST_SPACE_DEVICE, count * mst_dtype_size(x->precision), &x->weights[u]));
        const mst_cast_args cast = {.count = count,
                                    .source = shards[u].master,
                                    .source_dtype = MST_F32,
                                    .result = x->weights[u],
                                    .result_dtype = x->precision};
        MST_TRY(x->kernels.cast(x->queue, &cast));
        mst_memory_free(MST_SPACE_HOST, &shards[u].master);
    }
done:
    for (size_t u = 0; shards != NULL && u < x->layout.unit_count; u++)
        mst_memory_free(MST_SPACE_HOST, &shards[u].master);
    free(shards);
    mst_comm_destroy(&context.comm);
    return status;
}

static int usable_cores(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

mst_status mst_inference_open(const char *path, const char *precision, int threads,
                              mst_inference **inference_out) {
    mst_status status = MST_OK;
    mst_inference *x = calloc(1, sizeof *x);
    *inference_out = NULL;
    MST_CHECK(x != NULL, MST_ENOMEM, "%s: out of memory", path);
    MST_TRY(mst_checkpoint_resolve(path, x->path));
    MST_TRY(read_meta(x));
    x->precision = x->config.train.precision;
    if (precision != NULL) {
        MST_CHECK(strcmp(precision, "f32") == 0 || strcmp(precision, "bf16") == 0, MST_ECONFIG,
                  "--precision: '%s' is neither f32 nor bf16", precision);
        x->precision = strcmp(precision, "f32") == 0 ? MST_F32 : MST_BF16;
    }
    MST_TRY(mst_model_layout(&x->model_config, &x->layout));
    MST_TRY(mst_kernels_open(x->config.device.kernels, x->config.device.level, &x->kernels));
    MST_TRY(mst_queue_create(threads > 0 ? threads : usable_cores(), &x->queue));
    MST_TRY(read_weights(x));
    *inference_out = x;
    x = NULL;
done:
    mst_inference_close(&x);
    return status;
}

void mst_inference_close(mst_inference **inference) {
    mst_inference *x = *inference;
    if (x == NULL) return;
    mst_model_destroy(&x->model);
    for (size_t u = 0; x->weights != NULL && u < x->layout.unit_count; u++)
        mst_memory_free(MST_SPACE_DEVICE, &x->weights[u]);
    free(x->weights);
    mst_queue_destroy(&x->queue);
    mst_layout_clear(&x->layout);
    mst_config_clear(&x->config);
    free(x);
    *inference = NULL;
}

const mst_config *mst_inference_config(const mst_inference *inference) {
    return &inference->config;
}
const char *mst_inference_path(const mst_inference *inference) {
    return inference->path;
}

/* Makes the model for `micro` sequences, unless it stands. */
static mst_status prepare(mst_inference *x, size_t micro) {
    const mst_model_options options = {
        .dtype = x->precision, .micro = micro, .seq_len = x->config.data.seq_len, .forward_only = true};
    if (x->model != NULL && x->micro == micro) return MST_OK;
    mst_model_destroy(&x->model);
    x->micro = micro;
    return mst_model_create(&x->model_config, &x->layout, &options, x->queue, &x->kernels, &x->model);
}

mst_status mst_inference_evaluate(mst_inference *inference, mst_data *data, mst_split split, uint64_t batches,
                                  mst_evaluation *evaluation_out) {
    mst_status status = MST_OK;
    mst_inference *x = inference;
    const mst_weight_source weights = source(x);
    const size_t micro = x->config.batch.micro, tokens_of = micro * x->config.data.seq_len;
    const uint64_t whole = mst_data_samples(data, split) / micro;
    const uint64_t count = batches == 0 || batches > whole ? whole : batches;
    int32_t *tokens = calloc(tokens_of, sizeof *tokens), *targets = calloc(tokens_of, sizeof *targets);
    *evaluation_out = (mst_evaluation){0};
    MST_CHECK(tokens != NULL && targets != NULL, MST_ENOMEM, "evaluation: out of memory for %zu tokens",
              tokens_of);
    MST_CHECK(mst_data_vocab(data) <= x->model_config.vocab_size, MST_ECONFIG,
              "the data has %zu different tokens, the model %zu: they do not belong together",
              mst_data_vocab(data), x->model_config.vocab_size);
    MST_CHECK(count > 0, MST_ECONFIG,
              "the split has %llu tokens, less than one microbatch of %zu sequences x %zu tokens",
              (unsigned long long)mst_data_tokens(data, split), micro, x->config.data.seq_len);
    MST_TRY(prepare(x, micro));
    for (uint64_t i = 0; i < count; i++) {
        mst_loss one;
        MST_TRY(mst_data_read(data, split, i * micro, micro, tokens, targets));
        MST_TRY(mst_model_loss(x->model, &weights, tokens, targets, &one));
        evaluation_out->loss += one.loss;
        evaluation_out->tokens += one.valid;
    }
    MST_CHECK(evaluation_out->tokens > 0, MST_ECONFIG, "the split has no valid token");
    evaluation_out->loss /= (double)evaluation_out->tokens;
done:
    free(tokens);
    free(targets);
    return status;
}

/* ---- generation ---- */

typedef struct candidate {
    double probability;
    int32_t token;
} candidate;

/* The likeliest first; equal ones by their number, so that the order is defined. */
static int by_probability(const void *left, const void *right) {
    const candidate *a = left, *b = right;
    if (a->probability != b->probability) return a->probability > b->probability ? -1 : 1;
    return a->token < b->token ? -1 : a->token > b->token;
}

static int32_t likeliest(const float *logits, size_t vocab) {
    size_t best = 0;
    for (size_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

/* Draws from the nucleus of the distribution with one uniform number. Holtzman et al. 2020. */
static int32_t draw(const float *logits, candidate *candidates, size_t vocab, const mst_sampling *sampling,
                    double uniform) {
    const double highest = (double)logits[likeliest(logits, vocab)];
    double total = 0, nucleus = 0, reached = 0;
    size_t count = 0;
    for (size_t i = 0; i < vocab; i++) {
        candidates[i] = (candidate){exp(((double)logits[i] - highest) / sampling->temperature), (int32_t)i};
        total += candidates[i].probability;
    }
    qsort(candidates, vocab, sizeof *candidates, by_probability);
    while (count < vocab && (count == 0 || nucleus < sampling->top_p * total))
        nucleus += candidates[count++].probability;
    for (size_t i = 0; i < count; i++) {
        reached += candidates[i].probability;
        if (uniform * nucleus < reached) return candidates[i].token;
    }
    return candidates[count - 1].token;
}

mst_status mst_inference_generate(mst_inference *inference, const int32_t *prompt, size_t prompt_count,
                                  size_t count, int32_t end_token, const mst_sampling *sampling,
                                  mst_status (*emit)(void *context, int32_t token), void *context) {
    mst_status status = MST_OK;
    mst_inference *x = inference;
    const mst_weight_source weights = source(x);
    const size_t seq_len = x->config.data.seq_len, vocab = x->model_config.vocab_size;
    int32_t *window = calloc(seq_len, sizeof *window);
    float *logits = calloc(vocab, sizeof *logits);
    candidate *candidates = calloc(vocab, sizeof *candidates);
    size_t length = prompt_count < seq_len ? prompt_count : seq_len;
    MST_CHECK(window != NULL && logits != NULL && candidates != NULL, MST_ENOMEM,
              "generation: out of memory");
    MST_CHECK(prompt_count > 0, MST_ECONFIG, "the prompt is empty: give at least one character");
    MST_TRY(prepare(x, 1));
    memcpy(window, prompt + prompt_count - length, length * sizeof *window);
    for (size_t i = 0; i < count; i++) {
        MST_TRY(mst_model_logits(x->model, &weights, window, length - 1, logits));
        const double uniform = mst_random_uniform(sampling->seed, MST_RANDOM_SAMPLE, i, 0);
        const int32_t next = sampling->temperature > 0 ? draw(logits, candidates, vocab, sampling, uniform)
                                                       : likeliest(logits, vocab);
        if (next == end_token) break;
        MST_TRY(emit(context, next));
        if (length == seq_len) memmove(window, window + 1, --length * sizeof *window);
        window[length++] = next;
    }
done:
    free(window);
    free(logits);
    free(candidates);
    return status;
}
