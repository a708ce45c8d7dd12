/* Questions with several answers: the loss of each, and which one is chosen. */
#include <math.h>
#include <stdlib.h>

#include "inference_state.h"
#include "muster/choices.h"

/* Choices are computed together that have the same length when it is rounded up. */
enum { LENGTH_STEP = 32, BATCH_TOKENS = 2048 };

typedef struct weighing {
    mst_inference *x;
    mst_choices *all;
    mst_choice **order; /* [choice_count] the longest first */
    mst_choices_progress_fn *progress;
    void *context;
    uint64_t done, tokens; /* all tokens, for the progress */
} weighing;

/* Tokens that the model sees of a choice, rounded up as far as it has positions. */
static size_t length_of(const mst_inference *x, const mst_choice *choice) {
    const size_t rounded = (choice->count - 1 + LENGTH_STEP - 1) / LENGTH_STEP * LENGTH_STEP;
    return rounded < x->model_config.max_seq_len ? rounded : x->model_config.max_seq_len;
}

static int compare(const void *left, const void *right) {
    const mst_choice *a = *(mst_choice *const *)left, *b = *(mst_choice *const *)right;
    if (a->count != b->count) return a->count < b->count ? 1 : -1;
    return a < b ? -1 : a > b; /* they stand in one array */
}

static mst_status sort(weighing *w) {
    const size_t count = w->all->choice_count;
    w->order = calloc(count, sizeof(mst_choice *));
    if (w->order == NULL) return mst_error(MST_ENOMEM, "out of memory for %zu choices", count);
    for (size_t i = 0; i < count; i++) {
        w->order[i] = &w->all->choices[i];
        w->tokens += w->order[i]->count;
    }
    qsort(w->order, count, sizeof(mst_choice *), compare);
    return MST_OK;
}

/* A sequence: the tokens that are seen, and as targets those of the answer. */
static void fill(const mst_choice *choice, size_t length, int32_t *tokens, int32_t *targets) {
    for (size_t i = 0; i < length; i++) {
        const bool seen = choice != NULL && i + 1 < choice->count;
        tokens[i] = seen ? choice->tokens[i] : 0;
        targets[i] = seen && i + 1 >= choice->first ? choice->tokens[i + 1] : -1;
    }
}

/* One pass: up to `micro` choices; what is missing is filled with sequences that have no target. */
static mst_status weigh_batch(weighing *w, mst_model *model, mst_choice *const *batch, size_t count,
                              size_t micro, size_t length, int32_t *tokens, int32_t *targets) {
    mst_status status = MST_OK;
    const mst_weight_source weights = inference_weights(w->x);
    mst_loss loss;
    for (size_t s = 0; s < micro; s++)
        fill(s < count ? batch[s] : NULL, length, tokens + s * length, targets + s * length);
    MST_TRY(mst_model_settle(model, mst_model_loss(model, &weights, tokens, targets, NULL, &loss)));
    for (size_t s = 0; s < count; s++) {
        batch[s]->loss = mst_model_sequence_loss(model, s);
        w->done += batch[s]->count;
    }
    if (w->progress != NULL) w->progress(w->context, w->done, w->tokens);
done:
    return status;
}

/* Choices [first, end) of the order, which have one length. */
static mst_status weigh_length(weighing *w, size_t first, size_t end, size_t length) {
    mst_status status = MST_OK;
    mst_inference *x = w->x;
    mst_model *model = NULL;
    const size_t most = length < BATCH_TOKENS ? BATCH_TOKENS / length : 1;
    const size_t micro = end - first < most ? end - first : most;
    const mst_model_options options = {.micro = micro, .seq_len = length};
    int32_t *tokens = calloc(micro * length, sizeof *tokens);
    int32_t *targets = calloc(micro * length, sizeof *targets);
    MST_CHECK(tokens != NULL && targets != NULL, MST_ENOMEM, "out of memory for %zu tokens", micro * length);
    MST_TRY(inference_model(x, options, &model));
    for (size_t i = first; i < end; i += micro)
        MST_TRY(weigh_batch(w, model, w->order + i, end - i < micro ? end - i : micro, micro, length, tokens,
                            targets));
done:
    mst_model_destroy(&model);
    free(tokens);
    free(targets);
    return status;
}

static mst_status check_finite(const mst_choices *all) {
    for (size_t q = 0; q < all->question_count; q++) {
        const mst_question *question = &all->questions[q];
        for (size_t i = 0; i < question->count; i++) {
            const double loss = all->choices[question->first + i].loss;
            if (!isfinite(loss))
                return mst_error(MST_ENONFINITE, "%s:%zu: the loss of answer %zu is %g", question->path,
                                 question->line, i, loss);
        }
    }
    return MST_OK;
}

mst_status mst_choices_weigh(mst_inference *inference, mst_choices *choices,
                             mst_choices_progress_fn *progress, void *context) {
    mst_status status = MST_OK;
    weighing w = {.x = inference, .all = choices, .progress = progress, .context = context};
    MST_TRY(sort(&w));
    for (size_t first = 0, end = 0; first < choices->choice_count; first = end) {
        const size_t length = length_of(inference, w.order[first]);
        while (end < choices->choice_count && length_of(inference, w.order[end]) == length) end++;
        MST_TRY(weigh_length(&w, first, end, length));
    }
    MST_TRY(check_finite(choices));
done:
    free(w.order);
    return status;
}

/* ---- what is chosen ---- */

static double weight_of(const mst_choice *choice, mst_choice_rule rule) {
    if (rule == MST_CHOICE_MEAN) return choice->loss / (double)(choice->count - choice->first);
    if (rule == MST_CHOICE_BYTE) return choice->loss / (double)choice->bytes;
    return choice->loss;
}

size_t mst_choices_made(const mst_choices *choices, const mst_question *question, mst_choice_rule rule) {
    const mst_choice *of = choices->choices + question->first;
    size_t best = 0;
    for (size_t i = 1; i < question->count; i++)
        if (weight_of(&of[i], rule) < weight_of(&of[best], rule)) best = i;
    return best;
}

void mst_choices_count(const mst_choices *choices, mst_choices_report *report_out) {
    *report_out =
        (mst_choices_report){.questions = choices->question_count, .choices = choices->choice_count};
    for (size_t i = 0; i < choices->choice_count; i++)
        report_out->tokens += choices->choices[i].count - choices->choices[i].first;
    for (size_t i = 0; i < choices->question_count; i++)
        for (mst_choice_rule rule = 0; rule < MST_CHOICE_RULES; rule++)
            report_out->right[rule] +=
                mst_choices_made(choices, &choices->questions[i], rule) == choices->questions[i].right;
}
