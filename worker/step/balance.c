/* Lanes dealt by speed. Rank 0 decides, and says so in a step's messages; all change together between two steps. */
#include <string.h>

#include "trainer.h"

void mst_trainer_watch_speeds(mst_trainer *t, double step_seconds) {
    const size_t ranks = (size_t)mst_comm_size(t->comm), lanes = t->config.shape.lanes;
    if (t->config.balance != MST_BALANCE_AUTO || mst_comm_rank(t->comm) != 0) return;
    if (ranks == 1 || ranks >= lanes) return; /* one lane each: there is nothing to deal */
    if (t->deal_announced) return;            /* it is decided */
    mst_speeds_note(&t->speeds, lanes, t->config.shape.rounds * t->config.shape.leaf, t->lane_counts,
                    t->paces, step_seconds);
}

static mst_status make_exchange(mst_trainer *t, const size_t *lane_counts) {
    return mst_exchange_create(t->comm, t->config.transport, &t->config.shape, lane_counts,
                               t->config.precision, &t->layout, t->queue, &t->kernels, &t->exchange);
}

/* The same everywhere, as the counts are. */
static mst_status check_counts(const mst_trainer *t, const size_t *lane_counts) {
    mst_status status = MST_OK;
    size_t sum = 0;
    for (int rank = 0; rank < mst_comm_size(t->comm); rank++) {
        MST_CHECK(lane_counts[rank] <= t->config.shape.lanes, MST_EINVAL,
                  "dealing lanes: rank %d is to have %zu of %zu", rank, lane_counts[rank],
                  t->config.shape.lanes);
        sum += lane_counts[rank];
    }
    MST_CHECK(sum == t->config.shape.lanes, MST_EINVAL, "dealing lanes: %zu are dealt, there are %zu", sum,
              t->config.shape.lanes);
done:
    return status;
}

mst_status mst_trainer_deal(mst_trainer *t, const size_t *lane_counts) {
    mst_status status = MST_OK;
    MST_TRY(check_counts(t, lane_counts));
    mst_watchdog_waiting(t->watchdog, "deal lanes", t->position.step);
    mst_model_forget_graphs(t->model); /* of weights and gradients that are freed now */
    mst_exchange_destroy(&t->exchange);
    status = make_exchange(t, lane_counts);
    if (status == MST_ENOMEM) status = make_exchange(t, t->lane_counts);
    MST_TRY(status);
    mst_trainer_take_lanes(t);
    mst_speeds_dealt(&t->speeds);
    MST_TRY(mst_trainer_publish(t));
done:
    return status;
}

mst_status mst_trainer_balance(mst_trainer *t, mst_rebalance *change) {
    mst_status status = MST_OK;
    const size_t bytes = (size_t)mst_comm_size(t->comm) * sizeof *t->speeds.counts;
    *change = (mst_rebalance){0};
    if (!t->deal_announced) goto done;
    t->deal_announced = false;
    *change = (mst_rebalance){.before = t->speeds.before, .after = t->speeds.after};
    MST_TRY(mst_comm_broadcast(t->comm, 0, change, sizeof *change));
    MST_TRY(mst_comm_broadcast(t->comm, 0, t->speeds.counts, bytes));
    MST_TRY(mst_trainer_deal(t, t->speeds.counts));
    change->changed = memcmp(t->speeds.counts, t->lane_counts, bytes) == 0;
done:
    return status;
}

const size_t *mst_trainer_lanes(const mst_trainer *t) {
    return t->lane_counts;
}
