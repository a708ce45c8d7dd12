#include "stop.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static const struct {
    int number;
    const char *name;
} watched[] = {
    {SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"}, {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}};
enum { WATCHED = sizeof watched / sizeof *watched };

static volatile sig_atomic_t request;    /* number of the first signal that came; 0: none */
static volatile sig_atomic_t interrupts; /* how often Ctrl-C came */
static volatile sig_atomic_t speaks;
static struct sigaction before[WATCHED];
static int watches; /* stop_watch less stop_unwatch */

/*
 * oneDNN's sgemm kernels keep the stack pointer in a buffer of theirs while they run: a handler on that stack
 * would write its frame over the heap before it. The main thread handles signals on this one; the queue's
 * threads block them.
 */
static _Alignas(64) char handler_stack[1 << 17]; /* a frame alone is 3 to 11 KiB with AVX-512 and AMX */

static void on_signal(int number) {
    if (number == SIGINT && ++interrupts > 1) {
        /* The second Ctrl-C: nothing is written on the way out, the last checkpoint stands. */
        signal(SIGINT, SIG_DFL);
        raise(SIGINT);
        return;
    }
    if (request == 0) request = number;
    /* A step can take minutes: the person at the terminal should know that the key was heard. write() is safe here. */
    static const char heard[] =
        "\nfinishing the step, then saving a checkpoint; Ctrl-C again stops at once\n";
    if (number == SIGINT && speaks && write(STDERR_FILENO, heard, sizeof heard - 1) < 0) speaks = 0;
}

void stop_watch(bool speak) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};
    const stack_t stack = {.ss_sp = handler_stack, .ss_size = sizeof handler_stack};
    speaks = speak && isatty(STDERR_FILENO);
    if (watches++ > 0) return;
    sigaltstack(&stack, NULL);
    sigemptyset(&action.sa_mask);
    request = 0;
    interrupts = 0;
    for (size_t i = 0; i < WATCHED; i++) {
        sigaction(watched[i].number, &action, &before[i]);
        /* nohup: training is to outlive its terminal */
        if (watched[i].number == SIGHUP && before[i].sa_handler == SIG_IGN) signal(SIGHUP, SIG_IGN);
    }
}

void stop_unwatch(void) {
    if (--watches > 0) return;
    for (size_t i = 0; i < WATCHED; i++) sigaction(watched[i].number, &before[i], NULL);
}

bool stop_requested(void) {
    return request != 0;
}

int stop_signal(void) {
    return request;
}

const char *stop_signal_name(int number) {
    for (size_t i = 0; i < WATCHED; i++)
        if (watched[i].number == number) return watched[i].name;
    return "";
}
