/* What a run says of itself, to the user and to metrics.jsonl. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "training.h"

void training_say(training *t, const char *format, ...) {
    if (!t->first) return;
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    mst_progress_message(t->progress, "%s", text);
}

void training_note(void *context, const char *text) {
    training_say(context, "note: %s", text);
}

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

/* What whole documents came to, where samples are made of them. */
static void announce_packing(training *t) {
    mst_packing_report report;
    mst_data_packing_report(t->data, MST_SPLIT_TRAIN, &report);
    if (report.sequences == 0) return;
    const double places = (double)report.sequences * (double)t->config.data.seq_len;
    training_say(t, "%llu documents in %llu sequences, %.1f %% of whose places are taken",
                 (unsigned long long)report.documents, (unsigned long long)report.sequences,
                 100 * (double)report.places / places);
    if (report.cut > 0)
        training_say(
            t, "note: %llu document%s longer than a sequence (data.seq_len): %llu tokens at %s are cut off",
            (unsigned long long)report.cut, report.cut == 1 ? " is" : "s are",
            (unsigned long long)report.cut_tokens, report.cut == 1 ? "its end" : "their ends");
    if (t->untargeted > 0)
        training_say(t, "note: %llu of %llu documents have no target of the loss within data.seq_len",
                     (unsigned long long)t->untargeted, (unsigned long long)report.documents);
}

