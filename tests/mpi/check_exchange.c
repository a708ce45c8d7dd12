/*
 * The exchange against the definition: every transport, wire, and shape of the sum gives the bits
 * that one rank gets by adding all microbatches as docs/ordered-sum.md says, however lanes are dealt; and
 * between nodes travels what that page says. Run it on any number of ranks, as if on one node or on several
 * (nodes.c): MST_TEST_NODES=0011 check_exchange cpu|ref|cuda
 */
#include <limits.h>
#include <unistd.h>

#include "muster/exchange.h"
#include "muster/forecast.h"
#include "muster/random.h"
#include "muster/transfer.h"
#include "nodes.h"
#include "test.h"

/* Units of odd sizes: with eight ranks some own nothing of some of them. */
static const size_t unit_blocks[] = {5, 1, 7};
enum { UNITS = 3, BLOCKS = 13, RANKS_MAX = 64 };

typedef struct job {
    mst_comm *comm;
    int rank, size;
    mst_layout layout;
    mst_unit units[UNITS];
    mst_queue *queue;
    mst_kernels kernels;
} job;

static void make_layout(job *j) {
    j->layout = (mst_layout){.units = j->units, .unit_count = UNITS};
    for (size_t u = 0; u < UNITS; u++) {
        j->units[u] = (mst_unit){.blocks = unit_blocks[u], .first_block = j->layout.blocks};
        j->layout.blocks += unit_blocks[u];
    }
}

/* ---- gradients, and the definition ---- */

/* Of magnitudes 2^-40 to 2^23 and both signs, so that every order of additions gives other bits; some zeros
 * of either sign, and some that overflow when they meet. */
