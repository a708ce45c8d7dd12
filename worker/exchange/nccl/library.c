#include "library.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    OLDEST = NCCL_VERSION(2, 18, 0), /* non-blocking groups work from there on */
    SHRINKS = NCCL_VERSION(2, 27, 0),
};

static void *find(void *handle, const char *name, bool *whole) {
    void *function = dlsym(handle, name);
    *whole = *whole && function;
    return function;
}

static mst_status fill(void *handle, mst_nccl_library *library) {
    mst_status status = MST_OK;
    bool whole = true;
    int version = 0;
#define FIND(name) *(void **)&library->name = find(handle, #name, &whole);
    MST_NCCL_FUNCTIONS(FIND)
#undef FIND
    if (whole) library->ncclGetVersion(&version);
    MST_CHECK(version >= OLDEST, MST_EUNSUPPORTED,
              "libnccl.so.2 is version %d.%d; muster needs 2.18 or newer", version / 10000,
              version / 100 % 100);
#ifdef MST_NCCL_SHRINKS
    if (version >= SHRINKS) *(void **)&library->ncclCommShrink = dlsym(handle, "ncclCommShrink");
#endif
done:
    return status;
}

mst_status mst_nccl_load(const mst_nccl_library **library_out) {
    static mst_nccl_library library;
    static bool loaded;
    mst_status status = MST_OK;
    void *handle = NULL;
    if (!loaded) {
        handle = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
        MST_CHECK(handle, MST_EUNSUPPORTED, "NCCL cannot be loaded: %s", dlerror());
        MST_TRY(fill(handle, &library));
        loaded = true;
    }
    *library_out = &library;
    handle = NULL;
done:
    if (handle) dlclose(handle);
    return status;
}
