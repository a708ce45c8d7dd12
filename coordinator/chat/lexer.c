#include "lexer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SOURCE_MAX = 1 << 20, NUMBER_MAX = 40 /* digits */, NESTING_MAX = 200 /* open brackets */ };

typedef struct lexer {
    const char *name;
    chat_text source; /* with \n only */
    size_t at;
    size_t line_start; /* of the line that `counted` is in */
    size_t counted;    /* up to here lines are counted */
    uint32_t line;
    bool begins_line; /* what stood before the place ended with a newline, or nothing did */
    chat_arena *arena;
    chat_tokens *tokens;
} lexer;

/* The line and the column of a place; places mostly come in order. */
static void place_of(lexer *x, size_t at, uint32_t *line_out, uint32_t *column_out) {
    if (at < x->counted) {
        x->counted = x->line_start = 0;
        x->line = 1;
    }
    for (; x->counted < at; x->counted++) {
        if (x->source.at[x->counted] != '\n') continue;
        x->line++;
        x->line_start = x->counted + 1;
    }
    *line_out = x->line;
    *column_out = (uint32_t)(at - x->line_start) + 1;
}

#define FAIL_AT(place, code, ...)                                                                            \
    do {                                                                                                     \
        uint32_t fail_line, fail_column;                                                                     \
        place_of(x, place, &fail_line, &fail_column);                                                        \
        mst_error(code, __VA_ARGS__);                                                                        \
        return mst_error_context(code, "%s:%u:%u", x->name, (unsigned)fail_line, (unsigned)fail_column);     \
    } while (0)

static mst_status add(lexer *x, size_t at, chat_token token) {
    chat_tokens *list = x->tokens;
    if (list->count == list->room) {
        const size_t room = list->room > 0 ? 2 * list->room : 256;
        chat_token *grown = realloc(list->at, room * sizeof *grown);
        if (grown == NULL) return mst_error(MST_ENOMEM, "%s: out of memory for its tokens", x->name);
        list->at = grown;
        list->room = room;
    }
    place_of(x, at, &token.line, &token.column);
    list->at[list->count++] = token;
    return MST_OK;
}

static bool stands(const lexer *x, size_t at, const char *what) {
    const size_t count = strlen(what);
    return x->source.count - at >= count && memcmp(x->source.at + at, what, count) == 0;
}

static void skip_space(lexer *x) {
    for (size_t bytes; (bytes = chat_text_space(x->source, x->at)) > 0; x->at += bytes) continue;
}

/* ---- inside of a tag ---- */

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static mst_status cut_name(lexer *x) {
    const size_t start = x->at;
    while (x->at < x->source.count && (is_letter(x->source.at[x->at]) || is_digit(x->source.at[x->at])))
        x->at++;
    return add(x, start, (chat_token){.kind = TOKEN_NAME, .text = {x->source.at + start, x->at - start}});
}

static mst_status cut_number(lexer *x) {
    const size_t start = x->at;
    const char *source = x->source.at;
    const size_t end = x->source.count;
    char digits[NUMBER_MAX + 1];
    chat_token token = {.kind = TOKEN_INTEGER};
    while (x->at < end && is_digit(source[x->at])) x->at++;
    if (x->at + 1 < end && source[x->at] == '.' && is_digit(source[x->at + 1])) {
        token.kind = TOKEN_REAL;
        for (x->at++; x->at < end && is_digit(source[x->at]);) x->at++;
    }
    if (x->at < end && is_letter(source[x->at]))
        FAIL_AT(start, MST_EUNSUPPORTED, "a number with letters; decimal digits are supported");
    const size_t count = x->at - start;
    if (count > NUMBER_MAX || (token.kind == TOKEN_INTEGER && count > 1 && source[start] == '0'))
        FAIL_AT(start, MST_EUNSUPPORTED, "a number of %zu digits that begins with %c", count, source[start]);
    memcpy(digits, source + start, count);
    digits[count] = '\0';
    errno = 0;
    if (token.kind == TOKEN_INTEGER)
        token.integer = strtoll(digits, NULL, 10);
    else
        token.real = strtod(digits, NULL);
    if (errno != 0) FAIL_AT(start, MST_EUNSUPPORTED, "the number %s is too large", digits);
    return add(x, start, token);
}

