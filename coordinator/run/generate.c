/* Text token by token: a prompt is computed at once, every further token alone, after the keys and values kept. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inference_state.h"
#include "muster/random.h"

/* Tokens of a prompt that are computed at once. */
enum { PREFILL = 256 };

typedef struct generator {
    mst_inference *inference;
    const mst_generation *wanted;
    mst_model *model;
    size_t context;            /* tokens that the model sees at most */
    int32_t *tokens;           /* [context + 1] the newest, in order */
    size_t count;              /* of tokens */
    size_t pending;            /* the last so many of them are not in the model yet */
    float *logits;             /* [vocab] */
    mst_candidate *candidates; /* [vocab] */
} generator;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

mst_status mst_inference_context(const mst_inference *inference, size_t wanted, size_t *context_out) {
    mst_status status = MST_OK;
    const size_t longest = inference->model_config.max_seq_len;
    *context_out = wanted > 0 ? wanted : inference->config.data.seq_len;
    MST_CHECK(*context_out <= longest, MST_ECONFIG,
              "a context of %zu tokens; model.max_seq_len of this checkpoint is %zu", *context_out, longest);
done:
    return status;
}

static mst_status generator_init(mst_inference *x, const mst_generation *wanted, generator *g) {
    mst_status status = MST_OK;
    const size_t vocab = x->model_config.vocab_size;
    *g = (generator){.inference = x, .wanted = wanted};
    MST_TRY(mst_inference_context(x, wanted->context, &g->context));
    g->tokens = calloc(g->context + 1, sizeof *g->tokens);
    g->logits = calloc(vocab, sizeof *g->logits);
    g->candidates = calloc(vocab, sizeof *g->candidates);
    MST_CHECK(g->tokens != NULL && g->logits != NULL && g->candidates != NULL, MST_ENOMEM,
              "generation: out of memory");
    const mst_model_options options = {.dtype = x->precision,
                                       .micro = 1,
                                       .seq_len = g->context < PREFILL ? g->context : PREFILL,
                                       .forward_only = true,
                                       .kept_tokens = g->context};
    MST_TRY(mst_model_create(&x->model_config, &x->layout, &options, x->queue, &x->kernels, &g->model));
done:
    return status;
}

static void generator_clear(generator *g) {
    mst_model_destroy(&g->model);
    free(g->tokens);
    free(g->logits);
    free(g->candidates);
}

/* The end of the prompt that fits, or the end of a document where there is none. */
static mst_status begin(generator *g, const int32_t *prompt, size_t prompt_count) {
    mst_status status = MST_OK;
    const int32_t end = mst_inference_end_token(g->inference);
    if (prompt_count == 0) {
        MST_CHECK(end >= 0, MST_ECONFIG,
                  "the prompt is empty, and this model has no token between documents to begin after: give a "
                  "prompt");
        prompt = &end;
        prompt_count = 1;
    }
    g->count = g->pending = prompt_count < g->context ? prompt_count : g->context;
    memcpy(g->tokens, prompt + prompt_count - g->count, g->count * sizeof *g->tokens);
done:
    return status;
}

/* Adds a token. When the model has no room for it, the older half of what it sees is dropped, and the newer half is
 * computed again from position 0. */
static void append(generator *g, int32_t token) {
    g->tokens[g->count++] = token;
    g->pending = 1;
    if (g->count <= g->context) return;
    const size_t kept = (g->context + 1) / 2;
    memmove(g->tokens, g->tokens + g->count - kept, kept * sizeof *g->tokens);
    g->count = g->pending = kept;
    mst_model_keep_first(g->model, 0);
}

static mst_status next_token(generator *g, uint64_t number, int32_t *token_out) {
    mst_status status = MST_OK;
    const mst_weight_source weights = inference_weights(g->inference);
    const mst_sampling *sampling = &g->wanted->sampling;
    MST_TRY(mst_model_extend(g->model, &weights, g->tokens + g->count - g->pending, g->pending, g->logits));
    MST_TRY(mst_sample(g->logits, g->inference->model_config.vocab_size, sampling,
                       mst_random_uniform(sampling->seed, MST_RANDOM_SAMPLE, number, 0), g->candidates,
                       token_out));
done:
    return status;
}

mst_status mst_inference_generate(mst_inference *inference, const int32_t *prompt, size_t prompt_count,
                                  const mst_generation *wanted, mst_token_fn *emit, void *context,
                                  mst_generated *generated_out) {
    mst_status status = MST_OK;
    generator g;
    mst_generated result = {0};
    bool stop = false;
    MST_TRY(generator_init(inference, wanted, &g));
    MST_TRY(begin(&g, prompt, prompt_count));
    result.context = g.context;
    result.prompt = g.count;
    result.bytes = mst_model_bytes(g.model);
    const double start = seconds_now();
    for (uint64_t i = 0; i < wanted->count; i++) {
        int32_t token = 0;
        MST_TRY(next_token(&g, i, &token));
        if (i == 0) result.prompt_seconds = seconds_now() - start;
        if (token == wanted->end_token) break;
        result.tokens++;
        MST_TRY(emit(context, token, &stop));
        if (stop) break;
        append(&g, token);
    }
    result.seconds = seconds_now() - start - result.prompt_seconds;
    if (generated_out != NULL) *generated_out = result;
done:
    generator_clear(&g);
    return status;
}
