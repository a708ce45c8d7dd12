/* The life of the nccl transport: what it keeps, and its communicator. */
#include <stdlib.h>

#include "transport.h"

/* ---- opening ---- */

static mst_status count_pieces(mst_exchange *x, mst_nccl *s) {
    mst_status status = MST_OK;
    s->first_piece = calloc((size_t)x->size, sizeof *s->first_piece);
    s->own_count = calloc((size_t)x->size, sizeof *s->own_count);
    MST_CHECK(s->first_piece && s->own_count, MST_ENOMEM, "opening the nccl transport: no memory");
    for (size_t piece = x->plan.piece_count; piece-- > 0;) {
        const int rank = x->plan.pieces[piece].rank;
        s->first_piece[rank] = piece; /* a rank's pieces follow each other */
        if (++s->own_count[rank] > s->numbers) s->numbers = s->own_count[rank];
    }
done:
    return status;
}

/* Room for what is on its way at most: a round's sums, and published weights, or two units that a pass has asked for. */
static mst_status make_line(mst_exchange *x, mst_nccl *s) {
    mst_status status = MST_OK;
    const size_t room = x->layout->unit_count * (s->numbers + 1) + 2;
    s->line = calloc(room, sizeof *s->line);
    s->marks = calloc(room, sizeof *s->marks);
    s->arrived = calloc(x->layout->unit_count, sizeof *s->arrived);
    s->summed = calloc(x->layout->unit_count, sizeof *s->summed);
    MST_CHECK(s->line && s->marks && s->arrived && s->summed, MST_ENOMEM,
              "opening the nccl transport: no memory for %zu units", x->layout->unit_count);
    for (; s->room < room; s->room++) MST_TRY(mst_mark_create(x->queue, &s->marks[s->room]));
done:
    return status;
}

mst_status mst_nccl_prepare(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state = calloc(1, sizeof *s);
    MST_CHECK(s, MST_ENOMEM, "opening the nccl transport: no memory");
    MST_TRY(mst_nccl_load(&s->library));
    MST_TRY(mst_transfer_stream(x->queue, &s->stream));
    MST_TRY(count_pieces(x, s));
    MST_TRY(make_line(x, s));
done:
    return status;
}

static mst_status make_comm(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    ncclUniqueId id = {{0}};
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (x->rank == 0) status = mst_nccl_check(x, "ncclGetUniqueId", s->library->ncclGetUniqueId(&id));
    MST_TRY(mst_comm_agree(x->comm, status));
    MST_TRY(mst_comm_broadcast(x->comm, 0, &id, sizeof id));
    status = mst_nccl_check(x, "ncclCommInitRankConfig",
                            s->library->ncclCommInitRankConfig(&s->comm, x->size, id, x->rank, &config));
    if (status == MST_OK) status = mst_nccl_wait_comm(x, "open");
    MST_TRY(mst_comm_agree(x->comm, status));
done:
    return status;
}

mst_status mst_nccl_connect(mst_exchange *x) {
    mst_status status = MST_OK;
    mst_nccl *s = x->state;
    MST_TRY(mst_nccl_take_kept(x, &s->comm));
    if (!s->comm) MST_TRY(make_comm(x));
done:
    return status;
}

/* ---- closing ---- */

/* Where a rank cannot, all end theirs at once. */
void mst_nccl_leave(mst_exchange *x) {
    mst_nccl *s = x->state;
    bool all = false;
    const bool whole =
        s && s->comm && !s->given_up && !s->round_open && mst_nccl_wait_ended(x, s->put) == MST_OK;
    if (mst_comm_all(x->comm, whole, &all) != MST_OK) all = false;
    if (whole && all &&
        mst_nccl_check(x, "ncclCommFinalize", s->library->ncclCommFinalize(s->comm)) == MST_OK &&
        mst_nccl_wait_comm(x, "close") == MST_OK) {
        s->library->ncclCommDestroy(s->comm);
        s->comm = NULL;
    }
    if (s && s->comm) s->library->ncclCommAbort(s->comm);
}

void mst_nccl_clear(mst_exchange *x) {
    mst_nccl *s = x->state;
    if (!s) return;
    for (size_t i = 0; i < s->room; i++) mst_mark_destroy(x->queue, &s->marks[i]);
    mst_memory_free(MST_SPACE_DEVICE, &s->received);
    free(s->line);
    free(s->marks);
    free(s->first_piece);
    free(s->own_count);
    free(s->arrived);
    free(s->summed);
    free(s);
    x->state = NULL;
}
