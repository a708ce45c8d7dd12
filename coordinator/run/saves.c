/* Checkpoints of a run: saving, keeping, resuming, rolling back. */
#include <stdlib.h>
#include <string.h>

#include "training.h"

/* The libraries whose version can change bits stand in the device class. */
static char versions[] = "muster " MST_VERSION ", compiler " __VERSION__;

static void fill_meta(training *t, mst_checkpoint_meta *meta) {
    const mst_position *position = mst_trainer_position(t->trainer);
    *meta = (mst_checkpoint_meta){.step = position->step,
                                  .updates = position->updates,
                                  .samples = position->samples,
                                  .tokens = position->tokens,
                                  .run_id = t->folder.run_id,
                                  .device_class = t->device.class_name,
                                  .config = t->config_yaml,
                                  .versions = versions,
                                  .choices = t->choices,
                                  .model = t->config.model,
                                  .tokenizer = t->tokenizer,
                                  .companions = t->companions,
                                  .companion_bytes = t->companion_bytes};
    meta->has_base = mst_trainer_frozen(t->trainer) != NULL;
    meta->base = t->base;
    if (t->heldout_step == position->step) meta->heldout = t->heldout;
    mst_data_digest(t->data, &meta->data);
}

static void report(void *progress_context, bool waiting) {
    const training_phase *p = progress_context;
    if (waiting)
        mst_watchdog_waiting(p->watchdog, p->name, p->step);
    else
        mst_watchdog_progress(p->watchdog, p->name, p->step);
}

mst_checkpoint_context training_checkpoint_context(training *t, training_phase *p) {
    return (mst_checkpoint_context){.comm = t->comm,
                                    .queue = t->device.queue,
                                    .kernels = &t->device.kernels,
                                    .progress = report,
                                    .progress_context = p,
                                    .permit = t->lease != NULL ? lease_permit : NULL,
                                    .permit_context = t->lease};
}

/* ---- saving ---- */

mst_status training_open_saver(training *t) {
    t->saving = (training_phase){t->watchdog, "checkpoint", 0};
    const mst_checkpoint_context context = training_checkpoint_context(t, &t->saving);
    const mst_saver_options options = {.folder = t->folder.checkpoints,
                                       .copies = t->config.checkpoint.async,
                                       .tidies = true,
                                       .wishes = {.newest = t->config.checkpoint.keep,
                                                  .every = t->config.checkpoint.keep_every,
                                                  .best = t->config.checkpoint.keep_best,
                                                  .rollback = t->config.checkpoint.every}};
    return mst_saver_create(&context, mst_trainer_layout(t->trainer), mst_trainer_shards(t->trainer),
                            &options, &t->saver);
}

mst_status training_digest(training *t, mst_checkpoint_digests *digests_out) {
    mst_checkpoint_meta meta;
    if (t->has_saved_digests && training_is_saved(t)) {
        *digests_out = t->saved_digests;
        return MST_OK;
    }
    fill_meta(t, &meta);
    training_phase p = {t->watchdog, "digest", meta.step};
    const mst_checkpoint_context context = training_checkpoint_context(t, &p);
    return mst_checkpoint_digest(&context, mst_trainer_layout(t->trainer), mst_trainer_shards(t->trainer),
                                 &meta, digests_out);
}

bool training_is_saved(const training *t) {
    const mst_position *position = mst_trainer_position(t->trainer);
    return t->saved_step == position->step &&
           memcmp(&t->saved_position, position, sizeof t->saved_position) == 0;
}

/* Seconds that a save takes when nothing else is done: of one beside training, `seconds` has whole steps in it. */
static double save_cost(const mst_saved *saved) {
    return saved->seconds < 2 * saved->written ? saved->seconds : 2 * saved->written;
}

static mst_status conclude_saved(training *t, const mst_saved *saved) {
    walltime_save(&t->walltime, save_cost(saved));
    t->saved_step = saved->step;
    t->saved_digests = saved->digests;
    t->has_saved_digests = true;
    if (saved->warning[0] != '\0') training_say(t, "warning: %s", saved->warning);
    if (saved->set_aside > 0)
        training_say(t, "note: %zu checkpoint%s that this run does not go on from renamed to left-step-...",
                     saved->set_aside, saved->set_aside == 1 ? "" : "s");
    mst_watchdog_waiting(t->watchdog, "checkpoint", saved->step);
    return mst_comm_agree(t->comm, mst_metrics_checkpoint(t->metrics, saved));
}

