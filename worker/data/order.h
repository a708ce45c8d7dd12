/*
 * The order of training samples: pure functions of the seed, the weights and the sample's number, so that a
 * run needs no other loader state than that number.
 *
 * Time is cut into blocks of ORDER_SLOTS samples. In every block a source has the same number of
 * slots, its weight's share of them (largest remainders; at least one), and a keyed permutation
 * of the block deals them out. So after every block the mix is exact, and a source's own count of
 * samples follows without looking back.
 */
#ifndef MUSTER_DATA_ORDER_H
#define MUSTER_DATA_ORDER_H

#include "muster/data.h"

enum { ORDER_SLOTS = 4096 };

/* Where a sample of the mix comes from. */
typedef struct order_place {
    size_t source;
    uint64_t epoch, index; /* the source's sample `index` in its file order, in that epoch */
} order_place;

/** Deals ORDER_SLOTS slots by weight.
 * @param first_out [count + 1] source i has slots first_out[i] to first_out[i + 1] - 1
 * @retval MST_ECONFIG a weight is not positive and finite, no source, or more sources than slots */
mst_status order_deal_slots(const mst_source_config *sources, size_t count, uint32_t *first_out);

/** Finds sample number `sample` of the mix. @param samples [count] of one epoch of each source, > 0 */
order_place order_find(uint64_t seed, const uint32_t *first, const uint64_t *samples, size_t count,
                       uint64_t sample);

#endif
