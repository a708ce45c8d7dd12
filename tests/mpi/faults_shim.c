/*
 * Loaded into muster by LD_PRELOAD: once there is the file FAULT_MARK, the next agreement of rank FAULT_RANK ends ill, in the
 * main thread, where a library's call could:
 *   FAULT_KIND=exit      exit(7)
 *   FAULT_KIND=segfault  writes to an address that is not there
 *   FAULT_KIND=abort     takes all memory that its limit allows, finds none, and aborts, as C++ libraries do
 *   FAULT_KIND=starve    goes on under a limit that leaves it a mebibyte more
 * The mark is removed first: it strikes once.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int MPI_Allreduce(const void *send, void *receive, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm);

/* Bytes of address space in use, as RLIMIT_AS counts them. */
static rlim_t space_in_use(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL || fscanf(file, "%lu", &pages) != 1) abort(); // NOLINT(cert-err34-c)
    fclose(file);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void limit_memory(rlim_t more) {
    const rlim_t most = space_in_use() + more;
    if (setrlimit(RLIMIT_AS, &(struct rlimit){most, most}) != 0) abort();
}

static void strike(const char *kind) {
    static volatile int *nowhere;
    if (strcmp(kind, "exit") == 0) exit(7);
    if (strcmp(kind, "segfault") == 0) *nowhere = 1;
    limit_memory(1 << 20);
    if (strcmp(kind, "abort") != 0) return;
    while (malloc(1 << 16) != NULL) continue;
    abort();
}

int MPI_Allreduce(const void *send, void *receive, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm) {
    const char *mark = getenv("FAULT_MARK"), *kind = getenv("FAULT_KIND"), *wanted = getenv("FAULT_RANK");
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (mark && kind && wanted && rank && strcmp(rank, wanted) == 0 && unlink(mark) == 0) strike(kind);
    return PMPI_Allreduce(send, receive, count, type, op, comm);
}
