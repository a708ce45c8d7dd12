/* Token files of other trainers, written as those write them, or wrong in one place. */
#ifndef FOREIGN_FIXTURE_H
#define FOREIGN_FIXTURE_H

#include "data_fixture.h"

/* A file that grows; numbers are little-endian. */
typedef struct bytes {
    uint8_t at[1 << 16];
    size_t count;
} bytes;

static inline void add(bytes *b, const void *more, size_t count) {
    if (b->count + count > sizeof b->at) exit(1);
    memcpy(b->at + b->count, more, count);
    b->count += count;
}

static inline void add_number(bytes *b, int64_t number, size_t size) {
    add(b, &number, size);
}

/* `count` tokens from `first` on, of a size. */
static inline void add_tokens(bytes *b, int64_t first, size_t count, size_t size) {
    for (size_t i = 0; i < count; i++) add_number(b, first + (int64_t)i, size);
}

/* numpy's: version `major`, this header, padded so that the array begins at a multiple of 64. */
static inline void add_numpy(bytes *b, int major, const char *header) {
    const size_t before = major == 1 ? 10 : 12, length = strlen(header),
                 padded = (before + length + 1 + 63) / 64 * 64 - before;
    add(b, "\x93NUMPY", 6);
    add_number(b, major, 1);
    add_number(b, 0, 1);
    add_number(b, (int64_t)padded, major == 1 ? 2 : 4);
    add(b, header, length);
    for (size_t i = length; i + 1 < padded; i++) add(b, " ", 1);
    add(b, "\n", 1);
}

static inline void add_llmc(bytes *b, int32_t magic, int32_t version, int32_t count) {
    int32_t header[256] = {magic, version, count};
    add(b, header, sizeof header);
}

/* Megatron's index of sequences with so many tokens, one document each; zero fields are written right. */
typedef struct megatron {
    const char *magic;
    int64_t version, sequences, documents; /* counts; negative ones stand for none */
    int32_t code, lengths[4];
    int64_t pointers[4], bounds[5];
    size_t sequence_count;
    size_t token_bytes;
    bool modes;
    size_t behind; /* bytes */
} megatron;

static inline void add_megatron(bytes *b, const megatron *m) {
    const size_t count = m->sequence_count, size = m->token_bytes;
    int64_t pointer = 0;
    add(b, m->magic != NULL ? m->magic : "MMIDIDX\0", 9);
    add_number(b, m->version != 0 ? m->version : 1, 8);
    add_number(b, m->code != 0 ? m->code : size == 2 ? 8 : size == 4 ? 4 : 5, 1);
    add_number(b, m->sequences != 0 ? m->sequences : (int64_t)count, 8);
    add_number(b, m->documents != 0 ? m->documents : (int64_t)count + 1, 8);
    for (size_t i = 0; i < count; i++) add_number(b, m->lengths[i], 4);
    for (size_t i = 0; i < count; i++) {
        add_number(b, m->pointers[i] != 0 ? m->pointers[i] : pointer, 8);
        pointer += m->lengths[i] * (int64_t)size;
    }
    for (size_t i = 0; i <= count; i++) add_number(b, m->bounds[i] != 0 ? m->bounds[i] : (int64_t)i, 8);
    for (size_t i = 0; m->modes && i < count; i++) add_number(b, 0, 1);
    for (size_t i = 0; i < m->behind; i++) add_number(b, 7, 1);
}

static inline void put(const char *path, const bytes *b) {
    put_bytes(path, b->at, b->count);
}

#endif
