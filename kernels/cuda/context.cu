/* The device side of a queue, memory on the device, and the table of CUDA bodies. */
#include <stdio.h>
#include <stdlib.h>

#include "cudnn/face.h"
#include "device.cuh"

static int chosen_device;
static char chosen_id[sizeof((mst_kernels *)0)->device_id];

const char *mst_cuda_device_id(void) {
    return chosen_id;
}

/* ---------------------------------------------------------------- memory */

static mst_status device_alloc(mst_space space, size_t bytes, void **memory_out) {
    cudaError_t error = space == MST_SPACE_DEVICE ? cudaMalloc(memory_out, bytes)
                                                  : cudaHostAlloc(memory_out, bytes, cudaHostAllocPortable);
    if (error == cudaSuccess) return MST_OK;
    cudaGetLastError(); /* it stays until it is read */
    *memory_out = NULL;
    if (error != cudaErrorMemoryAllocation) return mst_cuda_failed("memory", (int)error);
    size_t free = 0, all = 0;
    if (space != MST_SPACE_DEVICE || cudaMemGetInfo(&free, &all) != cudaSuccess)
        return mst_error(MST_ENOMEM, "cannot allocate %zu bytes of pinned memory", bytes);
    return mst_error(MST_ENOMEM, "cannot allocate %zu bytes on GPU %s: %zu of its %zu bytes are free", bytes,
                     chosen_id, free, all);
}

static mst_status device_alloc_zeroed(mst_space space, size_t bytes, void **memory_out) {
    MST_RETURN_IF(device_alloc(space, bytes, memory_out));
    MST_RETURN_IF(mst_cuda_result("memory", cudaMemsetAsync(*memory_out, 0, bytes, NULL)));
    return mst_cuda_result("memory", cudaStreamSynchronize(NULL));
}

static void device_free(mst_space space, void *memory) {
    if (space == MST_SPACE_DEVICE)
        cudaFree(memory);
    else
        cudaFreeHost(memory);
}

/* Of the GPU as a whole: whatever process has it. */
static mst_status device_room(size_t *free_out, size_t *all_out) {
    return mst_cuda_result("memory", cudaMemGetInfo(free_out, all_out));
}

static mst_status grow(mst_cuda *cuda, mst_space space, size_t bytes, void **memory, size_t *size) {
    if (bytes <= *size) return MST_OK;
    MST_RETURN_IF(mst_cuda_sync(cuda)); /* kernels may still use the old one */
    if (*memory) device_free(space, *memory);
    *memory = NULL;
    *size = 0;
    MST_RETURN_IF(device_alloc(space, bytes, memory));
    *size = bytes;
    cuda->basis++;
    return MST_OK;
}

mst_status mst_cuda_scratch(mst_cuda *cuda, size_t bytes, void **memory_out) {
    MST_RETURN_IF(grow(cuda, MST_SPACE_DEVICE, bytes, &cuda->scratch, &cuda->scratch_bytes));
    *memory_out = cuda->scratch;
    return MST_OK;
}

mst_status mst_cuda_staging(mst_cuda *cuda, size_t bytes, void **memory_out) {
    MST_RETURN_IF(grow(cuda, MST_SPACE_PINNED, bytes, &cuda->staging, &cuda->staging_bytes));
    *memory_out = cuda->staging;
    return MST_OK;
}

/* ---------------------------------------------------------------- the queue's device */

mst_status mst_cuda_copy(mst_cuda *cuda, void *to, const void *from, size_t bytes) {
    return mst_cuda_result(
        "copy", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(cuda->stream)));
}

mst_status mst_cuda_sync(mst_cuda *cuda) {
    return mst_cuda_result("the GPU's work", cudaStreamSynchronize(static_cast<cudaStream_t>(cuda->stream)));
}

static mst_status face_copy(void *device, void *to, const void *from, size_t bytes) {
    return mst_cuda_copy(static_cast<mst_cuda *>(device), to, from, bytes);
}

static mst_status face_fill(void *device, void *memory, unsigned char value, size_t bytes) {
    mst_cuda *cuda = static_cast<mst_cuda *>(device);
    return mst_cuda_result("fill",
                           cudaMemsetAsync(memory, value, bytes, static_cast<cudaStream_t>(cuda->stream)));
}

static mst_status face_sync(void *device) {
    return mst_cuda_sync(static_cast<mst_cuda *>(device));
}

static void face_destroy(void *device) {
    mst_cuda *cuda = static_cast<mst_cuda *>(device);
    mst_cuda_sync(cuda);
    mst_product_destroy(&cuda->product);
    mst_cudnn_destroy(&cuda->cudnn);
    mst_cuda_transfers_close(cuda);
    if (cuda->scratch) cudaFree(cuda->scratch);
    if (cuda->staging) cudaFreeHost(cuda->staging);
    cudaStreamDestroy(static_cast<cudaStream_t>(cuda->stream));
    free(cuda);
}

static mst_status face_choices(void *device, char **text_out) {
    return mst_cuda_choices(static_cast<mst_cuda *>(device), text_out);
}

static mst_status face_choose(void *device, const char *text) {
    return mst_cuda_choose(static_cast<mst_cuda *>(device), text);
}

