/* The model that a run's adapters adapt: written into the run folder once, as `muster import` writes it, and read from there by
 * those ranks that have a copy of their own. */
#include "base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "muster/convert.h"
#include "muster/files.h"
#include "training.h"

/* ---- reading ---- */

static mst_status put(void *context, const mst_manifest_tensor *tensor, uint64_t first, const float *values,
                      uint64_t count) {
    return mst_frozen_put(context, tensor->name, tensor->shape, first, values, count);
}

mst_status base_load(const mst_checkpoint_context *context, const char *path, mst_frozen *frozen) {
    mst_status status = MST_OK;
    mst_frozen_restart(frozen);
    MST_TRY(mst_checkpoint_weights(context, path, put, frozen));
    MST_TRY(mst_frozen_check(frozen));
done:
    return status == MST_OK ? MST_OK : mst_error_context(status, "the frozen weights of %s", path);
}

/* ---- writing ---- */

/* A model that is being copied. */
typedef struct copy {
    training *t;
    const char *temporary;
    const mst_checkpoint_context *context;
    mst_hf *hf;
    size_t suspect; /* as mst_hf_suspect has it */
} copy;

static void go_on(void *context, uint64_t done, uint64_t all) {
    const training *t = context;
    (void)done, (void)all;
    mst_watchdog_progress(t->watchdog, "initialise", 0);
}

static mst_status read_weights(void *context, size_t tensor, uint64_t first, uint64_t count,
                               float *values_out) {
    copy *c = context;
    char text[MST_HF_SUSPECT_TEXT];
    go_on(c->t, 0, 0);
    const mst_status status = mst_hf_read(c->hf, tensor, first, count, values_out);
    if (status == MST_OK && mst_hf_suspect(c->hf, tensor, first, count, values_out, &c->suspect, text))
        training_say(c->t, "warning: %s", text);
    return status;
}

/* That of the run, without adapters. Caller frees. */
static mst_status make_config(const training *t, char **yaml_out) {
    static const char *const overrides[] = {"lora.rank=0", "lora.init=null"};
    mst_status status = MST_OK;
    mst_config config = {0};
    MST_TRY(mst_config_parse(t->config_yaml, MST_BASE_NAME, overrides, 2, stderr, &config));
    MST_TRY(mst_config_to_yaml(&config, yaml_out));
done:
    mst_config_clear(&config);
    return status;
}

static mst_status copy_folder(copy *c, mst_checkpoint_digests *digests_out) {
    static char run_id[] = "", device_class[] = "imported, not computed", versions[] = "muster " MST_VERSION;
    mst_status status = MST_OK;
    char *config = NULL, *tokenizer = NULL, *companions = NULL;
    size_t bytes = 0, companion_bytes = 0;
    const mst_hf_notes notes = {.say = training_note, .context = c->t};
    const mst_pack_options options = {.weights_only = true, .progress = go_on, .progress_context = c->t};
    const mst_weights_source source = {.context = c, .read = read_weights};
    MST_TRY(mst_hf_open(c->t->config.init, &notes, &c->hf));
    MST_TRY(mst_hf_tokenizer(c->hf, &tokenizer, &bytes));
    MST_TRY(mst_hf_companions(c->hf, &notes, &companions, &companion_bytes));
    MST_TRY(make_config(c->t, &config));
    const mst_checkpoint_meta meta = {.run_id = run_id,
                                      .device_class = device_class,
                                      .versions = versions,
                                      .config = config,
                                      .model = *mst_hf_model(c->hf),
                                      .tokenizer = tokenizer,
                                      .companions = companions,
                                      .companion_bytes = companion_bytes};
    MST_TRY(mst_checkpoint_pack_weights(c->context, mst_hf_layout(c->hf), &meta, &source, c->temporary,
                                        &options, digests_out));
done:
    mst_hf_close(&c->hf);
    free(config);
    free(tokenizer);
    free(companions);
    return status;
}

