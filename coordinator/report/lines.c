#include "lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20 };

typedef struct reader {
    report_line_fn *each;
    void *context;
    char *buffer;
    size_t used;   /* bytes of an unfinished line, at the buffer's start */
    bool too_long; /* the unfinished line lost its beginning */
} reader;

static void end_line(reader *r, const char *line, size_t length, bool whole) {
    bool lost = r->too_long || length > REPORT_LINE_MAX;
    r->each(r->context, lost ? NULL : line, lost ? 0 : length, whole);
    r->too_long = false;
}

/* Gives out the whole lines among `count` bytes; what is left moves to the buffer's start. */
static void take_lines(reader *r, size_t count) {
    const char *line = r->buffer, *end = r->buffer + count, *newline;
    while ((newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        end_line(r, line, (size_t)(newline - line), true);
        line = newline + 1;
    }
    r->used = (size_t)(end - line);
    if (r->used > REPORT_LINE_MAX) {
        r->too_long = true;
        r->used = 0;
    }
    memmove(r->buffer, line, r->used);
}

mst_status report_lines(const char *path, report_line_fn *each, void *context, bool *missing_out) {
    mst_status status = MST_OK;
    reader r = {.each = each, .context = context};
    struct stat facts;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *missing_out = file < 0 && errno == ENOENT;
    if (*missing_out) return MST_OK;
    MST_CHECK(file >= 0 && fstat(file, &facts) == 0, MST_EIO, "cannot read %s: %s", path, strerror(errno));
    MST_CHECK(S_ISREG(facts.st_mode), MST_EIO, "cannot read %s: it is no regular file", path);
    r.buffer = malloc(BUFFER_BYTES);
    MST_CHECK(r.buffer != NULL, MST_ENOMEM, "cannot read %s: no memory", path);
    for (;;) {
        ssize_t got = read(file, r.buffer + r.used, BUFFER_BYTES - r.used);
        if (got < 0 && errno == EINTR) continue;
        MST_CHECK(got >= 0, MST_EIO, "cannot read %s: %s", path, strerror(errno));
        if (got == 0) break;
        take_lines(&r, r.used + (size_t)got);
    }
    if (r.used > 0 || r.too_long) end_line(&r, r.buffer, r.used, false);
done:
    free(r.buffer);
    if (file >= 0) close(file);
    return status;
}
