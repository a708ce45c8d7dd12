#include "pretokenize.h"

#include <stdlib.h>
#include <string.h>

#include "lists.h"
#include "pattern.h"
#include "unicode.h"

enum { STEPS_MAX = 16 };

const char pretokenizer_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* A step splits by matches, or puts a space before. */
typedef struct step {
    enum { STEP_PATTERN, STEP_DIGITS, STEP_PREFIX_SPACE } kind;
    pattern *pattern;
    split_behavior behavior;
    bool invert;
    mst_byte_list prefixed; /* scratch */
} step;

struct pretokenizer {
    step steps[STEPS_MAX];
    size_t step_count;
};

/* One walk. */
typedef struct walk {
    pretokenizer *p;
    bool unusual;
    pattern_budget budget;
    word_fn *visit;
    void *context;
} walk;

mst_status pretokenizer_create(pretokenizer **p_out) {
    *p_out = calloc(1, sizeof **p_out);
    return *p_out == NULL ? mst_error(MST_ENOMEM, "pre-tokenizer: no memory") : MST_OK;
}

void pretokenizer_destroy(pretokenizer **p) {
    if (*p == NULL) return;
    for (size_t i = 0; i < (*p)->step_count; i++) {
        pattern_destroy(&(*p)->steps[i].pattern);
        free((*p)->steps[i].prefixed.at);
    }
    free(*p);
    *p = NULL;
}

static mst_status add(pretokenizer *p, step s) {
    if (p->step_count == STEPS_MAX) {
        pattern_destroy(&s.pattern);
        return mst_error(MST_EUNSUPPORTED, "pre-tokenizer: more than %d steps", STEPS_MAX);
    }
    p->steps[p->step_count++] = s;
    return MST_OK;
}

mst_status pretokenizer_add_split(pretokenizer *p, const char *text, size_t bytes, bool literal,
                                  split_behavior behavior, bool invert) {
    step s = {.kind = STEP_PATTERN, .behavior = behavior, .invert = invert};
    mst_status status = pattern_create(text, bytes, literal, &s.pattern);
    return status == MST_OK ? add(p, s) : status;
}

mst_status pretokenizer_add_digits(pretokenizer *p, bool individual) {
    return add(p, (step){.kind = STEP_DIGITS, .behavior = individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS});
}

mst_status pretokenizer_add_byte_level(pretokenizer *p, bool add_prefix_space, bool use_regex) {
    mst_status status = MST_OK;
    if (add_prefix_space) status = add(p, (step){.kind = STEP_PREFIX_SPACE});
    if (status == MST_OK && use_regex)
        status = pretokenizer_add_split(p, pretokenizer_gpt2, strlen(pretokenizer_gpt2), false,
                                        SPLIT_ISOLATED, false);
    return status;
}

/* ---- what a step looks for ---- */

/* The first digit at or behind a place. */
static bool find_digit(const uint8_t *text, size_t count, size_t at, size_t *start_out, size_t *end_out) {
    for (size_t length; at < count; at += length)
        if (unicode_is_numeric(utf8_decode(text + at, &length))) {
            *start_out = at;
            *end_out = at + length;
            return true;
        }
    return false;
}

static mst_status find(walk *w, const step *s, const uint8_t *text, size_t count, size_t at, bool *found_out,
                       size_t *start_out, size_t *end_out) {
    if (s->kind == STEP_PATTERN)
        return pattern_find(s->pattern, text, count, at, w->unusual, &w->budget, found_out, start_out,
                            end_out);
    *found_out = find_digit(text, count, at, start_out, end_out);
    return MST_OK;
}

/* ---- what becomes of it ---- */

static mst_status hand_on(walk *w, size_t step, const uint8_t *text, size_t count);

/* Matches and what lies between them arrive as parts; a part waits where the next one may join it. */
typedef struct parts {
    walk *w;
    size_t step; /* the number of the one that splits */
    const uint8_t *text;
    size_t start, end; /* of the part that waits */
    bool waits, matched;
} parts;

