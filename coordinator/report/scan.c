#include "scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct scan {
    const char *at, *end;
} scan;

static bool take(scan *s, const char *text) {
    size_t length = strlen(text);
    if ((size_t)(s->end - s->at) < length || memcmp(s->at, text, length) != 0) return false;
    s->at += length;
    return true;
}

/* A text in quotes without escapes, in ASCII. */
static bool take_text(scan *s, const char **text_out, size_t *length_out) {
    if (!take(s, "\"")) return false;
    const char *begin = s->at;
    while (s->at < s->end && *s->at >= 0x20 && *s->at < 0x7f && *s->at != '"' && *s->at != '\\') s->at++;
    *text_out = begin;
    *length_out = (size_t)(s->at - begin);
    return take(s, "\"");
}

static bool take_number(scan *s, double *value_out) {
    const char *first = s->at;
    while (s->at < s->end && strchr("0123456789+-.eE", *s->at) != NULL && *s->at != '\0') s->at++;
    const char *digit = first + (*first == '-');
    if (digit >= s->at || *digit < '0' || *digit > '9') return false;
    if (*digit == '0' && digit + 1 < s->at && digit[1] >= '0' && digit[1] <= '9') return false; /* no JSON */
    char *stopped;
    *value_out = strtod(first, &stopped);
    return stopped == s->at && stopped[-1] != '.';
}

/* A value of any plain kind; NaN for texts and null. */
static bool take_value(scan *s, double *value_out, const char **text_out, size_t *length_out) {
    *value_out = NAN;
    *text_out = NULL;
    if (s->at == s->end) return false;
    switch (*s->at) {
    case '"':
        return take_text(s, text_out, length_out);
    case 't':
        *value_out = 1;
        return take(s, "true");
    case 'f':
        *value_out = 0;
        return take(s, "false");
    case 'n':
        return take(s, "null");
    default:
        return take_number(s, value_out);
    }
}

static bool is(const char *text, size_t length, const char *name) {
    return strlen(name) == length && memcmp(text, name, length) == 0;
}

/* The field of this name; lines have them in much the same order, so the search begins behind the last one found. */
static size_t find_field(const report_field *fields, size_t count, size_t after, const char *key,
                         size_t length) {
    for (size_t i = 0; i < count; i++) {
        size_t field = (after + i) % count;
        if (is(key, length, fields[field].name)) return field;
    }
    return count;
}

static bool take_time(const char *text, size_t length, double *time_out) {
    char copy[32];
    if (text == NULL || length >= sizeof copy) return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    *time_out = report_time_parse(copy);
    return true;
}

bool report_scan(const char *line, size_t length, const char *event, const report_field *fields, size_t count,
                 double *row_out) {
    scan s = {line, line + length};
    if (!take(&s, "{\"event\":\"") || !take(&s, event) || !take(&s, "\"")) return false;
    for (size_t i = 0; i < 2 + count; i++) row_out[i] = NAN;
    for (size_t next = 0; take(&s, ",");) {
        const char *key, *text;
        size_t key_length, text_length = 0;
        double value;
        if (!take_text(&s, &key, &key_length) || !take(&s, ":")) return false;
        const char *begin = s.at;
        if (!take_value(&s, &value, &text, &text_length)) return false;
        size_t field = find_field(fields, count, next, key, key_length);
        if (field < count) {
            if (isnan(value) && fields[field].bits) return false; /* its bits say what it is */
            row_out[2 + field] = value;
            next = field + 1;
        } else if (is(key, key_length, "step")) {
            if (strspn(begin, "0123456789") != (size_t)(s.at - begin)) return false;
            row_out[0] = value;
        } else if (is(key, key_length, "time")) {
            if (!take_time(text, text_length, &row_out[1])) return false;
        } else if (is(key, key_length, "event")) {
            return false;
        }
    }
    return take(&s, "}") && s.at == s.end &&
           row_out[0] < 9007199254740992.0; /* 2^53: below, a double is exact */
}
