#include "thin.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

/* The points of [begin, end) that stay, moved to `to` in their order; returns how many. */
static size_t thin_bucket(report_point *points, size_t begin, size_t end, bool first, bool last,
                          report_point *to) {
    size_t keep[5], kept = 0, least = SIZE_MAX, most = SIZE_MAX, gap = SIZE_MAX, written = 0;
    for (size_t i = begin; i < end; i++) {
        if (!isfinite(points[i].y)) {
            gap = gap == SIZE_MAX ? i : gap;
            continue;
        }
        if (least == SIZE_MAX || points[i].y < points[least].y) least = i;
        if (most == SIZE_MAX || points[i].y > points[most].y) most = i;
    }
    if (first) keep[kept++] = begin;
    if (least != SIZE_MAX) keep[kept++] = least;
    if (most != SIZE_MAX) keep[kept++] = most;
    if (gap != SIZE_MAX) keep[kept++] = gap;
    if (last) keep[kept++] = end - 1;
    /* each in turn the smallest that is greater than the one before: `to` never passes what is still to be read */
    report_point chosen[5];
    for (size_t after = begin; written < 5;) {
        size_t next = SIZE_MAX;
        for (size_t i = 0; i < kept; i++)
            if (keep[i] >= after && keep[i] < next) next = keep[i];
        if (next == SIZE_MAX) break;
        chosen[written++] = points[next];
        after = next + 1;
    }
    for (size_t i = 0; i < written; i++) to[i] = chosen[i];
    return written;
}

size_t report_thin(report_point *points, size_t count, size_t buckets) {
    if (count <= 2 * buckets) return count;
    size_t kept = 0;
    for (size_t b = 0; b < buckets; b++) {
        size_t begin = (size_t)((double)count * (double)b / (double)buckets);
        size_t end = (size_t)((double)count * (double)(b + 1) / (double)buckets);
        kept += thin_bucket(points, begin, end, b == 0, b + 1 == buckets, points + kept);
    }
    return kept;
}

mst_status report_smooth(report_point *points, size_t count, size_t half) {
    double *sums = malloc((count + 1) * sizeof *sums);
    size_t *numbers = malloc((count + 1) * sizeof *numbers);
    mst_status status = MST_OK;
    MST_CHECK(sums != NULL && numbers != NULL, MST_ENOMEM, "smoothing %zu points: no memory", count);
    sums[0] = 0;
    numbers[0] = 0;
    for (size_t i = 0; i < count; i++) {
        bool finite = isfinite(points[i].y);
        sums[i + 1] = sums[i] + (finite ? points[i].y : 0);
        numbers[i + 1] = numbers[i] + finite;
    }
    for (size_t i = 0; i < count; i++) {
        size_t before = half < i ? half : i, after = before;
        if (after > count - 1 - i) after = count - 1 - i;
        size_t begin = i - before, end = i + after + 1;
        if (isfinite(points[i].y))
            points[i].y = (sums[end] - sums[begin]) / (double)(numbers[end] - numbers[begin]);
    }
done:
    free(sums);
    free(numbers);
    return status;
}
