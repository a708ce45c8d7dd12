#include "offload.h"

#include <stdlib.h>

#include "muster/optimizer.h"

enum { PIECE = 1 << 20 }; /* elements that are brought over at a time */

static void *element(void *array, size_t index, mst_dtype dtype) {
    return (char *)array + index * mst_dtype_size(dtype);
}

size_t mst_optimizer_offload_bytes(void) {
    return 2 * PIECE * sizeof(float);
}

mst_status mst_offload_init(int threads, size_t parts, mst_offload *offload_out) {
    mst_status status = MST_OK;
    mst_offload o = {0};
    void *memory = NULL;
    MST_TRY(mst_queue_create(threads, &o.queue));
    MST_TRY(mst_kernels_open(MST_DEVICE_CPU, NULL, &o.kernels));
    MST_TRY(mst_memory_alloc(MST_SPACE_PINNED, PIECE * sizeof(float), &memory));
    o.gradient = memory;
    MST_TRY(mst_memory_alloc(MST_SPACE_PINNED, PIECE * sizeof(float), &o.weight));
    o.parts = calloc(parts, sizeof *o.parts);
    MST_CHECK(o.parts, MST_ENOMEM, "optimizer state in host memory: no memory for %zu parts", parts);
    *offload_out = o;
    o = (mst_offload){0};
done:
    mst_offload_clear(&o);
    return status;
}

void mst_offload_clear(mst_offload *offload) {
    mst_queue_destroy(&offload->queue);
    mst_memory_free(MST_SPACE_PINNED, &offload->gradient);
    mst_memory_free(MST_SPACE_PINNED, &offload->weight);
    free(offload->parts);
    *offload = (mst_offload){0};
}

/* What of all parts lies in a piece, with offsets from where it begins. Returns how many that are. */
static size_t cut(const mst_adamw_args *args, size_t begin, size_t count, mst_adamw_part *parts) {
    size_t used = 0;
    for (size_t p = 0; p < args->part_count; p++) {
        parts[used] = mst_adamw_part_within(&args->parts[p], begin, begin + count);
        parts[used].offset -= begin;
        used += parts[used].count > 0;
    }
    return used;
}

/* Brings the new weights of a piece back: of its parts only, as what lies between them is not to be touched. */
static mst_status give_back(mst_queue *device, const mst_adamw_args *args, size_t begin,
                            const mst_adamw_args *piece) {
    mst_status status = MST_OK;
    for (size_t p = 0; p < piece->part_count; p++) {
        const mst_adamw_part *part = &piece->parts[p];
        MST_TRY(mst_memory_copy(device, element(args->weight, begin + part->offset, args->weight_dtype),
                                element(piece->weight, part->offset, args->weight_dtype),
                                part->count * mst_dtype_size(args->weight_dtype)));
    }
done:
    return status;
}

mst_status mst_offload_adamw(mst_offload *o, mst_queue *device, const mst_adamw_args *args) {
    mst_status status = MST_OK;
    const size_t extent = mst_adamw_extent(args);
    for (size_t begin = 0; begin < extent; begin += PIECE) {
        const size_t left = extent - begin, count = left < PIECE ? left : PIECE;
        mst_adamw_args piece = *args;
        piece.parts = o->parts;
        piece.part_count = cut(args, begin, count, o->parts);
        piece.gradient = o->gradient;
        piece.m = element(args->m, begin, args->moments);
        piece.v = element(args->v, begin, args->moments);
        piece.master = args->master + begin;
        piece.weight = o->weight;
        MST_TRY(mst_memory_copy(device, o->gradient, args->gradient + begin, count * sizeof *o->gradient));
        MST_TRY(o->kernels.adamw(o->queue, &piece));
        MST_TRY(give_back(device, args, begin, &piece));
    }
done:
    return status;
}
