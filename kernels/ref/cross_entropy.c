/* Cross-entropy and z-loss with their gradient. */
#include "element.h"
#include "ref.h"

static mst_status check(const mst_cross_entropy_args *args) {
    mst_status status = MST_OK;
    MST_CHECK(!args->dlogits || args->ldd >= args->vocab, MST_EINVAL,
              "cross_entropy: ldd %zu is less than vocab %zu", args->ldd, args->vocab);
    size_t logits_row = args->vocab * mst_dtype_size(mst_dtype_acc(args->dtype));
    MST_CHECK(!args->dlogits || args->dlogits != args->logits ||
                  args->ldd * mst_dtype_size(args->dtype) == logits_row,
              MST_EINVAL, "cross_entropy: dlogits in place of logits needs rows of %zu bytes, not %zu",
              logits_row, args->ldd * mst_dtype_size(args->dtype));
    for (size_t r = 0; r < args->rows; r++)
        MST_CHECK(args->targets[r] < 0 || (size_t)args->targets[r] < args->vocab, MST_EINVAL,
                  "cross_entropy: target %d in row %zu is not in a vocabulary of %zu", (int)args->targets[r],
                  r, args->vocab);
done:
    return status;
}

static double log_sum_exp(const mst_cross_entropy_args *args, size_t r) {
    mst_dtype acc = mst_dtype_acc(args->dtype);
    double max = -INFINITY, sum = 0.0;
    for (size_t j = 0; j < args->vocab; j++) {
        double logit = load(args->logits, acc, r * args->vocab + j);
        max = logit > max ? logit : max;
    }
    for (size_t j = 0; j < args->vocab; j++) sum += exp(load(args->logits, acc, r * args->vocab + j) - max);
    return max + log(sum);
}

mst_status mst_cross_entropy_ref(mst_queue *queue, const mst_cross_entropy_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_TRY(check(args));
    mst_dtype acc = mst_dtype_acc(args->dtype);
    for (size_t r = 0; r < args->rows; r++) {
        bool valid = args->targets[r] >= 0;
        size_t target = valid ? (size_t)args->targets[r] : 0;
        double lse = valid ? log_sum_exp(args, r) : 0.0;
        store(args->loss, acc, r, valid ? lse - load(args->logits, acc, r * args->vocab + target) : 0.0);
        store(args->zloss, acc, r, lse * lse);
        if (!args->dlogits) continue;
        /* In place, element j of dlogits never lies behind logit j:
         * what is still to be read is never overwritten. */
        for (size_t j = 0; j < args->vocab; j++) {
            double p = valid ? exp(load(args->logits, acc, r * args->vocab + j) - lse) : 0.0;
            double hit = valid && j == target ? 1.0 : 0.0;
            store(args->dlogits, args->dtype, r * args->ldd + j,
                  args->scale * ((1.0 + 2.0 * args->z_coefficient * lse) * p - hit));
        }
    }
done:
    return status;
}
