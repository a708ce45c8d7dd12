#include "emulation_graph.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulation_stream.h"

/* CUDA's numbers. */
enum { NOT_SUPPORTED = 801, UNSUPPORTED_IN_CAPTURE = 900, CAPTURE_LOST = 901, WRONG_CAPTURE = 905 };

typedef struct node {
    void (*work)(const void *arguments);
    void *arguments; /* owned */
    size_t bytes;
} node;

struct CUgraph_st {
    node *nodes;
    size_t count;
};

struct CUgraphExec_st {
    struct CUgraph_st graph;
};

/* What this thread captures. */
static _Thread_local struct {
    struct CUstream_st *stream; /* NULL: nothing */
    struct CUgraph_st graph;
    bool lost;
} capture;

static _Thread_local int last_error;

static size_t done_alone, graph_launches, done_by_graphs;

static int failed(int error) {
    last_error = error;
    return error;
}

int mst_emulation_last_error(void) {
    const int error = last_error;
    last_error = 0;
    return error;
}

size_t mst_emulation_graph_launches(void) {
    return graph_launches;
}

static bool refuses(const char *what) {
    const char *text = getenv("MST_EMULATED_GRAPHS");
    return text && strcmp(text, what) == 0;
}

static void write_counts(void) {
    FILE *file = fopen(getenv("MST_EMULATED_COUNTS"), "a");
    if (!file) abort();
    fprintf(file, "%zu alone, %zu graphs of %zu, %zu waits, %zu for all\n", done_alone, graph_launches,
            done_by_graphs, mst_emulation_waits(), mst_emulation_drains());
    fclose(file);
}

static void count(size_t *counter, size_t number) {
    static bool counts;
    if (!counts && getenv("MST_EMULATED_COUNTS")) atexit(write_counts);
    counts = true;
    *counter += number;
}

static void add(struct CUgraph_st *graph, const node *original) {
    node *nodes = realloc(graph->nodes, (graph->count + 1) * sizeof *nodes);
    void *copy = malloc(original->bytes + 1);
    if (!nodes || !copy) abort();
    memcpy(copy, original->arguments, original->bytes);
    graph->nodes = nodes;
    nodes[graph->count++] = (node){.work = original->work, .arguments = copy, .bytes = original->bytes};
}

static void clear(struct CUgraph_st *graph) {
    for (size_t i = 0; i < graph->count; i++) free(graph->nodes[i].arguments);
    free(graph->nodes);
    *graph = (struct CUgraph_st){0};
}

bool mst_emulation_captures(const struct CUstream_st *stream) {
    return capture.stream && capture.stream == stream;
}

int mst_emulation_do(struct CUstream_st *stream, void (*work)(const void *arguments), const void *arguments,
                     size_t bytes) {
    if (!mst_emulation_captures(stream)) {
        const int error = stream ? 0 : mst_emulation_forbidden(); /* the legacy stream waits for all others */
        if (error != 0) return error;
        count(&done_alone, 1);
        mst_emulation_queue(stream, work, arguments, bytes);
        return 0;
    }
    if (capture.lost) return failed(CAPTURE_LOST);
    node new = {.work = work, .bytes = bytes};
    memcpy(&new.arguments, &arguments, sizeof arguments); /* only read */
    add(&capture.graph, &new);
    return 0;
}

int mst_emulation_forbidden(void) {
    if (!capture.stream) return 0;
    capture.lost = true;
    return failed(UNSUPPORTED_IN_CAPTURE);
}

int mst_emulation_begin(struct CUstream_st *stream) {
    if (capture.stream) return failed(WRONG_CAPTURE);
    if (refuses("begin")) return failed(NOT_SUPPORTED);
    capture.stream = stream;
    capture.lost = false;
    return 0;
}

int mst_emulation_end(struct CUstream_st *stream, struct CUgraph_st **graph_out) {
    *graph_out = NULL;
    if (!mst_emulation_captures(stream)) return failed(WRONG_CAPTURE);
    capture.stream = NULL;
    const bool refused = refuses("end");
    if (capture.lost || refused) {
        clear(&capture.graph);
        return failed(refused ? NOT_SUPPORTED : CAPTURE_LOST);
    }
    struct CUgraph_st *graph = malloc(sizeof *graph);
    if (!graph) abort();
    *graph = capture.graph;
    capture.graph = (struct CUgraph_st){0};
    *graph_out = graph;
    return 0;
}

int mst_emulation_instantiate(struct CUgraphExec_st **executable_out, const struct CUgraph_st *graph) {
    if (refuses("instantiate")) return failed(NOT_SUPPORTED);
    struct CUgraphExec_st *executable = calloc(1, sizeof *executable);
    if (!executable) abort();
    for (size_t i = 0; i < graph->count; i++) add(&executable->graph, &graph->nodes[i]);
    *executable_out = executable;
    return 0;
}

int mst_emulation_launch(const struct CUgraphExec_st *executable, struct CUstream_st *stream) {
    const int error = mst_emulation_forbidden();
    if (error != 0) return error;
    if (refuses("launch")) return failed(NOT_SUPPORTED);
    const struct CUgraph_st *graph = &executable->graph;
    count(&graph_launches, 1);
    count(&done_by_graphs, graph->count);
    for (size_t i = 0; i < graph->count; i++)
        mst_emulation_queue(stream, graph->nodes[i].work, graph->nodes[i].arguments, graph->nodes[i].bytes);
    return 0;
}

void mst_emulation_graph_destroy(struct CUgraph_st *graph) {
    clear(graph);
    free(graph);
}

void mst_emulation_executable_destroy(struct CUgraphExec_st *executable) {
    clear(&executable->graph);
    free(executable);
}
