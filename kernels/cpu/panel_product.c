/*
 * The matrix product of bf16 by vdpbf16ps, which adds two terms at a time: level x86-64-v4-bf16. Other levels, and fp32, take
 * oneDNN's in tiles (dispatch/matmul.c), which are as fast.
 *
 * A panel of COLS columns of b is packed once and multiplied with all rows of a task, ROWS at a time: 24 sums in registers, a pair
 * of terms of each per step. An element of the result is one chain of sums in order of k, cut where a slab ends: each slab is summed
 * from zero, and the slabs are added in order. So neither tiles nor threads can change a bit.
 */
#include "panel_product.h"

#ifndef __AVX512BF16__

bool MST_AT_LEVEL(mst_panel_product_takes)(const mst_matmul_args *args) {
    (void)args;
    return false;
}

mst_status MST_AT_LEVEL(mst_panel_product)(mst_queue *queue, const mst_matmul_args *args) {
    (void)queue;
    (void)args;
    return mst_error(MST_EINTERNAL, "matmul: this level has no panels");
}

#else

#include "panel_pack.h"

enum {
    SLAB_PAIRS = 2048,           /* of a panel of b, at most: 384 KiB in the second cache */
    TILE_ROWS = 512,             /* of a task, at most, where a is read as it stands */
    TILE_ROWS_PACKED = 256,      /* where a is packed, which every task does for itself; of long slabs half */
    TILE_PANELS = 16,            /* of a task, at most */
    TASKS_PER_THREAD = 8,        /* at least, if there is enough to do */
    TASKS_PER_THREAD_PACKED = 4, /* fewer pack less */
    LINE = 64,
};

typedef struct product {
    const mst_matmul_args *args;
    mst_queue *queue;
    size_t pairs, slab_pairs, slabs; /* of the summed dimension */
    size_t tile_rows, row_tiles;     /* of a task, and how many such tiles */
    size_t tile_panels, panel_tiles;
    /* in a thread's scratch memory, where the panel of b stands first */
    size_t a_at, kept_at, bias_at, scratch_bytes;
} product;

/* ROWS rows of a, from some pair on. */
typedef struct row_group {
    const char *first;
    size_t row_step, pair_step; /* bytes */
    bool half; /* the last pair lacks its second element: what stands there belongs to something else */
} row_group;

/* Where the sums of ROWS x COLS go. */
typedef struct ending {
    const mst_matmul_args *args;
    size_t rows, cols; /* that there are */
    bool first, last;  /* slab */
    float *kept;       /* [ROWS, COLS] sums of the slabs before */
    const float *bias; /* [COLS] or NULL */
    char *c;
} ending;

/* ---- the inner loop ---- */

MST_INLINE __m512bh pair_of(const char *p) {
    pair both;
    memcpy(&both, p, sizeof both);
    return (__m512bh)_mm512_set1_epi32((int)both);
}

MST_INLINE __m512bh half_pair_of(const char *p) {
    mst_bf16 first;
    memcpy(&first, p, sizeof first);
    return (__m512bh)_mm512_set1_epi32(first);
}

MST_INLINE __m512bh vector_of(const pair *b, size_t v) {
    return (__m512bh)_mm512_loadu_si512(b + v * LANES);
}

/* result [ROWS, COLS] = the sums over all pairs; vectors: a constant, of the COLS. */
MST_INLINE void sum_pairs(const row_group *a, const pair *b, size_t pairs, size_t vectors, float *result) {
    const char *first = a->first;
    const size_t row_step = a->row_step, pair_step = a->pair_step, whole = pairs - a->half;
    __m512 sum[ROWS][VECTORS];
    for (size_t r = 0; r < ROWS; r++)
        for (size_t v = 0; v < vectors; v++) sum[r][v] = _mm512_setzero_ps();
    for (size_t p = 0; p < whole; p++, first += pair_step, b += COLS) {
        __m512bh columns[VECTORS];
        for (size_t v = 0; v < vectors; v++) columns[v] = vector_of(b, v);
        for (size_t r = 0; r < ROWS; r++) {
            const __m512bh row = pair_of(first + r * row_step);
            for (size_t v = 0; v < vectors; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], row, columns[v]);
        }
    }
    for (size_t r = 0; r < ROWS; r++)
        for (size_t v = 0; v < vectors; v++) {
            if (a->half)
                sum[r][v] = _mm512_dpbf16_ps(sum[r][v], half_pair_of(first + r * row_step), vector_of(b, v));
            _mm512_store_ps(result + r * COLS + v * LANES, sum[r][v]);
        }
}

