#include "muster/units.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct unit {
    const char *name;
    double value;
    bool shown; /* mst_quantity_text uses it, the largest first that is not above the value */
} unit;

static const unit bytes[] = {{"TiB", 0x1p40, true}, {"GiB", 0x1p30, true}, {"MiB", 0x1p20, true},
                             {"KiB", 0x1p10, true}, {"B", 1, true},        {"TB", 1e12, false},
                             {"GB", 1e9, false},    {"MB", 1e6, false},    {"kB", 1e3, false},
                             {"KB", 1e3, false},    {NULL, 0, false}};
static const unit link[] = {{"Tb/s", 1e12 / 8, true}, {"Gb/s", 1e9 / 8, true},  {"Mb/s", 1e6 / 8, true},
                            {"kb/s", 1e3 / 8, true},  {"Kb/s", 1e3 / 8, false}, {"b/s", 1.0 / 8, true},
                            {"TB/s", 1e12, false},    {"GB/s", 1e9, false},     {"MB/s", 1e6, false},
                            {"kB/s", 1e3, false},     {"KB/s", 1e3, false},     {"B/s", 1, false},
                            {"GiB/s", 0x1p30, false}, {"MiB/s", 0x1p20, false}, {NULL, 0, false}};
static const unit rate[] = {{"Tb/s", 1e12 / 8, false}, {"Gb/s", 1e9 / 8, false}, {"Mb/s", 1e6 / 8, false},
                            {"kb/s", 1e3 / 8, false},  {"Kb/s", 1e3 / 8, false}, {"b/s", 1.0 / 8, false},
                            {"TB/s", 1e12, true},      {"GB/s", 1e9, true},      {"MB/s", 1e6, true},
                            {"kB/s", 1e3, true},       {"KB/s", 1e3, false},     {"B/s", 1, true},
                            {"GiB/s", 0x1p30, false},  {"MiB/s", 0x1p20, false}, {NULL, 0, false}};
static const unit seconds[] = {{"d", 86400, true}, {"h", 3600, true},  {"min", 60, true},  {"s", 1, true},
                               {"ms", 1e-3, true}, {"us", 1e-6, true}, {"ns", 1e-9, true}, {NULL, 0, false}};
static const unit flops[] = {{"PFLOP/s", 1e15, true}, {"TFLOP/s", 1e12, true}, {"GFLOP/s", 1e9, true},
                             {"MFLOP/s", 1e6, true},  {"FLOP/s", 1, true},     {"", 1, false},
                             {NULL, 0, false}};
static const unit share[] = {{"%", 0.01, true}, {"", 1, false}, {NULL, 0, false}};

typedef struct kind {
    const unit *units;
    const char *expected;
} kind;

#define BANDWIDTH                                                                                            \
    "a bandwidth with its unit: Mb/s, Gb/s, Tb/s (bits) or MB/s, GB/s, TB/s, MiB/s, GiB/s (bytes),"

static const kind kinds[] = {
    [MST_QUANTITY_BYTES] = {bytes,
                            "a size with its unit: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, as in 24GiB"},
    [MST_QUANTITY_LINK] = {link, BANDWIDTH " as in 25Gb/s"},
    [MST_QUANTITY_RATE] = {rate, BANDWIDTH " as in 1GB/s"},
    [MST_QUANTITY_SECONDS] = {seconds, "a time with its unit: ns, us, ms, s, min, h, d, as in 20us"},
    [MST_QUANTITY_FLOPS] = {flops,
                            "a number of FLOP/s, with MFLOP/s, GFLOP/s, TFLOP/s, PFLOP/s or no unit, as "
                            "in 450e9 or 450GFLOP/s"},
    [MST_QUANTITY_SHARE] = {share, "a share above 0 and up to 1, as in 0.6 or 60%"},
};

mst_status mst_quantity_parse(mst_quantity quantity, const char *what, const char *text, double *value_out) {
    mst_status status = MST_OK;
    const kind *k = &kinds[quantity];
    const unit *found = NULL;
    /* strtod alone also takes blanks, signs, "inf" and hexadecimal numbers */
    const size_t digits = strspn(text, "0123456789.");
    char *end = NULL;
    double value = digits > 0 && text[1] != 'x' && text[1] != 'X' ? strtod(text, &end) : NAN;
    for (const unit *u = k->units; end != NULL && u->name != NULL && found == NULL; u++)
        if (strcmp(end, u->name) == 0) found = u;
    if (found != NULL) value *= found->value;
    MST_CHECK(found != NULL && isfinite(value) && value > 0 && (quantity != MST_QUANTITY_SHARE || value <= 1),
              MST_ECONFIG, "%s: '%s' is not %s", what, text, k->expected);
    *value_out = value;
done:
    return status;
}

const char *mst_quantity_text(mst_quantity quantity, double value, char text_out[MST_QUANTITY_TEXT]) {
    const unit *chosen = NULL;
    for (const unit *u = kinds[quantity].units; u->name != NULL; u++) {
        if (!u->shown) continue;
        chosen = u;
        if (value >= u->value * 0.9995) break; /* what would be printed as 1000 of the smaller unit */
    }
    const double shown = value / chosen->value;
    const bool whole = shown >= 99.95 || shown == 0 || (chosen->value == 1 && quantity == MST_QUANTITY_BYTES);
    snprintf(text_out, MST_QUANTITY_TEXT, "%.*f %s", whole ? 0 : shown >= 9.995 ? 1 : 2, shown, chosen->name);
    return text_out;
}
