#include "axis.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double clamp(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;
}

/* "10⁻³" */
static void print_power(int exponent, char text[AXIS_LABEL]) {
    static const char *const digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    char plain[16];
    size_t used = (size_t)snprintf(text, AXIS_LABEL, "10%s", exponent < 0 ? "⁻" : "");
    snprintf(plain, sizeof plain, "%d", abs(exponent));
    for (const char *c = plain; *c != '\0' && used < AXIS_LABEL; c++)
        used += (size_t)snprintf(text + used, AXIS_LABEL - used, "%s", digits[*c - '0']);
}

static void set_scale(report_axis *axis, double factor, const char *scale, const char *suffix) {
    axis->factor = factor;
    snprintf(axis->scale, sizeof axis->scale, "%s", scale);
    snprintf(axis->suffix, sizeof axis->suffix, "%s", suffix);
}

/* The factor and its name, from the largest number on the axis. */
static void choose_scale(report_axis *axis, report_unit unit) {
    static const struct {
        report_unit unit;
        double from, factor;
        const char *scale, *suffix;
    } scales[] = {
        {UNIT_COUNT, 1e9, 1e-9, "", "G"},
        {UNIT_COUNT, 1e6, 1e-6, "", "M"},
        {UNIT_COUNT, 1e4, 1e-3, "", "k"},
        {UNIT_COUNT, 0, 1, "", ""},
        {UNIT_SECONDS, 7200, 1.0 / 3600, "h", ""},
        {UNIT_SECONDS, 300, 1.0 / 60, "min", ""},
        {UNIT_SECONDS, 2, 1, "s", ""},
        {UNIT_SECONDS, 2e-3, 1e3, "ms", ""},
        {UNIT_SECONDS, 0, 1e6, "µs", ""},
        {UNIT_BYTES, 1.5 * 1073741824, 1.0 / 1073741824, "GiB", ""},
        {UNIT_BYTES, 1.5 * 1048576, 1.0 / 1048576, "MiB", ""},
        {UNIT_BYTES, 0, 1.0 / 1024, "KiB", ""},
        {UNIT_SHARE, 0, 100, "", "%"},
    };
    double most = fmax(fabs(axis->low), fabs(axis->high));
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        if (scales[i].unit == unit && most >= scales[i].from) {
            set_scale(axis, scales[i].factor, scales[i].scale, scales[i].suffix);
            return;
        }
    set_scale(axis, 1, "", "");
    if (axis->log || most == 0 || (most >= 0.1 && most < 1e5)) return;
    int exponent = 3 * (int)floor(log10(most) / 3);
    char power[AXIS_LABEL];
    print_power(exponent, power);
    axis->factor = pow(10, -exponent);
    snprintf(axis->scale, sizeof axis->scale, "×%.13s", power);
}

