/* From oniguruma's regular expressions (Ruby syntax) to PCRE2's: a recursive descent over the part that both have. */
#include <stdio.h>
#include <string.h>

#include "lists.h"
#include "pattern.h"
#include "unicode.h"

enum { DEPTH_MAX = 50, REPEAT_MAX = 1000 };

typedef struct translator {
    const char *text;
    size_t count, at;
    bool exact;
    bool any_case; /* inside of (?i: ) */
    char previous; /* the literal letter before, in lower case, or something else */
    unsigned depth;
    uint64_t paths; /* of what was parsed last; see pattern_translate */
    mst_byte_list *out;
} translator;

static mst_status parse_alternatives(translator *t);

static mst_status put(translator *t, const char *text) {
    size_t count = strlen(text);
    mst_status status = byte_list_reserve(t->out, count);
    if (status != MST_OK) return status;
    memcpy(t->out->at + t->out->count, text, count);
    t->out->count += count;
    return MST_OK;
}

static bool at_end(const translator *t) {
    return t->at >= t->count;
}

/* The byte `ahead` of the place; 0 behind the end. */
static char peek(const translator *t, size_t ahead) {
    if (ahead >= t->count - t->at) return '\0';
    return t->text[t->at + ahead];
}

static bool take(translator *t, const char *word) {
    size_t count = strlen(word);
    if (t->count - t->at < count || memcmp(t->text + t->at, word, count) != 0) return false;
    t->at += count;
    return true;
}

/* Refuses `count` bytes at the place. */
static mst_status refuse(const translator *t, size_t count, const char *why) {
    size_t left = t->count - t->at;
    return mst_error(MST_EUNSUPPORTED, "pattern: '%.*s' at byte %zu: %s", (int)(count < left ? count : left),
                     t->text + t->at, t->at, why);
}

/* ---- classes of characters ---- */

#define SPACES                                                                                               \
    "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NO_SPACES                                                                                            \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"          \
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"

/* The new characters of a category, as members of a class. */
static mst_status put_added(translator *t, const char *category) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < unicode_added_count && status == MST_OK; i++) {
        const unicode_range *range = &unicode_added[i];
        char text[32];
        if (strncmp(range->category, category, strlen(category)) != 0) continue;
        snprintf(text, sizeof text, "\\x{%x}-\\x{%x}", range->first, range->last);
        status = put(t, text);
    }
    return status;
}

/* \p{category} or, with `not`, \P{category}. */
static mst_status put_category(translator *t, const char *category, bool negated, bool in_class) {
    char text[16];
    snprintf(text, sizeof text, "\\%c{%s}", negated && !t->exact ? 'P' : 'p', category);
    if (!t->exact) return put(t, text);
    mst_status status = in_class ? MST_OK : put(t, negated ? "[^" : "[");
    if (status == MST_OK) status = put(t, text);
    if (status == MST_OK) status = put_added(t, category);
    if (status == MST_OK && !in_class) status = put(t, "]");
    return status;
}

static mst_status put_space(translator *t, bool negated, bool in_class) {
    if (!t->exact) return put(t, negated ? "\\S" : "\\s");
    if (in_class) return put(t, negated ? NO_SPACES : SPACES);
    return put(t, negated ? "[^" SPACES "]" : "[" SPACES "]");
}

/* \p{L}, \P{L}, \p{^L}, at the backslash. */
static mst_status parse_property(translator *t, bool in_class) {
    static const char *const known[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "N",  "Nd", "Nl",
                                        "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S",
                                        "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp"};
    bool negated = peek(t, 1) == 'P', inner = peek(t, 2) == '{' && peek(t, 3) == '^';
    const char *name = t->text + t->at + (inner ? 4 : 3);
    const char *close = memchr(t->text + t->at, '}', t->count - t->at);
    if (peek(t, 2) != '{' || close == NULL || close < name) return refuse(t, 6, "expected \\p{category}");
    size_t length = (size_t)(close - name);
    negated = negated != inner;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == length && memcmp(known[i], name, length) == 0) {
            if (negated && in_class)
                return refuse(t, 6, "the complement of a category inside of [ ] is not supported");
            t->at = (size_t)(close - t->text) + 1;
            return put_category(t, known[i], negated, in_class);
        }
    return refuse(t, (size_t)(close - t->text) + 1 - t->at, "this property is not supported");
}

