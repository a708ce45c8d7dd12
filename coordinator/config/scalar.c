/* One value: from text into its field, by the key's type and range. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "muster/nearest.h"
#include "reader.h"

/* Says what is wrong with a value, and what would be right. Returns false. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
static bool
wrong(const config_key *key, const char *text, char why_out[CONFIG_WHY_MAX], const char *format, ...) {
    char quoted[CONFIG_QUOTE_MAX], expected[120], what[64];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    config_key_describe(key, expected, sizeof expected);
    snprintf(why_out, CONFIG_WHY_MAX, "%s %s; expected %s", config_quote(text, quoted), what, expected);
    return false;
}

static bool is_null(const char *text) {
    return *text == '\0' || strcmp(text, "null") == 0 || strcmp(text, "~") == 0;
}

/* [+-]digits, and nothing that YAML versions read differently (010, 0x10, 1_000). */
static bool looks_whole(const char *text) {
    if (*text == '-' || *text == '+') text++;
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && text[digits] == '\0' && (digits == 1 || *text != '0');
}

/* [+-] digits [. digits] [e [+-] digits], with a digit before or after the point. */
static bool looks_real(const char *text) {
    if (*text == '-' || *text == '+') text++;
    size_t before = strspn(text, "0123456789"), after = 0;
    text += before;
    if (*text == '.') {
        after = strspn(++text, "0123456789");
        text += after;
    }
    if (before + after == 0) return false;
    if (*text == 'e' || *text == 'E') {
        text++;
        if (*text == '-' || *text == '+') text++;
        size_t exponent = strspn(text, "0123456789");
        if (exponent == 0) return false;
        text += exponent;
    }
    return *text == '\0';
}

static bool read_whole(const config_key *key, const char *text, void *field, char why_out[CONFIG_WHY_MAX]) {
    if (key->names != NULL && strcmp(text, key->names[0]) == 0) {
        *(uint64_t *)field = MST_CONFIG_AUTO;
        return true;
    }
    if (!looks_whole(text)) {
        bool leading_zero =
            strspn(text, "+-0123456789") == strlen(text) && strpbrk(text, "0123456789") != NULL;
        return wrong(key, text, why_out,
                     leading_zero ? "has a leading zero" : "is not a whole number in plain digits");
    }
    errno = 0;
    uint64_t value = strtoull(text, NULL, 10); /* wraps for a minus sign, hence the test for it */
    bool negative = *text == '-' && value != 0;
    if (negative || errno == ERANGE || value < key->low || value > key->high)
        return wrong(key, text, why_out, "is out of range");
    if (key->size == sizeof(int))
        *(int *)field = (int)value;
    else
        *(uint64_t *)field = value;
    return true;
}

static bool read_real(const config_key *key, const char *text, double *field, char why_out[CONFIG_WHY_MAX]) {
    if (!looks_real(text)) {
        const char *digits = text + strspn(text, "+-.");
        bool special = strncasecmp(digits, "inf", 3) == 0 || strncasecmp(digits, "nan", 3) == 0;
        return wrong(key, text, why_out, special ? "is not finite" : "is not a number");
    }
    errno = 0;
    double value = strtod(text, NULL);
    if (errno == ERANGE)
        return wrong(key, text, why_out, "is too %s for a double", isinf(value) ? "large" : "small");
    bool fits = (key->low_excluded ? value > key->real_low : value >= key->real_low) &&
                (key->high_excluded ? value < key->real_high : value <= key->real_high);
    if (!fits) return wrong(key, text, why_out, "is out of range");
    *field = value == 0 ? 0 : value; /* no negative zero: it would be written back as -0 */
    return true;
}

static bool read_enum(const config_key *key, const char *text, void *field, char why_out[CONFIG_WHY_MAX]) {
    mst_nearest nearest = {.word = text};
    for (int i = 0; key->names[i] != NULL; i++) {
        if (strcmp(key->names[i], text) == 0) {
            memcpy(field, &i, sizeof i);
            return true;
        }
        mst_nearest_offer(&nearest, key->names[i]);
    }
    wrong(key, text, why_out, "is not known");
    size_t used = strlen(why_out);
    if (nearest.best != NULL)
        snprintf(why_out + used, CONFIG_WHY_MAX - used, "; did you mean %s?", nearest.best);
    return false;
}

static bool read_text(config_reader *reader, const config_key *key, const char *text, bool quoted,
                      char **field, char why_out[CONFIG_WHY_MAX]) {
    char *copy = NULL;
    bool null = is_null(text) && !quoted;
    bool nullable = key->fallback != NULL && is_null(key->fallback);
    if (null && !nullable) return wrong(key, text, why_out, "says nothing");
    if (!null) {
        if (*text == '\0') return wrong(key, text, why_out, "is empty");
        for (const char *c = text; *c != '\0'; c++)
            if ((unsigned char)*c < 0x20 || *c == 0x7f)
                return wrong(key, text, why_out, "has a control character");
        copy = key->kind == KIND_PATH ? config_path_absolute(reader->folder, text) : strdup(text);
        if (copy == NULL)
            reader->status = mst_error(MST_ENOMEM, "%s: no memory for %zu bytes", key->path, strlen(text));
    }
    free(*field);
    *field = copy;
    return true;
}

bool config_scalar_read(config_reader *reader, const config_key *key, const char *text, bool quoted,
                        void *field, char why_out[CONFIG_WHY_MAX]) {
    bool is_text = key->kind == KIND_TEXT || key->kind == KIND_PATH || key->kind == KIND_WORDS;
    if (quoted && !is_text && key->kind != KIND_ENUM)
        return wrong(key, text, why_out, "is text, for it stands in quotes");
    if (is_null(text) && !is_text) return wrong(key, text, why_out, "says nothing");
    switch (key->kind) {
    case KIND_WHOLE:
        return read_whole(key, text, field, why_out);
    case KIND_REAL:
        return read_real(key, text, field, why_out);
    case KIND_ENUM:
        return read_enum(key, text, field, why_out);
    case KIND_TEXT:
    case KIND_PATH:
    case KIND_WORDS:
        return read_text(reader, key, text, quoted, field, why_out);
    case KIND_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            return wrong(key, text, why_out, "is not a boolean");
        *(bool *)field = *text == 't';
        return true;
    case KIND_SOURCES:
        break;
    }
    return wrong(key, text, why_out, "is a single value");
}
