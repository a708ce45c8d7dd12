/* Passes of the model over one microbatch: where it finds weights and puts gradients, and what a rank does that has nothing to
 * compute. */
#include "trainer.h"

static bool passes_are_common(const mst_trainer *t) {
    return t->config.shape.sharding == MST_SHARDING_ALL;
}

/* Other ranks take part in what follows: this one may wait for them. */
static void meet_others(const mst_trainer *t, const char *phase, size_t unit) {
    if (passes_are_common(t))
        mst_watchdog_waiting(t->watchdog, phase, t->position.step);
    else
        mst_watchdog_unit(t->watchdog, phase, unit, t->position.step);
}

static mst_status acquire_weights(void *context, size_t unit, const void **weights_out) {
    mst_trainer *t = context;
    const size_t frozen = t->frozen ? t->model_layout.unit_count : 0;
    if (unit < frozen) {
        mst_watchdog_progress(t->watchdog, "compute", t->position.step);
        *weights_out = mst_frozen_unit(t->frozen, unit);
        return MST_OK;
    }
    const bool gathers = passes_are_common(t);
    meet_others(t, gathers ? "gather" : "compute", unit);
    t->computing += mst_clock_now(); /* stands still meanwhile */
    const mst_status status = mst_exchange_acquire(t->exchange, unit - frozen, weights_out);
    t->computing -= mst_clock_now();
    if (gathers) mst_watchdog_unit(t->watchdog, "compute", unit, t->position.step);
    return status;
}

static void release_weights(void *context, size_t unit) {
    (void)context;
    (void)unit;
}

mst_weight_source mst_trainer_weights(mst_trainer *t) {
    return (mst_weight_source){.context = t, .acquire = acquire_weights, .release = release_weights};
}

mst_status mst_trainer_hand_over(void *context, size_t unit) {
    mst_trainer *t = context;
    const bool meets = passes_are_common(t); /* else what is waited for is this rank's own work */
    meet_others(t, "send", unit);
    if (meets) t->computing += mst_clock_now(); /* stands still meanwhile */
    const mst_status status = mst_exchange_unit_done(t->exchange, unit);
    if (meets) t->computing -= mst_clock_now();
    mst_watchdog_progress(t->watchdog, "compute", t->position.step);
    return status;
}

mst_status mst_trainer_begin_pass(mst_trainer *t, mst_pass_kind kind) {
    mst_watchdog_waiting(t->watchdog, "pass", t->position.step);
    return mst_exchange_begin_pass(t->exchange, kind);
}

mst_status mst_trainer_stand_by(mst_trainer *t, mst_pass_kind kind) {
    mst_status status = mst_trainer_begin_pass(t, kind);
    if (status == MST_OK) status = mst_exchange_end_pass(t->exchange);
    return status;
}

mst_status mst_trainer_end_pass(mst_trainer *t, mst_status status) {
    mst_watchdog_waiting(t->watchdog, "pass", t->position.step);
    const mst_status ended = mst_exchange_end_pass(t->exchange);
    return status != MST_OK ? status : ended;
}

static mst_status read_microbatch(mst_trainer *t, size_t index) {
    mst_watchdog_progress(t->watchdog, "data", t->position.step);
    return mst_data_read(t->data, MST_SPLIT_TRAIN, t->position.samples + index * t->config.micro,
                         t->config.micro, t->tokens, t->targets, t->starts);
}

static mst_status train_microbatch(mst_trainer *t, const mst_gradient_sink *sink, mst_loss *record_out) {
    mst_status status = MST_OK;
    const mst_weight_source weights = mst_trainer_weights(t);
    mst_watchdog_progress(t->watchdog, "compute", t->position.step);
    t->computing -= mst_clock_now();
    MST_TRY(mst_model_train(t->model, &weights, t->tokens, t->targets, t->starts, t->loss_scale,
                            t->config.z_coefficient, sink, record_out));
    t->computing += mst_clock_now();
done:
    return status;
}

mst_status mst_trainer_compute(mst_trainer *t, size_t index, mst_status before, const mst_gradient_sink *sink,
                               mst_loss *record_out) {
    mst_status status = before;
    const mst_pass_kind kind = sink->unit_done ? MST_PASS_SUMMED : MST_PASS_BACKWARD;
    if (status == MST_OK) status = read_microbatch(t, index);
    if (status != MST_OK) {
        mst_trainer_stand_by(t, kind);
        return status;
    }
    MST_TRY(mst_trainer_begin_pass(t, kind));
    MST_TRY(mst_trainer_end_pass(t, train_microbatch(t, sink, record_out)));
done:
    return status;
}

mst_status mst_trainer_settle(mst_trainer *t, mst_status before) {
    mst_watchdog_progress(t->watchdog, "compute", t->position.step);
    t->computing -= mst_clock_now();
    mst_status status = mst_model_settle_oldest(t->model, before);
    mst_watchdog_progress(t->watchdog, "compute", t->position.step); /* each microbatch has its time */
    status = mst_model_settle(t->model, status);
    t->computing += mst_clock_now();
    return status;
}