/* ---- before and after it ---- */

/* The sums are long in the making: what they are added to, or overwrite, is fetched meanwhile. */
static void prefetch_c(const ending *e) {
    const size_t size = mst_dtype_size(e->args->c_dtype);
    for (size_t r = 0; r < e->rows; r++)
        for (size_t at = 0; at < e->cols * size; at += LINE)
            __builtin_prefetch(e->c + r * e->args->ldc * size + at, 1);
}

/* What all elements have in common before they are stored. */
static void finish_sums(const ending *e, float *sum) {
    const mst_matmul_args *x = e->args;
    for (size_t i = 0; x->scale != 0 && i < ROWS * COLS; i++) sum[i] *= (float)x->scale;
    for (size_t i = 0; e->bias != NULL && i < ROWS * COLS; i++) sum[i] += e->bias[i % COLS];
}

MST_INLINE void put_vector(const ending *e, size_t row, size_t v, const float *sum, mst_dtype dtype,
                           bool accumulate) {
    const __mmask16 here = first_of_vector(e->cols - v * LANES);
    const size_t at = row * e->args->ldc + v * LANES;
    __m512 value = _mm512_load_ps(sum + row * COLS + v * LANES);
    if (dtype == MST_BF16) {
        _mm256_mask_storeu_epi16((mst_bf16 *)(void *)e->c + at, here, (__m256i)_mm512_cvtneps_pbh(value));
        return;
    }
    float *c = (float *)(void *)e->c + at;
    if (accumulate) value = _mm512_add_ps(_mm512_maskz_loadu_ps(here, c), value);
    _mm512_mask_storeu_ps(c, here, value);
}

MST_INLINE void put_sums(const ending *e, size_t vectors, const float *sum, mst_dtype dtype,
                         bool accumulate) {
    for (size_t r = 0; r < e->rows; r++)
        for (size_t v = 0; v < vectors; v++) put_vector(e, r, v, sum, dtype, accumulate);
}

MST_INLINE void multiply(const row_group *a, const pair *b, size_t pairs, size_t vectors, const ending *e) {
    _Alignas(LINE) float sum[ROWS * COLS];
    if (e->last) prefetch_c(e);
    sum_pairs(a, b, pairs, vectors, sum);
    for (size_t i = 0; !e->first && i < ROWS * COLS; i++) sum[i] = e->kept[i] + sum[i];
    if (!e->last) {
        memcpy(e->kept, sum, sizeof sum);
        return;
    }
    if (e->args->scale != 0 || e->bias != NULL) finish_sums(e, sum);
    if (e->args->c_dtype == MST_BF16)
        put_sums(e, vectors, sum, MST_BF16, false);
    else if (e->args->accumulate)
        put_sums(e, vectors, sum, MST_F32, true);
    else
        put_sums(e, vectors, sum, MST_F32, false);
}

static void multiply_group(const row_group *a, const pair *b, size_t pairs, const ending *e) {
    if (e->cols > 2 * LANES)
        multiply(a, b, pairs, 3, e);
    else if (e->cols > LANES)
        multiply(a, b, pairs, 2, e);
    else
        multiply(a, b, pairs, 1, e);
}

/* ---- a task: a tile of rows times some panels of columns ---- */

/* The part of a stored matrix from `outer` and element k on. */
static operand part_of(const void *matrix, size_t ld, bool along, size_t outer, size_t outers, size_t k,
                       size_t depth) {
    const size_t row = along ? outer : k, col = along ? k : outer;
    return (operand){(const mst_bf16 *)matrix + row * ld + col, ld, outers, depth, along};
}

typedef struct tile {
    size_t row, rows; /* of the result */
    size_t col, cols; /* of a panel */
    pair *a;          /* rows that are packed: all of the tile, or an incomplete group at its end */
    pair *b;
    float *kept, *bias;
} tile;