/* What stands for \x; 0: another one. */
static char escaped(char c) {
    static const char from[] = "nrtabfv\\'\"", to[] = "\n\r\t\a\b\f\v\\'\"";
    const char *found = c != '\0' ? strchr(from, c) : NULL;
    return found != NULL ? to[found - from] : '\0';
}

static mst_status cut_string(lexer *x) {
    const size_t start = x->at++;
    const char quote = x->source.at[start];
    size_t end = x->at, count = 0;
    while (end < x->source.count && x->source.at[end] != quote)
        end += x->source.at[end] == '\\' && end + 1 < x->source.count ? 2 : 1;
    if (end >= x->source.count) FAIL_AT(start, MST_EFORMAT, "the text in quotes has no end");
    char *text = chat_arena_take(x->arena, end - x->at + 1);
    if (text == NULL) return mst_error(MST_ENOMEM, "%s: out of memory for its texts", x->name);
    for (; x->at < end; x->at++) {
        char c = x->source.at[x->at];
        if (c == '\\') {
            const char next = x->source.at[++x->at];
            if (next == '\n') continue; /* a line that goes on, as in Python */
            c = escaped(next);
            if (c == '\0') FAIL_AT(x->at - 1, MST_EUNSUPPORTED, "the escape \\%c is not supported", next);
        }
        text[count++] = c;
    }
    x->at = end + 1;
    return add(x, start, (chat_token){.kind = TOKEN_STRING, .text = {text, count}});
}

