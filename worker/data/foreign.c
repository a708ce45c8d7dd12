/* Which trainer a file of tokens is of; the simple ones, and the sample that names a file's tokens. */
#include "foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "muster/files.h"

enum {
    BEGIN_BYTES = 16, /* enough to tell the files apart */
    LLMC_HEADER = 256 * sizeof(int32_t),
    LLMC_UINT16 = 20240520, /* magic numbers of llm.c, each with the one version that there is of it */
    LLMC_UINT16_VERSION = 1,
    LLMC_UINT32 = 20240801,
    LLMC_UINT32_VERSION = 7,
    LLMC_EVALUATION = 20240522,
    SAMPLE_EDGE = 1 << 20, /* bytes */
    SAMPLE_PIECE = 4096,
    SAMPLE_PIECES = 1000,
    SAMPLE_WHOLE = 8 << 20,
};

mst_status source_file_open(const char *path, source_file *file_out) {
    mst_status status = MST_OK;
    struct stat info;
    *file_out = (source_file){.path = strdup(path), .fd = -1};
    MST_CHECK(file_out->path != NULL, MST_ENOMEM, "out of memory for the name '%s'", path);
    file_out->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait for its writer */
    MST_CHECK(file_out->fd >= 0 && fstat(file_out->fd, &info) == 0, MST_EIO,
              "opening data source '%s': %s; make it with 'muster data build'", path, strerror(errno));
    MST_CHECK(S_ISREG(info.st_mode), MST_EIO, "'%s' is not a regular file", path);
    file_out->bytes = (uint64_t)info.st_size;
done:
    return status;
}

void source_file_close(source_file *file) {
    if (file->path != NULL && file->fd >= 0) close(file->fd);
    free(file->path);
    *file = (source_file){0};
}

/* ---- llm.c ---- */

static int32_t number_at(const uint8_t *bytes, size_t index) {
    int32_t number;
    memcpy(&number, bytes + index * sizeof number, sizeof number);
    return number;
}

static bool is_llmc(const uint8_t *begin, size_t count) {
    if (count < BEGIN_BYTES) return false;
    const int32_t magic = number_at(begin, 0);
    return magic == LLMC_UINT16 || magic == LLMC_UINT32 || magic == LLMC_EVALUATION;
}

/* llm.c: 256 numbers of 32 bits (magic, version, tokens, zeros), then the tokens. */
static mst_status read_llmc(const uint8_t *begin, source_file *file) {
    mst_status status = MST_OK;
    const int32_t magic = number_at(begin, 0), version = number_at(begin, 1), count = number_at(begin, 2);
    const bool wide = magic == LLMC_UINT32;
    const int32_t known = wide ? LLMC_UINT32_VERSION : LLMC_UINT16_VERSION;
    MST_CHECK(magic != LLMC_EVALUATION, MST_EUNSUPPORTED,
              "'%s' is an evaluation file of llm.c (magic number %d), no stream of tokens", file->path,
              magic);
    MST_CHECK(version == known, MST_EUNSUPPORTED,
              "'%s' is a token file of llm.c of version %d; muster reads version %d", file->path, version,
              known);
    file->token_bytes = wide ? 4 : 2;
    file->offset = LLMC_HEADER;
    MST_CHECK(count >= 0 && file->bytes == LLMC_HEADER + (uint64_t)count * file->token_bytes, MST_EFORMAT,
              "'%s': its header of llm.c says %d tokens of %zu bytes, but the file has %" PRIu64
              " bytes; it was cut, or is another kind of file",
              file->path, count, file->token_bytes, file->bytes);
    file->count = (uint64_t)count;
done:
    return status;
}

/* ---- files without a header ---- */

