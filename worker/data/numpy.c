/*
 * numpy's .npy: "\x93NUMPY", a version, the length of a header, the header - a Python dictionary such as
 * {'descr': '<u2', 'fortran_order': False, 'shape': (1000,), } - and the array. Source: numpy.lib.format, NEP 1.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "foreign.h"
#include "muster/files.h"

#define MAGIC "\x93NUMPY"
enum { MAGIC_BYTES = sizeof MAGIC - 1, HEADER_MAX = 1 << 16, WORD_MAX = 24 };

bool foreign_is_numpy(const uint8_t *begin, size_t count) {
    return count >= MAGIC_BYTES && memcmp(begin, MAGIC, MAGIC_BYTES) == 0;
}

/* What a header says, as far as an array of tokens can say it. */
typedef struct header {
    char type[WORD_MAX];
    bool fortran;
    uint64_t count;
    size_t dimensions;
    bool has_type, has_order, has_shape;
} header;

static void skip_space(const char **at) {
    *at += strspn(*at, " \t\n");
}

/* Moves past `word` where it stands next. */
static bool take(const char **at, const char *word) {
    skip_space(at);
    const size_t length = strlen(word);
    if (strncmp(*at, word, length) != 0) return false;
    *at += length;
    return true;
}

/* A text in quotes, without escapes and controls. */
static bool take_text(const char **at, char text_out[WORD_MAX]) {
    skip_space(at);
    const char quote = **at;
    if (quote != '\'' && quote != '"') return false;
    const char *start = *at + 1, *end = strchr(start, quote);
    if (end == NULL || end - start >= WORD_MAX) return false;
    for (const char *c = start; c < end; c++)
        if (*c < ' ' || *c > '~') return false; /* it may come to stand in a message */
    memcpy(text_out, start, (size_t)(end - start));
    text_out[end - start] = '\0';
    *at = end + 1;
    return true;
}

/* (1000,) or (10, 100) or (); the count is that of the last dimension. */
static bool take_shape(const char **at, header *h) {
    if (!take(at, "(")) return false;
    while (!take(at, ")")) {
        char *end;
        if (**at < '0' || **at > '9') return false;
        errno = 0;
        h->count = strtoull(*at, &end, 10);
        if (errno != 0) return false;
        *at = end;
        h->dimensions++;
        if (!take(at, ",") && **at != ')') return false;
    }
    return true;
}

static bool take_entry(const char **at, header *h) {
    char key[WORD_MAX];
    bool *given = NULL;
    if (!take_text(at, key) || !take(at, ":")) return false;
    if (strcmp(key, "descr") == 0) {
        given = &h->has_type;
        if (!take_text(at, h->type)) return false; /* of a structure: a list */
    } else if (strcmp(key, "fortran_order") == 0) {
        given = &h->has_order;
        h->fortran = take(at, "True");
        if (!h->fortran && !take(at, "False")) return false;
    } else if (strcmp(key, "shape") == 0) {
        given = &h->has_shape;
        if (!take_shape(at, h)) return false;
    }
    if (given == NULL || *given) return false;
    *given = true;
    return true;
}

static bool parse(const char *text, header *h) {
    if (!take(&text, "{")) return false;
    while (!take(&text, "}"))
        if (!take_entry(&text, h) || (!take(&text, ",") && *text != '}')) return false;
    skip_space(&text);
    return *text == '\0' && h->has_type && h->has_order && h->has_shape;
}

static size_t bytes_of_type(const char *type) {
    static const char *const types[] = {"<u2", "<u4", "<i4", "<u8", "<i8"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(type, types[i]) == 0) return (size_t)(type[2] - '0');
    return 0;
}

/* Takes the array's place from a header that ends at `begin`. */
static mst_status use(const header *h, uint64_t begin, source_file *file) {
    mst_status status = MST_OK;
    file->token_bytes = bytes_of_type(h->type);
    MST_CHECK(file->token_bytes > 0, MST_EUNSUPPORTED,
              "'%s': its elements are of numpy's type %s; muster reads tokens of <u2, <u4, <i4, <u8 and <i8 "
              "(little-endian)",
              file->path, h->type);
    MST_CHECK(h->dimensions == 1, MST_EUNSUPPORTED,
              "'%s': its array has %zu dimensions; muster reads one stream of tokens: save array.reshape(-1)",
              file->path, h->dimensions);
    MST_CHECK(!h->fortran, MST_EUNSUPPORTED, "'%s': its array is in Fortran's order; save it in C's order",
              file->path);
    const uint64_t room = file->bytes - begin;
    MST_CHECK(h->count <= room / file->token_bytes && h->count * file->token_bytes == room, MST_EFORMAT,
              "'%s': its header says %" PRIu64 " elements of %zu bytes, but %" PRIu64
              " bytes follow; it was cut, or something was put behind it",
              file->path, h->count, file->token_bytes, room);
    file->count = h->count;
    file->offset = begin;
done:
    return status;
}

mst_status foreign_numpy(source_file *file) {
    mst_status status = MST_OK;
    uint8_t begin[MAGIC_BYTES + 6] = {0};
    char *text = NULL;
    header h = {0};
    MST_CHECK(file->bytes >= sizeof begin, MST_EFORMAT, "'%s' ends inside its header of numpy; it was cut",
              file->path);
    MST_TRY(mst_file_read(file->fd, file->path, 0, begin, sizeof begin));
    const uint8_t major = begin[MAGIC_BYTES], *digits = begin + MAGIC_BYTES + 2;
    MST_CHECK(major >= 1 && major <= 3, MST_EUNSUPPORTED,
              "'%s' is a .npy file of version %d; muster reads 1 to 3", file->path, major);
    uint32_t length = digits[0] | (uint32_t)digits[1] << 8;
    if (major > 1) length |= (uint32_t)digits[2] << 16 | (uint32_t)digits[3] << 24;
    const uint64_t from = MAGIC_BYTES + (major > 1 ? 6 : 4);
    MST_CHECK(length < HEADER_MAX && length <= file->bytes - from, MST_EFORMAT,
              "'%s': its header of numpy would have %" PRIu32 " bytes; it is damaged", file->path, length);
    text = calloc(1, (size_t)length + 1);
    MST_CHECK(text != NULL, MST_ENOMEM, "out of memory for the header of '%s'", file->path);
    MST_TRY(mst_file_read(file->fd, file->path, from, text, length));
    MST_CHECK(strlen(text) == length && parse(text, &h), MST_EFORMAT,
              "'%s': its header of numpy does not describe a plain array of numbers", file->path);
    MST_TRY(use(&h, from + length, file));
done:
    free(text);
    return status;
}
