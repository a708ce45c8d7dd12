/* Token and position embedding. Backward: a task owns a tile of columns of every row of the tables, so that
 * each element is added to by one thread, in order of r. */
#include "chunk.h"
#include "cpu.h"

static mst_embedding_forward_fn mst_embedding_forward_cpu;
static mst_embedding_backward_fn mst_embedding_backward_cpu;

enum { TILE_ELEMENTS = 16384, TILE_COLUMNS = 128, CHUNK = 32 };

typedef struct embedding_job {
    const mst_embedding_args *args;
    size_t tile_rows;
} embedding_job;

static mst_status check_tokens(const char *operation, const mst_embedding_args *args, bool positions) {
    mst_status status = MST_OK;
    MST_TRY(check_dtype(operation, args->dtype));
    MST_CHECK(!positions || args->rows == 0 || args->seq_len > 0, MST_EINVAL, "%s: seq_len is 0", operation);
    for (size_t r = 0; r < args->rows; r++)
        MST_CHECK(args->tokens[r] >= 0 && (size_t)args->tokens[r] < args->vocab, MST_EINVAL,
                  "%s: token %d of row %zu is outside the vocabulary of %zu", operation, (int)args->tokens[r],
                  r, args->vocab);
done:
    return status;
}

static void copy_rows(const mst_embedding_args *a, size_t begin, size_t end) {
    size_t cols = a->cols, bytes = cols * mst_dtype_size(a->dtype);
    for (size_t r = begin; r < end; r++)
        memcpy(element_mut(a->y, r * cols, a->dtype),
               element(a->table, (size_t)a->tokens[r] * cols, a->dtype), bytes);
}

MST_INLINE void add_chunk(void *y, const void *token, const void *position, size_t i, size_t width,
                          mst_dtype dtype) {
    float sum[CHUNK], added[CHUNK];
    load_chunk(sum, token, i, width, dtype);
    load_chunk(added, position, i, width, dtype);
#pragma omp simd
    for (size_t k = 0; k < width; k++) sum[k] += added[k];
    store_chunk(y, i, sum, width, dtype);
}

MST_INLINE void add_rows(const mst_embedding_args *a, size_t begin, size_t end, mst_dtype dtype) {
    size_t cols = a->cols;
    const int32_t *starts = a->starts;
    for (size_t r = begin; r < end; r++) {
        const void *token = element(a->table, (size_t)a->tokens[r] * cols, dtype);
        const void *position =
            element(a->positions, position_of(a->first, a->seq_len, starts, r) * cols, dtype);
        void *y = element_mut(a->y, r * cols, dtype);
        size_t i = 0;
        for (; i + CHUNK <= cols; i += CHUNK) add_chunk(y, token, position, i, CHUNK, dtype);
        add_chunk(y, token, position, i, cols - i, dtype);
    }
}

static mst_status embedding_forward_task(void *context, size_t task, int thread) {
    const embedding_job *job = context;
    const mst_embedding_args *a = job->args;
    (void)thread;
    size_t begin = task * job->tile_rows, end = tile_end(a->rows, job->tile_rows, task);
    if (a->positions == NULL)
        copy_rows(a, begin, end);
    else if (a->dtype == MST_BF16)
        add_rows(a, begin, end, MST_BF16);
    else
        add_rows(a, begin, end, MST_F32);
    return MST_OK;
}

static mst_status mst_embedding_forward_cpu(mst_queue *queue, const mst_embedding_args *args) {
    mst_status status = MST_OK;
    MST_TRY(check_tokens("embedding_forward", args, args->positions != NULL));
    if (args->cols == 0) goto done;
    embedding_job job = {.args = args, .tile_rows = tile_of_rows(args->cols, TILE_ELEMENTS)};
    MST_TRY(mst_queue_for(queue, tiles_of(args->rows, job.tile_rows), embedding_forward_task, &job));
done:
    return status;
}

MST_INLINE void add_to_row(float *total, const void *dy, size_t width, mst_dtype dtype) {
#pragma omp simd
    for (size_t i = 0; i < width; i++) total[i] += load(dy, i, dtype);
}

MST_INLINE void embedding_backward_tile(const mst_embedding_args *a, size_t begin, size_t end,
                                        mst_dtype dtype) {
    float *dtable = a->dtable, *dpositions = a->dpositions;
    const int32_t *starts = a->starts;
    for (size_t r = 0; r < a->rows; r++) {
        const void *dy = element(a->dy, r * a->cols + begin, dtype);
        add_to_row(dtable + (size_t)a->tokens[r] * a->cols + begin, dy, end - begin, dtype);
        if (dpositions != NULL)
            add_to_row(dpositions + position_of(a->first, a->seq_len, starts, r) * a->cols + begin, dy,
                       end - begin, dtype);
    }
}

static mst_status embedding_backward_task(void *context, size_t task, int thread) {
    const embedding_job *job = context;
    (void)thread;
    size_t begin = task * TILE_COLUMNS, end = tile_end(job->args->cols, TILE_COLUMNS, task);
    if (job->args->dtype == MST_BF16)
        embedding_backward_tile(job->args, begin, end, MST_BF16);
    else
        embedding_backward_tile(job->args, begin, end, MST_F32);
    return MST_OK;
}

static mst_status mst_embedding_backward_cpu(mst_queue *queue, const mst_embedding_args *args) {
    mst_status status = MST_OK;
    MST_TRY(check_tokens("embedding_backward", args, args->dpositions != NULL));
    embedding_job job = {.args = args};
    MST_TRY(mst_queue_for(queue, tiles_of(args->cols, TILE_COLUMNS), embedding_backward_task, &job));
done:
    return status;
}

void MST_AT_LEVEL(mst_cpu_fill_embedding)(mst_kernels *table) {
    table->embedding_forward = mst_embedding_forward_cpu;
    table->embedding_backward = mst_embedding_backward_cpu;
}
