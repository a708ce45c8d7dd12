/*
 * On every rank of a job: the plan's memory is what the trainer and the saver report, and its traffic is what MPI is given
 * to send.
 *   check_plan [NODES]
 * One machine stands for NODES: ranks share memory only within them. What the mpi transport sends is counted as if its ranks
 * stood on 1, 2 ... nodes.
 */
#include <mpi.h>
#include <unistd.h>

#include "muster/forecast.h"
#include "muster/plan.h"
#include "muster/saver.h"
#include "muster/step.h"
#include "test.h"

/* ---- what MPI is given: persistent sends, each started once a round; weights ---- */

enum { RANKS_MAX = 16 };
static double sent[RANKS_MAX]; /* bytes to each rank, a round */
static double messages[RANKS_MAX];

int MPI_Send_init(const void *buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
                  MPI_Request *request) {
    int bytes = 0;
    PMPI_Type_size(type, &bytes);
    sent[to] += (double)count * bytes;
    messages[to] += 1;
    return PMPI_Send_init(buffer, count, type, to, tag, comm, request);
}

static int emulated_nodes = 1;

static int node_of(int rank, int ranks, int nodes) {
    int node = 0;
    while (node + 1 < nodes && ranks * (node + 1) / nodes <= rank) node++;
    return node;
}

/* muster asks once, with all ranks. */
int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm *part) {
    int rank = 0, size = 0;
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    PMPI_Comm_size(MPI_COMM_WORLD, &size);
    if (type != MPI_COMM_TYPE_SHARED) return PMPI_Comm_split_type(comm, type, key, info, part);
    return PMPI_Comm_split(comm, node_of(rank, size, emulated_nodes), key, part);
}

/* ---- a config and what runs it ---- */

typedef struct job {
    mst_comm *comm;
    mst_queue *queue;
    mst_kernels kernels;
    int rank, size;
} job;

static const char model[] = "run: {name: plan, steps: 8}\n"
                            "model: {family: %s, vocab_size: 700, d_model: 64, n_layers: 3, n_heads: 4, "
                            "d_ff: 200%s}\n"
                            "data: {sources: [none.h5], seq_len: 48}\n"
                            "batch: {micro: 2, leaf: %d, lanes: %d, rounds: %d, wire: %s, transport: %s, "
                            "sharding: %s}\n"
                            "train: {precision: %s, recompute: %s}\n"
                            "optimizer: {moments: %s}\n"
                            "schedule: {kind: constant, peak: 1e-3, warmup: 0}\n"
                            "checkpoint: {async: %s}\n";

static void no_progress(void *context, bool waiting) {
    (void)context;
    (void)waiting;
}

static double reported(job *j, const mst_config *c) {
    mst_lora lora;
    mst_trainer *trainer = NULL;
    mst_saver *saver = NULL;
    char folder[64];
    snprintf(folder, sizeof folder, "plan-checkpoints-%d", j->size);
    CHECK_OK(mst_config_lora(c, &lora));
    const mst_trainer_config wanted = {.model = c->model,
                                       .lora = lora,
                                       .shape = c->batch.shape,
                                       .transport = c->batch.transport,
                                       .micro = c->batch.micro,
                                       .seq_len = c->data.seq_len,
                                       .precision = c->train.precision,
                                       .recompute = c->train.recompute,
                                       .head_rows = c->train.head_rows,
                                       .optimizer = c->optimizer,
                                       .schedule = c->schedule};
    const mst_checkpoint_context context = {
        .comm = j->comm, .queue = j->queue, .kernels = &j->kernels, .progress = no_progress};
    const mst_saver_options options = {.folder = folder, .copies = c->checkpoint.async};
    double bytes = -1;
    CHECK_OK(mst_trainer_create(&wanted, j->comm, NULL, j->queue, &j->kernels, NULL, &trainer));
    if (trainer != NULL)
        CHECK_OK(mst_saver_create(&context, mst_trainer_layout(trainer), mst_trainer_shards(trainer),
                                  &options, &saver));
    if (saver != NULL) bytes = (double)(mst_trainer_bytes(trainer) + mst_saver_bytes(saver));
    mst_saver_destroy(&saver);
    mst_trainer_destroy(&trainer);
    if (j->rank == 0) rmdir(folder);
    return bytes;
}

