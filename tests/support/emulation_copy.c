#include "emulation_copy.h"

#include <stdlib.h>
#include <string.h>

#include "emulation_graph.h"
#include "emulation_memory.h"
#include "emulation_stream.h"

typedef struct copy {
    void *to;
    const void *from; /* NULL: the bytes stand in data */
    size_t bytes;
    unsigned char data[];
} copy;

static void do_copy(const void *arguments) {
    const copy *c = arguments;
    mst_emulation_open();
    memmove(c->to, c->from ? c->from : c->data, c->bytes);
    mst_emulation_close();
}

/* From memory that the program may use again when the call returns. */
static int copy_taken(struct CUstream_st *stream, void *to, const void *from, size_t bytes) {
    copy *c = malloc(sizeof *c + bytes);
    if (!c) abort();
    *c = (copy){.to = to, .bytes = bytes};
    memcpy(c->data, from, bytes);
    const int error = mst_emulation_do(stream, do_copy, c, sizeof *c + bytes);
    free(c);
    return error;
}

int mst_emulation_copy(struct CUstream_st *stream, void *to, const void *from, size_t bytes) {
    const bool kept = bytes > 0 && mst_emulation_is_lazy() && !mst_emulation_captures(stream);
    const copy c = {.to = to, .from = from, .bytes = bytes};
    const int error = kept && mst_emulation_is_pageable(from)
                          ? copy_taken(stream, to, from, bytes)
                          : mst_emulation_do(stream, do_copy, &c, sizeof c);
    if (error == 0 && kept && mst_emulation_is_pageable(to)) mst_emulation_finish(stream);
    return error;
}

typedef struct fill {
    void *to;
    int value;
    size_t bytes;
} fill;

static void do_fill(const void *arguments) {
    const fill *f = arguments;
    mst_emulation_open();
    memset(f->to, f->value, f->bytes);
    mst_emulation_close();
}

int mst_emulation_fill(struct CUstream_st *stream, void *to, int value, size_t bytes) {
    const fill f = {to, value, bytes};
    return mst_emulation_do(stream, do_fill, &f, sizeof f);
}
