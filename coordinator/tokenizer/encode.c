/* From text to tokens: added tokens, normalization, words, merges. */
#include <stdlib.h>
#include <string.h>

#include "lists.h"
#include "normalize.h"
#include "state.h"

/* Spans of a text that is passed from its beginning to its end. */
typedef struct span_walk {
    const mst_text_span *at;
    size_t count, next; /* next: the first that does not end before the place */
} span_walk;

/* Who wants to know which tokens overlap spans. */
typedef struct marker {
    mst_byte_list *mask;
    const uint8_t *whole; /* the text */
    span_walk in_whole, in_piece;
    mst_text_span *piece_spans; /* [in_whole.count] owned; scratch */
    const uint8_t *piece;       /* text between added tokens, normalized */
    size_t piece_count;
} marker;

typedef struct encoding {
    mst_tokenizer *t;
    bool plain;
    mst_token_list *tokens;
    marker *marks; /* NULL: nobody */
} encoding;

/* ---- marks ---- */

/* Marks the token that stands for [start, end); tokens come in order. */
static mst_status mark(marker *m, span_walk *spans, size_t start, size_t end) {
    mst_status status = byte_list_reserve(m->mask, 1);
    if (status != MST_OK) return status;
    while (spans->next < spans->count && spans->at[spans->next].end <= start) spans->next++;
    m->mask->at[m->mask->count++] = spans->next < spans->count && spans->at[spans->next].start < end;
    return MST_OK;
}

/* The tokens of a word, by their lengths. */
static mst_status mark_word(encoding *e, const uint8_t *word, size_t first) {
    mst_status status = MST_OK;
    marker *m = e->marks;
    const uintptr_t at = (uintptr_t)word, begin = (uintptr_t)m->piece;
    if (at < begin || at >= begin + m->piece_count)
        return mst_error(
            MST_EUNSUPPORTED,
            "a tokenizer that puts a space before texts is not supported here: its tokens have no place");
    size_t start = at - begin, bytes;
    bool special;
    for (size_t i = first; i < e->tokens->count && status == MST_OK; i++, start += bytes) {
        (void)mst_tokenizer_piece(e->t, e->tokens->at[i], &bytes, &special);
        status = mark(m, &m->in_piece, start, start + bytes);
    }
    return status;
}

/* Bytes that the beginning of a text has when it is normalized; `unchanged` says that it stays as it is. */
static mst_status normalized_length(const uint8_t *text, size_t count, bool unchanged, size_t *count_out) {
    mst_byte_list scratch = {0};
    *count_out = count;
    if (unchanged) return MST_OK;
    mst_status status = normalize_nfc(text, count, &scratch);
    *count_out = scratch.count;
    free(scratch.at);
    return status;
}

/* Begins a piece of the text: its spans are those of the whole, counted in its normalized form. */
static mst_status begin_piece(marker *m, const uint8_t *raw, size_t raw_count, const uint8_t *text,
                              size_t count) {
    mst_status status = MST_OK;
    const size_t start = (size_t)(raw - m->whole), end = start + raw_count;
    size_t found = 0;
    for (size_t i = m->in_whole.next; i < m->in_whole.count && m->in_whole.at[i].start < end; i++) {
        const mst_text_span *s = &m->in_whole.at[i];
        if (s->end <= start) continue;
        mst_text_span *here = &m->piece_spans[found++];
        MST_TRY(normalized_length(raw, s->start > start ? s->start - start : 0, raw == text, &here->start));
        MST_TRY(normalized_length(raw, (s->end < end ? s->end : end) - start, raw == text, &here->end));
    }
    m->piece = text;
    m->piece_count = count;
    m->in_piece = (span_walk){m->piece_spans, found, 0};
done:
    return status;
}

/* ---- tokens ---- */

static mst_status append(mst_token_list *tokens, const int32_t *more, size_t count) {
    mst_status status = token_list_reserve(tokens, count);
    if (status != MST_OK || count == 0) return status;
    memcpy(tokens->at + tokens->count, more, count * sizeof *more);
    tokens->count += count;
    return MST_OK;
}

static mst_status encode_word(void *context, const uint8_t *word, size_t count) {
    encoding *e = context;
    const size_t first = e->tokens->count;
    mst_status status = bpe_encode(e->t->model, word, count, e->tokens);
    return status == MST_OK && e->marks != NULL ? mark_word(e, word, first) : status;
}

