/*
 * A stand-in for the driver, libcuda.so.1, for libraries that look for one before they make kernels: what they load is taken as it
 * is, and nothing can be run. There is no device.
 */
#include <cuda.h>
#include <stddef.h>

/* What no caller comes to, but which has to be there. Plain names: some are macros that name other versions. */
#define ABSENT(function)                                                                                     \
    CUresult stand_in_##function(void) __asm__(#function);                                                   \
    CUresult stand_in_##function(void) {                                                                     \
        return CUDA_ERROR_NO_DEVICE;                                                                         \
    }
ABSENT(cuCtxGetCurrent)
ABSENT(cuCtxGetLimit)
ABSENT(cuCtxPopCurrent)
ABSENT(cuCtxPushCurrent)
ABSENT(cuDeviceGetCount)
ABSENT(cuInit)
ABSENT(cuKernelGetAttribute)
ABSENT(cuLaunchCooperativeKernel)
ABSENT(cuLaunchKernel)
ABSENT(cuLaunchKernelEx)
ABSENT(cuLibraryLoadFromFile)
ABSENT(cuLinkAddData)
ABSENT(cuLinkComplete)
ABSENT(cuLinkCreate)
ABSENT(cuLinkDestroy)
ABSENT(cuOccupancyMaxPotentialClusterSize)
ABSENT(cuStreamGetCtx)

static char loaded; /* stands for all libraries and kernels */

CUresult cuDriverGetVersion(int *version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *options, void **values,
                           unsigned count, CUlibraryOption *library_options, void **library_values,
                           unsigned library_count) {
    (void)options, (void)values, (void)count, (void)library_options, (void)library_values,
        (void)library_count;
    *library = (CUlibrary)&loaded;
    return code ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuLibraryUnload(CUlibrary library) {
    (void)library;
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
    (void)library, (void)name;
    *kernel = (CUkernel)&loaded;
    return CUDA_SUCCESS;
}

CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
    (void)kernel;
    *function = (CUfunction)&loaded;
    return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    (void)function, (void)attribute, (void)value;
    return CUDA_SUCCESS;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
    (void)attribute, (void)value, (void)kernel, (void)device;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
    (void)error;
    *text = "the stand-in for the driver runs nothing";
    return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **text) {
    return cuGetErrorString(error, text);
}