/* Files that are no tokens, by their first bytes: read as bare tokens, they would train a model on noise. */
static const char *other_kind(const uint8_t *begin, size_t count) {
    static const struct {
        const char *begin;
        size_t count;
        const char *name;
    } kinds[] = {
        {"\x89HDF\r\n\x1a\n", 8, "an HDF5 file without the index of 'muster data build'"},
        {"TNTIDX\0\0", 8, "an index of fairseq"},
        {"PAR1", 4, "a Parquet file"},
        {"PK\x03\x04", 4, "a ZIP file (as numpy's .npz)"},
        {"\x28\xb5\x2f\xfd", 4, "packed by zstd"},
        {"\x1f\x8b\x08", 3, "packed by gzip"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (count >= kinds[i].count && memcmp(begin, kinds[i].begin, kinds[i].count) == 0)
            return kinds[i].name;
    return NULL;
}

static mst_status read_bare(const uint8_t *begin, size_t count, mst_token_type type, source_file *file) {
    mst_status status = MST_OK;
    const char *other = other_kind(begin, count);
    MST_CHECK(other == NULL, MST_EFORMAT,
              "'%s' is not a token file of muster or of another trainer, but %s; make one with 'muster data "
              "build'",
              file->path, other);
    MST_CHECK(type != MST_TOKENS_AUTO, MST_EFORMAT,
              "'%s' is not a token file of muster, and has no header of numpy, Megatron or llm.c; if it is "
              "bare tokens (nanoGPT's .bin, OLMo's .npy), set data.dtype to uint16 or uint32; of text make "
              "one with 'muster data build'",
              file->path);
    file->token_bytes = type == MST_TOKENS_UINT16 ? 2 : 4;
    MST_CHECK(file->bytes % file->token_bytes == 0, MST_EFORMAT,
              "'%s' has %" PRIu64 " bytes, which is no multiple of the %zu bytes of a token (data.dtype); it "
              "was cut, or has another type",
              file->path, file->bytes, file->token_bytes);
    file->count = file->bytes / file->token_bytes;
done:
    return status;
}

/* ---- Megatron: two files, of which either may be named, or what their names have in common ---- */

static bool ends_with(const char *text, const char *end) {
    const size_t length = strlen(text), end_length = strlen(end);
    return length > end_length && strcmp(text + length - end_length, end) == 0;
}

/* `path` without its last `cut` bytes, with `end` behind it; NULL when there is no memory. */
static char *renamed(const char *path, size_t cut, const char *end) {
    char *name = NULL;
    return asprintf(&name, "%.*s%s", (int)(strlen(path) - cut), path, end) < 0 ? NULL : name;
}

static bool exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

/* The index of the pair that a path may mean; NULL in *index_out: it means no pair. */
static mst_status find_index(const char *path, char **index_out) {
    mst_status status = MST_OK;
    char *name = NULL;
    *index_out = NULL;
    if (ends_with(path, ".idx"))
        name = strdup(path);
    else if (ends_with(path, ".bin"))
        name = renamed(path, strlen(".bin"), ".idx");
    else if (!exists(path))
        name = renamed(path, 0, ".idx");
    else
        goto done;
    MST_CHECK(name != NULL, MST_ENOMEM, "out of memory for the name '%s'", path);
    if (exists(name)) {
        *index_out = name;
        name = NULL;
    }
done:
    free(name);
    return status;
}

bool mst_data_is_there(const char *path) {
    char *index = NULL;
    if (exists(path)) return true;
    const bool there = find_index(path, &index) == MST_OK && index != NULL;
    free(index);
    return there;
}

static mst_status read_megatron(const char *index_path, source_file *bin_out) {
    mst_status status = MST_OK;
    source_file index = {0};
    char *bin_path = renamed(index_path, strlen(".idx"), ".bin");
    MST_CHECK(bin_path != NULL, MST_ENOMEM, "out of memory for the name of the .bin of '%s'", index_path);
    MST_TRY(source_file_open(index_path, &index));
    status = source_file_open(bin_path, bin_out);
    if (status != MST_OK) mst_error_context(status, "beside '%s', which is its index", index_path);
    MST_TRY(status);
    MST_TRY(foreign_megatron(&index, bin_out));
done:
    source_file_close(&index);
    free(bin_path);
    return status;
}

/* ---- all of them ---- */

static mst_status read_single(const char *path, mst_token_type type, source_file *file_out) {
    mst_status status = MST_OK;
    uint8_t begin[BEGIN_BYTES] = {0};
    MST_TRY(source_file_open(path, file_out));
    const size_t count = file_out->bytes < sizeof begin ? (size_t)file_out->bytes : sizeof begin;
    MST_TRY(mst_file_read(file_out->fd, path, 0, begin, count));
    MST_CHECK(!foreign_is_megatron(begin, count), MST_EFORMAT,
              "'%s' is an index of Megatron, but is not named .idx: name it and its .bin alike, but for that",
              path);
    if (foreign_is_numpy(begin, count))
        MST_TRY(foreign_numpy(file_out));
    else if (is_llmc(begin, count))
        MST_TRY(read_llmc(begin, file_out));
    else
        MST_TRY(read_bare(begin, count, type, file_out));
done:
    return status;
}

/* Piece `number` of the sample of so many bytes: all of them in MiBs up to 8 MiB, else the first and the last MiB, and
 * between them 1,000 pieces of 4 KiB at equal distances. Returns its length; 0 behind the last one. */
static size_t sample_piece(uint64_t bytes, uint64_t number, uint64_t *at_out) {
    const uint64_t edge = SAMPLE_EDGE;
    if (bytes <= SAMPLE_WHOLE) {
        *at_out = number * edge;
        if (*at_out >= bytes) return 0;
        return (size_t)(bytes - *at_out < edge ? bytes - *at_out : edge);
    }
    const uint64_t step = (bytes - 2 * edge - SAMPLE_PIECE) / (SAMPLE_PIECES - 1);
    *at_out = number == 0 ? 0 : number <= SAMPLE_PIECES ? edge + (number - 1) * step : bytes - edge;
    if (number > SAMPLE_PIECES + 1) return 0;
    return number == 0 || number > SAMPLE_PIECES ? SAMPLE_EDGE : SAMPLE_PIECE;
}

/* SHA-256 of the tokens' type and count and of the sample of their bytes. Where in a file they lie has no part in it, so
 * that a copy in another of these layouts has the same digest. */
static mst_status take_sample(source_file *file) {
    mst_status status = MST_OK;
    static const char version[] = "muster sample of foreign tokens 1";
    const uint64_t numbers[] = {file->token_bytes, file->count};
    uint64_t at;
    mst_hasher *hasher = NULL;
    uint8_t *piece = malloc(SAMPLE_EDGE);
    MST_CHECK(piece != NULL, MST_ENOMEM, "out of memory to read '%s'", file->path);
    MST_TRY(mst_hasher_create(&hasher));
    MST_TRY(mst_hasher_update(hasher, version, sizeof version));
    MST_TRY(mst_hasher_update(hasher, numbers, sizeof numbers));
    for (uint64_t i = 0;; i++) {
        const size_t count = sample_piece(file->count * file->token_bytes, i, &at);
        if (count == 0) break;
        MST_TRY(mst_file_read(file->fd, file->path, file->offset + at, piece, count));
        MST_TRY(mst_hasher_update(hasher, piece, count));
    }
    MST_TRY(mst_hasher_finish(hasher, &file->digest));
done:
    mst_hasher_destroy(&hasher);
    free(piece);
    return status;
}

mst_status foreign_open(const char *path, mst_token_type type, source_file *file_out) {
    mst_status status = MST_OK;
    char *index = NULL;
    *file_out = (source_file){0};
    MST_TRY(find_index(path, &index));
    if (index != NULL)
        MST_TRY(read_megatron(index, file_out));
    else
        MST_TRY(read_single(path, type, file_out));
    MST_TRY(take_sample(file_out));
done:
    free(index);
    return status;
}
