#include "trend.h"

#include <math.h>

void trend_begin(trend *t) {
    *t = (trend){.best = {.loss = INFINITY, .bits_per_byte = NAN}};
}

bool trend_add(trend *t, uint64_t step, const mst_heldout *heldout) {
    if (!isfinite(heldout->loss)) return false;
    if (heldout->loss < t->best.loss) {
        *t = (trend){.best = *heldout, .best_step = step};
        return false;
    }
    t->worse = heldout->loss > t->best.loss * (1 + TREND_PERCENT / 100.0) ? t->worse + 1 : 0;
    if (t->told || t->worse < TREND_EVALUATIONS) return false;
    return t->told = true;
}
