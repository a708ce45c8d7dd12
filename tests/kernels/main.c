/* check_kernels: compares every body of a kernel table with the specification, or times it. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "muster/clock.h"
#include "ref.h"

/* ---------------------------------------------------------------- the operations */

typedef void check_fn(check_state *checker);

#define CHECK_ENTRY(slot) {#slot, check_##slot, bench_##slot, offsetof(mst_kernels, slot)},
static const struct {
    const char *name;
    check_fn *check, *bench;
    size_t offset;
} operations[] = {MST_KERNEL_SLOTS(CHECK_ENTRY)};

enum { OPERATIONS = sizeof operations / sizeof *operations };

/* ---------------------------------------------------------------- options */

typedef struct check_options {
    mst_device device;
    const char *level, *operation;
    uint64_t seed;
    int threads;
    bool bench, brief;
} check_options;

static void usage(FILE *stream) {
    fprintf(
        stream,
        "check_kernels [--table cpu|ref|cuda] [--level LEVEL] [--seed N] [--op SLOT] [--bench [--threads "
        "N] [--brief]]\n"
        "Compares every kernel body with the specification; --bench times it instead; --brief, once and on\n"
        "little, for trying out what reads the figures.\n"
        "Exit status: 0 all is right, 1 something is wrong, 2 wrong usage, 77 the level is not available "
        "here.\n"
        "Example: check_kernels --table cpu --level x86-64-v2 --op matmul\n");
}

static bool is_operation(const char *name) {
    for (size_t i = 0; i < OPERATIONS; i++)
        if (strcmp(operations[i].name, name) == 0) return true;
    return false;
}

static bool parse_table(const char *name, mst_device *device_out) {
    static const struct {
        const char *name;
        mst_device device;
    } tables[] = {{"cpu", MST_DEVICE_CPU}, {"ref", MST_DEVICE_REF}, {"cuda", MST_DEVICE_CUDA}};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        *device_out = tables[i].device;
        if (strcmp(name, tables[i].name) == 0) return true;
    }
    return false;
}

static bool parse(int argc, char **argv, check_options *options_out) {
    static const struct option known[] = {{"table", required_argument, NULL, 't'},
                                          {"level", required_argument, NULL, 'l'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"op", required_argument, NULL, 'o'},
                                          {"threads", required_argument, NULL, 'n'},
                                          {"bench", no_argument, NULL, 'b'},
                                          {"brief", no_argument, NULL, 'q'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    bool right = true;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case 't':
            right = right && parse_table(optarg, &options_out->device);
            break;
        case 'l':
            options_out->level = optarg;
            break;
        case 's':
            options_out->seed = strtoull(optarg, NULL, 0);
            break;
        case 'o':
            right = right && is_operation(optarg);
            options_out->operation = optarg;
            break;
        case 'n':
            options_out->threads = atoi(optarg);
            break;
        case 'b':
            options_out->bench = true;
            break;
        case 'q':
            options_out->brief = true;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            right = false;
        }
    }
    return right && optind == argc;
}

/* ---------------------------------------------------------------- the machine's peak, as measured */

enum { STREAM_BYTES = 64 << 20, STREAM_TASKS = 64 };

/* The best of so many; a GPU that was idle finds its clock meanwhile. */
static int peak_runs(const check_state *checker) {
    return is_on_gpu(checker) ? 40 : 5;
}

static mst_status copy_part(void *context, size_t task, int thread) {
    unsigned char *const *memory = context;
    size_t part = STREAM_BYTES / STREAM_TASKS;
    (void)thread;
    memcpy(memory[1] + task * part, memory[0] + task * part, part);
    return MST_OK;
}

/* The same for copies inside a GPU's memory, of 2 GiB: a call's own time is little beside that. */
static double measure_gpu_gbytes(check_state *checker) {
    const size_t bytes = (size_t)2 << 30;
    void *memory[2] = {0};
    double best = 0.0;
    for (int i = 0; i < 2; i++)
        if (mst_memory_alloc(MST_SPACE_DEVICE, bytes, &memory[i]) != MST_OK) goto done;
    for (int run = 0; run < peak_runs(checker); run++) {
        const double start = mst_clock_now();
        if (mst_memory_copy(checker->bench_queue, memory[1], memory[0], bytes) != MST_OK) break;
        const double seconds = mst_clock_now() - start;
        best = fmax(best, 2e-9 * (double)bytes / seconds);
    }
done:
    for (int i = 0; i < 2; i++) mst_memory_free(MST_SPACE_DEVICE, &memory[i]);
    return best;
}

/* Bytes per second read and written by memcpy on all threads. */
static double measure_gbytes(check_state *checker) {
    if (is_on_gpu(checker)) return measure_gpu_gbytes(checker);
    unsigned char *memory[2] = {calloc(STREAM_BYTES, 1), calloc(STREAM_BYTES, 1)};
    double best = 0.0;
    for (int run = 0; memory[0] && memory[1] && run < peak_runs(checker); run++) {
        const double start = mst_clock_now();
        if (mst_queue_for(checker->bench_queue, STREAM_TASKS, copy_part, memory) != MST_OK) break;
        const double seconds = mst_clock_now() - start;
        best = fmax(best, 2e-9 * STREAM_BYTES / seconds);
    }
    free(memory[0]);
    free(memory[1]);
    return best;
}

