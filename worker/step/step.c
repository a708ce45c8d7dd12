/* One step of training: lanes in rounds, the losses and the norm of all ranks, the update; whose gradient is not finite. */
#include "trainer.h"

#include <math.h>

typedef mst_loss record;
typedef mst_step_message message;

/* All ranks compute their lane of this number side by side: who has none, or failed, stands by. */
static mst_status compute_lane(mst_trainer *t, size_t round, size_t number, mst_status before,
                               record *records_out) {
    const mst_sum_shape *shape = &t->config.shape;
    const size_t lane = t->first_lane + number;
    const bool has = number < t->lanes;
    mst_status status = before;
    if (has && status == MST_OK) status = mst_exchange_begin_lane(t->exchange, round, lane, t->gradients);
    for (size_t j = 0; j < shape->leaf; j++) {
        const bool last = j + 1 == shape->leaf;
        const mst_gradient_sink sink = {
            .gradients = t->gradients, .context = t, .unit_done = last ? mst_trainer_hand_over : NULL};
        if (has) {
            const size_t index = mst_microbatch_index(shape, round, lane, j);
            status = mst_trainer_compute(t, index, status, &sink, &records_out[j]);
        } else {
            const mst_status stood_by = mst_trainer_stand_by(t, last ? MST_PASS_SUMMED : MST_PASS_BACKWARD);
            if (status == MST_OK) status = stood_by;
        }
    }
    return status;
}

static mst_status compute_rounds(mst_trainer *t) {
    mst_status status = MST_OK;
    const mst_sum_shape *shape = &t->config.shape;
    const size_t most = mst_exchange_most_lanes(t->exchange);
    const bool others_wait = mst_comm_size(t->comm) > 1; /* for what this rank has computed */
    for (size_t round = 0; round < shape->rounds; round++) {
        record *records = t->mine + round * t->lanes * shape->leaf;
        mst_status mine = MST_OK;
        for (size_t i = 0; i < most; i++) mine = compute_lane(t, round, i, mine, records + i * shape->leaf);
        if (others_wait || round + 1 == shape->rounds) mine = mst_trainer_settle(t, mine);
        mst_watchdog_waiting(t->watchdog, "exchange", t->position.step);
        MST_TRY(mst_comm_agree(t->comm, mine));
        MST_TRY(mst_exchange_end_round(t->exchange, round));
    }
done:
    return status;
}

/* Gathers all records, and puts them from rank order into the order of microbatches. */
static mst_status gather_records(mst_trainer *t) {
    mst_status status = MST_OK;
    const mst_sum_shape *shape = &t->config.shape;
    const record *next = t->gathered;
    const int size = mst_comm_size(t->comm);
    MST_TRY(mst_comm_allgather(t->comm, t->mine, t->bytes_of, t->gathered));
    for (int rank = 0; rank < size; rank++) {
        size_t first, lanes;
        mst_exchange_lanes(t->exchange, rank, &first, &lanes);
        for (size_t round = 0; round < shape->rounds; round++)
            for (size_t lane = first; lane < first + lanes; lane++)
                for (size_t j = 0; j < shape->leaf; j++)
                    t->records[mst_microbatch_index(shape, round, lane, j)] = *next++;
    }
done:
    return status;
}

static mst_status gather_messages(mst_trainer *t, const message *mine) {
    return mst_comm_allgather(t->comm, mine, t->bytes_of_message, t->messages);
}

static mst_status exchange_notices(mst_trainer *t, mst_notice *notice) {
    mst_status status = MST_OK;
    const size_t here = t->config.shape.rounds * t->lanes * t->config.shape.leaf;
    const message mine = {.stop_requested = notice->stop_requested,
                          .elapsed = notice->elapsed,
                          .pace = here > 0 ? t->computing / (double)here : 0,
                          .deal = t->speeds.deal};
    MST_TRY(gather_messages(t, &mine));
    notice->elapsed = t->messages[0].elapsed;
    t->deal_announced = t->messages[0].deal != 0;
    for (int rank = 0; rank < mst_comm_size(t->comm); rank++) {
        if (t->messages[rank].stop_requested) notice->stop_requested = true;
        t->paces[rank] = t->messages[rank].pace;
    }
done:
    return status;
}

