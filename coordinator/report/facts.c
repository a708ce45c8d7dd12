#include "facts.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "muster/checkpoint.h"
#include "muster/sources.h"

enum { CONFIG_BYTES_MAX = 1 << 20, IDENTITY_BYTES_MAX = 1 << 16 };

void report_damage(report_facts *facts, const char *format, ...) {
    va_list arguments;
    size_t used = strlen(facts->damage), room = sizeof facts->damage - used;
    if (used > 0 && room > 2) used += (size_t)snprintf(facts->damage + used, room, "; ");
    va_start(arguments, format);
    vsnprintf(facts->damage + used, sizeof facts->damage - used, format, arguments);
    va_end(arguments);
}

/* ---- identity and config ---- */

static void copy_text(const json_t *object, const char *key, char *text_out, size_t room) {
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(text_out, room, "%s", text != NULL ? text : "");
}

static mst_status read_identity(report_facts *facts) {
    mst_status status = MST_OK;
    char path[REPORT_PATH_MAX + 16], *text = NULL;
    size_t length = 0;
    bool cut = false;
    json_t *root = NULL;
    json_error_t error;
    snprintf(path, sizeof path, "%s/run.json", facts->path);
    MST_TRY(report_file_read(path, IDENTITY_BYTES_MAX, &text, &length, &cut));
    MST_CHECK(text != NULL, MST_ECONFIG,
              "'%s' is no run folder: it has no run.json ('muster train' makes one)", facts->path);
    root = json_loadb(text, length, 0, &error);
    MST_CHECK(root != NULL, MST_EFORMAT, "%s: line %d: %s", path, error.line, error.text);
    MST_CHECK(json_integer_value(json_object_get(root, "version")) == 1, MST_EFORMAT,
              "%s: 'version' is not 1: made by a newer muster?", path);
    copy_text(root, "run_id", facts->run_id, sizeof facts->run_id);
    copy_text(root, "device_class", facts->device_class, sizeof facts->device_class);
    copy_text(root, "muster", facts->version, sizeof facts->version);
done:
    json_decref(root);
    free(text);
    return status;
}

static mst_status read_config(report_facts *facts) {
    char path[REPORT_PATH_MAX + 16];
    size_t length = 0;
    bool cut = false;
    snprintf(path, sizeof path, "%s/config.yaml", facts->path);
    mst_status status = report_file_read(path, CONFIG_BYTES_MAX, &facts->config_text, &length, &cut);
    if (status == MST_OK && facts->config_text == NULL) status = mst_error(MST_EIO, "%s is missing", path);
    if (status == MST_OK) status = mst_config_parse(facts->config_text, path, NULL, 0, NULL, &facts->config);
    facts->config_good = status == MST_OK;
    if (status == MST_ENOMEM) return status;
    if (status != MST_OK) report_damage(facts, "%s", mst_error_message());
    return MST_OK;
}

const char *report_name(const report_facts *facts) {
    if (facts->config_good && facts->config.run.name != NULL) return facts->config.run.name;
    const char *slash = strrchr(facts->path, '/');
    return slash != NULL && slash[1] != '\0' ? slash + 1 : facts->path;
}

/* ---- checkpoints ---- */

/* "step-" and up to 18 digits, so that the number fits. */
static int is_checkpoint(const struct dirent *entry) {
    const char *digits = entry->d_name + strlen("step-");
    if (strncmp(entry->d_name, "step-", strlen("step-")) != 0) return 0;
    size_t count = strspn(digits, "0123456789");
    return count > 0 && count <= 18 && digits[count] == '\0';
}

static int by_step(const void *left, const void *right) {
    const report_checkpoint *a = left, *b = right;
    return (a->step > b->step) - (a->step < b->step);
}

/* Those that the metrics name, the last of each step. */
static void take_recorded(report_facts *facts, const report_history *history) {
    for (size_t i = 0; i < history->event_count; i++) {
        const report_event *event = &history->events[i];
        if (event->kind != EVENT_CHECKPOINT || event->overtaken) continue;
        report_checkpoint *c = &facts->checkpoints[facts->checkpoint_count];
        if (facts->checkpoint_count > 0 && c[-1].step == (uint64_t)event->step) c--;
        *c = (report_checkpoint){.step = (uint64_t)event->step,
                                 .time = event->time,
                                 .seconds = report_event_number(event, "seconds")};
        snprintf(c->weights, sizeof c->weights, "%s", report_event_text(event, "weights", ""));
        snprintf(c->state, sizeof c->state, "%s", report_event_text(event, "state", ""));
        facts->checkpoint_count = (size_t)(c - facts->checkpoints) + 1;
    }
    qsort(facts->checkpoints, facts->checkpoint_count, sizeof *facts->checkpoints, by_step);
}

/* Compares a checkpoint that stands with what the metrics say of it, or adds it. `recorded`: how many of the list are the
 * metrics', in order. */