/* Normal deviates in a and b: products of zeros draw less power and run faster than anything else will. */
static void fill_operand(check_state *checker, mst_dtype dtype, size_t count, float *normal, void *operand) {
    mst_random_normal_args draw = {.count = count, .seed = checker->seed, .deviation = 1.0, .result = normal};
    mst_cast_args cast = {
        .count = count, .source = normal, .source_dtype = MST_F32, .result = operand, .result_dtype = dtype};
    mst_status status = checker->table.random_normal(checker->bench_queue, &draw);
    if (status == MST_OK) status = checker->table.cast(checker->bench_queue, &cast);
    if (status != MST_OK)
        fprintf(stderr, "check_kernels: the peak is measured on zeros: %s\n", mst_error_message());
}

/* The table's own matrix product of 1024^3, on a GPU 8192^3: what the device reaches at best. */
static double measure_gflops(check_state *checker, mst_dtype dtype) {
    const size_t n = timed_size(checker, 1024, 8);
    void *memory[3] = {0};
    double best = 0.0;
    for (int i = 0; i < 3; i++)
        if (mst_memory_alloc(MST_SPACE_DEVICE, n * n * sizeof(float), &memory[i]) != MST_OK) goto done;
    mst_matmul_args args = {.m = n,
                            .n = n,
                            .k = n,
                            .dtype = dtype,
                            .c_dtype = MST_F32,
                            .a = memory[0],
                            .lda = n,
                            .b = memory[1],
                            .ldb = n,
                            .c = memory[2],
                            .ldc = n};
    for (int i = 0; i < 2; i++) fill_operand(checker, dtype, n * n, memory[2], memory[i]);
    for (int run = 0; run < peak_runs(checker); run++) {
        const double start = mst_clock_now();
        if (checker->table.matmul(checker->bench_queue, &args) != MST_OK ||
            mst_queue_sync(checker->bench_queue) != MST_OK)
            break;
        const double seconds = mst_clock_now() - start;
        best = fmax(best, 2e-9 * (double)n * (double)n * (double)n / seconds);
    }
done:
    for (int i = 0; i < 3; i++) mst_memory_free(MST_SPACE_DEVICE, &memory[i]);
    return best;
}

static void measure_peaks(check_state *checker) {
    checker->peak_gbytes = measure_gbytes(checker);
    checker->peak_gflops[0] = measure_gflops(checker, MST_F32);
    checker->peak_gflops[1] = measure_gflops(checker, MST_BF16);
    printf("measured peaks on %d threads: copy %.1f GB/s; matmul f32 %.1f, bf16 %.1f GFLOP/s\n",
           mst_queue_threads(checker->bench_queue), checker->peak_gbytes, checker->peak_gflops[0],
           checker->peak_gflops[1]);
}

/* ---------------------------------------------------------------- running the checks */

/* Returns the number of failures. A check that compared nothing is one. */
static size_t check_operation(check_state *checker, size_t i) {
    checker->operation = operations[i].name;
    checker->trials = checker->values = checker->failures = 0;
    checker->worst = 0.0;
    operations[i].check(checker);
    if (checker->values == 0) {
        fprintf(stderr, "%s: the check compared nothing\n", checker->operation);
        checker->failures++;
    }
    printf("%-20s %4zu trials %8zu values, largest error %.2f of what is permitted%s\n", checker->operation,
           checker->trials, checker->values, checker->worst, checker->failures ? "  FAILED" : "");
    return checker->failures;
}

static size_t run(check_state *checker, const check_options *options) {
    size_t failed = 0;
    for (size_t i = 0; i < OPERATIONS; i++) {
        void (*body)(void) = NULL;
        memcpy(&body, (const char *)&checker->table + operations[i].offset, sizeof body);
        if (options->operation && strcmp(options->operation, operations[i].name) != 0) continue;
        if (!body) {
            fprintf(stderr, "%s: the slot is empty\n", operations[i].name);
            failed++;
        } else if (options->bench) {
            checker->operation = operations[i].name;
            checker->failures = 0;
            operations[i].bench(checker);
            failed += checker->failures > 0;
        } else {
            failed += check_operation(checker, i) > 0;
        }
    }
    return failed;
}

int main(int argc, char **argv) {
    check_options options = {.device = MST_DEVICE_CPU,
                             .seed = (uint64_t)time(NULL),
                             .threads = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    if (!parse(argc, argv, &options)) {
        usage(stderr);
        return 2;
    }
    check_state checker = {.seed = options.seed, .timed = options.bench, .brief = options.brief};
    setvbuf(stdout, NULL, _IOLBF, 0); /* what was measured is not lost when the rest is cut off */
    mst_kernels_fill_ref(&checker.ref);
    mst_status status = mst_kernels_open(options.device, options.level, &checker.table);
    if (status == MST_EUNSUPPORTED) {
        printf("skipped: %s\n", mst_error_message());
        return 77;
    }
    size_t failed = 0;
    for (int q = 0; status == MST_OK && q < QUEUES; q++) status = mst_queue_create(q + 1, &checker.queue[q]);
    if (status == MST_OK) status = mst_queue_create(options.threads, &checker.bench_queue);
    if (status == MST_OK) {
        printf("table %s (%s), seed %llu\n", checker.table.name, checker.table.class_name,
               (unsigned long long)checker.seed);
        if (options.bench) measure_peaks(&checker);
        failed = run(&checker, &options);
    } else {
        fprintf(stderr, "check_kernels: %s\n", mst_error_message());
    }
    for (int q = 0; q < QUEUES; q++) mst_queue_destroy(&checker.queue[q]);
    mst_queue_destroy(&checker.bench_queue);
    printf("check_kernels: %zu operations failed\n", failed);
    return status != MST_OK || failed > 0;
}
