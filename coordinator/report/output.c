#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "muster/files.h"

/* Whether a file lies in a folder of the run's checkpoints. */
static bool belongs_to_checkpoint(const char *path, const char *run) {
    char checkpoints[4096 + 16], folder[PATH_MAX], file[PATH_MAX];
    snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", run);
    if (realpath(checkpoints, folder) == NULL || realpath(path, file) == NULL) return false;
    const size_t length = strlen(folder);
    return strncmp(file, folder, length) == 0 && file[length] == '/';
}

/* Whether a path leads to one of the files that make the run. */
static bool belongs_to_run(const char *path, const struct stat *facts, const char *run) {
    static const char *const names[] = {"run.json", "config.yaml", "metrics.jsonl"};
    if (belongs_to_checkpoint(path, run)) return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char own_path[4096 + 16];
        struct stat own;
        snprintf(own_path, sizeof own_path, "%s/%s", run, names[i]);
        if (stat(own_path, &own) == 0 && own.st_dev == facts->st_dev && own.st_ino == facts->st_ino)
            return true;
    }
    return false;
}

static mst_status check_target(const char *path, const char *run) {
    struct stat facts;
    size_t length = strlen(path);
    if (length == 0) return mst_error(MST_ECONFIG, "the report needs a file to go to; '' is none");
    /* Of a link itself: it would be replaced, not what it leads to. */
    if (lstat(path, &facts) != 0 && errno == ENOENT && path[length - 1] != '/') return MST_OK;
    if (path[length - 1] == '/' || S_ISDIR(facts.st_mode))
        return mst_error(MST_ECONFIG, "cannot write the report to %s: it is a folder; give a file name",
                         path);
    if (!S_ISREG(facts.st_mode))
        return mst_error(MST_ECONFIG,
                         "cannot write the report to %s: it is no regular file; '-o -' is standard output",
                         path);
    if (belongs_to_run(path, &facts, run))
        return mst_error(MST_ECONFIG, "cannot write the report to %s: that file belongs to the run", path);
    return MST_OK;
}

mst_status report_output_begin(const char *path, const char *run, report_output *output_out) {
    mst_status status = MST_OK;
    report_output output = {0};
    *output_out = output;
    if (strcmp(path, "-") == 0) {
        output_out->file = stdout;
        return MST_OK;
    }
    MST_TRY(check_target(path, run));
    output.path = strdup(path);
    if (asprintf(&output.temporary, "%s.tmp-%ld", path, (long)getpid()) < 0) output.temporary = NULL;
    MST_CHECK(output.path != NULL && output.temporary != NULL, MST_ENOMEM, "%s: no memory", path);
    output.file = fopen(output.temporary, "wbe");
    MST_CHECK(output.file != NULL, MST_EIO, "cannot write %s: %s", output.temporary, strerror(errno));
    *output_out = output;
    return MST_OK;
done:
    free(output.path);
    free(output.temporary);
    return status;
}

static mst_status commit(report_output *output) {
    mst_status status = MST_OK;
    int failed = fflush(output->file) != 0 || ferror(output->file) || fsync(fileno(output->file)) != 0;
    int error = failed ? errno : 0;
    if (fclose(output->file) != 0 && !failed) error = errno;
    output->file = NULL;
    MST_CHECK(error == 0, MST_EIO, "cannot write %s: %s", output->path, strerror(error));
    return mst_file_publish(output->temporary, output->path);
done:
    unlink(output->temporary);
    return status;
}

mst_status report_output_end(report_output *output, mst_status status) {
    if (output->file == NULL) return status;
    if (output->path == NULL) {
        if ((fflush(stdout) != 0 || ferror(stdout)) && status == MST_OK)
            status = mst_error(MST_EIO, "cannot write to standard output: %s", strerror(errno));
    } else if (status == MST_OK) {
        status = commit(output);
    } else {
        fclose(output->file);
        unlink(output->temporary);
    }
    free(output->path);
    free(output->temporary);
    *output = (report_output){0};
    return status;
}
