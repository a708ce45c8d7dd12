/*
 * The matrix product as tiles of the result, each one single-threaded call of oneDNN. Which tiles,
 * and what is copied before a call, follows from the arguments and the device class alone;
 * docs/determinism-cpu.md says why.
 */
#include "matmul.h"

#include <string.h>

#include "matmul_onednn.h"

enum {
    ROWS = 256,        /* of a tile, at most */
    COLS = 768,        /* multiples of 48, the width of oneDNN's inner kernel */
    COLS_WHOLE = 1024, /* up to these a dense product is not cut into columns where oneDNN is fastest so */
    DEPTH_WHOLE = 8192,
    ENOUGH = 16,      /* tiles: for 16 threads one each, for 2 an even share; fewer make smaller tiles */
    SLAB = 2048,      /* of k, where panels are copied: bounds the copies to a few MiB */
    DEEP_SLAB = 8192, /* of k, where slabs are tasks of their own */
    DEEP_RESULT = 256 * 4096, /* elements: to a larger result there are tiles enough */
};

/* One dimension cut into `count` pieces of `piece`; the last may be shorter. */
typedef struct cut {
    size_t total, piece, count;
} cut;

static cut cut_evenly(size_t total, size_t limit, size_t multiple) {
    size_t count = (total + limit - 1) / limit;
    size_t piece = (total + count - 1) / count;
    piece = (piece + multiple - 1) / multiple * multiple;
    if (piece > total) piece = total;
    return (cut){.total = total, .piece = piece, .count = (total + piece - 1) / piece};
}

static size_t piece_size(const cut *c, size_t i) {
    return i + 1 < c->count ? c->piece : c->total - i * c->piece;
}

/* Pieces of one dimension come in kinds: whole ones and a shorter last one. */
static size_t piece_kind(const cut *c, size_t i) {
    return piece_size(c, i) != c->piece;
}

/* Slabs of k: the first overwrites the result (unless it adds, too), those that follow
 * add, the last may be shorter. */
enum { SLAB_FIRST, SLAB_NEXT, SLAB_SHORT, SLAB_KINDS };

/* One of the at most 12 different oneDNN products of a job. */
typedef struct part {
    onednn_product *product;
    onednn_team *team;
} part;

/* What one call computes, and how: the same for all tiles. */
typedef struct job {
    const mst_matmul_args *args;
    mst_queue *queue;
    bool widen;          /* bf16 inputs are computed in fp32 */
    bool copy_a, copy_b; /* into dense fp32 scratch */
    bool c_in_scratch;   /* fp32 tile, scaled and rounded to bf16 at the end */
    bool deep;           /* each slab of k gives a result of its own, added up in order at the end */
    float *results;      /* [slabs, m, n], in scratch of thread 0; NULL unless deep */
    cut rows, cols, depth;
    part parts[2][2][SLAB_KINDS]; /* by kind of row piece, column piece and slab */
    size_t product_at, bias_at, a_at, b_at, c_at, scratch_bytes; /* offsets into a thread's scratch */
} job;

/* ---- the plan: a pure function of the arguments and of the device class ---- */

static bool is_dense(const mst_matmul_args *x) {
    return x->lda == (x->a_transposed ? x->m : x->k) && x->ldb == (x->b_transposed ? x->k : x->n) &&
           x->ldc == x->n;
}

static size_t tiles(const job *j) {
    return j->rows.count * j->cols.count;
}

static size_t slab_kind(const job *j, size_t i) {
    if (piece_kind(&j->depth, i) != 0 && i > 0) return SLAB_SHORT;
    return i == 0 || j->deep ? SLAB_FIRST : SLAB_NEXT;
}

/*
 * Few tiles of great depth, as of the gradient that comes from logits: smaller tiles would give the threads work, but
 * oneDNN copies a panel of b for each, which few rows do not repay. So the tiles stay large, and slabs of k are tasks.
 */
static bool is_deep(const job *j, onednn_traits traits) {
    const mst_matmul_args *x = j->args;
    return traits.wide && !j->widen && x->bias == NULL && x->scale == 0 && x->k >= 2 * DEEP_SLAB &&
           x->m * x->n <= DEEP_RESULT;
}

