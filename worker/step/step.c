#include "trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef mst_record record;
typedef mst_step_message message;

double mst_trainer_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static size_t microbatches(const mst_trainer *t) {
    return t->config.shape.leaf * t->config.shape.lanes * t->config.shape.rounds;
}

size_t mst_trainer_samples_per_step(const mst_trainer *trainer) {
    return microbatches(trainer) * trainer->config.micro;
}

/* ---- the seams of the model ---- */

/* Other ranks take part in what follows: this one may wait for them. */
static void meet_others(const mst_trainer *t, const char *phase, size_t unit) {
    if (t->config.shape.sharding == MST_SHARDING_ALL)
        mst_watchdog_waiting(t->watchdog, phase, t->position.step);
    else
        mst_watchdog_unit(t->watchdog, phase, unit, t->position.step);
}

static size_t frozen_units(const mst_trainer *t) {
    return t->frozen ? t->model_layout.unit_count : 0;
}

static mst_status acquire_weights(void *context, size_t unit, const void **weights_out) {
    mst_trainer *t = context;
    const size_t frozen = frozen_units(t);
    if (unit < frozen) {
        mst_watchdog_progress(t->watchdog, "compute", t->position.step);
        *weights_out = mst_frozen_unit(t->frozen, unit);
        return MST_OK;
    }
    const bool gathers = t->config.shape.sharding == MST_SHARDING_ALL;
    meet_others(t, gathers ? "gather" : "compute", unit);
    if (gathers) t->computing += mst_trainer_now(); /* stands still meanwhile */
    const mst_status status = mst_exchange_acquire(t->exchange, unit - frozen, weights_out);
    if (gathers) t->computing -= mst_trainer_now();
    if (gathers) mst_watchdog_unit(t->watchdog, "compute", unit, t->position.step);
    return status;
}

static void release_weights(void *context, size_t unit) {
    (void)context;
    (void)unit;
}

static mst_weight_source weight_source(mst_trainer *t) {
    return (mst_weight_source){.context = t, .acquire = acquire_weights, .release = release_weights};
}

static mst_status hand_over_unit(void *context, size_t unit) {
    mst_trainer *t = context;
    meet_others(t, "send", unit);
    t->computing += mst_trainer_now(); /* stands still meanwhile */
    const mst_status status = mst_exchange_unit_done(t->exchange, unit);
    t->computing -= mst_trainer_now();
    mst_watchdog_progress(t->watchdog, "compute", t->position.step);
    return status;
}

/* ---- life ---- */

/* The largest power of two whose product with the tokens of a microbatch is at most 1:
 * scaling by it is exact. */
static double choose_loss_scale(size_t tokens) {
    return ldexp(1.0, -ilogb((double)tokens));
}

static mst_status allocate_records(mst_trainer *t) {
    mst_status status = MST_OK;
    size_t size = (size_t)mst_comm_size(t->comm), tokens = t->config.micro * t->config.seq_len,
           all = microbatches(t);
    t->tokens = calloc(tokens, sizeof *t->tokens);
    t->targets = calloc(tokens, sizeof *t->targets);
    const bool packed = t->config.packing != MST_PACKING_STREAM;
    if (packed) t->starts = calloc(tokens, sizeof *t->starts);
    t->gradients = calloc(t->layout.unit_count, sizeof *t->gradients);
    t->mine = calloc(all, sizeof *t->mine);
    t->gathered = calloc(all, sizeof *t->gathered);
    t->records = calloc(all, sizeof *t->records);
    t->values = calloc(all, sizeof *t->values);
    t->messages = calloc(size, sizeof *t->messages);
    t->paces = calloc(size, sizeof *t->paces);
    t->bytes_of = calloc(size, sizeof *t->bytes_of);
    t->bytes_of_message = calloc(size, sizeof *t->bytes_of_message);
    t->lane_counts = calloc(size, sizeof *t->lane_counts);
    MST_CHECK(t->tokens && t->targets && (t->starts || !packed) && t->gradients && t->mine && t->gathered &&
                  t->records && t->values && t->messages && t->paces && t->bytes_of && t->bytes_of_message &&
                  t->lane_counts,
              MST_ENOMEM, "trainer: out of memory for the records of %zu microbatches", all);
    for (size_t rank = 0; rank < size; rank++) t->bytes_of_message[rank] = sizeof(message);
    MST_TRY(mst_speeds_init(&t->speeds, size));
done:
    return status;
}