/* Means of the losses over all valid tokens, and the scale that turns the summed
 * gradient into the mean gradient. */
static void summarise_losses(mst_trainer *t, mst_step_report *report, double *mean_scale_out) {
    const size_t all = mst_trainer_microbatches(t);
    report->valid = 0;
    report->culprit = SIZE_MAX;
    for (size_t i = 0; i < all; i++) {
        report->valid += t->records[i].valid;
        if (report->culprit == SIZE_MAX && !(isfinite(t->records[i].loss) && isfinite(t->records[i].zloss)))
            report->culprit = i;
    }
    const double count = report->valid == 0 ? 1.0 : (double)report->valid;
    for (size_t i = 0; i < all; i++) t->values[i] = t->records[i].loss;
    report->loss = mst_ordered_sum_values(&t->config.shape, t->values) / count;
    for (size_t i = 0; i < all; i++) t->values[i] = t->records[i].zloss;
    report->zloss = mst_ordered_sum_values(&t->config.shape, t->values) / count;
    *mean_scale_out = 1.0 / (count * t->loss_scale);
}

static mst_status update_shards(mst_trainer *t, double gradient_scale, double rate) {
    mst_status status = MST_OK;
    for (size_t unit = 0; unit < t->layout.unit_count && status == MST_OK; unit++) {
        mst_watchdog_unit(t->watchdog, "update", unit, t->position.step);
        status = mst_optimizer_update(t->optimizer, unit, mst_exchange_gradient(t->exchange, unit),
                                      gradient_scale, rate, t->position.updates + 1,
                                      mst_exchange_own_weights(t->exchange, unit), t->config.precision);
    }
    mst_watchdog_waiting(t->watchdog, "publish", t->position.step);
    MST_TRY(mst_comm_agree(t->comm, status));
    MST_TRY(mst_exchange_publish(t->exchange));
    t->position.updates++;
done:
    return status;
}

/* Block by block, as the gradients may be on a GPU. */
static mst_status all_finite(const mst_trainer *t, bool *finite_out) {
    mst_status status = MST_OK;
    float block[MST_BLOCK];
    *finite_out = true;
    for (size_t unit = 0; unit < t->layout.unit_count; unit++) {
        mst_watchdog_progress(t->watchdog, "diagnose", t->position.step);
        for (size_t b = 0; b < t->layout.units[unit].blocks && *finite_out; b++) {
            MST_TRY(mst_memory_copy(t->queue, block, (const float *)t->gradients[unit] + b * MST_BLOCK,
                                    sizeof block));
            for (size_t i = 0; i < MST_BLOCK; i++) *finite_out = *finite_out && isfinite(block[i]);
        }
    }
done:
    return status;
}

/*
 * Names the first microbatch whose own gradient is not finite, by computing this step's
 * microbatches once more, one by one: the weights have not changed, so each gives what it gave.
 * Nothing is handed to the exchange. Where gradients are streamed, units share accumulators and their gradients add up there:
 * what is not finite stays so, whatever is added.
 */
