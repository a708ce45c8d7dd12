#include "muster/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "muster/clock.h"
#include "stop.h"
#include "training.h"

double training_elapsed(const training *t) {
    return mst_clock_now() - t->begun;
}

/* ---- the loop ---- */

/* Over `batches` microbatches, all of them for UINT64_MAX; says and records what was found. */
static mst_status evaluate(training *t, uint64_t batches, mst_heldout *heldout_out) {
    mst_status status = MST_OK;
    mst_heldout heldout;
    char bits[48] = "";
    const uint64_t step = mst_trainer_position(t->trainer)->step;
    MST_TRY(mst_trainer_evaluate(t->trainer, batches, &heldout));
    *heldout_out = heldout;
    if (heldout.valid == 0) goto done;
    if (isfinite(heldout.bits_per_byte))
        snprintf(bits, sizeof bits, ", %.4f bits per byte", heldout.bits_per_byte);
    training_say(t, "step %llu: held-out loss %.4f%s, over %llu tokens", (unsigned long long)step,
                 heldout.loss, bits, (unsigned long long)heldout.valid);
    MST_TRY(mst_comm_agree(t->comm, mst_metrics_eval(t->metrics, step, &heldout)));
done:
    return status;
}

/* An evaluation, and whether it reaches the target: what a part of the held-out split promises, the whole must keep. */
static mst_status evaluate_target(training *t) {
    mst_status status = MST_OK;
    mst_heldout heldout;
    const double target = t->config.train.target_bits_per_byte;
    MST_TRY(evaluate(t, t->config.train.eval_batches, &heldout));
    t->heldout = heldout;
    t->heldout_step = mst_trainer_position(t->trainer)->step;
    if (trend_add(&t->trend, t->heldout_step, &heldout)) training_say_worse(t);
    if (heldout.bits_per_byte < target) MST_TRY(evaluate(t, UINT64_MAX, &heldout));
    t->reached = heldout.bits_per_byte < target;
done:
    return status;
}

