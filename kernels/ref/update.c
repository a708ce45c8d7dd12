/* AdamW, casts, initial values and digests. */
#include "element.h"
#include "muster/random.h"
#include "ref.h"

/*
 * The formula of the header in fp64, with the scalars as given; m, v and master are rounded
 * to fp32 when stored, and each is used further as stored. A body in fp32 differs by rounding
 * only and is compared with a bound.
 */
mst_status mst_adamw_ref(mst_queue *queue, const mst_adamw_args *args) {
    (void)queue;
    for (size_t i = 0; i < args->count; i++) {
        double g = args->gradient[i] * args->gradient_scale;
        args->m[i] = (float)(args->beta1 * args->m[i] + (1.0 - args->beta1) * g);
        args->v[i] = (float)(args->beta2 * args->v[i] + (1.0 - args->beta2) * g * g);
        double denominator = sqrt((double)args->v[i]) / args->correction2_sqrt + args->eps;
        double step = args->lr / args->correction1 * args->m[i] / denominator;
        args->master[i] = (float)(args->master[i] * (1.0 - args->lr * args->weight_decay) - step);
        store(args->weight, args->weight_dtype, i, args->master[i]);
    }
    return MST_OK;
}

mst_status mst_cast_ref(mst_queue *queue, const mst_cast_args *args) {
    (void)queue;
    for (size_t i = 0; i < args->count; i++)
        store(args->result, args->result_dtype, i, load(args->source, args->source_dtype, i));
    return MST_OK;
}

mst_status mst_random_normal_ref(mst_queue *queue, const mst_random_normal_args *args) {
    (void)queue;
    for (size_t i = 0; i < args->count; i++) {
        double z = mst_random_normal(args->seed, MST_RANDOM_INIT, args->stream, args->first + i, args->limit);
        args->result[i] = (float)(args->mean + args->deviation * z);
    }
    return MST_OK;
}

mst_status mst_block_digest_ref(mst_queue *queue, const mst_block_digest_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    size_t size = mst_dtype_size(args->dtype);
    for (size_t first = 0; first < args->count; first += MST_BLOCK) {
        size_t count = args->count - first < MST_BLOCK ? args->count - first : MST_BLOCK;
        const unsigned char *block = (const unsigned char *)args->data + first * size;
        MST_TRY(mst_digest_of(block, count * size, &args->digest[first / MST_BLOCK]));
        if (args->checksum != NULL) args->checksum[first / MST_BLOCK] = mst_checksum_of(block, count * size);
    }
done:
    return status;
}
