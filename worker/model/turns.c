/* What passes bring to the device and take from it. The host does not wait for a pass: it goes on while the device computes. */
#include <string.h>

#include "decoder.h"

static size_t between(const void *first, const void *second) {
    return (size_t)((const char *)second - (const char *)first);
}

static mst_turn *turn_of(mst_model *model) {
    return &model->turns[model->turn];
}

/* ---- life ---- */

static mst_status turn_init(mst_model *model, mst_turn *turn) {
    mst_status status = MST_OK;
    void *memory;
    MST_TRY(mst_mark_create(model->queue, &turn->mark));
    MST_TRY(mst_memory_alloc(MST_SPACE_PINNED, model->input_bytes, &memory));
    turn->inputs = memory;
    MST_TRY(mst_memory_alloc(MST_SPACE_PINNED, model->loss_bytes, &memory));
    turn->losses = memory;
done:
    return status ? mst_error_context(status, "inputs and losses of a microbatch") : MST_OK;
}

mst_status mst_turns_init(mst_model *model) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < MST_TURNS && mst_memory_is_apart(); i++)
        MST_TRY(turn_init(model, &model->turns[i]));
done:
    return status;
}

void mst_turns_clear(mst_model *model) {
    for (size_t i = 0; i < MST_TURNS; i++) {
        mst_turn *turn = &model->turns[i];
        if (turn->mark) mst_mark_wait(model->queue, turn->mark);
        mst_mark_destroy(model->queue, &turn->mark);
        mst_memory_free(MST_SPACE_PINNED, &turn->inputs);
        mst_memory_free(MST_SPACE_PINNED, &turn->losses);
    }
}

/* ---- losses ---- */

static double value_at(const void *values, size_t index, mst_dtype acc) {
    return acc == MST_F64 ? ((const double *)values)[index] : (double)((const float *)values)[index];
}

/* The last pass's, of each row, where the host can read them. */
static const void *losses_of(const mst_model *model, const mst_turn *turn) {
    return turn->losses ? turn->losses : model->loss;
}

/* Sums in fp64, in the order of the rows. */
static void add_up(const mst_model *model, const mst_turn *turn, mst_loss *sum) {
    const char *losses = losses_of(model, turn), *zlosses = losses + between(model->loss, model->zloss);
    for (size_t r = 0; r < model->rows; r++) {
        sum->loss += value_at(losses, r, model->acc);
        sum->zloss += value_at(zlosses, r, model->acc);
    }
}

double mst_model_sequence_loss(const mst_model *model, size_t sequence) {
    const void *losses = losses_of(model, &model->turns[model->turn]);
    double sum = 0;
    for (size_t r = 0; r < model->options.seq_len; r++)
        sum += value_at(losses, sequence * model->options.seq_len + r, model->acc);
    return sum;
}

/* Waits for the pass that had the turn. */
static mst_status conclude(const mst_model *model, mst_turn *turn) {
    mst_status status = MST_OK;
    mst_loss *owed = turn->owed;
    turn->owed = NULL;
    if (turn->mark) MST_TRY(mst_mark_wait(model->queue, turn->mark));
    if (owed) add_up(model, turn, owed);
done:
    return status;
}

mst_status mst_model_settle_oldest(mst_model *model, mst_status before) {
    return before == MST_OK ? conclude(model, &model->turns[(model->turn + 1) % MST_TURNS]) : before;
}

mst_status mst_model_settle(mst_model *model, mst_status before) {
    mst_status status = before;
    for (size_t i = 1; i <= MST_TURNS; i++) { /* the oldest first */
        mst_turn *turn = &model->turns[(model->turn + i) % MST_TURNS];
        if (status == MST_OK) status = conclude(model, turn);
        turn->owed = NULL;
    }
    return status;
}

/* ---- a pass ---- */

mst_status mst_pass_begin(const mst_pass *pass) {
    mst_status status = MST_OK;
    mst_model *model = pass->model;
    const size_t bytes = model->rows * sizeof *pass->tokens;
    const int32_t *end = model->tokens;
#ifdef MST_DEBUG
    MST_TRY(mst_memory_fill(model->queue, model->arena, 0xff, model->passing));
#endif
    model->turn = (model->turn + 1) % MST_TURNS;
    mst_turn *turn = turn_of(model);
    MST_TRY(conclude(model, turn));
    char *to = turn->inputs ? turn->inputs : (char *)model->tokens;
    memcpy(to, pass->tokens, bytes);
    if (pass->targets) memcpy(to + between(model->tokens, end = model->targets), pass->targets, bytes);
    if (pass->starts) memcpy(to + between(model->tokens, end = model->starts), pass->starts, bytes);
    if (turn->inputs) {
        MST_TRY(mst_memory_copy_later(model->queue, model->tokens, to, between(model->tokens, end) + bytes));
        MST_TRY(mst_mark_set_work(model->queue, turn->mark));
    }
done:
    return status;
}

mst_status mst_pass_end(const mst_pass *pass, mst_loss *loss_out) {
    mst_status status = MST_OK;
    mst_model *model = pass->model;
    mst_turn *turn = turn_of(model);
    *loss_out = (mst_loss){0};
    for (size_t r = 0; r < model->rows; r++) loss_out->valid += pass->targets[r] >= 0;
    if (turn->losses) {
        MST_TRY(mst_memory_copy_later(model->queue, turn->losses, model->loss, model->loss_bytes));
        MST_TRY(mst_mark_set_work(model->queue, turn->mark));
        turn->owed = loss_out;
    } else
        add_up(model, turn, loss_out);
done:
    return status;
}
