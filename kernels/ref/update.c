/* AdamW, casts, initial values and digests. */
#include "../base/rounding.h"
#include "element.h"
#include "muster/random.h"
#include "ref.h"

static void store_moment(void *moment, mst_dtype dtype, size_t i, float value, uint32_t odds) {
    if (dtype == MST_BF16)
        ((mst_bf16 *)moment)[i] = mst_bf16_at_odds(value, odds);
    else
        ((float *)moment)[i] = value;
}

/*
 * The formula of the header in fp64, with the scalars as given; m, v and master are rounded
 * to fp32, and each is used further so. A body in fp32 differs by rounding
 * only and is compared with a bound.
 */
static void adamw_element(const mst_adamw_args *args, const mst_adamw_part *part, size_t k) {
    const size_t i = part->offset + k;
    double g = args->gradient[i] * args->gradient_scale;
    float m = (float)(args->beta1 * load(args->m, args->moments, i) + (1.0 - args->beta1) * g);
    float v = (float)(args->beta2 * load(args->v, args->moments, i) + (1.0 - args->beta2) * g * g);
    uint32_t bits = mst_rounding_bits(part->rounding_key, (uint32_t)(part->first + k));
    store_moment(args->m, args->moments, i, m, bits & 0xffffu);
    store_moment(args->v, args->moments, i, v, bits >> 16);
    double denominator = sqrt((double)v) / args->correction2_sqrt + args->eps;
    double step = args->lr / args->correction1 * m / denominator;
    args->master[i] = (float)(args->master[i] * (1.0 - args->lr * part->weight_decay) - step);
    store(args->weight, args->weight_dtype, i, args->master[i]);
}

mst_status mst_adamw_ref(mst_queue *queue, const mst_adamw_args *args) {
    (void)queue;
    for (size_t p = 0; p < args->part_count; p++)
        for (size_t k = 0; k < args->parts[p].count; k++) adamw_element(args, &args->parts[p], k);
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
