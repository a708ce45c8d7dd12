#include "offload.h"

#include "muster/optimizer.h"

enum { PIECE = 1 << 20 }; /* elements that are brought over at a time */

static void *element(void *array, size_t index, mst_dtype dtype) {
    return (char *)array + index * mst_dtype_size(dtype);
}

size_t mst_optimizer_offload_bytes(void) {
    return 2 * PIECE * sizeof(float);
}

mst_status mst_offload_init(int threads, mst_offload *offload_out) {
    mst_status status = MST_OK;
    mst_offload o = {0};
    void *memory = NULL;
    MST_TRY(mst_queue_create(threads, &o.queue));
    MST_TRY(mst_kernels_open(MST_DEVICE_CPU, NULL, &o.kernels));
    MST_TRY(mst_memory_alloc(MST_SPACE_PINNED, PIECE * sizeof(float), &memory));
    o.gradient = memory;
    MST_TRY(mst_memory_alloc(MST_SPACE_PINNED, PIECE * sizeof(float), &o.weight));
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
    *offload = (mst_offload){0};
}

mst_status mst_offload_adamw(mst_offload *o, mst_queue *device, const mst_adamw_args *args) {
    mst_status status = MST_OK;
    for (size_t begin = 0; begin < args->count; begin += PIECE) {
        const size_t left = args->count - begin, count = left < PIECE ? left : PIECE;
        mst_adamw_args piece = *args;
        piece.count = count;
        piece.first = args->first + begin;
        piece.gradient = o->gradient;
        piece.m = element(args->m, begin, args->moments);
        piece.v = element(args->v, begin, args->moments);
        piece.master = args->master + begin;
        piece.weight = o->weight;
        MST_TRY(mst_memory_copy(device, o->gradient, args->gradient + begin, count * sizeof *o->gradient));
        MST_TRY(o->kernels.adamw(o->queue, &piece));
        MST_TRY(mst_memory_copy(device, element(args->weight, begin, args->weight_dtype), o->weight,
                                count * mst_dtype_size(args->weight_dtype)));
    }
done:
    return status;
}
