#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "muster/checkpoint.h"
#include "muster/files.h"
#include "muster/run.h"

enum { CONFIG_BYTES_MAX = 1 << 20 };

mst_status folder_read_text(const char *path, char **text_out) {
    mst_status status = MST_OK;
    char *text = NULL;
    size_t length = 0;
    struct stat facts;
    /* Not waiting: a pipe in its place would keep the run for ever. */
    const int number = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    FILE *file = number < 0 ? NULL : fdopen(number, "rb");
    *text_out = NULL;
    if (number < 0 && errno == ENOENT) return MST_OK;
    MST_CHECK(file != NULL, MST_EIO, "cannot read %s: %s", path, strerror(errno));
    MST_CHECK(fstat(number, &facts) == 0 && S_ISREG(facts.st_mode), MST_EFORMAT, "%s is not a file", path);
    text = malloc(CONFIG_BYTES_MAX);
    MST_CHECK(text != NULL, MST_ENOMEM, "cannot read %s: out of memory", path);
    length = fread(text, 1, CONFIG_BYTES_MAX, file);
    MST_CHECK(!ferror(file), MST_EIO, "cannot read %s: %s", path, strerror(errno));
    MST_CHECK(length < CONFIG_BYTES_MAX, MST_EFORMAT, "%s is larger than %d bytes", path, CONFIG_BYTES_MAX);
    text[length] = '\0';
    MST_CHECK(strlen(text) == length, MST_EFORMAT, "%s holds a zero byte", path);
    *text_out = text;
    text = NULL;
done:
    free(text);
    if (file != NULL)
        fclose(file);
    else if (number >= 0)
        close(number);
    return status;
}

