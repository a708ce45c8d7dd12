#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Linux moves at most 2 GiB a call; a smaller step also keeps NFS, signals and progress reports responsive.
 * After each step the system is asked to begin to write it to the disk, so that the disk works while more is
 * written. Where it does not listen, it holds back in memory what it must write in the end: an fsync of a large
 * file, during which nothing can be reported, would take as long as the file. Hence one now and then. */
enum { STEP = 8 << 20, SYNC_STEP = 256 << 20, PAGE = 4096 };

static int system_open(const char *path, int flags, mode_t mode) {
    return open(path, flags | O_CLOEXEC, mode);
}

static int system_exchange(const char *one, const char *other) {
    return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
}

ckpt_calls ckpt_system = {
    .open = system_open,
    .close = close,
    .pread = pread,
    .pwrite = pwrite,
    .ftruncate = ftruncate,
    .fsync = fsync,
    .mkdir = mkdir,
    .rename = rename,
    .exchange = system_exchange,
    .unlink = unlink,
    .rmdir = rmdir,
};

mst_status ckpt_errno(int error, const char *operation, const char *path) {
    char room[96] = "";
    struct statvfs disk;
    bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
    if (full) {
        char folder[CKPT_PATH_MAX];
        snprintf(folder, sizeof folder, "%s", path);
        char *slash = strrchr(folder, '/');
        if (slash != NULL && slash != folder) *slash = '\0';
        if (statvfs(slash != NULL ? folder : ".", &disk) == 0)
            snprintf(room, sizeof room, " (%llu bytes free there); make room or choose another run folder",
                     (unsigned long long)disk.f_bavail * disk.f_frsize);
    }
    return mst_error(MST_EIO, "cannot %s %s: %s%s", operation, path, strerror(error), room);
}

mst_status ckpt_path_join(const char *folder, const char *name, char *path_out) {
    int length = snprintf(path_out, CKPT_PATH_MAX, "%s/%s", folder, name);
    if (length < 0 || length >= CKPT_PATH_MAX)
        return mst_error(MST_EINVAL, "path %.80s.../%s has %d characters; the limit is %d", folder, name,
                         length, CKPT_PATH_MAX - 1);
    return MST_OK;
}

static mst_status file_open(const char *path, int flags, const char *operation, ckpt_file *file_out) {
    file_out->fd = file_out->direct = -1;
    if (strlen(path) >= sizeof file_out->path)
        return mst_error(MST_EINVAL, "path %.80s... has %zu characters; the limit is %d", path, strlen(path),
                         CKPT_PATH_MAX - 1);
    memcpy(file_out->path, path, strlen(path) + 1);
    do file_out->fd = ckpt_system.open(file_out->path, flags, 0666);
    while (file_out->fd < 0 && errno == EINTR);
    return file_out->fd >= 0 ? MST_OK : ckpt_errno(errno, operation, file_out->path);
}

mst_status ckpt_file_create_path(const char *path, ckpt_file *file_out) {
    return file_open(path, O_RDWR | O_CREAT | O_EXCL, "create", file_out);
}

mst_status ckpt_file_create(const char *folder, const char *name, ckpt_file *file_out) {
    char path[CKPT_PATH_MAX];
    mst_status status = ckpt_path_join(folder, name, path);
    return status == MST_OK ? ckpt_file_create_path(path, file_out) : status;
}

mst_status ckpt_file_open(const char *folder, const char *name, ckpt_file *file_out) {
    char path[CKPT_PATH_MAX];
    mst_status status = ckpt_path_join(folder, name, path);
    return status == MST_OK ? ckpt_file_open_path(path, file_out) : status;
}

mst_status ckpt_file_open_path(const char *path, ckpt_file *file_out) {
    /* Not blocking: a named pipe in the place of a file must not hang the job. */
    mst_status status = file_open(path, O_RDONLY | O_NONBLOCK, "open", file_out);
    if (status != MST_OK) return status;
    struct stat facts;
    if (fstat(file_out->fd, &facts) == 0 && S_ISREG(facts.st_mode)) return MST_OK;
    status = mst_error(MST_EIO, "cannot open %s: not a regular file", file_out->path);
    ckpt_system.close(file_out->fd);
    file_out->fd = -1;
    return status;
}

