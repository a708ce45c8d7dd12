#include "json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "muster/files.h"

enum { DEPTH_MAX = 32, VALUES_MAX = 1 << 18 };

/* The nesting and the values that a text can have at most, counted without understanding it. */
static mst_status check_extent(const char *text, size_t bytes, const char *name) {
    mst_status status = MST_OK;
    size_t depth = 0, values = 0;
    bool inside = false; /* a string */
    for (size_t i = 0; i < bytes; i++) {
        const char c = text[i];
        if (inside && c == '\\')
            i++;
        else if (c == '"')
            inside = !inside;
        else if (!inside && (c == '{' || c == '['))
            depth++, values++;
        else if (!inside && (c == '}' || c == ']'))
            depth -= depth > 0;
        else if (!inside && (c == ',' || c == ':'))
            values++;
        MST_CHECK(depth <= DEPTH_MAX, MST_EFORMAT, "%s: nested deeper than %d levels", name, DEPTH_MAX);
        MST_CHECK(values <= VALUES_MAX, MST_EFORMAT, "%s: more than %d values", name, VALUES_MAX);
    }
done:
    return status;
}

mst_status hf_json_parse(const char *text, size_t bytes, const char *name, json_t **root_out) {
    mst_status status = MST_OK;
    json_error_t error;
    json_t *root = NULL;
    *root_out = NULL;
    MST_CHECK(bytes <= HF_JSON_BYTES_MAX, MST_EFORMAT, "%s: %zu bytes of JSON; at most %d are read", name,
              bytes, HF_JSON_BYTES_MAX);
    MST_TRY(check_extent(text, bytes, name));
    root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    MST_CHECK(root != NULL, MST_EFORMAT, "%s: line %d, column %d: %s", name, error.line, error.column,
              error.text);
    MST_CHECK(json_is_object(root), MST_EFORMAT, "%s: no JSON object", name);
    *root_out = root;
    root = NULL;
done:
    json_decref(root);
    return status;
}

mst_status hf_file_open(const char *path, int *fd_out, uint64_t *bytes_out) {
    mst_status status = MST_OK;
    struct stat facts;
    /* Not waiting: a pipe in its place would keep the program for ever. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    MST_CHECK(fd >= 0 && fstat(fd, &facts) == 0, MST_EIO, "cannot read %s: %s", path, strerror(errno));
    MST_CHECK(S_ISREG(facts.st_mode), MST_EFORMAT, "%s is not a file", path);
    *bytes_out = (uint64_t)facts.st_size;
    *fd_out = fd;
done:
    if (status != MST_OK && fd >= 0) close(fd);
    return status;
}

mst_status hf_file_load(const char *path, size_t most, char **text_out, size_t *bytes_out) {
    mst_status status = MST_OK;
    int fd = -1;
    uint64_t bytes = 0;
    char *text = NULL;
    *text_out = NULL;
    MST_TRY(hf_file_open(path, &fd, &bytes));
    MST_CHECK(bytes <= most, MST_EFORMAT, "%s has %llu bytes; at most %zu are read", path,
              (unsigned long long)bytes, most);
    text = malloc((size_t)bytes + 1);
    MST_CHECK(text != NULL, MST_ENOMEM, "%s: no memory for %llu bytes", path, (unsigned long long)bytes);
    MST_TRY(mst_file_read(fd, path, 0, text, (size_t)bytes));
    text[bytes] = '\0';
    *text_out = text;
    *bytes_out = (size_t)bytes;
    text = NULL;
done:
    if (fd >= 0) close(fd);
    free(text);
    return status;
}

mst_status hf_json_load(const char *path, json_t **root_out) {
    char *text = NULL;
    size_t bytes = 0;
    *root_out = NULL;
    mst_status status = hf_file_load(path, HF_JSON_BYTES_MAX, &text, &bytes);
    if (status == MST_OK) status = hf_json_parse(text, bytes, path, root_out);
    free(text);
    return status;
}

bool hf_file_exists(const char *folder, const char *name) {
    char path[4096];
    const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    return length > 0 && (size_t)length < sizeof path && access(path, F_OK) == 0;
}

const char *hf_plain(const char *text, char text_out[HF_PLAIN_MAX]) {
    snprintf(text_out, HF_PLAIN_MAX, "%s", text);
    for (char *c = text_out; *c != '\0'; c++)
        if (*c < ' ' || *c > '~') *c = '?';
    return text_out;
}