static float gradient(size_t step, size_t microbatch, size_t element) {
    uint64_t x = (step * 4099 + microbatch) * 0x9e3779b97f4a7c15u + element * 0xc2b2ae3d27d4eb4fu;
    x ^= x >> 29, x *= 0xbf58476d1ce4e5b9u, x ^= x >> 32;
    uint32_t sign = (uint32_t)(x >> 63) << 31, mantissa = (uint32_t)(x & 0x7fffff);
    uint32_t exponent = (uint32_t)(127 - 40 + (x >> 23) % 64);
    uint32_t kind = (uint32_t)(x >> 40) % 4096;
    if (kind < 8) exponent = mantissa = 0;
    if (kind == 8) exponent = 254;
    uint32_t bits = sign | exponent << 23 | mantissa;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float round_to(mst_dtype wire, float x) {
    return wire == MST_BF16 ? mst_bf16_to_f32(mst_bf16_from_f32(x)) : x;
}

/* The sum of `lanes` lanes of a round from `first` on, by the definition: recursion halves them. */
static float tree(const mst_sum_shape *shape, size_t step, size_t round, size_t first, size_t lanes,
                  size_t element) {
    if (lanes == 1) {
        float lane = 0;
        for (size_t j = 0; j < shape->leaf; j++)
            lane += gradient(step, mst_microbatch_index(shape, round, first, j), element);
        return round_to(shape->wire, lane);
    }
    float left = tree(shape, step, round, first, lanes / 2, element);
    float right = tree(shape, step, round, first + lanes / 2, lanes / 2, element);
    return round_to(shape->wire, left + right);
}

static float expected(const mst_sum_shape *shape, size_t step, size_t element) {
    float sum = tree(shape, step, 0, 0, shape->lanes, element);
    for (size_t round = 1; round < shape->rounds; round++)
        sum += tree(shape, step, round, 0, shape->lanes, element);
    return sum;
}

/* ---- one step ---- */

/* The accumulators may be a GPU's. */
static void add_unit(const job *j, size_t step, size_t microbatch, size_t u, void *accumulator) {
    static float sum[BLOCKS * MST_BLOCK];
    const size_t first = j->units[u].first_block * MST_BLOCK, count = unit_blocks[u] * MST_BLOCK;
    CHECK_OK(mst_memory_copy(j->queue, sum, accumulator, count * sizeof *sum));
    for (size_t i = 0; i < count; i++) sum[i] += gradient(step, microbatch, first + i);
    CHECK_OK(mst_memory_copy(j->queue, accumulator, sum, count * sizeof *sum));
}

/* As a model: weights of all units, then back, weights of those within, and gradients.
 * @param units how many of them are done: all, or fewer for a rank that fails */
static void run_pass(const job *j, mst_exchange *x, size_t step, size_t microbatch, bool last,
                     void **gradients, size_t units) {
    const void *weights;
    CHECK_OK(mst_exchange_begin_pass(x, last ? MST_PASS_SUMMED : MST_PASS_BACKWARD));
    for (size_t u = 0; u < UNITS; u++) CHECK_OK(mst_exchange_acquire(x, u, &weights));
    if (j->layout.tied) CHECK_OK(mst_exchange_acquire(x, 0, &weights));
    for (size_t u = UNITS; u-- > UNITS - units;) {
        if (u > 0 && u + 1 < UNITS) CHECK_OK(mst_exchange_acquire(x, u, &weights));
        add_unit(j, step, microbatch, u, gradients[u]);
        if (last) CHECK_OK(mst_exchange_unit_done(x, u));
    }
    CHECK_OK(mst_exchange_end_pass(x));
}

/* A lane that this rank may not have: then it stands by. */
static void run_lane(const job *j, mst_exchange *x, const mst_sum_shape *shape, size_t step, size_t round,
                     size_t number, size_t units) {
    void *gradients[UNITS];
    size_t first, lanes;
    mst_exchange_lanes(x, j->rank, &first, &lanes);
    if (number < lanes) CHECK_OK(mst_exchange_begin_lane(x, round, first + number, gradients));
    for (size_t leaf = 0; leaf < shape->leaf; leaf++) {
        const bool last = leaf + 1 == shape->leaf;
        if (number < lanes) {
            const size_t microbatch = mst_microbatch_index(shape, round, first + number, leaf);
            run_pass(j, x, step, microbatch, last, gradients, units);
        } else {
            CHECK_OK(mst_exchange_begin_pass(x, last ? MST_PASS_SUMMED : MST_PASS_BACKWARD));
            CHECK_OK(mst_exchange_end_pass(x));
        }
    }
}

static void run_step(const job *j, mst_exchange *x, const mst_sum_shape *shape, size_t step) {
    for (size_t round = 0; round < shape->rounds; round++) {
        for (size_t i = 0; i < mst_exchange_most_lanes(x); i++) run_lane(j, x, shape, step, round, i, UNITS);
        CHECK_OK(mst_exchange_end_round(x, round));
    }
}

/* All elements as one array, as the definition has them.
 * The norm's order inside a block is the kernel's own. */
static void expect_all(const job *j, const mst_sum_shape *shape, size_t step, float *sum, double *norm2) {
    const size_t bytes = BLOCKS * MST_BLOCK * sizeof *sum;
    uint8_t level = 0;
    void *values = NULL, *block_norm2 = NULL;
    for (size_t i = 0; i < BLOCKS * MST_BLOCK; i++) sum[i] = expected(shape, step, i);
    CHECK_OK(mst_memory_alloc(MST_SPACE_DEVICE, bytes, &values));
    CHECK_OK(mst_memory_alloc(MST_SPACE_PINNED, BLOCKS * sizeof(double), &block_norm2));
    CHECK_OK(mst_memory_copy(j->queue, values, sum, bytes));
    const void *source = values;
    mst_ordered_sum_args args = {.count = BLOCKS * MST_BLOCK,
                                 .sources = 1,
                                 .source = &source,
                                 .level = &level,
                                 .result = values,
                                 .block_norm2 = block_norm2};
    CHECK_OK(j->kernels.ordered_sum(j->queue, &args));
    CHECK_OK(mst_queue_sync(j->queue));
    *norm2 = 0;
    for (size_t b = 0; b < BLOCKS; b++) *norm2 += ((const double *)block_norm2)[b];
    mst_memory_free(MST_SPACE_DEVICE, &values);
    mst_memory_free(MST_SPACE_PINNED, &block_norm2);
}

static void check_sum(const job *j, mst_exchange *x, const mst_sum_shape *shape, size_t step) {
    float *sum = malloc(BLOCKS * MST_BLOCK * sizeof *sum), *mine = malloc(BLOCKS * MST_BLOCK * sizeof *mine);
    double want, norm2 = -1;
    size_t wrong = 0;
    expect_all(j, shape, step, sum, &want);
    for (size_t u = 0; u < UNITS; u++) {
        size_t first, blocks;
        mst_shard_range(&j->units[u], j->rank, j->size, &first, &blocks);
        const float *right = sum + (j->units[u].first_block + first) * MST_BLOCK;
        CHECK_OK(
            mst_memory_copy(j->queue, mine, mst_exchange_gradient(x, u), blocks * MST_BLOCK * sizeof *mine));
        for (size_t i = 0; i < blocks * MST_BLOCK; i++)
            wrong += memcmp(&mine[i], &right[i], sizeof *mine) != 0;
    }
    free(sum);
    free(mine);
    CHECK(wrong == 0, "%zu elements differ", wrong);
    CHECK_OK(mst_exchange_norm2(x, &norm2));
    CHECK(memcmp(&norm2, &want, sizeof want) == 0, "norm2 %a, expected %a", norm2, want);
}

static uint16_t published(size_t step, size_t element) {
    return (uint16_t)(element * 40503u + step * 257u + 1);
}

static void check_publish(const job *j, mst_exchange *x, mst_dtype dtype, size_t step) {
    static uint16_t weights[BLOCKS * MST_BLOCK * 2];
    const size_t words = MST_BLOCK * mst_dtype_size(dtype) / sizeof *weights; /* of a block */
    size_t wrong = 0;
    for (size_t u = 0; u < UNITS; u++) {
        size_t first, blocks;
        mst_shard_range(&j->units[u], j->rank, j->size, &first, &blocks);
        for (size_t i = 0; i < blocks * words; i++) weights[i] = published(step, first * words + i + u);
        CHECK_OK(mst_memory_copy(j->queue, mst_exchange_own_weights(x, u), weights,
                                 blocks * words * sizeof *weights));
    }
    CHECK_OK(mst_exchange_publish(x));
    CHECK_OK(mst_exchange_begin_pass(x, MST_PASS_FORWARD));
    for (size_t u = 0; u < UNITS; u++) {
        const size_t count = unit_blocks[u] * words;
        const void *gathered = NULL;
        CHECK_OK(mst_exchange_acquire(x, u, &gathered));
        CHECK_OK(mst_memory_copy(j->queue, weights, gathered, count * sizeof *weights));
        for (size_t i = 0; i < count; i++) wrong += weights[i] != published(step, i + u);
    }
    CHECK_OK(mst_exchange_end_pass(x));
    CHECK(wrong == 0, "%zu halves of published weights differ", wrong);
    CHECK_OK(mst_comm_barrier(j->comm)); /* a training step has the sum between reading and writing weights */
}

/* ---- what travels between nodes ---- */

/* The maximal subtrees inside lanes [first, end): by recursion over the tree's nodes. */
static size_t subtrees(size_t root, size_t lanes, size_t first, size_t end) {
    if (root >= end || root + lanes <= first) return 0;
    if (root >= first && root + lanes <= end) return 1;
    return subtrees(root, lanes / 2, first, end) + subtrees(root + lanes / 2, lanes / 2, first, end);
}

/* Blocks and non-empty shards that ranks of other nodes own. */
static nodes_traffic owned_elsewhere(const job *j, int node) {
    nodes_traffic sum = {0};
    for (size_t u = 0; u < UNITS; u++)
        for (int rank = 0; rank < j->size; rank++) {
            size_t first, blocks;
            mst_shard_range(&j->units[u], rank, j->size, &first, &blocks);
            if (nodes_of(rank) == node) continue;
            sum.messages += blocks > 0;
            sum.bytes += blocks * MST_BLOCK;
        }
    return sum;
}

/* Of a step: each subtree of a node (`by_nodes`), or of a rank, goes to all owners on other nodes. */
static nodes_traffic gradient_traffic(const job *j, const mst_exchange *x, const mst_sum_shape *shape,
                                      bool by_nodes) {
    nodes_traffic sum = {0};
    for (int rank = 0; rank < j->size; rank++) {
        size_t first, count, end, other_first, other_count;
        mst_exchange_lanes(x, rank, &first, &count);
        end = first + count;
        bool counted = false; /* with a rank before it */
        for (int other = 0; by_nodes && other < j->size; other++) {
            if (nodes_of(other) != nodes_of(rank)) continue;
            counted |= other < rank;
            mst_exchange_lanes(x, other, &other_first, &other_count);
            if (other_count == 0) continue;
            if (count == 0 || other_first < first) first = other_first;
            if (count == 0 || other_first + other_count > end) end = other_first + other_count;
            count += other_count;
        }
        if (counted || count == 0) continue;
        const size_t pieces = subtrees(0, shape->lanes, first, end);
        const nodes_traffic elsewhere = owned_elsewhere(j, nodes_of(rank));
        sum.messages += shape->rounds * pieces * elsewhere.messages;
        sum.bytes += shape->rounds * pieces * elsewhere.bytes * mst_dtype_size(shape->wire);
    }
    return sum;
}

/* Each owner's shard goes to every other node once. */
static nodes_traffic weight_traffic(const job *j, mst_dtype weights) {
    nodes_traffic sum = {0};
    for (int node = 0; node < mst_comm_nodes(j->comm); node++) {
        const nodes_traffic elsewhere = owned_elsewhere(j, node);
        sum.messages += elsewhere.messages;
        sum.bytes += elsewhere.bytes * mst_dtype_size(weights);
    }
    return sum;
}

static void check_traffic(const job *j, const char *what, const nodes_traffic *want, nodes_traffic *sum_out) {
    const nodes_traffic mine = nodes_take_traffic();
    nodes_traffic *all = NULL;
    *sum_out = (nodes_traffic){0};
    CHECK_OK(mst_comm_allgather_equal(j->comm, &mine, sizeof mine, (void **)&all));
    for (int rank = 0; all && rank < j->size; rank++) {
        sum_out->messages += all[rank].messages;
        sum_out->bytes += all[rank].bytes;
    }
    free(all);
    CHECK(sum_out->messages == want->messages && sum_out->bytes == want->bytes,
          "%s: %zu messages, %zu bytes between nodes; expected %zu, %zu", what, sum_out->messages,
          sum_out->bytes, want->messages, want->bytes);
}

/* ---- memory ---- */

/* What an exchange of ranks of one node, with lanes dealt evenly, has allocated is what was forecast. */
static void check_memory(const job *j, const mst_exchange *x, mst_transport transport,
                         const mst_sum_shape *shape, mst_dtype weights) {
    const mst_placement place = {j->size, 1};
    mst_exchange_memory m;
    CHECK_OK(mst_exchange_memory_of(transport, shape, weights, &j->layout, place, j->rank,
                                    mst_memory_is_apart(), &m));
    const size_t all = m.weights + m.partial + m.summed + m.received + m.copies + m.other;
    CHECK(mst_exchange_bytes(x) == all, "it takes %zu bytes, the forecast was %zu", mst_exchange_bytes(x),
          all);
}

/* ---- one transport, one shape ---- */

static void check_case(const job *j, mst_transport transport, const mst_sum_shape *shape,
                       const size_t *counts, mst_dtype weights) {
    mst_exchange *x = NULL;
    int failed = test_failures;
    CHECK_OK(mst_exchange_create(j->comm, transport, shape, counts, weights, &j->layout, j->queue,
                                 &j->kernels, &x));
    if (!x) return;
    const bool by_nodes = strcmp(mst_exchange_transport(x), "node") == 0;
    const bool by_messages = transport == MST_TRANSPORT_MPI || transport == MST_TRANSPORT_NCCL;
    if (by_messages && !counts && mst_comm_nodes(j->comm) == 1) check_memory(j, x, transport, shape, weights);
    const nodes_traffic want = gradient_traffic(j, x, shape, by_nodes);
    const nodes_traffic want_published = by_nodes ? weight_traffic(j, weights) : (nodes_traffic){0};
    nodes_traffic sums, published; /* mpi publishes by a collective, which is not counted */
    for (size_t step = 0; step < 2; step++) {
        nodes_take_traffic();
        run_step(j, x, shape, step);
        check_traffic(j, "gradients", &want, &sums);
        check_sum(j, x, shape, step);
        nodes_take_traffic();
        check_publish(j, x, weights, step);
        check_traffic(j, "weights", &want_published, &published);
    }
    if (j->rank == 0 || test_failures > failed)
        printf("rank %d of %d: %s%s, wire %s, leaf %zu, lanes %zu%s, rounds %zu: %s, %zu bytes; between "
               "nodes %zu "
               "messages, %zu KiB, and %zu, %zu KiB of weights\n",
               j->rank, j->size, mst_exchange_transport(x),
               shape->sharding == MST_SHARDING_ALL ? " sharded" : "", mst_dtype_name(shape->wire),
               shape->leaf, shape->lanes, counts ? " unequal" : "", shape->rounds,
               test_failures > failed ? "FAILED" : "same bits", mst_exchange_bytes(x), sums.messages,
               sums.bytes >> 10, published.messages, published.bytes >> 10);
    mst_exchange_destroy(&x);
}

/* Lanes dealt at random, the same on all ranks; some have none. */
static void deal_at_random(uint64_t seed, size_t lanes, int size, size_t *counts) {
    uint32_t random[4];
    for (int rank = 0; rank < size; rank++) counts[rank] = 0;
    for (size_t lane = 0; lane < lanes; lane++) {
        mst_random_bits(seed, MST_RANDOM_TEST, lane, 0, random);
        counts[random[0] % (uint32_t)(size > 1 && seed % 2 ? size - 1 : size)]++;
    }
}

/* ---- failures ---- */

/* What was on its way meets no message of the ranks' own: a save may be in flight, and is still ended. */
static void check_messages(const job *j) {
    size_t bytes_of[RANKS_MAX];
    int mine = 100 + j->rank, all[RANKS_MAX] = {0};
    for (int rank = 0; rank < j->size; rank++) bytes_of[rank] = sizeof mine;
    CHECK_OK(mst_comm_gather(j->comm, &mine, bytes_of, all));
    for (int rank = 0; rank < j->size && j->rank == 0; rank++)
        CHECK(all[rank] == 100 + rank, "rank %d's message is %d", rank, all[rank]);
}

/* A rank that fails in the middle of a round: all get its message, none waits for ever,
 * and the exchange can be freed. */
static void check_failure(const job *j, mst_transport transport, mst_sharding sharding,
                          size_t lanes_of_round) {
    mst_sum_shape shape = {
        .leaf = 1, .lanes = lanes_of_round, .rounds = 1, .wire = MST_F32, .sharding = sharding};
    mst_exchange *x = NULL;
    size_t first, lanes;
    CHECK_OK(mst_exchange_create(j->comm, transport, &shape, NULL, MST_F32, &j->layout, j->queue, &j->kernels,
                                 &x));
    mst_exchange_lanes(x, j->rank, &first, &lanes);
    for (size_t i = 0; i < mst_exchange_most_lanes(x); i++) {
        const bool fails = first + i + 1 == lanes_of_round;
        run_lane(j, x, &shape, 0, 0, i, fails ? UNITS - 1 : UNITS);
    }
    CHECK_STATUS(mst_exchange_end_round(x, 0), MST_EINVAL);
    CHECK(strstr(mst_error_message(), "not complete"), "message: %s", mst_error_message());
    check_messages(j);
    mst_exchange_destroy(&x);
    mst_exchange_destroy(&x);
}

/* Calls that still go well; then all fail, as after an error of a GPU. */
static int good_sums = INT_MAX, good_copies = INT_MAX;

static mst_status countdown(int *good, const char *what) {
    if (*good == INT_MAX) return MST_OK;
    if (*good == 0) return mst_error(MST_EINTERNAL, "this %s was made to fail", what);
    --*good;
    return MST_OK;
}

static mst_status (*real_ordered_sum)(mst_queue *queue, const mst_ordered_sum_args *args);

static mst_status failing_ordered_sum(mst_queue *queue, const mst_ordered_sum_args *args) {
    const mst_status status = countdown(&good_sums, "sum");
    return status == MST_OK ? real_ordered_sum(queue, args) : status;
}

mst_status __real_mst_memory_copy_later(mst_queue *queue, void *to, const void *from, size_t bytes);
mst_status __wrap_mst_memory_copy_later(mst_queue *queue, void *to, const void *from, size_t bytes);

mst_status __wrap_mst_memory_copy_later(mst_queue *queue, void *to, const void *from, size_t bytes) {
    const mst_status status = countdown(&good_copies, "copy");
    return status == MST_OK ? __real_mst_memory_copy_later(queue, to, from, bytes) : status;
}

mst_status __real_mst_mark_wait(mst_queue *queue, mst_mark *mark);
mst_status __wrap_mst_mark_wait(mst_queue *queue, mst_mark *mark);

/* Waits fail when copies do. */
mst_status __wrap_mst_mark_wait(mst_queue *queue, mst_mark *mark) {
    int more = good_copies;
    const mst_status status = countdown(&more, "wait");
    return status == MST_OK ? __real_mst_mark_wait(queue, mark) : status;
}

/* A pass that ends where something fails, as a model's would. */
static mst_status try_pass(mst_exchange *x) {
    mst_status status = MST_OK;
    const void *weights;
    for (size_t u = 0; u < UNITS; u++) MST_TRY(mst_exchange_acquire(x, u, &weights));
    for (size_t u = UNITS; u-- > 0;) {
        if (u > 0 && u + 1 < UNITS) MST_TRY(mst_exchange_acquire(x, u, &weights));
        MST_TRY(mst_exchange_unit_done(x, u));
    }
done:
    return status;
}

/* A round as a training step has it: who has no lane, or failed, stands by. */
static mst_status try_round(const job *j, mst_exchange *x) {
    mst_status status = MST_OK;
    void *gradients[UNITS];
    size_t first, lanes;
    mst_exchange_lanes(x, j->rank, &first, &lanes);
    for (size_t i = 0; i < mst_exchange_most_lanes(x); i++) {
        const bool has = i < lanes;
        if (has && status == MST_OK) status = mst_exchange_begin_lane(x, 0, first + i, gradients);
        const mst_status begun = mst_exchange_begin_pass(x, MST_PASS_SUMMED);
        if (status == MST_OK) status = begun;
        if (has && status == MST_OK) status = try_pass(x);
        const mst_status ended = mst_exchange_end_pass(x);
        if (status == MST_OK) status = ended;
    }
    MST_TRY(mst_comm_agree(j->comm, status));
    MST_TRY(mst_exchange_end_round(x, 0));
done:
    return status;
}

/* The first rank with a lane, or the last rank, which owns blocks of all units, computes or copies so many times; then it
 * cannot. All get its message, none waits for ever. */
static void check_failing_work(const job *j, mst_transport transport, size_t lanes_of_round, bool last_rank,
                               int sums, int copies) {
    const mst_sum_shape shape = {
        .leaf = 1, .lanes = lanes_of_round, .rounds = 1, .wire = MST_BF16, .sharding = MST_SHARDING_ALL};
    mst_exchange *x = NULL;
    mst_kernels kernels = j->kernels;
    size_t first, lanes;
    real_ordered_sum = kernels.ordered_sum;
    kernels.ordered_sum = failing_ordered_sum;
    CHECK_OK(
        mst_exchange_create(j->comm, transport, &shape, NULL, MST_F32, &j->layout, j->queue, &kernels, &x));
    mst_exchange_lanes(x, j->rank, &first, &lanes);
    if (last_rank ? j->rank + 1 == j->size : lanes > 0 && first == 0) {
        good_sums = sums;
        good_copies = copies;
    }
    CHECK_STATUS(try_round(j, x), MST_EINTERNAL);
    CHECK(strstr(mst_error_message(), "was made to fail"), "message: %s", mst_error_message());
    mst_exchange_destroy(&x);
    good_sums = good_copies = INT_MAX;
}

/* Alone, in its first lane, and for others: streamed gradients, and those that are not. */
static void check_failing_ranks(const job *j, mst_transport transport) {
    static const size_t lanes[] = {1, 2, 8};
    const bool copies = mst_memory_is_apart() && transport == MST_TRANSPORT_MPI;
    const int most = transport == MST_TRANSPORT_NCCL ? 1 : UNITS; /* what else may fail is the same code */
    for (size_t i = 0; i < sizeof lanes / sizeof *lanes; i++)
        for (int good = 0; good < most; good++) {
            check_failing_work(j, transport, lanes[i], false, good, INT_MAX);
            check_failing_work(j, transport, lanes[i], true, good, INT_MAX);
            if (copies) check_failing_work(j, transport, lanes[i], false, INT_MAX, 2 * good);
        }
}

/* ---- a rank that is lost, and the others' next exchange ---- */

/* How many communicators of NCCL this rank has made so far, "new" or "smaller". */
static size_t made(const char *kind) {
    char line[64];
    size_t count = 0;
    FILE *file = fopen(getenv("MST_EMULATED_NCCL_MADE"), "r");
    while (file && fgets(line, sizeof line, file)) count += strncmp(line, kind, strlen(kind)) == 0;
    if (file) fclose(file);
    return count;
}

/* How a round and a publish come to grief. */
typedef enum loss_kind {
    LOST_IN_ROUND,   /* the rank has not computed all of its last lane; nobody waits in vain */
    LOST_MESSAGES,   /* nothing of it comes, which the others find out by waiting */
    LOST_IN_PUBLISH, /* it publishes nothing, and the others' groups wait on their streams */
    LOST_KINDS
} loss_kind;

static void set_fault(const char *what, int rank) {
    char text[32];
    snprintf(text, sizeof text, "%s:%d:1", what, rank);
    setenv("MST_EMULATED_NCCL", text, 1);
}

/* All ranks know of it at the end. */
static void lose(const job *j, mst_exchange *x, const mst_sum_shape *shape, int lost, loss_kind kind) {
    const double patience = mst_comm_patience(j->comm);
    mst_status status = MST_OK;
    size_t first, lanes;
    if (kind == LOST_IN_PUBLISH) {
        run_step(j, x, shape, 1);
        status = j->rank == lost ? mst_comm_agree(j->comm, mst_error(MST_ELIBRARY, "the GPU is broken"))
                                 : mst_exchange_publish(x);
    } else if (kind == LOST_IN_ROUND) {
        mst_exchange_lanes(x, lost, &first, &lanes);
        for (size_t i = 0; i < mst_exchange_most_lanes(x); i++)
            run_lane(j, x, shape, 1, 0, i, j->rank == lost && i + 1 == lanes ? UNITS - 1 : UNITS);
        status = mst_exchange_end_round(x, 0);
    } else {
        set_fault("loses", lost);
        mst_comm_set_patience(j->comm, 0.3);
        status = try_round(j, x);
        mst_comm_set_patience(j->comm, patience);
        unsetenv("MST_EMULATED_NCCL");
    }
    CHECK(status != MST_OK, "nobody noticed that rank %d is lost", lost);
}

/* Work on the device that waits for all of its streams. */
static void wait_for_device(const job *j) {
    void *memory = NULL;
    CHECK_OK(mst_memory_alloc(MST_SPACE_DEVICE, MST_BLOCK, &memory));
    CHECK_OK(mst_queue_sync(j->queue));
    mst_memory_free(MST_SPACE_DEVICE, &memory);
}

/* The others' bits are those of any other ranks. @param shrinks NCCL can make the communicator that they use from the former one
 * @param between an exchange of another transport comes first, which has no use for that */
static void check_rest(const job *j, mst_comm *rest, const mst_sum_shape *shape, bool shrinks, bool between) {
    job r = *j;
    mst_exchange *x = NULL;
    const size_t new = made("new"), smaller = made("smaller");
    r.comm = rest;
    r.rank = mst_comm_rank(rest);
    r.size = mst_comm_size(rest);
    for (int turn = between ? 0 : 1; turn < 2; turn++) {
        const mst_transport transport = turn == 0 ? MST_TRANSPORT_MPI : MST_TRANSPORT_NCCL;
        CHECK_OK(
            mst_exchange_create(rest, transport, shape, NULL, MST_F32, &r.layout, r.queue, &r.kernels, &x));
        if (!x) return;
        run_step(&r, x, shape, 2);
        check_sum(&r, x, shape, 2);
        check_publish(&r, x, MST_F32, 2);
        mst_exchange_destroy(&x);
    }
    const bool needs = r.size > 1 && (between || !shrinks);
    CHECK(made("new") == new + needs &&made("smaller") == smaller, "%zu new communicators, %zu smaller ones",
          made("new") - new, made("smaller") - smaller);
}

static void check_loss(const job *j, const mst_sum_shape *shape, int lost, loss_kind kind, bool refuses,
                       bool between) {
    mst_exchange *x = NULL;
    mst_comm *rest = NULL;
    const size_t smaller = made("smaller");
    const bool shrinks = !refuses && j->size > 2;
    CHECK_OK(mst_exchange_create(j->comm, MST_TRANSPORT_NCCL, shape, NULL, MST_F32, &j->layout, j->queue,
                                 &j->kernels, &x));
    if (!x) return;
    run_step(j, x, shape, 0);
    check_sum(j, x, shape, 0);
    check_publish(j, x, MST_F32, 0);
    lose(j, x, shape, lost, kind);
    CHECK_OK(mst_comm_part(j->comm, j->rank != lost, &rest));
    if (refuses) set_fault("fails", (lost + 1) % j->size); /* on one of the others */
    mst_exchange_give_up(x, rest);
    unsetenv("MST_EMULATED_NCCL");
    CHECK(made("smaller") == smaller + (rest && shrinks), "%zu smaller communicators",
          made("smaller") - smaller);
    wait_for_device(j);
    mst_exchange_destroy(&x);
    if (rest) check_rest(j, rest, shape, shrinks, between);
    mst_comm_destroy(&rest);
    CHECK_OK(mst_comm_rejoin(j->comm, j->rank != lost, MST_OK, 0));
}

/* Pieces of several lanes, and of one, which is streamed where weights are sharded. */
static void check_losses(const job *j) {
    static const size_t lanes[] = {8, 2};
    char path[256];
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/muster-made-%d", folder ? folder : "/tmp", (int)getpid());
    setenv("MST_EMULATED_NCCL_MADE", path, 1);
    for (int i = 0; i < 2; i++)
        for (int kind = 0; kind < LOST_KINDS; kind++) {
            mst_sum_shape shape = {.leaf = 1, .lanes = lanes[i], .rounds = 1, .wire = MST_F32};
            const int computing = lanes[i] < (size_t)j->size ? (int)lanes[i] : j->size;
            const int lost = (i + kind) % computing;
            check_loss(j, &shape, lost, (loss_kind)kind, i == 1 && kind == LOST_MESSAGES,
                       i == 1 && kind == LOST_IN_PUBLISH);
            shape.sharding = MST_SHARDING_ALL;
            if (kind == LOST_MESSAGES) check_loss(j, &shape, lost, (loss_kind)kind, i == 0, false);
        }
    unlink(path);
    unsetenv("MST_EMULATED_NCCL_MADE");
    if (j->rank == 0) printf("ranks that were lost: the others had the same bits\n");
}

static void check_refusals(const job *j) {
    mst_exchange *x = NULL;
    mst_sum_shape shape = {.leaf = 1, .lanes = 6, .rounds = 1, .wire = MST_F32};
    CHECK_STATUS(mst_exchange_create(j->comm, MST_TRANSPORT_AUTO, &shape, NULL, MST_F32, &j->layout, j->queue,
                                     &j->kernels, &x),
                 MST_EINVAL);
    CHECK(x == NULL, "an exchange was made");
    shape.lanes = 8;
    size_t counts[RANKS_MAX] = {7};
    CHECK_STATUS(mst_exchange_create(j->comm, MST_TRANSPORT_AUTO, &shape, counts, MST_F32, &j->layout,
                                     j->queue, &j->kernels, &x),
                 MST_EINVAL);
    CHECK(strstr(mst_error_message(), "nobody is to have the last 1"), "message: %s", mst_error_message());
    if (j->size > 1)
        CHECK_STATUS(mst_exchange_create(j->comm, MST_TRANSPORT_SELF, &shape, NULL, MST_F32, &j->layout,
                                         j->queue, &j->kernels, &x),
                     MST_ECONFIG);
    CHECK_OK(mst_exchange_create(j->comm, MST_TRANSPORT_AUTO, &shape, NULL, MST_F32, &j->layout, j->queue,
                                 &j->kernels, &x));
    void *gradients[UNITS];
    CHECK_STATUS(mst_exchange_begin_lane(x, 0, 8, gradients), MST_EINVAL);
    CHECK_STATUS(mst_exchange_unit_done(x, 0), MST_EINVAL);
    mst_exchange_destroy(&x);
}

static const mst_sum_shape shapes[] = {
    {.leaf = 1, .lanes = 1, .rounds = 1}, {.leaf = 2, .lanes = 1, .rounds = 3},
    {.leaf = 1, .lanes = 2, .rounds = 2}, {.leaf = 1, .lanes = 4, .rounds = 1},
    {.leaf = 3, .lanes = 8, .rounds = 2}, {.leaf = 1, .lanes = 16, .rounds = 1},
};

/* Weights sharded, too: gradients streamed where each rank has a lane at most, else not; also where the head uses the first
 * unit. */
static void check_sharded(job *j, mst_transport transport) {
    size_t counts[RANKS_MAX];
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            mst_sum_shape shape = shapes[s];
            shape.sharding = MST_SHARDING_ALL;
            shape.wire = bf16 ? MST_BF16 : MST_F32;
            j->layout.tied = s % 2 == 0;
            check_case(j, transport, &shape, NULL, bf16 ? MST_F32 : MST_BF16);
            deal_at_random(s * 2 + (size_t)bf16, shape.lanes, j->size, counts);
            check_case(j, transport, &shape, counts, bf16 ? MST_F32 : MST_BF16);
        }
    j->layout.tied = false;
    check_failure(j, transport, MST_SHARDING_ALL, 8);
    check_failure(j, transport, MST_SHARDING_ALL, 2);
    check_failure(j, transport, MST_SHARDING_ALL, 1);
    check_failing_ranks(j, transport);
}

