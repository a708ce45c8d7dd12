#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest.h"

enum { STEP_NAME_MAX = 40 };

static void step_name(const char *prefix, uint64_t step, char name_out[STEP_NAME_MAX]) {
    snprintf(name_out, STEP_NAME_MAX, "%sstep-%08" PRIu64, prefix, step);
}

mst_status ckpt_step_path(const char *folder, uint64_t step, char *path_out) {
    char name[STEP_NAME_MAX];
    step_name("", step, name);
    return ckpt_path_join(folder, name, path_out);
}

mst_status ckpt_paths_of(const char *folder, uint64_t step, ckpt_paths *paths_out) {
    mst_status status = MST_OK;
    char name[STEP_NAME_MAX];
    size_t length = strlen(folder);
    MST_CHECK(length > 0 && length < sizeof paths_out->folder, MST_EINVAL,
              "checkpoint: folder '%.80s' has %zu characters", folder, length);
    memcpy(paths_out->folder, folder, length + 1);
    MST_TRY(ckpt_step_path(folder, step, paths_out->final));
    step_name(".tmp-", step, name);
    MST_TRY(ckpt_path_join(folder, name, paths_out->making));
    step_name(".old-", step, name);
    MST_TRY(ckpt_path_join(folder, name, paths_out->old));
done:
    return status;
}

static void recover_entry(const char *folder, const char *name) {
    char path[CKPT_PATH_MAX], final[CKPT_PATH_MAX], manifest[CKPT_PATH_MAX];
    bool unfinished = strncmp(name, ".tmp-step-", 10) == 0 || strncmp(name, ".gone-step-", 11) == 0;
    bool replaced = strncmp(name, ".old-step-", 10) == 0;
    if (!unfinished && !replaced) return;
    if (ckpt_path_join(folder, name, path) != MST_OK) return;
    if (replaced) {
        if (ckpt_path_join(folder, name + 5, final) != MST_OK) return;
        if (!ckpt_exists(final)) {
            ckpt_system.rename(path, final); /* failed? Then at the next save */
            return;
        }
        if (ckpt_path_join(final, "manifest.json", manifest) != MST_OK || !ckpt_is_file(manifest)) return;
    }
    ckpt_folder_discard(path);
}

/* Files are removed only once their folder's new name is on the disk: else a power cut could bring back the old name, of a
 * checkpoint that is listed and lacks some. The job that renamed it may have died before it synced. */
mst_status ckpt_folder_recover(const char *folder) {
    mst_status status = ckpt_folder_sync(folder);
    if (status != MST_OK) return status;
    DIR *entries = opendir(folder);
    if (entries == NULL) return ckpt_errno(errno, "read folder", folder);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) recover_entry(folder, entry->d_name);
    closedir(entries);
    return MST_OK;
}

void ckpt_making_discard(const mst_checkpoint_context *context, const ckpt_paths *paths) {
    char message[2048];
    snprintf(message, sizeof message, "%s", mst_error_message());
    const mst_status status = ckpt_permitted(context);
    if (status == MST_OK) ckpt_folder_discard(paths->making);
    if (status != MST_OK) mst_error(status, "%s", message);
}

mst_status ckpt_publish(const ckpt_paths *paths) {
    mst_status status = MST_OK;
    const char *replaced = NULL; /* where the one that stood there is now */
    if (!ckpt_exists(paths->final)) {
        MST_TRY(ckpt_rename(paths->making, paths->final));
    } else if (ckpt_system.exchange(paths->making, paths->final) == 0) {
        replaced = paths->making;
    } else {
        /* NFS and others cannot exchange. Killed between the two renames, ckpt_folder_recover
         * puts the old one back. */
        MST_TRY(ckpt_rename(paths->final, paths->old));
        status = ckpt_rename(paths->making, paths->final);
        if (status != MST_OK) ckpt_system.rename(paths->old, paths->final);
        MST_TRY(status);
        replaced = paths->old;
    }
    status = ckpt_folder_sync(paths->folder);
    if (replaced != NULL) ckpt_folder_discard(replaced);
done:
    return status;
}

static int compare_newest_first(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a < b) - (a > b);
}

/* The step that a folder's name says, if it is a checkpoint's: exactly as we write it. A folder gets such a name only when it
 * is whole: one without a manifest is damaged, not in the making. */
static bool checkpoint_step(const char *name, uint64_t *step_out) {
    char expected[STEP_NAME_MAX];
    if (strncmp(name, "step-", 5) != 0 || strlen(name) >= STEP_NAME_MAX) return false;
    *step_out = strtoull(name + 5, NULL, 10);
    step_name("", *step_out, expected);
    return strcmp(name, expected) == 0;
}