static mst_status copy_checkpoint(copy *c, mst_checkpoint_digests *digests_out) {
    mst_status status = MST_OK;
    char path[FOLDER_PATH_MAX];
    const mst_pack_options options = {.weights_only = true, .progress = go_on, .progress_context = c->t};
    MST_TRY(mst_checkpoint_resolve(c->t->config.init, path));
    MST_TRY(mst_checkpoint_pack(c->context, path, c->temporary, &options, digests_out));
done:
    return status;
}

/* The weights of `path` have to be those that the run began with, if it began before. */
static mst_status compare_begun(const training *t, const char *path, const mst_digest *weights) {
    mst_status status = MST_OK;
    char found[MST_DIGEST_HEX];
    mst_digest_to_hex(weights, found);
    MST_CHECK(t->folder.init[0] == '\0' || strcmp(t->folder.init, found) == 0, MST_ECONFIG,
              "%s holds other weights (%s) than this run began with (%s); begin another run", path, found,
              t->folder.init);
done:
    return status;
}

/* Rank 0: copies what model.init names into the run folder. */
static mst_status write_base(training *t, const mst_checkpoint_context *context, const char *path) {
    mst_status status = MST_OK;
    mst_checkpoint_digests digests;
    char *temporary = NULL;
    MST_TRY(mst_init_check(t->config.init, &t->config.model));
    MST_TRY(mst_name_beside(path, &temporary));
    unlink(temporary);
    copy c = {.t = t, .temporary = temporary, .context = context, .suspect = SIZE_MAX};
    MST_TRY(mst_hf_is_there(t->config.init) ? copy_folder(&c, &digests) : copy_checkpoint(&c, &digests));
    MST_TRY(compare_begun(t, t->config.init, &digests.weights));
    MST_TRY(mst_file_publish(temporary, path));
done:
    if (temporary != NULL && status != MST_OK) unlink(temporary);
    free(temporary);
    return status == MST_OK ? MST_OK : mst_error_context(status, "model.init");
}

/* Rank 0: while the run has no checkpoint model.init may be corrected, so the copy is made again. */
static mst_status find_base(training *t, const mst_checkpoint_context *context, const char *path) {
    mst_status status = MST_OK;
    mst_checkpoint_meta meta = {0};
    mst_checkpoint_digests digests;
    if (!t->folder.has_checkpoint || access(path, F_OK) != 0) MST_TRY(write_base(t, context, path));
    MST_TRY(mst_checkpoint_open(path, &meta, &digests));
    MST_TRY(compare_begun(t, path, &digests.weights));
    t->base = digests.weights;
done:
    mst_checkpoint_meta_clear(&meta);
    return status;
}

mst_status training_open_base(training *t) {
    mst_status status = MST_OK;
    char path[FOLDER_PATH_MAX + 16];
    training_phase phase = {t->watchdog, "initialise", 0};
    const mst_checkpoint_context context = training_checkpoint_context(t, &phase);
    if (mst_trainer_frozen(t->trainer) == NULL) goto done;
    snprintf(path, sizeof path, "%s/" MST_BASE_NAME, t->folder.path);
    if (!t->first) mst_watchdog_waiting(t->watchdog, "initialise", 0);
    MST_TRY(mst_comm_agree(t->comm, t->first ? find_base(t, &context, path) : MST_OK));
    MST_TRY(mst_comm_broadcast(t->comm, 0, &t->base, sizeof t->base));
    mst_status loaded = MST_OK;
    if (mst_trainer_fills_frozen(t->trainer))
        loaded = base_load(&context, path, mst_trainer_frozen(t->trainer));
    mst_watchdog_waiting(t->watchdog, "initialise", 0);
    MST_TRY(mst_comm_agree(t->comm, loaded));
    MST_TRY(mst_trainer_frozen_filled(t->trainer));
done:
    return status;
}