static void choose_deep_tiles(job *j) {
    const mst_matmul_args *x = j->args;
    j->rows = cut_evenly(x->m, ROWS, 8);
    j->cols = cut_evenly(x->n, COLS / 2, 48);
    j->depth = cut_evenly(x->k, DEEP_SLAB, 64);
}

/* docs/determinism-cpu.md has the measurements behind these numbers. */
static void choose_tiles(job *j, onednn_traits traits) {
    const mst_matmul_args *x = j->args;
    bool native_bf16 = x->dtype == MST_BF16 && !j->widen;
    bool fast_whole =
        traits.wide && !j->widen && !x->a_transposed && (x->b_transposed || native_bf16) && is_dense(x);
    bool whole = fast_whole && x->n <= COLS_WHOLE && x->k <= DEPTH_WHOLE;
    bool strided_f32 = !native_bf16 && !x->a_transposed && !x->b_transposed;
    bool narrow = j->copy_a || j->copy_b || strided_f32 || !traits.wide;
    size_t limit = whole ? COLS_WHOLE : narrow ? COLS / 2 : COLS;
    j->rows = cut_evenly(x->m, ROWS, 8);
    j->cols = cut_evenly(x->n, limit, 48);
    if (tiles(j) < ENOUGH && !whole) j->cols = cut_evenly(x->n, COLS / 2, 48);
    if (tiles(j) < ENOUGH) j->rows = cut_evenly(x->m, ROWS / 2, 8);
    if (tiles(j) < ENOUGH / 2 && !whole) j->cols = cut_evenly(x->n, COLS / 4, 48);
    if (tiles(j) < ENOUGH / 2) j->rows = cut_evenly(x->m, ROWS / 4, 8);
    j->depth = cut_evenly(x->k, j->copy_a || j->copy_b ? SLAB : x->k, 1);
}

/*
 * Below AVX-512 oneDNN computes tiles by kernels that read a and b where they stand, at half speed when rows
 * of one panel lie far apart: such panels are copied. So are all panels where bf16 is computed in fp32.
 */
static void choose_copies(job *j, onednn_traits traits) {
    const mst_matmul_args *x = j->args;
    j->copy_a = j->widen || (!traits.wide && x->a_transposed);
    j->copy_b = j->widen || (!traits.wide && !x->b_transposed);
    j->c_in_scratch = (j->widen || x->scale != 0) && x->c_dtype == MST_BF16;
}

static onednn_key key_of(const job *j, size_t row_kind, size_t col_kind, size_t slab) {
    const mst_matmul_args *x = j->args;
    onednn_key key;
    memset(&key, 0, sizeof key);
    size_t m = row_kind == 0 ? j->rows.piece : piece_size(&j->rows, j->rows.count - 1);
    size_t n = col_kind == 0 ? j->cols.piece : piece_size(&j->cols, j->cols.count - 1);
    size_t k = slab == SLAB_SHORT ? piece_size(&j->depth, j->depth.count - 1) : j->depth.piece;
    key.m = (int64_t)m;
    key.n = (int64_t)n;
    key.k = (int64_t)k;
    key.lda = (int64_t)(!j->copy_a ? x->lda : x->a_transposed ? m : k);
    key.ldb = (int64_t)(!j->copy_b ? x->ldb : x->b_transposed ? k : n);
    key.ldc = (int64_t)(j->deep ? x->n : j->c_in_scratch ? n : x->ldc);
    key.dtype = (int32_t)(j->widen ? MST_F32 : x->dtype);
    key.c_dtype = (int32_t)(j->c_in_scratch || j->deep ? MST_F32 : x->c_dtype);
    key.a_transposed = x->a_transposed;
    key.b_transposed = x->b_transposed;
    key.bias = x->bias != NULL && slab == SLAB_FIRST;
    key.accumulate = !j->deep && (x->accumulate || slab != SLAB_FIRST);
    return key;
}

static size_t after(size_t at, size_t bytes) {
    return (at + bytes + 63) / 64 * 64;
}

