#include "muster/run.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "muster/files.h"
#include "stop.h"
#include "training.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double training_elapsed(const training *t) {
    return now() - t->begun;
}

void training_say(training *t, const char *format, ...) {
    if (!t->first) return;
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    mst_progress_message(t->progress, "%s", text);
}

/* ---- the beginning ---- */

/* Rank 0 reads the config and says what is wrong with it; the others get what it read. */
static mst_status share_config(training *t, const mst_train_options *options) {
    mst_status status = MST_OK;
    uint64_t bytes = 0;
    if (t->first) {
        status = mst_config_load(options->config_path, options->overrides, options->override_count, stderr,
                                 &t->config);
        if (status == MST_OK) status = mst_config_to_yaml(&t->config, &t->config_yaml);
        if (status == MST_OK) bytes = strlen(t->config_yaml) + 1;
    }
    MST_TRY(mst_comm_agree(t->comm, status));
    MST_TRY(mst_comm_broadcast(t->comm, 0, &bytes, sizeof bytes));
    if (!t->first) t->config_yaml = malloc(bytes);
    MST_TRY(mst_comm_agree(t->comm,
                           t->config_yaml != NULL ? MST_OK : mst_error(MST_ENOMEM, "config: out of memory")));
    MST_TRY(mst_comm_broadcast(t->comm, 0, t->config_yaml, bytes));
    if (!t->first)
        status = mst_config_parse(t->config_yaml, options->config_path, NULL, 0, stderr, &t->config);
    MST_TRY(mst_comm_agree(t->comm, status));
done:
    return status;
}

/* All ranks read the same tokens: a stale copy on one node would give a result that nobody could repeat. Collective. */
static mst_status compare_data(training *t) {
    mst_status status = MST_OK;
    mst_digest mine, *all = NULL;
    mst_data_digest(t->data, &mine);
    MST_TRY(mst_comm_allgather_equal(t->comm, &mine, sizeof mine, (void **)&all));
    for (int r = 1; r < mst_comm_size(t->comm); r++)
        MST_CHECK(
            memcmp(&all[r], &all[0], sizeof mine) == 0, MST_ECONFIG,
            "the token files of rank %d on %s are not those of rank 0 on %s; give all nodes the same files",
            r, mst_comm_host(t->comm, r), mst_comm_host(t->comm, 0));
done:
    free(all);
    return status;
}

/* Rank 0, which writes checkpoints' small files, keeps the tokenizer for them. */
static mst_status read_tokenizer(training *t) {
    mst_data_tokenizer tokenizer;
    size_t bytes = 0;
    mst_data_tokenizer_of(t->data, &tokenizer);
    return t->first && tokenizer.has_json ? mst_data_tokenizer_json(t->data, &t->tokenizer, &bytes) : MST_OK;
}

/* Evaluations need something to evaluate. */
static mst_status check_heldout(training *t) {
    mst_status status = MST_OK;
    if (mst_data_samples(t->data, MST_SPLIT_HELDOUT) >= t->config.batch.micro) return MST_OK;
    MST_CHECK(
        t->config.train.target_bits_per_byte == 0, MST_ECONFIG,
        "%s: train.target_bits_per_byte: the data has less than a microbatch of held-out text, so that no "
        "target can be reached; build it with more --heldout",
        mst_config_place(&t->config, "train.target_bits_per_byte"));
    if (t->config.train.eval_every > 0)
        training_say(t, "note: nothing is evaluated: the data has less than a microbatch of held-out text");
done:
    return status;
}

/* Opens the data, and takes its vocabulary where the config names none. Collective. */
static mst_status open_data(training *t) {
    mst_status status = MST_OK;
    const mst_data_config config = {.sources = t->config.data.sources,
                                    .source_count = t->config.data.source_count,
                                    .seq_len = t->config.data.seq_len,
                                    .seed = t->config.run.seed};
    mst_watchdog_progress(t->watchdog, "open data", 0);
    const mst_status opened = mst_data_open(&config, &t->data);
    mst_watchdog_waiting(t->watchdog, "open data", 0);
    MST_TRY(mst_comm_agree(t->comm, opened));
    MST_TRY(compare_data(t));
    MST_TRY(mst_comm_agree(t->comm, read_tokenizer(t)));
    MST_TRY(check_heldout(t));
    const size_t vocab = mst_data_vocab(t->data);
    if (t->config.model.vocab_size == 0) {
        t->config.model.vocab_size = vocab;
        free(t->config_yaml);
        t->config_yaml = NULL;
        MST_TRY(mst_comm_agree(t->comm, mst_config_to_yaml(&t->config, &t->config_yaml)));
    }
    MST_CHECK(
        t->config.model.vocab_size >= vocab, MST_ECONFIG,
        "%s: model.vocab_size: %zu is less than the %zu tokens of the data's vocabulary; leave it out to "
        "take the data's",
        mst_config_place(&t->config, "model.vocab_size"), t->config.model.vocab_size, vocab);
done:
    return status;
}

