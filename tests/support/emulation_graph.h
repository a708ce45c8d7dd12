/*
 * Graphs of the emulated device. What a stream is given while it captures is not done but kept, with a copy of its arguments, and
 * done at every launch of the graph. Calls that CUDA refuses meanwhile are refused, and the capture is lost.
 *   MST_EMULATED_GRAPHS=WHAT   every begin, end, instantiate or launch fails
 *   MST_EMULATED_COUNTS=FILE   when the program ends, a line is added: how much work was done by itself, how many graphs were
 *                              launched, how much work that was, and the host's waits for work, with MST_EMULATED_STREAMS: all, and
 *                              those that left a stream without any
 */
#ifndef MUSTER_TESTS_EMULATION_GRAPH_H
#define MUSTER_TESTS_EMULATION_GRAPH_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct CUstream_st;
struct CUgraph_st;     /* what cudaGraph_t points to */
struct CUgraphExec_st; /* what cudaGraphExec_t points to */

/* All return 0, or CUDA's error, which the next look finds, too. */

/* Work on a stream: done in its order, or kept where the stream captures. @param arguments [bytes] whatever may be copied so */
int mst_emulation_do(struct CUstream_st *stream, void (*work)(const void *arguments), const void *arguments,
                     size_t bytes);
/* Whether this thread captures that stream. */
bool mst_emulation_captures(const struct CUstream_st *stream);
/* A call that no thread may make while it captures. */
int mst_emulation_forbidden(void);

int mst_emulation_begin(struct CUstream_st *stream);
int mst_emulation_end(struct CUstream_st *stream, struct CUgraph_st **graph_out);
int mst_emulation_instantiate(struct CUgraphExec_st **executable_out, const struct CUgraph_st *graph);
int mst_emulation_launch(const struct CUgraphExec_st *executable, struct CUstream_st *stream);
void mst_emulation_graph_destroy(struct CUgraph_st *graph);
void mst_emulation_executable_destroy(struct CUgraphExec_st *executable);

/* The error that this thread's calls met last; forgets it. */
int mst_emulation_last_error(void);
/* Launches of graphs so far. */
size_t mst_emulation_graph_launches(void);

#ifdef __cplusplus
}
#endif
#endif
