/*
 * Megatron's pair: PREFIX.bin with the tokens, and PREFIX.idx, which says where each sequence of them lies. All numbers
 * of the index are little-endian and behind each other: "MMIDIDX\0\0", version 1 (uint64), code of the type (uint8), counts
 * S of sequences and D of documents plus one (uint64), lengths (int32 [S], in tokens), pointers (int64 [S], in bytes of
 * the .bin), documents (int64 [D]: the first sequence of each, then S). Source: Megatron-LM, indexed_dataset.py.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "foreign.h"
#include "muster/files.h"

#define MAGIC "MMIDIDX\0"
enum {
    MAGIC_BYTES = sizeof MAGIC, /* with its last NUL */
    HEADER_BYTES = MAGIC_BYTES + 8 + 1 + 8 + 8,
    VERSION = 1,
    CHUNK = 8192, /* numbers that are read at once */
};

/* The index while it is read. */
typedef struct reading {
    const source_file *index;
    source_file *bin;
    uint64_t sequences, documents;
    uint64_t lengths_at, pointers_at, documents_at; /* in the index */
    int32_t *lengths;                               /* [CHUNK] */
    int64_t *wide;                                  /* [CHUNK] pointers or documents */
} reading;

bool foreign_is_megatron(const uint8_t *begin, size_t count) {
    return count >= MAGIC_BYTES && memcmp(begin, MAGIC, MAGIC_BYTES) == 0;
}

static uint64_t whole_at(const uint8_t *bytes) {
    uint64_t number;
    memcpy(&number, bytes, sizeof number);
    return number;
}

static mst_status read_type(uint8_t code, source_file *bin, const char *index_path) {
    static const char *const names[] = {"?",     "uint8",   "int8",    "int16", "int32",
                                        "int64", "float64", "float32", "uint16"};
    static const size_t sizes[] = {0, 0, 0, 0, 4, 8, 0, 0, 2}; /* of those that hold tokens */
    if (code >= sizeof sizes / sizeof *sizes || sizes[code] == 0)
        return mst_error(MST_EUNSUPPORTED,
                         "'%s': its type is %s (code %d); muster reads uint16, int32 and int64 (8, 4 and 5)",
                         index_path, code < sizeof sizes / sizeof *sizes ? names[code] : "?", code);
    bin->token_bytes = sizes[code];
    return MST_OK;
}

/* The counts, and whether the file's size is what they make of it. */
static mst_status read_header(reading *r) {
    mst_status status = MST_OK;
    const source_file *index = r->index;
    uint8_t header[HEADER_BYTES];
    MST_CHECK(index->bytes >= HEADER_BYTES, MST_EFORMAT,
              "'%s' has %" PRIu64 " bytes, no index of Megatron has so few", index->path, index->bytes);
    MST_TRY(mst_file_read(index->fd, index->path, 0, header, HEADER_BYTES));
    MST_CHECK(foreign_is_megatron(header, HEADER_BYTES), MST_EFORMAT,
              "'%s' is no index of Megatron (MMIDIDX); rename it if it has nothing to do with '%s'",
              index->path, r->bin->path);
    const uint64_t version = whole_at(header + MAGIC_BYTES);
    MST_CHECK(version == VERSION, MST_EUNSUPPORTED,
              "'%s' is an index of version %" PRIu64 "; muster reads version %d", index->path, version,
              VERSION);
    MST_TRY(read_type(header[MAGIC_BYTES + 8], r->bin, index->path));
    r->sequences = whole_at(header + MAGIC_BYTES + 9);
    r->documents = whole_at(header + MAGIC_BYTES + 17);
    uint64_t left = index->bytes - HEADER_BYTES;
    MST_CHECK(r->sequences <= left / 12, MST_EFORMAT,
              "'%s': %" PRIu64 " sequences do not fit into its %" PRIu64 " bytes; it is damaged", index->path,
              r->sequences, index->bytes);
    left -= r->sequences * 12;
    MST_CHECK(r->documents >= 1 && r->documents <= left / 8, MST_EFORMAT,
              "'%s': %" PRIu64 " bounds of documents do not fit into its %" PRIu64 " bytes; it is damaged",
              index->path, r->documents, index->bytes);
    left -= r->documents * 8;
    MST_CHECK(left == 0 || left != r->sequences, MST_EUNSUPPORTED,
              "'%s' has modes of sequences: it is of a multimodal data set, not of text alone", index->path);
    MST_CHECK(left == 0, MST_EFORMAT, "'%s' has %" PRIu64 " bytes behind its end; it is damaged", index->path,
              left);
    r->lengths_at = HEADER_BYTES;
    r->pointers_at = r->lengths_at + r->sequences * 4;
    r->documents_at = r->pointers_at + r->sequences * 8;
done:
    return status;
}

