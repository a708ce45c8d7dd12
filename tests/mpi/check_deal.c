/*
 * Training while lanes are dealt anew between steps, at random: every step's loss and gradient norm and the final
 * masters have the bits of one rank alone. Run it on any number of ranks: check_deal. MST_TEST_NODES as for
 * check_exchange.
 */
#include "../unit/data_fixture.h"
#include "muster/random.h"
#include "muster/step.h"
#include "test.h"

enum { STEPS = 12, LANES = 8, RANKS_MAX = 64 };

typedef struct job {
    mst_comm *comm, *alone;
    mst_data *data;
    mst_queue *queue;
    mst_kernels kernels;
} job;

static mst_trainer_config make_config(mst_transport transport, mst_dtype wire, size_t rounds) {
    return (mst_trainer_config){
        .model = {.family = MST_FAMILY_LLAMA,
                  .vocab_size = MST_BYTE_VOCAB,
                  .d_model = 32,
                  .n_layers = 2,
                  .n_heads = 4,
                  .n_kv_heads = 2,
                  .head_dim = 8,
                  .d_ff = 64,
                  .max_seq_len = 16,
                  .norm_eps = 1e-5,
                  .rope_theta = 1e4,
                  .rope_factor = 1,
                  .init_deviation = 0.02,
                  .tie_embeddings = true},
        .shape = {.leaf = 1, .lanes = LANES, .rounds = rounds, .wire = wire},
        .transport = transport,
        .micro = 1,
        .seq_len = 16,
        .precision = MST_BF16,
        .optimizer = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip_norm = 1},
        .schedule = {.kind = MST_SCHEDULE_CONSTANT, .peak = 3e-3, .steps = STEPS},
        .seed = 5,
    };
}

static void open_data(job *j) {
    char text[4096] = "";
    const char *const inputs[] = {"text.txt"};
    for (int i = 0; strlen(text) < 4000; i++) snprintf(text + strlen(text), 40, "%d and %d. ", i, i * i % 91);
    put_text(inputs[0], text);
    const mst_build_options build = {.inputs = inputs, .input_count = 1, .output = "tokens.h5"};
    mst_build_report report;
    CHECK_OK(mst_data_build(&build, &report));
    const mst_source_config source = {.path = "tokens.h5", .weight = 1};
    const mst_data_config config = {.sources = &source, .source_count = 1, .seq_len = 16, .seed = 5};
    CHECK_OK(mst_data_open(&config, &j->data));
}

/* The same on all ranks; some have no lane. */
static void deal_at_random(mst_trainer *t, uint64_t seed, int size) {
    size_t counts[RANKS_MAX] = {0};
    for (size_t lane = 0; lane < LANES; lane++) {
        uint32_t random[4];
        mst_random_bits(seed, MST_RANDOM_TEST, lane, 0, random);
        counts[random[0] % (uint32_t)size]++;
    }
    CHECK_OK(mst_trainer_deal(t, counts));
    CHECK(memcmp(counts, mst_trainer_lanes(t), (size_t)size * sizeof *counts) == 0, "dealt otherwise");
}

/* Trains; before each step lanes are dealt anew where the seed says so. @param seed 0: never */
static mst_trainer *train(const job *j, mst_comm *comm, const mst_trainer_config *config, uint64_t seed,
                          mst_step_report *reports) {
    mst_trainer *t = NULL;
    CHECK_OK(mst_trainer_create(config, comm, j->data, j->queue, &j->kernels, NULL, &t));
    CHECK_OK(mst_trainer_init(t));
    for (uint64_t step = 0; step < STEPS; step++) {
        mst_notice notice = {0};
        uint32_t random[4];
        mst_random_bits(seed, MST_RANDOM_TEST, step, 1, random);
        if (seed != 0 && random[0] % 2 == 0) deal_at_random(t, seed + step, mst_comm_size(comm));
        CHECK_OK(mst_trainer_step(t, &notice, &reports[step]));
    }
    return t;
}

/* This rank's masters against those of the rank alone, which has all. */
static size_t different_masters(mst_trainer *t, mst_trainer *alone) {
    size_t different = 0;
    const mst_shard *mine = mst_trainer_shards(t), *all = mst_trainer_shards(alone);
    for (size_t unit = 0; unit < mst_trainer_layout(t)->unit_count; unit++) {
        const size_t first = mine[unit].first_block * MST_BLOCK, count = mine[unit].blocks * MST_BLOCK;
        for (size_t i = 0; i < count; i++)
            different += memcmp(&mine[unit].master[i], &all[unit].master[first + i], sizeof(float)) != 0;
    }
    return different;
}