/* An operator, and what it does to the open brackets. */
static mst_status cut_operator(lexer *x, char *open, size_t *depth) {
    static const char *const operators[] = {"==", "!=", ">=", "<=", "//", "**", "+", "-", "*",
                                            "/",  "%",  "~",  "<",  ">",  "=",  ".", ",", ":",
                                            "|",  "(",  ")",  "[",  "]",  "{",  "}"};
    const size_t start = x->at;
    const char *found = NULL;
    for (size_t i = 0; found == NULL && i < sizeof operators / sizeof *operators; i++)
        if (stands(x, start, operators[i])) found = operators[i];
    if (found == NULL)
        FAIL_AT(start, MST_EUNSUPPORTED, "the character 0x%02x begins nothing that is supported in a tag",
                (unsigned char)x->source.at[start]);
    const char c = found[0];
    if (c == '(' || c == '[' || c == '{') {
        if (*depth == NESTING_MAX)
            FAIL_AT(start, MST_EUNSUPPORTED, "more than %d brackets in each other", NESTING_MAX);
        open[(*depth)++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (*depth == 0 || open[--*depth] != c) FAIL_AT(start, MST_EFORMAT, "'%c' closes nothing", c);
    }
    x->at += strlen(found);
    return add(x, start, (chat_token){.kind = TOKEN_OPERATOR, .text = chat_text_of(found)});
}

/* The end of a tag, if it stands here: with a sign before it. */
static bool at_end(const lexer *x, const char *end, bool plus, char *sign_out, size_t *bytes_out) {
    const char c = x->source.at[x->at];
    *sign_out = c == '-' || (plus && c == '+') ? c : '\0';
    *bytes_out = (*sign_out != '\0') + strlen(end);
    return stands(x, x->at + (*sign_out != '\0'), end);
}

/* White space behind the end of a tag goes: all of it with '-'; a newline behind a block, but with '+'. */
static void trim_behind(lexer *x, char sign, bool newline) {
    if (sign == '-')
        skip_space(x);
    else if (newline && sign != '+' && x->at < x->source.count && x->source.at[x->at] == '\n')
        x->at++;
    x->begins_line = x->source.at[x->at - 1] == '\n';
}

/* What stands in {{ }} or {% %}. */
static mst_status cut_tag(lexer *x, size_t start, bool block) {
    mst_status status = add(x, start, (chat_token){.kind = block ? TOKEN_BLOCK : TOKEN_PRINT});
    const char *end = block ? "%}" : "}}";
    char open[NESTING_MAX], sign;
    size_t depth = 0, bytes;
    while (status == MST_OK) {
        skip_space(x);
        if (x->at >= x->source.count) FAIL_AT(start, MST_EFORMAT, "%s has no %s", block ? "{%" : "{{", end);
        if (depth == 0 && at_end(x, end, block, &sign, &bytes)) {
            status = add(x, x->at, (chat_token){.kind = block ? TOKEN_BLOCK_END : TOKEN_PRINT_END});
            x->at += bytes;
            trim_behind(x, sign, block);
            return status;
        }
        const char c = x->source.at[x->at];
        if (is_letter(c))
            status = cut_name(x);
        else if (is_digit(c))
            status = cut_number(x);
        else if (c == '"' || c == '\'')
            status = cut_string(x);
        else
            status = cut_operator(x, open, &depth);
    }
    return status;
}

static mst_status skip_comment(lexer *x, size_t start) {
    char sign = '\0';
    size_t bytes = 0;
    while (x->at < x->source.count && !at_end(x, "#}", true, &sign, &bytes)) x->at++;
    if (x->at >= x->source.count) FAIL_AT(start, MST_EFORMAT, "{# has no #}");
    x->at += bytes;
    trim_behind(x, sign, true);
    return MST_OK;
}

/* ---- outside of tags ---- */

/* The text before a tag without the white space that the tag takes: all with '-'; that of its line before a block or a comment that
 * stands alone at the line's beginning, but with '+'. */
static chat_text trim_before(const lexer *x, chat_text text, char sign, bool block) {
    if (sign == '-') return chat_text_strip(text, NULL, false, true);
    if (sign == '+' || !block) return text;
    size_t line = text.count;
    while (line > 0 && text.at[line - 1] != '\n') line--;
    if (line == 0 && !x->begins_line) return text;
    for (size_t i = line; i < text.count; i++)
        if (text.at[i] != ' ' && text.at[i] != '\t') return text;
    text.count = line;
    return text;
}

static size_t find_tag(const lexer *x) {
    for (size_t at = x->at; at + 1 < x->source.count; at++) {
        const char next = x->source.at[at + 1];
        if (x->source.at[at] == '{' && (next == '{' || next == '%' || next == '#')) return at;
    }
    return x->source.count;
}

static mst_status cut_all(lexer *x) {
    mst_status status = MST_OK;
    while (status == MST_OK && x->at < x->source.count) {
        const size_t text_start = x->at, start = find_tag(x);
        chat_text text = {x->source.at + text_start, start - text_start};
        char kind = '\0', sign = '\0';
        x->at = start;
        if (start < x->source.count) {
            kind = x->source.at[start + 1];
            x->at += 2;
            if (x->at < x->source.count && (x->source.at[x->at] == '-' || x->source.at[x->at] == '+'))
                sign = x->source.at[x->at++];
            text = trim_before(x, text, sign, kind != '{');
        }
        if (text.count > 0) status = add(x, text_start, (chat_token){.kind = TOKEN_TEXT, .text = text});
        if (status != MST_OK || kind == '\0') continue;
        status = kind == '#' ? skip_comment(x, start) : cut_tag(x, start, kind == '%');
    }
    if (status == MST_OK) status = add(x, x->source.count, (chat_token){.kind = TOKEN_END});
    return status;
}

mst_status chat_tokens_cut(chat_text source, const char *name, chat_arena *arena, chat_tokens *tokens_out) {
    mst_status status = MST_OK;
    size_t bad = 0, count = 0;
    *tokens_out = (chat_tokens){0};
    MST_CHECK(source.count <= SOURCE_MAX, MST_EUNSUPPORTED,
              "%s: a template of %zu bytes; at most %d are supported", name, source.count, SOURCE_MAX);
    MST_CHECK(chat_text_is_utf8(source, &bad), MST_EFORMAT, "%s: byte %zu is not UTF-8", name, bad);
    char *text = chat_arena_take(arena, source.count + 1);
    MST_CHECK(text != NULL, MST_ENOMEM, "%s: out of memory", name);
    for (size_t i = 0; i < source.count; i++) {
        const char c = source.at[i];
        if (c == '\r' && i + 1 < source.count && source.at[i + 1] == '\n') continue;
        text[count++] = c == '\r' ? '\n' : c;
    }
    count -= count > 0 && text[count - 1] == '\n';
    lexer x = {.name = name, .source = {text, count}, .line = 1, .begins_line = true};
    x.arena = arena;
    x.tokens = tokens_out;
    MST_TRY(cut_all(&x));
done:
    return status;
}