/* \s \S \d \D \p \P, at the backslash. `found_out` is false where there is none of them. */
static mst_status parse_set(translator *t, bool in_class, bool *found_out) {
    char c = peek(t, 1);
    *found_out = peek(t, 0) == '\\' && c != '\0' && strchr("sSdDpP", c) != NULL;
    if (!*found_out) return MST_OK;
    if (t->any_case) return refuse(t, 2, "not supported inside of (?i: )");
    if (c == 'p' || c == 'P') return parse_property(t, in_class);
    if (c == 'D' && in_class) return refuse(t, 2, "not supported inside of [ ]");
    t->at += 2;
    if (c == 's' || c == 'S') return put_space(t, c == 'S', in_class);
    return put_category(t, "Nd", c == 'D', in_class);
}

/* ---- single characters ---- */

static int hex_digit(char c) {
    const char *digits = "0123456789abcdef", *found = c == '\0' ? NULL : strchr(digits, c | 0x20);
    return found == NULL ? -1 : (int)(found - digits);
}

/* \x{H...}, \xHH below 80, \uHHHH, at the backslash. */
static mst_status parse_number(translator *t, uint32_t *character_out) {
    size_t first = peek(t, 2) == '{' ? 3 : 2, most = first == 3 ? 6 : peek(t, 1) == 'u' ? 4 : 2, digits = 0;
    bool braces = first == 3;
    uint32_t value = 0;
    for (int digit; digits < most && (digit = hex_digit(peek(t, first + digits))) >= 0; digits++)
        value = value * 16 + (uint32_t)digit;
    bool whole = braces ? digits > 0 && peek(t, 1) == 'x' && peek(t, first + digits) == '}' : digits == most;
    bool character = value <= 0x10FFFF && (value < 0xD800 || value > 0xDFFF);
    if (!whole || !character || (!braces && most == 2 && value > 0x7F))
        return refuse(t, first + digits + 1, "no character, or not one that is written like this");
    t->at += first + digits + braces;
    *character_out = value;
    return MST_OK;
}

/* One character, plain or escaped; what is special here must have been looked at before. */
static mst_status parse_character(translator *t, uint32_t *character_out) {
    static const char letters[] = "rntf", values[] = "\r\n\t\f";
    char c = peek(t, 1);
    size_t length;
    if (peek(t, 0) != '\\') {
        *character_out = utf8_decode((const uint8_t *)t->text + t->at, &length);
        t->at += length;
        return MST_OK;
    }
    if (c == 'x' || c == 'u') return parse_number(t, character_out);
    const char *letter = c == '\0' ? NULL : strchr(letters, c);
    bool punctuation =
        c > ' ' && c < 0x7F && hex_digit(c) < 0 && ((c | 0x20) < 'a' || (c | 0x20) > 'z') && c != '_';
    if (letter == NULL && !punctuation && c != ' ') return refuse(t, 2, "this escape is not supported");
    *character_out = letter == NULL ? (uint32_t)c : (uint32_t)values[letter - letters];
    t->at += 2;
    return MST_OK;
}

static mst_status put_character(translator *t, uint32_t character) {
    char text[16];
    bool plain = (character | 0x20) >= 'a' && (character | 0x20) <= 'z';
    if (plain || character == ' ' || character == '\'')
        snprintf(text, sizeof text, "%c", (char)character);
    else
        snprintf(text, sizeof text, "\\x{%x}", character);
    return put(t, text);
}

/* One member of [ ]: a set, a character or a range. */
static mst_status parse_member(translator *t) {
    uint32_t low = 0, high;
    bool set = false;
    mst_status status = parse_set(t, true, &set);
    if (status != MST_OK) return status;
    if (set)
        return peek(t, 0) == '-' && peek(t, 1) != ']' ? refuse(t, 1, "behind a class, write it as \\-")
                                                      : MST_OK;
    if (peek(t, 0) == '[') return refuse(t, 1, "a class inside of a class is not supported");
    if (peek(t, 0) == '&' && peek(t, 1) == '&') return refuse(t, 2, "intersections are not supported");
    if ((status = parse_character(t, &low)) != MST_OK) return status;
    high = low;
    if (peek(t, 0) == '-' && peek(t, 1) != ']' && peek(t, 1) != '\0') {
        t->at++;
        if (peek(t, 0) == '[' || (peek(t, 0) == '\\' && strchr("sSdDpP", peek(t, 1)) != NULL))
            return refuse(t, 2, "no end of a range");
        if ((status = parse_character(t, &high)) != MST_OK) return status;
    }
    if (high < low) return mst_error(MST_EFORMAT, "pattern: a range that ends at byte %zu is empty", t->at);
    status = put_character(t, low);
    if (status == MST_OK && high != low) status = put(t, "-");
    if (status == MST_OK && high != low) status = put_character(t, high);
    return status;
}