void mst_trainer_take_lanes(mst_trainer *t) {
    const mst_sum_shape *shape = &t->config.shape;
    for (int rank = 0; rank < mst_comm_size(t->comm); rank++) {
        size_t first;
        mst_exchange_lanes(t->exchange, rank, &first, &t->lane_counts[rank]);
        t->bytes_of[rank] = shape->rounds * t->lane_counts[rank] * shape->leaf * sizeof(record);
    }
    mst_exchange_lanes(t->exchange, mst_comm_rank(t->comm), &t->first_lane, &t->lanes);
}

/* What can fail on one rank alone; the caller agrees on the result. */
static mst_status create_local(mst_trainer *t) {
    mst_status status = MST_OK;
    int rank = mst_comm_rank(t->comm), size = mst_comm_size(t->comm);
    const mst_model_options options = {.dtype = t->config.precision,
                                       .micro = t->config.micro,
                                       .seq_len = t->config.seq_len,
                                       .recompute = t->config.recompute,
                                       .lora = t->config.lora};
    const bool adapters = t->config.lora.rank > 0;
    t->loss_scale = choose_loss_scale(t->config.micro * t->config.seq_len);
    MST_TRY(mst_model_layout(&t->config.model, &t->model_layout));
    MST_TRY(adapters ? mst_lora_layout(&t->config.model, &t->config.lora, &t->layout)
                     : mst_model_layout(&t->config.model, &t->layout));
    MST_TRY(mst_model_create(&t->config.model, &t->model_layout, &options, t->queue, &t->kernels, &t->model));
    MST_TRY(mst_optimizer_create(&t->config.optimizer, &t->layout, rank, size, t->queue, &t->kernels,
                                 &t->optimizer));
    MST_TRY(allocate_records(t));
done:
    return status;
}

/* The weights that adapters adapt: once for a node, where its ranks share what is trained, too. Collective. */
static mst_status open_frozen(mst_trainer *t) {
    mst_status status = MST_OK;
    const char *transport = mst_exchange_transport(t->exchange);
    const bool share = strcmp(transport, "shm") == 0 || strcmp(transport, "node") == 0;
    if (t->config.lora.rank == 0) goto done;
    MST_TRY(mst_shared_create(t->comm, share, mst_frozen_bytes_of(&t->model_layout, t->config.precision),
                              &t->shared));
    MST_TRY(mst_comm_agree(t->comm, mst_frozen_create(&t->model_layout, t->config.precision, t->queue,
                                                      mst_shared_memory(t->shared), &t->frozen)));
done:
    return status;
}

mst_status mst_trainer_create(const mst_trainer_config *config, mst_comm *comm, mst_data *data,
                              mst_queue *queue, const mst_kernels *kernels, mst_watchdog *watchdog,
                              mst_trainer **trainer_out) {
    mst_status status = MST_OK;
    mst_trainer *t = calloc(1, sizeof *t);
    *trainer_out = NULL;
    if (t == NULL) {
        status = mst_error(MST_ENOMEM, "trainer: out of memory");
    } else {
        *t = (mst_trainer){.config = *config,
                           .comm = comm,
                           .data = data,
                           .queue = queue,
                           .kernels = *kernels,
                           .watchdog = watchdog};
        status = create_local(t);
    }
    MST_TRY(mst_comm_agree(comm, status));
    MST_TRY(mst_exchange_create(comm, config->transport, &config->shape, NULL, config->precision, &t->layout,
                                queue, &t->kernels, &t->exchange));
    mst_trainer_take_lanes(t);
    MST_TRY(open_frozen(t));
    *trainer_out = t;
    t = NULL;
done:
    mst_trainer_destroy(&t);
    return status;
}

void mst_trainer_destroy(mst_trainer **trainer) {
    mst_trainer *t = *trainer;
    if (t == NULL) return;
    mst_exchange_destroy(&t->exchange);
    mst_optimizer_destroy(&t->optimizer);
    mst_model_destroy(&t->model);
    mst_frozen_destroy(&t->frozen);
    mst_shared_destroy(&t->shared);
    mst_layout_clear(&t->layout);
    mst_layout_clear(&t->model_layout);
    free(t->tokens);
    free(t->targets);
    free(t->starts);
    free(t->gradients);
    free(t->mine);
    free(t->gathered);
    free(t->records);
    free(t->values);
    free(t->messages);
    free(t->paces);
    free(t->bytes_of);
    free(t->bytes_of_message);
    free(t->lane_counts);
    mst_speeds_clear(&t->speeds);
    free(t);
    *trainer = NULL;
}