static mst_status find_culprit(mst_trainer *t, mst_step_report *report) {
    mst_status status = MST_OK, mine = MST_OK;
    const mst_sum_shape *shape = &t->config.shape;
    const mst_gradient_sink sink = {.gradients = t->gradients};
    const size_t most = mst_exchange_most_lanes(t->exchange) * shape->leaf; /* microbatches of a round */
    message found = {.culprit = UINT64_MAX};
    for (size_t i = 0; i < shape->rounds * most; i++) {
        const size_t lane = i % most / shape->leaf;
        const size_t index = mst_microbatch_index(shape, i / most, t->first_lane + lane, i % shape->leaf);
        record ignored;
        bool finite = true;
        if (lane >= t->lanes || found.culprit != UINT64_MAX) {
            const mst_status stood_by = mst_trainer_stand_by(t, MST_PASS_BACKWARD);
            if (mine == MST_OK) mine = stood_by;
            continue;
        }
        if (mine == MST_OK) mine = mst_exchange_clear_lane(t->exchange, t->gradients);
        mine = mst_trainer_settle(t, mst_trainer_compute(t, index, mine, &sink, &ignored));
        if (mine == MST_OK) mine = all_finite(t, &finite);
        if (!finite) found.culprit = index;
    }
    mst_watchdog_waiting(t->watchdog, "diagnose", t->position.step);
    MST_TRY(mst_comm_agree(t->comm, mine));
    MST_TRY(gather_messages(t, &found));
    for (int rank = 0; rank < mst_comm_size(t->comm); rank++)
        if (t->messages[rank].culprit < report->culprit) report->culprit = (size_t)t->messages[rank].culprit;
done:
    return status;
}

static mst_status rehearse_training(mst_trainer *t) {
    const mst_gradient_sink sink = {.gradients = t->gradients};
    record ignored;
    const mst_status cleared = mst_exchange_clear_lane(t->exchange, t->gradients);
    return mst_trainer_settle(t, mst_trainer_compute(t, 0, cleared, &sink, &ignored));
}

static mst_status rehearse_evaluation(mst_trainer *t) {
    mst_status status = MST_OK;
    const mst_weight_source weights = mst_trainer_weights(t);
    mst_loss ignored;
    MST_TRY(mst_trainer_begin_pass(t, MST_PASS_FORWARD));
    MST_TRY(mst_trainer_settle(t, mst_trainer_end_pass(t, mst_model_loss(t->model, &weights, t->tokens,
                                                                         t->targets, t->starts, &ignored))));
done:
    return status;
}

mst_status mst_trainer_rehearse(mst_trainer *trainer) {
    mst_trainer *t = trainer;
    const bool computes = mst_comm_rank(t->comm) == 0;
    const mst_status trained = computes ? rehearse_training(t) : mst_trainer_stand_by(t, MST_PASS_BACKWARD);
    const mst_status evaluated =
        computes && trained == MST_OK ? rehearse_evaluation(t) : mst_trainer_stand_by(t, MST_PASS_FORWARD);
    return trained != MST_OK ? trained : evaluated;
}

mst_status mst_trainer_step(mst_trainer *trainer, mst_notice *notice, mst_step_report *report_out) {
    mst_trainer *t = trainer;
    mst_status status = MST_OK;
    double norm2 = 0, mean_scale = 1;
    const double begin = mst_clock_now();
    *report_out = (mst_step_report){0};
    t->computing = 0;
    MST_TRY(compute_rounds(t));
    MST_TRY(gather_records(t));
    MST_TRY(exchange_notices(t, notice));
    summarise_losses(t, report_out, &mean_scale);
    mst_watchdog_waiting(t->watchdog, "norm", t->position.step);
    MST_TRY(mst_exchange_norm2(t->exchange, &norm2));
    report_out->grad_norm = sqrt(norm2) * mean_scale;
    report_out->rate = mst_schedule_rate(&t->config.schedule, t->position.step);
    report_out->finite =
        isfinite(report_out->loss) && isfinite(report_out->zloss) && isfinite(report_out->grad_norm);
    const double clip_norm = t->config.optimizer.clip_norm;
    /* The small constant is PyTorch's, so that clipped runs can be compared. */
    report_out->clip = clip_norm > 0 ? fmin(1.0, clip_norm / (report_out->grad_norm + 1e-6)) : 1.0;
    report_out->updated = report_out->finite && report_out->valid > 0;
    if (report_out->updated) MST_TRY(update_shards(t, mean_scale * report_out->clip, report_out->rate));
    if (!report_out->finite) MST_TRY(find_culprit(t, report_out));
    t->position.step++;
    t->position.samples += mst_trainer_samples_per_step(t);
    t->position.tokens += report_out->valid;
    if (report_out->finite) mst_trainer_watch_speeds(t, mst_clock_now() - begin);
done:
    return status;
}