/* ---- the run folder ---- */

typedef struct changes {
    training *training;
    bool quiet;           /* what may change is not said */
    char forbidden[1536]; /* every key that may not change, with both values */
} changes;

static void note_change(void *context, const char *key, const char *before, const char *after, bool fixed) {
    changes *c = context;
    const size_t used = strlen(c->forbidden);
    if (fixed)
        snprintf(c->forbidden + used, sizeof c->forbidden - used, "%s%s (%s, now %s)", used > 0 ? ", " : "",
                 key, before, after);
    else if (!c->quiet)
        training_say(c->training, "note: %s changes from %s to %s", key, before, after);
}

/* A run's config may change where its bits are not defined by it; what changes is said, what may not change
 * refuses. @param yaml the config so far, of `path` */
static mst_status compare_config(training *t, const char *yaml, const char *path, bool quiet) {
    mst_status status = MST_OK;
    mst_config before = {0};
    changes c = {.training = t, .quiet = quiet};
    MST_TRY(mst_config_parse(yaml, path, NULL, 0, t->first ? stderr : NULL, &before));
    MST_TRY(mst_config_compare(&before, &t->config, note_change, &c));
    MST_CHECK(c.forbidden[0] == '\0', MST_ECONFIG,
              "what may not change in a run differs from %s: %s; use the old values, or begin another run",
              path, c.forbidden);
done:
    mst_config_clear(&before);
    return status;
}

/* The run's own config, and that of a checkpoint that --resume names, which may be another run's. */
static mst_status compare_configs(training *t, const char *resume) {
    mst_status status = MST_OK;
    mst_checkpoint_meta meta = {0};
    mst_checkpoint_digests digests;
    const bool own =
        t->folder.config != NULL && t->folder.has_checkpoint; /* else nothing depends on it yet */
    if (own) MST_TRY(compare_config(t, t->folder.config, t->folder.config_path, false));
    if (strcmp(resume, "auto") == 0 || strcmp(resume, "never") == 0) goto done;
    MST_CHECK(access(resume, F_OK) == 0 || errno != ENOENT, MST_ECONFIG,
              "--resume '%s': there is no such file or folder; say auto, never or the path of a checkpoint",
              resume);
    MST_TRY(mst_checkpoint_resolve(resume, t->given));
    MST_TRY(mst_checkpoint_open(t->given, &meta, &digests));
    MST_TRY(compare_config(t, meta.config, t->given, own));
done:
    mst_checkpoint_meta_clear(&meta);
    return status;
}

static void say_of_lease(void *context, const char *text) {
    const training *t = context;
    mst_watchdog_progress(t->watchdog, "lease", 0);
    if (text != NULL) training_say(context, "%s", text);
}

/* Rank 0 takes the lease before anything is read or written there. */
static mst_status hold_folder(training *t, const char *path) {
    mst_status status = MST_OK;
    if (!t->first) goto done;
    MST_TRY(mst_folder_make(path));
    MST_TRY(lease_take(path, mst_comm_host(t->comm, 0), say_of_lease, t, &t->lease));
done:
    return status;
}

static mst_status open_folder(training *t, const mst_train_options *options) {
    mst_status status = MST_OK;
    char path[FOLDER_PATH_MAX];
    if (options->run_dir != NULL)
        snprintf(path, sizeof path, "%s", options->run_dir);
    else if (t->config.run.dir != NULL)
        snprintf(path, sizeof path, "%s", t->config.run.dir);
    else
        snprintf(path, sizeof path, "runs/%s", t->config.run.name);
    if (t->first)
        mst_watchdog_progress(t->watchdog, "lease", 0);
    else
        mst_watchdog_waiting(t->watchdog, "lease", 0);
    MST_TRY(mst_comm_agree(t->comm, hold_folder(t, path)));
    MST_TRY(folder_open(t->comm, path, &t->folder));
    MST_TRY(mst_comm_agree(t->comm, compare_configs(t, options->resume)));
done:
    return status;
}

/* ---- what is said and recorded ---- */

/* Three digits and a unit: 26.8 K, 124 M. */
static const char *in_words(double value, double step, const char *const units[4], char text[32]) {
    size_t unit = 0;
    for (; value >= step && unit < 3; unit++) value /= step;
    snprintf(text, 32, "%.*f%s", unit == 0 || value >= 100 ? 0 : 1, value, units[unit]);
    return text;
}

