/* What a report draws and writes: round ticks, thinned and smoothed curves, escaped text, checked records. */
#include "page.h"
#include "tensorboard.h"
#include "test.h"

/* ---- axes ---- */

/* The labels, one space between. */
static const char *labels(const report_axis *axis, char text[512]) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < axis->count && used < 480; i++)
        used += (size_t)snprintf(text + used, 512 - used, "%s%s", i > 0 ? " " : "", axis->ticks[i].label);
    return text;
}

static void test_labels(void) {
    static const struct {
        double low, high;
        bool log;
        report_unit unit;
        int wanted;
        bool loose;
        const char *scale, *labels;
    } cases[] = {
        {1.07, 5.5, false, UNIT_PLAIN, 5, true, "", "1 2 3 4 5 6"},
        {0, 4e-3, false, UNIT_PLAIN, 5, true, "×10⁻³", "0 1 2 3 4"},
        {0, 2.5e7, false, UNIT_PLAIN, 5, true, "×10⁶", "0 5 10 15 20 25"},
        {-0.3, 0.3, false, UNIT_PLAIN, 5, true, "", "−0.3 −0.2 −0.1 0 0.1 0.2 0.3"},
        {0, 1500, false, UNIT_COUNT, 6, false, "", "0 200 400 600 800 1,000 1,200 1,400"},
        {0, 1e6, false, UNIT_COUNT, 6, false, "", "0 0.2M 0.4M 0.6M 0.8M 1.0M"},
        {0, 0.61, false, UNIT_SHARE, 5, true, "", "0% 10% 20% 30% 40% 50% 60% 70%"},
        {0, 0.25, false, UNIT_SECONDS, 5, true, "ms", "0 50 100 150 200 250"},
        {0, 24.0 * 1073741824, false, UNIT_BYTES, 5, true, "GiB", "0 5 10 15 20 25"},
        {0.001, 1000, true, UNIT_PLAIN, 5, true, "", "0.001 0.01 0.1 1 10 100 1,000"},
        {1e-9, 1e-6, true, UNIT_PLAIN, 5, true, "", "10⁻⁹ 10⁻⁸ 10⁻⁷ 10⁻⁶"},
        {1e-9, 1e-7, true, UNIT_PLAIN, 5, true, "", "10⁻⁹ 2×10⁻⁹ 5×10⁻⁹ 10⁻⁸ 2×10⁻⁸ 5×10⁻⁸ 10⁻⁷"},
        {3, 3, false, UNIT_PLAIN, 5, true, "", "2.85 2.90 2.95 3.00 3.05 3.10 3.15"},
        {0, 0, false, UNIT_PLAIN, 5, true, "", "−0.6 −0.4 −0.2 0 0.2 0.4 0.6"},
    };
    char text[512];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        report_axis axis;
        report_axis_make(cases[i].low, cases[i].high, cases[i].log, cases[i].unit, cases[i].wanted,
                         cases[i].loose, &axis);
        CHECK(strcmp(labels(&axis, text), cases[i].labels) == 0, "case %zu: %s", i, text);
        CHECK(strcmp(axis.scale, cases[i].scale) == 0, "case %zu: scale '%s'", i, axis.scale);
        CHECK(axis.low <= cases[i].low && axis.high >= cases[i].high && axis.low < axis.high,
              "case %zu covers its values", i);
        for (size_t t = 0; t < axis.count; t++) {
            double place = report_axis_place(&axis, axis.ticks[t].value);
            CHECK(place >= -1e-9 && place <= 1 + 1e-9 &&
                      (t == 0 || axis.ticks[t].value > axis.ticks[t - 1].value),
                  "case %zu: tick %zu at %g", i, t, place);
        }
    }
}

