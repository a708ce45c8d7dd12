/* Learning-rate schedules, and AdamW over shards that cut tensors. */
#include "muster/optimizer.h"
#include "muster/random.h"
#include "test.h"

/* ---- schedules ---- */

static void check_rate(const mst_schedule *schedule, uint64_t step, double want) {
    double rate = mst_schedule_rate(schedule, step);
    CHECK(rate == want, "kind %d, step %llu: rate %.17g, expected %.17g", schedule->kind,
          (unsigned long long)step, rate, want);
}

static void check_schedules(void) {
    mst_schedule s = {.peak = 3e-4, .min_ratio = 0.1, .warmup = 10, .decay = 20, .steps = 110};
    for (int kind = MST_SCHEDULE_CONSTANT; kind <= MST_SCHEDULE_WSD; kind++) {
        s.kind = (mst_schedule_kind)kind;
        check_rate(&s, 0, 3e-4 * 0.1);
        check_rate(&s, 9, 3e-4); /* exactly, on both sides of the border */
        check_rate(&s, 10, 3e-4);
        check_rate(&s, 110, kind == MST_SCHEDULE_CONSTANT ? 3e-4 : 3e-4 * 0.1);
        check_rate(&s, 1000000, mst_schedule_rate(&s, 110));
        for (uint64_t step = 10; step < 110; step++)
            CHECK(mst_schedule_rate(&s, step + 1) <= mst_schedule_rate(&s, step), "kind %d rises at %d", kind,
                  (int)step);
    }
    s.kind = MST_SCHEDULE_LINEAR;
    check_rate(&s, 60, 3e-4 * 0.5 + 3e-4 * 0.1 * 0.5);
    s.kind = MST_SCHEDULE_WSD;
    check_rate(&s, 90, 3e-4);
    check_rate(&s, 100, 3e-4 * 0.5 + 3e-4 * 0.1 * 0.5);
    s.warmup = 0;
    for (int kind = MST_SCHEDULE_CONSTANT; kind <= MST_SCHEDULE_WSD; kind++) {
        s.kind = (mst_schedule_kind)kind;
        check_rate(&s, 0, 3e-4);
    }
    s = (mst_schedule){.kind = MST_SCHEDULE_WSD, .peak = 1, .warmup = 50, .decay = 100, .steps = 100};
    check_rate(&s, 50, 1.0); /* a decay longer than the run begins after the warm-up */
    check_rate(&s, 75, 0.5);
}

/* The cosine is within 4 units of 2^-53, half of that in the rate, and so is the library's with its rounded
 * argument: 8 leaves room for the roundings of the sums. */
static void check_cosine(void) {
    const double pi = 0x1.921fb54442d18p1;
    mst_schedule s = {.kind = MST_SCHEDULE_COSINE, .peak = 1, .steps = 1000};
    for (uint64_t step = 0; step <= s.steps; step++) {
        double want = 0.5 * (1 + cos(pi * (double)step / 1000.0)), rate = mst_schedule_rate(&s, step);
        CHECK(fabs(rate - want) <= 8 * 0x1p-53, "step %d: %.17g, expected %.17g", (int)step, rate, want);
    }
}

/* ---- updates ---- */

enum { BLOCKS = 8, ELEMENTS = BLOCKS * MST_BLOCK, TENSORS = 3, STEPS = 3 };
static const uint64_t seed = 7;

/* One unit: a matrix of three and a half blocks, a vector, an embedding of two blocks and one element. */
static mst_tensor tensors[TENSORS] = {
    {.dims = 2, .count = 3 * MST_BLOCK + 2048, .offset = 0},
    {.dims = 1, .count = 100, .offset = 4 * MST_BLOCK},
    {.dims = 2, .count = 2 * MST_BLOCK + 1, .offset = 5 * MST_BLOCK, .embedding = true},
};
static mst_unit unit = {.tensors = TENSORS, .blocks = BLOCKS};
static const mst_layout layout = {
    .tensors = tensors, .tensor_count = TENSORS, .units = &unit, .unit_count = 1, .blocks = BLOCKS};
static mst_optimizer_config config = {
    .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .decay_embeddings = true};
static bool decays[TENSORS] = {true, false, true}; /* what these keys mean, tensor by tensor */

