/* The next token from its logits. */
#include <math.h>

#include "muster/elementary.h"
#include "muster/inference.h"

/* The likelier one first; equal ones by their number, so that the order is defined. */
static bool before(const mst_candidate *a, const mst_candidate *b) {
    return a->weight != b->weight ? a->weight > b->weight : a->token < b->token;
}

static size_t likeliest(const float *logits, size_t vocab) {
    size_t best = 0;
    for (size_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static mst_status check_logits(const float *logits, size_t vocab) {
    mst_status status = MST_OK;
    bool any = false;
    for (size_t i = 0; i < vocab; i++) {
        MST_CHECK(
            !isnan(logits[i]) && logits[i] < INFINITY, MST_ENONFINITE,
            "the logit of token %zu is %g: the model does not compute numbers; try another checkpoint, or "
            "--precision f32",
            i, (double)logits[i]);
        any = any || logits[i] > -INFINITY;
    }
    MST_CHECK(any, MST_ENONFINITE, "all %zu logits are -inf: the model does not compute numbers", vocab);
done:
    return status;
}

/* Moves heap[i] down to where no child comes before it. */
static void sift(mst_candidate *heap, size_t count, size_t i) {
    for (size_t child; (child = 2 * i + 1) < count; i = child) {
        if (child + 1 < count && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &heap[i])) return;
        const mst_candidate moved = heap[i];
        heap[i] = heap[child];
        heap[child] = moved;
    }
}

/* Takes the first of a heap of `count`, and leaves it behind the end of the heap. */
static void pop(mst_candidate *heap, size_t count) {
    const mst_candidate first = heap[0];
    heap[0] = heap[count - 1];
    heap[count - 1] = first;
    sift(heap, count - 1, 0);
}

/* Fewer candidates: the top_k likeliest, and of these the likeliest that together have top_p of their weight. They
 * stand at the array's end, the likeliest last. Returns how many. */
static size_t restrict_to(mst_candidate *candidates, size_t vocab, const mst_sampling *sampling,
                          double total) {
    const size_t most = sampling->top_k > 0 && sampling->top_k < vocab ? sampling->top_k : vocab;
    size_t popped = 0, count = 0;
    double reached = 0;
    for (size_t i = vocab / 2; i > 0; i--) sift(candidates, vocab, i - 1);
    if (most < vocab) {
        for (total = 0; popped < most; popped++) {
            pop(candidates, vocab - popped);
            total += candidates[vocab - 1 - popped].weight;
        }
    }
    while (count < most && (count == 0 || reached < sampling->top_p * total)) {
        if (count == popped) pop(candidates, vocab - popped++);
        reached += candidates[vocab - 1 - count++].weight;
    }
    return count;
}

/* Softmax weights, not normalised: the likeliest has weight 1. */
static double weigh(const float *logits, size_t vocab, double temperature, mst_candidate *candidates) {
    const double highest = (double)logits[likeliest(logits, vocab)];
    double total = 0;
    for (size_t i = 0; i < vocab; i++) {
        const double x = ((double)logits[i] - highest) / temperature;
        candidates[i] = (mst_candidate){x < -700 ? 0 : mst_elementary_exp(x), (int32_t)i};
        total += candidates[i].weight;
    }
    return total;
}

mst_status mst_sample(const float *logits, size_t vocab, const mst_sampling *sampling, double uniform,
                      mst_candidate *candidates, int32_t *token_out) {
    mst_status status = MST_OK;
    MST_TRY(check_logits(logits, vocab));
    *token_out = (int32_t)likeliest(logits, vocab);
    if (sampling->temperature <= 0 || sampling->top_k == 1) goto done;
    double total = weigh(logits, vocab, sampling->temperature, candidates), reached = 0;
    size_t count = vocab;
    if (sampling->top_p < 1 || (sampling->top_k > 0 && sampling->top_k < vocab)) {
        count = restrict_to(candidates, vocab, sampling, total);
        total = 0;
        for (size_t i = 0; i < count; i++) total += candidates[vocab - 1 - i].weight;
    }
    /* uniform is below 1; rounding may leave nothing to reach it, and then the last with a weight is meant */
    for (size_t i = 0; i < count; i++) {
        const mst_candidate *one = &candidates[vocab - 1 - i];
        reached += one->weight;
        if (one->weight > 0) *token_out = one->token;
        if (uniform * total < reached) break;
    }
done:
    return status;
}