/* That this rank allocated. */
static size_t memory_bytes(const training *t) {
    return mst_trainer_bytes(t->trainer) + mst_saver_bytes(t->saver);
}

static void announce(training *t) {
    const mst_layout *layout = mst_trainer_layout(t->trainer);
    const mst_config *c = &t->config;
    training_say(t, "run %s in %s", c->run.name, t->folder.path);
    char parameters[32], memory[32];
    training_say(
        t, "model %s, %s parameters, %s; %d rank%s x %d thread%s, %s; %s per rank",
        mst_family_name(c->model.family),
        in_words((double)layout->parameters, 1000, (const char *const[]){"", " K", " M", " G"}, parameters),
        mst_dtype_name(c->train.precision), mst_comm_size(t->comm), mst_comm_size(t->comm) == 1 ? "" : "s",
        t->device.threads, t->device.threads == 1 ? "" : "s", mst_trainer_transport(t->trainer),
        in_words((double)memory_bytes(t), 1024, (const char *const[]){" B", " KiB", " MiB", " GiB"}, memory));
    training_say(t, "batch of %zu sequences x %zu tokens; %llu training tokens, %llu held out",
                 mst_trainer_samples_per_step(t->trainer), c->data.seq_len,
                 (unsigned long long)mst_data_tokens(t->data, MST_SPLIT_TRAIN),
                 (unsigned long long)mst_data_tokens(t->data, MST_SPLIT_HELDOUT));
    training_say(t, "device class %s; measured peak %.0f GFLOP/s", t->device.class_name, t->peak * 1e-9);
    if (t->device.mixed)
        training_say(t, "warning: ranks of different device classes train together (batch.allow_mixed): the "
                        "result depends on which rank computes what, and cannot be repeated on others");
    if (t->device.idle_cores > 0)
        training_say(t,
                     "note: mpirun's binding leaves %d cores of this node idle; 'mpirun --bind-to none' lets "
                     "the ranks use all",
                     t->device.idle_cores);
    if ((size_t)mst_comm_size(t->comm) > c->batch.shape.lanes)
        training_say(t,
                     "warning: %d ranks are more than the %zu lanes of a round: the others only hold "
                     "optimizer state (batch.lanes)",
                     mst_comm_size(t->comm), c->batch.shape.lanes);
}

static mst_status open_metrics(training *t) {
    mst_status status = MST_OK;
    const mst_metrics_start_fields fields = {.run_id = t->folder.run_id,
                                             .device_class = t->device.class_name,
                                             .transport = mst_trainer_transport(t->trainer),
                                             .ranks = mst_comm_size(t->comm),
                                             .threads = t->device.threads,
                                             .parameters = mst_trainer_layout(t->trainer)->parameters,
                                             .peak_flops = t->peak};
    MST_TRY(mst_metrics_open(t->folder.metrics, &t->metrics));
    MST_TRY(mst_metrics_start(t->metrics, &fields));
done:
    return status;
}

/* Rank 0 alone: names a rank that is much slower than the others, once. */
static mst_status look_for_straggler(training *t) {
    const double *paces = mst_trainer_paces(t->trainer);
    const size_t microbatches = mst_trainer_samples_per_step(t->trainer) / t->config.batch.micro;
    double median = 0;
    const int rank = straggler_look(t->straggler, paces, (double)microbatches, &median);
    if (rank < 0) return MST_OK;
    training_say(
        t,
        "note: rank %d (host %s) is slow: %.1f ms per microbatch, the others' median is %.1f ms, for %d "
        "steps now; the others wait for it",
        rank, mst_comm_host(t->comm, rank), 1e3 * paces[rank], 1e3 * median, STRAGGLER_STEPS);
    return mst_metrics_straggler(
        t->metrics, mst_trainer_position(t->trainer)->step,
        &(mst_metrics_straggler_fields){
            .rank = rank, .host = mst_comm_host(t->comm, rank), .pace = paces[rank], .median = median});
}

