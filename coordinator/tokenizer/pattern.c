#define PCRE2_CODE_UNIT_WIDTH 8
#include "pattern.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "lists.h"
#include "unicode.h"

/* A translated pattern may be this long. Compiled ones are at most 64 KiB: PCRE2 sees to that. */
enum { PATTERN_MAX = 1 << 14, STACK_MAX = 1 << 20, HEAP_MAX_KIB = 1 << 16 };
/* PCRE2's machine code counts repetitions against its match limit, but not alternatives: their number is bounded here. Published
 * patterns have about 30. */
enum { PATHS_MAX = 64 };
/* A match is tried with small limits first, so that the price of an ordinary one need not be known. */
enum { LIMIT_FIRST = 2000, LIMIT_STEP = 16 };

struct pattern {
    mst_byte_list source; /* as in the file */
    bool literal;
    pcre2_code *code[2]; /* for usual texts; for all, made when it is needed */
    bool compiled_to_machine_code[2];
    pcre2_match_data *found;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

pattern_budget pattern_budget_for(size_t count) {
    return (pattern_budget){50000000 + 400 * (uint64_t)count};
}

/* The text itself as a pattern: whatever is no letter, digit or part of a character gets a backslash. */
static mst_status quote(const mst_byte_list *text, mst_byte_list *out) {
    mst_status status = byte_list_reserve(out, 2 * text->count);
    for (size_t i = 0; i < text->count && status == MST_OK; i++) {
        uint8_t c = text->at[i];
        bool plain = c >= 0x80 || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!plain) out->at[out->count++] = '\\';
        out->at[out->count++] = c;
    }
    return status;
}

static mst_status compile(pattern *p, bool exact) {
    mst_byte_list text = {0};
    uint64_t paths = 1;
    int error;
    size_t place;
    char why[128];
    mst_status status =
        p->literal ? quote(&p->source, &text)
                   : pattern_translate((const char *)p->source.at, p->source.count, exact, &text, &paths);
    if (status == MST_OK && paths > PATHS_MAX)
        status = mst_error(MST_EUNSUPPORTED, "pattern: alternatives that can be chosen in more than %d ways",
                           PATHS_MAX);
    pcre2_compile_context *context = status == MST_OK ? pcre2_compile_context_create(NULL) : NULL;
    if (status == MST_OK && context != NULL) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF); /* what . does not match */
        p->code[exact] = pcre2_compile(text.at, text.count, PCRE2_UTF | PCRE2_UCP | PCRE2_USE_OFFSET_LIMIT,
                                       &error, &place, context);
        if (p->code[exact] == NULL) {
            pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof why);
            status =
                mst_error(error == PCRE2_ERROR_HEAP_FAILED ? MST_ENOMEM : MST_EFORMAT, "pattern: %s", why);
        } else {
            p->compiled_to_machine_code[exact] = pcre2_jit_compile(p->code[exact], PCRE2_JIT_COMPLETE) == 0;
        }
    } else if (status == MST_OK) {
        status = mst_error(MST_ENOMEM, "pattern: no memory");
    }
    pcre2_compile_context_free(context);
    free(text.at);
    return status;
}

static mst_status make_scratch(pattern *p) {
    p->found = pcre2_match_data_create(1, NULL);
    p->context = pcre2_match_context_create(NULL);
    p->stack = pcre2_jit_stack_create(1 << 15, STACK_MAX, NULL);
    if (p->found == NULL || p->context == NULL || (p->stack == NULL && p->compiled_to_machine_code[0]))
        return mst_error(MST_ENOMEM, "pattern: no memory");
    pcre2_jit_stack_assign(p->context, NULL, p->stack);
    pcre2_set_heap_limit(p->context, HEAP_MAX_KIB);
    return MST_OK;
}