void ckpt_file_bypass(ckpt_file *file) {
    file->direct = ckpt_system.open(file->path, O_RDWR | O_DIRECT, 0);
}

/* One call: by the descriptor that can take what lies there. */
static ssize_t write_part(const ckpt_file *file, const void *from, size_t bytes, uint64_t offset) {
    const size_t part = bytes < STEP ? bytes : STEP;
    if (file->direct >= 0 && part >= PAGE && ((uintptr_t)from | offset) % PAGE == 0) {
        ssize_t put = ckpt_system.pwrite(file->direct, from, part - part % PAGE, (off_t)offset);
        if (put >= 0 || errno != EINVAL) return put; /* else the disk has larger pages */
    }
    return ckpt_system.pwrite(file->fd, from, part, (off_t)offset);
}

mst_status ckpt_file_size(const ckpt_file *file, uint64_t *bytes_out) {
    struct stat facts;
    if (fstat(file->fd, &facts) != 0) return ckpt_errno(errno, "get the size of", file->path);
    *bytes_out = (uint64_t)facts.st_size;
    return MST_OK;
}

/* One call. */
static ssize_t read_part(const ckpt_file *file, void *to, size_t bytes, uint64_t offset) {
    return ckpt_system.pread(file->fd, to, bytes < STEP ? bytes : STEP, (off_t)offset);
}

/* One call, of whole pages where it goes past the page cache; else what lies there is forgotten first. */
static ssize_t read_back_part(const ckpt_file *file, void *to, size_t bytes, uint64_t offset) {
    const size_t part = bytes < STEP ? bytes : STEP;
    if (file->direct >= 0 && ((uintptr_t)to | offset) % PAGE == 0) {
        ssize_t got = ckpt_system.pread(file->direct, to, (part + PAGE - 1) / PAGE * PAGE, (off_t)offset);
        if (got > (ssize_t)bytes) got = (ssize_t)bytes;
        if (got >= 0 || errno != EINVAL) return got; /* else the disk has larger pages */
    }
    posix_fadvise(file->fd, (off_t)offset, (off_t)part, POSIX_FADV_DONTNEED);
    return ckpt_system.pread(file->fd, to, part, (off_t)offset);
}

