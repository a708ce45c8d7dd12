/* Reading a config from a file or a text, and freeing it. */
#include "muster/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "reader.h"

enum { FILE_MAX = 1 << 20 }; /* a config is short: anything longer is another kind of file */

static void free_text(const char *text) {
    free((void *)(uintptr_t)text); /* the data room sees it as const */
}

void config_sources_free(mst_config *config) {
    for (size_t i = 0; i < config->data.source_count; i++) {
        free_text(config->data.sources[i].path);
        free_text(config->data.sources[i].heldout);
    }
    free(config->data.sources);
    config->data.sources = NULL;
    config->data.source_count = 0;
}

void mst_config_clear(mst_config *config) {
    config_sources_free(config);
    for (size_t i = 0; config->places != NULL && i < config_key_count; i++) free(config->places[i]);
    free(config->places);
    for (size_t i = 0; i < config_key_count; i++)
        if (config_keys[i].kind == KIND_TEXT || config_keys[i].kind == KIND_PATH ||
            config_keys[i].kind == KIND_WORDS)
            free(*(char **)config_key_field(&config_keys[i], config));
    *config = (mst_config){0};
}

/* Reads a whole file; the text ends with a NUL that is not counted. */
static mst_status read_file(const char *path, char **text_out, size_t *length_out) {
    mst_status status = MST_OK;
    char *text = NULL;
    FILE *file = NULL;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait for its writer */
    MST_CHECK(fd >= 0 && fstat(fd, &info) == 0, MST_ECONFIG, "config %s: %s", path, strerror(errno));
    MST_CHECK(S_ISREG(info.st_mode), MST_ECONFIG, "config %s is not a regular file", path);
    file = fdopen(fd, "rb");
    MST_CHECK(file != NULL, MST_ECONFIG, "config %s: %s", path, strerror(errno));
    fd = -1; /* the stream's now */
    text = malloc(FILE_MAX + 1);
    MST_CHECK(text != NULL, MST_ENOMEM, "config %s: no memory for %d bytes", path, FILE_MAX);
    errno = 0;
    size_t length = fread(text, 1, FILE_MAX, file);
    MST_CHECK(!ferror(file), MST_ECONFIG, "config %s: %s", path, strerror(errno));
    MST_CHECK(length < FILE_MAX, MST_ECONFIG, "config %s is longer than %d bytes: is it a config?", path,
              FILE_MAX);
    text[length] = '\0';
    *text_out = text;
    *length_out = length;
    text = NULL;
done:
    if (file != NULL) fclose(file);
    if (fd >= 0) close(fd);
    free(text);
    return status;
}

/* The absolute folder, without symbolic links, that a file named `path` stands in. */
static mst_status folder_of(const char *path, char folder_out[PATH_MAX]) {
    char copy[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        snprintf(copy, sizeof copy, ".");
    else if (slash - path < PATH_MAX)
        snprintf(copy, sizeof copy, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    else
        return mst_error(MST_ECONFIG, "the path of the config is longer than %d bytes", PATH_MAX);
    if (realpath(copy, folder_out) == NULL)
        return mst_error(MST_ECONFIG, "config folder %s: %s", copy, strerror(errno));
    for (const char *c = folder_out; *c != '\0';)
        if (config_utf8_next(&c) == UINT32_MAX)
            return mst_error(
                MST_ECONFIG,
                "the folder %s has a name that is not UTF-8, which a config cannot hold; rename it",
                folder_out);
    return MST_OK;
}

/* The --set texts, with their values' paths relative to the working directory. */
static mst_status read_overrides(config_reader *reader, const char *const *overrides, size_t count,
                                 char **labels) {
    char folder[PATH_MAX];
    if (count == 0) return MST_OK;
    mst_status status = folder_of(".", folder);
    if (status != MST_OK) return status;
    for (size_t i = 0; i < count; i++) {
        size_t room = strlen(overrides[i]) + sizeof "--set ";
        labels[i] = malloc(room);
        if (labels[i] == NULL) return mst_error(MST_ENOMEM, "--set %s: no memory", overrides[i]);
        snprintf(labels[i], room, "--set %s", overrides[i]);
        for (char *c = labels[i]; *c != '\0'; c++)
            if ((unsigned char)*c < 0x20) *c = '?'; /* an error is one line */
        reader->source = labels[i];
        reader->folder = folder;
        config_read_override(reader, overrides[i]);
    }
    return MST_OK;
}

/* The places of what was given, as texts that outlive the reader. */
static mst_status keep_places(const config_reader *reader, mst_config *config) {
    bool complete = (config->places = calloc(config_key_count, sizeof *config->places)) != NULL;
    for (size_t i = 0; i < config_key_count && complete; i++) {
        if (reader->places[i].text == NULL) continue;
        config->places[i] = config_place_text(reader->places[i]);
        complete = config->places[i] != NULL;
    }
    return complete ? MST_OK : mst_error(MST_ENOMEM, "config %s: no memory", reader->source);
}

const char *mst_config_place(const mst_config *config, const char *key) {
    size_t index = config_key_find(key);
    bool given = index < config_key_count && config->places != NULL && config->places[index] != NULL;
    return given ? config->places[index] : "default";
}

static mst_status parse(const char *text, size_t length, const char *name, const char *const *overrides,
                        size_t override_count, FILE *errors, mst_config *config_out) {
    mst_status status = MST_OK;
    mst_config config = {0};
    config_reader *reader = calloc(1, sizeof *reader);
    char **labels = calloc(override_count + 1, sizeof *labels); /* places refer to them */
    char folder[PATH_MAX];
    MST_CHECK(reader != NULL && labels != NULL, MST_ENOMEM, "config %s: no memory to read it", name);
    *reader = (config_reader){.config = &config, .errors = errors, .source = name, .folder = folder};
    MST_TRY(folder_of(name, folder));
    config_apply_defaults(reader);
    config_read_file(reader, text, length);
    MST_TRY(read_overrides(reader, overrides, override_count, labels));
    reader->source = name;
    reader->is_override = false;
    config_derive(reader);
    config_check(reader);
    MST_TRY(reader->status);
    MST_CHECK(reader->error_count == 0, MST_ECONFIG,
              "config %s: %zu error%s; 'muster train --help-config' describes every key", name,
              reader->error_count, reader->error_count == 1 ? "" : "s");
    MST_TRY(keep_places(reader, &config));
    *config_out = config;
    config = (mst_config){0};
done:
    mst_config_clear(&config);
    for (size_t i = 0; labels != NULL && i < override_count; i++) free(labels[i]);
    free(labels);
    free(reader);
    return status;
}

mst_status mst_config_parse(const char *text, const char *name, const char *const *overrides,
                            size_t override_count, FILE *errors, mst_config *config_out) {
    *config_out = (mst_config){0};
    return parse(text, strlen(text), name, overrides, override_count, errors, config_out);
}

mst_status mst_config_load(const char *path, const char *const *overrides, size_t override_count,
                           FILE *errors, mst_config *config_out) {
    char *text = NULL;
    size_t length = 0;
    *config_out = (mst_config){0};
    mst_status status = read_file(path, &text, &length);
    if (status == MST_OK) status = parse(text, length, path, overrides, override_count, errors, config_out);
    free(text);
    return status;
}