mst_status mst_trainer_publish(mst_trainer *t) {
    mst_status status = MST_OK;
    for (size_t unit = 0; unit < t->layout.unit_count && status == MST_OK; unit++) {
        mst_watchdog_unit(t->watchdog, "publish", unit, t->position.step);
        status = mst_optimizer_write_weights(t->optimizer, unit, mst_exchange_own_weights(t->exchange, unit),
                                             t->config.precision);
    }
    mst_watchdog_waiting(t->watchdog, "publish", t->position.step);
    MST_TRY(mst_comm_agree(t->comm, status));
    MST_TRY(mst_exchange_publish(t->exchange));
done:
    return status;
}

mst_status mst_trainer_init(mst_trainer *trainer) {
    mst_trainer *t = trainer;
    mst_status status = MST_OK;
    mst_shard *shards = mst_optimizer_shards(t->optimizer);
    for (size_t unit = 0; unit < t->layout.unit_count && status == MST_OK; unit++) {
        mst_shard *shard = &shards[unit];
        mst_watchdog_progress(t->watchdog, "initialise", 0);
        const size_t bytes = shard->blocks * MST_BLOCK * mst_dtype_size(shard->moments);
        status = mst_memory_fill(t->queue, shard->m, 0, bytes);
        if (status == MST_OK) status = mst_memory_fill(t->queue, shard->v, 0, bytes);
        if (status != MST_OK) break;
        status = mst_model_init_blocks(&t->config.model, &t->layout, unit, t->config.seed, shard->first_block,
                                       shard->blocks, t->queue, &t->kernels, shard->master);
    }
    mst_watchdog_waiting(t->watchdog, "initialise", 0);
    MST_TRY(mst_comm_agree(t->comm, status));
    t->position = (mst_position){0};
    MST_TRY(mst_trainer_publish(t));
done:
    return status;
}

mst_status mst_trainer_restore(mst_trainer *trainer, const mst_position *position) {
    trainer->position = *position;
    return mst_trainer_publish(trainer);
}

/* ---- a step ---- */

/* Begins and ends a pass in which this rank computes nothing: the others may need its weights and its part of sums. */
static mst_status stand_by(mst_trainer *t, mst_pass_kind kind) {
    mst_status status = mst_exchange_begin_pass(t->exchange, kind);
    mst_watchdog_waiting(t->watchdog, "pass", t->position.step);
    if (status == MST_OK) status = mst_exchange_end_pass(t->exchange);
    return status;
}

/* Ends a pass that may have failed on this rank; the first failure counts. */
static mst_status end_pass(mst_trainer *t, mst_status status) {
    mst_watchdog_waiting(t->watchdog, "pass", t->position.step);
    const mst_status ended = mst_exchange_end_pass(t->exchange);
    return status != MST_OK ? status : ended;
}

static mst_status train_microbatch(mst_trainer *t, size_t index, const mst_gradient_sink *sink,
                                   record *record_out) {
    mst_status status = MST_OK;
    const mst_weight_source weights = weight_source(t);
    mst_loss loss;
    mst_watchdog_progress(t->watchdog, "data", t->position.step);
    MST_TRY(mst_data_read(t->data, MST_SPLIT_TRAIN, t->position.samples + index * t->config.micro,
                          t->config.micro, t->tokens, t->targets, t->starts));
    t->computing -= mst_trainer_now();
    MST_TRY(mst_model_train(t->model, &weights, t->tokens, t->targets, t->starts, t->loss_scale,
                            t->config.z_coefficient, sink, &loss));
    t->computing += mst_trainer_now();
    *record_out = (record){loss.loss, loss.zloss, loss.valid};
done:
    return status;
}

/* One pass, whatever came before: where that failed this rank stands by, and the failure is what it returns. */
static mst_status compute_microbatch(mst_trainer *t, size_t index, mst_status before,
                                     const mst_gradient_sink *sink, record *record_out) {
    mst_status status = MST_OK;
    const mst_pass_kind kind = sink->unit_done ? MST_PASS_SUMMED : MST_PASS_BACKWARD;
    if (before != MST_OK) {
        stand_by(t, kind);
        return before;
    }
    MST_TRY(mst_exchange_begin_pass(t->exchange, kind));
    MST_TRY(end_pass(t, train_microbatch(t, index, sink, record_out)));
done:
    return status;
}

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
            .gradients = t->gradients, .context = t, .unit_done = last ? hand_over_unit : NULL};
        if (has) {
            const size_t index = mst_microbatch_index(shape, round, lane, j);
            status = compute_microbatch(t, index, status, &sink, &records_out[j]);
        } else {
            const mst_status stood_by = stand_by(t, last ? MST_PASS_SUMMED : MST_PASS_BACKWARD);
            if (status == MST_OK) status = stood_by;
        }
    }
    return status;
}