/* What is done with a text between two added tokens. */
typedef mst_status between_fn(encoding *e, const uint8_t *text, size_t count);

/* Text without added tokens. */
static mst_status encode_words(encoding *e, const uint8_t *text, size_t count) {
    return pretokenizer_walk(e->t->words, text, count, encode_word, e);
}

static mst_status append_added(encoding *e, const uint8_t *text, const added_piece *piece) {
    mst_status status = append(e->tokens, &piece->id, 1);
    marker *m = e->marks;
    if (status != MST_OK || m == NULL) return status;
    const bool raw = text == m->whole; /* otherwise it is one of those looked for in a normalized piece */
    const size_t before = raw ? 0 : (size_t)(text - m->piece);
    return mark(m, raw ? &m->in_whole : &m->in_piece, before + piece->start, before + piece->end);
}

/* Finds the added tokens of a set, and hands the rest on. */
static mst_status encode_added(encoding *e, const added_set *set, const uint8_t *text, size_t count,
                               between_fn *between) {
    added_search search = {0};
    added_piece piece;
    mst_status status = MST_OK;
    if (e->plain) return between(e, text, count);
    while (status == MST_OK && added_next(set, text, count, &search, &piece))
        status = piece.id >= 0 ? append_added(e, text, &piece)
                               : between(e, text + piece.start, piece.end - piece.start);
    return status;
}

/* Text without the added tokens that are looked for before normalization. */
static mst_status encode_raw(encoding *e, const uint8_t *text, size_t count) {
    mst_byte_list *scratch = &e->t->scratch;
    const uint8_t *raw = text;
    const size_t raw_count = count;
    if (e->t->nfc && !normalize_is_plain(text, count)) {
        scratch->count = 0;
        mst_status status = normalize_nfc(text, count, scratch);
        if (status != MST_OK) return status;
        text = scratch->at;
        count = scratch->count;
    }
    if (e->marks != NULL) {
        mst_status status = begin_piece(e->marks, raw, raw_count, text, count);
        if (status != MST_OK) return status;
    }
    return encode_added(e, &e->t->normalized_added, text, count, encode_words);
}

static mst_status encode_all(encoding *e, const uint8_t *bytes, size_t count,
                             const mst_encode_options *options) {
    mst_tokenizer *t = e->t;
    size_t before = e->tokens->count;
    mst_status status = MST_OK;
    if (options->affixes) status = append(e->tokens, t->prefix.at, t->prefix.count);
    if (status == MST_OK) status = encode_added(e, &t->added, bytes, count, encode_raw);
    if (status == MST_OK && options->affixes) status = append(e->tokens, t->suffix.at, t->suffix.count);
    if (status != MST_OK) e->tokens->count = before; /* nothing half-done */
    return status;
}

mst_status mst_tokenizer_encode(mst_tokenizer *tokenizer, const uint8_t *bytes, size_t count,
                                const mst_encode_options *options, mst_token_list *tokens) {
    encoding e = {.t = tokenizer, .plain = options->plain, .tokens = tokens};
    return encode_all(&e, bytes, count, options);
}

mst_status mst_tokenizer_encode_spans(mst_tokenizer *tokenizer, const uint8_t *bytes, size_t count,
                                      const mst_encode_options *options, const mst_text_span *spans,
                                      size_t span_count, mst_token_list *tokens, mst_byte_list *mask) {
    const size_t before = mask->count;
    marker marks = {.mask = mask, .whole = bytes, .in_whole = {spans, span_count, 0}};
    encoding e = {.t = tokenizer, .plain = options->plain, .tokens = tokens, .marks = &marks};
    if (options->affixes)
        return mst_error(MST_EINVAL, "encoding with spans: affixes have no place in the text");
    marks.piece_spans = calloc(span_count + 1, sizeof *marks.piece_spans);
    if (marks.piece_spans == NULL)
        return mst_error(MST_ENOMEM, "tokens: no memory for %zu spans", span_count);
    mst_status status = encode_all(&e, bytes, count, options);
    if (status != MST_OK) mask->count = before;
    free(marks.piece_spans);
    return status;
}
