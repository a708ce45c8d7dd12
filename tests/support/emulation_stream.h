/*
 * Streams of the emulated device. MST_EMULATED_STREAMS=WHEN in the environment, read when a stream is created, says when work is done; where
 * CUDA allows several orders, the last two are as far from the program's as they can be, so that a wait which is missing shows in the bits:
 *   (unset)  kernels and copies act at once, wherever they are queued
 *   lazy     what is queued is kept, with its arguments, until something waits for it, and then no more is done than that needs
 *   others   likewise, but before a stream goes on, all others do what they may
 * A look at an event moves its stream by one piece of work at most, and says that it had not passed. What libraries push is done in the
 * stream's order and may take many steps: a thread beside the program carries it on, without it being waited for when the
 * program has let its streams alone for a while, as ranks need each other's. So whoever does not wait for it sees old data.
 */
#ifndef MUSTER_TESTS_EMULATION_STREAM_H
#define MUSTER_TESTS_EMULATION_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st; /* what cudaStream_t points to; NULL is a stream, too, which waits for no other */

/* Whether work is kept until it is needed. */
bool mst_emulation_is_lazy(void);

struct CUstream_st *mst_emulation_stream_create(void);
/* What is still on it is done, but for that of libraries. */
void mst_emulation_stream_destroy(struct CUstream_st *stream);

/* Kernels and copies. @param arguments [bytes] whatever may be copied so */
void mst_emulation_queue(struct CUstream_st *stream, void (*work)(const void *arguments),
                         const void *arguments, size_t bytes);
/* What follows waits for so many pieces of another stream. */
void mst_emulation_follow(struct CUstream_st *stream, struct CUstream_st *other, uint64_t count);

/* A library's piece of work. step is called again and again until it says that the work has ended; then, or when the work is
 * dropped, drop is called once. */
typedef struct mst_emulation_work {
    bool (*step)(void *context);
    void (*drop)(void *context, bool ended);
    void *context;
} mst_emulation_work;

void mst_emulation_push(struct CUstream_st *stream, const mst_emulation_work *work);
/* Forgets all work of libraries that has not ended. */
void mst_emulation_drop(struct CUstream_st *stream);

/* How many pieces of work were put on the stream, and whether so many have ended. */
uint64_t mst_emulation_pushed(struct CUstream_st *stream);
bool mst_emulation_passed(struct CUstream_st *stream, uint64_t count);
/* The same as the program sees it: who looks in vain has moved the stream. */
bool mst_emulation_look(struct CUstream_st *stream, uint64_t count);

/* Ends so many pieces of a stream, all its work, or that of all streams. Who waits so for a library's would wait for ever if a peer
 * died: that ends the process. */
void mst_emulation_wait(struct CUstream_st *stream, uint64_t count);
void mst_emulation_finish(struct CUstream_st *stream);
void mst_emulation_finish_all(void);

/* How many of the first two waits met work that had not ended, and how many of these left the stream without any: a device that had
 * nothing to do. Of no use where work is done at once. */
size_t mst_emulation_waits(void);
size_t mst_emulation_drains(void);

#ifdef __cplusplus
}
#endif
#endif