static mst_status parse_class(translator *t) {
    mst_status status = MST_OK;
    if (t->any_case) return refuse(t, 1, "not supported inside of (?i: )");
    bool negated = peek(t, 1) == '^';
    t->at += negated ? 2 : 1;
    if (peek(t, 0) == ']') return refuse(t, 1, "an empty class is not supported");
    status = put(t, negated ? "[^" : "[");
    while (status == MST_OK && !at_end(t) && peek(t, 0) != ']') status = parse_member(t);
    if (status != MST_OK) return status;
    if (at_end(t)) return mst_error(MST_EFORMAT, "pattern: [ without ]");
    t->at++;
    return put(t, "]");
}

/* Why a character cannot stand inside of (?i: ); NULL: it can. There, oniguruma takes ss for one letter, and ff, fi, fl and st, too. */
static const char *any_case_problem(char previous, uint32_t character) {
    if (character >= 0x80) return "not supported inside of (?i: )";
    bool ligature = (previous == 's' && strchr("sStT", (int)character) != NULL) ||
                    (previous == 'f' && strchr("fFiIlL", (int)character) != NULL);
    return ligature ? "a ligature inside of (?i: ) is not supported" : NULL;
}

/* A character outside of [ ]. */
static mst_status parse_literal(translator *t) {
    uint32_t character = 0;
    size_t before = t->at;
    if (strchr("^$*+?{", peek(t, 0)) != NULL) return refuse(t, 1, "not supported in this place");
    mst_status status = parse_character(t, &character);
    if (status != MST_OK) return status;
    const char *problem = t->any_case ? any_case_problem(t->previous, character) : NULL;
    if (problem != NULL) {
        t->at = before;
        return refuse(t, 1, problem);
    }
    t->previous = (char)(character < 0x80 ? character | 0x20 : 0);
    return put_character(t, character);
}

/* ---- repetition and groups ---- */

/* a * b, at most PATTERN_PATHS_MAX. */
static uint64_t times(uint64_t a, uint64_t b) {
    return a * b < PATTERN_PATHS_MAX ? a * b : PATTERN_PATHS_MAX;
}

/* `count` copies of what was parsed last, one behind the other. */
static void repeat_paths(translator *t, size_t count) {
    uint64_t one = t->paths;
    for (size_t i = 1; i < count && one > 1 && t->paths < PATTERN_PATHS_MAX; i++)
        t->paths = times(t->paths, one);
}

/* Reads {n}, {n,} or {n,m} at the place, and writes it. */
static mst_status parse_count(translator *t) {
    size_t numbers[2] = {0, 0}, at = t->at + 1, given = 0;
    bool comma = false;
    for (int part = 0; part < 2; part++) {
        size_t digits = 0;
        for (; at < t->count && t->text[at] >= '0' && t->text[at] <= '9' && digits < 5; digits++)
            numbers[part] = numbers[part] * 10 + (size_t)(t->text[at++] - '0');
        if (digits > 0) given |= (size_t)1 << part;
        if (part == 0 && at < t->count && t->text[at] == ',') {
            comma = true;
            at++;
        } else if (part == 0) {
            break;
        }
    }
    bool closed = at < t->count && t->text[at] == '}', both = given == 3;
    if (!closed || (given & 1) == 0 || numbers[0] > REPEAT_MAX || numbers[1] > REPEAT_MAX ||
        (both && numbers[1] < numbers[0]))
        return refuse(t, 8, "expected {n}, {n,} or {n,m} with numbers of at most 1000");
    char text[32];
    if (both)
        snprintf(text, sizeof text, "{%zu,%zu}", numbers[0], numbers[1]);
    else
        snprintf(text, sizeof text, comma ? "{%zu,}" : "{%zu}", numbers[0]);
    t->at = at + 1;
    repeat_paths(t, both ? numbers[1] : numbers[0]);
    if (!comma && peek(t, 0) == '?') return refuse(t, 1, "not supported behind {n}");
    return put(t, text);
}

/* Puts (?: before what was written since `start`, and ) behind it. */
static mst_status wrap(translator *t, size_t start) {
    mst_status status = put(t, "(?:)");
    if (status != MST_OK) return status;
    uint8_t *at = t->out->at;
    memmove(at + start + 3, at + start, t->out->count - 4 - start);
    memcpy(at + start, (const char[]){'(', '?', ':'}, 3);
    at[t->out->count - 1] = ')';
    return MST_OK;
}

