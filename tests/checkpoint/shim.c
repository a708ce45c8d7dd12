/*
 * Loaded into muster by LD_PRELOAD: makes the Nth system call on files below a folder fail, or kills the
 * process there. Counted are the calls that open, write, sync, rename, remove and close.
 *
 *   SHIM_RANK    the rank that it befalls
 *   SHIM_BELOW   the folder, or the file: paths that begin so count
 *   SHIM_CALL    the calls that count: open, write (and pwrite), truncate, fsync (and fdatasync), close,
 *                rename (and renameat2), mkdir, link, remove (unlink and rmdir); or any
 *   SHIM_NUMBER  which of them, from 1
 *   SHIM_FAULT   an error's number; short: only half is written, and other calls fail with EIO; kill: SIGKILL
 *   SHIM_DELAY   microseconds from the call to the kill; 0: the call does not happen
 *   SHIM_MARK    a file that is made when it strikes, with the call and the path
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static struct rule {
    bool armed, kills, halves;
    const char *below, *call, *mark;
    long number, delay;
    int error;
} rule;
static atomic_long seen;

static const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value != NULL ? value : otherwise;
}

__attribute__((constructor)) static void read_rule(void) {
    const char *rank = setting("OMPI_COMM_WORLD_RANK", setting("PMI_RANK", "0"));
    const char *fault = setting("SHIM_FAULT", "");
    rule.below = setting("SHIM_BELOW", "");
    rule.call = setting("SHIM_CALL", "any");
    rule.mark = setting("SHIM_MARK", "/dev/null");
    rule.number = strtol(setting("SHIM_NUMBER", "0"), NULL, 10);
    rule.delay = strtol(setting("SHIM_DELAY", "0"), NULL, 10);
    rule.kills = strcmp(fault, "kill") == 0;
    rule.halves = strcmp(fault, "short") == 0;
    rule.error = rule.halves ? EIO : (int)strtol(fault, NULL, 10);
    rule.armed = strcmp(rank, setting("SHIM_RANK", "")) == 0;
}

/* ---- striking ---- */

static void tell(const char *call, const char *path) {
    char text[PATH_BYTES + 32];
    const int length = snprintf(text, sizeof text, "%s %s\n", call, path);
    const long file = syscall(SYS_openat, AT_FDCWD, rule.mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) return;
    syscall(SYS_write, file, text, length);
    syscall(SYS_close, file);
}

static void *kill_later(void *unused) {
    const struct timespec delay = {rule.delay / 1000000, rule.delay % 1000000 * 1000};
    nanosleep(&delay, NULL);
    kill(getpid(), SIGKILL);
    return unused;
}

/* Whether this call must not do what it should; a kill happens here. */
static bool strikes(const char *call, const char *path) {
    pthread_t thread;
    if (!rule.armed || strncmp(path, rule.below, strlen(rule.below)) != 0) return false;
    if (strcmp(rule.call, "any") != 0 && strcmp(rule.call, call) != 0) return false;
    if (atomic_fetch_add(&seen, 1) + 1 != rule.number) return false;
    tell(call, path);
    if (rule.kills && (rule.delay == 0 || pthread_create(&thread, NULL, kill_later, NULL) != 0))
        kill(getpid(), SIGKILL);
    return !rule.kills;
}

static bool fails(const char *call, const char *path) {
    if (!strikes(call, path)) return false;
    errno = rule.error;
    return true;
}

/* path_out [PATH_BYTES] */
static const char *path_of(int file, char *path_out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const long length = syscall(SYS_readlinkat, AT_FDCWD, link, path_out, PATH_BYTES - 1);
    path_out[length > 0 ? length : 0] = '\0';
    return path_out;
}

static bool file_fails(const char *call, int file) {
    char path[PATH_BYTES];
    return rule.armed && fails(call, path_of(file, path));
}

/* How much is to be written: 0 for a call that fails. */
static size_t allowance(int file, size_t bytes) {
    if (!file_fails("write", file)) return bytes;
    return rule.halves ? (bytes + 1) / 2 : 0;
}

/* ---- the calls ---- */

int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return fails("open", path) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int close(int file) {
    const bool failed = file_fails("close", file);
    const int status = (int)syscall(SYS_close, file); /* closed all the same, as by the system */
    if (failed) errno = rule.error;
    return failed ? -1 : status;
}

ssize_t write(int file, const void *buffer, size_t bytes) {
    const size_t allowed = allowance(file, bytes);
    return allowed < bytes && allowed == 0 ? -1 : syscall(SYS_write, file, buffer, allowed);
}

ssize_t pwrite(int file, const void *buffer, size_t bytes, off_t offset) {
    const size_t allowed = allowance(file, bytes);
    return allowed < bytes && allowed == 0 ? -1 : syscall(SYS_pwrite64, file, buffer, allowed, offset);
}

int ftruncate(int file, off_t bytes) {
    return file_fails("truncate", file) ? -1 : (int)syscall(SYS_ftruncate, file, bytes);
}

int fsync(int file) {
    return file_fails("fsync", file) ? -1 : (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    return file_fails("fsync", file) ? -1 : (int)syscall(SYS_fdatasync, file);
}

int rename(const char *from, const char *to) {
    return fails("rename", from) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    if (fails("rename", from)) return -1;
    return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
}

int mkdir(const char *path, mode_t mode) {
    return fails("mkdir", path) ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int link(const char *from, const char *to) {
    return fails("link", from) ? -1 : (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlink(const char *path) {
    return fails("remove", path) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int rmdir(const char *path) {
    return fails("remove", path) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}