static bool is_padding(size_t element, bool *decay_out) {
    for (size_t t = 0; t < TENSORS; t++)
        if (element >= tensors[t].offset && element < tensors[t].offset + tensors[t].count) {
            *decay_out = decays[t];
            return false;
        }
    return true;
}

static float value_of(uint64_t stream, size_t element) {
    bool decay;
    if (is_padding(element, &decay)) return 0;
    return (float)(2 * mst_random_uniform(seed, MST_RANDOM_TEST, stream, element) - 1);
}

/* Takes the place of a table's own, which it calls. */
static mst_adamw_fn *table_adamw;
static size_t adamw_calls;
static mst_status counted_adamw(mst_queue *queue, const mst_adamw_args *args) {
    adamw_calls++;
    return table_adamw(queue, args);
}

/* Trains with the unit dealt to `size` ranks, and puts their shards together. An update is one call, however many tensors. */
static void train(const mst_kernels *table, mst_queue *queue, int size, float *master, uint16_t *weights) {
    static float gradient[ELEMENTS];
    mst_kernels kernels = *table;
    table_adamw = table->adamw;
    kernels.adamw = counted_adamw;
    adamw_calls = 0;
    for (int rank = 0; rank < size; rank++) {
        mst_optimizer *o = NULL;
        CHECK_OK(mst_optimizer_create(&config, &layout, rank, size, queue, &kernels, &o));
        mst_shard *shard = mst_optimizer_shards(o);
        size_t first = shard->first_block * MST_BLOCK, count = shard->blocks * MST_BLOCK;
        const size_t each = sizeof(float) + 2 * mst_dtype_size(config.moments);
        CHECK(mst_optimizer_bytes(o) == count * each, "%zu bytes", mst_optimizer_bytes(o));
        for (size_t i = 0; i < count; i++) shard->master[i] = value_of(100, first + i);
        for (uint64_t step = 1; step <= STEPS; step++) {
            for (size_t i = 0; i < count; i++) gradient[i] = value_of(step, first + i);
            CHECK_OK(mst_optimizer_update(o, 0, gradient, 0.25, 1e-2, step, weights + first, MST_BF16));
        }
        memcpy(master + first, shard->master, count * sizeof *master);
        mst_optimizer_destroy(&o);
    }
    CHECK(adamw_calls == (size_t)(size * STEPS), "%zu calls of %d updates", adamw_calls, size * STEPS);
}

/* AdamW written down again, in fp64, from Loshchilov and Hutter 2019. */
static double expected(size_t element) {
    double m = 0, v = 0, x = value_of(100, element);
    bool decay = false;
    if (is_padding(element, &decay)) return 0;
    for (int step = 1; step <= STEPS; step++) {
        double g = 0.25 * (double)value_of((uint64_t)step, element);
        m = 0.9 * m + 0.1 * g;
        v = 0.95 * v + 0.05 * g * g;
        double m_hat = m / (1 - pow(0.9, step)), v_hat = v / (1 - pow(0.95, step));
        x = x - 1e-2 * (m_hat / (sqrt(v_hat) + 1e-8) + (decay ? 0.1 * x : 0));
    }
    return x;
}

static void check_device(mst_device device) {
    static float alone[ELEMENTS], dealt[ELEMENTS];
    static uint16_t weights[ELEMENTS], weights_dealt[ELEMENTS];
    mst_kernels kernels;
    mst_queue *queue = NULL;
    CHECK_OK(mst_kernels_open(device, NULL, &kernels));
    CHECK_OK(mst_queue_create(2, &queue));
    train(&kernels, queue, 1, alone, weights);
    for (size_t i = 0; i < ELEMENTS; i++) {
        /* Each step: |x| <= 1.1, about ten fp32 roundings of the update (at most 1e-2
         * each) and three of x. */
        double want = expected(i), bound = STEPS * (3 * 1.1 + 10 * 1e-2) * 0x1p-24;
        CHECK(fabs((double)alone[i] - want) <= bound, "element %zu: %.9g, expected %.9g", i, (double)alone[i],
              want);
        bool decay;
        if (is_padding(i, &decay))
            CHECK(alone[i] == 0 && weights[i] == 0, "padding %zu is %g", i, (double)alone[i]);
        CHECK(weights[i] == mst_bf16_from_f32(alone[i]), "weight %zu is not its rounded master", i);
    }
    for (int size = 2; size <= 9; size++) {
        memset(weights_dealt, 0, sizeof weights_dealt);
        train(&kernels, queue, size, dealt, weights_dealt);
        CHECK(memcmp(alone, dealt, sizeof alone) == 0, "%s: masters differ on %d ranks", kernels.name, size);
        CHECK(memcmp(weights, weights_dealt, sizeof weights) == 0, "%s: weights differ on %d ranks",
              kernels.name, size);
    }
    mst_queue_destroy(&queue);
}