static void check_course(const job *j, mst_transport transport, mst_sharding sharding, mst_dtype wire,
                         size_t rounds, uint64_t seed) {
    mst_step_report want[STEPS], got[STEPS];
    mst_trainer_config config = make_config(MST_TRANSPORT_AUTO, wire, rounds);
    mst_trainer *alone = train(j, j->alone, &config, 0, want);
    config.transport = transport;
    config.shape.sharding = sharding;
    mst_trainer *t = train(j, j->comm, &config, seed, got);
    for (size_t step = 0; step < STEPS; step++) {
        CHECK(memcmp(&got[step].loss, &want[step].loss, sizeof(double)) == 0, "step %zu: loss %a, not %a",
              step, got[step].loss, want[step].loss);
        CHECK(memcmp(&got[step].grad_norm, &want[step].grad_norm, sizeof(double)) == 0,
              "step %zu: norm %a, not %a", step, got[step].grad_norm, want[step].grad_norm);
    }
    CHECK(got[0].loss != got[1].loss, "two steps have the same loss: the test sees nothing");
    CHECK(different_masters(t, alone) == 0, "%zu masters differ", different_masters(t, alone));
    if (mst_comm_rank(j->comm) == 0)
        printf("%d ranks, %s, wire %s, rounds %zu, dealt by seed %llu: loss %a\n", mst_comm_size(j->comm),
               mst_trainer_transport(t), mst_dtype_name(wire), rounds, (unsigned long long)seed,
               got[STEPS - 1].loss);
    mst_trainer_destroy(&t);
    mst_trainer_destroy(&alone);
}

/* What cannot be dealt is refused, and training goes on as it was. */
static void check_refusal(const job *j) {
    const mst_trainer_config config = make_config(MST_TRANSPORT_AUTO, MST_F32, 1);
    mst_trainer *t = NULL;
    mst_notice notice = {0};
    mst_step_report report;
    size_t counts[RANKS_MAX] = {LANES - 1};
    CHECK_OK(mst_trainer_create(&config, j->comm, j->data, j->queue, &j->kernels, NULL, &t));
    CHECK_OK(mst_trainer_init(t));
    CHECK_STATUS(mst_trainer_deal(t, counts), MST_EINVAL);
    CHECK_OK(mst_trainer_step(t, &notice, &report));
    mst_rebalance change = {.changed = true};
    CHECK_OK(mst_trainer_balance(t, &change));
    CHECK(!change.changed, "lanes are dealt anew, though nobody asked for it");
    mst_trainer_destroy(&t);
}

int main(void) {
    job j = {0};
    CHECK_OK(mst_comm_create(&j.comm));
    if (!j.comm) return test_finish("check_deal");
    CHECK_OK(mst_comm_create_alone(&j.alone));
    scratch_enter();
    open_data(&j);
    CHECK_OK(mst_kernels_open(MST_DEVICE_CPU, NULL, &j.kernels));
    CHECK_OK(mst_queue_create(1, &j.queue));
    if (test_failures == 0) {
        check_course(&j, MST_TRANSPORT_AUTO, MST_SHARDING_STATE, MST_F32, 1, 1);
        check_course(&j, MST_TRANSPORT_AUTO, MST_SHARDING_STATE, MST_BF16, 2, 2);
        check_course(&j, MST_TRANSPORT_MPI, MST_SHARDING_STATE, MST_BF16, 1, 3);
        check_course(&j, MST_TRANSPORT_MPI, MST_SHARDING_STATE, MST_F32, 2, 4);
        check_course(&j, MST_TRANSPORT_AUTO, MST_SHARDING_ALL, MST_BF16, 2, 5);
        check_refusal(&j);
    }
    mst_queue_destroy(&j.queue);
    mst_data_close(&j.data);
    scratch_leave();
    const int rank = mst_comm_rank(j.comm);
    mst_comm_destroy(&j.alone);
    mst_comm_destroy(&j.comm);
    return rank == 0 || test_failures ? test_finish("check_deal") : 0;
}
