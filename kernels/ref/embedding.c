/* Token and position embedding, forward and backward. */
#include "element.h"
#include "ref.h"

static mst_status check(const char *name, const mst_embedding_args *args, bool positions) {
    mst_status status = MST_OK;
    MST_CHECK(!positions || args->rows == 0 || args->seq_len > 0, MST_EINVAL, "%s: %zu rows but seq_len 0",
              name, args->rows);
    for (size_t r = 0; r < args->rows; r++)
        MST_CHECK(args->tokens[r] >= 0 && (size_t)args->tokens[r] < args->vocab, MST_EINVAL,
                  "%s: token %d in row %zu is not in a vocabulary of %zu", name, (int)args->tokens[r], r,
                  args->vocab);
done:
    return status;
}

/* Row of the position tables that row r uses. */
static size_t position_of(const mst_embedding_args *args, size_t r) {
    return args->first + r % args->seq_len - (args->starts ? (size_t)args->starts[r] : 0);
}

mst_status mst_embedding_forward_ref(mst_queue *queue, const mst_embedding_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_TRY(check("embedding_forward", args, args->positions));
    for (size_t r = 0; r < args->rows; r++) {
        for (size_t c = 0; c < args->cols; c++) {
            double y = load(args->table, args->dtype, (size_t)args->tokens[r] * args->cols + c);
            if (args->positions)
                y += load(args->positions, args->dtype, position_of(args, r) * args->cols + c);
            store(args->y, args->dtype, r * args->cols + c, y);
        }
    }
done:
    return status;
}

/* Every row is added and rounded to ACC by itself, in order of r: the order is part of the definition. */
mst_status mst_embedding_backward_ref(mst_queue *queue, const mst_embedding_args *args) {
    mst_status status = MST_OK;
    (void)queue;
    MST_TRY(check("embedding_backward", args, args->dpositions));
    mst_dtype acc = mst_dtype_acc(args->dtype);
    for (size_t r = 0; r < args->rows; r++) {
        for (size_t c = 0; c < args->cols; c++) {
            double dy = load(args->dy, args->dtype, r * args->cols + c);
            add(args->dtable, acc, (size_t)args->tokens[r] * args->cols + c, dy);
            if (args->dpositions) add(args->dpositions, acc, position_of(args, r) * args->cols + c, dy);
        }
    }
done:
    return status;
}
