#include "straggler.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const double slow_ratio = 1.5, least_seconds = 0.01;

struct straggler {
    int ranks;
    int *slow;      /* [ranks] steps running; negative: named */
    double *sorted; /* [ranks] */
};

mst_status straggler_create(int ranks, straggler **straggler_out) {
    mst_status status = MST_OK;
    straggler *s = calloc(1, sizeof *s);
    *straggler_out = NULL;
    MST_CHECK(s != NULL, MST_ENOMEM, "stragglers: no memory");
    s->ranks = ranks;
    s->slow = calloc((size_t)ranks, sizeof *s->slow);
    s->sorted = calloc((size_t)ranks, sizeof *s->sorted);
    MST_CHECK(s->slow != NULL && s->sorted != NULL, MST_ENOMEM, "stragglers: no memory for %d ranks", ranks);
    *straggler_out = s;
    s = NULL;
done:
    straggler_destroy(&s);
    return status;
}

void straggler_destroy(straggler **s) {
    if (*s == NULL) return;
    free((*s)->slow);
    free((*s)->sorted);
    free(*s);
    *s = NULL;
}

static int compare(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* The median of `count` sorted paces without one of them. */
static double median_without(const double *sorted, int count, double one) {
    const double *place = bsearch(&one, sorted, (size_t)count, sizeof *sorted, compare);
    const int left_out = (int)(place - sorted), others = count - 1;
    const int low = (others - 1) / 2, high = others / 2;
    return (sorted[low + (low >= left_out)] + sorted[high + (high >= left_out)]) / 2;
}

int straggler_look(straggler *s, const double *paces, double microbatches, double *median_out) {
    int count = 0, named = -1;
    for (int rank = 0; rank < s->ranks; rank++)
        if (paces[rank] > 0) s->sorted[count++] = paces[rank];
    if (count < 2) return -1;
    qsort(s->sorted, (size_t)count, sizeof *s->sorted, compare);
    for (int rank = 0; rank < s->ranks; rank++) {
        if (!(paces[rank] > 0) || s->slow[rank] < 0) continue;
        const double median = median_without(s->sorted, count, paces[rank]);
        const double cost = (paces[rank] - median) * microbatches / count;
        const bool slow = paces[rank] > slow_ratio * median && cost > least_seconds;
        s->slow[rank] = slow ? s->slow[rank] + 1 : 0;
        if (s->slow[rank] < STRAGGLER_STEPS || named >= 0) continue;
        named = rank;
        *median_out = median;
        s->slow[rank] = -1;
    }
    return named;
}