static mst_status flush(parts *p) {
    if (!p->waits) return MST_OK;
    p->waits = false;
    return hand_on(p->w, p->step + 1, p->text + p->start, p->end - p->start);
}

/* Whether a part joins the one that waits. */
static bool joins(split_behavior behavior, bool waiting_matched, bool matched) {
    switch (behavior) {
    case SPLIT_CONTIGUOUS:
        return waiting_matched == matched;
    case SPLIT_MERGED_WITH_PREVIOUS:
        return !waiting_matched && matched;
    case SPLIT_MERGED_WITH_NEXT:
        return waiting_matched && !matched;
    default:
        return false;
    }
}

static mst_status take_part(parts *p, size_t start, size_t end, bool matched) {
    const step *s = &p->w->p->steps[p->step];
    matched = matched != s->invert;
    if (s->behavior == SPLIT_ISOLATED || (s->behavior == SPLIT_REMOVED && !matched))
        return hand_on(p->w, p->step + 1, p->text + start, end - start);
    if (s->behavior == SPLIT_REMOVED) return MST_OK;
    if (!p->waits || !joins(s->behavior, p->matched, matched)) {
        mst_status status = flush(p);
        if (status != MST_OK) return status;
        p->start = start;
    }
    p->end = end;
    p->waits = true;
    p->matched = matched;
    return MST_OK;
}

/* Splits a piece by a step. An empty match cuts, but not right behind the match before it. */
static mst_status split(walk *w, size_t number, const uint8_t *text, size_t count) {
    const step *s = &w->p->steps[number];
    parts p = {.w = w, .step = number, .text = text};
    size_t at = 0, done = 0, start, end, length, last_end = SIZE_MAX;
    bool found;
    mst_status status = MST_OK;
    while (at <= count) {
        MST_TRY(find(w, s, text, count, at, &found, &start, &end));
        if (!found) break;
        if (start == end && end == last_end) {
            if (at == count) break;
            utf8_decode(text + at, &length);
            at += length;
            continue;
        }
        at = last_end = end;
        if (start > done) MST_TRY(take_part(&p, done, start, false));
        MST_TRY(take_part(&p, start, end, true));
        done = end;
    }
    if (done < count) MST_TRY(take_part(&p, done, count, false));
    status = flush(&p);
done:
    return status;
}

static mst_status prefix_space(walk *w, size_t number, const uint8_t *text, size_t count) {
    step *s = &w->p->steps[number];
    if (text[0] == ' ') return hand_on(w, number + 1, text, count);
    s->prefixed.count = 0;
    mst_status status = byte_list_reserve(&s->prefixed, count + 1);
    if (status != MST_OK) return status;
    s->prefixed.at[0] = ' ';
    memcpy(s->prefixed.at + 1, text, count);
    return hand_on(w, number + 1, s->prefixed.at, count + 1);
}

/* Gives a piece to the step of that number, or to the visitor behind the last one. */
static mst_status hand_on(walk *w, size_t number, const uint8_t *text, size_t count) {
    if (count == 0) return MST_OK;
    if (number == w->p->step_count) return w->visit(w->context, text, count);
    if (w->p->steps[number].kind == STEP_PREFIX_SPACE) return prefix_space(w, number, text, count);
    return split(w, number, text, count);
}

mst_status pretokenizer_walk(pretokenizer *p, const uint8_t *text, size_t count, word_fn *visit,
                             void *context) {
    walk w = {.p = p, .budget = pattern_budget_for(count), .visit = visit, .context = context};
    mst_status status = MST_OK;
    for (size_t at = 0; at < count && status == MST_OK;) {
        size_t span = utf8_span(text + at, count - at, &w.unusual);
        status = hand_on(&w, 0, text + at, span);
        at += span;
        /* one byte that does not belong here */
        if (at < count && status == MST_OK) status = visit(context, text + at++, 1);
    }
    return status;
}