/* A thread's scratch; behind that of thread 0 are the results of slabs. */
static char *scratch_of(const job *j, int thread) {
    const mst_matmul_args *x = j->args;
    size_t results = j->deep && thread == 0 ? j->depth.count * x->m * x->n * sizeof(float) : 0;
    return mst_queue_scratch(j->queue, thread, j->scratch_bytes + results);
}

/* Lays out a thread's scratch and makes sure that every thread has it. */
static mst_status reserve_scratch(job *j, size_t product_bytes) {
    mst_status status = MST_OK;
    const mst_matmul_args *x = j->args;
    size_t m = j->rows.piece, n = j->cols.piece, k = j->depth.piece, size = sizeof(float);
    j->product_at = 64; /* a task always finds some scratch */
    j->bias_at = after(j->product_at, product_bytes);
    j->a_at = after(j->bias_at, x->bias != NULL ? n * size : 0);
    j->b_at = after(j->a_at, j->copy_a ? m * k * size : 0);
    j->c_at = after(j->b_at, j->copy_b ? k * n * size : 0);
    j->scratch_bytes = after(j->c_at, j->c_in_scratch ? m * n * size : 0);
    for (int thread = 0; thread < mst_queue_threads(j->queue); thread++)
        MST_CHECK(scratch_of(j, thread) != NULL, MST_ENOMEM,
                  "matmul: no memory for %zu bytes of scratch per thread", j->scratch_bytes);
    if (j->deep) j->results = (float *)(void *)(scratch_of(j, 0) + j->scratch_bytes);
done:
    return status;
}

static void give_teams(job *j) {
    for (part *p = &j->parts[0][0][0]; p < &j->parts[0][0][0] + 4 * SLAB_KINDS; p++)
        if (p->team != NULL) onednn_team_give(p->product, &p->team);
}

/* Finds every product that occurs, with handles for every thread. */
static mst_status take_teams(job *j) {
    mst_status status = MST_OK;
    size_t last_row = piece_kind(&j->rows, j->rows.count - 1),
           last_col = piece_kind(&j->cols, j->cols.count - 1);
    size_t last_slab = slab_kind(j, j->depth.count - 1), most = 0;
    for (size_t r = 0; r <= last_row; r++)
        for (size_t c = 0; c <= last_col; c++)
            for (size_t slab = 0; slab < SLAB_KINDS; slab++) {
                bool occurs = slab == SLAB_FIRST || slab == last_slab ||
                              (slab == SLAB_NEXT && !j->deep && j->depth.count > 2);
                if (!occurs) continue;
                part *p = &j->parts[r][c][slab];
                onednn_key key = key_of(j, r, c, slab);
                MST_TRY(onednn_product_find(&key, &p->product));
                MST_TRY(onednn_team_take(p->product, mst_queue_threads(j->queue), &p->team));
                size_t bytes = onednn_product_scratch(p->product);
                if (bytes > most) most = bytes;
            }
    MST_TRY(reserve_scratch(j, most));
done:
    if (status != MST_OK) give_teams(j);
    return status;
}

static mst_status plan(job *j, bool widen) {
    onednn_traits traits = onednn_traits_get();
    j->widen = widen;
    choose_copies(j, traits);
    j->deep = is_deep(j, traits);
    if (j->deep)
        choose_deep_tiles(j);
    else
        choose_tiles(j, traits);
    return take_teams(j);
}

/* ---- the work ---- */

/* result [rows, cols] dense fp32 = the same part of a matrix with rows `ld` apart. */
static void copy_panel(const void *source, mst_dtype dtype, size_t ld, size_t rows, size_t cols,
                       float *result) {
    for (size_t r = 0; r < rows; r++, result += cols) {
        if (dtype == MST_F32) {
            memcpy(result, (const float *)source + r * ld, cols * sizeof *result);
            continue;
        }
        const mst_bf16 *row = (const mst_bf16 *)source + r * ld;
        for (size_t c = 0; c < cols; c++) result[c] = mst_bf16_to_f32(row[c]);
    }
}

static void round_tile(const float *tile, size_t rows, size_t cols, mst_bf16 *c, size_t ldc) {
    for (size_t i = 0; i < rows; i++)
        for (size_t l = 0; l < cols; l++) c[i * ldc + l] = mst_bf16_from_f32(tile[i * cols + l]);
}

