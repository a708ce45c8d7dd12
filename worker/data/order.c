#include "order.h"

#include <math.h>

#include "muster/random.h"

/* The source whose exact share exceeds its slots most; the first of equals. */
static size_t most_short(const mst_source_config *sources, double total, size_t count,
                         const uint32_t *slots) {
    size_t best = 0;
    double best_lack = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        double lack = sources[i].weight / total * ORDER_SLOTS - slots[i];
        if (lack > best_lack) {
            best = i;
            best_lack = lack;
        }
    }
    return best;
}

/* The source with more than one slot that exceeds its exact share most. */
static size_t most_over(const mst_source_config *sources, double total, size_t count, const uint32_t *slots) {
    size_t best = 0;
    double best_excess = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        double excess = slots[i] - sources[i].weight / total * ORDER_SLOTS;
        if (slots[i] > 1 && excess > best_excess) {
            best = i;
            best_excess = excess;
        }
    }
    return best;
}

mst_status order_deal_slots(const mst_source_config *sources, size_t count, uint32_t *first_out) {
    mst_status status = MST_OK;
    double total = 0;
    uint32_t dealt = 0, *slots = first_out + 1;
    MST_CHECK(count > 0, MST_ECONFIG, "no data source; name at least one token file");
    MST_CHECK(count <= ORDER_SLOTS, MST_ECONFIG,
              "%zu data sources are more than %d; build several inputs into one token file", count,
              ORDER_SLOTS);
    for (size_t i = 0; i < count; i++) {
        MST_CHECK(sources[i].weight > 0 && isfinite(sources[i].weight), MST_ECONFIG,
                  "the weight of data source '%s' is %g; it must be above 0 and finite", sources[i].path,
                  sources[i].weight);
        total += sources[i].weight;
    }
    MST_CHECK(isfinite(total), MST_ECONFIG,
              "the weights of the data sources add up to infinity; give smaller ones");
    for (size_t i = 0; i < count; i++) {
        slots[i] = (uint32_t)(sources[i].weight / total * ORDER_SLOTS);
        if (slots[i] == 0) slots[i] = 1;
        dealt += slots[i];
    }
    for (; dealt < ORDER_SLOTS; dealt++) slots[most_short(sources, total, count, slots)]++;
    for (; dealt > ORDER_SLOTS; dealt--) slots[most_over(sources, total, count, slots)]--;
    first_out[0] = 0;
    for (size_t i = 0; i < count; i++) first_out[i + 1] += first_out[i];
done:
    return status;
}

order_place order_find(uint64_t seed, const uint32_t *first, const uint64_t *samples, size_t count,
                       uint64_t sample) {
    order_place place = {0};
    uint64_t turn = sample; /* the how manyth sample of its source this is */
    if (count > 1) {
        uint64_t block = sample / ORDER_SLOTS;
        uint64_t slot = mst_random_permute(seed, MST_RANDOM_MIX, block, ORDER_SLOTS, sample % ORDER_SLOTS);
        while (slot >= first[place.source + 1]) place.source++;
        turn = block * (first[place.source + 1] - first[place.source]) + (slot - first[place.source]);
    }
    uint64_t size = samples[place.source];
    place.epoch = turn / size;
    /* every epoch of every source in its own order */
    uint64_t stream = ((uint64_t)place.source << 48) ^ place.epoch;
    place.index = mst_random_permute(seed, MST_RANDOM_SHUFFLE, stream, size, turn % size);
    return place;
}