/* What this rank gives MPI for ranks of other nodes, summed over the ranks of each node, is the forecast's. */
static void check_traffic(job *j, const mst_config *c, mst_transport transport, int nodes) {
    mst_layout layout = {0};
    mst_traffic traffic = {0};
    double mine[2 * RANKS_MAX] = {0}, all[2 * RANKS_MAX] = {0};
    const int here = node_of(j->rank, j->size, nodes);
    for (int to = 0; to < j->size; to++)
        if (node_of(to, j->size, nodes) != here) {
            mine[2 * here] += sent[to];
            mine[2 * here + 1] += messages[to];
        }
    MPI_Allreduce(mine, all, 2 * RANKS_MAX, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    CHECK_OK(mst_config_layout(c, &layout));
    CHECK_OK(mst_traffic_of(transport, &c->batch.shape, c->train.precision, &layout,
                            (mst_placement){j->size, nodes}, &traffic));
    double out = 0, in = 0;
    for (int node = 0; node < nodes; node++) {
        /* the node transport's weights are persistent sends, too; mpi's are a collective */
        const bool counted = transport == MST_TRANSPORT_NODE;
        double node_out = counted ? traffic.publish[node].out : 0;
        double node_messages = counted ? traffic.publish[node].messages : 0;
        in += counted ? traffic.publish[node].in : 0;
        for (size_t i = 0; i < traffic.lanes * traffic.units; i++) {
            const mst_link_load *load = &traffic.round[(size_t)node * traffic.lanes * traffic.units + i];
            node_out += load->out;
            node_messages += load->messages;
            in += load->in;
        }
        out += node_out;
        CHECK(node_out == all[2 * node] && node_messages == all[2 * node + 1],
              "node %d of %d sends %.0f bytes in %.0f messages a round; the forecast has %.0f in %.0f", node,
              nodes, all[2 * node], all[2 * node + 1], node_out, node_messages);
    }
    CHECK(out == in, "nodes send %.0f bytes and receive %.0f", out, in);
    mst_traffic_clear(&traffic);
    mst_layout_clear(&layout);
}

typedef struct variant {
    const char *family, *more;
    int lanes, rounds;
    const char *wire, *transport, *precision, *async;
    int leaf;
    const char *sharding, *recompute, *moments;
    size_t rank; /* of adapters; 0: none */
} variant;

static void check_variant(job *j, const variant *v) {
    mst_config c = {0};
    mst_plan_memory memory;
    char text[1024];
    snprintf(text, sizeof text, model, v->family, v->more, v->leaf, v->lanes, v->rounds, v->wire,
             j->size == 1 ? "auto" : v->transport, v->sharding, v->precision, v->recompute, v->moments,
             v->async);
    CHECK_OK(mst_config_parse(text, "plan.yaml", NULL, 0, stderr, &c));
    CHECK_OK(mst_plan_head_rows(&c, &(mst_machine){.ranks = j->size, .nodes = emulated_nodes},
                                &c.train.head_rows));
    c.lora.rank = v->rank; /* not in the text, which would need a model to begin with */
    c.lora.alpha = 2 * (double)v->rank;
    memset(sent, 0, sizeof sent);
    memset(messages, 0, sizeof messages);
    const bool sharded =
        c.batch.shape.sharding == MST_SHARDING_ALL; /* then not all that it sends is known before */
    if (emulated_nodes > 1 && c.batch.transport == MST_TRANSPORT_SHM) c.batch.transport = MST_TRANSPORT_NODE;
    const double real = reported(j, &c);
    CHECK_OK(mst_plan_memory_of(&c, j->size, emulated_nodes, j->rank, &memory));
    CHECK(mst_plan_reported(&memory) == real, "rank %d of %d, %s %d x %d %s %s %s: plan %.0f, run %.0f bytes",
          j->rank, j->size, v->family, v->lanes, v->rounds, v->wire, v->transport, v->precision,
          mst_plan_reported(&memory), real);
    for (int nodes = 1; !sharded && j->size > 1 && c.batch.transport == MST_TRANSPORT_MPI && nodes <= j->size;
         nodes++)
        check_traffic(j, &c, MST_TRANSPORT_MPI, nodes);
    if (emulated_nodes > 1 && c.batch.transport == MST_TRANSPORT_NODE)
        check_traffic(j, &c, MST_TRANSPORT_NODE, emulated_nodes);
    mst_config_clear(&c);
}

int main(int argc, char **argv) {
    job j = {0};
    static const variant variants[] = {
        {"llama", ", n_kv_heads: 2", 1, 1, "f32", "auto", "f32", "true", 2, "state", "none", "f32", 0},
        {"llama", ", n_kv_heads: 2", 4, 1, "f32", "mpi", "bf16", "true", 2, "state", "none", "f32", 0},
        {"llama", ", tie_embeddings: true", 8, 2, "bf16", "mpi", "bf16", "false", 2, "state", "none", "f32",
         0},
        {"gpt2", ", max_seq_len: 64", 8, 1, "f32", "shm", "f32", "true", 2, "state", "none", "f32", 0},
        {"gpt2", ", max_seq_len: 64", 16, 3, "bf16", "shm", "bf16", "true", 2, "state", "none", "f32", 0},
        {"olmo2", "", 2, 2, "f32", "mpi", "f32", "true", 2, "state", "none", "f32", 0},
        {"olmo2", "", 16, 1, "f32", "auto", "bf16", "true", 2, "state", "none", "f32", 0},
        {"qwen2", ", n_kv_heads: 2", 2, 2, "bf16", "shm", "f32", "true", 2, "state", "none", "f32", 0},
        {"qwen3", ", head_dim: 32", 32, 1, "f32", "mpi", "bf16", "false", 2, "state", "none", "f32", 0},
        {"llama", ", n_kv_heads: 2", 1, 1, "f32", "auto", "f32", "true", 2, "state", "selective", "bf16", 0},
        {"olmo2", "", 4, 1, "f32", "auto", "bf16", "false", 2, "all", "full", "bf16", 0},
        {"llama", ", tie_embeddings: true", 1, 4, "bf16", "auto", "bf16", "false", 1, "all", "full", "bf16",
         0},
        {"olmo2", ", tie_embeddings: false", 2, 4, "bf16", "mpi", "bf16", "false", 1, "all", "full", "bf16",
         0},
        {"gpt2", ", max_seq_len: 64", 2, 1, "f32", "auto", "f32", "true", 1, "all", "selective", "bf16", 0},
        {"qwen2", ", n_kv_heads: 2", 4, 2, "f32", "mpi", "bf16", "true", 2, "state", "none", "f32", 8},
        {"gpt2", ", max_seq_len: 64", 8, 1, "bf16", "shm", "f32", "false", 2, "state", "selective", "bf16",
         3},
    };
    if (argc > 1) emulated_nodes = atoi(argv[1]);
    if (mst_comm_create(&j.comm) != MST_OK) {
        fprintf(stderr, "%s\n", mst_error_message());
        return 1;
    }
    j.rank = mst_comm_rank(j.comm);
    j.size = mst_comm_size(j.comm);
    CHECK_OK(mst_queue_create(1, &j.queue));
    CHECK_OK(mst_kernels_open(MST_DEVICE_CPU, NULL, &j.kernels));
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) check_variant(&j, &variants[i]);
    mst_queue_destroy(&j.queue);
    mst_comm_destroy(&j.comm);
    return test_finish("check_plan");
}
