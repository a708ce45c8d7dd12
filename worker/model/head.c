/*
 * The head: final norm, then product and cross-entropy fused over chunks of rows, so that logits exist for
 * one chunk at a time. With a tied embedding the table of the embedding's unit is the LM head's weight.
 */
#include <string.h>

#include "decoder.h"

/* The units of the head, in an array that is passed by its first; the table's is not held where it is the norm's, too. */
enum { NORM, TABLE, HEAD_UNITS = MST_STRETCH_UNITS };

static mst_status head_acquire(const mst_pass *pass, mst_held head_out[HEAD_UNITS]) {
    mst_status status = MST_OK;
    const mst_model *model = pass->model;
    memset(head_out, 0, HEAD_UNITS * sizeof *head_out);
    MST_TRY(mst_held_acquire(pass, model->layout->unit_count - 1, pass->sink, &head_out[NORM]));
    if (model->config.tie_embeddings) MST_TRY(mst_held_acquire(pass, 0, pass->sink, &head_out[TABLE]));
done:
    return status;
}

static void head_release(mst_held *head) {
    mst_held_release(&head[TABLE]);
    mst_held_release(&head[NORM]);
}

static const mst_held *table_of(const mst_held *head) {
    return head[TABLE].weights ? &head[TABLE] : &head[NORM];
}

static mst_role table_role(const mst_model *model) {
    return model->config.tie_embeddings ? MST_ROLE_TOKENS : MST_ROLE_LM_HEAD;
}

/* logits [rows, vocab] in ACC = h [rows, d_model] W^T. */
static mst_status logits_of(const mst_held *head, size_t first, size_t rows, void *logits) {
    const mst_model *model = head->pass->model;
    size_t d = model->config.d_model, vocab = model->config.vocab_size;
    mst_matmul_args args = {
        .m = rows,
        .n = vocab,
        .k = d,
        .dtype = model->dtype,
        .c_dtype = model->acc,
        .b_transposed = true,
        .a = mst_at(model->final.y, first * d, model->dtype),
        .lda = d,
        .b = mst_weight(table_of(head), table_role(model)),
        .ldb = d,
        .c = logits,
        .ldc = vocab,
    };
    return model->kernels->matmul(model->queue, &args);
}

/* dh = dlogits W and, where W is trained, dW += dlogits^T h for a chunk whose dlogits stand in the place of its logits. */
static mst_status chunk_backward(const mst_held *head, size_t first, size_t rows, size_t ldd) {
    mst_status status = MST_OK;
    const mst_model *model = head->pass->model;
    size_t d = model->config.d_model, vocab = model->config.vocab_size;
    mst_matmul_args dh = {
        .m = rows,
        .n = d,
        .k = vocab,
        .dtype = model->dtype,
        .c_dtype = model->dtype,
        .a = model->logits,
        .lda = ldd,
        .b = mst_weight(table_of(head), table_role(model)),
        .ldb = d,
        .c = mst_at(model->dnorm, first * d, model->dtype),
        .ldc = d,
    };
    MST_TRY(model->kernels->matmul(model->queue, &dh));
    if (mst_is_frozen(model)) goto done;
    mst_matmul_args dw = {
        .m = vocab,
        .n = d,
        .k = rows,
        .dtype = model->dtype,
        .c_dtype = model->acc,
        .a_transposed = true,
        .a = model->logits,
        .lda = ldd,
        .b = mst_at(model->final.y, first * d, model->dtype),
        .ldb = d,
        .c = mst_gradient(table_of(head), table_role(model)),
        .ldc = d,
        .accumulate = true,
    };
    MST_TRY(model->kernels->matmul(model->queue, &dw));
done:
    return status;
}

static mst_status chunk(const mst_held *head, size_t first, size_t rows) {
    mst_status status = MST_OK;
    const mst_pass *pass = head->pass;
    const mst_model *model = pass->model;
    const bool adds = head->sink != NULL;
    size_t vocab = model->config.vocab_size;
    /* In place: a row of dlogits starts where its row of logits does, also when its elements are smaller. */
    size_t ldd = vocab * (mst_dtype_size(model->acc) / mst_dtype_size(model->dtype));
    MST_TRY(logits_of(head, first, rows, model->logits));
    mst_cross_entropy_args loss = {
        .rows = rows,
        .vocab = vocab,
        .dtype = model->dtype,
        .logits = model->logits,
        .targets = model->targets + first,
        .scale = pass->loss_scale,
        .z_coefficient = pass->z_coefficient,
        .loss = mst_at(model->loss, first, model->acc),
        .zloss = mst_at(model->zloss, first, model->acc),
        .dlogits = adds ? model->logits : NULL,
        .ldd = ldd,
    };
    MST_TRY(model->kernels->cross_entropy(model->queue, &loss));
    if (adds) MST_TRY(chunk_backward(head, first, rows, ldd));
done:
    return status;
}

static mst_status final_norm(const mst_held *head) {
    const mst_model *model = head->pass->model;
    const void *x = mst_layer(model, model->config.n_layers - 1)->norm2.x;
    return mst_norm_forward(&head[NORM], MST_ROLE_FINAL_NORM, x, model->delta, &model->final);
}

/* Losses, and with a sink the head's gradient and dx. */
static mst_status all_chunks(const mst_held *head) {
    mst_status status = MST_OK;
    const mst_model *model = head->pass->model;
    MST_TRY(final_norm(head));
    for (size_t first = 0; first < model->rows; first += model->chunk_rows) {
        size_t left = model->rows - first;
        MST_TRY(chunk(head, first, left < model->chunk_rows ? left : model->chunk_rows));
    }
    if (head->sink)
        MST_TRY(mst_norm_backward(&head[NORM], MST_ROLE_FINAL_NORM, &model->final, model->dnorm, NULL,
                                  model->dx));
done:
    return status;
}

mst_status mst_pass_head(const mst_pass *pass) {
    mst_status status = MST_OK;
    mst_held head[HEAD_UNITS];
    MST_TRY(head_acquire(pass, head));
    MST_TRY(mst_stretch(all_chunks, head, HEAD_UNITS));
    if (pass->sink) MST_TRY(mst_unit_done(pass, head[NORM].unit));
done:
    head_release(head);
    return status ? mst_error_context(status, "head") : MST_OK;
}

mst_status mst_pass_logits(const mst_pass *pass, size_t row, void *logits_out) {
    mst_status status = MST_OK;
    const mst_model *model = pass->model;
    mst_held head[HEAD_UNITS];
    MST_TRY(head_acquire(pass, head));
    MST_TRY(final_norm(head));
    MST_TRY(logits_of(head, row, 1, model->logits));
    MST_TRY(mst_memory_copy(model->queue, logits_out, model->logits,
                            model->config.vocab_size * mst_dtype_size(model->acc)));
done:
    head_release(head);
    return status ? mst_error_context(status, "head") : MST_OK;
}
