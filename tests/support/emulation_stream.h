/*
 * Streams of the emulated device. Kernels and copies act at once, wherever they are queued; what libraries push on a
 * stream is done in its order by a thread beside the program, so that whoever does not wait for it sees old data.
 */
#ifndef MUSTER_TESTS_EMULATION_STREAM_H
#define MUSTER_TESTS_EMULATION_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st; /* what cudaStream_t points to */

struct CUstream_st *mst_emulation_stream_create(void);
void mst_emulation_stream_destroy(struct CUstream_st *stream);

/* A piece of work. step is called again and again, by the thread, until it says that the work has ended; then, or when the
 * work is dropped, drop is called once. */
typedef struct mst_emulation_work {
    bool (*step)(void *context);
    void (*drop)(void *context, bool ended);
    void *context;
} mst_emulation_work;

void mst_emulation_push(struct CUstream_st *stream, const mst_emulation_work *work);
/* Forgets all work that has not ended. */
void mst_emulation_drop(struct CUstream_st *stream);

/* How many pieces of work were pushed, and whether so many have ended. */
uint64_t mst_emulation_pushed(struct CUstream_st *stream);
bool mst_emulation_passed(struct CUstream_st *stream, uint64_t count);

#ifdef __cplusplus
}
#endif
#endif
