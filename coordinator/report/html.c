/* Text and numbers on the page. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "page.h"

/* The length of the UTF-8 sequence at the start of `length` bytes; 0 when there is none. */
static size_t sequence(const unsigned char *c, size_t length) {
    size_t need = c[0] < 0x80                   ? 1
                  : c[0] >= 0xc2 && c[0] < 0xe0 ? 2
                  : c[0] >= 0xe0 && c[0] < 0xf0 ? 3
                  : c[0] >= 0xf0 && c[0] < 0xf5 ? 4
                                                : 0;
    if (need == 0 || need > length) return 0;
    for (size_t i = 1; i < need; i++)
        if ((c[i] & 0xc0) != 0x80) return 0;
    bool overlong = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90);
    bool surrogate = c[0] == 0xed && c[1] >= 0xa0, beyond = c[0] == 0xf4 && c[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : need;
}

/* Characters that HTML forbids, or that turn the direction of what follows. */
static bool is_shown(const unsigned char *c, size_t length) {
    if (length == 1) return c[0] >= 0x20 ? c[0] != 0x7f : c[0] == '\n' || c[0] == '\t';
    if (length == 2) return !(c[0] == 0xc2 && c[1] < 0xa0);
    if (length == 3 && c[0] == 0xe2)
        return !(c[1] == 0x80 && c[2] >= 0xaa && c[2] <= 0xae) &&
               !(c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9);
    return true;
}

static const char *escape_of(char c) {
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

void html_bytes(FILE *file, const char *text, size_t length) {
    for (size_t i = 0; i < length;) {
        const unsigned char *c = (const unsigned char *)text + i;
        size_t bytes = sequence(c, length - i);
        const char *escape = escape_of(text[i]);
        if (escape != NULL)
            fputs(escape, file);
        else if (bytes > 0 && is_shown(c, bytes))
            fwrite(c, 1, bytes, file);
        else
            fputs("\xef\xbf\xbd", file);
        i += bytes > 0 ? bytes : 1;
    }
}

void html_text(FILE *file, const char *text) {
    html_bytes(file, text, strlen(text));
}

const char *html_grouped(double whole, char text[HTML_NUMBER]) {
    char plain[HTML_NUMBER];
    if (!(fabs(whole) < 1e18)) {
        snprintf(text, HTML_NUMBER, isfinite(whole) ? "%.3g" : "–", whole);
        return text;
    }
    int length = snprintf(plain, sizeof plain, "%.0f", fabs(whole)), used = 0;
    if (whole < 0) used = snprintf(text, HTML_NUMBER, "−");
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) text[used++] = ',';
        text[used++] = plain[i];
    }
    text[used] = '\0';
    return text;
}

static void print_seconds(double seconds, char text[HTML_NUMBER]) {
    double whole = floor(seconds + 0.5);
    if (seconds < 1)
        snprintf(text, HTML_NUMBER, "%.3g ms", seconds * 1e3);
    else if (seconds < 60)
        snprintf(text, HTML_NUMBER, "%.3g s", seconds);
    else if (whole < 3600)
        snprintf(text, HTML_NUMBER, "%.0f min %02.0f s", floor(whole / 60), fmod(whole, 60));
    else if (whole < 3 * 86400)
        snprintf(text, HTML_NUMBER, "%.0f h %02.0f min", floor(whole / 3600), floor(fmod(whole, 3600) / 60));
    else
        snprintf(text, HTML_NUMBER, "%.0f d %.0f h", floor(whole / 86400), floor(fmod(whole, 86400) / 3600));
}

/* Three digits and a prefix. */
static void print_prefixed(double value, double step, const char *const prefixes[6], const char *unit,
                           char text[HTML_NUMBER]) {
    size_t prefix = 0;
    for (; fabs(value) >= 0.9995 * step && prefix < 5; prefix++) value /= step;
    int decimals = (prefix == 0 && value == floor(value)) || fabs(value) >= 100 ? 0
                   : fabs(value) >= 10                                          ? 1
                                                                                : 2;
    const char *space = prefixes[prefix][0] != '\0' || unit[0] != '\0' ? " " : "";
    snprintf(text, HTML_NUMBER, "%.*f%s%s%s", decimals, value, space, prefixes[prefix], unit);
}

const char *html_quantity(double value, report_unit unit, char text[HTML_NUMBER]) {
    static const char *const thousands[] = {"", "k", "M", "G", "T", "P"};
    static const char *const binary[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi"};
    if (!isfinite(value)) {
        snprintf(text, HTML_NUMBER, "–");
        return text;
    }
    switch (unit) {
    case UNIT_COUNT:
        print_prefixed(value, 1000, thousands, "", text);
        break;
    case UNIT_BYTES:
        print_prefixed(value, 1024, binary, "B", text);
        break;
    case UNIT_SECONDS:
        print_seconds(value, text);
        break;
    case UNIT_SHARE:
        snprintf(text, HTML_NUMBER, "%.3g %%", 100 * value);
        break;
    case UNIT_PLAIN:
        snprintf(text, HTML_NUMBER, fabs(value) >= 0.01 && fabs(value) < 1e4 ? "%.4f" : "%.4g", value);
        break;
    }
    return text;
}

const char *html_time(double time, char text[REPORT_TIME_TEXT]) {
    report_time_print(time, text);
    if (text[0] == '\0') snprintf(text, REPORT_TIME_TEXT, "–");
    if (strlen(text) > 19) {
        text[10] = ' ';
        text[19] = '\0';
    }
    return text;
}
