/* Which transport suits the ranks: where they stand, what they compute on, and what the user wants. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "window.h"
#ifdef MST_NCCL
#include "nccl/library.h"
#endif

const char *mst_transport_name(mst_transport transport) {
    static const char *const names[] = {"auto", "self", "shm", "mpi", "node", "nccl", "peer"};
    return names[transport];
}

bool mst_transport_shares(mst_transport transport) {
    return transport == MST_TRANSPORT_SHM || transport == MST_TRANSPORT_NODE;
}

/* ---- ranks that share memory of the CPU ---- */

/* What suits best where the user leaves it to us: shared memory within nodes, where there is room for it
 * (containers often have 64 MiB of /dev/shm), and where it is not for weights that are sharded. */
static mst_status choose_best(mst_exchange *x, bool one_node) {
    mst_status status = MST_OK;
    size_t needed, room;
    bool all;
    x->transport = &mst_transport_mpi;
    if (x->shape.sharding == MST_SHARDING_ALL) goto done;
    if (!one_node && mst_comm_nodes(x->comm) == x->size) goto done;
    MST_TRY(mst_window_room(x, &needed, &room));
    MST_TRY(mst_comm_all(x->comm, needed <= room, &all));
    if (all) x->transport = one_node ? &mst_transport_shm : &mst_transport_node;
done:
    return status;
}

static mst_status choose_on_cpus(mst_exchange *x, mst_transport wanted) {
    mst_status status = MST_OK;
    const bool one_node = mst_comm_nodes(x->comm) == 1;
    MST_CHECK(
        wanted != MST_TRANSPORT_NCCL && wanted != MST_TRANSPORT_PEER, MST_ECONFIG,
        "exchange: transports nccl and peer are for GPUs (device.kernels: cuda); use auto, shm, node or mpi");
    MST_CHECK(wanted != MST_TRANSPORT_SHM || one_node, MST_ECONFIG,
              "exchange: transport shm is for ranks of one node, the job has %d nodes; use auto, node or mpi",
              mst_comm_nodes(x->comm));
    x->transport = wanted == MST_TRANSPORT_MPI ? &mst_transport_mpi
                   : one_node                  ? &mst_transport_shm
                                               : &mst_transport_node;
    if (wanted == MST_TRANSPORT_AUTO) MST_TRY(choose_best(x, one_node));
done:
    return status;
}

/* ---- ranks with GPUs ---- */

/* What the ranks tell each other before one of them calls NCCL, which would end in an error or a hang. */
typedef struct nccl_place {
    char device_id[sizeof((mst_kernels *)0)->device_id];
    char host_id[64];   /* what NCCL takes for the host, where NCCL_HOSTID says it */
    char obstacle[256]; /* "": there is none on this rank */
} nccl_place;

static nccl_place own_place(const mst_exchange *x) {
    nccl_place mine = {.obstacle = ""};
    const char *host_id = getenv("NCCL_HOSTID");
    if (host_id != NULL) snprintf(mine.host_id, sizeof mine.host_id, "%s", host_id);
    memcpy(mine.device_id, x->kernels->device_id, sizeof mine.device_id);
#ifdef MST_NCCL
    const mst_nccl_library *library;
    if (mst_nccl_load(&library) != MST_OK)
        snprintf(mine.obstacle, sizeof mine.obstacle, "%s", mst_error_message());
#else
    snprintf(mine.obstacle, sizeof mine.obstacle, "this muster was built without nccl.h");
#endif
    return mine;
}

/* Why NCCL cannot work, "" if it can: it wants one GPU for each rank. The same on all ranks. @param why_out [512] */
static void find_obstacle(const mst_exchange *x, const nccl_place *places, char *why_out) {
    why_out[0] = '\0';
    for (int rank = 0; rank < x->size && why_out[0] == '\0'; rank++) {
        const char *host = mst_comm_host(x->comm, rank);
        if (places[rank].obstacle[0] != '\0')
            snprintf(why_out, 512, "on rank %d (host %s): %s", rank, host, places[rank].obstacle);
        for (int other = 0; other < rank; other++)
            if (strcmp(host, mst_comm_host(x->comm, other)) == 0 &&
                strcmp(places[rank].device_id, places[other].device_id) == 0 &&
                strcmp(places[rank].host_id, places[other].host_id) == 0)
                snprintf(why_out, 512,
                         "ranks %d and %d share GPU %s of host %s; start as many ranks as there are GPUs",
                         other, rank, places[rank].device_id, host);
    }
}

