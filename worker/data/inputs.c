#include "inputs.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const default_globs[] = {"*.txt",   "*.txt.gz",   "*.txt.zst",
                                            "*.jsonl", "*.jsonl.gz", "*.jsonl.zst"};

/* A folder that is being listed, and the one above it: a link back to one of them is a loop. */
typedef struct folder {
    const char *path;
    dev_t device;
    ino_t inode;
    const struct folder *above;
} folder;

static bool name_matches(const char *glob, const char *name) {
    if (glob != NULL) return fnmatch(glob, name, 0) == 0;
    for (size_t i = 0; i < sizeof default_globs / sizeof *default_globs; i++)
        if (fnmatch(default_globs[i], name, 0) == 0) return true;
    return false;
}

/* Takes over `path`, also when it fails. */
static mst_status add_path(input_list *list, char *path) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 64;
        char **paths = realloc(list->paths, capacity * sizeof *paths);
        if (paths == NULL) {
            free(path);
            return mst_error(MST_ENOMEM, "out of memory for the names of %zu files", capacity);
        }
        list->paths = paths;
        list->capacity = capacity;
    }
    list->paths[list->count++] = path;
    return MST_OK;
}

static bool is_loop(const folder *above, const struct stat *info) {
    for (; above != NULL; above = above->above)
        if (above->device == info->st_dev && above->inode == info->st_ino) return true;
    return false;
}

static mst_status list_folder(const char *glob, const folder *here, input_list *list);

static mst_status list_entry(const char *glob, const folder *here, const char *name, input_list *list) {
    mst_status status = MST_OK;
    struct stat info;
    char *path = NULL;
    bool slash = here->path[strlen(here->path) - 1] == '/';
    if (asprintf(&path, "%s%s%s", here->path, slash ? "" : "/", name) < 0) path = NULL;
    MST_CHECK(path != NULL, MST_ENOMEM, "out of memory to list folder '%s'", here->path);
    bool matches = name_matches(glob, name);
    if (stat(path, &info) != 0) {
        MST_CHECK(!matches, MST_EIO, "reading '%s': %s", path, strerror(errno));
    } else if (S_ISDIR(info.st_mode)) {
        folder below = {path, info.st_dev, info.st_ino, here};
        if (!is_loop(here, &info)) MST_TRY(list_folder(glob, &below, list));
    } else if (S_ISREG(info.st_mode) && matches) {
        char *taken = path;
        path = NULL;
        MST_TRY(add_path(list, taken));
    }
done:
    free(path);
    return status;
}

static mst_status list_folder(const char *glob, const folder *here, input_list *list) {
    mst_status status = MST_OK;
    DIR *directory = opendir(here->path);
    MST_CHECK(directory != NULL, MST_EIO, "opening folder '%s': %s", here->path, strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) break;
        if (entry->d_name[0] != '.') MST_TRY(list_entry(glob, here, entry->d_name, list));
    }
    MST_CHECK(errno == 0, MST_EIO, "reading folder '%s': %s", here->path, strerror(errno));
done:
    if (directory != NULL) closedir(directory);
    return status;
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static mst_status collect_one(const char *glob, const char *input, input_list *list) {
    mst_status status = MST_OK;
    struct stat info;
    size_t first = list->count;
    MST_CHECK(input[0] != '\0', MST_ECONFIG, "an input's name is empty; give a file or folder");
    MST_CHECK(stat(input, &info) == 0, MST_EIO, "reading '%s': %s", input, strerror(errno));
    if (S_ISDIR(info.st_mode)) {
        folder top = {input, info.st_dev, info.st_ino, NULL};
        MST_TRY(list_folder(glob, &top, list));
        MST_CHECK(list->count > first, MST_ECONFIG,
                  "no file named %s in the inputs' folder '%s'; give another pattern",
                  glob != NULL ? glob : "*.txt or *.jsonl, plain, .gz or .zst,", input);
        if (list->count > first)
            qsort(list->paths + first, list->count - first, sizeof *list->paths, compare_paths);
    } else {
        MST_CHECK(S_ISREG(info.st_mode), MST_EIO, "'%s' is neither a file nor a folder", input);
        char *path = strdup(input);
        MST_CHECK(path != NULL, MST_ENOMEM, "out of memory for the name '%s'", input);
        MST_TRY(add_path(list, path));
    }
done:
    return status;
}

/* An earlier output in an input folder would be read as text with a pattern such as '*'. */
static mst_status check_output_apart(const char *output, const input_list *list) {
    struct stat out, in;
    if (output == NULL || stat(output, &out) != 0) return MST_OK;
    for (size_t i = 0; i < list->count; i++)
        if (stat(list->paths[i], &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            return mst_error(MST_ECONFIG,
                             "the output '%s' is also an input; write it elsewhere or narrow the pattern",
                             output);
    return MST_OK;
}

mst_status inputs_collect(const mst_build_options *options, input_list *list_out) {
    mst_status status = MST_OK;
    MST_CHECK(options->input_count > 0, MST_ECONFIG, "no input; give files or folders of text");
    MST_CHECK(options->glob == NULL || options->glob[0] != '\0', MST_ECONFIG,
              "the pattern for file names is empty; give one such as '*.txt'");
    MST_CHECK(options->glob == NULL || strchr(options->glob, '/') == NULL, MST_ECONFIG,
              "pattern '%s' has a slash, but is compared with file names; give one such as '*.txt'",
              options->glob);
    for (size_t i = 0; i < options->input_count; i++)
        MST_TRY(collect_one(options->glob, options->inputs[i], list_out));
    MST_TRY(check_output_apart(options->output, list_out));
    MST_TRY(check_output_apart(options->heldout_list, list_out));
done:
    return status;
}

void inputs_clear(input_list *list) {
    for (size_t i = 0; i < list->count; i++) free(list->paths[i]);
    free(list->paths);
    *list = (input_list){0};
}
