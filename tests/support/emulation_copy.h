/*
 * Copies on the emulated device, in the order of a stream, by CUDA's rules: memory of the device and pinned memory are read and
 * written when the copy is done; what is copied from other memory of the host is taken when the copy is asked for, and
 * who copies to such memory waits for the copy.
 */
#ifndef MUSTER_TESTS_EMULATION_COPY_H
#define MUSTER_TESTS_EMULATION_COPY_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;

/* Both return 0, or CUDA's error. */
int mst_emulation_copy(struct CUstream_st *stream, void *to, const void *from, size_t bytes);
int mst_emulation_fill(struct CUstream_st *stream, void *to, int value, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