static mst_status write_text(const run_folder *f, const char *name, const char *text) {
    char path[FOLDER_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    return mst_file_replace(path, text, strlen(text));
}

/* @param digest_out [FOLDER_DIGEST_MAX]; "": it is not given */
static mst_status parse_digest(const run_folder *f, const json_t *root, const char *key, char *digest_out) {
    mst_status status = MST_OK;
    const char *text = json_string_value(json_object_get(root, key));
    MST_CHECK(text == NULL || strlen(text) == FOLDER_DIGEST_MAX - 1, MST_EFORMAT,
              "%s/run.json: '%s' is damaged", f->path, key);
    snprintf(digest_out, FOLDER_DIGEST_MAX, "%s", text != NULL ? text : "");
done:
    return status;
}

static mst_status parse_identity(run_folder *f, const char *text) {
    mst_status status = MST_OK;
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    MST_CHECK(root != NULL, MST_EFORMAT, "%s/run.json: line %d: %s", f->path, error.line, error.text);
    const char *id = json_string_value(json_object_get(root, "run_id"));
    const char *device_class = json_string_value(json_object_get(root, "device_class"));
    const json_t *version = json_object_get(root, "version");
    MST_CHECK(json_is_integer(version), MST_EFORMAT, "%s/run.json: 'version' is missing or damaged", f->path);
    MST_CHECK(json_integer_value(version) == 1, MST_EUNSUPPORTED,
              "%s/run.json: 'version' is not 1: made by a newer muster? Go on with that one", f->path);
    MST_CHECK(id != NULL && strlen(id) == FOLDER_ID_MAX - 1, MST_EFORMAT,
              "%s/run.json: 'run_id' is missing or damaged", f->path);
    MST_CHECK(device_class != NULL && strlen(device_class) < sizeof f->device_class, MST_EFORMAT,
              "%s/run.json: 'device_class' is missing or damaged", f->path);
    snprintf(f->run_id, sizeof f->run_id, "%s", id);
    snprintf(f->device_class, sizeof f->device_class, "%s", device_class);
    MST_TRY(parse_digest(f, root, "init_weights", f->init));
    MST_TRY(parse_digest(f, root, "init_adapters", f->adapters));
    f->existed = true;
done:
    json_decref(root);
    return status;
}

static mst_status make_identity(run_folder *f) {
    uint8_t bytes[(FOLDER_ID_MAX - 1) / 2];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return mst_error(MST_EIO, "the system gives no random bytes for the run's id: %s", strerror(errno));
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(f->run_id + 2 * i, 3, "%02x", bytes[i]);
    return MST_OK;
}

/* What run.json and config.yaml would say, where one is missing beside checkpoints (only these were copied, perhaps): each
 * of them says it, too. The newest that can be read counts; without one nothing is known. */
static mst_status ask_checkpoints(run_folder *f) {
    mst_status status = MST_OK;
    char path[FOLDER_PATH_MAX];
    for (size_t skip = 0; f->config == NULL; skip++) {
        mst_checkpoint_meta meta = {0};
        mst_checkpoint_digests digests;
        MST_TRY(mst_checkpoint_newest(f->checkpoints, skip, path));
        if (path[0] == '\0') break;
        if (mst_checkpoint_open(path, &meta, &digests) != MST_OK) continue; /* resuming says why */
        if (!f->existed && strlen(meta.device_class) < sizeof f->device_class)
            snprintf(f->device_class, sizeof f->device_class, "%s", meta.device_class);
        if (!f->existed && strlen(meta.run_id) == FOLDER_ID_MAX - 1)
            snprintf(f->run_id, sizeof f->run_id, "%s", meta.run_id);
        snprintf(f->config_path, sizeof f->config_path, "%s", path);
        f->config = meta.config;
        meta.config = NULL;
        mst_checkpoint_meta_clear(&meta);
    }
    f->existed |= f->config != NULL;
done:
    return status;
}

mst_status folder_advise(const run_folder *f, mst_status damage) {
    return mst_error(damage, "%s; move it away and start again: %s", mst_error_message(),
                     f->has_checkpoint ? "what it said stands in the run's checkpoints, too"
                                       : "the run has no checkpoint, and begins anew");
}

/* What run.json and config.yaml say. */
static mst_status read_records(run_folder *f) {
    mst_status status = MST_OK;
    char path[FOLDER_PATH_MAX + 32], *identity = NULL;
    snprintf(path, sizeof path, "%s/run.json", f->path);
    MST_TRY(folder_read_text(path, &identity));
    if (identity == NULL) {
        MST_TRY(make_identity(f));
        goto done;
    }
    MST_TRY(parse_identity(f, identity));
    snprintf(f->config_path, sizeof f->config_path, "%s/config.yaml", f->path);
    MST_TRY(folder_read_text(f->config_path, &f->config));
done:
    free(identity);
    return status == MST_EFORMAT ? folder_advise(f, status) : status;
}

static mst_status look(run_folder *f) {
    mst_status status = MST_OK;
    char newest[FOLDER_PATH_MAX];
    MST_TRY(mst_folder_make(f->checkpoints));
    MST_TRY(mst_checkpoint_newest(f->checkpoints, 0, newest));
    f->has_checkpoint = newest[0] != '\0';
    MST_TRY(read_records(f));
    MST_TRY(ask_checkpoints(f));
done:
    return status;
}

mst_status folder_open(mst_comm *comm, const char *path, run_folder *folder_out) {
    mst_status status = MST_OK;
    run_folder f = {0};
    *folder_out = f;
    MST_CHECK(strlen(path) < sizeof f.path, MST_ECONFIG,
              "the path of the run folder is longer than %zu bytes", sizeof f.path);
    snprintf(f.path, sizeof f.path, "%s", path);
    snprintf(f.checkpoints, sizeof f.checkpoints, "%s/checkpoints", path);
    snprintf(f.metrics, sizeof f.metrics, "%s/metrics.jsonl", path);
    const bool first = mst_comm_rank(comm) == 0;
    MST_TRY(mst_comm_agree(comm, first ? look(&f) : MST_OK));
    char *config = f.config;
    MST_TRY(mst_comm_broadcast(comm, 0, &f, sizeof f));
    f.config = config; /* the broadcast brought rank 0's pointer */
    MST_TRY(mst_comm_share_text(comm, &f.config));
    *folder_out = f;
    f.config = NULL;
done:
    folder_clear(&f);
    return status;
}

static mst_status record(const run_folder *f, const char *config_yaml, const char *device_class) {
    mst_status status = MST_OK;
    char *text = NULL;
    json_t *root =
        json_pack("{s:i, s:s, s:s, s:s, s:s*, s:s*}", "version", 1, "run_id", f->run_id, "device_class",
                  device_class, "muster", MST_VERSION, "init_weights", f->init[0] != '\0' ? f->init : NULL,
                  "init_adapters", f->adapters[0] != '\0' ? f->adapters : NULL);
    MST_CHECK(root != NULL && (text = json_dumps(root, JSON_INDENT(2))) != NULL, MST_ENOMEM,
              "run.json: out of memory");
    MST_TRY(write_text(f, "config.yaml", config_yaml));
    MST_TRY(write_text(f, "run.json", text));
done:
    free(text);
    json_decref(root);
    return status;
}

mst_status folder_record(mst_comm *comm, const run_folder *folder, const char *config_yaml,
                         const char *device_class) {
    return mst_comm_agree(comm,
                          mst_comm_rank(comm) == 0 ? record(folder, config_yaml, device_class) : MST_OK);
}

void folder_clear(run_folder *folder) {
    free(folder->config);
    folder->config = NULL;
}

mst_status mst_run_folder(const mst_config *config, const char *given, char *path_out, size_t room) {
    mst_status status = MST_OK;
    if (given == NULL) given = config->run.dir;
    const int length = given != NULL ? snprintf(path_out, room, "%s", given)
                                     : snprintf(path_out, room, "runs/%s", config->run.name);
    MST_CHECK(length > 0, MST_ECONFIG, "the run folder's name is empty");
    MST_CHECK((size_t)length < room, MST_ECONFIG, "the run folder's name has %d bytes; at most %zu fit",
              length, room - 1);
done:
    return status;
}
