/* Memory of a rank by purpose, asked of the rooms that will allocate it. */
#include "memory.h"

#include <math.h>

#include "muster/frozen.h"
#include "muster/saver.h"
#include "muster/shared.h"

/* The process with its libraries, stacks and oneDNN's buffers: 23 to 30 MiB were measured (docs/plan.md), and the
 * drivers of a fast network take more. */
static const double program_bytes = 64.0 * 1048576;

mst_status plan_transport(const mst_config *config, int ranks, int nodes, mst_transport *transport_out) {
    mst_status status = MST_OK;
    const mst_transport wanted = config->batch.transport;
    *transport_out = MST_TRANSPORT_SELF;
    MST_CHECK(ranks >= nodes, MST_ECONFIG, "--ranks %d on --nodes %d: each node has at least one rank", ranks,
              nodes);
    if (ranks == 1) goto done;
    MST_CHECK(wanted != MST_TRANSPORT_SELF, MST_ECONFIG,
              "batch.transport is self, which is for one rank, not %d; use auto", ranks);
    MST_CHECK((wanted != MST_TRANSPORT_SHM && wanted != MST_TRANSPORT_PEER) || nodes == 1, MST_ECONFIG,
              "batch.transport is %s, which is for ranks of one node, not of %d; use auto",
              mst_transport_name(wanted), nodes);
    const bool sharded = config->batch.shape.sharding == MST_SHARDING_ALL;
    MST_CHECK(
        !sharded || wanted == MST_TRANSPORT_AUTO || wanted == MST_TRANSPORT_MPI ||
            wanted == MST_TRANSPORT_NCCL,
        MST_ECONFIG,
        "with batch.sharding all, weights and gradients travel by mpi or nccl, not by batch.transport %s; "
        "use auto, mpi or nccl",
        mst_transport_name(wanted));
    const bool gpu = config->device.kernels == MST_DEVICE_CUDA;
    MST_CHECK(!gpu || (wanted != MST_TRANSPORT_SHM && wanted != MST_TRANSPORT_NODE), MST_ECONFIG,
              "batch.transport shm and node share memory of the CPU; for GPUs use auto, nccl, peer or mpi");
    if (gpu && wanted == MST_TRANSPORT_AUTO)
        *transport_out = MST_TRANSPORT_NCCL;
    else if (sharded && wanted == MST_TRANSPORT_AUTO)
        *transport_out = MST_TRANSPORT_MPI;
    else if (wanted != MST_TRANSPORT_AUTO && wanted != MST_TRANSPORT_NODE)
        *transport_out = wanted;
    else if (nodes == 1)
        *transport_out = MST_TRANSPORT_SHM;
    else
        *transport_out =
            wanted == MST_TRANSPORT_AUTO && ranks == nodes ? MST_TRANSPORT_MPI : MST_TRANSPORT_NODE;
done:
    return status;
}

mst_status plan_layouts_init(const mst_config *config, plan_layouts *layouts_out) {
    mst_status status = MST_OK;
    plan_layouts layouts = {0};
    *layouts_out = layouts;
    MST_TRY(mst_model_layout(&config->model, &layouts.model));
    MST_TRY(mst_config_layout(config, &layouts.trained));
    *layouts_out = layouts;
    layouts = (plan_layouts){0};
done:
    plan_layouts_clear(&layouts);
    return status;
}

void plan_layouts_clear(plan_layouts *layouts) {
    mst_layout_clear(&layouts->model);
    mst_layout_clear(&layouts->trained);
}

mst_flops plan_flops(const mst_config *config, const plan_layouts *layouts) {
    const size_t seq_len = config->data.seq_len;
    return config->lora.rank > 0 ? mst_lora_flops(&config->model, &layouts->model, &layouts->trained, seq_len)
                                 : mst_model_flops(&config->model, &layouts->model, seq_len);
}

/* What a microbatch takes, the same on all ranks; bytes. */
typedef struct microbatch_need {
    double activations;
    double pinned;  /* inputs and losses, of a GPU */
    double scratch; /* of kernels, on a GPU */
    size_t head_rows;
} microbatch_need;

static mst_status microbatch_memory(const mst_config *config, const mst_layout *model,
                                    microbatch_need *need_out) {
    mst_status status = MST_OK;
    size_t bytes = 0, pinned = 0;
    mst_model_options options = {.dtype = config->train.precision,
                                 .micro = config->batch.micro,
                                 .seq_len = config->data.seq_len,
                                 .recompute = config->train.recompute,
                                 .head_rows = config->train.head_rows,
                                 .attention_workspace = mst_config_attention_workspace(config)};
    MST_TRY(mst_config_lora(config, &options.lora));
    MST_TRY(mst_model_bytes_of(&config->model, model, &options, &bytes, &pinned));
    *need_out = (microbatch_need){.activations = (double)bytes, .head_rows = mst_model_head_rows(&options)};
    if (config->device.kernels == MST_DEVICE_CUDA) {
        need_out->pinned = (double)pinned;
        need_out->scratch = (double)mst_model_scratch_of(&config->model, &options);
    }
done:
    return status;
}

