#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "muster/clock.h"
#include "muster/process.h"
#include "muster/terminal.h"
#include "relay.h"

enum {
    STUCK_SECONDS = 10, /* from the second Ctrl-C to SIGKILL, and from the message that a rank died */
    SRUN_SECONDS = 60,  /* srun gives the others a while (KillWait, 30 s) to end by themselves */
};

static const struct {
    int number;
    const char *name;
} stopping[] = {
    {SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"}, {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}};
enum { STOPPING = sizeof stopping / sizeof *stopping };

const char *watch_signal_name(int number) {
    static char text[32];
    for (size_t i = 0; i < STOPPING; i++)
        if (stopping[i].number == number) return stopping[i].name;
    snprintf(text, sizeof text, "signal %d", number);
    return text;
}

mst_status watch_begin(double patience, watch *w) {
    sigset_t all;
    *w = (watch){.signals = -1, .patience = patience};
    sigemptyset(&all);
    for (size_t i = 0; i < STOPPING; i++) {
        struct sigaction action;
        /* nohup: what is ignored stays so */
        if (sigaction(stopping[i].number, NULL, &action) == 0 && action.sa_handler == SIG_IGN) continue;
        sigaddset(&all, stopping[i].number);
    }
    sigaddset(&all, SIGCHLD);
    sigaddset(&all, SIGWINCH);
    sigaddset(&all, SIGPIPE); /* who reads what launch says may leave */
    sigprocmask(SIG_BLOCK, &all, &w->before);
    w->signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    if (w->signals < 0) {
        sigprocmask(SIG_SETMASK, &w->before, NULL);
        return mst_error(MST_EIO, "launch: cannot listen to signals: %s", strerror(errno));
    }
    return MST_OK;
}

void watch_finish(watch *w) {
    if (w->signals < 0) return;
    close(w->signals);
    w->signals = -1;
    sigprocmask(SIG_SETMASK, &w->before, NULL);
}

/* The next signal that is there; 0: none. Notes a wish to stop. */
static int next_signal(watch *w) {
    struct signalfd_siginfo info;
    if (read(w->signals, &info, sizeof info) != (ssize_t)sizeof info) return 0;
    const int number = (int)info.ssi_signo;
    for (size_t i = 0; i < STOPPING; i++) {
        if (stopping[i].number != number) continue;
        if (number == SIGINT && w->asked == SIGINT) w->at_once = true;
        if (w->asked == 0) w->asked = number;
    }
    return number;
}

bool watch_pause(watch *w, double seconds) {
    const double end = mst_clock_now() + seconds;
    for (;;) {
        while (next_signal(w) != 0) {}
        if (w->asked != 0) return false;
        const double left = end - mst_clock_now();
        if (left <= 0) return true;
        poll(&(struct pollfd){.fd = w->signals, .events = POLLIN}, 1, (int)(left * 1e3) + 1);
    }
}

/*
 * What the ranks are to get of a signal. mpirun kills its ranks soon after SIGINT and SIGTERM, and so does srun; both pass
 * SIGUSR1 on, which asks for a checkpoint and the end. A single rank takes the signal as it is.
 */
static void pass_on(watch *w, const job_plan *plan, pid_t job, int number, double *stuck) {
    if (number == SIGWINCH || number == SIGCHLD || number == SIGPIPE) return;
    if (w->at_once && *stuck == 0) {
        *stuck = mst_clock_now() + STUCK_SECONDS;
        kill(job, plan->launcher == LAUNCHER_NONE ? SIGINT : SIGTERM);
        return;
    }
    if (w->at_once) return;
    if (plan->launcher == LAUNCHER_NONE) {
        kill(job, number);
        return;
    }
    kill(job, SIGUSR1);
    if (w->said == number) return; /* a batch script may say it every 2 s */
    w->said = number;
    fprintf(stderr, "%slaunch:%s %s: the ranks finish the step, then save a checkpoint%s\n",
            mst_terminal_style(stderr, MST_STYLE_NOTE), mst_terminal_style(stderr, MST_STYLE_PLAIN),
            watch_signal_name(number), number == SIGINT ? "; Ctrl-C again stops at once" : "");
}

/* A launcher that has seen a rank die is soon over. Open MPI 4.1 now and then is not: when a rank dies within MPI_Init, mpirun can
 * wait for ever for a lock of its own. */
static void limit_end(const job_plan *plan, const tail *said, double *stuck) {
    if (*stuck > 0 || plan->launcher == LAUNCHER_NONE || said->culprit[0] == '\0') return;
    *stuck = mst_clock_now() + (plan->launcher == LAUNCHER_SRUN ? SRUN_SECONDS : STUCK_SECONDS);
}

/* How long a rank has been stopped, as far as this process was not stopped with it. */
typedef struct stillness {
    double seconds, looked;
} stillness;

static bool is_stopped(pid_t job) {
    const mst_process process = mst_process_of(job);
    const char state = mst_process_state(&process);
    return state == 'T' || state == 't';
}

/* A rank that has no launcher has no other ranks either: nobody else would see that it is stopped. */
static void end_stopped(const watch *w, pid_t job, tail *said, stillness *still) {
    const double now = mst_clock_now(), turn = now - still->looked;
    char text[160];
    still->looked = now;
    still->seconds = is_stopped(job) ? still->seconds + (turn < 2 ? turn : 2) : 0;
    if (w->patience <= 0 || still->seconds < w->patience) return;
    snprintf(
        text, sizeof text,
        "muster: rank 0 (process %d) is stopped by a signal or a debugger, for %.0f s now: ending the job\n",
        (int)job, still->seconds);
    fputs(text, stderr);
    tail_take(said, text, strlen(text));
    kill(job, SIGKILL);
    still->seconds = 0;
}

/* Until the process has ended, and what it said is passed on. */
static int attend(watch *w, const job_plan *plan, pid_t job, relay *s) {
    int status = 0, number;
    double stuck = 0;
    bool open = true;
    const bool alone = plan->launcher == LAUNCHER_NONE && w->patience > 0;
    stillness still = {.looked = mst_clock_now()};
    struct pollfd polled[2] = {{.fd = w->signals, .events = POLLIN}, {.fd = s->from, .events = POLLIN}};
    for (;;) {
        poll(polled, 2, alone || stuck > 0 ? 1000 : -1);
        while ((number = next_signal(w)) != 0) {
            if (number == SIGWINCH) relay_resize(s);
            pass_on(w, plan, job, number, &stuck);
        }
        if (open && !relay_pass(s)) {
            open = false;
            polled[1].fd = -1;
        }
        limit_end(plan, s->tail, &stuck);
        if (alone) end_stopped(w, job, s->tail, &still);
        const pid_t ended = waitpid(job, &status, WNOHANG);
        if (ended == job || (ended < 0 && errno != EINTR)) break;
        if (stuck > 0 && mst_clock_now() > stuck) {
            fprintf(stderr, "launch: %s does not end: killed\n", job_launcher_name(plan->launcher));
            kill(-job, SIGKILL);
            stuck = mst_clock_now() + STUCK_SECONDS;
        }
    }
    if (open) relay_pass(s);
    return status;
}

mst_status watch_run(watch *w, const job_plan *plan, watch_end *end_out) {
    mst_status status = MST_OK;
    relay s = {.from = -1, .to = -1};
    pid_t job = -1;
    *end_out = (watch_end){.code = -1};
    const double begun = mst_clock_now();
    MST_TRY(relay_open(plan->launcher == LAUNCHER_NONE && isatty(STDERR_FILENO), &end_out->tail, &s));
    MST_TRY(child_spawn((const char *const *)plan->command.list, STDOUT_FILENO, s.to, &job));
    relay_handed(&s);
    const int ended = attend(w, plan, job, &s);
    if (tail_is_open(&end_out->tail)) fputc('\n', stderr);
    tail_end(&end_out->tail);
    if (WIFEXITED(ended)) end_out->code = WEXITSTATUS(ended);
    if (WIFSIGNALED(ended)) end_out->signal = WTERMSIG(ended);
    end_out->seconds = mst_clock_now() - begun;
done:
    relay_close(&s);
    return status;
}