static void take_standing(report_facts *facts, size_t recorded, const char *name) {
    char path[REPORT_PATH_MAX + 300], weights[MST_DIGEST_HEX], state[MST_DIGEST_HEX];
    mst_checkpoint_meta meta = {0};
    mst_checkpoint_digests digests;
    report_checkpoint key = {.step = strtoull(name + strlen("step-"), NULL, 10), .time = NAN, .seconds = NAN};
    snprintf(path, sizeof path, "%s/checkpoints/%s", facts->path, name);
    mst_status opened = mst_checkpoint_open(path, &meta, &digests);
    if (opened == MST_EIO)
        return; /* without its manifest it does not exist; the run may just be removing it */
    report_checkpoint *c = bsearch(&key, facts->checkpoints, recorded, sizeof *facts->checkpoints, by_step);
    if (c == NULL) {
        c = &facts->checkpoints[facts->checkpoint_count++];
        *c = key;
    }
    if (opened != MST_OK) {
        report_damage(facts, "%s", mst_error_message());
        c->changed = true;
        return;
    }
    mst_digest_to_hex(&digests.weights, weights);
    mst_digest_to_hex(&digests.state, state);
    bool unknown = c->weights[0] == '\0';
    c->stands = unknown || (strcmp(weights, c->weights) == 0 && strcmp(state, c->state) == 0);
    c->changed = !c->stands;
    memcpy(c->weights, weights, sizeof weights);
    memcpy(c->state, state, sizeof state);
    mst_digest_to_hex(&meta.data, facts->data); /* names come by rising step: the newest stays */
    snprintf(facts->versions, sizeof facts->versions, "%s", meta.versions != NULL ? meta.versions : "");
    mst_checkpoint_meta_clear(&meta);
}

mst_status report_checkpoints_read(report_facts *facts, const report_history *history) {
    mst_status status = MST_OK;
    char path[REPORT_PATH_MAX + 16];
    struct dirent **entries = NULL;
    snprintf(path, sizeof path, "%s/checkpoints", facts->path);
    int count = scandir(path, &entries, is_checkpoint, versionsort);
    if (count < 0 && errno != ENOENT) report_damage(facts, "cannot read %s: %s", path, strerror(errno));
    size_t most = history->event_count + (size_t)(count > 0 ? count : 0) + 1;
    facts->checkpoints = calloc(most, sizeof *facts->checkpoints);
    MST_CHECK(facts->checkpoints != NULL, MST_ENOMEM, "checkpoints: no memory");
    take_recorded(facts, history);
    size_t recorded = facts->checkpoint_count;
    for (int i = 0; i < count; i++) take_standing(facts, recorded, entries[i]->d_name);
    qsort(facts->checkpoints, facts->checkpoint_count, sizeof *facts->checkpoints, by_step);
done:
    for (int i = 0; i < count; i++) free(entries[i]);
    free(entries);
    return status;
}

/* ---- data ---- */

static void look_at_source(const report_facts *facts, size_t i, report_source *source) {
    const mst_sources_instead one = {.sources = &facts->config.data.sources[i], .source_count = 1};
    mst_data *data = NULL;
    if (!mst_data_is_there(source->path) || mst_sources_open(&facts->config, &one, &data) != MST_OK) return;
    source->readable = true;
    source->train_tokens = mst_data_tokens(data, MST_SPLIT_TRAIN);
    source->heldout_tokens = mst_data_tokens(data, MST_SPLIT_HELDOUT);
    mst_data_close(&data);
}

mst_status report_sources(const report_facts *facts, report_source **sources_out,
                          char digest_out[MST_DIGEST_HEX]) {
    const mst_config *config = &facts->config;
    bool all = true;
    double weights = 0;
    *sources_out = NULL;
    digest_out[0] = '\0';
    if (!facts->config_good) return MST_OK;
    report_source *sources = calloc(config->data.source_count + 1, sizeof *sources);
    if (sources == NULL) return mst_error(MST_ENOMEM, "sources: no memory");
    for (size_t i = 0; i < config->data.source_count; i++) weights += config->data.sources[i].weight;
    for (size_t i = 0; i < config->data.source_count; i++) {
        sources[i].path = config->data.sources[i].path;
        sources[i].share = config->data.sources[i].weight / weights;
        look_at_source(facts, i, &sources[i]);
        all = all && sources[i].readable;
    }
    mst_data *data = NULL;
    if (all && mst_sources_open(config, NULL, &data) == MST_OK) {
        mst_digest digest;
        mst_data_digest(data, &digest);
        mst_digest_to_hex(&digest, digest_out);
        mst_data_close(&data);
    }
    *sources_out = sources;
    return MST_OK;
}

/* ---- all of it ---- */

mst_status report_facts_read(const char *path, report_facts *facts_out) {
    mst_status status = MST_OK;
    *facts_out = (report_facts){0};
    size_t length = strlen(path);
    MST_CHECK(length > 0 && length < sizeof facts_out->path, MST_ECONFIG,
              "the path of the run folder has %zu bytes; from 1 to %d are possible", length,
              REPORT_PATH_MAX - 1);
    while (length > 1 && path[length - 1] == '/') length--;
    memcpy(facts_out->path, path, length);
    MST_TRY(read_identity(facts_out));
    MST_TRY(read_config(facts_out));
    MST_TRY(report_samples_read(facts_out));
done:
    return status;
}

void report_facts_clear(report_facts *facts) {
    if (facts->config_good) mst_config_clear(&facts->config);
    for (size_t i = 0; i < facts->sample_count; i++) free(facts->samples[i].text);
    free(facts->samples);
    free(facts->checkpoints);
    free(facts->config_text);
    *facts = (report_facts){0};
}