static mst_status read_all(const ckpt_file *file,
                           ssize_t (*call)(const ckpt_file *, void *, size_t, uint64_t), void *buffer,
                           size_t bytes, uint64_t offset) {
    char *to = buffer;
    while (bytes > 0) {
        ssize_t got = call(file, to, bytes, offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return ckpt_errno(errno, "read", file->path);
        if (got == 0)
            return mst_error(MST_EFORMAT, "%s is cut short: %zu bytes are missing at byte %llu", file->path,
                             bytes, (unsigned long long)offset);
        ckpt_report(file->context, false);
        to += got;
        offset += (uint64_t)got;
        bytes -= (size_t)got;
    }
    return MST_OK;
}

mst_status ckpt_file_read(const ckpt_file *file, void *buffer, size_t bytes, uint64_t offset) {
    return read_all(file, read_part, buffer, bytes, offset);
}

mst_status ckpt_file_read_back(const ckpt_file *file, void *buffer, size_t bytes, uint64_t offset) {
    return read_all(file, read_back_part, buffer, bytes, offset);
}

mst_status ckpt_file_write(const ckpt_file *file, const void *buffer, size_t bytes, uint64_t offset) {
    const char *from = buffer;
    while (bytes > 0) {
        ssize_t put = write_part(file, from, bytes, offset);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return ckpt_errno(put < 0 ? errno : ENOSPC, "write", file->path);
        ckpt_report(file->context, false);
        const uint64_t end = offset + (uint64_t)put, step = offset / STEP * STEP;
        const bool sync = file->direct < 0 && end / SYNC_STEP != offset / SYNC_STEP;
        if (end / STEP * STEP > step) /* a hint, which may fail unseen */
            sync_file_range(file->fd, (off_t)step, (off_t)(end / STEP * STEP - step), SYNC_FILE_RANGE_WRITE);
        from += put;
        offset = end;
        bytes -= (size_t)put;
        mst_status status = sync ? ckpt_file_sync(file) : MST_OK;
        if (status != MST_OK) return status;
    }
    return MST_OK;
}

mst_status ckpt_file_resize(const ckpt_file *file, uint64_t bytes) {
    return ckpt_system.ftruncate(file->fd, (off_t)bytes) == 0 ? MST_OK
                                                              : ckpt_errno(errno, "resize", file->path);
}

/* 0, or errno. */
static int sync_fd(int fd) {
    int failed;
    do failed = ckpt_system.fsync(fd);
    while (failed != 0 && errno == EINTR);
    return failed == 0 ? 0 : errno;
}

mst_status ckpt_file_sync(const ckpt_file *file) {
    const int error = sync_fd(file->fd);
    mst_status status = error == 0 ? MST_OK : ckpt_errno(error, "fsync", file->path);
    ckpt_report(file->context, false);
    return status;
}

void ckpt_file_forget(const ckpt_file *file) {
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
}

mst_status ckpt_file_close(ckpt_file *file) {
    if (file->fd < 0) return MST_OK;
    if (file->direct >= 0) ckpt_system.close(file->direct);
    file->direct = -1;
    int failed = ckpt_system.close(file->fd);
    file->fd = -1;
    return failed == 0 || errno == EINTR ? MST_OK : ckpt_errno(errno, "close", file->path);
}

mst_status ckpt_folder_sync(const char *path) {
    int fd = ckpt_system.open(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return ckpt_errno(errno, "open", path);
    const int error = sync_fd(fd);
    ckpt_system.close(fd);
    /* Some file systems cannot sync folders and say EINVAL: names are on the disk, or at the server, at once there, or
     * there is nothing that one could do. */
    return error == 0 || error == EINVAL ? MST_OK : ckpt_errno(error, "fsync", path);
}

mst_status ckpt_folder_make(const char *path) {
    char part[CKPT_PATH_MAX];
    if (strlen(path) >= sizeof part) return mst_error(MST_EINVAL, "path %.80s... is too long", path);
    char parent[CKPT_PATH_MAX] = ".";
    if (path[0] == '/') strcpy(parent, "/");
    for (const char *end = path; *end != '\0';) {
        while (*end == '/') end++;
        if (*end == '\0') break;
        while (*end != '\0' && *end != '/') end++;
        memcpy(part, path, (size_t)(end - path));
        part[end - path] = '\0';
        if (ckpt_system.mkdir(part, 0777) == 0) {
            mst_status status = ckpt_folder_sync(parent);
            if (status != MST_OK) return status;
        } else if (errno != EEXIST) {
            return ckpt_errno(errno, "make folder", part);
        }
        memcpy(parent, part, sizeof parent);
    }
    struct stat facts;
    if (stat(path, &facts) != 0) return ckpt_errno(errno, "make folder", path);
    return S_ISDIR(facts.st_mode) ? MST_OK : ckpt_errno(ENOTDIR, "make folder", path);
}

mst_status ckpt_rename(const char *from, const char *to) {
    return ckpt_system.rename(from, to) == 0 ? MST_OK : ckpt_errno(errno, "rename to its final name", from);
}

void ckpt_folder_discard(const char *path) {
    DIR *folder = opendir(path);
    if (folder == NULL) return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char file[CKPT_PATH_MAX];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        int length = snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        if (length > 0 && length < CKPT_PATH_MAX) ckpt_system.unlink(file);
    }
    closedir(folder);
    ckpt_system.rmdir(path);
}

bool ckpt_exists(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

bool ckpt_is_file(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISREG(facts.st_mode);
}