static mst_status choose_on_gpus(mst_exchange *x, mst_transport wanted) {
    mst_status status = MST_OK;
    nccl_place *places = NULL;
    char why[512];
    MST_CHECK(
        wanted != MST_TRANSPORT_SHM && wanted != MST_TRANSPORT_NODE, MST_ECONFIG,
        "exchange: transports shm and node share memory of the CPU; on GPUs use auto, nccl, peer or mpi");
    MST_CHECK(wanted != MST_TRANSPORT_PEER || mst_comm_nodes(x->comm) == 1, MST_ECONFIG,
              "exchange: transport peer is for GPUs of one node, the job has %d nodes; use auto, nccl or mpi",
              mst_comm_nodes(x->comm));
    x->transport = wanted == MST_TRANSPORT_PEER ? &mst_transport_peer : &mst_transport_mpi;
    if (wanted == MST_TRANSPORT_PEER || wanted == MST_TRANSPORT_MPI) goto done;
    const nccl_place mine = own_place(x);
    MST_TRY(mst_comm_allgather_equal(x->comm, &mine, sizeof mine, (void **)&places));
    find_obstacle(x, places, why);
    MST_CHECK(wanted != MST_TRANSPORT_NCCL || why[0] == '\0', MST_ECONFIG,
              "exchange: transport nccl: %s; or use auto or mpi", why);
#ifdef MST_NCCL
    if (why[0] == '\0') x->transport = &mst_transport_nccl;
#endif
done:
    free(places);
    return status;
}

/* ---- all ranks ---- */

static mst_status check_for_sharded(mst_transport wanted) {
    mst_status status = MST_OK;
    MST_CHECK(
        wanted == MST_TRANSPORT_AUTO || wanted == MST_TRANSPORT_MPI || wanted == MST_TRANSPORT_NCCL,
        MST_ECONFIG,
        "exchange: with batch.sharding all, weights and gradients travel by mpi or nccl, not by transport "
        "%s; use auto, mpi or nccl",
        mst_transport_name(wanted));
done:
    return status;
}

/* The form of the transport that brings gradients unit by unit. */
static const mst_transport_ops *streaming(const mst_transport_ops *transport) {
#ifdef MST_NCCL
    if (transport == &mst_transport_nccl) return &mst_transport_nccl_stream;
#endif
    (void)transport;
    return &mst_transport_stream;
}

/* One rank alone needs no transport, whichever the config names:
 * the same config runs on any number of ranks. */
mst_status mst_transport_choose(mst_exchange *x, mst_transport wanted) {
    mst_status status = MST_OK;
    const bool apart = mst_memory_is_apart();
    bool gpus, cpus;
    x->transport = &mst_transport_self;
    if (x->size == 1) goto done;
    if (x->shape.sharding == MST_SHARDING_ALL) MST_TRY(check_for_sharded(wanted));
    MST_CHECK(wanted != MST_TRANSPORT_SELF, MST_ECONFIG,
              "exchange: transport self is for one rank, the job has %d; use auto, shm, node, mpi or nccl",
              x->size);
    MST_TRY(mst_comm_all(x->comm, apart, &gpus));
    MST_TRY(mst_comm_all(x->comm, !apart, &cpus));
    if (gpus) MST_TRY(choose_on_gpus(x, wanted));
    if (cpus) MST_TRY(choose_on_cpus(x, wanted));
    if (!gpus && !cpus) {
        MST_CHECK(wanted == MST_TRANSPORT_AUTO || wanted == MST_TRANSPORT_MPI, MST_ECONFIG,
                  "exchange: some ranks compute on GPUs and some on CPUs; use transport auto or mpi");
        x->transport = &mst_transport_mpi;
    }
    if (x->streams) x->transport = streaming(x->transport);
done:
    return status;
}
