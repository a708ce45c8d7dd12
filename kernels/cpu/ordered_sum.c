/*
 * The ordered sum: the tree runs over a stack that stays in the cache, so that every source is read from
 * memory once and the result written once. DESIGN: docs/ordered-sum.md.
 */
#include "cpu.h"

static mst_ordered_sum_fn mst_ordered_sum_cpu;

/* A block is summed in chunks, so that the stack stays in the first cache. */
enum { TASK_BLOCKS = 4, CHUNK = 1024, SOURCES_MAX = 256 };

typedef struct ordered_sum_job {
    const mst_ordered_sum_args *args;
    mst_queue *queue;
    size_t depth; /* of the stack */
} ordered_sum_job;

/* A value of the stack: one chunk. Sums are kept in the wire's type, which holds them exactly. */
typedef struct subtree {
    const void *data; /* in the stack's memory, or a source itself: not yet rounded to the wire */
    mst_dtype dtype;
    unsigned level;
} subtree;

/** Deepest stack that the levels need. @retval MST_EINVAL they do not combine to one value */
static mst_status stack_depth(const mst_ordered_sum_args *args, size_t *depth_out) {
    mst_status status = MST_OK;
    unsigned level[SOURCES_MAX];
    size_t depth = 0;
    *depth_out = 0;
    for (size_t i = 0; i < args->sources; i++) {
        level[depth++] = args->level[i];
        if (depth > *depth_out) *depth_out = depth;
        for (; depth > 1 && level[depth - 1] == level[depth - 2]; depth--) level[depth - 2]++;
    }
    MST_CHECK(depth == 1, MST_EINVAL,
              "ordered_sum: the levels of %zu sources combine to %zu values, not to one; "
              "give whole subtrees in lane order",
              args->sources, depth);
done:
    return status;
}

/** Element i of a subtree, rounded to the wire. What is in bf16 is rounded already. */
MST_INLINE float operand(const void *data, size_t i, mst_dtype dtype, mst_dtype wire) {
    float value = load(data, i, dtype);
    return dtype == MST_F32 ? rounded_to(wire, value) : value;
}

MST_INLINE void add_loop(void *out, const void *left, const void *right, size_t n, mst_dtype left_dtype,
                         mst_dtype right_dtype, mst_dtype wire) {
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        store(out, i, wire, operand(left, i, left_dtype, wire) + operand(right, i, right_dtype, wire));
}

MST_INLINE void add_to_wire(void *out, subtree left, subtree right, size_t n, mst_dtype wire) {
    if (left.dtype == MST_BF16 && right.dtype == MST_BF16)
        add_loop(out, left.data, right.data, n, MST_BF16, MST_BF16, wire);
    else if (left.dtype == MST_BF16)
        add_loop(out, left.data, right.data, n, MST_BF16, MST_F32, wire);
    else if (right.dtype == MST_BF16)
        add_loop(out, left.data, right.data, n, MST_F32, MST_BF16, wire);
    else
        add_loop(out, left.data, right.data, n, MST_F32, MST_F32, wire);
}

/** out = left + right, rounded to the wire. May stand where left or right does. */
static void add_subtrees(void *out, subtree left, subtree right, size_t n, mst_dtype wire) {
    if (wire == MST_BF16)
        add_to_wire(out, left, right, n, MST_BF16);
    else
        add_to_wire(out, left, right, n, MST_F32);
}

/** The root of the tree over elements begin to begin + n - 1.
 * `memory` has a chunk for every depth of the stack. */
static subtree combine_sources(const mst_ordered_sum_args *a, size_t begin, size_t n, float *memory) {
    subtree stack[SOURCES_MAX];
    size_t depth = 0;
    for (size_t source = 0; source < a->sources; source++) {
        const void *data = element(a->source[source], begin, a->source_dtype);
        stack[depth++] = (subtree){data, a->source_dtype, a->level[source]};
        for (; depth > 1 && stack[depth - 1].level == stack[depth - 2].level; depth--) {
            subtree *left = &stack[depth - 2], *right = &stack[depth - 1];
            float *sum = memory + (depth - 2) * CHUNK; /* where left stands, unless left is a source */
            add_subtrees(sum, *left, *right, n, a->wire);
            *left = (subtree){sum, a->wire, left->level + 1};
        }
    }
    return stack[0];
}

MST_INLINE void finish_lanes(double *lane, void *result, const void *root, size_t i, size_t width,
                             mst_dtype root_dtype, mst_dtype wire, mst_dtype result_dtype, bool accumulate) {
#pragma omp simd
    for (size_t k = 0; k < width; k++) {
        float value = rounded_to(wire, load(root, i + k, root_dtype));
        if (accumulate) value += load(result, i + k, MST_F32);
        store(result, i + k, result_dtype, value);
        lane[k] += (double)value * value; /* the product is exact: 24 bits twice */
    }
}

MST_INLINE void finish_loop(double *lane, void *result, const void *root, size_t n, mst_dtype root_dtype,
                            mst_dtype wire, mst_dtype result_dtype, bool accumulate) {
    size_t i = 0;
    for (; i + MST_LANES <= n; i += MST_LANES)
        finish_lanes(lane, result, root, i, MST_LANES, root_dtype, wire, result_dtype, accumulate);
    finish_lanes(lane, result, root, i, n - i, root_dtype, wire, result_dtype, accumulate);
}

