/* Quantities with units: what is read, what is refused, what is printed. */
#include "muster/units.h"

#include "test.h"

typedef struct sample {
    mst_quantity quantity;
    const char *text;
    double value; /* 0: refused */
} sample;

static const sample samples[] = {
    {MST_QUANTITY_BYTES, "24GiB", 24.0 * 1073741824},
    {MST_QUANTITY_BYTES, "1.5kB", 1500},
    {MST_QUANTITY_BYTES, "512MB", 512e6},
    {MST_QUANTITY_BYTES, "7B", 7},
    {MST_QUANTITY_BYTES, "24", 0},
    {MST_QUANTITY_BYTES, "24 GiB", 0},
    {MST_QUANTITY_BYTES, "24GiBs", 0},
    {MST_QUANTITY_BYTES, "24gib", 0},
    {MST_QUANTITY_BYTES, "24Gb", 0},
    {MST_QUANTITY_BYTES, "-1GiB", 0},
    {MST_QUANTITY_BYTES, "+1GiB", 0},
    {MST_QUANTITY_BYTES, "0GiB", 0},
    {MST_QUANTITY_BYTES, "0x10GiB", 0},
    {MST_QUANTITY_BYTES, "infB", 0},
    {MST_QUANTITY_BYTES, "1e400B", 0},
    {MST_QUANTITY_BYTES, "GiB", 0},
    {MST_QUANTITY_BYTES, ".GiB", 0},
    {MST_QUANTITY_BYTES, "", 0},
    {MST_QUANTITY_LINK, "25Gb/s", 25e9 / 8},
    {MST_QUANTITY_LINK, "3GB/s", 3e9},
    {MST_QUANTITY_LINK, "25G", 0},
    {MST_QUANTITY_LINK, "25Gb", 0},
    {MST_QUANTITY_LINK, "25Gbps", 0},
    {MST_QUANTITY_RATE, "1GB/s", 1e9},
    {MST_QUANTITY_RATE, "200MiB/s", 200.0 * 1048576},
    {MST_QUANTITY_SECONDS, "20us", 20e-6},
    {MST_QUANTITY_SECONDS, "1.5ms", 1.5e-3},
    {MST_QUANTITY_SECONDS, "20", 0},
    {MST_QUANTITY_SECONDS, "20 s", 0},
    {MST_QUANTITY_FLOPS, "450e9", 450e9},
    {MST_QUANTITY_FLOPS, "450GFLOP/s", 450e9},
    {MST_QUANTITY_FLOPS, "0.98PFLOP/s", 0.98e15},
    {MST_QUANTITY_FLOPS, "450G", 0},
    {MST_QUANTITY_SHARE, "60%", 0.6},
    {MST_QUANTITY_SHARE, "0.6", 0.6},
    {MST_QUANTITY_SHARE, "1", 1},
    {MST_QUANTITY_SHARE, "60", 0},
    {MST_QUANTITY_SHARE, "101%", 0},
    {MST_QUANTITY_SHARE, "0", 0},
};

static void check_sample(const sample *s) {
    double value = -1;
    const mst_status status = mst_quantity_parse(s->quantity, "plan: --x", s->text, &value);
    if (s->value > 0) {
        CHECK(status == MST_OK && fabs(value - s->value) <= 1e-12 * s->value, "'%s' is %g, not %g", s->text,
              value, s->value);
        return;
    }
    CHECK(status == MST_ECONFIG && value == -1, "'%s' was taken as %g", s->text, value);
    CHECK(strstr(mst_error_message(), s->text) != NULL && strstr(mst_error_message(), ", as in ") != NULL,
          "the message is '%s'", mst_error_message());
}

static void check_text(mst_quantity quantity, double value, const char *expected) {
    char text[MST_QUANTITY_TEXT];
    CHECK(strcmp(mst_quantity_text(quantity, value, text), expected) == 0, "%g is shown as '%s', not '%s'",
          value, text, expected);
}

int main(void) {
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) check_sample(&samples[i]);
    check_text(MST_QUANTITY_BYTES, 0, "0 B");
    check_text(MST_QUANTITY_BYTES, 1023.6, "1.00 KiB");
    check_text(MST_QUANTITY_BYTES, 1000, "1000 B");
    check_text(MST_QUANTITY_BYTES, 6.2 * 1073741824, "6.20 GiB");
    check_text(MST_QUANTITY_BYTES, 124.4 * 1048576, "124 MiB");
    check_text(MST_QUANTITY_LINK, 25e9 / 8, "25.0 Gb/s");
    check_text(MST_QUANTITY_RATE, 999.9e6, "1.00 GB/s");
    check_text(MST_QUANTITY_SECONDS, 0.0204, "20.4 ms");
    check_text(MST_QUANTITY_SECONDS, 90, "1.50 min");
    check_text(MST_QUANTITY_SECONDS, 86400 * 87.0, "87.0 d");
    check_text(MST_QUANTITY_SECONDS, 2e-5, "20.0 us");
    check_text(MST_QUANTITY_FLOPS, 450e9, "450 GFLOP/s");
    return test_finish("test_units");
}
