/*
 * A job for the watchdog to guard: check_watchdog SECONDS FOLDER MODE. Each rank makes FOLDER/ready.RANK and
 * then takes steps until it is killed, or does what MODE says:
 *   loop      steps for ever (watchdog.sh kills or stops a rank)
 *   visited   steps until there is FOLDER/leave, and ends well
 *   peace     takes steps for longer than SECONDS and ends well, each rank at its own time
 *   spin      rank 2, or the only one, works for ever without progress
 *   cut       as peace, while the connection of rank 2's watchdog breaks every few steps
 *   stuck     rank 1 does not come out of a phase that the others have left
 *   deadlock  rank 1 waits for a message that nobody sends
 */
#include <mpi.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "muster/watchdog.h"
#include "test.h"

static void nap(double seconds) {
    struct timespec time = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds))};
    nanosleep(&time, NULL);
}

/* A training run takes SIGTERM for "finish the step", so mpirun cannot end it by that. */
static void ignore(int number) {
    (void)number;
}

static void make_ready_file(const char *folder, int rank) {
    char path[4096];
    snprintf(path, sizeof path, "%s/ready.%d", folder, rank);
    FILE *file = fopen(path, "w");
    CHECK(file, "%s cannot be made", path);
    if (file) fclose(file);
}

/* Rank 0 looks whether it is time to leave, for all. */
static bool may_leave(mst_comm *comm, const char *folder) {
    char path[4096];
    bool leave = false;
    snprintf(path, sizeof path, "%s/leave", folder);
    if (mst_comm_rank(comm) == 0) leave = access(path, F_OK) == 0;
    CHECK_OK(mst_comm_broadcast(comm, 0, &leave, sizeof leave));
    return leave;
}

enum { FILES_MAX = 256 };

/* Breaks the connections of this process that were not there when `before` was filled: those of the watchdog. */
static void break_connections(const bool before[FILES_MAX]) {
    for (int fd = 0; fd < FILES_MAX; fd++) {
        struct sockaddr_storage name;
        socklen_t bytes = sizeof name;
        if (before[fd] || getsockname(fd, (struct sockaddr *)&name, &bytes) != 0) continue;
        if (name.ss_family == AF_INET || name.ss_family == AF_INET6) shutdown(fd, SHUT_RDWR);
    }
}

static void note_files(bool open_out[FILES_MAX]) {
    struct sockaddr_storage name;
    for (int fd = 0; fd < FILES_MAX; fd++) {
        socklen_t bytes = sizeof name;
        open_out[fd] = getsockname(fd, (struct sockaddr *)&name, &bytes) == 0;
    }
}

static void wait_for_ever(const mst_comm *comm) {
    int never;
    MPI_Recv(&never, 1, MPI_INT, 0, 99, *(const MPI_Comm *)mst_comm_mpi(comm, false), MPI_STATUS_IGNORE);
}

static void work_for_ever(void) {
    for (volatile uint64_t turns = 0;;) turns = turns + 1;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    double seconds = strtod(argv[1], NULL);
    const char *mode = argv[3];
    mst_comm *comm = NULL;
    mst_watchdog *watchdog = NULL;
    signal(SIGTERM, ignore);
    CHECK_OK(mst_comm_create(&comm));
    if (!comm) return 1;
    int rank = mst_comm_rank(comm);
    const bool spins = strcmp(mode, "spin") == 0 && rank == (mst_comm_size(comm) > 2 ? 2 : 0);
    bool files[FILES_MAX];
    note_files(files);
    const mst_watchdog_options options = {.seconds = seconds, .device = "test device"};
    CHECK_OK(mst_watchdog_start(comm, &options, &watchdog));
    make_ready_file(argv[2], rank);
    uint64_t last = strcmp(mode, "peace") == 0 || strcmp(mode, "cut") == 0 ? (uint64_t)(1.2 * seconds / 0.02)
                                                                           : UINT64_MAX;
    for (uint64_t step = 0; step < last && test_failures == 0; step++) {
        mst_watchdog_progress(watchdog, "work", step);
        nap(0.02);
        if (spins && step == 20) {
            mst_watchdog_unit(watchdog, "work", 7, step);
            work_for_ever();
        }
        mst_watchdog_waiting(watchdog, "sum", step);
        if (rank == 2 && step % 10 == 9 && strcmp(mode, "cut") == 0) break_connections(files);
        if (step == 20 && strcmp(mode, "stuck") == 0) {
            if (rank == 1) wait_for_ever(comm);
            mst_watchdog_waiting(watchdog, "norm", step);
        }
        if (rank == 1 && step == 20 && strcmp(mode, "deadlock") == 0) {
            wait_for_ever(comm);
        }
        CHECK_OK(mst_comm_barrier(comm));
        if (strcmp(mode, "visited") == 0 && may_leave(comm, argv[2])) break;
    }
    mst_watchdog_waiting(watchdog, "leave", last);
    nap(0.2 * rank);
    mst_watchdog_destroy(&watchdog);
    CHECK(watchdog == NULL, "the watchdog is not gone");
    nap(1.2 * seconds); /* a rank that left in peace is not missed */
    mst_comm_destroy(&comm);
    return rank == 0 ? test_finish("check_watchdog") : test_failures > 0;
}