/* What a run can go on after: the disk or the memory said no. The message is that of `status`. */
static mst_status conclude_failed(training *t, mst_status status) {
    if (status != MST_EIO && status != MST_EHDF5 && status != MST_ENOMEM) return status;
    if (t->saved_step == UINT64_MAX)
        training_say(t, "warning: %s; training goes on, without a checkpoint so far", mst_error_message());
    else
        training_say(t, "warning: %s; training goes on, the checkpoint of step %llu stays",
                     mst_error_message(), (unsigned long long)t->saved_step);
    const uint64_t step = mst_saver_step(t->saver);
    mst_watchdog_waiting(t->watchdog, "checkpoint", step);
    return mst_comm_agree(t->comm, mst_metrics_checkpoint_failed(t->metrics, step, mst_error_message()));
}

/* A save is over, or never began. @param needed its failure ends the run */
static mst_status conclude(training *t, mst_status status, const mst_saved *saved, bool needed) {
    if (status == MST_OK) return conclude_saved(t, saved);
    return needed ? status : conclude_failed(t, status);
}

/* A rollback goes to the newest checkpoint at a multiple of checkpoint.every: were one missing, it would go elsewhere. */
static bool rolls_back(const training *t) {
    return t->config.train.on_nonfinite == MST_NONFINITE_ROLLBACK;
}

mst_status training_poll(training *t) {
    bool over = false;
    mst_saved saved;
    if (!mst_saver_busy(t->saver)) return MST_OK;
    mst_status status = mst_saver_poll(t->saver, &over, &saved);
    return over ? conclude(t, status, &saved, rolls_back(t)) : MST_OK;
}

mst_status training_settle(training *t) {
    mst_saved saved;
    if (!mst_saver_busy(t->saver)) return MST_OK;
    mst_status status = mst_saver_wait(t->saver, &saved);
    return conclude(t, status, &saved, rolls_back(t));
}

/* The save before is still in flight. */
static mst_status settle_aloud(training *t, uint64_t step) {
    const double begin = training_elapsed(t);
    const uint64_t before = mst_saver_step(t->saver);
    mst_status status = training_settle(t);
    training_say(t, "step %llu: waited %.3f s for the checkpoint of step %llu", (unsigned long long)step,
                 training_elapsed(t) - begin, (unsigned long long)before);
    return status;
}

mst_status training_is_best(training *t, bool *best_out) {
    mst_status status = MST_OK;
    *best_out = false;
    if (t->first)
        status = mst_checkpoint_is_best(t->folder.checkpoints, t->config.checkpoint.keep_best,
                                        t->heldout_step, t->heldout.loss, best_out);
    MST_TRY(mst_comm_agree(t->comm, status));
    MST_TRY(mst_comm_broadcast(t->comm, 0, best_out, sizeof *best_out));
done:
    return status;
}

mst_status training_save(training *t, bool final) {
    mst_status status = MST_OK;
    mst_checkpoint_meta meta;
    mst_saved saved;
    fill_meta(t, &meta);
    if (mst_saver_busy(t->saver)) {
        if (!final && t->config.checkpoint.when_busy == MST_BUSY_SKIP) {
            training_say(t,
                         "step %llu: no checkpoint: that of step %llu is still being written, for %.1f s now",
                         (unsigned long long)meta.step, (unsigned long long)mst_saver_step(t->saver),
                         training_elapsed(t) - t->save_begun);
            goto done;
        }
        MST_TRY(settle_aloud(t, meta.step));
    }
    t->saving.step = meta.step;
    t->save_begun = training_elapsed(t);
    t->saved_position = *mst_trainer_position(t->trainer);
    t->has_saved_digests = false;
    status = mst_saver_begin(t->saver, &meta);
    if (status == MST_OK && t->config.checkpoint.async && !final) goto done;
    if (status == MST_OK) status = mst_saver_wait(t->saver, &saved);
    status = conclude(t, status, &saved, final || rolls_back(t));
done:
    return status;
}

/* ---- resuming ---- */

