/* Text token by token: a prompt is computed at once, every further token alone, after the keys and values kept. */
#include <stdlib.h>
#include <string.h>

#include "inference_state.h"
#include "muster/clock.h"
#include "muster/random.h"

/* Tokens of a prompt that are computed at once. */
enum { PREFILL = 256 };

struct mst_generator {
    mst_inference *inference;
    mst_model *model;
    size_t context;            /* tokens that the model sees at most */
    int32_t *tokens;           /* [context + 1] the newest, in order */
    size_t count;              /* of tokens */
    size_t pending;            /* the last so many of them are not in the model yet */
    float *logits;             /* [vocab] */
    mst_candidate *candidates; /* [vocab] */
    uint64_t drawn;            /* tokens so far: the number of the next draw */
};

mst_status mst_inference_context(const mst_inference *inference, size_t wanted, size_t *context_out) {
    mst_status status = MST_OK;
    const size_t longest = inference->model_config.max_seq_len;
    *context_out = wanted > 0 ? wanted : inference->config.data.seq_len;
    MST_CHECK(*context_out <= longest, MST_ECONFIG,
              "a context of %zu tokens; model.max_seq_len of this checkpoint is %zu", *context_out, longest);
done:
    return status;
}

mst_status mst_generator_create(mst_inference *x, size_t context, mst_generator **generator_out) {
    mst_status status = MST_OK;
    const size_t vocab = x->model_config.vocab_size;
    mst_generator *g = calloc(1, sizeof *g);
    *generator_out = NULL;
    MST_CHECK(g != NULL, MST_ENOMEM, "generation: out of memory");
    g->inference = x;
    MST_TRY(mst_inference_context(x, context, &g->context));
    g->tokens = calloc(g->context + 1, sizeof *g->tokens);
    g->logits = calloc(vocab, sizeof *g->logits);
    g->candidates = calloc(vocab, sizeof *g->candidates);
    MST_CHECK(g->tokens != NULL && g->logits != NULL && g->candidates != NULL, MST_ENOMEM,
              "generation: out of memory");
    const mst_model_options options = {
        .micro = 1, .seq_len = g->context < PREFILL ? g->context : PREFILL, .kept_tokens = g->context};
    MST_TRY(inference_model(x, options, &g->model));
    *generator_out = g;
    g = NULL;
done:
    mst_generator_destroy(&g);
    return status;
}

void mst_generator_destroy(mst_generator **generator) {
    mst_generator *g = *generator;
    *generator = NULL;
    if (g == NULL) return;
    mst_model_destroy(&g->model);
    free(g->tokens);
    free(g->logits);
    free(g->candidates);
    free(g);
}

/* The end of the prompt that fits, or the end of a document where there is none. What it has in common with the tokens that
 * the model has seen stays in the model, but for the last one, which is computed for its logits. */
static mst_status begin(mst_generator *g, const int32_t *prompt, size_t prompt_count, size_t *kept_out) {
    mst_status status = MST_OK;
    const int32_t end = mst_inference_end_token(g->inference);
    if (prompt_count == 0) {
        MST_CHECK(end >= 0, MST_ECONFIG,
                  "the prompt is empty, and this model has no token between documents to begin after: give a "
                  "prompt");
        prompt = &end;
        prompt_count = 1;
    }
    const size_t seen = mst_model_kept(g->model);
    size_t same = 0;
    g->count = prompt_count < g->context ? prompt_count : g->context;
    prompt += prompt_count - g->count;
    while (same < seen && same + 1 < g->count && g->tokens[same] == prompt[same]) same++;
    mst_model_keep_first(g->model, same);
    memcpy(g->tokens, prompt, g->count * sizeof *g->tokens);
    g->pending = g->count - same;
    *kept_out = same;
done:
    return status;
}

/* Adds a token. When the model has no room for it, the older half of what it sees is dropped, and the newer half is
 * computed again from position 0. */
static void append(mst_generator *g, int32_t token) {
    g->tokens[g->count++] = token;
    g->pending = 1;
    if (g->count <= g->context) return;
    const size_t kept = (g->context + 1) / 2;
    memmove(g->tokens, g->tokens + g->count - kept, kept * sizeof *g->tokens);
    g->count = g->pending = kept;
    mst_model_keep_first(g->model, 0);
}

static mst_status next_token(mst_generator *g, const mst_sampling *sampling, int32_t *token_out) {
    mst_status status = MST_OK;
    const mst_weight_source weights = inference_weights(g->inference);
    MST_TRY(mst_model_extend(g->model, &weights, g->tokens + g->count - g->pending, g->pending, g->logits));
    g->pending = 0;
    MST_TRY(mst_sample(g->logits, g->inference->model_config.vocab_size, sampling,
                       mst_random_uniform(sampling->seed, MST_RANDOM_SAMPLE, g->drawn++, 0), g->candidates,
                       token_out));
done:
    return status;
}

mst_status mst_generator_run(mst_generator *g, const int32_t *prompt, size_t prompt_count,
                             const mst_generation *wanted, mst_token_fn *emit, void *context,
                             mst_generated *generated_out) {
    mst_status status = MST_OK;
    mst_generated result = {.context = g->context, .bytes = mst_model_bytes(g->model)};
    bool stop = false;
    MST_TRY(begin(g, prompt, prompt_count, &result.kept));
    result.prompt = g->count;
    const double start = mst_clock_now();
    for (uint64_t i = 0; i < wanted->count; i++) {
        int32_t token = 0;
        MST_TRY(next_token(g, &wanted->sampling, &token));
        if (i == 0) result.prompt_seconds = mst_clock_now() - start;
        if (token == wanted->end_tokens[0] || token == wanted->end_tokens[1]) break;
        result.tokens++;
        MST_TRY(emit(context, token, &stop));
        if (stop) break;
        append(g, token);
    }
    result.seconds = mst_clock_now() - start - result.prompt_seconds;
    if (generated_out != NULL) *generated_out = result;
done:
    return status;
}

mst_status mst_inference_generate(mst_inference *inference, const int32_t *prompt, size_t prompt_count,
                                  const mst_generation *wanted, mst_token_fn *emit, void *context,
                                  mst_generated *generated_out) {
    mst_generator *g = NULL;
    mst_status status = mst_generator_create(inference, wanted->context, &g);
    if (status == MST_OK)
        status = mst_generator_run(g, prompt, prompt_count, wanted, emit, context, generated_out);
    mst_generator_destroy(&g);
    return status;
}