/* Whether a sequence lies inside the .bin, right behind the one before. @param end of that; moved on */
static mst_status check_sequence(const reading *r, uint64_t number, int32_t length, int64_t pointer,
                                 uint64_t *end) {
    mst_status status = MST_OK;
    const char *path = r->index->path;
    const uint64_t bytes = r->bin->bytes;
    MST_CHECK(length >= 0, MST_EFORMAT, "'%s': sequence %" PRIu64 " has %" PRId32 " tokens; it is damaged",
              path, number, length);
    const uint64_t size = (uint64_t)length * r->bin->token_bytes;
    MST_CHECK(pointer >= 0 && (uint64_t)pointer <= bytes && size <= bytes - (uint64_t)pointer, MST_EFORMAT,
              "'%s': sequence %" PRIu64 ", %" PRId32 " tokens from byte %" PRId64
              " on, lies outside '%s' of %" PRIu64
              " bytes; one of the two was cut or belongs to another pair",
              path, number, length, pointer, r->bin->path, bytes);
    MST_CHECK((uint64_t)pointer == *end, MST_EUNSUPPORTED,
              "'%s': sequence %" PRIu64 " begins at byte %" PRId64
              ", not where the one before ends, at %" PRIu64
              ": they %s, but muster reads a .bin as one stream; write it again with Megatron's tools",
              path, number, pointer, *end, (uint64_t)pointer < *end ? "overlap" : "have a gap between");
    *end += size;
done:
    return status;
}

static uint64_t chunk_of(uint64_t left) {
    return left < CHUNK ? left : CHUNK;
}

static mst_status check_sequences(const reading *r) {
    mst_status status = MST_OK;
    const source_file *index = r->index;
    uint64_t end = 0;
    for (uint64_t from = 0; from < r->sequences;) {
        const uint64_t count = chunk_of(r->sequences - from);
        MST_TRY(mst_file_read(index->fd, index->path, r->lengths_at + from * 4, r->lengths, count * 4));
        MST_TRY(mst_file_read(index->fd, index->path, r->pointers_at + from * 8, r->wide, count * 8));
        for (uint64_t i = 0; i < count; i++)
            MST_TRY(check_sequence(r, from + i, r->lengths[i], r->wide[i], &end));
        from += count;
    }
    MST_CHECK(end == r->bin->bytes, MST_EFORMAT,
              "'%s': its sequences end at byte %" PRIu64 " of '%s', which has %" PRIu64
              "; one of the two was cut or belongs to another pair",
              index->path, end, r->bin->path, r->bin->bytes);
    r->bin->count = end / r->bin->token_bytes;
done:
    return status;
}

/* The bounds of documents rise from 0 to the number of sequences. */
static mst_status check_documents(const reading *r) {
    mst_status status = MST_OK;
    const source_file *index = r->index;
    int64_t before = 0;
    for (uint64_t from = 0; from < r->documents;) {
        const uint64_t count = chunk_of(r->documents - from);
        MST_TRY(mst_file_read(index->fd, index->path, r->documents_at + from * 8, r->wide, count * 8));
        for (uint64_t i = 0; i < count; i++) {
            const int64_t bound = r->wide[i];
            MST_CHECK(bound >= before && (from + i > 0 || bound == 0) && (uint64_t)bound <= r->sequences,
                      MST_EFORMAT,
                      "'%s': document %" PRIu64 " begins at sequence %" PRId64 ", after %" PRId64
                      " and of %" PRIu64 "; it is damaged",
                      index->path, from + i, bound, before, r->sequences);
            before = bound;
        }
        from += count;
    }
    MST_CHECK((uint64_t)before == r->sequences, MST_EFORMAT,
              "'%s': its documents end at sequence %" PRId64 " of %" PRIu64 "; it is damaged", index->path,
              before, r->sequences);
done:
    return status;
}

mst_status foreign_megatron(const source_file *index, source_file *bin) {
    mst_status status = MST_OK;
    reading r = {.index = index, .bin = bin};
    r.lengths = malloc(CHUNK * sizeof *r.lengths);
    r.wide = malloc(CHUNK * sizeof *r.wide);
    MST_CHECK(r.lengths != NULL && r.wide != NULL, MST_ENOMEM, "out of memory to read '%s'", index->path);
    MST_TRY(read_header(&r));
    MST_TRY(check_sequences(&r));
    MST_TRY(check_documents(&r));
done:
    free(r.lengths);
    free(r.wide);
    return status;
}