static mst_status create(mst_cuda **cuda_out) {
    mst_cuda *cuda = static_cast<mst_cuda *>(calloc(1, sizeof *cuda));
    cudaStream_t stream = NULL;
    int shared = 0;
    if (!cuda) return mst_error(MST_ENOMEM, "queue: out of memory");
    cudaError_t error = cudaSetDevice(chosen_device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, chosen_device);
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (error != cudaSuccess) {
        free(cuda);
        return mst_cuda_result("queue", error);
    }
    cuda->stream = stream;
    cuda->shared_limit = (size_t)shared;
    mst_status status = mst_product_create(&cuda->product);
    if (status == MST_OK) status = mst_cudnn_create(stream, &cuda->cudnn);
    if (status == MST_OK) status = mst_cuda_transfers_open(cuda);
    if (status != MST_OK) {
        face_destroy(cuda);
        return status;
    }
    *cuda_out = cuda;
    return MST_OK;
}

mst_status mst_cuda_of(mst_queue *queue, mst_cuda **cuda_out) {
    static const mst_queue_face face = {face_copy,    face_fill,   face_sync,           face_destroy,
                                        face_choices, face_choose, &mst_cuda_transfers, &mst_cuda_recordings};
    *cuda_out = static_cast<mst_cuda *>(mst_queue_device(queue));
    if (*cuda_out) return MST_OK;
    MST_RETURN_IF(create(cuda_out));
    mst_queue_attach(queue, &face, *cuda_out);
    return MST_OK;
}

/* ---------------------------------------------------------------- the table */

/* How many GPUs there are: at least one. */
static mst_status find(int *count_out) {
    int driver = 0;
    cudaError_t error = cudaGetDeviceCount(count_out);
    if (error == cudaSuccess && *count_out > 0) return MST_OK;
    cudaGetLastError(); /* it stays until it is read */
    cudaDriverGetVersion(&driver);
    if (driver == 0)
        return mst_error(MST_EUNSUPPORTED,
                         "cuda: no NVIDIA driver here (CUDA %d.%d is built in); use device.kernels: cpu",
                         CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    return mst_error(
        MST_EUNSUPPORTED,
        "cuda: no GPU that works here: %s (the driver is for CUDA %d.%d, %d.%d is built in); use "
        "device.kernels: cpu",
        error == cudaSuccess ? "none is visible" : cudaGetErrorString(error), driver / 1000,
        driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
}

static mst_status describe(int device, cudaDeviceProp *properties_out) {
    return mst_cuda_result("cuda", cudaGetDeviceProperties(properties_out, device));
}

static mst_status choose(const char *name, cudaDeviceProp *properties_out) {
    int count = 0;
    char *end = NULL;
    long number = name ? strtol(name, &end, 10) : 0;
    if (name && (*name == '\0' || *end != '\0' || number < 0))
        return mst_error(MST_EUNSUPPORTED, "cuda: '%s' is no number of a GPU", name);
    MST_RETURN_IF(find(&count));
    chosen_device = (int)(number % count);
    MST_RETURN_IF(
        mst_cuda_result("cuda", cudaDeviceGetPCIBusId(chosen_id, (int)sizeof chosen_id, chosen_device)));
    MST_RETURN_IF(mst_cuda_result("cuda", cudaSetDevice(chosen_device)));
    return describe(chosen_device, properties_out);
}

static mst_status drive(mst_queue *queue) {
    mst_cuda *cuda;
    return mst_cuda_of(queue, &cuda);
}

/* What the bits depend on. */
static void name_class(const cudaDeviceProp *properties, char *text, size_t size) {
    char product[64];
    mst_product_class(product, sizeof product);
    snprintf(text, size, "cuda %.60s sm_%d%d sms-%d cuda-%d.%d %s", properties->name, properties->major,
             properties->minor, properties->multiProcessorCount, CUDART_VERSION / 1000,
             CUDART_VERSION % 1000 / 10, product[0] ? product : "no-cublas");
}

void mst_cuda_describe(char *text, size_t size) {
    cudaDeviceProp properties;
    char class_name[sizeof((mst_kernels *)0)->class_name];
    int count = 0;
    if (find(&count) != MST_OK || describe(0, &properties) != MST_OK) {
        snprintf(text, size, "none: %s", mst_error_message());
        return;
    }
    name_class(&properties, class_name, sizeof class_name);
    snprintf(text, size, "%d: %s, %zu MiB of memory", count, class_name, properties.totalGlobalMem >> 20);
}

void mst_cuda_describe_software(char *text, size_t size) {
    char driver_text[48] = "no driver", product[256], attention[64];
    int driver = 0;
    cudaDriverGetVersion(&driver);
    if (driver > 0)
        snprintf(driver_text, sizeof driver_text, "the driver is for %d.%d", driver / 1000,
                 driver % 1000 / 10);
    mst_product_describe(product, sizeof product);
    mst_cudnn_class(attention, sizeof attention);
    snprintf(text, size, "CUDA %d.%d is built in; %s; %s; %s", CUDART_VERSION / 1000,
             CUDART_VERSION % 1000 / 10, driver_text, product, attention[0] ? attention : "no cuDNN");
}

mst_status mst_kernels_fill_cuda(const char *device, mst_kernels *table) {
    static const mst_memory_face memory = {device_alloc_zeroed, device_free, drive, device_room};
    cudaDeviceProp properties;
    char product[64];
    MST_RETURN_IF(choose(device, &properties));
    mst_product_class(product, sizeof product);
    if (!product[0]) return mst_error(MST_EUNSUPPORTED, "cuda: cuBLASLt is not found; " MST_CUBLAS_ADVICE);
    mst_memory_attach(&memory);
    *table = mst_kernels();
    table->name = "cuda";
    name_class(&properties, table->class_name, sizeof table->class_name);
    memcpy(table->device_id, chosen_id, sizeof chosen_id);
    table->memory = properties.totalGlobalMem;
#define SET(slot) table->slot = mst_##slot##_cuda;
    MST_KERNEL_SLOTS(SET)
#undef SET
    return MST_OK;
}
