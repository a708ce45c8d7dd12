#include "muster/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

mst_status mst_file_read(int fd, const char *path, uint64_t offset, void *buffer, size_t bytes) {
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

mst_status mst_file_write_error(int fd, const char *path, int code) {
    struct statvfs disk;
    if ((code == ENOSPC || code == EDQUOT) && fstatvfs(fd, &disk) == 0) {
        double free_mib = (double)disk.f_bavail * (double)disk.f_frsize / (1 << 20);
        return mst_error(MST_EIO, "writing '%s': %s (%.1f MiB free there); make room or write elsewhere",
                         path, strerror(code), free_mib);
    }
    return mst_error(MST_EIO, "writing '%s': %s", path, strerror(code));
}

mst_status mst_file_write(int fd, const char *path, uint64_t offset, const void *buffer, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t put = pwrite(fd, (const char *)buffer + done, bytes - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return mst_file_write_error(fd, path, put < 0 ? errno : ENOSPC);
        done += (size_t)put;
    }
    return MST_OK;
}

mst_status mst_folder_of(const char *path, char **folder_out) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        *folder_out = strdup(".");
    else
        *folder_out = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    return *folder_out != NULL ? MST_OK : mst_error(MST_ENOMEM, "out of memory for the folder of '%s'", path);
}

const char *mst_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

mst_status mst_name_beside(const char *path, char **name_out) {
    const char *base = mst_base_name(path);
    if (asprintf(name_out, "%.*s.%s.%ld.tmp", (int)(base - path), path, base, (long)getpid()) >= 0)
        return MST_OK;
    *name_out = NULL;
    return mst_error(MST_ENOMEM, "out of memory to write '%s'", path);
}

mst_status mst_folder_sync(const char *folder) {
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int error = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0) close(fd);
    /* EINVAL: a file system that does not know it, and has nothing to sync; EACCES: one may make names there, and not
     * read them. */
    return error == 0 || error == EINVAL || error == EACCES
               ? MST_OK
               : mst_error(MST_EIO, "cannot sync the folder '%s': %s", folder, strerror(error));
}

void mst_folder_discard(const char *path) {
    char file[PATH_MAX];
    DIR *folder = opendir(path);
    for (const struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        if (snprintf(file, sizeof file, "%s/%s", path, entry->d_name) < (int)sizeof file) unlink(file);
    if (folder != NULL) closedir(folder);
    rmdir(path);
}

mst_status mst_folder_make(const char *path) {
    mst_status status = MST_OK;
    char *part = strdup(path), *parent = NULL;
    MST_CHECK(part != NULL, MST_ENOMEM, "out of memory to make the folder '%s'", path);
    for (size_t i = 1; part[0] != '\0'; i++) {
        const char next = part[i];
        if (next != '/' && next != '\0') continue;
        part[i] = '\0';
        if (mkdir(part, 0777) == 0) {
            MST_TRY(mst_folder_of(part, &parent));
            MST_TRY(mst_folder_sync(parent));
            free(parent);
            parent = NULL;
        } else {
            MST_CHECK(errno == EEXIST, MST_EIO, "cannot make the folder '%s': %s", part, strerror(errno));
        }
        if (next == '\0') break;
        part[i] = next;
    }
done:
    free(part);
    free(parent);
    return status;
}

mst_status mst_file_publish(const char *temporary, const char *path) {
    mst_status status = MST_OK;
    char *folder = NULL;
    MST_CHECK(rename(temporary, path) == 0, MST_EIO, "cannot rename '%s' to '%s': %s", temporary, path,
              strerror(errno));
    MST_TRY(mst_folder_of(path, &folder));
    MST_TRY(mst_folder_sync(folder));
done:
    free(folder);
    return status;
}

mst_status mst_file_replace(const char *path, const void *bytes, size_t count) {
    mst_status status = MST_OK;
    char *temporary = NULL;
    int fd = -1;
    MST_TRY(mst_name_beside(path, &temporary));
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    MST_CHECK(fd >= 0, MST_EIO, "cannot write '%s': %s", path, strerror(errno));
    MST_TRY(mst_file_write(fd, path, 0, bytes, count));
    if (fsync(fd) != 0) MST_TRY(mst_file_write_error(fd, path, errno));
    MST_TRY(mst_file_publish(temporary, path));
done:
    if (fd >= 0) close(fd);
    if (fd >= 0 && status != MST_OK) unlink(temporary);
    free(temporary);
    return status;
}
