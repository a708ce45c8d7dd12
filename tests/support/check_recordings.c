/* Recordings on the emulated device: that replays happen, with the bits of calls; that scratch memory which moved and algorithms
 * that were chosen anew are not used from old recordings; that work which waits cannot be recorded, and is done all the same. */
#include "cuda.h"
#include "emulation_graph.h"
#include "muster/recording.h"
#include "test.h"

enum { ROWS = 8, WIDTH = 64, COUNT = ROWS * WIDTH };

static mst_queue *queue;
static mst_kernels kernels;
static float *a, *b, *c; /* on the device */

static mst_status multiply(void *context) {
    mst_matmul_args args = {.m = ROWS,
                            .n = WIDTH,
                            .k = WIDTH,
                            .dtype = MST_F32,
                            .c_dtype = MST_F32,
                            .a = a,
                            .lda = WIDTH,
                            .b = b,
                            .ldb = WIDTH,
                            .c = c,
                            .ldc = WIDTH,
                            .accumulate = true};
    (void)context;
    return kernels.matmul(queue, &args);
}

static mst_status multiply_and_wait(void *context) {
    mst_status status = MST_OK;
    MST_TRY(multiply(context));
    MST_TRY(mst_queue_sync(queue));
done:
    return status;
}

static float *filled(size_t count, unsigned seed) {
    void *memory;
    float values[WIDTH * WIDTH];
    for (size_t i = 0; i < count; i++) values[i] = (float)((i * 2654435761u + seed) % 1999) / 1000.0f - 0.7f;
    CHECK_OK(mst_memory_alloc(MST_SPACE_DEVICE, count * sizeof *values, &memory));
    CHECK_OK(mst_memory_copy(queue, memory, values, count * sizeof *values));
    return memory;
}

/* c += a b, `times` times from 0, through recordings or by calls. */
static void sums(mst_recordings *r, mst_work_fn *work, int times, float result[COUNT]) {
    CHECK_OK(mst_memory_fill(queue, c, 0, COUNT * sizeof *c));
    for (int i = 0; i < times; i++) CHECK_OK(r ? mst_recordings_run(r, "key", work, NULL) : work(NULL));
    CHECK_OK(mst_memory_copy(queue, result, c, COUNT * sizeof *c));
}

/* So often, with so many launches of graphs and the bits of calls. */
static void check(mst_recordings *r, mst_work_fn *work, int times, size_t launches, const char *when) {
    float expected[COUNT], got[COUNT];
    sums(NULL, work, times, expected);
    const size_t before = mst_emulation_graph_launches();
    sums(r, work, times, got);
    CHECK(mst_emulation_graph_launches() - before == launches, "%s: %zu launches of %zu", when,
          mst_emulation_graph_launches() - before, launches);
    CHECK(memcmp(got, expected, sizeof got) == 0, "%s: the bits are not those of calls", when);
}

int main(void) {
    mst_recordings *r = NULL;
    mst_cuda *cuda = NULL;
    void *scratch;
    float first[COUNT], second[COUNT];
    CHECK_OK(mst_kernels_open(MST_DEVICE_CUDA, NULL, &kernels));
    CHECK_OK(mst_queue_create(1, &queue));
    a = filled(COUNT, 1);
    b = filled(WIDTH * WIDTH, 2);
    c = filled(COUNT, 3);
    CHECK_OK(mst_recordings_create(queue, 4, sizeof "key", &r));
    check(r, multiply, 4, 3, "at first");
    check(r, multiply, 4, 4, "once recorded");

    CHECK_OK(mst_cuda_of(queue, &cuda));
    CHECK_OK(mst_cuda_scratch(cuda, 2 * cuda->scratch_bytes, &scratch));
    check(r, multiply, 4, 3, "when scratch memory has moved");

    sums(NULL, multiply, 1, first);
    setenv("MST_EMULATED_ALGORITHM", "1", 1);
    CHECK_OK(mst_queue_choose(queue, ""));
    check(r, multiply, 4, 3, "when another algorithm was chosen");
    sums(NULL, multiply, 1, second);
    CHECK(memcmp(first, second, sizeof first) != 0, "the other algorithm has other bits");
    mst_recordings_destroy(&r);

    static const char *const calls[] = {"begin", "end", "instantiate", "launch"};
    for (size_t i = 0; i < 4; i++) {
        CHECK_OK(mst_recordings_create(queue, 4, sizeof "key", &r));
        setenv("MST_EMULATED_GRAPHS", calls[i], 1);
        check(r, multiply, 3, 0, calls[i]);
        CHECK(mst_recordings_failure(r), "%s: nobody says that it failed", calls[i]);
        mst_recordings_destroy(&r);
    }
    unsetenv("MST_EMULATED_GRAPHS");

    CHECK_OK(mst_recordings_create(queue, 4, sizeof "key", &r));
    check(r, multiply_and_wait, 3, 0, "work that waits");
    const char *why = mst_recordings_failure(r);
    CHECK(why && strstr(why, "not permitted when stream is capturing"), "why: %s", why ? why : "nobody says");
    check(r, multiply, 3, 0, "after a failure");
    mst_recordings_destroy(&r);
    mst_memory_free(MST_SPACE_DEVICE, &a);
    mst_memory_free(MST_SPACE_DEVICE, &b);
    mst_memory_free(MST_SPACE_DEVICE, &c);
    mst_queue_destroy(&queue);
    return test_finish("check_recordings");
}
