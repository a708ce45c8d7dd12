#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* A terminal that changes nothing: the real one, behind it, does what terminals do. */
static mst_status open_terminal(relay *s) {
    mst_status status = MST_OK;
    struct termios settings;
    struct winsize size = {0};
    char name[64];
    s->from = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    MST_CHECK(s->from >= 0 && grantpt(s->from) == 0 && unlockpt(s->from) == 0 &&
                  ptsname_r(s->from, name, sizeof name) == 0,
              MST_EIO, "launch: cannot open a terminal: %s", strerror(errno));
    s->to = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    MST_CHECK(s->to >= 0, MST_EIO, "launch: cannot open a terminal: %s", strerror(errno));
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0) ioctl(s->to, TIOCSWINSZ, &size);
    if (tcgetattr(s->to, &settings) == 0) {
        cfmakeraw(&settings);
        tcsetattr(s->to, TCSANOW, &settings);
    }
done:
    return status;
}

mst_status relay_open(bool terminal, tail *lines, relay *relay_out) {
    mst_status status = MST_OK;
    int ends[2] = {-1, -1};
    relay s = {.from = -1, .to = -1, .terminal = terminal, .tail = lines};
    *relay_out = s;
    if (terminal) {
        MST_TRY(open_terminal(&s));
    } else {
        MST_CHECK(pipe2(ends, O_CLOEXEC) == 0, MST_EIO, "launch: cannot open a pipe: %s", strerror(errno));
        s.from = ends[0];
        s.to = ends[1];
    }
    MST_CHECK(fcntl(s.from, F_SETFL, O_NONBLOCK) == 0, MST_EIO, "launch: cannot set up a pipe: %s",
              strerror(errno));
    *relay_out = s;
    s.from = s.to = -1;
done:
    relay_close(&s);
    return status;
}

/* Whoever reads the standard error of launch may be slow, or gone: then it is lost, and the job goes on. */
static void put(const char *bytes, size_t count) {
    while (count > 0) {
        const ssize_t done = write(STDERR_FILENO, bytes, count);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0 && errno == EAGAIN) {
            poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, -1);
            continue;
        }
        if (done <= 0) return;
        bytes += done;
        count -= (size_t)done;
    }
}

bool relay_pass(relay *s) {
    char bytes[8192];
    for (;;) {
        const ssize_t count = read(s->from, bytes, sizeof bytes);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno == EAGAIN;
        if (count == 0) return false;
        put(bytes, (size_t)count);
        tail_take(s->tail, bytes, (size_t)count);
    }
}

void relay_resize(const relay *s) {
    struct winsize size;
    if (s->terminal && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0) ioctl(s->from, TIOCSWINSZ, &size);
}

void relay_handed(relay *s) {
    if (s->to >= 0) close(s->to);
    s->to = -1;
}

void relay_close(relay *s) {
    relay_handed(s);
    if (s->from >= 0) close(s->from);
    s->from = -1;
}
