/* The first weights of a run: random ones, or those of another model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "muster/convert.h"
#include "training.h"

static void read_on(void *context) {
    const training *t = context;
    mst_watchdog_progress(t->watchdog, "initialise", 0);
}

/* Each rank reads another part, so each has its own to say. */
static void warn(void *context, const char *text) {
    mst_progress_message(((const training *)context)->progress, "warning: %s", text);
}

/* The tokenizer that comes with the weights, where the data does not say with which one it was made. Another one than the
 * data's is seldom meant. Takes `json`. */
static mst_status take_tokenizer(training *t, char *json, size_t bytes) {
    mst_status status = MST_OK;
    mst_data_tokenizer data;
    mst_digest digest;
    mst_data_tokenizer_of(t->data, &data);
    if (json == NULL) return MST_OK;
    if (!data.is_bytes && !data.has_json) {
        free(t->tokenizer);
        t->tokenizer = json;
        return MST_OK;
    }
    MST_TRY(mst_digest_of(json, bytes, &digest));
    if (data.is_bytes || memcmp(&digest, &data.digest, sizeof digest) != 0)
        training_say(t,
                     "warning: the data was not made with the tokenizer.json of %s: its tokens may mean "
                     "something else to "
                     "these weights",
                     t->config.init);
done:
    free(json);
    return status;
}

static void take_companions(training *t, char *tar, size_t bytes) {
    free(t->companions);
    t->companions = tar;
    t->companion_bytes = bytes;
}

mst_status training_carry(training *t, const char *path, bool begins) {
    mst_status status = MST_OK;
    mst_data_tokenizer data;
    char *tar = NULL, *json = NULL;
    size_t bytes = 0;
    if (!t->first) return MST_OK;
    MST_TRY(mst_checkpoint_companions(path, &tar, &bytes));
    take_companions(t, tar, bytes);
    mst_data_tokenizer_of(t->data, &data);
    if (!begins && (data.is_bytes || data.has_json)) goto done;
    MST_TRY(mst_checkpoint_tokenizer(path, &json, &bytes));
    MST_TRY(take_tokenizer(t, json, bytes));
done:
    return status;
}

/* ---- the two kinds of places ---- */

/* Each rank reads its own shards. */
static mst_status load_folder(training *t) {
    mst_status status = MST_OK;
    mst_hf *hf = NULL;
    char *json = NULL, *tar = NULL;
    size_t bytes = 0;
    const mst_hf_notes notes = {.say = training_note, .context = t}, warnings = {.say = warn, .context = t};
    MST_TRY(mst_hf_open(t->config.init, &notes, &hf));
    MST_TRY(mst_hf_load(hf, mst_trainer_layout(t->trainer), t->device.queue, mst_trainer_shards(t->trainer),
                        &warnings, read_on, t));
    if (!t->first) goto done;
    MST_TRY(mst_hf_tokenizer(hf, &json, &bytes));
    MST_TRY(take_tokenizer(t, json, bytes));
    MST_TRY(mst_hf_companions(hf, &notes, &tar, &bytes));
    take_companions(t, tar, bytes);
done:
    mst_hf_close(&hf);
    return status;
}

/* A checkpoint that holds the model. @param path_out [FOLDER_PATH_MAX] */
static mst_status find_checkpoint(const mst_config *config, char *path_out) {
    mst_status status = MST_OK;
    MST_TRY(mst_init_check(config->init, &config->model));
    MST_TRY(mst_checkpoint_resolve(config->init, path_out));
done:
    return status == MST_OK ? MST_OK : mst_error_context(status, "model.init");
}

/* The weights alone: the moments stay zero. Collective. */
static mst_status load_checkpoint(training *t) {
    mst_status status = MST_OK;
    char path[FOLDER_PATH_MAX] = "";
    const size_t units = mst_trainer_layout(t->trainer)->unit_count;
    training_phase phase = {t->watchdog, "initialise", 0};
    const mst_checkpoint_context context = training_checkpoint_context(t, &phase);
    mst_shard *weights = calloc(units, sizeof *weights);
    if (t->first) status = find_checkpoint(&t->config, path);
    if (weights == NULL) status = mst_error(MST_ENOMEM, "initialise: out of memory");
    MST_TRY(mst_comm_agree(t->comm, status));
    MST_TRY(mst_comm_broadcast(t->comm, 0, path, sizeof path));
    memcpy(weights, mst_trainer_shards(t->trainer), units * sizeof *weights);
    for (size_t u = 0; u < units; u++) weights[u].m = weights[u].v = NULL;
    MST_TRY(mst_checkpoint_load(&context, path, mst_trainer_layout(t->trainer), weights));
    MST_TRY(mst_comm_agree(t->comm, training_carry(t, path, true)));
done:
    free(weights);
    return status;
}