mst_status ckpt_list_steps(const char *folder, uint64_t **steps_out, size_t *count_out) {
    mst_status status = MST_OK;
    uint64_t *steps = NULL;
    size_t count = 0, room = 0;
    *steps_out = NULL;
    *count_out = 0;
    DIR *entries = opendir(folder);
    if (entries == NULL && errno == ENOENT) return MST_OK;
    if (entries == NULL) return ckpt_errno(errno, "read folder", folder);
    for (struct dirent *entry; errno = 0, (entry = readdir(entries)) != NULL;) {
        uint64_t step;
        if (!checkpoint_step(entry->d_name, &step)) continue;
        if (count == room) {
            room = 2 * room + 16;
            uint64_t *more = realloc(steps, room * sizeof *more);
            MST_CHECK(more != NULL, MST_ENOMEM, "no memory to list %zu checkpoints of %s", room, folder);
            steps = more;
        }
        steps[count++] = step;
    }
    MST_CHECK(errno == 0, MST_EIO, "cannot read folder %s: %s", folder, strerror(errno));
    if (count > 0) qsort(steps, count, sizeof *steps, compare_newest_first);
    *steps_out = steps;
    *count_out = count;
    steps = NULL;
done:
    free(steps);
    closedir(entries);
    return status;
}

mst_status mst_checkpoint_newest(const char *folder, size_t skip, char *path_out) {
    uint64_t *steps;
    size_t count;
    path_out[0] = '\0';
    mst_status status = ckpt_list_steps(folder, &steps, &count);
    if (status == MST_OK && skip < count) status = ckpt_step_path(folder, steps[skip], path_out);
    free(steps);
    return status;
}

mst_status mst_checkpoint_resolve(const char *path, char *path_out) {
    mst_status status = MST_OK;
    char inner[CKPT_PATH_MAX];
    path_out[0] = '\0';
    MST_CHECK(ckpt_exists(path), MST_EIO, "%s does not exist", path);
    MST_TRY(ckpt_manifest_name(path, inner));
    if (ckpt_exists(inner)) {
        MST_CHECK(strlen(path) < CKPT_PATH_MAX, MST_EINVAL, "path %.80s... is too long", path);
        memcpy(path_out, path, strlen(path) + 1);
        goto done;
    }
    MST_TRY(ckpt_path_join(path, "checkpoints", inner));
    MST_TRY(mst_checkpoint_newest(ckpt_exists(inner) ? inner : path, 0, path_out));
    MST_TRY(ckpt_path_join(path, "config.json", inner));
    MST_CHECK(
        path_out[0] != '\0', MST_EIO,
        "%s is no checkpoint (it has no manifest.json), and no run folder with a checkpoint in it%s", path,
        ckpt_exists(inner) ? "; 'muster import' makes a checkpoint of a model in Hugging Face's layout" : "");
done:
    return status;
}

mst_status ckpt_take_out(const char *folder, uint64_t step, const char *prefix, char *gone_out) {
    mst_status status = MST_OK;
    char name[STEP_NAME_MAX], path[CKPT_PATH_MAX];
    MST_TRY(ckpt_step_path(folder, step, path));
    step_name(prefix, step, name);
    MST_TRY(ckpt_path_join(folder, name, gone_out));
    MST_CHECK(ckpt_system.rename(path, gone_out) == 0, MST_EIO,
              "cannot rename the old checkpoint %s to %s: %s", path, gone_out, strerror(errno));
done:
    return status;
}

mst_status ckpt_set_aside(const char *folder, uint64_t step) {
    char gone[CKPT_PATH_MAX], prefix[16] = "left-";
    /* Set aside before, under this name? Then under the next. */
    mst_status status = ckpt_take_out(folder, step, prefix, gone);
    for (unsigned again = 2; status != MST_OK && again < 100; again++) {
        snprintf(prefix, sizeof prefix, "left-%u-", again);
        status = ckpt_take_out(folder, step, prefix, gone);
    }
    return status;
}

mst_status mst_checkpoint_set_aside(const char *folder, uint64_t from, uint64_t saved, size_t *count_out) {
    mst_status status = MST_OK;
    uint64_t *steps = NULL;
    size_t count = 0;
    *count_out = 0;
    MST_TRY(ckpt_list_steps(folder, &steps, &count));
    for (size_t i = 0; i < count && steps[i] > from; i++) {
        if (steps[i] == saved) continue;
        MST_TRY(ckpt_set_aside(folder, steps[i]));
        ++*count_out;
    }
done:
    free(steps);
    return status;
}
