/* Failures of a GPU, in words. The driver writes the cause, an "Xid", into the kernel's log. */
#include <stdio.h>

#include "device.cuh"
#include "muster/fault.h"

enum { CONTAINED = 226 }; /* cudaErrorContained, which older toolkits do not name */

/* What the Xids of NVIDIA's documentation have to do with an error of the runtime. */
static const char *meaning(int error) {
    switch (error) {
    case cudaErrorECCUncorrectable:
    case CONTAINED:
        return "its memory lost bits (Xid 48, 94 or 95): what it computed last is not to be trusted";
    case cudaErrorNvlinkUncorrectable:
        return "its link to the other GPUs failed (Xid 74)";
    case cudaErrorHardwareStackError:
    case cudaErrorDevicesUnavailable:
        return "it no longer works (Xid 79: it has fallen off the bus), or somebody else keeps it";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorLaunchFailure:
        return "a kernel of muster went wrong (Xid 13 or 31), or the GPU is broken (Xid 48, 79 and others)";
    default:
        return NULL;
    }
}

/* Whether an error stands for the GPU itself, and not perhaps for a kernel of ours, which would go wrong on the next one, too. */
static bool is_broken(int error) {
    switch (error) {
    case cudaErrorECCUncorrectable:
    case CONTAINED:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorHardwareStackError:
        return true;
    case cudaErrorDevicesUnavailable: /* before it was had, somebody else may keep it */
        return mst_cuda_device_id()[0] != '\0';
    default:
        return false;
    }
}

static void note_broken(cudaError_t error, const char *why) {
    char text[256];
    snprintf(text, sizeof text, "GPU %s: %s: %s", mst_cuda_device_id(), cudaGetErrorString(error), why);
    mst_device_broke(text);
}

mst_status mst_cuda_failed(const char *what, int code) {
    cudaError_t error = static_cast<cudaError_t>(code);
    const char *why = meaning(code);
    if (error == cudaErrorMemoryAllocation)
        return mst_error(MST_ENOMEM, "%s: CUDA: %s", what, cudaGetErrorString(error));
    if (!why) return mst_error(MST_ELIBRARY, "%s: CUDA: %s", what, cudaGetErrorString(error));
    if (is_broken(code)) note_broken(error, why);
    return mst_error(
        MST_ELIBRARY,
        "%s: CUDA: %s: GPU %s: %s; see 'dmesg | grep -i xid' and 'nvidia-smi -q -d ECC' on its host; "
        "leave that GPU out, or reset it, and start again: the run goes on from its newest checkpoint",
        what, cudaGetErrorString(error), mst_cuda_device_id(), why);
}