/* Whatever the range: from two to some tens of ticks, inside, with different labels. */
static void test_any_range(void) {
    unsigned state = 12345;
    for (int i = 0; i < 20000; i++) {
        double part[3];
        for (int k = 0; k < 3; k++) {
            state = state * 1664525u + 1013904223u;
            part[k] = (double)(state >> 8) / 16777216;
        }
        double low = pow(10, 60 * part[0] - 30), high = low * (1 + pow(10, 12 * part[1] - 6));
        report_axis axis;
        report_axis_make(low, high, part[2] < 0.5, (report_unit)(i % 5), 5, i % 2 == 0, &axis);
        CHECK(axis.count >= 1 && axis.count < AXIS_TICKS_MAX, "%g to %g: %zu ticks", low, high, axis.count);
        CHECK(axis.low <= low && axis.high >= high * (1 - 1e-12), "%g to %g: from %g to %g", low, high,
              axis.low, axis.high);
        CHECK(report_axis_place(&axis, low) >= 0 && report_axis_place(&axis, high) <= 1 &&
                  report_axis_place(&axis, NAN) >= 0,
              "%g to %g", low, high);
    }
    report_axis axis;
    report_axis_make(-1, 5, true, UNIT_PLAIN, 5, true, &axis);
    CHECK(!axis.log, "no logarithm of what is not positive");
}

/* ---- curves ---- */

static void test_thin(void) {
    enum { COUNT = 100000, BUCKETS = 100 };
    report_point *points = malloc(COUNT * sizeof *points), *all = malloc(COUNT * sizeof *all);
    CHECK(points != NULL && all != NULL, "memory");
    for (size_t i = 0; i < COUNT; i++)
        all[i] =
            (report_point){(double)i, sin((double)i * 0.001) + (i == 4321 ? 50 : 0) - (i == 77777 ? 60 : 0)};
    all[50001].y = NAN;
    all[50002].y = INFINITY;
    memcpy(points, all, COUNT * sizeof *points);
    size_t kept = report_thin(points, COUNT, BUCKETS);
    CHECK(kept <= 3 * BUCKETS + 2 && kept >= 2 * BUCKETS, "%zu kept", kept);
    bool spike = false, dip = false, gap = false;
    for (size_t i = 0; i < kept; i++) {
        const report_point *from = &all[(size_t)points[i].x];
        CHECK(i == 0 || points[i].x > points[i - 1].x, "rising at %zu", i);
        CHECK(points[i].y == from->y || (isnan(points[i].y) && isnan(from->y)), "a point of the curve at %zu",
              i);
        spike = spike || points[i].x == 4321;
        dip = dip || points[i].x == 77777;
        gap = gap || points[i].x == 50001;
    }
    CHECK(spike && dip && gap && points[0].x == 0 && points[kept - 1].x == COUNT - 1,
          "minimum, maximum, gap and ends stay");
    memcpy(points, all, COUNT * sizeof *points);
    CHECK(report_thin(points, 2 * BUCKETS, BUCKETS) == 2 * BUCKETS && report_thin(points, 0, BUCKETS) == 0,
          "short curves stay");
    for (size_t i = 0; i < 1000; i++) points[i].y = NAN;
    kept = report_thin(points, 1000, BUCKETS);
    CHECK(kept >= 2 && kept <= BUCKETS + 2 && isnan(points[0].y), "a curve of gaps: %zu", kept);
    free(points);
    free(all);
}

static void test_smooth(void) {
    report_point points[9];
    for (size_t i = 0; i < 9; i++) points[i] = (report_point){(double)i, (double)(3 * i)};
    CHECK_OK(report_smooth(points, 9, 2));
    for (size_t i = 0; i < 7; i++)
        CHECK(fabs(points[i].y - (double)(3 * i)) < 1e-12, "a straight line stays: %g at %zu", points[i].y,
              i);
    CHECK(points[7].y == 19.5 && points[8].y == 21, "the end has one side only: %g, %g", points[7].y,
          points[8].y);
    for (size_t i = 0; i < 9; i++) points[i].y = i == 4 ? 10 : i == 5 ? NAN : 0;
    CHECK_OK(report_smooth(points, 9, 1));
    CHECK(fabs(points[3].y - 10.0 / 3) < 1e-12 && points[4].y == 5 && isnan(points[5].y) && points[6].y == 0,
          "gaps count for nothing");
    CHECK_OK(report_smooth(points, 0, 1));
}

