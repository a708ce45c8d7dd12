/* Opens a device: its table of kernels, checked to be whole. */
#include "../cpu/dispatch/level.h"
#include "../ref/ref.h"
#include "muster/kernels.h"

/** Name of the first slot that is not set, or NULL. */
static const char *empty_slot(const mst_kernels *kernels) {
#define RETURN_IF_EMPTY(slot)                                                                                \
    if (kernels->slot == NULL) return #slot;
    MST_KERNEL_SLOTS(RETURN_IF_EMPTY)
    return NULL;
}

mst_status mst_kernels_open(mst_device device, const char *level, mst_kernels *kernels_out) {
    mst_status status = MST_OK;
    *kernels_out = (mst_kernels){0};
    switch (device) {
    case MST_DEVICE_CPU:
        MST_TRY(mst_kernels_fill_cpu(level, kernels_out));
        break;
    case MST_DEVICE_REF:
        mst_kernels_fill_ref(kernels_out);
        break; /* the same at every level */
    }
    MST_CHECK(kernels_out->name != NULL, MST_EINVAL, "kernels: there is no device number %d", (int)device);
    const char *empty = empty_slot(kernels_out);
    MST_CHECK(empty == NULL, MST_EINTERNAL, "kernels: device %s has no body for %s", kernels_out->name,
              empty);
done:
    return status;
}
