/*
 * Sums over the rows of a matrix in two stages of fixed shape: every tile of rows is summed in row
 * order into a partial sum of its own, then the partial sums are added in tile order. The shape
 * follows from the number of rows alone.
 */
#ifndef MST_CPU_COLUMNS_H
#define MST_CPU_COLUMNS_H

#include <string.h>

#include "cpu.h"

enum { COLUMN_TILE_ROWS = 16, COLUMN_TILES_MAX = 128, COLUMN_TILE = 128 };

typedef struct column_sums {
    size_t rows, cols;
    size_t tile_rows, tiles; /* the partition of the rows */
    size_t sums;             /* column sums that are made side by side, 1 or 2 */
    float *partial;          /* [tiles, sums, cols], scratch memory of the queue's thread 0 */
    float *total[2];         /* [cols] each, added to */
} column_sums;

/** Chooses the partition and takes scratch memory of thread 0, which tasks must therefore not ask for. */
static inline mst_status column_sums_init(column_sums *c, mst_queue *queue, size_t rows, size_t cols,
                                          float *first, float *second) {
    size_t even_share = tiles_of(rows, COLUMN_TILES_MAX);
    *c = (column_sums){.rows = rows, .cols = cols, .sums = second == NULL ? 1 : 2, .total = {first, second}};
    c->tile_rows = even_share < COLUMN_TILE_ROWS ? COLUMN_TILE_ROWS : even_share;
    c->tiles = tiles_of(rows, c->tile_rows);
    c->partial = mst_queue_scratch(queue, 0, c->tiles * c->sums * cols * sizeof(float));
    if (c->partial != NULL) return MST_OK;
    return mst_error(MST_ENOMEM, "column sums: no memory for %zu partial sums of %zu columns", c->tiles,
                     cols);
}

/** The partial sums of one tile, zeroed; the second one (if any) follows at + cols. */
static inline float *column_sums_tile(const column_sums *c, size_t tile) {
    float *partial = c->partial + tile * c->sums * c->cols;
    memset(partial, 0, c->sums * c->cols * sizeof *partial);
    return partial;
}

/* A task is a tile of columns of one of the sums. */
static mst_status column_sums_task(void *context, size_t task, int thread) {
    const column_sums *c = context;
    (void)thread;
    size_t column_tiles = tiles_of(c->cols, COLUMN_TILE), which = task / column_tiles;
    size_t begin = task % column_tiles * COLUMN_TILE,
           end = tile_end(c->cols, COLUMN_TILE, task % column_tiles);
    size_t width = end - begin;
    float sum[COLUMN_TILE] = {0};
    for (size_t tile = 0; tile < c->tiles; tile++) {
        const float *partial = c->partial + (tile * c->sums + which) * c->cols + begin;
#pragma omp simd
        for (size_t i = 0; i < width; i++) sum[i] += partial[i];
    }
    float *total = c->total[which] + begin;
    for (size_t i = 0; i < width; i++) total[i] += sum[i];
    return MST_OK;
}

/** Second stage: adds the partial sums of all tiles to the totals. */
static inline mst_status column_sums_finish(column_sums *c, mst_queue *queue) {
    return mst_queue_for(queue, c->sums * tiles_of(c->cols, COLUMN_TILE), column_sums_task, c);
}

#endif
