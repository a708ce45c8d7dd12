#include "library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- loading */

#ifdef MST_CUDA_EMULATED
bool mst_cudnn_find(void) {
    return MST_CUDNN(cudnnGetVersion)() > 0;
}
#else
mst_cudnn_library mst_cudnn_loaded;

/* As the system's loader finds it, else where a toolkit may have it. It finds its own parts beside itself. */
static void *library_open(void) {
    const char *const folders[] = {getenv("CUDNN_HOME"), getenv("CUDA_HOME"), getenv("CUDA_PATH"),
                                   "/usr/local/cuda"};
    const char *const inside[] = {"lib64", "lib"};
    char path[4096];
    snprintf(path, sizeof path, "libcudnn.so.%d", CUDNN_MAJOR);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; !handle && i < 2 * sizeof folders / sizeof *folders; i++) {
        if (!folders[i / 2]) continue;
        snprintf(path, sizeof path, "%s/%s/libcudnn.so.%d", folders[i / 2], inside[i % 2], CUDNN_MAJOR);
        handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    return handle;
}

bool mst_cudnn_find(void) {
    static bool sought;
    if (sought) return mst_cudnn_loaded.handle != NULL;
    sought = true;
    void *handle = library_open();
    if (!handle) return false;
    bool whole = true;
#define FIND(name)                                                                                           \
    *(void **)&mst_cudnn_loaded.name = dlsym(handle, #name);                                                 \
    whole = whole && mst_cudnn_loaded.name;
    MST_CUDNN_FUNCTIONS(FIND)
#undef FIND
    if (whole)
        mst_cudnn_loaded.handle = handle;
    else
        dlclose(handle);
    return whole;
}
#endif

/* ---------------------------------------------------------------- descriptors */

static bool goes_on(const workshop *w) {
    return w->code == CUDNN_STATUS_SUCCESS;
}

descriptor mst_cudnn_make(workshop *w, cudnnBackendDescriptorType_t type) {
    descriptor d = NULL;
    if (goes_on(w) && w->count == MADE_MAX) w->code = CUDNN_STATUS_ALLOC_FAILED;
    if (goes_on(w)) w->code = MST_CUDNN(cudnnBackendCreateDescriptor)(type, &d);
    if (!goes_on(w)) return NULL;
    w->made[w->count++] = d;
    return d;
}

void mst_cudnn_set(workshop *w, descriptor d, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    if (goes_on(w)) w->code = MST_CUDNN(cudnnBackendSetAttribute)(d, name, type, count, values);
}

void mst_cudnn_set_number(workshop *w, descriptor d, cudnnBackendAttributeName_t name, int64_t value) {
    mst_cudnn_set(w, d, name, CUDNN_TYPE_INT64, 1, &value);
}

void mst_cudnn_set_part(workshop *w, descriptor d, cudnnBackendAttributeName_t name, descriptor part) {
    mst_cudnn_set(w, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

int64_t mst_cudnn_get(workshop *w, descriptor d, cudnnBackendAttributeName_t name,
                      cudnnBackendAttributeType_t type, int64_t room, void *values) {
    int64_t count = 0;
    if (goes_on(w)) w->code = MST_CUDNN(cudnnBackendGetAttribute)(d, name, type, room, &count, values);
    if (!goes_on(w)) return 0;
    return count < room ? count : room;
}

void mst_cudnn_finish(workshop *w, descriptor d) {
    if (goes_on(w)) w->code = MST_CUDNN(cudnnBackendFinalize)(d);
}

void mst_cudnn_place(workshop *w, descriptor d, cudnnBackendAttributeName_t properties) {
    if (w->place.properties) mst_cudnn_set_part(w, d, properties, w->place.properties);
}

void mst_cudnn_clear(workshop *w) {
    while (w->count > 0) MST_CUDNN(cudnnBackendDestroyDescriptor)(w->made[--w->count]);
}