static mst_status compute_rounds(mst_trainer *t) {
    mst_status status = MST_OK;
    const mst_sum_shape *shape = &t->config.shape;
    const size_t most = mst_exchange_most_lanes(t->exchange);
    for (size_t round = 0; round < shape->rounds; round++) {
        record *records = t->mine + round * t->lanes * shape->leaf;
        mst_status mine = MST_OK;
        for (size_t i = 0; i < most; i++) mine = compute_lane(t, round, i, mine, records + i * shape->leaf);
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
    const size_t all = microbatches(t);
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
            const mst_status stood_by = stand_by(t, MST_PASS_BACKWARD);
            if (mine == MST_OK) mine = stood_by;
            continue;
        }
        if (mine == MST_OK) mine = mst_exchange_clear_lane(t->exchange, t->gradients);
        mine = compute_microbatch(t, index, mine, &sink, &ignored);
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
    return compute_microbatch(t, 0, mst_exchange_clear_lane(t->exchange, t->gradients), &sink, &ignored);
}

static mst_status rehearse_evaluation(mst_trainer *t) {
    mst_status status = MST_OK;
    const mst_weight_source weights = weight_source(t);
    mst_loss ignored;
    MST_TRY(mst_exchange_begin_pass(t->exchange, MST_PASS_FORWARD));
    MST_TRY(end_pass(t, mst_model_loss(t->model, &weights, t->tokens, t->targets, t->starts, &ignored)));
done:
    return status;
}

mst_status mst_trainer_rehearse(mst_trainer *trainer) {
    mst_trainer *t = trainer;
    const bool computes = mst_comm_rank(t->comm) == 0;
    const mst_status trained = computes ? rehearse_training(t) : stand_by(t, MST_PASS_BACKWARD);
    const mst_status evaluated =
        computes && trained == MST_OK ? rehearse_evaluation(t) : stand_by(t, MST_PASS_FORWARD);
    return trained != MST_OK ? trained : evaluated;
}

mst_status mst_trainer_step(mst_trainer *trainer, mst_notice *notice, mst_step_report *report_out) {
    mst_trainer *t = trainer;
    mst_status status = MST_OK;
    double norm2 = 0, mean_scale = 1;
    const double begin = mst_trainer_now();
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
    if (report_out->finite) mst_trainer_watch_speeds(t, mst_trainer_now() - begin);
done:
    return status;
}

/* ---- evaluation ---- */

#define LN2 0.69314718055994530942

/* Fixed number of microbatches between gathers, whatever the rank count. */
enum { EVALUATION_CHUNK = 64 };

/* What one microbatch of held-out data gave. */
typedef struct heldout_record {
    double loss;
    uint64_t valid, bytes;
} heldout_record;

/* Microbatches to evaluate: `chosen` of `whole`, evenly spread. */
typedef struct heldout_choice {
    uint64_t chosen, whole;
} heldout_choice;

/* Number `i` of those chosen: i * whole / chosen, whose product might overflow. */
static uint64_t chosen_microbatch(heldout_choice choice, uint64_t i) {
    return i * (choice.whole / choice.chosen) + i * (choice.whole % choice.chosen) / choice.chosen;
}

