/* Transfers beside the work: a stream of their own; and events as marks in either. */
#include "muster/transfer.h"

#include "device.cuh"

static cudaStream_t transfers_of(void *device) {
    return static_cast<cudaStream_t>(static_cast<mst_cuda *>(device)->transfers);
}

static cudaEvent_t event_of(void *mark) {
    return static_cast<cudaEvent_t>(mark);
}

static void *stream(void *device) {
    return transfers_of(device);
}

static mst_status follow(void *device) {
    mst_cuda *cuda = static_cast<mst_cuda *>(device);
    cudaEvent_t worked = event_of(cuda->worked);
    MST_RETURN_IF(
        mst_cuda_result("transfer", cudaEventRecord(worked, static_cast<cudaStream_t>(cuda->stream))));
    return mst_cuda_result("transfer", cudaStreamWaitEvent(transfers_of(device), worked, 0));
}

static mst_status mark_create(mst_mark **mark_out) {
    cudaEvent_t event = nullptr;
    MST_RETURN_IF(mst_cuda_result("transfer", cudaEventCreateWithFlags(&event, cudaEventDisableTiming)));
    *mark_out = reinterpret_cast<mst_mark *>(event);
    return MST_OK;
}

static void mark_destroy(mst_mark *mark) {
    cudaEventDestroy(event_of(mark));
}

static mst_status mark_set(void *device, mst_mark *mark) {
    return mst_cuda_result("transfer", cudaEventRecord(event_of(mark), transfers_of(device)));
}

static mst_status mark_set_work(void *device, mst_mark *mark) {
    return mst_cuda_result(
        "mark",
        cudaEventRecord(event_of(mark), static_cast<cudaStream_t>(static_cast<mst_cuda *>(device)->stream)));
}

static mst_status mark_passed(mst_mark *mark, bool *passed_out) {
    cudaError_t error = cudaEventQuery(event_of(mark));
    *passed_out = error == cudaSuccess;
    return error == cudaErrorNotReady ? MST_OK : mst_cuda_result("transfer", error);
}

static mst_status mark_wait(mst_mark *mark) {
    return mst_cuda_result("the GPU's work", cudaEventSynchronize(event_of(mark)));
}

static mst_status share(void *memory, mst_shared_memory *name_out) {
    cudaIpcMemHandle_t handle;
    static_assert(sizeof handle == sizeof name_out->bytes, "a handle is copied as it is");
    MST_RETURN_IF(mst_cuda_result("shared memory", cudaIpcGetMemHandle(&handle, memory)));
    memcpy(name_out->bytes, &handle, sizeof handle);
    return MST_OK;
}

static mst_status join(const mst_shared_memory *name, void **memory_out) {
    cudaIpcMemHandle_t handle;
    memcpy(&handle, name->bytes, sizeof handle);
    return mst_cuda_result("shared memory",
                           cudaIpcOpenMemHandle(memory_out, handle, cudaIpcMemLazyEnablePeerAccess));
}

static void leave(void *memory) {
    cudaIpcCloseMemHandle(memory);
}

const mst_transfer_face mst_cuda_transfers = {stream,   follow,        mark_create, mark_destroy,
                                              mark_set, mark_set_work, mark_passed, mark_wait,
                                              share,    join,          leave};

mst_status mst_cuda_transfers_open(mst_cuda *cuda) {
    cudaStream_t transfers = nullptr;
    cudaEvent_t worked = nullptr;
    MST_RETURN_IF(mst_cuda_result("queue", cudaStreamCreateWithFlags(&transfers, cudaStreamNonBlocking)));
    cuda->transfers = transfers;
    MST_RETURN_IF(mst_cuda_result("queue", cudaEventCreateWithFlags(&worked, cudaEventDisableTiming)));
    cuda->worked = worked;
    return MST_OK;
}

void mst_cuda_transfers_close(mst_cuda *cuda) {
    if (cuda->worked) cudaEventDestroy(event_of(cuda->worked));
    if (cuda->transfers) cudaStreamDestroy(transfers_of(cuda));
}
