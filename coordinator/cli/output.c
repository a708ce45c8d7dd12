#include "output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "muster/files.h"

enum { MODE = 0666 /* less what the umask takes */ };

/* A new file of a hidden name of its own beside `path`. */
static mst_status create_beside(const char *path, char **name_out, int *fd_out) {
    mst_status status = MST_OK;
    MST_TRY(mst_name_beside(path, name_out));
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

mst_status cli_output_write(const char *path, const void *bytes, size_t count) {
    sigset_t former;
    hold_signals(&former);
    mst_status status = mst_file_replace(path, bytes, count);
    release_signals(&former);
    return status;
}

/* ---- files that take their time ---- */

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { ENDING_SIGNALS = sizeof ending_signals / sizeof *ending_signals };
static const char *volatile unfinished; /* to be removed when such a signal comes */

/* The default action comes back only now: with SA_RESETHAND a second signal could end the process before this begins. */
static void remove_unfinished(int number) {
    unlink(unfinished);
    signal(number, SIG_DFL);
    raise(number);
}

static void catch_signals(void (*handler)(int), struct sigaction former_out[ENDING_SIGNALS]) {
    const struct sigaction catch = {.sa_handler = handler};
    for (int i = 0; i < ENDING_SIGNALS; i++) {
        sigaction(ending_signals[i], NULL, &former_out[i]);
        if (former_out[i].sa_handler != SIG_IGN) sigaction(ending_signals[i], &catch, NULL);
    }
}

mst_status cli_output_make(const char *path, cli_output_fn *make, void *context) {
    mst_status status = MST_OK;
    struct sigaction former[ENDING_SIGNALS];
    sigset_t mask;
    char *name = NULL;
    MST_TRY(mst_name_beside(path, &name));
    unfinished = name;
    catch_signals(remove_unfinished, former);
    status = make(context, name);
    hold_signals(&mask);
    if (status == MST_OK) status = mst_file_publish(name, path);
    if (status != MST_OK) unlink(name);
    for (int i = 0; i < ENDING_SIGNALS; i++) sigaction(ending_signals[i], &former[i], NULL);
    release_signals(&mask);
done:
    free(name);
    return status;
}

/* ---- folders: their files are removed in turn, which a handler cannot do ---- */

static volatile sig_atomic_t interrupted; /* by this signal */

static void note_interrupt(int number) {
    interrupted = number;
}

mst_status cli_output_interrupted(void) {
    return interrupted == 0 ? MST_OK : mst_error(MST_EIO, "interrupted; nothing was written");
}

mst_status cli_output_folder_check(const char *path) {
    mst_status status = MST_OK;
    struct stat there;
    struct dirent **entries = NULL;
    const size_t length = strlen(path);
    MST_CHECK(length > 0 && path[length - 1] != '/', MST_ECONFIG,
              "the output '%s': name the new folder, without a slash at the end", path);
    if (lstat(path, &there) != 0) goto done;
    const int names = S_ISDIR(there.st_mode) ? scandir(path, &entries, NULL, NULL) : -1;
    for (int i = 0; i < names; i++) free(entries[i]);
    free(entries);
    MST_CHECK(names >= 0 && names <= 2, MST_ECONFIG, /* . and .. */
              "the output '%s' is there already; name another, or remove it", path);
done:
    return status;
}

mst_status cli_output_make_folder(const char *path, cli_output_folder_fn *make, void *context) {
    mst_status status = MST_OK;
    struct sigaction former[ENDING_SIGNALS];
    char *name = NULL;
    bool made = false;
    interrupted = 0;
    catch_signals(note_interrupt, former);
    MST_TRY(mst_name_beside(path, &name));
    MST_CHECK(mkdir(name, 0777) == 0, MST_EIO, "cannot write '%s': %s", path, strerror(errno));
    made = true;
    MST_TRY(make(context, name));
    MST_TRY(mst_folder_sync(name));
    MST_TRY(cli_output_interrupted());
    MST_TRY(mst_file_publish(name, path));
    made = false;
done:
    if (made) mst_folder_discard(name);
    free(name);
    for (int i = 0; i < ENDING_SIGNALS; i++) sigaction(ending_signals[i], &former[i], NULL);
    if (status != MST_OK && interrupted != 0) raise(interrupted);
    return status;
}
