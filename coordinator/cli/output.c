#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODE = 0666 /* less what the umask takes */ };

/* The folder of a path, for the caller to free. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* A new file of a hidden name of its own beside `path`. */
static mst_status create_beside(const char *path, char **name_out, int *fd_out) {
    mst_status status = MST_OK;
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
    if (asprintf(name_out, "%.*s.%s.%ld.tmp", (int)(base - path), path, base, (long)getpid()) < 0)
        *name_out = NULL;
    MST_CHECK(*name_out != NULL, MST_ENOMEM, "out of memory to write '%s'", path);
    *fd_out = open(*name_out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, MODE);
    MST_CHECK(*fd_out >= 0, MST_EIO, "cannot write '%s': %s", path, strerror(errno));
done:
    if (status != MST_OK) {
        free(*name_out);
        *name_out = NULL;
    }
    return status;
}

/* An interrupt waits until a file that was begun is whole or gone. */
static void hold_signals(sigset_t *former_out) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, former_out);
}

static void release_signals(const sigset_t *former) {
    pthread_sigmask(SIG_SETMASK, former, NULL);
}

mst_status cli_output_check(const char *path) {
    mst_status status = MST_OK;
    struct stat there;
    sigset_t former;
    char *name = NULL;
    int fd = -1;
    size_t length = strlen(path);
    hold_signals(&former);
    MST_CHECK(length > 0, MST_ECONFIG, "the output's name is empty; name a file");
    MST_CHECK(strcmp(path, "-") != 0, MST_ECONFIG, "the output goes into a file, and '-' names none");
    bool exists = lstat(path, &there) == 0; /* a link would be replaced, not what it leads to */
    MST_CHECK(path[length - 1] != '/' && !(exists && S_ISDIR(there.st_mode)), MST_ECONFIG,
              "the output '%s' is a folder; name a file", path);
    MST_CHECK(!exists || S_ISREG(there.st_mode), MST_ECONFIG,
              "the output '%s' is there and no regular file; name another", path);
    MST_TRY(create_beside(path, &name, &fd));
done:
    if (fd >= 0) close(fd);
    if (name != NULL) unlink(name);
    free(name);
    release_signals(&former);
    return status;
}

static mst_status write_all(int fd, const char *path, const char *bytes, size_t count) {
    for (ssize_t written; count > 0; bytes += written, count -= (size_t)written) {
        written = write(fd, bytes, count);
        if (written < 0 && errno == EINTR)
            written = 0;
        else if (written <= 0)
            return mst_error(MST_EIO, "cannot write '%s': %s", path, strerror(errno));
    }
    return fsync(fd) == 0 ? MST_OK : mst_error(MST_EIO, "cannot sync '%s': %s", path, strerror(errno));
}

static mst_status sync_folder(const char *path) {
    mst_status status = MST_OK;
    int fd = -1;
    char *folder = folder_of(path);
    MST_CHECK(folder != NULL, MST_ENOMEM, "out of memory to write '%s'", path);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MST_CHECK(fd >= 0 && (fsync(fd) == 0 || errno == EINVAL), MST_EIO, "cannot sync the folder '%s': %s",
              folder, strerror(errno));
done:
    if (fd >= 0) close(fd);
    free(folder);
    return status;
}

mst_status cli_output_write(const char *path, const void *bytes, size_t count) {
    mst_status status = MST_OK;
    char *name = NULL;
    int fd = -1;
    sigset_t former;
    hold_signals(&former);
    MST_TRY(create_beside(path, &name, &fd));
    MST_TRY(write_all(fd, path, bytes, count));
    MST_CHECK(rename(name, path) == 0, MST_EIO, "cannot rename '%s' to '%s': %s", name, path,
              strerror(errno));
    free(name);
    name = NULL;
    MST_TRY(sync_folder(path));
done:
    if (fd >= 0) close(fd);
    if (name != NULL) unlink(name);
    free(name);
    release_signals(&former);
    return status;
}
