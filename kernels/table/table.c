/* Opens a device: its table of kernels, checked to be whole. */
#include "../cpu/dispatch/level.h"
#include "../ref/ref.h"
#include "muster/kernels.h"

#define SLOTS(X)                                                                                             \
    X(matmul)                                                                                                \
    X(rmsnorm_forward)                                                                                       \
    X(rmsnorm_backward)                                                                                      \
    X(layernorm_forward)                                                                                     \
    X(layernorm_backward)                                                                                    \
    X(rope)                                                                                                  \
    X(swiglu_forward)                                                                                        \
    X(swiglu_backward)                                                                                       \
    X(gelu_forward)                                                                                          \
    X(gelu_backward)                                                                                         \
    X(embedding_forward)                                                                                     \
    X(embedding_backward)                                                                                    \
    X(attention_forward)                                                                                     \
    X(attention_backward)                                                                                    \
    X(cross_entropy)                                                                                         \
    X(bias_grad)                                                                                             \
    X(ordered_sum)                                                                                           \
    X(adamw)                                                                                                 \
    X(cast)                                                                                                  \
    X(random_normal)                                                                                         \
    X(block_digest)

#define COUNT_SLOT(slot) +1
_Static_assert(sizeof(mst_kernels) - offsetof(mst_kernels, matmul) ==
                   (SLOTS(COUNT_SLOT)) * sizeof(void (*)(void)),
               "a slot of mst_kernels is missing in SLOTS");

/** Name of the first slot that is not set, or NULL. */
static const char *empty_slot(const mst_kernels *kernels) {
#define RETURN_IF_EMPTY(slot)                                                                                \
    if (kernels->slot == NULL) return #slot;
    SLOTS(RETURN_IF_EMPTY)
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
