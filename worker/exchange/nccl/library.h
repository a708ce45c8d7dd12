/* NCCL, loaded when it is wanted: the program starts where it is not installed. Private to the room. */
#ifndef MUSTER_NCCL_LIBRARY_H
#define MUSTER_NCCL_LIBRARY_H

#include <nccl.h>

#include "muster/status.h"

#define MST_NCCL_FUNCTIONS(X)                                                                                \
    X(ncclGetVersion)                                                                                        \
    X(ncclGetUniqueId)                                                                                       \
    X(ncclGetErrorString)                                                                                    \
    X(ncclGetLastError)                                                                                      \
    X(ncclCommInitRankConfig)                                                                                \
    X(ncclCommCount)                                                                                         \
    X(ncclCommUserRank)                                                                                      \
    X(ncclCommGetAsyncError)                                                                                 \
    X(ncclCommFinalize)                                                                                      \
    X(ncclCommDestroy)                                                                                       \
    X(ncclCommAbort)                                                                                         \
    X(ncclGroupStart)                                                                                        \
    X(ncclGroupEnd)                                                                                          \
    X(ncclSend)                                                                                              \
    X(ncclRecv)                                                                                              \
    X(ncclBroadcast)                                                                                         \
    X(ncclAllGather)

/* A header from before 2.27 lacks it. */
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
#define MST_NCCL_SHRINKS 1
#endif

/* Each function under its own name. */
typedef struct mst_nccl_library {
#define MST_NCCL_MEMBER(name) __typeof__(name) *name;
    MST_NCCL_FUNCTIONS(MST_NCCL_MEMBER)
#ifdef MST_NCCL_SHRINKS
    MST_NCCL_MEMBER(ncclCommShrink) /* NULL: the library is older than 2.27 */
#endif
#undef MST_NCCL_MEMBER
} mst_nccl_library;

/** Loads libnccl.so.2, once in a process. Not collective; one thread.
 * @retval MST_EUNSUPPORTED it is not found, or older than 2.18: with the loader's own text */
mst_status mst_nccl_load(const mst_nccl_library **library_out);

#endif
