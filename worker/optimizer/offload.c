#include "offload.h"

#include <stdlib.h>

#include "muster/optimizer.h"

enum { PIECE = 1 << 19 }; /* elements that are brought over at a time */

static void *element(void *array, size_t index, mst_dtype dtype) {
    return (char *)array + index * mst_dtype_size(dtype);
}

size_t mst_optimizer_offload_bytes(void) {
    return MST_OFFLOAD_PIECES * 2 * PIECE * sizeof(float);
}

static mst_status piece_init(mst_queue *device, mst_offload_piece *piece) {
    mst_status status = MST_OK;
    void *memory = NULL;
    MST_TRY(mst_memory_alloc(MST_SPACE_PINNED, PIECE * sizeof(float), &memory));
    piece->gradient = memory;
    MST_TRY(mst_memory_alloc(MST_SPACE_PINNED, PIECE * sizeof(float), &piece->weight));
    if (mst_memory_is_apart()) MST_TRY(mst_mark_create(device, &piece->there));
done:
    return status;
}

mst_status mst_offload_init(mst_queue *device, int threads, size_t parts, mst_offload *offload_out) {
    mst_status status = MST_OK;
    mst_offload o = {.device = device};
    MST_TRY(mst_queue_create(threads, &o.queue));
    MST_TRY(mst_kernels_open(MST_DEVICE_CPU, NULL, &o.kernels));
    for (size_t i = 0; i < MST_OFFLOAD_PIECES; i++) MST_TRY(piece_init(device, &o.pieces[i]));
    o.parts = calloc(parts, sizeof *o.parts);
    MST_CHECK(o.parts, MST_ENOMEM, "optimizer state in host memory: no memory for %zu parts", parts);
    *offload_out = o;
    o = (mst_offload){0};
done:
    mst_offload_clear(&o);
    return status;
}

void mst_offload_clear(mst_offload *offload) {
    if (offload->device) mst_queue_sync(offload->device); /* copies from and to memory that is freed now */
    for (size_t i = 0; i < MST_OFFLOAD_PIECES; i++) {
        mst_offload_piece *piece = &offload->pieces[i];
        mst_mark_destroy(offload->device, &piece->there);
        mst_memory_free(MST_SPACE_PINNED, &piece->gradient);
        mst_memory_free(MST_SPACE_PINNED, &piece->weight);
    }
    mst_queue_destroy(&offload->queue);
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

/* Begins to bring the new weights of a piece back: of its parts only, as what lies between them is not to be touched. */
static mst_status give_back(mst_queue *device, const mst_adamw_args *args, size_t begin,
                            const mst_adamw_args *piece) {
    mst_status status = MST_OK;
    for (size_t p = 0; p < piece->part_count; p++) {
        const mst_adamw_part *part = &piece->parts[p];
        MST_TRY(mst_memory_copy_later(device, element(args->weight, begin + part->offset, args->weight_dtype),
                                      element(piece->weight, part->offset, args->weight_dtype),
                                      part->count * mst_dtype_size(args->weight_dtype)));
    }
done:
    return status;
}

static size_t min_of(size_t a, size_t b) {
    return a < b ? a : b;
}

static const mst_offload_piece *place_of(const mst_offload *o, size_t begin) {
    return &o->pieces[begin / PIECE % MST_OFFLOAD_PIECES];
}

/* Begins to bring a piece's gradient over. The mark stands behind the weights that its place held before, too. */
static mst_status fetch(mst_offload *o, const mst_adamw_args *args, size_t begin, size_t count) {
    mst_status status = MST_OK;
    const mst_offload_piece *piece = place_of(o, begin);
    MST_TRY(mst_memory_copy_later(o->device, piece->gradient, args->gradient + begin,
                                  count * sizeof *piece->gradient));
    if (piece->there) MST_TRY(mst_mark_set_work(o->device, piece->there));
done:
    return status;
}

static mst_status update(mst_offload *o, const mst_adamw_args *args, size_t begin, size_t count) {
    mst_status status = MST_OK;
    const mst_offload_piece *place = place_of(o, begin);
    mst_adamw_args piece = *args;
    piece.parts = o->parts;
    piece.part_count = cut(args, begin, count, o->parts);
    piece.gradient = place->gradient;
    piece.m = element(args->m, begin, args->moments);
    piece.v = element(args->v, begin, args->moments);
    piece.master = args->master + begin;
    piece.weight = place->weight;
    if (place->there) MST_TRY(mst_mark_wait(o->device, place->there));
    MST_TRY(o->kernels.adamw(o->queue, &piece));
    MST_TRY(give_back(o->device, args, begin, &piece));
done:
    return status;
}

mst_status mst_offload_adamw(mst_offload *o, const mst_adamw_args *args) {
    mst_status status = MST_OK;
    const size_t extent = mst_adamw_extent(args);
    if (extent > 0) MST_TRY(fetch(o, args, 0, min_of(extent, PIECE)));
    for (size_t begin = 0; begin < extent; begin += PIECE) {
        const size_t count = min_of(extent - begin, PIECE), next = begin + count;
        if (next < extent) MST_TRY(fetch(o, args, next, min_of(extent - next, PIECE)));
        MST_TRY(update(o, args, begin, count));
    }
done:
    return status;
}
