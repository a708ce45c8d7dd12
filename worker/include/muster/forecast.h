/* What an exchange would take, without one: memory of a rank, traffic between nodes. Pure functions of the shape. */
#ifndef MUSTER_FORECAST_H
#define MUSTER_FORECAST_H

#include "muster/exchange.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes that one rank allocates; all but `slots` together what mst_exchange_bytes would be. */
typedef struct mst_exchange_memory {
    size_t weights;  /* published; with SHM once per node, by its rank 0 */
    size_t partial;  /* sums of lanes and subtrees, and the running lane with a bf16 wire */
    size_t summed;   /* this rank's shards of the batch's gradient */
    size_t received; /* shards of other ranks' partial sums; pinned, with NCCL on the device */
    size_t copies;   /* where the device's memory is apart: what MPI sends and receives, pinned */
    size_t other;    /* norms, requests, alignment */
    size_t slots;    /* number of whole gradients in `partial` that wait or leave */
} mst_exchange_memory;

/* Ranks stand on nodes in order: node n has the ranks [ranks * n / nodes, ranks * (n + 1) / nodes). */
typedef struct mst_placement {
    int ranks, nodes;
} mst_placement;

/** The node of a rank, and the first rank of a node. */
int mst_placement_node(mst_placement place, int rank);
int mst_placement_first(mst_placement place, int node);

/** The memory of a rank's exchange. Not collective.
 * @param apart the device's memory is not the CPU's
 * @param transport none is AUTO; one rank alone is SELF, and NODE on one node SHM, whatever is given
 * @retval MST_ENOMEM, MST_EINVAL AUTO, which only running ranks can resolve */
mst_status mst_exchange_memory_of(mst_transport transport, const mst_sum_shape *shape, mst_dtype weight_dtype,
                                  const mst_layout *layout, mst_placement place, int rank, bool apart,
                                  mst_exchange_memory *memory_out);
/** Weights that a rank gathers in one pass forward and back, in blocks, with MST_SHARDING_ALL. @retval MST_ENOMEM */
mst_status mst_gathered_blocks_of(const mst_layout *layout, size_t *blocks_out);

/* What passes one node's link for one unit after one lane. */
typedef struct mst_link_load {
    double out, in; /* bytes */
    double messages;
} mst_link_load;

/* The traffic between nodes of a step. */
typedef struct mst_traffic {
    size_t nodes, units, lanes; /* lanes: the most that a rank has in a round */
    mst_link_load
        *round; /* [nodes][lanes][units]: gradients of one round that can leave, or come in, once this
                             many lanes less one are done on the ranks that send, and the unit in the next */
    mst_link_load *publish; /* [nodes]: weights of a step */
    double publish_hops;    /* messages that wait for one another */
} mst_traffic;

/** Counts it. Not collective. traffic_out is cleared by mst_traffic_clear. @param transport MPI, NCCL or NODE; with others nothing
 * leaves a node @retval MST_ENOMEM */
mst_status mst_traffic_of(mst_transport transport, const mst_sum_shape *shape, mst_dtype weight_dtype,
                          const mst_layout *layout, mst_placement place, mst_traffic *traffic_out);
void mst_traffic_clear(mst_traffic *traffic);

#ifdef __cplusplus
}
#endif
#endif
