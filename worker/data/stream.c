#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum {
    INPUT_BYTES = 256 << 10,
    GZIP_WINDOW_BITS = 15 + 16, /* the largest window; +16: with a gzip header and trailer */
    ZSTD_WINDOW_LOG = 31, /* what `zstd --long=31` writes: up to 2 GiB, allocated only if the file needs it */
};

typedef enum packing { PACKING_NONE, PACKING_GZIP, PACKING_ZSTD } packing;

struct stream {
    char *path;
    int fd;
    packing packing;
    bool file_ended;    /* all bytes of the file are in `input` */
    bool inside;        /* of a gzip member or zstd frame that is not complete */
    bool any;           /* a member or frame was begun */
    mst_hasher *hasher; /* of the bytes on the disk */
    uint64_t file_bytes;
    uint8_t *input;
    size_t input_at, input_end;
    z_stream gzip;
    ZSTD_DStream *zstd;
};

static bool ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), ending_length = strlen(ending);
    return length >= ending_length && strcmp(text + length - ending_length, ending) == 0;
}

static mst_status open_unpacker(stream *s) {
    mst_status status = MST_OK;
    if (ends_with(s->path, ".gz")) {
        MST_CHECK(inflateInit2(&s->gzip, GZIP_WINDOW_BITS) == Z_OK, MST_ENOMEM, "starting zlib for '%s'",
                  s->path);
        s->packing = PACKING_GZIP;
    } else if (ends_with(s->path, ".zst")) {
        s->zstd = ZSTD_createDStream();
        MST_CHECK(s->zstd != NULL, MST_ENOMEM, "starting zstd for '%s'", s->path);
        ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
        s->packing = PACKING_ZSTD;
    }
done:
    return status;
}

/* Parquet, which begins and ends with PAR1, would be taken for one long document. */
static mst_status refuse_parquet(const stream *s, off_t bytes) {
    static const char mark[4] = {'P', 'A', 'R', '1'};
    char found[2][sizeof mark] = {{0}};
    const off_t size = sizeof mark;
    if (bytes < 2 * size || pread(s->fd, found[0], sizeof mark, 0) != size ||
        pread(s->fd, found[1], sizeof mark, bytes - size) != size ||
        memcmp(found[0], mark, sizeof mark) != 0 || memcmp(found[1], mark, sizeof mark) != 0)
        return MST_OK;
    return mst_error(
        MST_EUNSUPPORTED,
        "'%s' is a Parquet file, which muster does not read; make a .jsonl file of it: python3 -c "
        "\"import pandas; pandas.read_parquet('FILE.parquet').to_json('FILE.jsonl.gz', orient='records', "
        "lines=True)\"",
        s->path);
}

mst_status stream_open(const char *path, stream **stream_out) {
    mst_status status = MST_OK;
    struct stat info;
    stream *s = calloc(1, sizeof *s);
    *stream_out = NULL;
    MST_CHECK(s != NULL, MST_ENOMEM, "out of memory to read '%s'", path);
    s->fd = -1;
    s->path = strdup(path);
    s->input = malloc(INPUT_BYTES);
    MST_CHECK(s->path != NULL && s->input != NULL, MST_ENOMEM, "out of memory to read '%s'", path);
    MST_TRY(mst_hasher_create(&s->hasher));
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    MST_CHECK(s->fd >= 0 && fstat(s->fd, &info) == 0, MST_EIO, "opening '%s': %s", path, strerror(errno));
    MST_CHECK(S_ISREG(info.st_mode), MST_EIO, "opening '%s': not a regular file", path);
    MST_TRY(refuse_parquet(s, info.st_size));
    MST_TRY(open_unpacker(s));
    *stream_out = s;
    s = NULL;
done:
    stream_close(&s);
    return status;
}

void stream_close(stream **s) {
    stream *old = *s;
    *s = NULL;
    if (old == NULL) return;
    if (old->packing == PACKING_GZIP) inflateEnd(&old->gzip);
    ZSTD_freeDStream(old->zstd);
    mst_hasher_destroy(&old->hasher);
    if (old->fd >= 0) close(old->fd);
    free(old->input);
    free(old->path);
    free(old);
}