/* ---- text and records ---- */

static void test_text(void) {
    static const char *const cases[][2] = {
        {"<script>alert('x') && \"y\"</script>",
         "&lt;script&gt;alert(&#39;x&#39;) &amp;&amp; &quot;y&quot;&lt;/script&gt;"},
        {"é 漢 😀\n\t", "é 漢 😀\n\t"},
        {"a\x01\x1b\x7f"
         "b\r",
         "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
         "b\xef\xbf\xbd"},
        {"\xc3(\xff\xe2\x82", "\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc0\xbcscript>", "\xef\xbf\xbd\xef\xbf\xbdscript&gt;"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"a\xe2\x80\xae"
         "b\xc2\x85",
         "a\xef\xbf\xbd"
         "b\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = NULL;
        size_t length = 0;
        FILE *file = open_memstream(&text, &length);
        html_text(file, cases[i][0]);
        fclose(file);
        CHECK(strcmp(text, cases[i][1]) == 0, "case %zu: %s", i, text);
        free(text);
    }
}

static void test_quantities(void) {
    static const struct {
        double value;
        report_unit unit;
        const char *text;
    } cases[] = {{1500, UNIT_COUNT, "1.50 k"},
                 {7, UNIT_COUNT, "7"},
                 {999999, UNIT_COUNT, "1.00 M"},
                 {125829120, UNIT_BYTES, "120 MiB"},
                 {0.5, UNIT_SECONDS, "500 ms"},
                 {59.99, UNIT_SECONDS, "60 s"},
                 {3725, UNIT_SECONDS, "1 h 02 min"},
                 {90000, UNIT_SECONDS, "25 h 00 min"},
                 {0.614, UNIT_SHARE, "61.4 %"},
                 {2.34567, UNIT_PLAIN, "2.3457"},
                 {NAN, UNIT_COUNT, "–"},
                 {1e30, UNIT_COUNT, "1000000000000000 P"}};
    char text[HTML_NUMBER];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK(strcmp(html_quantity(cases[i].value, cases[i].unit, text), cases[i].text) == 0, "case %zu: %s",
              i, text);
    CHECK(strcmp(html_grouped(1234567, text), "1,234,567") == 0 &&
              strcmp(html_grouped(-12, html_grouped(0, text) == text ? text : text), "−12") == 0,
          "%s", text);
    CHECK(strcmp(html_grouped(NAN, text), "–") == 0, "%s", text);
}

/* RFC 3720, appendix B.4, and the value that every CRC-32C catalogue gives for "123456789". */
static void test_crc(void) {
    uint8_t bytes[32];
    CHECK(report_crc32c("123456789", 9) == 0xe3069283, "%08x", report_crc32c("123456789", 9));
    memset(bytes, 0, sizeof bytes);
    CHECK(report_crc32c(bytes, 32) == 0x8a9136aa, "%08x", report_crc32c(bytes, 32));
    memset(bytes, 0xff, sizeof bytes);
    CHECK(report_crc32c(bytes, 32) == 0x62a8ab43, "%08x", report_crc32c(bytes, 32));
    for (size_t i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
    CHECK(report_crc32c(bytes, 32) == 0x46dd794e, "%08x", report_crc32c(bytes, 32));
    uint32_t crc = report_crc32c(bytes, 32), masked = report_masked_crc(bytes, 32) - 0xa282ead8u;
    CHECK(((masked >> 17) | (masked << 15)) == crc, "unmasked %08x", (masked >> 17) | (masked << 15));
}

int main(void) {
    test_labels();
    test_any_range();
    test_thin();
    test_smooth();
    test_text();
    test_quantities();
    test_crc();
    return test_finish("test_report_draw");
}
