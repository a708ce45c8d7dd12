/* limp PID PERCENT: lets a process run for so much of the time, by SIGSTOP and SIGCONT every few milliseconds, until it ends
 * or until this program gets SIGTERM; leaves it running. */
#include <signal.h>
#include <stdlib.h>
#include <time.h>

static volatile sig_atomic_t ending;

static void end(int number) {
    (void)number;
    ending = 1;
}

static void nap(long microseconds) {
    nanosleep(&(struct timespec){.tv_nsec = 1000 * microseconds}, NULL);
}

int main(int argc, char **argv) {
    enum { TURN = 10000 }; /* microseconds */
    if (argc != 3) return 2;
    const pid_t pid = (pid_t)strtol(argv[1], NULL, 10);
    const long runs = TURN * strtol(argv[2], NULL, 10) / 100;
    signal(SIGTERM, end);
    while (!ending && kill(pid, SIGSTOP) == 0) {
        nap(TURN - runs);
        kill(pid, SIGCONT);
        nap(runs);
    }
    kill(pid, SIGCONT);
    return 0;
}