/* Rank 0 alone; a run that lost its lease ends here, before it records a step. */
static mst_status record_step(training *t, const mst_step_report *report, double seconds) {
    const mst_position *position = mst_trainer_position(t->trainer);
    const mst_flops flops = mst_trainer_flops(t->trainer);
    const double tokens = (double)(mst_trainer_samples_per_step(t->trainer) * t->config.data.seq_len);
    mst_metrics_step_fields fields = {
        .report = report, .position = position, .steps = t->config.run.steps, .seconds = seconds};
    fields.tokens_per_second = tokens / seconds;
    fields.flops = fields.tokens_per_second * (flops.dense + flops.attention);
    fields.peak_share = t->peak > 0 ? fields.flops / t->peak : 0;
    fields.memory_bytes = memory_bytes(t);
    mst_progress_step(t->progress, &fields);
    mst_status status = lease_held(t->lease);
    if (status == MST_OK) status = mst_metrics_step(t->metrics, &fields);
    return status == MST_OK ? look_for_straggler(t) : status;
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
    const double begin = now();
    const mst_config *c = &t->config;
    MST_TRY(mst_trainer_step(t->trainer, &notice, &report));
    walltime_step(&t->walltime, now() - begin);
    MST_TRY(mst_comm_agree(t->comm, t->first ? record_step(t, &report, now() - begin) : MST_OK));
    if (!report.finite) MST_TRY(not_finite(t, &report));
    MST_TRY(training_poll(t));
    const uint64_t step = mst_trainer_position(t->trainer)->step;
    if (evaluation_is_due(t)) {
        const double evaluated = now();
        MST_TRY(evaluate_target(t));
        walltime_evaluation(&t->walltime, now() - evaluated);
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

/* The run ends by a failure that all ranks know of: the save in flight still comes to its end. */
static mst_status settle_after(training *t, mst_status failure) {
    char message[2048];
    if (failure == MST_EMPI) return failure;
    snprintf(message, sizeof message, "%s", mst_error_message());
    if (training_settle(t) != MST_OK) training_say(t, "%s", mst_error_message());
    return mst_error(failure, "%s", message);
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
        status = mst_comm_agree(t->comm, status);
        if (status != MST_OK) return settle_after(t, status);
    }
    MST_TRY(training_settle(t));
    const uint64_t step = mst_trainer_position(t->trainer)->step;
    if (t->reached)
        training_say(t, "step %llu: below the target of %g bits per byte: done", (unsigned long long)step,
                     t->config.train.target_bits_per_byte);
    else if (step < t->config.run.steps)
        status = training_stopped(t);
done:
    return status;
}

/* ---- the whole ---- */

static mst_trainer_config trainer_config(const mst_config *c) {
    return (mst_trainer_config){.model = c->model,
                                .shape = c->batch.shape,
                                .transport = c->batch.transport,
                                .balance = c->batch.balance,
                                .micro = c->batch.micro,
                                .seq_len = c->data.seq_len,
                                .precision = c->train.precision,
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
    const mst_watchdog_options options = {.seconds = t->config.watchdog.seconds,
                                          .device = device,
                                          .interfaces = t->config.network.interfaces,
                                          .queue = t->device.queue};
    return mst_watchdog_start(t->comm, &options, &t->watchdog);
}

static mst_status begin(training *t, const mst_train_options *options) {
    mst_status status = MST_OK;
    MST_TRY(share_config(t, options));
    MST_TRY(device_open(&t->config, t->comm, &t->device));
    MST_TRY(start_watchdog(t));
    MST_TRY(open_data(t));
    MST_TRY(open_folder(t, options));
    mst_watchdog_progress(t->watchdog, "allocate", 0);
    const mst_trainer_config config = trainer_config(&t->config);
    MST_TRY(mst_trainer_create(&config, t->comm, t->data, t->device.queue, &t->device.kernels, t->watchdog,
                               &t->trainer));
    mst_watchdog_progress(t->watchdog, "measure", 0);
    MST_TRY(device_peak(&t->device, t->comm, t->config.train.precision, &t->peak));
    mst_watchdog_waiting(t->watchdog, "start", 0); /* for rank 0's files */
    if (!t->folder.existed) MST_TRY(record_folder(t));
    if (t->first) status = open_metrics(t);
    if (t->first && status == MST_OK) status = straggler_create(mst_comm_size(t->comm), &t->straggler);
    MST_TRY(mst_comm_agree(t->comm, status));
    MST_TRY(training_open_saver(t));
    announce(t);
    training_know_end(t);
    MST_TRY(training_resume(t, options->resume));
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

mst_status mst_run_train(mst_comm *comm, const mst_train_options *options) {
    mst_status status = MST_OK;
    char message[2048]; /* the first error wins: leaving may meet others */
    training t = {.comm = comm,
                  .first = mst_comm_rank(comm) == 0,
                  .begun = now(),
                  .saved_step = UINT64_MAX,
                  .heldout_step = UINT64_MAX};
    stop_watch(t.first);
    if (t.first) status = mst_progress_begin(stderr, &t.progress);
    MST_TRY(mst_comm_agree(comm, status));
    MST_TRY(begin(&t, options));
    MST_TRY(loop(&t));
    MST_TRY(finish(&t));
done:
    snprintf(message, sizeof message, "%s", mst_error_message());
    end(&t, status);
    stop_unwatch();
    return status == MST_OK ? MST_OK : mst_error(status, "%s", message);
}
