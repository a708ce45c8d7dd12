/* What a run stands on, before a device is opened: its config, its data, its folder. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "muster/files.h"
#include "muster/plan.h"
#include "muster/sources.h"
#include "training.h"

/* The config's text, after a change of the config. Collective. */
static mst_status renew_yaml(training *t) {
    free(t->config_yaml);
    t->config_yaml = NULL;
    return mst_comm_agree(t->comm, mst_config_to_yaml(&t->config, &t->config_yaml));
}

/* Rank 0 reads the config and says what is wrong with it; the others get what it read. */
mst_status training_share_config(training *t, const mst_train_options *options) {
    mst_status status = MST_OK;
    if (t->first) {
        status = mst_config_load(options->config_path, options->overrides, options->override_count, stderr,
                                 &t->config);
        if (status == MST_OK) status = mst_sources_count_steps(&t->config);
        if (status == MST_OK) status = mst_config_to_yaml(&t->config, &t->config_yaml);
    }
    MST_TRY(mst_comm_agree(t->comm, status));
    MST_TRY(mst_comm_share_text(t->comm, &t->config_yaml));
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

/* Whole documents are cut at data.seq_len, and what counts in the loss may stand behind it. Rank 0. */
static mst_status check_targets(training *t) {
    mst_status status = MST_OK;
    mst_packing_report report;
    mst_data_packing_report(t->data, MST_SPLIT_TRAIN, &report);
    MST_TRY(mst_data_untargeted(t->data, MST_SPLIT_TRAIN, &t->untargeted));
    MST_CHECK(t->untargeted == 0 || t->untargeted < report.documents, MST_ECONFIG,
              "%s: data.seq_len: %zu cuts off all that counts in the loss: none of the %llu documents has a "
              "target before it",
              mst_config_place(&t->config, "data.seq_len"), t->config.data.seq_len,
              (unsigned long long)report.documents);
done:
    return status;
}

static mst_status open_sources(training *t) {
    mst_status status = MST_OK;
    MST_TRY(mst_sources_open(&t->config, NULL, &t->data));
    if (t->first) MST_TRY(check_targets(t));
done:
    return status;
}

/* Opens the data, and takes its vocabulary where the config names none. Collective. */
mst_status training_open_data(training *t) {
    mst_status status = MST_OK;
    mst_watchdog_progress(t->watchdog, "open data", 0);
    const mst_status opened = open_sources(t);
    mst_watchdog_waiting(t->watchdog, "open data", 0);
    MST_TRY(mst_comm_agree(t->comm, opened));
    MST_TRY(compare_data(t));
    MST_TRY(mst_comm_agree(t->comm, read_tokenizer(t)));
    MST_TRY(check_heldout(t));
    const size_t vocab = mst_data_vocab(t->data);
    if (t->config.model.vocab_size == 0) {
        t->config.model.vocab_size = vocab;
        MST_TRY(renew_yaml(t));
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

/* What the config leaves to the planner stays as it was chosen. A run from before there was a choice had the least. */
static void keep_planned(mst_config *config, mst_config *before) {
    if (before->train.head_rows == MST_CONFIG_AUTO) before->train.head_rows = MST_PLAN_HEAD_ROWS;
    if (config->train.head_rows == MST_CONFIG_AUTO) config->train.head_rows = before->train.head_rows;
}

/* A run's config may change where its bits are not defined by it; what changes is said, what may not change
 * refuses. @param yaml the config so far, of `path` */
static mst_status compare_config(training *t, const char *yaml, const char *path, bool quiet) {
    mst_status status = MST_OK;
    mst_config before = {0};
    changes c = {.training = t, .quiet = quiet};
    status = mst_config_parse(yaml, path, NULL, 0, t->first ? stderr : NULL, &before);
    if (status == MST_ECONFIG &&
        strcmp(mst_base_name(path), "config.yaml") == 0) /* no checkpoint, which stays */
        status = folder_advise(&t->folder, status);
    MST_TRY(status);
    keep_planned(&t->config, &before);
    MST_TRY(mst_config_compare(&before, &t->config, note_change, &c));
    MST_CHECK(c.forbidden[0] == '\0', MST_ECONFIG,
              "what may not change in a run differs from %s: %s; use the old values, or begin another run",
              path, c.forbidden);
done:
    mst_config_clear(&before);
    return status;
}

/* Which checkpoint --resume names. Rank 0 for all: of a run folder another node might see an older newest one. */
static mst_status find_given(training *t, const char *resume) {
    mst_status status = MST_OK;
    if (!t->first || strcmp(resume, "auto") == 0 || strcmp(resume, "never") == 0) goto done;
    MST_CHECK(access(resume, F_OK) == 0 || errno != ENOENT, MST_ECONFIG,
              "--resume '%s': there is no such file or folder; say auto, never or the path of a checkpoint",
              resume);
    MST_TRY(mst_checkpoint_resolve(resume, t->given));
done:
    return status;
}

/* The run's own config, and that of a checkpoint that --resume names, which may be another run's. */
static mst_status compare_configs(training *t) {
    mst_status status = MST_OK;
    mst_manifest manifest = {0};
    const bool own =
        t->folder.config != NULL && t->folder.has_checkpoint; /* else nothing depends on it yet */
    if (own) MST_TRY(compare_config(t, t->folder.config, t->folder.config_path, false));
    if (t->given[0] == '\0') goto done;
    MST_TRY(mst_manifest_read(t->given, &manifest));
    MST_CHECK(
        !manifest.weights_only, MST_ECONFIG,
        "--resume '%s': it holds the weights alone, and no state of training to go on from; to begin a run "
        "with these weights set model.init to it",
        t->given);
    MST_TRY(compare_config(t, manifest.meta.config, t->given, own));
done:
    mst_manifest_clear(&manifest);
    return status;
}

/* What the planner chose when this run was created, though it has no checkpoint yet; without one nothing depends on it. */
static mst_status recall_planned(training *t) {
    mst_config before = {0};
    if (t->folder.config == NULL) return MST_OK;
    const mst_status status =
        mst_config_parse(t->folder.config, t->folder.config_path, NULL, 0, NULL, &before);
    if (status == MST_OK) keep_planned(&t->config, &before);
    mst_config_clear(&before);
    if (status != MST_ECONFIG) return status;
    training_say(
        t,
        "note: %s is damaged: train.head_rows, which it recorded, is chosen anew; no checkpoint depends "
        "on it yet",
        t->folder.config_path);
    return MST_OK;
}

/* What the config still leaves to the planner is as it was chosen, or is chosen now: by what all ranks share. */
static mst_status plan_config(training *t) {
    mst_status status = MST_OK;
    mst_config config = t->config; /* what it points to stays t's */
    const mst_machine machine = {.ranks = mst_comm_size(t->comm),
                                 .nodes = mst_comm_nodes(t->comm),
                                 .memory = (double)t->device.least_memory};
    if (t->config.train.head_rows == MST_CONFIG_AUTO) MST_TRY(recall_planned(t));
    if (t->config.train.head_rows != MST_CONFIG_AUTO) goto done;
    if (t->device.least_memory > 0) config.device.kernels = MST_DEVICE_CUDA;
    MST_TRY(mst_plan_head_rows(&config, &machine, &t->config.train.head_rows));
    if (t->device.least_memory > 0)
        training_say(t, "train.head_rows auto: %llu rows of logits at a time, from now on in this run",
                     (unsigned long long)t->config.train.head_rows);
done:
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

mst_status training_open_folder(training *t, const mst_train_options *options) {
    mst_status status = MST_OK;
    char path[FOLDER_PATH_MAX];
    MST_TRY(mst_comm_agree(t->comm, mst_run_folder(&t->config, options->run_dir, path, sizeof path)));
    if (t->first)
        mst_watchdog_progress(t->watchdog, "lease", 0);
    else
        mst_watchdog_waiting(t->watchdog, "lease", 0);
    MST_TRY(mst_comm_agree(t->comm, hold_folder(t, path)));
    MST_TRY(folder_open(t->comm, path, &t->folder));
    MST_TRY(mst_comm_agree(t->comm, find_given(t, options->resume)));
    MST_TRY(mst_comm_broadcast(t->comm, 0, t->given, sizeof t->given));
    MST_TRY(mst_comm_agree(t->comm, compare_configs(t)));
    MST_TRY(mst_comm_agree(t->comm, plan_config(t)));
    MST_TRY(renew_yaml(t));
done:
    return status;
}
