#include "muster/frozen.h"

#include <stdlib.h>
#include <string.h>

struct mst_frozen {
    const mst_layout *layout; /* not owned, like the queue */
    mst_queue *queue;
    mst_dtype dtype;
    char *weights; /* all units, one after the other */
    bool owns;     /* the memory of them */
    uint64_t set;  /* elements */
};

size_t mst_frozen_bytes_of(const mst_layout *layout, mst_dtype dtype) {
    return layout->blocks * MST_BLOCK * mst_dtype_size(dtype);
}

mst_status mst_frozen_create(const mst_layout *layout, mst_dtype dtype, mst_queue *queue, void *memory,
                             mst_frozen **frozen_out) {
    mst_status status = MST_OK;
    mst_frozen *f = calloc(1, sizeof *f);
    *frozen_out = NULL;
    MST_CHECK(f != NULL, MST_ENOMEM, "frozen weights: no memory for their description");
    *f = (mst_frozen){.layout = layout, .queue = queue, .dtype = dtype, .owns = memory == NULL};
    if (memory == NULL)
        status = mst_memory_alloc(MST_SPACE_DEVICE, mst_frozen_bytes_of(layout, dtype), &memory);
    if (status != MST_OK) {
        mst_error_context(status, "frozen weights of %zu parameters", layout->parameters);
        goto done;
    }
    f->weights = memory;
    *frozen_out = f;
    f = NULL;
done:
    free(f);
    return status;
}

void mst_frozen_destroy(mst_frozen **frozen) {
    if (*frozen == NULL) return;
    if ((*frozen)->owns) mst_memory_free(MST_SPACE_DEVICE, &(*frozen)->weights);
    free(*frozen);
    *frozen = NULL;
}

static char *place_of(const mst_frozen *f, const mst_tensor *tensor, uint64_t first) {
    const size_t unit = f->layout->units[tensor->unit].first_block * MST_BLOCK;
    return f->weights + (unit + tensor->offset + first) * mst_dtype_size(f->dtype);
}

/* Rounded here, as the source is in host memory and the place may be a GPU's; a few blocks at a time. */
static mst_status put_bf16(mst_frozen *f, char *to, const float *values, uint64_t count) {
    mst_status status = MST_OK;
    mst_bf16 rounded[MST_BLOCK];
    for (uint64_t done = 0, some; done < count; done += some) {
        some = count - done < MST_BLOCK ? count - done : MST_BLOCK;
        for (uint64_t i = 0; i < some; i++) rounded[i] = mst_bf16_from_f32(values[done + i]);
        MST_TRY(mst_memory_copy(f->queue, to + done * sizeof *rounded, rounded, some * sizeof *rounded));
    }
done:
    return status;
}

mst_status mst_frozen_put(mst_frozen *frozen, const char *name, const size_t shape[2], uint64_t first,
                          const float *values, uint64_t count) {
    mst_status status = MST_OK;
    mst_frozen *f = frozen;
    const mst_tensor *t = f->layout->tensors, *end = t + f->layout->tensor_count;
    while (t < end && strcmp(t->name, name) != 0) t++;
    MST_CHECK(t < end, MST_EFORMAT, "frozen weights: the model has no tensor %s", name);
    MST_CHECK(t->shape[0] == shape[0] && t->shape[1] == shape[1] && first <= t->count &&
                  count <= t->count - first,
              MST_EFORMAT, "frozen weights: tensor %s has another shape in the model", name);
    if (f->dtype == MST_BF16)
        MST_TRY(put_bf16(f, place_of(f, t, first), values, count));
    else
        MST_TRY(mst_memory_copy(f->queue, place_of(f, t, first), values, count * sizeof *values));
    f->set += count;
done:
    return status;
}

void mst_frozen_restart(mst_frozen *frozen) {
    frozen->set = 0;
}

mst_status mst_frozen_check(const mst_frozen *frozen) {
    mst_status status = MST_OK;
    MST_CHECK(frozen->set == frozen->layout->parameters, MST_EFORMAT,
              "frozen weights: %llu elements are given, the model has %zu", (unsigned long long)frozen->set,
              frozen->layout->parameters);
done:
    return status;
}

const void *mst_frozen_unit(const mst_frozen *frozen, size_t unit) {
    return frozen->weights +
           frozen->layout->units[unit].first_block * MST_BLOCK * mst_dtype_size(frozen->dtype);
}
