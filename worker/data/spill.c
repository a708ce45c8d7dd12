#include "spill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "muster/files.h"

enum { BUFFER_BYTES = 1 << 20 };

/* A file that is gone when it is closed. NFS has no O_TMPFILE:
 * there, a named file whose name is removed at once. */
static int open_nameless(const char *folder) {
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
    char *path = NULL;
    if (asprintf(&path, "%s/.muster-spill-XXXXXX", folder) < 0) return -1;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    free(path);
    return fd;
}

mst_status spill_init(spill *s, const char *folder) {
    mst_status status = MST_OK;
    *s = (spill){.fd = -1};
    s->buffer = malloc(BUFFER_BYTES);
    if (asprintf(&s->name, "%s/(temporary tokens)", folder) < 0) s->name = NULL;
    MST_CHECK(s->buffer != NULL && s->name != NULL, MST_ENOMEM, "out of memory for a buffer of %d bytes",
              BUFFER_BYTES);
    s->fd = open_nameless(folder);
    MST_CHECK(s->fd >= 0, MST_EIO, "making a temporary file in folder '%s': %s", folder, strerror(errno));
done:
    if (status != MST_OK) spill_clear(s);
    return status;
}

void spill_clear(spill *s) {
    if (s->name != NULL && s->fd >= 0) close(s->fd);
    free(s->buffer);
    free(s->name);
    *s = (spill){0};
}

uint64_t spill_bytes(const spill *s) {
    return s->flushed + s->buffered;
}

static mst_status flush(spill *s) {
    mst_status status = mst_file_write(s->fd, s->name, s->flushed, s->buffer, s->buffered);
    if (status != MST_OK) return status;
    s->flushed += s->buffered;
    s->buffered = 0;
    return MST_OK;
}

mst_status spill_append(spill *s, const void *data, size_t bytes) {
    const uint8_t *next = data;
    while (bytes > 0) {
        size_t part = BUFFER_BYTES - s->buffered;
        if (part > bytes) part = bytes;
        memcpy(s->buffer + s->buffered, next, part);
        s->buffered += part;
        next += part;
        bytes -= part;
        mst_status status = s->buffered == BUFFER_BYTES ? flush(s) : MST_OK;
        if (status != MST_OK) return status;
    }
    return MST_OK;
}

void spill_cut(spill *s, uint64_t bytes) {
    if (bytes >= s->flushed) {
        s->buffered = (size_t)(bytes - s->flushed);
    } else {
        s->flushed = bytes; /* what lies behind is overwritten */
        s->buffered = 0;
    }
}

mst_status spill_read(spill *s, uint64_t offset, void *buffer, size_t bytes) {
    if (offset + bytes > s->flushed && s->buffered > 0) {
        mst_status status = flush(s);
        if (status != MST_OK) return status;
    }
    return mst_file_read(s->fd, s->name, offset, buffer, bytes);
}