/* What sharded weights travel by where the user leaves it to us, and what they cannot. */
static void check_choice_for_sharded(const job *j) {
    static const mst_transport others[] = {MST_TRANSPORT_SHM, MST_TRANSPORT_NODE, MST_TRANSPORT_PEER};
    const char *best = mst_memory_is_apart() ? "nccl" : "mpi";
    mst_sum_shape shape = {.leaf = 1, .rounds = 1, .sharding = MST_SHARDING_ALL};
    mst_exchange *x = NULL;
    for (shape.lanes = 2; shape.lanes <= 16; shape.lanes *= 8) { /* streamed, and not */
        CHECK_OK(mst_exchange_create(j->comm, MST_TRANSPORT_AUTO, &shape, NULL, MST_F32, &j->layout, j->queue,
                                     &j->kernels, &x));
        CHECK(x && strcmp(mst_exchange_transport(x), best) == 0, "auto is not %s", best);
        mst_exchange_destroy(&x);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char by[32];
        snprintf(by, sizeof by, "not by transport %s", mst_transport_name(others[i]));
        CHECK_STATUS(mst_exchange_create(j->comm, others[i], &shape, NULL, MST_F32, &j->layout, j->queue,
                                         &j->kernels, &x),
                     MST_ECONFIG);
        CHECK(strstr(mst_error_message(), "batch.sharding") && strstr(mst_error_message(), by), "message: %s",
              mst_error_message());
    }
    if (mst_memory_is_apart()) return;
    CHECK_STATUS(mst_exchange_create(j->comm, MST_TRANSPORT_NCCL, &shape, NULL, MST_F32, &j->layout, j->queue,
                                     &j->kernels, &x),
                 MST_ECONFIG);
}