/* Lanes may be dealt anew, by the ranks' speeds. Whoever looks at the step times must know. */
static mst_status balance(training *t) {
    mst_status status = MST_OK;
    mst_rebalance change;
    char list[512] = "";
    const int ranks = mst_comm_size(t->comm);
    MST_TRY(mst_trainer_balance(t->trainer, &change));
    if (!change.changed) goto done;
    const uint64_t step = mst_trainer_position(t->trainer)->step;
    const size_t *lanes = mst_trainer_lanes(t->trainer);
    const char *transport = mst_trainer_transport(t->trainer);
    for (int rank = 0; rank < ranks && strlen(list) < sizeof list - 32; rank++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%zu", rank > 0 ? ", " : "", lanes[rank]);
    training_say(
        t,
        "step %llu: the ranks differ in speed: from now on they compute %s of %zu lanes, over %s; a step "
        "took %.3g s, expected %.3g s",
        (unsigned long long)step, list, t->config.batch.shape.lanes, transport, change.before, change.after);
    MST_TRY(mst_comm_agree(t->comm, mst_metrics_balance(t->metrics, step, &change, lanes, ranks, transport)));
done:
    return status;
}

static bool evaluation_is_due(const training *t) {
    const uint64_t step = mst_trainer_position(t->trainer)->step, every = t->config.train.eval_every;
    return every > 0 && (step % every == 0 || step == t->config.run.steps);
}

static mst_status not_finite(training *t, const mst_step_report *report) {
    const uint64_t step = mst_trainer_position(t->trainer)->step;
    char where[64] = "the sum of all microbatches", show[32] = "";
    if (report->culprit != SIZE_MAX) {
        snprintf(where, sizeof where, "microbatch %zu", report->culprit);
        snprintf(show, sizeof show, " --micro %zu", report->culprit);
    }
    switch (t->config.train.on_nonfinite) {
    case MST_NONFINITE_SKIP:
        training_say(t, "step %llu: loss or gradient of %s is not finite: update skipped",
                     (unsigned long long)step, where);
        return mst_comm_agree(t->comm, mst_metrics_skip(t->metrics, step, report->culprit));
    case MST_NONFINITE_ROLLBACK:
        training_say(t, "step %llu: loss or gradient of %s is not finite: rolling back",
                     (unsigned long long)step, where);
        return training_rollback(t);
    case MST_NONFINITE_STOP:
        break;
    }
    return mst_error(
        MST_ENONFINITE,
        "step %llu: loss or gradient of %s is not finite (loss %g, gradient norm %g); look at it with "
        "'muster data show CONFIG --step %llu%s', or set train.on_nonfinite to skip or rollback",
        (unsigned long long)step, where, report->loss, report->grad_norm, (unsigned long long)step, show);
}

static bool save_is_due(const training *t, const mst_notice *notice) {
    const mst_config *c = &t->config;
    const uint64_t step = mst_trainer_position(t->trainer)->step;
    if (c->checkpoint.every > 0 && step % c->checkpoint.every == 0) return true;
    return c->checkpoint.minutes > 0 && notice->elapsed - t->saved_elapsed >= 60 * c->checkpoint.minutes;
}

/* One step with all that follows from it. Every decision rests on values that all ranks share. */
static mst_status advance(training *t, bool *stop_out) {
    mst_status status = MST_OK;
    bool best = false;
    mst_step_report report;
    const bool last = training_is_last_step(t);
    mst_notice notice = {.stop_requested = stop_requested() || last, .elapsed = training_elapsed(t)};
    const double begin = mst_clock_now();
    const mst_config *c = &t->config;
    MST_TRY(mst_trainer_step(t->trainer, &notice, &report));
    training_say_graphs(t);
    walltime_step(&t->walltime, mst_clock_now() - begin);
    MST_TRY(mst_comm_agree(t->comm,
                           t->first ? training_record_step(t, &report, mst_clock_now() - begin) : MST_OK));
    if (!report.finite) MST_TRY(not_finite(t, &report));
    MST_TRY(training_poll(t));
    const uint64_t step = mst_trainer_position(t->trainer)->step;
    if (evaluation_is_due(t)) {
        const double evaluated = mst_clock_now();
        MST_TRY(evaluate_target(t));
        walltime_evaluation(&t->walltime, mst_clock_now() - evaluated);
        MST_TRY(training_is_best(t, &best));
    }
    *stop_out = notice.stop_requested || t->reached;
    const bool final = *stop_out || step >= c->run.steps;
    if (best || save_is_due(t, &notice) || final) {
        if (!training_is_saved(t)) MST_TRY(training_save(t, final));
        t->saved_elapsed = notice.elapsed;
    }
    if (!final) MST_TRY(balance(t));
done:
    return status;
}

static mst_status loop(training *t) {
    mst_status status = MST_OK;
    bool stop = false;
    /* A run that goes on may have reached its target before. It is looked at only where a run that was never interrupted
     * looks, too, or the end would depend on interruptions. */
    if (t->config.train.target_bits_per_byte > 0 && mst_trainer_position(t->trainer)->step > 0 &&
        evaluation_is_due(t)) {
        MST_TRY(evaluate_target(t));
        stop = t->reached;
    }
    if (mst_trainer_position(t->trainer)->step >= t->config.run.steps)
        training_say(t, "note: nothing is left to train: the run is at step %llu, run.steps is %llu",
                     (unsigned long long)mst_trainer_position(t->trainer)->step,
                     (unsigned long long)t->config.run.steps);
    while (!stop && mst_trainer_position(t->trainer)->step < t->config.run.steps) {
        status = advance(t, &stop);
        mst_watchdog_waiting(t->watchdog, "step end", mst_trainer_position(t->trainer)->step);
        MST_TRY(mst_comm_agree(t->comm, status));
    }
    MST_TRY(training_settle(t));
    const uint64_t step = mst_trainer_position(t->trainer)->step;
    if (t->reached)
        training_say(t, "step %llu: below the target of %g bits per byte: done", (unsigned long long)step,
                     t->config.train.target_bits_per_byte);
    else if (step < t->config.run.steps)
        status = training_stopped(t);
    else if (t->config.train.target_bits_per_byte > 0)
        training_say_missed(t);
done:
    return status;
}

/* ---- the whole ---- */

static mst_trainer_config trainer_config(const mst_config *c, const mst_lora *lora) {
    return (mst_trainer_config){.model = c->model,
                                .lora = *lora,
                                .shape = c->batch.shape,
                                .transport = c->batch.transport,
                                .balance = c->batch.balance,
                                .micro = c->batch.micro,
                                .seq_len = c->data.seq_len,
                                .packing = c->data.packing,
                                .precision = c->train.precision,
                                .recompute = c->train.recompute,
                                .head_rows = c->train.head_rows,
                                .attention_workspace = mst_config_attention_workspace(c),
                                .graphs = c->device.graphs,
                                .z_coefficient = c->train.z_loss,
                                .optimizer = c->optimizer,
                                .schedule = c->schedule,
                                .seed = c->run.seed};
}

static mst_status record_folder(training *t) {
    return folder_record(t->comm, &t->folder, t->config_yaml, t->device.class_name);
}

/* From here on a rank that dies or stalls ends the job. Collective. */
static mst_status start_watchdog(training *t) {
    char device[64];
    const char *class = t->device.kernels.class_name, *end = strchr(class, ' ');
    if (end != NULL) end = strchr(end + 1, ' '); /* two words say enough: "cpu x86-64-v4" */
    const size_t length = end != NULL ? (size_t)(end - class) : strlen(class);
    snprintf(device, sizeof device, "%.*s, %d thread%s", (int)length, class, t->device.threads,
             t->device.threads == 1 ? "" : "s");
    if (t->config.watchdog.seconds > 0) /* sooner than the watchdog, which knows less of it */
        mst_comm_set_patience(t->comm, t->config.watchdog.seconds / 2);
    const mst_watchdog_options options = {.seconds = t->config.watchdog.seconds,
                                          .device = device,
                                          .interfaces = t->config.network.interfaces,
                                          .queue = t->device.queue};
    return mst_watchdog_start(t->comm, &options, &t->watchdog);
}

static mst_status begin(training *t, const mst_train_options *options) {
    mst_status status = MST_OK;
    MST_TRY(training_share_config(t, options));
    MST_TRY(device_open(&t->config, t->comm, mst_comm_node_seat(t->comm), &t->device));
    MST_TRY(start_watchdog(t));
    MST_TRY(training_open_data(t));
    MST_TRY(training_open_folder(t, options));
    /* Before anything large stands on the device: this takes memory for a while. */
    MST_TRY(device_peak(&t->device, t->comm, t->watchdog, t->config.train.precision, &t->peak));
    mst_watchdog_progress(t->watchdog, "allocate", 0);
    mst_lora lora;
    MST_TRY(mst_config_lora(&t->config, &lora)); /* the same on all ranks */
    const mst_trainer_config config = trainer_config(&t->config, &lora);
    MST_TRY(mst_trainer_create(&config, t->comm, t->data, t->device.queue, &t->device.kernels, t->watchdog,
                               &t->trainer));
    mst_watchdog_waiting(t->watchdog, "start", 0); /* for rank 0's files */
    if (!t->folder.existed) MST_TRY(record_folder(t));
    if (t->first) status = training_open_metrics(t);
    if (t->first && status == MST_OK) status = straggler_create(mst_comm_size(t->comm), &t->straggler);
    MST_TRY(mst_comm_agree(t->comm, status));
    MST_TRY(training_open_saver(t));
    training_announce(t);
    training_know_end(t);
    MST_TRY(training_open_base(t));
    MST_TRY(training_resume(t, options->resume));
    MST_TRY(training_say_left(t));
    MST_TRY(training_choose(t));
    training_announce_tokenizer(t);
    if (t->folder.existed) MST_TRY(record_folder(t)); /* only now: a start that is refused changes nothing */
done:
    return status;
}

static void end(training *t, mst_status status) {
    if (t->metrics != NULL && lease_held(t->lease) == MST_OK) {
        const char *reason = status == MST_OK         ? "done"
                             : status == MST_ESTOPPED ? training_stop_reason(t)
                                                      : "error";
        const uint64_t step = mst_trainer_position(t->trainer)->step;
        if (mst_metrics_stop(t->metrics, step, reason) != MST_OK)
            training_say(t, "warning: the end could not be recorded: %s", mst_error_message());
    }
    mst_metrics_close(&t->metrics);
    mst_saver_destroy(&t->saver);
    mst_trainer_destroy(&t->trainer);
    mst_watchdog_destroy(&t->watchdog);
    device_close(&t->device);
    mst_data_close(&t->data);
    folder_clear(&t->folder);
    mst_progress_end(&t->progress);
    straggler_destroy(&t->straggler);
    mst_config_clear(&t->config);
    free(t->tokenizer);
    free(t->companions);
    free(t->choices);
    free(t->config_yaml);
    lease_release(&t->lease);
}

static mst_status finish(training *t) {
    mst_status status = MST_OK;
    mst_checkpoint_digests digests;
    char weights[MST_DIGEST_HEX], state[MST_DIGEST_HEX];
    MST_TRY(training_digest(t, &digests));
    mst_watchdog_waiting(t->watchdog, "end", mst_trainer_position(t->trainer)->step);
    if (!t->first) goto done;
    mst_progress_end(&t->progress);
    mst_digest_to_hex(&digests.weights, weights);
    mst_digest_to_hex(&digests.state, state);
    printf("weights %s  state %s\n", weights, state);
done:
    return status;
}

/*
 * The run fails, and all ranks know it. Whoever's GPU is broken leaves; what waits for it on a GPU's stream is ended before anything
 * waits for that; and the save in flight still comes to its end.
 */
static mst_status fail(training *t, mst_status failure, leave *left_out) {
    char message[2048];
    snprintf(message, sizeof message, "%s", mst_error_message());
    mst_watchdog_waiting(t->watchdog, "leave",
                         t->trainer != NULL ? mst_trainer_position(t->trainer)->step : 0);
    if (failure != MST_EMPI) training_leave(t, left_out);
    if (t->trainer != NULL) mst_trainer_give_up(t->trainer, left_out->rest);
    if (t->saver != NULL && failure != MST_EMPI && training_settle(t) != MST_OK)
        training_say(t, "%s", mst_error_message());
    left_out->saved = t->saved_step != UINT64_MAX;
    left_out->seconds = t->config.watchdog.seconds;
    return mst_error(failure, "%s", message);
}

/* One start of the run, from its beginning or its newest checkpoint.
 * @param left who left before it, or NULL @param left_out who leaves when it fails */
static mst_status start(mst_comm *comm, const mst_train_options *options, leave *left, leave *left_out) {
    mst_status status = MST_OK;
    char message[2048]; /* the first error wins: leaving may meet others */
    training t = {.comm = comm,
                  .first = mst_comm_rank(comm) == 0,
                  .left = left,
                  .begun = left != NULL ? left->begun : mst_clock_now(),
                  .saved_step = UINT64_MAX,
                  .heldout_step = UINT64_MAX};
    trend_begin(&t.trend);
    stop_watch(t.first);
    if (t.first) status = mst_progress_begin(stderr, &t.progress);
    MST_TRY(mst_comm_agree(comm, status));
    MST_TRY(begin(&t, options));
    MST_TRY(loop(&t));
    MST_TRY(finish(&t));
done:
    if (status != MST_OK && status != MST_ESTOPPED) status = fail(&t, status, left_out);
    status = training_advise(&t, status);
    snprintf(message, sizeof message, "%s", mst_error_message());
    end(&t, status);
    stop_unwatch();
    return status == MST_OK ? MST_OK : mst_error(status, "%s", message);
}

static mst_status train(mst_comm *comm, const mst_train_options *options, leave *left);

/* The start before has ended on all ranks; those whose GPU is broken wait for the others' end. */
static mst_status go_on(mst_comm *comm, const mst_train_options *options, leave *left) {
    mst_status status = MST_OK;
    mst_train_options again = *options;
    const bool stays = left->rest != NULL;
    const double seconds = left->seconds;
    if (left->saved) again.resume = "auto";
    MST_TRY(mst_comm_barrier(comm)); /* the lease has been given back */
    if (stays) status = leave_explain(left, train(left->rest, &again, left));
    leave_clear(left);
    status = mst_comm_rejoin(comm, stays, status, seconds);
done:
    return status;
}

static mst_status train(mst_comm *comm, const mst_train_options *options, leave *left) {
    leave next = {0};
    const mst_status status = start(comm, options, left, &next);
    return next.faults != NULL ? go_on(comm, options, &next) : status;
}

mst_status mst_run_train(mst_comm *comm, const mst_train_options *options) {
    return train(comm, options, NULL);
}