static mst_status evaluate_chunk(mst_trainer *t, heldout_choice choice, uint64_t first, size_t count,
                                 heldout_record *sum) {
    mst_status status = MST_OK, mine = MST_OK;
    const mst_weight_source weights = weight_source(t);
    const size_t rank = (size_t)mst_comm_rank(t->comm), size = (size_t)mst_comm_size(t->comm);
    heldout_record all[EVALUATION_CHUNK] = {{0}}, here[EVALUATION_CHUNK] = {{0}};
    const size_t targets = t->config.micro * t->config.seq_len;
    size_t bytes_of[1024], begin = count * rank / size, end = count * (rank + 1) / size;
    MST_CHECK(size <= 1024, MST_EUNSUPPORTED, "evaluation: %zu ranks are more than 1024", size);
    for (size_t r = 0; r < size; r++) bytes_of[r] = (count * (r + 1) / size - count * r / size) * sizeof *all;
    for (size_t i = begin; i < begin + (count + size - 1) / size; i++) {
        mst_loss one = {0};
        if (i >= end || mine != MST_OK) {
            const mst_status stood_by = stand_by(t, MST_PASS_FORWARD);
            if (mine == MST_OK) mine = stood_by;
            continue;
        }
        mst_watchdog_progress(t->watchdog, "data", t->position.step);
        mine =
            mst_data_read(t->data, MST_SPLIT_HELDOUT, chosen_microbatch(choice, first + i) * t->config.micro,
                          t->config.micro, t->tokens, t->targets, t->starts);
        const mst_status begun = mst_exchange_begin_pass(t->exchange, MST_PASS_FORWARD);
        if (mine == MST_OK) mine = begun;
        if (mine == MST_OK) mine = mst_model_loss(t->model, &weights, t->tokens, t->targets, t->starts, &one);
        mine = end_pass(t, mine);
        here[i - begin] = (heldout_record){one.loss, one.valid, mst_data_bytes(t->data, t->targets, targets)};
    }
    mst_watchdog_waiting(t->watchdog, "evaluate", t->position.step);
    MST_TRY(mst_comm_agree(t->comm, mine));
    MST_TRY(mst_comm_allgather(t->comm, here, bytes_of, all));
    for (size_t i = 0; i < count; i++) {
        sum->loss += all[i].loss;
        sum->valid += all[i].valid;
        sum->bytes += all[i].bytes;
    }
done:
    return status;
}

mst_status mst_trainer_evaluate(mst_trainer *trainer, uint64_t batches, mst_heldout *heldout_out) {
    mst_trainer *t = trainer;
    mst_status status = MST_OK;
    const uint64_t whole = mst_data_samples(t->data, MST_SPLIT_HELDOUT) / t->config.micro;
    const uint64_t count = batches < whole ? batches : whole;
    const heldout_choice choice = {count, whole};
    heldout_record sum = {0};
    for (uint64_t first = 0; first < count; first += EVALUATION_CHUNK) {
        const uint64_t left = count - first;
        MST_TRY(evaluate_chunk(t, choice, first, left < EVALUATION_CHUNK ? (size_t)left : EVALUATION_CHUNK,
                               &sum));
    }
    *heldout_out = (mst_heldout){.loss = sum.valid > 0 ? sum.loss / (double)sum.valid : NAN,
                                 .bits_per_byte = sum.bytes > 0 ? sum.loss / LN2 / (double)sum.bytes : NAN,
                                 .valid = sum.valid,
                                 .bytes = sum.bytes};
done:
    return status;
}

/* ---- what others ask ---- */

const mst_position *mst_trainer_position(const mst_trainer *trainer) {
    return &trainer->position;
}
const mst_layout *mst_trainer_layout(const mst_trainer *trainer) {
    return &trainer->layout;
}
const mst_layout *mst_trainer_model_layout(const mst_trainer *trainer) {
    return &trainer->model_layout;
}
mst_frozen *mst_trainer_frozen(mst_trainer *trainer) {
    return trainer->frozen;
}
bool mst_trainer_fills_frozen(const mst_trainer *trainer) {
    return mst_shared_is_filler(trainer->shared);
}
mst_status mst_trainer_frozen_filled(mst_trainer *trainer) {
    return mst_shared_filled(trainer->shared);
}
mst_shard *mst_trainer_shards(mst_trainer *trainer) {
    return mst_optimizer_shards(trainer->optimizer);
}
const char *mst_trainer_transport(const mst_trainer *trainer) {
    return mst_exchange_transport(trainer->exchange);
}

const double *mst_trainer_paces(const mst_trainer *trainer) {
    return trainer->paces;
}

size_t mst_trainer_bytes(const mst_trainer *trainer) {
    const mst_trainer *t = trainer;
    const size_t frozen = t->shared ? mst_shared_bytes(t->shared) : 0;
    return mst_exchange_bytes(t->exchange) + mst_optimizer_bytes(t->optimizer) + mst_model_bytes(t->model) +
           frozen;
}

mst_flops mst_trainer_flops(const mst_trainer *trainer) {
    const mst_trainer *t = trainer;
    return t->frozen ? mst_lora_flops(&t->config.model, &t->model_layout, &t->layout, t->config.seq_len)
                     : mst_model_flops(&t->config.model, &t->model_layout, t->config.seq_len);
}
