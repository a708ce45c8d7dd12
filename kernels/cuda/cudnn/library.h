/*
 * cuDNN's graph interface, loaded when it is wanted: the program starts where it is not installed. Private to this folder.
 *
 * Everything of that interface is a *descriptor*: made, given attributes, finished, and then part of others. Those that
 * belong together are made by one workshop, in which nothing happens any more once a call has failed.
 */
#ifndef MST_CUDNN_LIBRARY_H
#define MST_CUDNN_LIBRARY_H

#include <cudnn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef MST_CUDA_EMULATED
#define MST_CUDNN(name) name /* tests/support/cudnn_emulation.c is linked */
#else
#define MST_CUDNN_FUNCTIONS(X)                                                                               \
    X(cudnnCreate)                                                                                           \
    X(cudnnDestroy)                                                                                          \
    X(cudnnGetVersion)                                                                                       \
    X(cudnnSetStream)                                                                                        \
    X(cudnnBackendCreateDescriptor)                                                                          \
    X(cudnnBackendDestroyDescriptor)                                                                         \
    X(cudnnBackendSetAttribute)                                                                              \
    X(cudnnBackendGetAttribute)                                                                              \
    X(cudnnBackendFinalize)                                                                                  \
    X(cudnnBackendExecute)

typedef struct mst_cudnn_library {
    void *handle;
#define MST_CUDNN_MEMBER(name) __typeof__(name) *name;
    MST_CUDNN_FUNCTIONS(MST_CUDNN_MEMBER)
#undef MST_CUDNN_MEMBER
} mst_cudnn_library;
extern mst_cudnn_library mst_cudnn_loaded;
#define MST_CUDNN(name) mst_cudnn_loaded.name
#endif

/** Whether there is a libcudnn.so.9; loads it. One thread. */
bool mst_cudnn_find(void);

typedef cudnnBackendDescriptor_t descriptor;

/* What descriptors are for: a GPU that is open, or one that is only described (tests). */
typedef struct cudnn_place {
    cudnnHandle_t handle;
    descriptor properties; /* NULL: the handle's */
} cudnn_place;

enum { MADE_MAX = 256 };
typedef struct workshop {
    cudnn_place place;
    cudnnStatus_t code; /* of the first call that failed */
    size_t count;
    descriptor made[MADE_MAX];
} workshop;

/** A new descriptor, which the workshop keeps; NULL after a failure. */
descriptor mst_cudnn_make(workshop *w, cudnnBackendDescriptorType_t type);
void mst_cudnn_set(workshop *w, descriptor d, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t count, const void *values);
void mst_cudnn_set_number(workshop *w, descriptor d, cudnnBackendAttributeName_t name, int64_t value);
void mst_cudnn_set_part(workshop *w, descriptor d, cudnnBackendAttributeName_t name, descriptor part);
/** As many values as there are, at most `room`. @return their number; 0 after a failure */
int64_t mst_cudnn_get(workshop *w, descriptor d, cudnnBackendAttributeName_t name,
                      cudnnBackendAttributeType_t type, int64_t room, void *values);
void mst_cudnn_finish(workshop *w, descriptor d);
/** Says for which GPU a descriptor is. @param properties the attribute's name */
void mst_cudnn_place(workshop *w, descriptor d, cudnnBackendAttributeName_t properties);
/** Destroys all that was made. */
void mst_cudnn_clear(workshop *w);

#endif
