/*
 * One machine as if it were several, through MPI's profiling interface: linked into a test program, or loaded
 * into muster by LD_PRELOAD. Ranks share memory only where MST_TEST_NODES, a digit for each rank such as 0011,
 * says that they stand on the same node. Sends to other nodes are counted.
 */
#include "nodes.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { SENDS_MAX = 1 << 16 };

static struct {
    MPI_Request request;
    size_t bytes;
} sends[SENDS_MAX]; /* to other nodes */
static size_t send_count;
static nodes_traffic traffic;

int nodes_of(int rank) {
    const char *digits = getenv("MST_TEST_NODES");
    if (digits == NULL || (size_t)rank >= strlen(digits)) return 0;
    return digits[rank] - '0';
}

static int world_rank(void) {
    int rank = 0;
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

/* muster asks once, with the communicator of all ranks. */
int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm *new_comm) {
    if (type == MPI_COMM_TYPE_SHARED && getenv("MST_TEST_NODES") != NULL)
        return PMPI_Comm_split(comm, nodes_of(world_rank()), key, new_comm);
    return PMPI_Comm_split_type(comm, type, key, info, new_comm);
}

int MPI_Send_init(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
                  MPI_Request *request) {
    const int code = PMPI_Send_init(data, count, type, to, tag, comm, request);
    int size = 0;
    if (code == MPI_SUCCESS && nodes_of(to) != nodes_of(world_rank()) && send_count < SENDS_MAX) {
        PMPI_Type_size(type, &size);
        sends[send_count].request = *request;
        sends[send_count++].bytes = (size_t)count * (size_t)size;
    }
    return code;
}

int MPI_Request_free(MPI_Request *request) {
    for (size_t i = 0; i < send_count; i++)
        if (sends[i].request == *request) {
            sends[i] = sends[--send_count];
            break;
        }
    return PMPI_Request_free(request);
}

static void count(MPI_Request request) {
    for (size_t i = 0; i < send_count; i++)
        if (sends[i].request == request) {
            traffic.messages++;
            traffic.bytes += sends[i].bytes;
            return;
        }
}

int MPI_Start(MPI_Request *request) {
    count(*request);
    return PMPI_Start(request);
}

int MPI_Isend(const void *data, int count_, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request) {
    int size = 0;
    PMPI_Type_size(type, &size);
    if (nodes_of(to) != nodes_of(world_rank())) {
        traffic.messages++;
        traffic.bytes += (size_t)count_ * (size_t)size;
    }
    return PMPI_Isend(data, count_, type, to, tag, comm, request);
}

int MPI_Startall(int number, MPI_Request requests[]) {
    for (int i = 0; i < number; i++) count(requests[i]);
    return PMPI_Startall(number, requests);
}

nodes_traffic nodes_take_traffic(void) {
    const nodes_traffic taken = traffic;
    traffic = (nodes_traffic){0};
    return taken;
}
