#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "muster/clock.h"

/* In the new process: becomes the program, or says by errno why not. */
static void become(const char *const *words, int out, int err, pid_t parent, int report) {
    sigset_t none;
    int code = 0;
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sigemptyset(&none);
    setpgid(0, 0); /* so that Ctrl-C reaches launch alone, which passes it on in its way */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 ||
        dup2(err, 2) < 0)
        code = errno;
    if (getppid() != parent) code = ECHILD; /* launch ended before the call above */
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (code == 0) {
        execvp(words[0], (char *const *)(uintptr_t)words);
        code = errno;
    }
    if (write(report, &code, sizeof code) < 0) code = EIO;
    _exit(127);
}

mst_status child_spawn(const char *const *words, int out, int err, pid_t *pid_out) {
    mst_status status = MST_OK;
    int report[2] = {-1, -1}, code = 0;
    const pid_t parent = getpid();
    pid_t pid = -1;
    MST_CHECK(pipe2(report, O_CLOEXEC) == 0, MST_EIO, "cannot start %s: %s", words[0], strerror(errno));
    pid = fork();
    MST_CHECK(pid >= 0, MST_EIO, "cannot start %s: %s", words[0], strerror(errno));
    if (pid == 0) become(words, out, err, parent, report[1]);
    close(report[1]);
    report[1] = -1;
    if (read(report[0], &code, sizeof code) == (ssize_t)sizeof code) waitpid(pid, NULL, 0);
    MST_CHECK(code == 0, MST_EIO, "cannot start %s: %s", words[0], strerror(code));
    *pid_out = pid;
done:
    if (report[0] >= 0) close(report[0]);
    if (report[1] >= 0) close(report[1]);
    return status;
}

/* Reads to the end of the stream or until the time is over. */
static size_t read_until(int fd, double end, char *text, size_t room) {
    size_t used = 0;
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    while (used < room) {
        const double left = end - mst_clock_now();
        if (left <= 0 || poll(&polled, 1, (int)(left * 1e3) + 1) <= 0) break;
        const ssize_t count = read(fd, text + used, room - used);
        if (count <= 0) break;
        used += (size_t)count;
    }
    return used;
}

/* The exit code of a process; -1: a signal, or not yet at `end`, and then it is killed. */
static int wait_until(pid_t pid, double end) {
    const struct timespec pause = {.tv_nsec = 5000000};
    int status = 0;
    pid_t ended;
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0 && mst_clock_now() < end) nanosleep(&pause, NULL);
    if (ended == 0) {
        kill(-pid, SIGKILL);
        waitpid(pid, &status, 0);
        return -1;
    }
    return ended == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

mst_status child_capture(const char *const *words, double seconds, char **text_out, int *exit_out) {
    enum { ROOM = 1 << 20 };
    mst_status status = MST_OK;
    int ends[2] = {-1, -1};
    pid_t pid;
    const double end = mst_clock_now() + seconds;
    *text_out = NULL;
    char *text = malloc(ROOM);
    MST_CHECK(text != NULL, MST_ENOMEM, "%s: no memory for what it says", words[0]);
    MST_CHECK(pipe2(ends, O_CLOEXEC) == 0, MST_EIO, "cannot start %s: %s", words[0], strerror(errno));
    MST_TRY(child_spawn(words, ends[1], ends[1], &pid));
    close(ends[1]);
    ends[1] = -1;
    text[read_until(ends[0], end, text, ROOM - 1)] = '\0';
    *exit_out = wait_until(pid, end);
    *text_out = text;
    text = NULL;
done:
    free(text);
    if (ends[0] >= 0) close(ends[0]);
    if (ends[1] >= 0) close(ends[1]);
    return status;
}

void child_ask(child_question *questions, size_t count, double seconds) {
    const double end = mst_clock_now() + seconds;
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    for (size_t i = 0; i < count; i++) {
        child_question *q = &questions[i];
        q->yes = false;
        if (null < 0 || child_spawn(q->words, null, null, &q->pid) != MST_OK) q->pid = -1;
    }
    for (size_t i = 0; i < count; i++)
        if (questions[i].pid > 0) questions[i].yes = wait_until(questions[i].pid, end) == 0;
    if (null >= 0) close(null);
}
