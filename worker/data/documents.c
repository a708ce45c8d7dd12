#include "documents.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"

enum {
    PIECE_BYTES = 64 << 10,
    LINE_LIMIT = 256 << 20, /* of one .jsonl line, which is held in memory */
};

/* A line that grows as pieces arrive. */
typedef struct line {
    char *bytes;
    size_t count, capacity;
    uint64_t number; /* from 1 */
} line;

static bool is_lines(const char *path) {
    static const char *const patterns[] = {"*.jsonl",  "*.jsonl.gz",  "*.jsonl.zst",
                                           "*.ndjson", "*.ndjson.gz", "*.ndjson.zst"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (fnmatch(patterns[i], path, 0) == 0) return true;
    return false;
}

static mst_status line_append(line *l, const char *path, const uint8_t *bytes, size_t count) {
    if (count == 0) return MST_OK;
    if (l->count + count > LINE_LIMIT)
        return mst_error(MST_EFORMAT, "%s:%" PRIu64 ": the line is longer than %d MiB; split the document",
                         path, l->number, LINE_LIMIT >> 20);
    if (l->count + count > l->capacity) {
        size_t capacity = 2 * (l->count + count);
        char *grown = realloc(l->bytes, capacity);
        if (grown == NULL)
            return mst_error(MST_ENOMEM, "%s:%" PRIu64 ": out of memory for a line of %zu bytes", path,
                             l->number, capacity);
        l->bytes = grown;
        l->capacity = capacity;
    }
    memcpy(l->bytes + l->count, bytes, count);
    l->count += count;
    return MST_OK;
}

static bool is_blank(const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != ' ' && bytes[i] != '\t' && bytes[i] != '\r') return false;
    return true;
}

/* Hands over the text of an object, or the object's own text. */
static mst_status hand_over(const line *l, const char *path, const char *field, const document_sink *sink,
                            const json_t *object, const char *start, size_t count) {
    mst_status status = MST_OK;
    if (sink->records) {
        status = sink->piece(sink->context, (const uint8_t *)start, count);
        if (status == MST_OK) status = sink->end(sink->context);
        if (status != MST_OK) mst_error_context(status, "%s:%" PRIu64, path, l->number);
        return status;
    }
    const json_t *text = json_object_get(object, field);
    MST_CHECK(text != NULL, MST_EFORMAT,
              "%s:%" PRIu64 ": the object has no field '%s'; name the field that holds the text", path,
              l->number, field);
    MST_CHECK(json_is_string(text), MST_EFORMAT, "%s:%" PRIu64 ": field '%s' is not a string", path,
              l->number, field);
    MST_TRY(sink->piece(sink->context, (const uint8_t *)json_string_value(text), json_string_length(text)));
    MST_TRY(sink->end(sink->context));
done:
    return status;
}

/* Hands over the document of a complete line, and empties the line. */
static mst_status line_end(line *l, const char *path, const char *field, const document_sink *sink) {
    mst_status status = MST_OK;
    json_t *object = NULL;
    const char *start = l->bytes;
    size_t count = l->count;
    if (l->number == 1 && count >= 3 && memcmp(start, "\xEF\xBB\xBF", 3) == 0) {
        start += 3;
        count -= 3;
    }
    if (!is_blank(start, count)) {
        json_error_t error;
        object = json_loadb(start, count, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
        MST_CHECK(object != NULL, MST_EFORMAT, "%s:%" PRIu64 ":%d: not valid JSON: %s", path, l->number,
                  error.position, error.text);
        MST_CHECK(json_is_object(object), MST_EFORMAT,
                  "%s:%" PRIu64 ": expected an object, such as {\"%s\": %s}", path, l->number,
                  sink->records ? "messages" : field, sink->records ? "[...]" : "\"...\"");
        MST_TRY(hand_over(l, path, field, sink, object, start, count));
    }
    l->count = 0;
    l->number++;
done:
    json_decref(object);
    return status;
}

static mst_status read_lines(stream *s, const char *path, const char *field, const document_sink *sink,
                             uint8_t *piece) {
    mst_status status = MST_OK;
    line l = {.number = 1};
    size_t got;
    for (;;) {
        MST_TRY(stream_read(s, piece, PIECE_BYTES, &got));
        if (got == 0) break;
        const uint8_t *next = piece, *end = piece + got;
        for (const uint8_t *newline; (newline = memchr(next, '\n', (size_t)(end - next))) != NULL;
             next = newline + 1) {
            MST_TRY(line_append(&l, path, next, (size_t)(newline - next)));
            MST_TRY(line_end(&l, path, field, sink));
        }
        MST_TRY(line_append(&l, path, next, (size_t)(end - next)));
    }
    if (l.count > 0) MST_TRY(line_end(&l, path, field, sink));
done:
    free(l.bytes);
    return status;
}

static mst_status read_whole(stream *s, const document_sink *sink, uint8_t *piece) {
    mst_status status = MST_OK;
    size_t got;
    for (;;) {
        MST_TRY(stream_read(s, piece, PIECE_BYTES, &got));
        if (got == 0) break;
        MST_TRY(sink->piece(sink->context, piece, got));
    }
    MST_TRY(sink->end(sink->context));
done:
    return status;
}

mst_status documents_read(const char *path, const char *field, const document_sink *sink,
                          document_file *file_out) {
    mst_status status = MST_OK;
    stream *s = NULL;
    uint8_t *piece = malloc(PIECE_BYTES);
    MST_CHECK(piece != NULL, MST_ENOMEM, "out of memory to read '%s'", path);
    MST_CHECK(!sink->records || is_lines(path), MST_ECONFIG,
              "'%s' is not a .jsonl file; conversations stand on the lines of .jsonl files", path);
    MST_TRY(stream_open(path, &s));
    if (is_lines(path))
        MST_TRY(read_lines(s, path, field, sink, piece));
    else
        MST_TRY(read_whole(s, sink, piece));
    MST_TRY(stream_finish(s, &file_out->bytes, &file_out->digest));
done:
    stream_close(&s);
    free(piece);
    return status;
}
