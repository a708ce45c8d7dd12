#include "leave.h"

#include <stdio.h>
#include <stdlib.h>

#include "muster/fault.h"
#include "training.h"

/* Also one that nobody has used since: it says so to whoever asks it for anything. */
static const char *fault_of_this_rank(const training *t) {
    size_t room, all;
    (void)mst_memory_room(&room, &all);
    const char *fault = mst_device_fault();
    return fault != NULL && t->config.device.leave_out ? fault : "";
}

static bool is_broken(const leave_fault *fault) {
    return fault->text[0] != '\0';
}

void training_leave(training *t, leave *l) {
    mst_status status = MST_OK;
    const int ranks = mst_comm_size(t->comm);
    int lost = 0;
    leave_fault mine = {""}, *all = NULL;
    if (ranks == 1) return;
    snprintf(mine.text, sizeof mine.text, "%s", fault_of_this_rank(t));
    MST_TRY(mst_comm_allgather_equal(t->comm, &mine, sizeof mine, (void **)&all));
    for (int rank = 0; rank < ranks; rank++) lost += is_broken(&all[rank]);
    if (lost == 0 || lost == ranks) goto done;
    MST_TRY(mst_comm_part(t->comm, !is_broken(&mine), &l->rest));
    *l = (leave){.from = t->comm,
                 .faults = all,
                 .rest = l->rest,
                 .before = t->left != NULL && !t->left->said ? t->left : NULL,
                 .begun = t->begun};
    all = NULL;
done:
    if (status != MST_OK) training_say(t, "warning: %s", mst_error_message()); /* then nobody goes on */
    free(all);
}

static mst_status say_left(training *t, leave *l) {
    mst_status status = MST_OK;
    const uint64_t step = mst_trainer_position(t->trainer)->step;
    if (l->before != NULL) MST_TRY(say_left(t, l->before));
    mst_metrics_leave_fields fields = {.ranks = mst_comm_size(t->comm)};
    for (int rank = 0; rank < mst_comm_size(l->from); rank++) {
        if (!is_broken(&l->faults[rank])) continue;
        fields.rank = rank;
        fields.host = mst_comm_host(l->from, rank);
        fields.fault = l->faults[rank].text;
        training_say(t, "warning: rank %d (host %s): %s; going on without it, with %d rank%s, from step %llu",
                     rank, fields.host, fields.fault, fields.ranks, fields.ranks == 1 ? "" : "s",
                     (unsigned long long)step);
        MST_TRY(mst_comm_agree(t->comm, mst_metrics_leave(t->metrics, step, &fields)));
    }
    l->said = true;
done:
    return status;
}

mst_status training_say_left(training *t) {
    return t->left != NULL ? say_left(t, t->left) : MST_OK;
}

mst_status leave_explain(const leave *l, mst_status failure) {
    if (failure == MST_OK || l->said) return failure;
    for (int rank = mst_comm_size(l->from); rank-- > 0;)
        if (is_broken(&l->faults[rank]))
            mst_error_context(failure, "without rank %d (host %s), whose GPU broke (%s)", rank,
                              mst_comm_host(l->from, rank), l->faults[rank].text);
    return failure;
}

void leave_clear(leave *l) {
    mst_comm_destroy(&l->rest);
    free(l->faults);
    *l = (leave){0};
}