void training_announce(training *t) {
    const mst_layout *layout = mst_trainer_model_layout(t->trainer);
    const mst_config *c = &t->config;
    training_say(t, "run %s in %s", c->run.name, t->folder.path);
    char parameters[32], memory[32], trained[32];
    const char *const thousands[] = {"", " K", " M", " G"};
    training_say(
        t, "model %s, %s parameters, %s; %d rank%s x %d thread%s, %s; %s per rank",
        mst_family_name(c->model.family), in_words((double)layout->parameters, 1000, thousands, parameters),
        mst_dtype_name(c->train.precision), mst_comm_size(t->comm), mst_comm_size(t->comm) == 1 ? "" : "s",
        t->device.threads, t->device.threads == 1 ? "" : "s", mst_trainer_transport(t->trainer),
        in_words((double)memory_bytes(t), 1024, (const char *const[]){" B", " KiB", " MiB", " GiB"}, memory));
    if (mst_trainer_frozen(t->trainer) != NULL)
        training_say(t, "adapters of rank %zu: %s parameters are trained, the others are frozen",
                     c->lora.rank,
                     in_words((double)mst_trainer_layout(t->trainer)->parameters, 1000, thousands, trained));
    training_say(t, "batch of %zu sequences x %zu tokens; %llu training tokens, %llu held out",
                 mst_trainer_samples_per_step(t->trainer), c->data.seq_len,
                 (unsigned long long)mst_data_tokens(t->data, MST_SPLIT_TRAIN),
                 (unsigned long long)mst_data_tokens(t->data, MST_SPLIT_HELDOUT));
    announce_packing(t);
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

void training_announce_tokenizer(training *t) {
    mst_data_tokenizer data;
    mst_data_tokenizer_of(t->data, &data);
    if (data.is_bytes || data.has_json) return;
    training_say(t,
                 "note: the data does not say its tokenizer (data.tokenizer): bits per byte are not known%s",
                 t->tokenizer == NULL ? ", and 'muster generate' will ask for it"
                                      : "; 'muster generate' takes that of the first weights");
}

mst_status training_open_metrics(training *t) {
    mst_status status = MST_OK;
    const mst_metrics_start_fields fields = {.run_id = t->folder.run_id,
                                             .device_class = t->device.class_name,
                                             .transport = mst_trainer_transport(t->trainer),
                                             .ranks = mst_comm_size(t->comm),
                                             .threads = t->device.threads,
                                             .parameters = mst_trainer_model_layout(t->trainer)->parameters,
                                             .peak_flops = t->peak,
                                             .gpu_taken = t->device.taken};
    MST_TRY(mst_metrics_open(t->folder.metrics, &t->metrics));
    MST_TRY(mst_metrics_start(t->metrics, &fields));
done:
    return status;
}

void training_say_graphs(training *t) {
    const char *why = mst_trainer_graphs_failure(t->trainer);
    if (why == NULL || t->said_graphs) return;
    t->said_graphs = true;
    training_say(t, "note: kernels are launched one by one, without graphs (device.graphs): %s", why);
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

/* Of its GPU, in use by whatever process: what a plan is compared with. */
static size_t gpu_bytes(void) {
    size_t room = 0, all = 0;
    return mst_memory_room(&room, &all) == MST_OK ? all - room : 0;
}

/* Rank 0 alone; a run that lost its lease ends here, before it records a step. */
mst_status training_record_step(training *t, const mst_step_report *report, double seconds) {
    const mst_position *position = mst_trainer_position(t->trainer);
    const mst_flops flops = mst_trainer_flops(t->trainer);
    const double tokens = (double)(mst_trainer_samples_per_step(t->trainer) * t->config.data.seq_len);
    mst_metrics_step_fields fields = {
        .report = report, .position = position, .steps = t->config.run.steps, .seconds = seconds};
    fields.tokens_per_second = tokens / seconds;
    fields.flops = fields.tokens_per_second * (flops.dense + flops.attention);
    /* A step above the peak shows that the machine was busy when the peak was measured, and what it can do. */
    if (t->peak > 0 && fields.flops > t->peak) t->peak = fields.flops;
    fields.peak_share = t->peak > 0 ? fields.flops / t->peak : 0;
    fields.memory_bytes = memory_bytes(t);
    fields.gpu_bytes = gpu_bytes();
    mst_progress_step(t->progress, &fields);
    mst_status status = lease_held(t->lease);
    if (status == MST_OK) status = mst_metrics_step(t->metrics, &fields);
    return status == MST_OK ? look_for_straggler(t) : status;
}

/* ---- held-out loss ---- */

/* The lowest held-out loss of a checkpoint that is whole; its step is UINT64_MAX when there is none. */
static mst_checkpoint_entry best_checkpoint(const training *t) {
    mst_checkpoint_entry best = {.step = UINT64_MAX, .loss = INFINITY}, *entries = NULL;
    size_t count = 0;
    if (mst_checkpoint_list(t->folder.checkpoints, &entries, &count) != MST_OK) return best;
    for (size_t i = 0; i < count; i++)
        if (entries[i].readable && entries[i].loss <= best.loss) best = entries[i];
    free(entries);
    return best;
}

/* "lowest at step 70: 3.3012, 4.8305 bits per byte (its checkpoint is there)", of this start and of what the disk has. */
static const char *put_lowest(const training *t, char text[256]) {
    const mst_checkpoint_entry kept = best_checkpoint(t);
    const bool there = kept.loss <= t->trend.best.loss;
    const double loss = there ? kept.loss : t->trend.best.loss;
    const double bits = there ? kept.bits_per_byte : t->trend.best.bits_per_byte;
    const uint64_t step = there ? kept.step : t->trend.best_step;
    char per_byte[48] = "";
    if (!isfinite(loss)) return "not found";
    if (isfinite(bits)) snprintf(per_byte, sizeof per_byte, ", %.4f bits per byte", bits);
    snprintf(text, 256, "lowest at step %llu: %.4f%s%s", (unsigned long long)step, loss, per_byte,
             there ? " (its checkpoint is there)" : "");
    return text;
}

void training_say_worse(training *t) {
    char lowest[256];
    if (!t->first) return;
    training_say(
        t,
        "warning: held-out loss was %s; %d evaluations running are more than %d%% above. The model "
        "learns its training text by heart: more steps hardly help, more text or a smaller model may",
        put_lowest(t, lowest), TREND_EVALUATIONS, TREND_PERCENT);
}

void training_say_missed(training *t) {
    char lowest[256];
    if (!t->first) return;
    training_say(t,
                 "warning: the last step is done, and the target of %g bits per byte not reached; held-out "
                 "loss was %s",
                 t->config.train.target_bits_per_byte, put_lowest(t, lowest));
}