static void scale_tile(float *c, size_t rows, size_t cols, size_t ldc, float scale) {
    for (size_t i = 0; i < rows; i++)
        for (size_t l = 0; l < cols; l++) c[i * ldc + l] *= scale;
}

/* Rows [row, row + rows) and columns [col, col + cols) of a stored matrix;
 * copied to `copy` unless that is NULL. */
static const void *panel(const void *matrix, mst_dtype dtype, size_t ld, size_t row, size_t rows, size_t col,
                         size_t cols, float *copy) {
    const void *corner = (const char *)matrix + (row * ld + col) * mst_dtype_size(dtype);
    if (copy == NULL) return corner;
    copy_panel(corner, dtype, ld, rows, cols, copy);
    return copy;
}

static const float *tile_bias(const job *j, size_t col, size_t cols, char *scratch) {
    const mst_matmul_args *x = j->args;
    if (x->bias == NULL) return NULL;
    float *copy = x->dtype == MST_BF16 ? (float *)(scratch + j->bias_at) : NULL;
    return panel(x->bias, x->dtype, x->n, 0, 1, col, cols, copy);
}

/* Where a tile and the slabs that a task computes stand. */
typedef struct tile {
    size_t row, rows, row_kind;
    size_t col, cols, col_kind;
    size_t slab, slabs_end;
} tile;

/* Task number = row of tiles + column of tiles * rows (+ slab * tiles): neighbours share a panel of b. */
static tile tile_of(const job *j, size_t task) {
    size_t i = task % j->rows.count, l = task / j->rows.count % j->cols.count, slab = task / tiles(j);
    return (tile){.row = i * j->rows.piece,
                  .rows = piece_size(&j->rows, i),
                  .row_kind = piece_kind(&j->rows, i),
                  .col = l * j->cols.piece,
                  .cols = piece_size(&j->cols, l),
                  .col_kind = piece_kind(&j->cols, l),
                  .slab = slab,
                  .slabs_end = j->deep ? slab + 1 : j->depth.count};
}

static mst_status compute_tile(void *context, size_t task, int thread) {
    mst_status status = MST_OK;
    const job *j = context;
    const mst_matmul_args *x = j->args;
    const tile t = tile_of(j, task);
    char *scratch = scratch_of(j, thread);
    MST_CHECK(scratch != NULL, MST_ENOMEM, "matmul: no memory for %zu bytes of scratch", j->scratch_bytes);
    float *copy_a = j->copy_a ? (float *)(scratch + j->a_at) : NULL;
    float *copy_b = j->copy_b ? (float *)(scratch + j->b_at) : NULL;
    const float *bias = tile_bias(j, t.col, t.cols, scratch);
    void *c_tile = (char *)x->c + (t.row * x->ldc + t.col) * mst_dtype_size(x->c_dtype);
    void *c = j->deep           ? (void *)(j->results + (t.slab * x->m + t.row) * x->n + t.col)
              : j->c_in_scratch ? scratch + j->c_at
                                : c_tile;
    for (size_t s = t.slab; s < t.slabs_end; s++) {
        size_t k = s * j->depth.piece, ks = piece_size(&j->depth, s);
        const void *a = x->a_transposed ? panel(x->a, x->dtype, x->lda, k, ks, t.row, t.rows, copy_a)
                                        : panel(x->a, x->dtype, x->lda, t.row, t.rows, k, ks, copy_a);
        const void *b = x->b_transposed ? panel(x->b, x->dtype, x->ldb, t.col, t.cols, k, ks, copy_b)
                                        : panel(x->b, x->dtype, x->ldb, k, ks, t.col, t.cols, copy_b);
        const part *p = &j->parts[t.row_kind][t.col_kind][slab_kind(j, s)];
        MST_TRY(onednn_run(p->product, p->team, thread, a, b, bias, c, scratch + j->product_at));
    }
    if (x->scale != 0) scale_tile(c, t.rows, t.cols, j->c_in_scratch ? t.cols : x->ldc, (float)x->scale);
    if (j->c_in_scratch) round_tile(c, t.rows, t.cols, c_tile, x->ldc);
done:
    return status;
}

