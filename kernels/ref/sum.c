/* Sums whose order matters: bias gradient and the ordered sum. */
#include "element.h"
#include "ref.h"

mst_status mst_bias_grad_ref(mst_queue *queue, const mst_bias_grad_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_CHECK(args->ld >= args->cols, MST_EINVAL, "bias_grad: ld %zu is less than the %zu columns", args->ld,
              args->cols);
    for (size_t c = 0; c < args->cols; c++) {
        double sum = 0.0;
        for (size_t r = 0; r < args->rows; r++) sum += load(args->dy, args->dtype, r * args->ld + c);
        if (args->rows > 0) add(args->dbias, mst_dtype_acc(args->dtype), c, sum);
    }
done:
    return status;
}

/* ---------------------------------------------------------------- ordered sum: fp32, to the last bit */

enum { MAX_SOURCES = 256 };

static float round_to(mst_dtype wire, float x) {
    return wire == MST_BF16 ? mst_bf16_to_f32(mst_bf16_from_f32(x)) : x;
}

/* Combines the levels alone: does one value remain? */
static bool is_whole_tree(const mst_ordered_sum_args *args) {
    unsigned stack[MAX_SOURCES];
    size_t depth = 0;
    for (size_t i = 0; i < args->sources; i++) {
        stack[depth++] = args->level[i];
        for (; depth > 1 && stack[depth - 1] == stack[depth - 2]; depth--) stack[depth - 2]++;
    }
    return depth == 1;
}

static mst_status check(const mst_ordered_sum_args *args) {
    mst_status status = MST_OK;
    MST_CHECK(args->sources >= 1 && args->sources <= MAX_SOURCES, MST_EINVAL,
              "ordered_sum: %zu sources; from 1 to %d are possible", args->sources, MAX_SOURCES);
    MST_CHECK(args->source_dtype != MST_F64 && args->wire != MST_F64 && args->result_dtype != MST_F64,
              MST_EINVAL, "ordered_sum: f64; only f32 and bf16 are possible");
    MST_CHECK(args->result_dtype == MST_F32 || (args->wire == MST_BF16 && !args->accumulate), MST_EINVAL,
              "ordered_sum: a result of bf16 needs a wire of bf16 and no accumulation");
    MST_CHECK(is_whole_tree(args), MST_EINVAL,
              "ordered_sum: the levels of %zu sources do not combine to one value; give whole subtrees in "
              "lane order",
              args->sources);
done:
    return status;
}

/* The root of the tree for element i. */
static float root_of(const mst_ordered_sum_args *args, size_t i) {
    float value[MAX_SOURCES];
    unsigned level[MAX_SOURCES];
    size_t depth = 0;
    for (size_t s = 0; s < args->sources; s++) {
        value[depth] = round_to(args->wire, (float)load(args->source[s], args->source_dtype, i));
        level[depth++] = args->level[s];
        for (; depth > 1 && level[depth - 1] == level[depth - 2]; depth--) {
            value[depth - 2] = round_to(args->wire, value[depth - 2] + value[depth - 1]);
            level[depth - 2]++;
        }
    }
    return value[0];
}

mst_status mst_ordered_sum_ref(mst_queue *queue, const mst_ordered_sum_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_TRY(check(args));
    for (size_t i = 0; i < args->count; i++) {
        float result = root_of(args, i);
        if (args->accumulate) result = (float)load(args->result, MST_F32, i) + result;
        store(args->result, args->result_dtype, i, result);
    }
    for (size_t first = 0; args->block_norm2 && first < args->count; first += MST_BLOCK) {
        double squares = 0.0;
        for (size_t i = first; i < args->count && i < first + MST_BLOCK; i++) {
            double value = load(args->result, args->result_dtype, i);
            squares += value * value;
        }
        args->block_norm2[first / MST_BLOCK] = squares;
    }
done:
    return status;
}