/* Fills `input` when it is empty. */
static mst_status refill(stream *s) {
    while (s->input_at == s->input_end && !s->file_ended) {
        ssize_t got = read(s->fd, s->input, INPUT_BYTES);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return mst_error(MST_EIO, "reading '%s': %s", s->path, strerror(errno));
        s->file_ended = got == 0;
        s->input_at = 0;
        s->input_end = (size_t)got;
        s->file_bytes += (uint64_t)got;
        mst_status status = mst_hasher_update(s->hasher, s->input, (size_t)got);
        if (status != MST_OK) return status;
    }
    return MST_OK;
}

/* Unpacks a piece of gzip; `inside` becomes false where a member ends, and another may follow. */
static mst_status unpack_gzip(stream *s, void *buffer, size_t capacity, size_t *bytes_out) {
    mst_status status = MST_OK;
    uInt room = capacity < INPUT_BYTES ? (uInt)capacity : INPUT_BYTES;
    if (!s->inside)
        MST_CHECK(inflateReset(&s->gzip) == Z_OK, MST_ELIBRARY, "zlib cannot start again on '%s'", s->path);
    s->inside = s->any = true;
    s->gzip.next_in = s->input + s->input_at;
    s->gzip.avail_in = (uInt)(s->input_end - s->input_at);
    s->gzip.next_out = buffer;
    s->gzip.avail_out = room;
    int result = inflate(&s->gzip, Z_NO_FLUSH);
    MST_CHECK(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR, MST_EFORMAT,
              "'%s' is not valid gzip before its byte %llu: %s; unpack it elsewhere or fetch it again",
              s->path, (unsigned long long)s->file_bytes, s->gzip.msg != NULL ? s->gzip.msg : "damaged");
    s->input_at = s->input_end - s->gzip.avail_in;
    s->inside = result != Z_STREAM_END;
    *bytes_out = room - s->gzip.avail_out;
done:
    return status;
}

static mst_status unpack_zstd(stream *s, void *buffer, size_t capacity, size_t *bytes_out) {
    mst_status status = MST_OK;
    ZSTD_inBuffer in = {s->input, s->input_end, s->input_at};
    ZSTD_outBuffer out = {buffer, capacity, 0};
    s->any = true;
    size_t result = ZSTD_decompressStream(s->zstd, &out, &in);
    MST_CHECK(!ZSTD_isError(result), MST_EFORMAT,
              "'%s' is not valid zstd before its byte %llu: %s; unpack it elsewhere or fetch it again",
              s->path, (unsigned long long)s->file_bytes, ZSTD_getErrorName(result));
    s->inside = result != 0;
    s->input_at = in.pos;
    *bytes_out = out.pos;
done:
    return status;
}

static void copy_plain(stream *s, void *buffer, size_t capacity, size_t *bytes_out) {
    size_t bytes = s->input_end - s->input_at;
    if (bytes > capacity) bytes = capacity;
    memcpy(buffer, s->input + s->input_at, bytes);
    s->input_at += bytes;
    *bytes_out = bytes;
}

mst_status stream_read(stream *s, void *buffer, size_t capacity, size_t *bytes_out) {
    mst_status status = MST_OK;
    *bytes_out = 0;
    while (*bytes_out == 0) {
        MST_TRY(refill(s));
        /* An unpacker may still hold bytes when the file has ended:
         * ask it once more before believing in the end. */
        bool at_end = s->file_ended && s->input_at == s->input_end;
        if (at_end && !s->inside) break;
        if (s->packing == PACKING_NONE)
            copy_plain(s, buffer, capacity, bytes_out);
        else if (s->packing == PACKING_GZIP)
            MST_TRY(unpack_gzip(s, buffer, capacity, bytes_out));
        else
            MST_TRY(unpack_zstd(s, buffer, capacity, bytes_out));
        MST_CHECK(!(at_end && s->inside && *bytes_out == 0), MST_EFORMAT,
                  "'%s' ends too early, after %llu bytes: the packed file was cut; fetch it again", s->path,
                  (unsigned long long)s->file_bytes);
    }
    MST_CHECK(*bytes_out > 0 || s->packing == PACKING_NONE || s->any, MST_EFORMAT,
              "'%s' is empty, which no packed file is; fetch it again", s->path);
done:
    return status;
}

mst_status stream_finish(stream *s, uint64_t *bytes_out, mst_digest *digest_out) {
    *bytes_out = s->file_bytes;
    return mst_hasher_finish(s->hasher, digest_out);
}