/* Moments in bf16: the same bits however the unit is dealt, others than with fp32, and near those. */
static void check_narrow(mst_device device) {
    static float wide[ELEMENTS], alone[ELEMENTS], dealt[ELEMENTS];
    static uint16_t weights[ELEMENTS];
    mst_kernels kernels;
    mst_queue *queue = NULL;
    double square = 0, difference = 0;
    CHECK_OK(mst_kernels_open(device, NULL, &kernels));
    CHECK_OK(mst_queue_create(2, &queue));
    train(&kernels, queue, 1, wide, weights);
    config.moments = MST_BF16;
    train(&kernels, queue, 1, alone, weights);
    for (int size = 2; size <= 9; size++) {
        train(&kernels, queue, size, dealt, weights);
        CHECK(memcmp(alone, dealt, sizeof alone) == 0, "%s, moments bf16: masters differ on %d ranks",
              kernels.name, size);
    }
    config.moments = MST_F32;
    for (size_t i = 0; i < ELEMENTS; i++) {
        const double change = (double)wide[i] - (double)value_of(100, i);
        square += change * change;
        difference += ((double)alone[i] - (double)wide[i]) * ((double)alone[i] - (double)wide[i]);
    }
    /* A rounding is off by up to 2^-7 of a moment, which earlier steps' ones are part of: a few of that of all the change. */
    CHECK(difference > 0 && difference < square * 0x1p-10, "%s: off by %.3g of the change", kernels.name,
          sqrt(difference / square));
    mst_queue_destroy(&queue);
}

static void check_write_weights(void) {
    static float weights[ELEMENTS];
    mst_kernels kernels;
    mst_queue *queue = NULL;
    mst_optimizer *o = NULL;
    CHECK_OK(mst_kernels_open(MST_DEVICE_CPU, NULL, &kernels));
    CHECK_OK(mst_queue_create(1, &queue));
    CHECK_OK(mst_optimizer_create(&config, &layout, 1, 3, queue, &kernels, &o));
    mst_shard *shard = mst_optimizer_shards(o);
    for (size_t i = 0; i < shard->blocks * MST_BLOCK; i++) shard->master[i] = (float)i + 1;
    CHECK_OK(mst_optimizer_write_weights(o, 0, weights + shard->first_block * MST_BLOCK, MST_F32));
    size_t first = shard->first_block * MST_BLOCK, end = first + shard->blocks * MST_BLOCK;
    for (size_t i = 0; i < ELEMENTS; i++) {
        float want = i >= first && i < end ? (float)(i - first) + 1 : 0;
        CHECK(weights[i] == want, "element %zu is %g, expected %g", i, (double)weights[i], (double)want);
    }
    CHECK_STATUS(mst_optimizer_update(o, 0, shard->master, 1, 1, 0, weights, MST_F32), MST_EINVAL);
    mst_optimizer_destroy(&o);
    mst_queue_destroy(&queue);
}

int main(void) {
    printf("seed %llu\n", (unsigned long long)seed);
    check_schedules();
    check_cosine();
    check_device(MST_DEVICE_REF);
    check_device(MST_DEVICE_CPU);
    config.decay_norms = decays[1] = true; /* OLMo 2's recipe */
    config.decay_embeddings = decays[2] = false;
    check_device(MST_DEVICE_REF);
    check_device(MST_DEVICE_CPU);
    check_narrow(MST_DEVICE_REF);
    check_narrow(MST_DEVICE_CPU);
    check_write_weights();
    return test_finish("test_optimizer");
}
