/* Seconds of the exchange between nodes. Private to the room. */
#ifndef PLAN_EXCHANGE_H
#define PLAN_EXCHANGE_H

#include "muster/plan.h"

/** Fills what a plan says of the exchange; microbatch_seconds, lanes, transport and machine are there.
 * @retval MST_ENOMEM */
mst_status plan_exchange(const mst_config *config, const mst_layout *layout, mst_plan *plan);

#endif