/* ---- adapters, of the model that stands in the run folder ---- */

static mst_status load_adapters(training *t, const mst_lora *lora) {
    mst_status status = MST_OK;
    mst_hf *hf = NULL;
    const mst_hf_notes warnings = {.say = warn, .context = t};
    MST_TRY(mst_hf_open_adapters(t->config.lora.init, &t->config.model, lora, &hf));
    MST_TRY(mst_hf_load(hf, mst_trainer_layout(t->trainer), t->device.queue, mst_trainer_shards(t->trainer),
                        &warnings, read_on, t));
done:
    mst_hf_close(&hf);
    return status == MST_OK ? MST_OK : mst_error_context(status, "lora.init");
}

static mst_status begin_adapters(training *t) {
    mst_status status = MST_OK;
    char path[FOLDER_PATH_MAX + 16];
    mst_lora lora;
    MST_TRY(mst_config_lora(&t->config, &lora));
    if (t->config.lora.init != NULL) {
        const mst_status loaded = load_adapters(t, &lora);
        mst_watchdog_waiting(t->watchdog, "initialise", 0);
        MST_TRY(mst_comm_agree(t->comm, loaded));
        training_say(t, "began with the adapters of %s", t->config.lora.init);
    }
    snprintf(path, sizeof path, "%s/" MST_BASE_NAME, t->folder.path);
    MST_TRY(mst_comm_agree(t->comm, training_carry(t, path, true)));
done:
    return status;
}

/* ---- what the run began with ---- */

/* A rollback to the beginning, and a start of a run without checkpoints, must find the same weights again. */
static mst_status record_init(training *t) {
    mst_status status = MST_OK;
    const bool adapts = mst_trainer_frozen(t->trainer) != NULL;
    mst_checkpoint_digests digests;
    char weights[MST_DIGEST_HEX], adapters[MST_DIGEST_HEX] = "";
    MST_TRY(training_digest(t, &digests));
    mst_digest_to_hex(adapts ? &t->base : &digests.weights, weights);
    if (adapts) mst_digest_to_hex(&digests.weights, adapters);
    MST_CHECK(t->folder.init[0] == '\0' || strcmp(t->folder.init, weights) == 0, MST_ECONFIG,
              "model.init: %s holds other weights (%s) than this run began with (%s); begin another run",
              t->config.init, weights, t->folder.init);
    MST_CHECK(t->folder.adapters[0] == '\0' || strcmp(t->folder.adapters, adapters) == 0, MST_ECONFIG,
              "lora.init: the adapters %s are others than this run began with (%s); begin another run",
              adapters, t->folder.adapters);
    memcpy(t->folder.init, weights, sizeof weights);
    memcpy(t->folder.adapters, adapters, sizeof adapters);
    MST_TRY(folder_record(t->comm, &t->folder, t->config_yaml, t->device.class_name));
    training_say(t, "began with the weights of %s: %s", t->config.init, weights);
    MST_TRY(mst_comm_agree(t->comm, mst_metrics_init(t->metrics, t->config.init, weights)));
done:
    return status;
}

mst_status training_begin(training *t) {
    mst_status status = MST_OK;
    const mst_position beginning = {0};
    bool folder = false;
    MST_CHECK(
        t->config.init != NULL || t->folder.init[0] == '\0', MST_ECONFIG,
        "model.init is not given, but this run began with the weights %s from elsewhere; give it again, "
        "or begin another run",
        t->folder.init);
    MST_TRY(mst_trainer_init(t->trainer));
    if (t->config.init == NULL) goto done;
    if (t->first) folder = mst_hf_is_there(t->config.init);
    MST_TRY(mst_comm_broadcast(t->comm, 0, &folder, sizeof folder));
    if (mst_trainer_frozen(t->trainer) != NULL) {
        MST_TRY(begin_adapters(t));
    } else if (folder) {
        const mst_status loaded = load_folder(t);
        mst_watchdog_waiting(t->watchdog, "initialise", 0); /* who is done is not to blame for the others */
        MST_TRY(mst_comm_agree(t->comm, loaded));
    } else {
        MST_TRY(load_checkpoint(t));
    }
    MST_TRY(mst_trainer_restore(t->trainer, &beginning));
    MST_TRY(record_init(t));
done:
    return status;
}