static size_t slab_depth(const product *p) {
    return 2 * p->slab_pairs;
}

/* Where a is transposed, a slab of all rows of the tile; else an incomplete group at its end, over all of k. */
static void pack_rows(const product *p, const tile *t, size_t slab) {
    const mst_matmul_args *x = p->args;
    const size_t whole = t->rows / ROWS * ROWS, k = slab * slab_depth(p);
    const operand rows =
        x->a_transposed
            ? part_of(x->a, x->lda, false, t->row, t->rows, k, tile_end(x->k, slab_depth(p), slab) - k)
            : part_of(x->a, x->lda, true, t->row + whole, t->rows - whole, 0, x->k);
    if (rows.outer > 0) pack_a(&rows, t->a);
}

/* Of a slab of `pairs` pairs. */
static row_group group_of(const product *p, const tile *t, size_t row, size_t slab, size_t pairs) {
    const mst_matmul_args *x = p->args;
    const size_t from = slab * p->slab_pairs;
    const pair *packed = NULL;
    if (x->a_transposed)
        packed = t->a + row / ROWS * group_stride(pairs);
    else if (t->rows - row < ROWS)
        packed = t->a + from * ROWS;
    if (packed != NULL)
        return (row_group){
            .first = (const char *)packed, .row_step = sizeof(pair), .pair_step = ROWS * sizeof(pair)};
    return (row_group){.first = (const char *)((const mst_bf16 *)x->a + (t->row + row) * x->lda + 2 * from),
                       .row_step = x->lda * sizeof(mst_bf16),
                       .pair_step = sizeof(pair),
                       .half = slab + 1 == p->slabs && x->k % 2 != 0};
}

/* The slab of a panel that stands in t->b, times all rows of the tile; `next`, if any, is fetched meanwhile. */
static void multiply_slab(const product *p, const tile *t, size_t slab, size_t pairs, const operand *next) {
    const mst_matmul_args *x = p->args;
    ending e = {.args = x,
                .cols = t->cols,
                .first = slab == 0,
                .last = slab + 1 == p->slabs,
                .bias = x->bias != NULL ? t->bias : NULL};
    for (size_t row = 0; row < t->rows; row += ROWS) {
        const row_group a = group_of(p, t, row, slab, pairs);
        e.rows = t->rows - row < ROWS ? t->rows - row : ROWS;
        e.kept = t->kept + row * COLS;
        e.c = (char *)x->c + ((t->row + row) * x->ldc + t->col) * mst_dtype_size(x->c_dtype);
        if (next != NULL) prefetch_b(next, row / ROWS, tiles_of(t->rows, ROWS));
        multiply_group(&a, t->b, pairs, &e);
    }
}

static operand slab_of(const product *p, size_t panel, size_t slab) {
    const mst_matmul_args *x = p->args;
    const size_t col = panel * COLS, k = slab * slab_depth(p);
    return part_of(x->b, x->ldb, x->b_transposed, col, tile_end(x->n, COLS, panel) - col, k,
                   tile_end(x->k, slab_depth(p), slab) - k);
}

static void load_bias(const mst_matmul_args *x, const tile *t) {
    for (size_t i = 0; i < COLS; i++) t->bias[i] = i < t->cols ? load(x->bias, t->col + i, MST_BF16) : 0;
}

/*
 * Turn i of a task. A panel's slabs follow each other; but where a is packed, all panels have a slab before the next one is packed, so
 * that what is packed does not grow with k.
 */
typedef struct turn {
    size_t panel, slab;
} turn;

static turn turn_of(const product *p, size_t panels, size_t i) {
    return p->args->a_transposed ? (turn){i % panels, i / panels} : (turn){i / p->slabs, i % p->slabs};
}