/* Task: a row of the result, as the sum of the slabs' results in their order. */
static mst_status add_slabs(void *context, size_t row, int thread) {
    const job *j = context;
    const mst_matmul_args *x = j->args;
    float *sum = j->results + row * x->n;
    (void)thread;
    for (size_t s = 1; s < j->depth.count; s++)
        for (size_t l = 0; l < x->n; l++) sum[l] += j->results[(s * x->m + row) * x->n + l];
    if (x->c_dtype == MST_BF16) {
        round_tile(sum, 1, x->n, (mst_bf16 *)x->c + row * x->ldc, x->ldc);
        return MST_OK;
    }
    float *c = (float *)x->c + row * x->ldc;
    for (size_t l = 0; l < x->n; l++) c[l] = x->accumulate ? c[l] + sum[l] : sum[l];
    return MST_OK;
}

/* A product over nothing: zero, or the bias. */
static void compute_empty(const mst_matmul_args *x) {
    for (size_t i = 0; i < x->m && !x->accumulate; i++)
        for (size_t l = 0; l < x->n; l++) {
            float value = x->bias == NULL        ? 0.0f
                          : x->dtype == MST_BF16 ? mst_bf16_to_f32(((const mst_bf16 *)x->bias)[l])
                                                 : ((const float *)x->bias)[l];
            if (x->c_dtype == MST_BF16)
                ((mst_bf16 *)x->c)[i * x->ldc + l] = mst_bf16_from_f32(value);
            else
                ((float *)x->c)[i * x->ldc + l] = value;
        }
}

mst_status mst_matmul_cpu_check(const mst_matmul_args *x) {
    mst_status status = MST_OK;
    MST_CHECK(x->dtype == MST_F32 || x->dtype == MST_BF16, MST_EUNSUPPORTED,
              "matmul: %s on device cpu, which computes f32 and bf16; open device ref for it",
              mst_dtype_name(x->dtype));
    MST_CHECK(x->c_dtype == x->dtype || x->c_dtype == MST_F32, MST_EINVAL, "matmul: a %s result of %s inputs",
              mst_dtype_name(x->c_dtype), mst_dtype_name(x->dtype));
    size_t a_cols = x->a_transposed ? x->m : x->k, b_cols = x->b_transposed ? x->k : x->n;
    MST_CHECK(x->lda >= a_cols && x->ldb >= b_cols && x->ldc >= x->n, MST_EINVAL,
              "matmul: leading dimensions %zu, %zu, %zu are below the rows' lengths %zu, %zu, %zu", x->lda,
              x->ldb, x->ldc, a_cols, b_cols, x->n);
    MST_CHECK(!x->accumulate || (x->bias == NULL && x->c_dtype == MST_F32), MST_EINVAL,
              "matmul: accumulate takes no bias and an f32 result");
    MST_CHECK(x->scale == 0 || (x->bias == NULL && !x->accumulate), MST_EINVAL,
              "matmul: a scale takes no bias and does not accumulate");
done:
    return status;
}

mst_status mst_matmul_cpu(mst_queue *queue, const mst_matmul_args *args) {
    mst_status status = MST_OK;
    job j = {.args = args, .queue = queue};
    if (args->m == 0 || args->n == 0) return MST_OK;
    MST_TRY(mst_matmul_cpu_check(args));
    if (args->k == 0) {
        compute_empty(args);
        goto done;
    }
    bool widen = args->dtype == MST_BF16 && !onednn_traits_get().bf16;
    status = plan(&j, widen);
    if (status == MST_EUNSUPPORTED && args->dtype == MST_BF16 && !widen) status = plan(&j, true);
    if (status != MST_OK) goto done;
    status = mst_queue_for(queue, tiles(&j) * (j.deep ? j.depth.count : 1), compute_tile, &j);
    if (status == MST_OK && j.deep) status = mst_queue_for(queue, args->m, add_slabs, &j);
    give_teams(&j);
done:
    return status;
}

mst_status mst_matmul_cpu_limit(const char *level) {
    return onednn_limit(level);
}

void mst_matmul_cpu_class(char *text, size_t size) {
    onednn_class(text, size);
}