MST_INLINE void square_lanes(double *lane, const void *root, size_t i, size_t width, mst_dtype dtype) {
#pragma omp simd
    for (size_t k = 0; k < width; k++) {
        const double value = load(root, i + k, dtype);
        lane[k] += value * value;
    }
}

MST_INLINE void square_loop(double *lane, const void *root, size_t n, mst_dtype dtype) {
    double held[MST_LANES]; /* in registers */
    size_t i = 0;
    memcpy(held, lane, sizeof held);
    for (; i + MST_LANES <= n; i += MST_LANES) square_lanes(held, root, i, MST_LANES, dtype);
    square_lanes(held, root, i, n - i, dtype);
    memcpy(lane, held, sizeof held);
}

/** Where the result is the root as it stands: nothing is to be written. */
static bool stands_already(const mst_ordered_sum_args *a, const void *result, subtree root) {
    return root.data == result && root.dtype == a->result_dtype && !a->accumulate &&
           (root.dtype == MST_BF16 || a->wire == MST_F32);
}

/** result = root, or result += root, and its squares added to the lanes.
 * A bf16 result holds the root exactly. */
static void finish_chunk(double *lane, const mst_ordered_sum_args *a, size_t begin, size_t n, subtree root) {
    void *result = element_mut(a->result, begin, a->result_dtype);
    bool wide = root.dtype == MST_F32;
    if (stands_already(a, result, root) && wide)
        square_loop(lane, root.data, n, MST_F32);
    else if (stands_already(a, result, root))
        square_loop(lane, root.data, n, MST_BF16);
    else if (a->accumulate && wide && a->wire == MST_F32)
        finish_loop(lane, result, root.data, n, MST_F32, MST_F32, MST_F32, true);
    else if (a->accumulate && wide)
        finish_loop(lane, result, root.data, n, MST_F32, MST_BF16, MST_F32, true);
    else if (a->accumulate)
        finish_loop(lane, result, root.data, n, MST_BF16, MST_F32, MST_F32, true);
    else if (a->result_dtype == MST_BF16 && wide)
        finish_loop(lane, result, root.data, n, MST_F32, MST_BF16, MST_BF16, false);
    else if (a->result_dtype == MST_BF16)
        finish_loop(lane, result, root.data, n, MST_BF16, MST_F32, MST_BF16, false);
    else if (wide && a->wire == MST_F32)
        finish_loop(lane, result, root.data, n, MST_F32, MST_F32, MST_F32, false);
    else if (wide)
        finish_loop(lane, result, root.data, n, MST_F32, MST_BF16, MST_F32, false);
    else
        finish_loop(lane, result, root.data, n, MST_BF16, MST_F32, MST_F32, false);
}

static void sum_block(const mst_ordered_sum_args *a, size_t block, float *memory) {
    double lane[MST_LANES] = {0};
    size_t block_end = tile_end(a->count, MST_BLOCK, block);
    for (size_t begin = block * MST_BLOCK; begin < block_end; begin += CHUNK) {
        size_t n = block_end - begin < CHUNK ? block_end - begin : CHUNK;
        finish_chunk(lane, a, begin, n, combine_sources(a, begin, n, memory));
    }
    if (a->block_norm2 == NULL) return;
    for (size_t width = MST_LANES / 2; width > 0; width /= 2)
        for (size_t k = 0; k < width; k++) lane[k] += lane[k + width];
    a->block_norm2[block] = lane[0];
}

static mst_status ordered_sum_task(void *context, size_t task, int thread) {
    const ordered_sum_job *job = context;
    float *memory = mst_queue_scratch(job->queue, thread, job->depth * CHUNK * sizeof *memory);
    if (memory == NULL) return mst_error(MST_ENOMEM, "ordered_sum: no memory for a stack of %zu", job->depth);
    size_t last = tile_end(tiles_of(job->args->count, MST_BLOCK), TASK_BLOCKS, task);
    for (size_t block = task * TASK_BLOCKS; block < last; block++) sum_block(job->args, block, memory);
    return MST_OK;
}

static mst_status mst_ordered_sum_cpu(mst_queue *queue, const mst_ordered_sum_args *args) {
    mst_status status = MST_OK;
    ordered_sum_job job = {.args = args, .queue = queue};
    MST_CHECK(args->sources >= 1 && args->sources <= SOURCES_MAX, MST_EINVAL,
              "ordered_sum: %zu sources, not 1..%d", args->sources, SOURCES_MAX);
    MST_CHECK(args->source_dtype != MST_F64 && args->wire != MST_F64 && args->result_dtype != MST_F64,
              MST_EINVAL, "ordered_sum: f64; sources, wire and result are f32 or bf16");
    MST_CHECK(args->result_dtype == MST_F32 || (args->wire == MST_BF16 && !args->accumulate), MST_EINVAL,
              "ordered_sum: a bf16 result needs a bf16 wire and no accumulation");
    MST_TRY(stack_depth(args, &job.depth));
    MST_TRY(
        mst_queue_for(queue, tiles_of(args->count, (size_t)MST_BLOCK * TASK_BLOCKS), ordered_sum_task, &job));
done:
    return status;
}

void MST_AT_LEVEL(mst_cpu_fill_ordered_sum)(mst_kernels *table) {
    table->ordered_sum = mst_ordered_sum_cpu;
}