/* 1, 2 or 5 times a power of ten, so that about `wanted` of them span the range. */
static double round_step(double span, int wanted) {
    double raw = span / wanted, power = pow(10, floor(log10(raw))), part = raw / power;
    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

/* Digits in groups of three, for whole numbers. */
static void print_label(const report_axis *axis, double scaled, int decimals, char label[AXIS_LABEL]) {
    char plain[AXIS_LABEL];
    if (scaled == 0) decimals = 0;
    int length = snprintf(plain, sizeof plain, "%.*f", decimals, fabs(scaled)), used = 0;
    if (length >= (int)sizeof plain) length = (int)sizeof plain - 1;
    used += snprintf(label, AXIS_LABEL, "%s", scaled < 0 ? "−" : "");
    int whole = decimals > 0 ? length - decimals - 1 : length;
    for (int i = 0; i < length && used < AXIS_LABEL - 2; i++) {
        if (i > 0 && i < whole && whole > 3 && (whole - i) % 3 == 0) label[used++] = ',';
        label[used++] = plain[i];
    }
    snprintf(label + used, (size_t)(AXIS_LABEL - used), "%s",
             scaled == 0 && axis->suffix[0] != '%' ? "" : axis->suffix);
}

static report_tick *add_tick(report_axis *axis, double value, bool minor) {
    if (axis->count == AXIS_TICKS_MAX) return NULL;
    report_tick *tick = &axis->ticks[axis->count++];
    *tick = (report_tick){.value = value, .minor = minor};
    return tick;
}

static void linear_ticks(report_axis *axis, int wanted, bool loose) {
    double low = axis->low * axis->factor, high = axis->high * axis->factor;
    double step = round_step(high - low, wanted);
    int decimals = (int)clamp(-floor(log10(step) + 1e-9), 0, 12);
    double first = loose ? floor(low / step + 1e-9) : ceil(low / step - 1e-9);
    double last = loose ? ceil(high / step - 1e-9) : floor(high / step + 1e-9);
    if (loose) {
        axis->low = first * step / axis->factor;
        axis->high = last * step / axis->factor;
    }
    for (int i = 0; i < AXIS_TICKS_MAX && first + i <= last; i++) {
        double number = first + i; /* how many steps from zero */
        report_tick *tick = add_tick(axis, number * step / axis->factor, fmod(number, 2) != 0);
        if (tick != NULL) print_label(axis, number * step, decimals, tick->label);
    }
}

static void print_log_label(const report_axis *axis, int digit, int exponent, char label[AXIS_LABEL]) {
    double scaled = digit * pow(10, exponent) * axis->factor;
    bool plain = scaled >= 0.999e-3 && scaled < 1e5;
    char power[AXIS_LABEL];
    if (plain) {
        print_label(axis, scaled, (int)clamp(-floor(log10(scaled) + 1e-9), 0, 12), label);
        return;
    }
    print_power(exponent, power);
    if (digit == 1)
        snprintf(label, AXIS_LABEL, "%s", power);
    else
        snprintf(label, AXIS_LABEL, "%d×%.18s", digit, power);
}

/* At 1, 2 and 5 times powers of ten; over many decades at some of the powers only. */
static void decade_ticks(report_axis *axis, int wanted) {
    int first = (int)floor(log10(axis->low)), last = (int)ceil(log10(axis->high));
    int decades = last - first, stride = decades > 2 * wanted ? decades / wanted : 1;
    bool between = axis->high / axis->low < 300;
    static const int digits[] = {1, 2, 5};
    for (int exponent = first; exponent <= last; exponent += stride) {
        for (size_t i = 0; i < (between ? 3 : 1); i++) {
            double value = digits[i] * pow(10, exponent);
            if (value < axis->low * (1 - 1e-9) || value > axis->high * (1 + 1e-9)) continue;
            report_tick *tick = add_tick(axis, value, between && digits[i] != 1);
            if (tick != NULL) print_log_label(axis, digits[i], exponent, tick->label);
        }
    }
}

static void give_width(report_axis *axis) {
    if (axis->high - axis->low > 1e-9 * fmax(fabs(axis->low), fabs(axis->high))) return;
    double half = axis->low == 0 ? 0.5 : fabs(axis->low) * 0.05;
    axis->low -= half;
    axis->high += half;
}

void report_axis_make(double low, double high, bool log, report_unit unit, int wanted, bool loose,
                      report_axis *axis_out) {
    report_axis axis = {.low = low, .high = high, .log = log && low > 0};
    give_width(&axis);
    if (axis.log && loose) {
        double margin = pow(axis.high / axis.low, 0.04);
        axis.low /= margin;
        axis.high *= margin;
    }
    choose_scale(&axis, unit);
    /* within little more than a decade, round numbers at equal distances say more than 1, 2, 5 */
    if (axis.log && axis.high / axis.low > 15)
        decade_ticks(&axis, wanted);
    else
        linear_ticks(&axis, wanted, loose && !axis.log);
    *axis_out = axis;
}

double report_axis_place(const report_axis *axis, double value) {
    double place = axis->log ? log(value / axis->low) / log(axis->high / axis->low)
                             : (value - axis->low) / (axis->high - axis->low);
    return place > 0 ? fmin(place, 1) : 0; /* 0 also for what has no place */
}
