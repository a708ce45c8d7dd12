/*
 * The kernel checker: what the checks of all operations share.
 *
 * A check builds *trials*. A trial is one call: its tensors in guarded memory, filled with random or extreme
 * values. The body runs on 1, 2 and 3 threads, which must give the same bits and must touch nothing but its
 * outputs. Then the specification runs on the same inputs widened to fp64, and every element is compared with
 *
 *     4 * bound + half a unit in the last place of the output's dtype
 *
 * where `bound` is the operation's a-priori rounding bound, which stands in the code beside each operation.
 */
#ifndef MUSTER_TESTS_KERNELS_CHECK_H
#define MUSTER_TESTS_KERNELS_CHECK_H

#include <math.h>
#include <string.h>

#include "muster/kernels.h"

enum { QUEUES = 3, MAX_TENSORS = 16, MAX_ARRAYS = 8, LABEL = 160 };

typedef struct check_state {
    mst_kernels table;        /* under test */
    mst_kernels ref;          /* the specification */
    mst_queue *queue[QUEUES]; /* of 1, 2 and 3 threads */
    mst_queue *bench_queue;   /* of --threads threads */
    uint64_t seed, drawn;     /* random numbers come from (seed, drawn++) */
    const char *operation;    /* being checked */
    size_t trials, values, failures;
    double worst;                       /* largest error in units of what is permitted */
    double peak_gflops[2], peak_gbytes; /* measured; gflops of F32 and BF16 */
    bool timed;   /* not checked: tensors begin where a model's do, on 16 bytes at least */
    bool aligned; /* checked, and there, too */
    bool brief;   /* figures mean nothing: they are there for who reads them */
} check_state;

/* Every slot of mst_kernels has check_SLOT and bench_SLOT. */
#define CHECK_DECLARE(slot)                                                                                  \
    void check_##slot(check_state *checker);                                                                 \
    void bench_##slot(check_state *checker);
MST_KERNEL_SLOTS(CHECK_DECLARE)
#undef CHECK_DECLARE

/* Only the specification takes F64; the other bodies must refuse it. */
static inline bool takes_f64(const check_state *checker) {
    return strcmp(checker->table.name, "ref") == 0;
}

/* Bodies that have no denormals of bf16: kernels/cpu/chunk.h. */
static inline bool flushes_bf16(const check_state *checker) {
    static const char class_name[] = "cpu x86-64-v4-bf16 ";
    return strncmp(checker->table.class_name, class_name, sizeof class_name - 1) == 0;
}

/* Bodies of a GPU: they work on pinned memory here, which the CPU can look into, and have ended when the queue has. */
static inline bool is_on_gpu(const check_state *checker) {
    return strcmp(checker->table.name, "cuda") == 0;
}

/* What is timed: on a GPU so many times more, which its cache does not hold; with --brief little. */
static inline size_t timed_size(const check_state *checker, size_t size, size_t times) {
    enum { LESS = 32 };
    return checker->brief ? size / LESS : is_on_gpu(checker) ? times * size : size;
}

/* ---------------------------------------------------------------- tensors and trials */

typedef enum check_role {
    ROLE_IN,      /* must stay as it is */
    ROLE_OUT,     /* starts as NaN */
    ROLE_INOUT,   /* "+=" or in place */
    ROLE_SCRATCH, /* may be clobbered; only its surroundings must stay as they are */
} check_role;

/* Whose memory a call works on: that of the body, or the copies widened to fp64. */
typedef enum check_view { VIEW_BODY, VIEW_F64 } check_view;

typedef enum check_flavour { PLAIN, WIDE, DENORMAL, FLAVOURS } check_flavour;

typedef struct check_trial check_trial;

typedef struct check_tensor {
    check_trial *trial;
    const char *name;
    check_role role;
    mst_dtype dtype;
    size_t rows, cols, ld;
    bool bits;                                /* compared to the last bit */
    bool words;                               /* 16-bit words of an opaque type, compared as such */
    bool aliased;                             /* lies in the memory of another tensor, which owns it */
    unsigned char *memory, *initial, *result; /* with margins: now, before the call, after the first call */
    size_t bytes, offset;                     /* of the memory; of the first element in it */
    double *exact;                            /* [rows, exact_ld]: the widened input, then the exact result */
    size_t exact_ld;
    double *bound;   /* [rows, cols]: a-priori rounding bound of the result, without the rounding
                        of the output itself */
    double *squares; /* [rows, cols]: sum of squares of independent rounding errors;
                        the root counts besides `bound` */
} check_tensor;

struct check_trial {
    check_state *checker;
    char label[LABEL];
    check_tensor tensors[MAX_TENSORS];
    size_t tensor_count;
    void *arrays[MAX_ARRAYS], *copies[MAX_ARRAYS]; /* copies: on the device */
    size_t array_count, copy_count;
};