mst_status pattern_create(const char *text, size_t count, bool literal, pattern **pattern_out) {
    *pattern_out = NULL;
    if (count == 0) return mst_error(MST_EUNSUPPORTED, "pattern: an empty one is not supported");
    if (count > PATTERN_MAX)
        return mst_error(MST_EUNSUPPORTED, "pattern: %zu bytes; at most %d are supported", count,
                         PATTERN_MAX);
    pattern *p = calloc(1, sizeof *p);
    mst_status status =
        p == NULL ? mst_error(MST_ENOMEM, "pattern: no memory") : byte_list_reserve(&p->source, count);
    if (status == MST_OK) {
        memcpy(p->source.at, text, count);
        p->source.count = count;
        p->literal = literal;
        status = compile(p, false);
    }
    if (status == MST_OK) status = make_scratch(p);
    if (status == MST_OK)
        *pattern_out = p;
    else
        pattern_destroy(&p);
    return status;
}

void pattern_destroy(pattern **p) {
    if (*p == NULL) return;
    for (int i = 0; i < 2; i++) pcre2_code_free((*p)->code[i]);
    pcre2_match_data_free((*p)->found);
    pcre2_match_context_free((*p)->context);
    pcre2_jit_stack_free((*p)->stack);
    free((*p)->source.at);
    free(*p);
    *p = NULL;
}

/* One attempt: the number of PCRE2. What overflows the stack of the machine code is done by PCRE2's interpreter, on the heap. */
static int attempt(pattern *p, bool exact, const uint8_t *text, size_t count, size_t at, uint32_t limit) {
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    pcre2_set_match_limit(p->context, limit);
    if (p->compiled_to_machine_code[exact])
        rc = pcre2_jit_match(p->code[exact], text, count, at, 0, p->found, p->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(p->code[exact], text, count, at, PCRE2_NO_JIT | PCRE2_NO_UTF_CHECK, p->found,
                         p->context);
    return rc;
}

/* Attempts a match that begins at this place, with higher and higher limits, until there is an answer or the budget is used up. */
static int persist_at(pattern *p, bool exact, const uint8_t *text, size_t count, size_t at,
                      pattern_budget *budget) {
    uint64_t limit = LIMIT_FIRST;
    pcre2_set_offset_limit(p->context, at);
    int rc = attempt(p, exact, text, count, at, LIMIT_FIRST);
    while (rc == PCRE2_ERROR_MATCHLIMIT) {
        limit *= LIMIT_STEP;
        if (limit > budget->left || limit > UINT32_MAX) break;
        budget->left -= limit;
        rc = attempt(p, exact, text, count, at, (uint32_t)limit);
    }
    return rc;
}

/* Place by place: PCRE2's limit holds for each place at which a match may begin, and a text has many. */
static int persist(pattern *p, bool exact, const uint8_t *text, size_t count, size_t at,
                   pattern_budget *budget) {
    size_t length = 1;
    int rc = PCRE2_ERROR_NOMATCH;
    for (; at <= count && rc == PCRE2_ERROR_NOMATCH; at += length) {
        rc = persist_at(p, exact, text, count, at, budget);
        if (at < count) utf8_decode(text + at, &length);
    }
    pcre2_set_offset_limit(p->context, PCRE2_UNSET);
    return rc;
}

mst_status pattern_find(pattern *p, const uint8_t *text, size_t count, size_t at, bool unusual,
                        pattern_budget *budget, bool *found_out, size_t *start_out, size_t *end_out) {
    char why[128];
    bool exact = unusual && !p->literal;
    if (exact && p->code[exact] == NULL) {
        mst_status status = compile(p, true);
        if (status != MST_OK) return status;
    }
    int rc = attempt(p, exact, text, count, at, LIMIT_FIRST);
    if (rc == PCRE2_ERROR_MATCHLIMIT) rc = persist(p, exact, text, count, at, budget);
    *found_out = rc >= 0;
    if (rc >= 0) {
        *start_out = pcre2_get_ovector_pointer(p->found)[0];
        *end_out = pcre2_get_ovector_pointer(p->found)[1];
        return MST_OK;
    }
    if (rc == PCRE2_ERROR_NOMATCH) return MST_OK;
    if (rc == PCRE2_ERROR_NOMEMORY) return mst_error(MST_ENOMEM, "pattern: no memory to match");
    if (rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_HEAPLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT)
        return mst_error(MST_EFORMAT, "pattern '%.*s' takes too long on this text",
                         (int)(p->source.count < 60 ? p->source.count : 60), (const char *)p->source.at);
    pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
    return mst_error(MST_EINTERNAL, "pattern: %s", why);
}
