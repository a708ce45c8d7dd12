/*
 * A file system that lacks something, for a program that is started with LD_PRELOAD=this. POOR_DISK names what:
 *   locks       flock and locks by fcntl are refused (ENOLCK)
 *   direct      O_DIRECT is refused (EINVAL)
 *   folders     folders cannot be synced (EINVAL)
 *   hints       nobody listens to posix_fadvise and sync_file_range (ENOSYS)
 *   quota       pwrite is refused (EDQUOT) once POOR_QUOTA bytes are written
 * Whatever is refused is written to POOR_LOG, a word a line.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int fcntl64(int fd, int command, ...);

/* Whether this is lacking; then it is refused. */
static bool lacks(const char *what, int error) {
    const char *poor = getenv("POOR_DISK"), *log = getenv("POOR_LOG");
    if (poor == NULL || strstr(poor, what) == NULL) return false;
    int fd = log != NULL ? (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0666) : -1;
    if (fd >= 0) {
        char line[32];
        size_t length = strlen(what);
        memcpy(line, what, length);
        line[length] = '\n';
        if (write(fd, line, length + 1) < 0) abort();
        close(fd);
    }
    errno = error;
    return true;
}

int flock(int fd, int operation) {
    return lacks("locks", ENOLCK) ? -1 : (int)syscall(SYS_flock, fd, operation);
}

static int control(int fd, int command, void *argument) {
    const bool locks =
        command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
    if (locks && lacks("locks", ENOLCK)) return -1;
    if (command == F_SETFL && ((long)argument & O_DIRECT) != 0 && lacks("direct", EINVAL)) return -1;
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

#define ARGUMENT(after, argument)                                                                            \
    va_list list;                                                                                            \
    va_start(list, after);                                                                                   \
    void *argument = va_arg(list, void *);                                                                   \
    va_end(list)

int fcntl(int fd, int command, ...) {
    ARGUMENT(command, argument);
    return control(fd, command, argument);
}
int fcntl64(int fd, int command, ...) {
    ARGUMENT(command, argument);
    return control(fd, command, argument);
}

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    if ((flags & O_DIRECT) != 0 && lacks("direct", EINVAL)) return -1;
    return (int)syscall(SYS_openat, folder, path, flags, mode);
}
#define MODE(after)                                                                                          \
    va_list list;                                                                                            \
    va_start(list, after);                                                                                   \
    const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(list, mode_t) : 0;                     \
    va_end(list)

int open(const char *path, int flags, ...) {
    MODE(flags);
    return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags);
    return open_at(AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags);
    return open_at(folder, path, flags, mode);
}

int fsync(int fd) {
    struct stat facts;
    if (fstat(fd, &facts) == 0 && S_ISDIR(facts.st_mode) && lacks("folders", EINVAL)) return -1;
    return (int)syscall(SYS_fsync, fd);
}

int posix_fadvise(int fd, off_t offset, off_t bytes, int advice) {
    if (lacks("hints", ENOSYS)) return ENOSYS;
    return syscall(SYS_fadvise64, fd, offset, bytes, advice) == 0 ? 0 : errno;
}
int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned flags) {
    return lacks("hints", ENOSYS) ? -1 : (int)syscall(SYS_sync_file_range, fd, offset, bytes, flags);
}

ssize_t pwrite(int fd, const void *buffer, size_t bytes, off_t offset) {
    static atomic_size_t written;
    const char *quota = getenv("POOR_QUOTA");
    if (quota != NULL && atomic_fetch_add(&written, bytes) + bytes > strtoull(quota, NULL, 10) &&
        lacks("quota", EDQUOT))
        return -1;
    return syscall(SYS_pwrite64, fd, buffer, bytes, offset);
}
