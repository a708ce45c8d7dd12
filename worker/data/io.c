#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

mst_status io_read(int fd, const char *path, uint64_t offset, void *buffer, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = pread(fd, (char *)buffer + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return mst_error(MST_EIO, "reading '%s' at byte %" PRIu64 ": %s", path, offset + done,
                             strerror(errno));
        if (got == 0)
            return mst_error(MST_EFORMAT,
                             "'%s' ends at byte %" PRIu64 ", %zu bytes too early; it was cut: build it again",
                             path, offset + done, bytes - done);
        done += (size_t)got;
    }
    return MST_OK;
}

mst_status io_write_error(int fd, const char *path, int code) {
    struct statvfs disk;
    if ((code == ENOSPC || code == EDQUOT) && fstatvfs(fd, &disk) == 0) {
        double free_mib = (double)disk.f_bavail * (double)disk.f_frsize / (1 << 20);
        return mst_error(MST_EIO,
                         "writing '%s': %s (%.1f MiB free there); free some space or write elsewhere", path,
                         strerror(code), free_mib);
    }
    return mst_error(MST_EIO, "writing '%s': %s", path, strerror(code));
}

mst_status io_write(int fd, const char *path, uint64_t offset, const void *buffer, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t put = pwrite(fd, (const char *)buffer + done, bytes - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return io_write_error(fd, path, put < 0 ? errno : ENOSPC);
        done += (size_t)put;
    }
    return MST_OK;
}

mst_status io_sync_folder(const char *folder) {
    mst_status status = MST_OK;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MST_CHECK(fd >= 0, MST_EIO, "opening folder '%s': %s", folder, strerror(errno));
    /* Some file systems cannot sync folders and say EINVAL; they have nothing to sync. */
    MST_CHECK(fsync(fd) == 0 || errno == EINVAL, MST_EIO, "syncing folder '%s': %s", folder, strerror(errno));
done:
    if (fd >= 0) close(fd);
    return status;
}

mst_status io_folder_of(const char *path, char **folder_out) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        *folder_out = strdup(".");
    else
        *folder_out = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    return *folder_out != NULL ? MST_OK : mst_error(MST_ENOMEM, "out of memory for the folder of '%s'", path);
}

const char *io_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

mst_status io_write_whole(const char *path, const void *bytes, size_t count) {
    mst_status status = MST_OK;
    char *temporary = NULL, *folder = NULL;
    int fd = -1;
    if (asprintf(&temporary, "%s.partial-%ld", path, (long)getpid()) < 0) temporary = NULL;
    MST_CHECK(temporary != NULL, MST_ENOMEM, "out of memory to write '%s'", path);
    MST_TRY(io_folder_of(path, &folder));
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    MST_CHECK(fd >= 0, MST_EIO, "creating '%s': %s", temporary, strerror(errno));
    MST_TRY(io_write(fd, temporary, 0, bytes, count));
    if (fsync(fd) != 0) MST_TRY(io_write_error(fd, temporary, errno));
    MST_CHECK(rename(temporary, path) == 0, MST_EIO, "renaming '%s' to '%s': %s", temporary, path,
              strerror(errno));
    MST_TRY(io_sync_folder(folder));
done:
    if (fd >= 0) close(fd);
    if (fd >= 0 && status != MST_OK) unlink(temporary);
    free(temporary);
    free(folder);
    return status;
}