static mst_status product_task(void *context, size_t task, int thread) {
    const product *p = context;
    const mst_matmul_args *x = p->args;
    char *scratch = mst_queue_scratch(p->queue, thread, p->scratch_bytes);
    if (scratch == NULL)
        return mst_error(MST_ENOMEM, "matmul: no memory for %zu bytes of scratch", p->scratch_bytes);
    const size_t row_tile = task % p->row_tiles, panel_tile = task / p->row_tiles;
    tile t = {.row = row_tile * p->tile_rows,
              .a = (pair *)(void *)(scratch + p->a_at),
              .b = (pair *)(void *)scratch,
              .bias = (float *)(void *)(scratch + p->bias_at)};
    float *kept = (float *)(void *)(scratch + p->kept_at);
    t.rows = tile_end(x->m, p->tile_rows, row_tile) - t.row;
    const size_t first = panel_tile * p->tile_panels,
                 panels = tile_end(tiles_of(x->n, COLS), p->tile_panels, panel_tile) - first,
                 count = panels * p->slabs;
    operand b = slab_of(p, first, 0), next = b;
    for (size_t i = 0; i < count; i++, b = next) {
        const turn now = turn_of(p, panels, i), following = turn_of(p, panels, i + 1);
        t.col = (first + now.panel) * COLS;
        t.cols = b.outer;
        t.kept = kept + (x->a_transposed ? now.panel * p->tile_rows * COLS : 0);
        if (i == 0 || (x->a_transposed && now.panel == 0)) pack_rows(p, &t, now.slab);
        if (x->bias != NULL) load_bias(x, &t);
        pack_b(&b, t.b);
        if (i + 1 < count) next = slab_of(p, first + following.panel, following.slab);
        multiply_slab(p, &t, now.slab, pairs_of(b.k), i + 1 < count ? &next : NULL);
    }
    return MST_OK;
}

/* ---- the whole ---- */

static size_t after(size_t at, size_t bytes) {
    return (at + bytes + LINE - 1) / LINE * LINE;
}

/* Tiles change no bit, so there may be more of them for more threads. */
static void choose_tiles(product *p) {
    const mst_matmul_args *x = p->args;
    const bool packed = x->a_transposed;
    const size_t limit = !packed                          ? TILE_ROWS
                         : p->slab_pairs > SLAB_PAIRS / 2 ? TILE_ROWS_PACKED / 2
                                                          : TILE_ROWS_PACKED;
    const size_t rows = tiles_of(x->m, limit), panels = tiles_of(x->n, COLS);
    const size_t tasks =
        (size_t)mst_queue_threads(p->queue) * (packed ? TASKS_PER_THREAD_PACKED : TASKS_PER_THREAD);
    p->tile_rows = tiles_of(tiles_of(x->m, rows), 2 * ROWS) * 2 * ROWS;
    p->row_tiles = tiles_of(x->m, p->tile_rows);
    size_t most = panels * p->row_tiles / tasks;
    most = most > TILE_PANELS ? TILE_PANELS : most > 0 ? most : 1;
    p->tile_panels = tiles_of(panels, tiles_of(panels, most)); /* even */
    p->panel_tiles = tiles_of(panels, p->tile_panels);
}

mst_status MST_AT_LEVEL(mst_panel_product)(mst_queue *queue, const mst_matmul_args *args) {
    product p = {.args = args, .queue = queue, .pairs = pairs_of(args->k)};
    p.slabs = tiles_of(p.pairs, SLAB_PAIRS);
    p.slab_pairs = tiles_of(p.pairs, p.slabs);
    choose_tiles(&p);
    p.a_at = after(0, tiles_of(p.slab_pairs, LANES) * LANES * COLS * sizeof(pair));
    const size_t packed =
        args->a_transposed ? p.tile_rows / ROWS * group_stride(p.slab_pairs) : 2 * group_stride(p.pairs);
    const size_t kept = p.tile_rows * COLS * (args->a_transposed ? p.tile_panels : 1);
    p.kept_at = after(p.a_at, packed * sizeof(pair));
    p.bias_at = after(p.kept_at, p.slabs > 1 ? kept * sizeof(float) : 0);
    p.scratch_bytes = after(p.bias_at, COLS * sizeof(float));
    return mst_queue_for(queue, p.row_tiles * p.panel_tiles, product_task, &p);
}

bool MST_AT_LEVEL(mst_panel_product_takes)(const mst_matmul_args *args) {
    return args->dtype == MST_BF16;
}

#endif
