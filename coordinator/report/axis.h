/* Axes with round ticks: linear or logarithmic, labelled in the unit that suits the numbers. */
#ifndef REPORT_AXIS_H
#define REPORT_AXIS_H

#include <stdbool.h>
#include <stddef.h>

typedef enum report_unit {
    UNIT_PLAIN,   /* a number; powers of ten go into the unit */
    UNIT_COUNT,   /* k, M, G behind the number */
    UNIT_SECONDS, /* µs, ms, s, min, h */
    UNIT_BYTES,   /* KiB, MiB, GiB */
    UNIT_SHARE    /* of one; percent */
} report_unit;

enum { AXIS_TICKS_MAX = 40, AXIS_LABEL = 24 };

typedef struct report_tick {
    double value;
    bool minor; /* every other one: left out where there is little room */
    char label[AXIS_LABEL];
} report_tick;

typedef struct report_axis {
    double low, high; /* low < high; both > 0 when logarithmic */
    bool log;
    double factor;  /* a label is the value times this */
    char scale[16]; /* what the factor adds to the unit: "ms", "×10⁻³"; "" */
    char suffix[8]; /* what it adds to each label instead: "k", "%"; "" */
    size_t count;
    report_tick ticks[AXIS_TICKS_MAX];
} report_axis;

/**
 * An axis for finite values from `low` to `high`. A range without width is given one; a logarithmic axis for values that are
 * not positive becomes a linear one.
 *
 * Not collective.
 * @param wanted about how many ticks
 * @param loose the ends move out to ticks (linear) or by a little (logarithmic); otherwise they stay
 */
void report_axis_make(double low, double high, bool log, report_unit unit, int wanted, bool loose,
                      report_axis *axis_out);

/** Where a value stands: 0 at the low end, 1 at the high end; cut to these. */
double report_axis_place(const report_axis *axis, double value);

#endif