/* The blocks of all units that a rank owns. */
static size_t owned_blocks(const mst_layout *layout, int rank, int size) {
    size_t first, blocks, sum = 0;
    for (size_t unit = 0; unit < layout->unit_count; unit++) {
        mst_shard_range(&layout->units[unit], rank, size, &first, &blocks);
        sum += blocks;
    }
    return sum;
}

static mst_status rank_memory(const mst_config *config, const plan_layouts *layouts, mst_transport transport,
                              microbatch_need need, mst_placement place, int rank,
                              mst_plan_memory *memory_out, size_t *slots_out) {
    mst_status status = MST_OK;
    mst_exchange_memory x;
    const bool apart = config->device.kernels == MST_DEVICE_CUDA, away = apart && config->optimizer.offload;
    const bool copies = apart || config->checkpoint.async;
    const mst_layout *layout = &layouts->trained;
    double frozen = 0;
    const double masters = (double)(owned_blocks(layout, rank, place.ranks) * MST_BLOCK * sizeof(float));
    MST_TRY(mst_exchange_memory_of(transport, &config->batch.shape, config->train.precision, layout, place,
                                   rank, apart, &x));
    const double workspaces =
        need.pinned + (double)x.copies + (away ? (double)mst_optimizer_offload_bytes() : 0);
    if (config->lora.rank > 0)
        frozen = (double)mst_shared_bytes_of(transport, place, rank,
                                             mst_frozen_bytes_of(&layouts->model, config->train.precision));
    *memory_out = (mst_plan_memory){
        .frozen = frozen,
        .weights = (double)x.weights,
        .gradients = (double)x.partial + (double)x.summed,
        .received = (double)x.received,
        .masters = masters,
        .moments = 2 * masters / sizeof(float) * (double)mst_dtype_size(config->optimizer.moments),
        .activations = need.activations,
        .scratch = need.scratch,
        .workspaces = workspaces,
        .snapshot = (double)mst_saver_bytes_of(layout, copies, config->optimizer.moments, rank, place.ranks),
        .other = (double)x.other,
        .program = program_bytes,
    };
    if (apart) {
        mst_plan_memory *m = memory_out;
        m->host = m->workspaces + m->snapshot + m->other + m->program;
        if (transport != MST_TRANSPORT_NCCL) m->host += m->received;
        if (away) m->host += m->masters + m->moments;
    }
    *slots_out = x.slots;
done:
    return status;
}

double mst_plan_reported(const mst_plan_memory *m) {
    return m->frozen + m->weights + m->gradients + m->received + m->masters + m->moments + m->activations +
           m->workspaces + m->snapshot + m->other;
}

mst_status plan_memory(const mst_config *config, const plan_layouts *layouts, mst_plan *plan) {
    mst_status status = MST_OK;
    const int ranks = plan->machine.ranks, nodes = plan->machine.nodes;
    microbatch_need need;
    MST_TRY(plan_transport(config, ranks, nodes, &plan->transport));
    MST_TRY(microbatch_memory(config, &layouts->model, &need));
    plan->head_rows = need.head_rows;
    plan->largest = -1;
    for (int node = 0, rank = 0; node < nodes; node++) {
        const int end = (int)((int64_t)ranks * (node + 1) / nodes);
        double sum = 0;
        for (; rank < end; rank++) {
            mst_plan_memory memory;
            size_t slots;
            MST_TRY(rank_memory(config, layouts, plan->transport, need, (mst_placement){ranks, nodes}, rank,
                                &memory, &slots));
            const double all = mst_plan_reported(&memory) + memory.program;
            const double on_gpu = all - memory.host + memory.scratch + plan->machine.driver;
            sum += memory.host > 0 ? memory.host : all;
            if (memory.host > 0) plan->device_bytes = fmax(plan->device_bytes, on_gpu);
            if (rank == 0) plan->first_bytes = mst_plan_reported(&memory);
            if (plan->largest >= 0 && mst_plan_reported(&memory) <= mst_plan_reported(&plan->memory))
                continue;
            plan->largest = rank;
            plan->memory = memory;
            plan->slots = slots;
        }
        plan->node_bytes = fmax(plan->node_bytes, sum);
    }
    const double needed = plan->device_bytes > 0 ? plan->device_bytes : plan->node_bytes;
    plan->fits = plan->machine.memory == 0 || needed <= plan->machine.memory;
done:
    return status;
}

mst_status mst_plan_memory_of(const mst_config *config, int ranks, int nodes, int rank,
                              mst_plan_memory *memory_out) {
    mst_status status = MST_OK;
    plan_layouts layouts = {0};
    const mst_placement place = {ranks, nodes};
    const mst_machine machine = {.ranks = ranks, .nodes = nodes};
    mst_config planned = *config; /* what it points to is the config's */
    mst_transport transport;
    microbatch_need need;
    size_t slots;
    MST_TRY(plan_transport(config, ranks, nodes, &transport));
    MST_TRY(mst_plan_head_rows(config, &machine, &planned.train.head_rows));
    MST_TRY(plan_layouts_init(config, &layouts));
    MST_TRY(microbatch_memory(&planned, &layouts.model, &need));
    MST_TRY(rank_memory(&planned, &layouts, transport, need, place, rank, memory_out, &slots));
done:
    plan_layouts_clear(&layouts);
    return status;
}
