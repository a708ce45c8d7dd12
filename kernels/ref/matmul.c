/* Matrix product. */
#include "element.h"
#include "ref.h"

static mst_status check(const mst_matmul_args *args) {
    mst_status status = MST_OK;
    mst_dtype acc = mst_dtype_acc(args->dtype);
    size_t a_cols = args->a_transposed ? args->m : args->k, b_cols = args->b_transposed ? args->k : args->n;
    MST_CHECK(args->c_dtype == args->dtype || args->c_dtype == acc, MST_EINVAL,
              "matmul: c of %s for operands of %s; use %s or %s", mst_dtype_name(args->c_dtype),
              mst_dtype_name(args->dtype), mst_dtype_name(args->dtype), mst_dtype_name(acc));
    MST_CHECK(!args->accumulate || args->c_dtype == acc, MST_EINVAL,
              "matmul: c of %s cannot accumulate; use %s", mst_dtype_name(args->c_dtype),
              mst_dtype_name(acc));
    MST_CHECK(!args->accumulate || !args->bias, MST_EINVAL,
              "matmul: a bias and accumulate together; leave one out");
    MST_CHECK(args->scale == 0 || (!args->accumulate && !args->bias), MST_EINVAL,
              "matmul: a scale with a bias or accumulate; leave it out");
    MST_CHECK(args->lda >= a_cols, MST_EINVAL, "matmul: lda %zu is less than the %zu columns of a", args->lda,
              a_cols);
    MST_CHECK(args->ldb >= b_cols, MST_EINVAL, "matmul: ldb %zu is less than the %zu columns of b", args->ldb,
              b_cols);
    MST_CHECK(args->ldc >= args->n, MST_EINVAL, "matmul: ldc %zu is less than the %zu columns of c",
              args->ldc, args->n);
done:
    return status;
}

/* With k == 0 the sum is empty: c = bias, or c stays when it accumulates. */
mst_status mst_matmul_ref(mst_queue *queue, const mst_matmul_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_TRY(check(args));
    for (size_t i = 0; i < args->m; i++) {
        for (size_t j = 0; j < args->n; j++) {
            double sum = args->bias ? load(args->bias, args->dtype, j) : 0.0;
            for (size_t l = 0; l < args->k; l++) {
                size_t at_a = args->a_transposed ? l * args->lda + i : i * args->lda + l;
                size_t at_b = args->b_transposed ? j * args->ldb + l : l * args->ldb + j;
                sum += load(args->a, args->dtype, at_a) * load(args->b, args->dtype, at_b);
            }
            if (args->scale != 0) sum *= args->scale;
            size_t at_c = i * args->ldc + j;
            if (args->accumulate)
                add(args->c, args->c_dtype, at_c, sum);
            else
                store(args->c, args->c_dtype, at_c, sum);
        }
    }
done:
    return status;
}