/* What a checkpoint has besides: damage there is said, but costs nobody a step. */
static void look_at_rest(training *t, const mst_checkpoint_context *context, const char *path) {
    if (t->first && mst_checkpoint_verify_rest(context, path) != MST_OK)
        training_say(
            t,
            "note: %s; training does not need it, and goes on from %s, whose weights and moments are whole",
            mst_error_message(), path);
}

/* Takes masters, moments and position from a checkpoint whose manifest can be read.
 * @param step that its name says, since that made it the newest; NULL: whatever it is of */
static mst_status load(training *t, const char *path, const uint64_t *step) {
    mst_status status = MST_OK;
    mst_checkpoint_meta meta = {0};
    mst_checkpoint_digests digests;
    mst_digest data;
    training_phase p = {t->watchdog, "resume", mst_trainer_position(t->trainer)->step};
    const mst_checkpoint_context context = training_checkpoint_context(t, &p);
    MST_TRY(mst_comm_agree(t->comm, mst_checkpoint_open(path, &meta, &digests)));
    MST_CHECK(step == NULL || meta.step == *step, MST_EFORMAT,
              "its manifest says step %llu: it was renamed, or copied to this name",
              (unsigned long long)meta.step);
    mst_data_digest(t->data, &data);
    MST_CHECK(memcmp(&data, &meta.data, sizeof data) == 0, MST_ECONFIG,
              "%s was trained on other data, or in another order (sources, weights, seq_len or seed differ); "
              "use a new run "
              "folder to train on this data",
              path);
    MST_CHECK(!meta.has_base || memcmp(&meta.base, &t->base, sizeof t->base) == 0, MST_ECONFIG,
              "%s holds adapters of another model than the one in %s/" MST_BASE_NAME, path, t->folder.path);
    MST_TRY(
        mst_checkpoint_load(&context, path, mst_trainer_layout(t->trainer), mst_trainer_shards(t->trainer)));
    look_at_rest(t, &context, path);
    if (training_carry(t, path, false) !=
        MST_OK) /* as other damage that training does not depend on, it costs no step */
        training_say(t, "warning: %s; checkpoints from here on will be without it", mst_error_message());
    if (strcmp(meta.device_class, t->device.class_name) != 0)
        training_say(t,
                     "note: the device class changes from '%s' to '%s': from here on the bits differ from "
                     "those that the old "
                     "one would have given",
                     meta.device_class, t->device.class_name);
    if (meta.ranks > 0 && meta.ranks != mst_comm_size(t->comm))
        training_say(t, "note: the number of ranks changes from %d to %d: the bits stay the same", meta.ranks,
                     mst_comm_size(t->comm));
    if (t->choices == NULL) { /* a rollback keeps those of this start */
        t->choices = meta.choices;
        meta.choices = NULL;
    }
    const mst_position position = {meta.step, meta.updates, meta.samples, meta.tokens};
    MST_TRY(mst_trainer_restore(t->trainer, &position));
done:
    mst_checkpoint_meta_clear(&meta);
    return status;
}

/* The step in a checkpoint's name, .../step-00000100. */
static uint64_t step_of(const char *path) {
    return strtoull(strrchr(path, '-') + 1, NULL, 10);
}

/* The newest checkpoint of the run but for `skip` newer ones, as rank 0 sees them; "": there is none. Collective.
 * @param path_out [FOLDER_PATH_MAX] */
static mst_status find_newest(training *t, size_t skip, char *path_out) {
    mst_status status = MST_OK;
    if (t->first) status = mst_checkpoint_newest(t->folder.checkpoints, skip, path_out);
    MST_TRY(mst_comm_agree(t->comm, status));
    MST_TRY(mst_comm_broadcast(t->comm, 0, path_out, FOLDER_PATH_MAX));
done:
    return status;
}

/*
 * The newest checkpoint that can be loaded, of those at a multiple of `every` (1: of all). *found_out: whether there was
 * one; path_out [FOLDER_PATH_MAX]. When there are some and none can be loaded, that is an error: to begin again would
 * hide them.
 */
