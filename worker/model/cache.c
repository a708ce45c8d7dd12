/* Token by token: keys and values of the tokens so far are kept, and a pass computes the new rows only. */
#include "decoder.h"

/* A kept token's keys and values side by side, as they stand in a row of queries, keys and values. */
static size_t kept_width(const mst_model *model) {
    return model->width_qkv - model->column_k;
}

mst_status mst_keep(const mst_held *held, const void *qkv, mst_attention_args *args) {
    mst_status status = MST_OK;
    const mst_model *model = held->pass->model;
    size_t width = kept_width(model), layer = mst_layer_of(held);
    void *kept = mst_at(model->keys_values, layer * model->options.kept_tokens * width, model->dtype);
    for (size_t r = 0; r < model->rows; r++) {
        mst_cast_args copy = {
            .count = width,
            .source = mst_at(qkv, r * model->width_qkv + model->column_k, model->dtype),
            .source_dtype = model->dtype,
            .result = mst_at(kept, (model->first + r) * width, model->dtype),
            .result_dtype = model->dtype,
        };
        MST_TRY(model->kernels->cast(model->queue, &copy));
    }
    args->seq_len = model->rows;
    args->past = model->first;
    args->k = kept;
    args->v = mst_at(kept, width / 2, model->dtype);
    args->ldk = args->ldv = width;
done:
    return status;
}

/* One pass over at most seq_len tokens. @param logits_out NULL: none are wanted */
static mst_status extend_by(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                            size_t count, void *logits_out) {
    mst_status status = MST_OK;
    mst_pass pass = {.model = model, .source = weights, .tokens = tokens};
    model->rows = count;
    model->first = model->kept;
    MST_TRY(mst_pass_begin(&pass));
    MST_TRY(mst_pass_forward(&pass));
    if (logits_out) MST_TRY(mst_pass_logits(&pass, count - 1, logits_out));
    model->kept += count;
done:
    model->rows = model->options.seq_len;
    model->first = 0;
    return status;
}

mst_status mst_model_extend(mst_model *model, const mst_weight_source *weights, const int32_t *tokens,
                            size_t count, void *logits_out) {
    mst_status status = MST_OK;
    const size_t before = model->kept, room = model->options.kept_tokens, most = model->options.seq_len;
    MST_CHECK(model->keys_values, MST_EINVAL, "model: it keeps no tokens; create it with kept_tokens");
    MST_CHECK(count >= 1 && count <= room - before, MST_EINVAL,
              "model: %zu tokens after %zu; there must be 1 at least, and room for them: kept_tokens is %zu",
              count, before, room);
    MST_TRY(mst_check_tokens(model, tokens, count, NULL));
    for (size_t at = 0; at < count;) {
        size_t rows = count - at < most ? count - at : most;
        bool last = at + rows == count;
        MST_TRY(extend_by(model, weights, tokens + at, rows, last ? logits_out : NULL));
        at += rows;
    }
done:
    if (status != MST_OK) model->kept = before;
    return status;
}

size_t mst_model_kept(const mst_model *model) {
    return model->kept;
}

void mst_model_keep_first(mst_model *model, size_t count) {
    if (count < model->kept) model->kept = count;
}
