#include "judge.h"

#include <jansson.h>
#include <string.h>

#include "muster/random.h"

const char *judge_field(const mst_build_options *options) {
    return options->text_field != NULL ? options->text_field : "text";
}

mst_status judge_init(document_judge *judge, const mst_build_options *options) {
    mst_status status = MST_OK;
    json_t *text = json_string(judge_field(options));
    *judge = (document_judge){.options = options};
    MST_CHECK(options->heldout_fraction >= 0 && options->heldout_fraction <= 0.5, MST_ECONFIG,
              "the held-out fraction is %g; it must be from 0 to 0.5", options->heldout_fraction);
    MST_CHECK(text != NULL, MST_ECONFIG, "the name of the text field is not valid UTF-8");
    MST_TRY(mst_hasher_create(&judge->hasher));
done:
    json_decref(text);
    return status;
}

void judge_clear(document_judge *judge) {
    digest_set_clear(&judge->seen);
    mst_hasher_destroy(&judge->hasher);
}

/* Depends on seed and content only: a document falls on the same side whatever stands
 * beside it, in other files too. */
static bool is_heldout(const mst_build_options *options, const mst_digest *digest) {
    uint64_t a, b;
    memcpy(&a, digest->bytes, sizeof a);
    memcpy(&b, digest->bytes + sizeof a, sizeof b);
    return mst_random_uniform(options->seed, MST_RANDOM_HELDOUT, a, b) < options->heldout_fraction;
}

mst_status judge_piece(document_judge *judge, const uint8_t *bytes, size_t count) {
    judge->bytes += count;
    return mst_hasher_update(judge->hasher, bytes, count);
}

mst_status judge_end(document_judge *judge, verdict *verdict_out, mst_split *split_out) {
    mst_status status = MST_OK;
    mst_digest digest;
    bool is_new;
    MST_TRY(mst_hasher_finish(judge->hasher, &digest));
    *verdict_out = VERDICT_EMPTY;
    *split_out = MST_SPLIT_TRAIN;
    if (judge->bytes == 0) goto done;
    judge->bytes = 0;
    MST_TRY(digest_set_add(&judge->seen, &digest, &is_new));
    *verdict_out = is_new ? VERDICT_KEPT : VERDICT_DUPLICATE;
    *split_out = is_heldout(judge->options, &digest) ? MST_SPLIT_HELDOUT : MST_SPLIT_TRAIN;
done:
    return status;
}