/* Calls one body of `table` on the tensors of the trial that `context` describes. */
typedef mst_status check_call_fn(const void *context, const mst_kernels *table, mst_queue *queue,
                                 check_view view);

void trial_begin(check_trial *trial, check_state *checker, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void trial_end(check_trial *trial);

/* A new tensor of the trial, all NaN. Rows are `ld` elements apart; alignment differs from trial to trial. */
check_tensor *trial_tensor(check_trial *trial, const char *name, check_role role, mst_dtype dtype,
                           size_t rows, size_t cols, size_t ld);

/* An output in the memory of another tensor, which thereby becomes scratch. */
check_tensor *trial_alias(check_trial *trial, const char *name, check_tensor *of, mst_dtype dtype, size_t ld);

/* Plain read-only arrays of exactly `count` elements, freed with the trial. */
int32_t *trial_ints(check_trial *trial, size_t count);
float *trial_floats(check_trial *trial, size_t count);

/* What is timed on a GPU reads its arrays there: a copy of one in the device's memory, freed with the trial; elsewhere itself. */
const void *trial_at_device(check_trial *trial, const void *array, size_t bytes);

/* Where the documents of `rows` tokens begin, in sequences of seq_len (mst_attention_args). Documents have the lengths given,
 * the last of which is 0, in turn, cut at the ends of sequences. NULL gives NULL. */
const int32_t *trial_starts(check_trial *trial, size_t rows, size_t seq_len, const size_t *lengths);

void tensor_fill(check_tensor *tensor, check_flavour flavour, double scale);
void tensor_set(check_tensor *tensor, size_t row, size_t col, double value);
double tensor_initial(const check_tensor *tensor, size_t row, size_t col);
double tensor_result(const check_tensor *tensor, size_t row, size_t col);
/* The exact result after a run, the widened input before it. */
static inline double *tensor_exact(const check_tensor *tensor, size_t row, size_t col) {
    return &tensor->exact[row * tensor->exact_ld + col];
}
static inline double *tensor_bound(const check_tensor *tensor, size_t row, size_t col) {
    return &tensor->bound[row * tensor->cols + col];
}

static inline double *tensor_squares(const check_tensor *tensor, size_t row, size_t col) {
    return &tensor->squares[row * tensor->cols + col];
}

/* For the arguments of a call. NULL gives NULL. */
void *tensor_at(const check_tensor *tensor, check_view view);
size_t tensor_ld(const check_tensor *tensor, check_view view);
static inline mst_dtype dtype_in(mst_dtype dtype, check_view view) {
    return view == VIEW_F64 ? MST_F64 : dtype;
}

/*
 * Runs the body on every queue and checks its edges and that the bits agree; then runs the
 * specification, in fp64 or on the same memory, and leaves its results in `exact`. False when
 * a call failed (which is reported).
 */
typedef enum check_reference { REFERENCE_F64, REFERENCE_SAME } check_reference;
bool trial_run(check_trial *trial, check_call_fn *call, const void *context, check_reference reference);

/* Compares every output with its exact result; `bound` and `squares` have been filled since
 * trial_run (they start as zero). */
void trial_compare(check_trial *trial);

/* The body must return this status. */
void trial_expect(check_trial *trial, check_call_fn *call, const void *context, mst_status expected);

/* Reports a failure of the trial. */
void trial_fail(check_trial *trial, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Times the body and prints a line; bytes and flops of one call, 0 where they mean nothing. */
void trial_time(check_trial *trial, check_call_fn *call, const void *context, mst_dtype dtype, double bytes,
                double flops);

/* ---------------------------------------------------------------- random numbers and bounds */

double random_uniform(check_state *checker);
double random_normal(check_state *checker);
/* 0 to below - 1. */
size_t random_below(check_state *checker, size_t below);

#define U32 0x1p-24 /* unit roundoff of fp32, the type of accumulation */
/* A product below the normal range is off by up to this besides: half of the smallest denormal. */
#define ETA       0x1p-150
#define TINY      0x1p-126 /* below it an own exp may give 0: smallest normal fp32 */
#define EXP_ERROR 0x1p-23  /* relative error of an exp: it is faithful, one unit in the last place */

/* Unit roundoff of a dtype. */
static inline double roundoff(mst_dtype dtype) {
    return dtype == MST_F64 ? 0x1p-53 : dtype == MST_F32 ? 0x1p-24 : 0x1p-8;
}

/*
 * Relative rounding error of a sum of n fp32 terms, in any order, relative to the sum of their absolute
 * values. The worst case is n U32; for random data the errors behave like independent ones, so that with a
 * probability beyond 1 - 10^-10 per element 4 times this holds (Higham and Mary 2019, theorem 2.4,
 * lambda = 8). The smaller one finds more mistakes.
 */
static inline double sum_error(size_t n) {
    return U32 * fmin((double)n, 2.0 + 2.0 * sqrt((double)n));
}

#endif