static mst_status load_newest(training *t, uint64_t every, bool *found_out, char *path_out) {
    mst_status status = MST_OK;
    size_t failed = 0;
    *found_out = false;
    for (size_t skip = 0;; skip++) {
        mst_watchdog_progress(t->watchdog, "resume", mst_trainer_position(t->trainer)->step);
        MST_TRY(find_newest(t, skip, path_out));
        if (path_out[0] == '\0') break;
        const uint64_t step = step_of(path_out);
        if (step % every != 0) continue;
        status = load(t, path_out, &step);
        *found_out = status == MST_OK;
        if (status != MST_EFORMAT && status != MST_EIO) goto done;
        training_say(t, "passed over %s: %s; it stays, for you to look at", path_out, mst_error_message());
        failed++;
    }
    MST_CHECK(failed == 0, MST_EIO,
              "none of the %zu checkpoints in %s can be loaded, and nothing was begun anew; look at them "
              "with 'muster verify', "
              "or begin in another --run folder",
              failed, t->folder.checkpoints);
done:
    return status;
}

mst_status training_resume(training *t, const char *resume) {
    mst_status status = MST_OK;
    char path[FOLDER_PATH_MAX] = "";
    bool found = false;
    const bool automatic = strcmp(resume, "auto") == 0, never = strcmp(resume, "never") == 0;
    t->saved_step = UINT64_MAX;
    if (automatic) {
        MST_TRY(load_newest(t, 1, &found, path));
        if (found) {
            t->saved_position = *mst_trainer_position(t->trainer);
            t->saved_step = t->saved_position.step;
        }
    } else if (!never) {
        memcpy(path, t->given, sizeof path);
        MST_TRY(load(t, path, NULL));
        found = true;
    } else {
        MST_TRY(find_newest(t, 0, path));
        MST_CHECK(path[0] == '\0', MST_ECONFIG,
                  "--resume never: the run folder holds %s, which a new start would mix with; choose another "
                  "--run folder",
                  path);
    }
    if (!found) {
        MST_TRY(training_begin(t));
        /* A start before this one may have recorded steps without reaching a checkpoint. */
        if (t->folder.existed) MST_TRY(mst_comm_agree(t->comm, mst_metrics_resume(t->metrics, 0, NULL)));
        goto done;
    }
    mst_saver_goes_on_from(t->saver, mst_trainer_position(t->trainer)->step);
    training_say(t, "resumed from %s at step %llu", path,
                 (unsigned long long)mst_trainer_position(t->trainer)->step);
    MST_TRY(mst_comm_agree(t->comm,
                           mst_metrics_resume(t->metrics, mst_trainer_position(t->trainer)->step, path)));
done:
    return status;
}

enum { ROLLBACKS_MAX = 3 };

mst_status training_rollback(training *t) {
    mst_status status = MST_OK;
    char path[FOLDER_PATH_MAX] = "";
    bool found = false;
    mst_position position = *mst_trainer_position(t->trainer);
    const uint64_t samples = position.samples;
    MST_TRY(training_settle(t)); /* where it goes must not depend on how far a save has come */
    t->rollbacks = position.step > t->rollback_step ? 1 : t->rollbacks + 1;
    if (position.step > t->rollback_step) t->rollback_step = position.step;
    MST_CHECK(t->rollbacks <= ROLLBACKS_MAX, MST_ENONFINITE,
              "still not finite after %d rollbacks at step %llu, each with new samples; lower the learning "
              "rate (schedule.peak) or the "
              "clip norm (optimizer.clip_norm)",
              ROLLBACKS_MAX, (unsigned long long)position.step);
    /* Only checkpoints whose steps the config fixes, so that the way does not depend on when somebody stopped the run. */
    if (t->config.checkpoint.every > 0) MST_TRY(load_newest(t, t->config.checkpoint.every, &found, path));
    if (!found) MST_TRY(training_begin(t));
    mst_saver_goes_on_from(t->saver, mst_trainer_position(t->trainer)->step);
    position = *mst_trainer_position(t->trainer);
    position.samples = samples;
    MST_TRY(mst_trainer_restore(t->trainer, &position));
    training_say(t,
                 "rolled back to step %llu (%s); going on after the samples that did not give finite numbers",
                 (unsigned long long)position.step, found ? path : "the initial weights");
    MST_TRY(mst_comm_agree(t->comm, mst_metrics_rollback(t->metrics, position.step, samples)));
done:
    return status;
}
