/* Recordings: what the stream is given while it captures, as an executable CUDA graph. */
#include "muster/recording.h"

#include "device.cuh"

static cudaStream_t stream_of(void *device) {
    return static_cast<cudaStream_t>(static_cast<mst_cuda *>(device)->stream);
}

static cudaGraphExec_t graph_of(mst_recording *recording) {
    return reinterpret_cast<cudaGraphExec_t>(recording);
}

/* A call may fail without harm, but its error stays until it is read, which is after the next launch. */
static mst_status result_of(const char *what, cudaError_t error) {
    if (error != cudaSuccess) cudaGetLastError();
    return mst_cuda_result(what, error);
}

/* What other threads do, such as NCCL's, does not disturb it. */
static mst_status begin(void *device) {
    return result_of("recording",
                     cudaStreamBeginCapture(stream_of(device), cudaStreamCaptureModeThreadLocal));
}

static mst_status end(void *device, mst_recording **recording_out) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    cudaError_t error = cudaStreamEndCapture(stream_of(device), &graph);
    if (error == cudaSuccess && recording_out) error = cudaGraphInstantiate(&executable, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    if (error == cudaSuccess && recording_out) *recording_out = reinterpret_cast<mst_recording *>(executable);
    return result_of("recording", error);
}

static mst_status play(void *device, mst_recording *recording) {
    return result_of("launching a recording", cudaGraphLaunch(graph_of(recording), stream_of(device)));
}

static void destroy(void *device, mst_recording *recording) {
    mst_cuda_sync(static_cast<mst_cuda *>(device));
    cudaGraphExecDestroy(graph_of(recording));
}

static uint64_t basis(const void *device) {
    return static_cast<const mst_cuda *>(device)->basis;
}

const mst_recording_face mst_cuda_recordings = {begin, end, play, destroy, basis};
