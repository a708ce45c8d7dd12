/* Trials: guarded tensors, runs on several thread counts, comparison. */
#include "check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "muster/clock.h"
#include "muster/random.h"

enum { MARGIN = 256, PRINTED = 8 };

/* ---------------------------------------------------------------- random numbers */

double random_uniform(check_state *checker) {
    return mst_random_uniform(checker->seed, MST_RANDOM_TEST, checker->drawn++, 0);
}

double random_normal(check_state *checker) {
    return mst_random_normal(checker->seed, MST_RANDOM_TEST, checker->drawn++, 1, 0.0);
}

size_t random_below(check_state *checker, size_t below) {
    return (size_t)(random_uniform(checker) * (double)below);
}

/* ---------------------------------------------------------------- memory */

static void *allocate(size_t bytes) {
    void *memory = calloc(bytes + 1, 1);
    if (!memory) {
        fprintf(stderr, "check_kernels: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    return memory;
}

/* Memory that the bodies work on. */
static void *allocate_shared(const check_state *checker, size_t bytes) {
    void *memory = NULL;
    if (!is_on_gpu(checker)) return allocate(bytes);
    if (mst_memory_alloc(MST_SPACE_PINNED, bytes, &memory) == MST_OK) return memory;
    fprintf(stderr, "check_kernels: %s\n", mst_error_message());
    exit(1);
}

static void release_shared(const check_state *checker, void *memory) {
    if (is_on_gpu(checker))
        mst_memory_free(MST_SPACE_PINNED, &memory);
    else
        free(memory);
}

/* Calls the body under test and waits for it. */
static mst_status call_body(check_trial *trial, check_call_fn *call, const void *context, mst_queue *queue) {
    mst_status status = call(context, &trial->checker->table, queue, VIEW_BODY);
    return status == MST_OK ? mst_queue_sync(queue) : status;
}

void trial_begin(check_trial *trial, check_state *checker, const char *format, ...) {
    va_list args;
    *trial = (check_trial){.checker = checker};
    va_start(args, format);
    vsnprintf(trial->label, sizeof trial->label, format, args);
    va_end(args);
    checker->trials++;
}

void trial_end(check_trial *trial) {
    for (size_t i = 0; i < trial->tensor_count; i++) {
        check_tensor *x = &trial->tensors[i];
        free(x->bound);
        free(x->squares);
        if (x->aliased) continue;
        release_shared(trial->checker, x->memory);
        free(x->initial);
        free(x->result);
        free(x->exact);
    }
    for (size_t i = 0; i < trial->array_count; i++) release_shared(trial->checker, trial->arrays[i]);
    for (size_t i = 0; i < trial->copy_count; i++) mst_memory_free(MST_SPACE_DEVICE, &trial->copies[i]);
}

const void *trial_at_device(check_trial *trial, const void *array, size_t bytes) {
    void *copy = NULL;
    if (!is_on_gpu(trial->checker)) return array;
    if (trial->copy_count == MAX_ARRAYS) abort();
    if (mst_memory_alloc(MST_SPACE_DEVICE, bytes, &copy) != MST_OK ||
        mst_memory_copy(trial->checker->bench_queue, copy, array, bytes) != MST_OK) {
        fprintf(stderr, "check_kernels: %s\n", mst_error_message());
        exit(1);
    }
    return trial->copies[trial->copy_count++] = copy;
}

static check_tensor *next_tensor(check_trial *trial) {
    if (trial->tensor_count == MAX_TENSORS) abort();
    return &trial->tensors[trial->tensor_count++];
}

check_tensor *trial_tensor(check_trial *trial, const char *name, check_role role, mst_dtype dtype,
                           size_t rows, size_t cols, size_t ld) {
    check_tensor *x = next_tensor(trial);
    size_t size = mst_dtype_size(dtype),
           shift = trial->checker->timed || trial->checker->aligned ? 0 : trial->checker->trials * 7 % 16;
    size_t extent = rows > 0 ? (rows - 1) * ld + cols : 0; /* the last row has no padding */
    *x = (check_tensor){
        .trial = trial, .name = name, .role = role, .dtype = dtype, .rows = rows, .cols = cols, .ld = ld};
    x->exact_ld = ld;
    x->offset = MARGIN + shift * size;
    x->bytes = x->offset + extent * size + MARGIN;
    x->memory = allocate_shared(trial->checker, x->bytes);
    x->initial = allocate(x->bytes);
    memset(x->initial, 0xff, x->bytes); /* NaN in every dtype */
    return x;
}

check_tensor *trial_alias(check_trial *trial, const char *name, check_tensor *of, mst_dtype dtype,
                          size_t ld) {
    check_tensor *x = next_tensor(trial);
    *x = *of;
    x->name = name;
    x->role = ROLE_OUT;
    x->dtype = dtype;
    x->ld = ld;
    x->aliased = true;
    of->role = ROLE_SCRATCH;
    return x;
}

static void *trial_array(check_trial *trial, size_t bytes) {
    if (bytes == 0) bytes = 1;
    /* not a byte more: the address sanitizer watches the end */
    void *memory = is_on_gpu(trial->checker) ? allocate_shared(trial->checker, bytes) : malloc(bytes);
    if (!memory || trial->array_count == MAX_ARRAYS) abort();
    return trial->arrays[trial->array_count++] = memory;
}

int32_t *trial_ints(check_trial *trial, size_t count) {
    return trial_array(trial, count * sizeof(int32_t));
}

float *trial_floats(check_trial *trial, size_t count) {
    return trial_array(trial, count * sizeof(float));
}

const int32_t *trial_starts(check_trial *trial, size_t rows, size_t seq_len, const size_t *lengths) {
    if (!lengths) return NULL;
    int32_t *starts = trial_ints(trial, rows);
    size_t next = 0;
    for (size_t r = 0; r < rows;) {
        size_t begin = r % seq_len;
        for (size_t left = lengths[next]; left > 0 && r < rows && r % seq_len >= begin; left--)
            starts[r++] = (int32_t)begin;
        next = lengths[next + 1] > 0 ? next + 1 : 0;
    }
    return starts;
}

/* ---------------------------------------------------------------- elements */

static double element_load(const check_tensor *x, const unsigned char *image, size_t row, size_t col) {
    const unsigned char *at = image + x->offset + (row * x->ld + col) * mst_dtype_size(x->dtype);
    uint16_t half;
    float single;
    double value;
    switch (x->dtype) {
    case MST_F64:
        memcpy(&value, at, sizeof value);
        return value;
    case MST_F32:
        memcpy(&single, at, sizeof single);
        return single;
    default:
        memcpy(&half, at, sizeof half);
        return x->words ? half : (double)mst_bf16_to_f32(half);
    }
}

void tensor_set(check_tensor *x, size_t row, size_t col, double value) {
    unsigned char *at = x->initial + x->offset + (row * x->ld + col) * mst_dtype_size(x->dtype);
    float single = (float)value;
    uint16_t half = mst_bf16_from_f32(single);
    switch (x->dtype) {
    case MST_F64:
        memcpy(at, &value, sizeof value);
        break;
    case MST_F32:
        memcpy(at, &single, sizeof single);
        break;
    default:
        memcpy(at, &half, sizeof half);
        break;
    }
}

double tensor_initial(const check_tensor *x, size_t row, size_t col) {
    return element_load(x, x->initial, row, col);
}

double tensor_result(const check_tensor *x, size_t row, size_t col) {
    return element_load(x, x->result, row, col);
}

static double draw(check_state *checker, check_flavour flavour) {
    double z = random_normal(checker);
    switch (flavour) {
    case WIDE:
        return ldexp(z, (int)random_below(checker, 31) - 20);
    case DENORMAL:
        return random_uniform(checker) < 0.5 ? z * 0x1p-128 : z;
    default:
        return z;
    }
}

/* Tensors of more elements, which are only timed, repeat them. */
enum { DRAWN = 1 << 18 };

void tensor_fill(check_tensor *x, check_flavour flavour, double scale) {
    const size_t count = x->rows * x->cols, size = mst_dtype_size(x->dtype);
    const size_t drawn = x->ld == x->cols && count > DRAWN ? DRAWN : count;
    unsigned char *first = x->initial + x->offset;
    for (size_t i = 0; i < drawn; i++)
        tensor_set(x, i / x->cols, i % x->cols, scale * draw(x->trial->checker, flavour));
    for (size_t i = drawn; i < count; i += DRAWN)
        memcpy(first + i * size, first, (count - i < DRAWN ? count - i : DRAWN) * size);
}

void *tensor_at(const check_tensor *x, check_view view) {
    if (!x) return NULL;
    return view == VIEW_F64 ? (void *)x->exact : (void *)(x->memory + x->offset);
}

size_t tensor_ld(const check_tensor *x, check_view view) {
    return !x ? 0 : view == VIEW_F64 ? x->exact_ld : x->ld;
}

/* ---------------------------------------------------------------- runs */

void trial_fail(check_trial *trial, const char *format, ...) {
    check_state *checker = trial->checker;
    if (checker->failures++ >= PRINTED) return;
    va_list args;
    fprintf(stderr, "%s, %s: ", checker->operation, trial->label);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static bool is_output(const check_tensor *x) {
    return x->role == ROLE_OUT || x->role == ROLE_INOUT;
}

static void restore(check_trial *trial) {
    for (size_t i = 0; i < trial->tensor_count; i++) {
        check_tensor *x = &trial->tensors[i];
        if (!x->aliased) memcpy(x->memory, x->initial, x->bytes);
    }
}

/* May the byte at `position` change? Only inside the rows of an output, or between the margins of scratch. */
static bool may_change(const check_tensor *x, size_t position) {
    size_t size = mst_dtype_size(x->dtype);
    if (x->role == ROLE_IN || position < x->offset || position >= x->bytes - MARGIN) return false;
    return x->role == ROLE_SCRATCH || (position - x->offset) / size % x->ld < x->cols;
}

static void check_edges(check_trial *trial) {
    for (size_t i = 0; i < trial->tensor_count; i++) {
        const check_tensor *x = &trial->tensors[i];
        if (x->aliased || memcmp(x->memory, x->initial, x->bytes) == 0) continue;
        for (size_t at = 0; at < x->bytes; at++) {
            if (x->memory[at] == x->initial[at] || may_change(x, at)) continue;
            trial_fail(trial, "%s: byte %td from its start was written but must not be", x->name,
                       (ptrdiff_t)at - (ptrdiff_t)x->offset);
            break;
        }
    }
}

static void check_same_bits(check_trial *trial, int threads) {
    for (size_t i = 0; i < trial->tensor_count; i++) {
        const check_tensor *x = &trial->tensors[i];
        size_t size = mst_dtype_size(x->dtype);
        for (size_t r = 0; is_output(x) && r < x->rows; r++) {
            size_t at = x->offset + r * x->ld * size;
            if (memcmp(x->memory + at, x->result + at, x->cols * size) == 0) continue;
            trial_fail(trial, "%s: row %zu has other bits on %d threads than on 1", x->name, r, threads);
            break;
        }
    }
}

/* Copies of all memory, after the first run; aliases share them. */
static void keep_results(check_trial *trial) {
    for (size_t i = 0; i < trial->tensor_count; i++) {
        check_tensor *x = &trial->tensors[i];
        if (x->aliased) continue;
        free(x->result); /* of an earlier run of the same trial */
        x->result = allocate(x->bytes);
        memcpy(x->result, x->memory, x->bytes);
        for (size_t j = i + 1; j < trial->tensor_count; j++)
            if (trial->tensors[j].memory == x->memory) trial->tensors[j].result = x->result;
    }
}

/* Allocates `exact`, `bound` and `squares`, and widens the inputs. */
static void widen(check_trial *trial) {
    for (size_t i = 0; i < trial->tensor_count; i++) {
        check_tensor *x = &trial->tensors[i];
        free(x->bound);
        free(x->squares);
        x->bound = allocate(x->rows * x->cols * sizeof(double));
        x->squares = allocate(x->rows * x->cols * sizeof(double));
        if (x->aliased) continue;
        free(x->exact);
        x->exact = allocate(x->rows * x->ld * sizeof(double));
        for (size_t r = 0; r < x->rows; r++)
            for (size_t c = 0; c < x->cols; c++) *tensor_exact(x, r, c) = tensor_initial(x, r, c);
        for (size_t j = i + 1; j < trial->tensor_count; j++)
            if (trial->tensors[j].memory == x->memory) trial->tensors[j].exact = x->exact;
    }
}

static mst_status run_reference(check_trial *trial, check_call_fn *call, const void *context,
                                check_reference reference) {
    const mst_kernels *ref = &trial->checker->ref;
    if (reference == REFERENCE_F64) return call(context, ref, trial->checker->queue[0], VIEW_F64);
    restore(trial);
    mst_status status = call(context, ref, trial->checker->queue[0], VIEW_BODY);
    for (size_t i = 0; i < trial->tensor_count; i++) {
        const check_tensor *x = &trial->tensors[i];
        for (size_t r = 0; is_output(x) && r < x->rows; r++)
            for (size_t c = 0; c < x->cols; c++) *tensor_exact(x, r, c) = element_load(x, x->memory, r, c);
    }
    return status;
}

bool trial_run(check_trial *trial, check_call_fn *call, const void *context, check_reference reference) {
    check_state *checker = trial->checker;
    for (int q = 0; q < QUEUES; q++) {
        restore(trial);
        mst_status status = call_body(trial, call, context, checker->queue[q]);
        if (status != MST_OK) {
            trial_fail(trial, "%s: %s", mst_status_name(status), mst_error_message());
            return false;
        }
        check_edges(trial);
        if (q == 0)
            keep_results(trial);
        else
            check_same_bits(trial, q + 1);
    }
    widen(trial);
    mst_status status = run_reference(trial, call, context, reference);
    if (status != MST_OK)
        trial_fail(trial, "the specification: %s: %s", mst_status_name(status), mst_error_message());
    return status == MST_OK;
}

void trial_expect(check_trial *trial, check_call_fn *call, const void *context, mst_status expected) {
    restore(trial);
    mst_status status = call_body(trial, call, context, trial->checker->queue[0]);
    if (status != expected)
        trial_fail(trial, "got %s (%s) instead of %s", mst_status_name(status),
                   status ? mst_error_message() : "", mst_status_name(expected));
    if (status != MST_OK && mst_error_message()[0] == '\0') trial_fail(trial, "failed without a message");
    check_edges(trial);
    trial->checker->values++;
}

/* ---------------------------------------------------------------- comparison */

/* Largest finite value. */
static double largest(mst_dtype dtype) {
    return dtype == MST_F64 ? 0x1.fffffffffffffp1023 : dtype == MST_F32 ? 0x1.fffffep127 : 0x1.fep127;
}

/* What rounding takes from the smallest values: half of the smallest denormal, or all of any denormal. */
static double underflow(const check_tensor *x) {
    if (x->dtype == MST_BF16 && flushes_bf16(x->trial->checker)) return TINY;
    return x->dtype == MST_F64 ? 0.0 : x->dtype == MST_F32 ? 0x1p-150 : 0x1p-134;
}

/* Error in units of what is permitted: up to 1 is right; NaN and infinity are wrong. */
static double rate(const check_tensor *x, double value, double exact, double bound) {
    if (isnan(exact)) return isnan(value) ? 0.0 : INFINITY;
    if (x->bits) return value == exact && signbit(value) == signbit(exact) ? 0.0 : INFINITY;
    if (isinf(exact)) return value == exact ? 0.0 : INFINITY;
    double permitted = 4.0 * bound + roundoff(x->dtype) * (fabs(exact) + 4.0 * bound) + underflow(x);
    if (isinf(value) && value * exact > 0.0 && fabs(exact) + permitted > largest(x->dtype)) return 0.0;
    return fabs(value - exact) / permitted;
}

static void compare(check_trial *trial, const check_tensor *x) {
    check_state *checker = trial->checker;
    for (size_t r = 0; r < x->rows; r++) {
        for (size_t c = 0; c < x->cols; c++) {
            double value = tensor_result(x, r, c), exact = *tensor_exact(x, r, c);
            double bound = *tensor_bound(x, r, c) + sqrt(*tensor_squares(x, r, c));
            double error = rate(x, value, exact, bound);
            checker->values++;
            if (!(error <= 1.0))
                trial_fail(trial,
                           "%s[%zu, %zu] is %.9g, exact %.17g, bound %.3g: %.3g times what is permitted",
                           x->name, r, c, value, exact, bound, error);
            else if (error > checker->worst)
                checker->worst = error;
        }
    }
}

void trial_compare(check_trial *trial) {
    for (size_t i = 0; i < trial->tensor_count; i++)
        if (is_output(&trial->tensors[i])) compare(trial, &trial->tensors[i]);
}

/* ---------------------------------------------------------------- timing */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum { RUNS = 9, GPU_CALLS = 10 };

/* GPU: the tensors of a timed call move to the device's own memory, and back to where they are freed. */
static bool move_tensors(check_trial *trial, unsigned char *kept[MAX_TENSORS], bool to_device) {
    mst_queue *queue = trial->checker->bench_queue;
    for (size_t i = 0; i < trial->tensor_count; i++) {
        check_tensor *x = &trial->tensors[i];
        if (x->aliased) continue;
        unsigned char *before = x->memory;
        if (to_device) {
            void *device = NULL;
            kept[i] = before;
            if (mst_memory_alloc(MST_SPACE_DEVICE, x->bytes, &device) != MST_OK) return false;
            x->memory = device;
            if (mst_memory_copy(queue, device, before, x->bytes) != MST_OK) return false;
        } else if (x->memory != kept[i]) {
            mst_memory_free(MST_SPACE_DEVICE, &before);
            x->memory = kept[i];
        }
        for (size_t j = i + 1; j < trial->tensor_count; j++)
            if (trial->tensors[j].aliased && trial->tensors[j].memory == before)
                trial->tensors[j].memory = x->memory;
    }
    return true;
}

static const double long_call = 5e-3; /* seconds: of such calls one at a time says enough */
static const double waking = 0.05;    /* seconds, in which a GPU that was idle finds its clock */

/* Seconds of one call: the median of RUNS; on a GPU each of GPU_CALLS calls behind each other. */
static bool measure(check_trial *trial, check_call_fn *call, const void *context, double *seconds_out) {
    check_state *checker = trial->checker;
    const int runs = checker->brief ? 1 : RUNS;
    int calls = is_on_gpu(checker) ? GPU_CALLS : 1;
    double seconds[RUNS];
    const double begin = mst_clock_now();
    for (int run = -1; run < runs;) { /* what comes first warms up */
        mst_status status = MST_OK;
        double start = mst_clock_now();
        for (int i = 0; i < calls && status == MST_OK; i++)
            status = call(context, &checker->table, checker->bench_queue, VIEW_BODY);
        if (status == MST_OK) status = mst_queue_sync(checker->bench_queue);
        if (status != MST_OK) {
            trial_fail(trial, "%s: %s", mst_status_name(status), mst_error_message());
            return false;
        }
        const double end = mst_clock_now(), took = (end - start) / calls;
        if (run >= 0) seconds[run] = took;
        if (run < 0 && took > long_call) calls = 1;
        if (run >= 0 || !is_on_gpu(checker) || end - begin >= waking) run++;
    }
    qsort(seconds, (size_t)runs, sizeof *seconds, by_size);
    *seconds_out = seconds[runs / 2];
    return true;
}

void trial_time(check_trial *trial, check_call_fn *call, const void *context, mst_dtype dtype, double bytes,
                double flops) {
    check_state *checker = trial->checker;
    unsigned char *kept[MAX_TENSORS] = {0};
    double time, peak = checker->peak_gflops[dtype == MST_BF16];
    restore(trial);
    bool moved = is_on_gpu(checker), right = !moved || move_tensors(trial, kept, true);
    right = right && measure(trial, call, context, &time);
    if (moved) move_tensors(trial, kept, false);
    if (!right) return;
    printf("%-20s %-34s %10.3f ms", checker->operation, trial->label, 1e3 * time);
    if (bytes > 0.0)
        printf("  %7.2f GB/s (%3.0f %%)", 1e-9 * bytes / time, 1e-7 * bytes / time / checker->peak_gbytes);
    if (flops > 0.0) printf("  %7.2f GFLOP/s (%3.0f %%)", 1e-9 * flops / time, 1e-7 * flops / time / peak);
    putchar('\n');
}