/* What may stand behind an atom that was written since `start`. */
static mst_status parse_quantifier(translator *t, size_t start, bool repeatable) {
    mst_status status = MST_OK;
    char c = peek(t, 0), text[2] = {c, '\0'};
    if (c == '\0' || strchr("*+?{", c) == NULL) return MST_OK;
    if (!repeatable) return refuse(t, 1, "not supported behind an assertion");
    t->previous = '\0';
    if (c == '{') {
        status = parse_count(t);
        /* {n,m}+ is no possessive repetition in Ruby's syntax, but a repetition of the repetition */
        if (status == MST_OK && peek(t, 0) == '+' && (status = wrap(t, start)) == MST_OK)
            status = put(t, "+");
        if (status == MST_OK && (peek(t, 0) == '+'))
            t->at++;
        else if (status == MST_OK && take(t, "?"))
            status = put(t, "?");
    } else {
        t->at++;
        status = put(t, text);
        if (status == MST_OK && take(t, "?"))
            status = put(t, "?");
        else if (status == MST_OK && take(t, "+"))
            status = put(t, "+");
    }
    c = peek(t, 0);
    if (status == MST_OK && c != '\0' && strchr("*+?{", c) != NULL)
        return refuse(t, 1, "a repetition of a repetition");
    return status;
}

/* A group, at its parenthesis. What it captures is of no use, so none captures. */
static mst_status parse_group(translator *t, bool *repeatable_out) {
    static const char *const kinds[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    const char *kind = NULL;
    bool any_case = t->any_case;
    mst_status status = MST_OK;
    if (peek(t, 1) != '?') {
        kind = "(?:";
        t->at++;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && kind == NULL; i++)
        if (take(t, kinds[i])) kind = kinds[i];
    if (kind == NULL) return refuse(t, 4, "this kind of group is not supported");
    *repeatable_out = strchr("=!", kind[strlen(kind) - 1]) == NULL;
    t->any_case = any_case || strcmp(kind, "(?i:") == 0;
    t->previous = '\0';
    status = put(t, kind);
    if (status == MST_OK) status = parse_alternatives(t);
    if (status != MST_OK) return status;
    if (peek(t, 0) != ')') return mst_error(MST_EFORMAT, "pattern: ( without )");
    t->at++;
    t->any_case = any_case;
    t->previous = '\0';
    return put(t, ")");
}

static mst_status parse_atom(translator *t) {
    size_t start = t->out->count;
    bool set = false, repeatable = true;
    mst_status status = MST_OK;
    t->paths = 1;
    switch (peek(t, 0)) {
    case '(':
        status = parse_group(t, &repeatable);
        break;
    case '[':
        status = parse_class(t);
        break;
    case '.':
        if (t->any_case) return refuse(t, 1, "not supported inside of (?i: )");
        t->at++;
        status = put(t, ".");
        break;
    default:
        status = parse_set(t, false, &set);
        if (status == MST_OK && !set) status = parse_literal(t);
    }
    return status == MST_OK ? parse_quantifier(t, start, repeatable) : status;
}

static mst_status parse_alternatives(translator *t) {
    uint64_t before = 0, here = 1; /* paths of the alternatives before, of this one */
    mst_status status = MST_OK;
    if (++t->depth > DEPTH_MAX) return refuse(t, 1, "too many groups inside of groups");
    while (status == MST_OK && !at_end(t) && peek(t, 0) != ')') {
        if (take(t, "|")) {
            t->previous = '\0';
            before += here;
            here = 1;
            status = put(t, "|");
        } else {
            status = parse_atom(t);
            here = times(here, t->paths);
        }
    }
    t->paths = times(before + here, 1);
    t->depth--;
    return status;
}

mst_status pattern_translate(const char *text, size_t count, bool exact, mst_byte_list *out,
                             uint64_t *paths_out) {
    translator t = {.text = text, .count = count, .exact = exact, .out = out};
    bool unusual;
    if (utf8_span((const uint8_t *)text, count, &unusual) != count || memchr(text, '\0', count) != NULL)
        return mst_error(MST_EFORMAT, "pattern: not UTF-8, or with a byte 0");
    mst_status status = parse_alternatives(&t);
    *paths_out = t.paths;
    if (status == MST_OK && !at_end(&t))
        status = mst_error(MST_EFORMAT, "pattern: ) without ( at byte %zu", t.at);
    return status;
}