/* A transport that these ranks can have. Alone it is always SELF, and one is enough. */
static bool is_possible(const job *j, mst_transport transport) {
    const bool for_gpus = transport == MST_TRANSPORT_NCCL || transport == MST_TRANSPORT_PEER;
    if (mst_memory_is_apart()) return transport == MST_TRANSPORT_MPI || (for_gpus && j->size > 1);
    if (for_gpus) return false;
    if (j->size == 1) return transport == MST_TRANSPORT_SHM;
    return transport != (mst_comm_nodes(j->comm) == 1 ? MST_TRANSPORT_NODE : MST_TRANSPORT_SHM);
}

static mst_device device_of(const char *name) {
    if (strcmp(name, "ref") == 0) return MST_DEVICE_REF;
    return strcmp(name, "cuda") == 0 ? MST_DEVICE_CUDA : MST_DEVICE_CPU;
}

int main(int argc, char **argv) {
    job j = {0};
    mst_device device = device_of(argc > 1 ? argv[1] : "cpu");
    char gpu[16];
    CHECK_OK(mst_comm_create(&j.comm));
    if (!j.comm) return test_finish("check_exchange");
    j.rank = mst_comm_rank(j.comm);
    j.size = mst_comm_size(j.comm);
    make_layout(&j);
    snprintf(gpu, sizeof gpu, "%d", mst_comm_node_rank(j.comm));
    CHECK_OK(mst_kernels_open(device, device == MST_DEVICE_CUDA ? gpu : NULL, &j.kernels));
    CHECK_OK(mst_queue_create(j.rank % 3 + 1, &j.queue));
    size_t counts[RANKS_MAX];
    for (int t = MST_TRANSPORT_SHM; t <= MST_TRANSPORT_PEER && test_failures == 0; t++) {
        if (!is_possible(&j, (mst_transport)t)) continue;
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int bf16 = 0; bf16 < 2; bf16++) {
                mst_sum_shape shape = shapes[s];
                shape.wire = bf16 ? MST_BF16 : MST_F32;
                check_case(&j, (mst_transport)t, &shape, NULL, bf16 ? MST_F32 : MST_BF16);
                deal_at_random(s * 2 + (size_t)bf16, shape.lanes, j.size, counts);
                check_case(&j, (mst_transport)t, &shape, counts, bf16 ? MST_F32 : MST_BF16);
            }
        check_failure(&j, (mst_transport)t, MST_SHARDING_STATE, 8);
        const bool shards = t == MST_TRANSPORT_MPI || t == MST_TRANSPORT_NCCL;
        if (shards && j.size > 1) check_sharded(&j, (mst_transport)t);
        if (t == MST_TRANSPORT_NCCL) check_losses(&j);
    }
    if (j.size > 1) check_choice_for_sharded(&j);
    check_refusals(&j);
    mst_queue_destroy(&j.queue);
    mst_comm_destroy(&j.comm);
    return j.rank == 0 || test_failures ? test_finish("check_exchange") : 0;
}
