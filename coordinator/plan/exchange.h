/* Seconds of the exchange between nodes. Private to the room. */
#ifndef PLAN_EXCHANGE_H
#define PLAN_EXCHANGE_H

#include "memory.h"

/** Fills what a plan says of the exchange; microbatch_seconds, lanes, transport and machine are there.
 * @retval MST_ENOMEM */
mst_status plan_exchange(const mst_config *config, const plan_layouts *layouts, mst_plan *plan);

#endif
