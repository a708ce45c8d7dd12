/* Opens a device: its table of kernels, checked to be whole. */
#include <stdio.h>

#include "../cpu/dispatch/level.h"
#ifdef MST_CUDA
#include "../cuda/cudnn/face.h"
#endif
#include "../ref/ref.h"
#include "muster/kernels.h"

/** Name of the first slot that is not set, or NULL. */
static const char *empty_slot(const mst_kernels *kernels) {
#define RETURN_IF_EMPTY(slot)                                                                                \
    if (kernels->slot == NULL) return #slot;
    MST_KERNEL_SLOTS(RETURN_IF_EMPTY)
    return NULL;
}

/* Sets the name and the slots; no name: there is no such device. */
static mst_status fill(mst_device device, const char *level, mst_kernels *table) {
    switch (device) {
    case MST_DEVICE_CPU:
        return mst_kernels_fill_cpu(level, table);
    case MST_DEVICE_REF: /* the same at every level */
        mst_kernels_fill_ref(table);
        break;
    case MST_DEVICE_CUDA:
#ifdef MST_CUDA
        return mst_kernels_fill_cuda(level, table);
#else
        return mst_error(
            MST_EUNSUPPORTED,
            "cuda: this muster was built without CUDA (cmake -DMST_WITH_CUDA=on, with nvcc 12.4 or newer); "
            "use device.kernels: cpu");
#endif
    case MST_DEVICE_AUTO:
        if (fill(MST_DEVICE_CUDA, level, table) == MST_OK) break;
        return fill(MST_DEVICE_CPU, NULL, table);
    }
    return MST_OK;
}

mst_status mst_kernels_open(mst_device device, const char *level, mst_kernels *kernels_out) {
    mst_status status = MST_OK;
    *kernels_out = (mst_kernels){0};
    MST_TRY(fill(device, level, kernels_out));
    MST_CHECK(kernels_out->name != NULL, MST_EINVAL, "kernels: there is no device number %d", (int)device);
    const char *empty = empty_slot(kernels_out);
    MST_CHECK(empty == NULL, MST_EINTERNAL, "kernels: device %s has no body for %s", kernels_out->name,
              empty);
done:
    return status;
}

void mst_kernels_attention_library(char *text, size_t size) {
#ifdef MST_CUDA
    mst_cudnn_class(text, size);
#else
    if (size > 0) text[0] = '\0';
#endif
}

void mst_kernels_describe_gpus(char *text, size_t size) {
#ifdef MST_CUDA
    mst_cuda_describe(text, size);
#else
    snprintf(text, size, "none: built without CUDA");
#endif
}

void mst_kernels_describe_cuda(char *text, size_t size) {
#ifdef MST_CUDA
    mst_cuda_describe_software(text, size);
#else
    snprintf(text, size, "built without CUDA");
#endif
}
