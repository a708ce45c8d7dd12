/* Text that is written while it comes: whole characters, and nothing of a text that stops it. */
#include <stdlib.h>
#include <string.h>

#include "muster/inference.h"

struct mst_text_stream {
    char **stops; /* owned */
    size_t stop_count, longest;
    mst_write_fn *write;
    void *context;
    uint8_t *held; /* [room] not written yet */
    size_t count, room;
};

mst_status mst_text_stream_create(const char *const *stops, size_t stop_count, mst_write_fn *write,
                                  void *context, mst_text_stream **stream_out) {
    mst_status status = MST_OK;
    mst_text_stream *s = calloc(1, sizeof *s);
    *stream_out = NULL;
    MST_CHECK(s != NULL, MST_ENOMEM, "text: out of memory");
    s->write = write;
    s->context = context;
    s->stops = calloc(stop_count + 1, sizeof *s->stops);
    MST_CHECK(s->stops != NULL, MST_ENOMEM, "text: out of memory");
    for (size_t i = 0; i < stop_count; i++) {
        const size_t length = strlen(stops[i]);
        MST_CHECK(length > 0, MST_ECONFIG, "a stop text is empty; give at least one character");
        s->stops[i] = strdup(stops[i]);
        MST_CHECK(s->stops[i] != NULL, MST_ENOMEM, "text: out of memory");
        s->stop_count++;
        if (length > s->longest) s->longest = length;
    }
    *stream_out = s;
    s = NULL;
done:
    mst_text_stream_destroy(&s);
    return status;
}

void mst_text_stream_destroy(mst_text_stream **stream) {
    mst_text_stream *s = *stream;
    *stream = NULL;
    if (s == NULL) return;
    for (size_t i = 0; s->stops != NULL && i < s->stop_count; i++) free(s->stops[i]);
    free(s->stops);
    free(s->held);
    free(s);
}

/* Bytes of a character by its first one; 1 for those that begin none (Unicode 15, table 3-7). */
static size_t character_length(uint8_t first) {
    return first >= 0xc2 && first <= 0xdf   ? 2
           : first >= 0xe0 && first <= 0xef ? 3
           : first >= 0xf0 && first <= 0xf4 ? 4
                                            : 1;
}

/* Whether a second byte may follow the first: no overlong forms, surrogates or numbers beyond 10FFFF. */
static bool may_follow(uint8_t first, uint8_t second) {
    const uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    return second >= low && second <= high;
}

/* How many bytes at the end begin a character that is not complete. */
static size_t incomplete(const uint8_t *bytes, size_t count) {
    for (size_t n = 1; n <= 3 && n <= count; n++) {
        const uint8_t *from = bytes + count - n;
        if (from[0] >= 0x80 && from[0] <= 0xbf) continue;
        return character_length(from[0]) > n && (n == 1 || may_follow(from[0], from[1])) ? n : 0;
    }
    return 0;
}

/* How many bytes at the end begin a stop text. */
static size_t begun_stop(const mst_text_stream *s) {
    size_t longest = 0;
    for (size_t i = 0; i < s->stop_count; i++) {
        const size_t length = strlen(s->stops[i]);
        for (size_t n = length - 1 < s->count ? length - 1 : s->count; n > longest; n--)
            if (memcmp(s->held + s->count - n, s->stops[i], n) == 0) longest = n;
    }
    return longest;
}

/* The length of the longest stop text that the held bytes end with, 0 for none. */
static size_t complete_stop(const mst_text_stream *s) {
    size_t longest = 0;
    for (size_t i = 0; i < s->stop_count; i++) {
        const size_t n = strlen(s->stops[i]);
        if (n > longest && n <= s->count && memcmp(s->held + s->count - n, s->stops[i], n) == 0) longest = n;
    }
    return longest;
}

/* Writes the first `count` held bytes. */
static mst_status release(mst_text_stream *s, size_t count) {
    mst_status status = count > 0 ? s->write(s->context, s->held, count) : MST_OK;
    if (status != MST_OK) return status;
    s->count -= count;
    memmove(s->held, s->held + count, s->count);
    return MST_OK;
}

static mst_status make_room(mst_text_stream *s, size_t more) {
    mst_status status = MST_OK;
    if (s->room - s->count >= more) goto done;
    uint8_t *grown = realloc(s->held, (s->count + more) * 2);
    MST_CHECK(grown != NULL, MST_ENOMEM, "text: no memory for %zu bytes", more);
    s->held = grown;
    s->room = (s->count + more) * 2;
done:
    return status;
}

mst_status mst_text_stream_push(mst_text_stream *stream, const uint8_t *bytes, size_t count,
                                bool *stopped_out) {
    mst_status status = MST_OK;
    mst_text_stream *s = stream;
    *stopped_out = false;
    MST_TRY(make_room(s, count));
    for (size_t i = 0; i < count && !*stopped_out; i++) {
        s->held[s->count++] = bytes[i];
        const size_t stop = complete_stop(s);
        *stopped_out = stop > 0;
        s->count -= stop;
    }
    if (*stopped_out) goto done;
    size_t ready = s->count - begun_stop(s);
    MST_TRY(release(s, ready - incomplete(s->held, ready)));
done:
    return status;
}

mst_status mst_text_stream_end(mst_text_stream *stream, bool whole_characters) {
    mst_status status = MST_OK;
    static const uint8_t replacement[] = {0xef, 0xbf, 0xbd};
    const size_t half = whole_characters ? incomplete(stream->held, stream->count) : 0;
    MST_TRY(release(stream, stream->count - half));
    if (half > 0) MST_TRY(stream->write(stream->context, replacement, sizeof replacement));
    stream->count = 0;
done:
    return status;
}
