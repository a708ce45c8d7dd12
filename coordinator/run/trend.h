/* Whether held-out loss has left its best behind: then the model learns its training text by heart, and nothing else. */
#ifndef RUN_TREND_H
#define RUN_TREND_H

#include <stdbool.h>

#include "muster/model.h"

enum { TREND_EVALUATIONS = 3, TREND_PERCENT = 1 }; /* so many running, so far above the best: less is noise */

typedef struct trend {
    mst_heldout best;
    uint64_t best_step;
    int worse; /* evaluations running that were clearly above the best */
    bool told; /* since the best one */
} trend;

/** Before any evaluation. */
void trend_begin(trend *t);

/** Takes an evaluation in. Not collective; allocates nothing.
 * @param heldout its loss in nats per token; one that is not finite is passed over
 * @return TREND_EVALUATIONS running were more than TREND_PERCENT above the best; once between two best ones */
bool trend_add(trend *t, uint64_t step, const mst_heldout *heldout);

#endif
