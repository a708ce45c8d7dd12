/* Rotary position embedding. Su et al. 2021, in the layout of Hugging Face Llama. */
#include "element.h"
#include "ref.h"

static mst_status check(const mst_rope_args *args) {
    mst_status status = MST_OK;
    MST_CHECK(args->head_dim % 2 == 0, MST_EINVAL, "rope: head_dim %zu is odd; it must be even",
              args->head_dim);
    MST_CHECK(args->rows == 0 || args->seq_len > 0, MST_EINVAL, "rope: %zu rows but seq_len 0", args->rows);
    MST_CHECK(args->ld >= args->heads * args->head_dim, MST_EINVAL,
              "rope: ld %zu is less than heads * head_dim = %zu", args->ld, args->heads * args->head_dim);
done:
    return status;
}

mst_status mst_rope_ref(mst_queue *queue, const mst_rope_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_TRY(check(args));
    size_t half = args->head_dim / 2;
    for (size_t r = 0; r < args->rows; r++) {
        size_t position = args->first + r % args->seq_len - (args->starts ? (size_t)args->starts[r] : 0);
        for (size_t h = 0; h < args->heads; h++) {
            for (size_t i = 0; i < half; i++) {
                double cosine = args->cosine[position * half + i], sine = args->sine[position * half + i];
                if (args->inverse) sine = -sine;
                size_t at = r * args->ld + h * args->head_dim + i;
                double x = load(args->x, args->dtype, at), y = load(args->x, args->dtype, at + half);
                store(args->x, args->dtype, at, x * cosine - y * sine);
                store(args->x, args->dtype, at + half, y * cosine + x * sine);
            }
        }
    }
done:
    return status;
}
