/*
 * Mutation fuzzing in plain C: a fuzzer defines fuzz_one, and main mutates its valid inputs some
 * thousand times. With clang, -DMST_LIBFUZZER and -fsanitize=fuzzer,address,undefined the same file
 * becomes a coverage-guided fuzzer.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <sys/mman.h>
#include <time.h>

#include "../unit/data_fixture.h"

enum { FUZZ_ROOM = 1 << 18 };

/* Splitmix64 (Steele, Lea, Flood 2014): enough for mutations. */
static uint64_t fuzz_state;
static inline uint64_t fuzz_random(uint64_t below) {
    uint64_t z = fuzz_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % below;
}

/* Puts `with` in the place of `count` bytes at `at`. */
static inline void fuzz_splice(uint8_t *data, size_t *size, size_t at, size_t count, const void *with,
                               size_t with_count) {
    if (*size - count + with_count > FUZZ_ROOM) return;
    memmove(data + at + with_count, data + at + count, *size - at - count);
    memcpy(data + at, with, with_count);
    *size = *size - count + with_count;
}

/* One change between `low` and `high`: a bit, a byte, a cut, a repetition,
 * or a number that is hard to read. */
static inline void fuzz_mutate(uint8_t *data, size_t *size, size_t low, size_t high) {
    static const char *const numbers[] = {"0",
                                          "-1",
                                          "1",
                                          "65535",
                                          "65536",
                                          "65537",
                                          "2147483647",
                                          "2147483648",
                                          "4294967295",
                                          "4294967296",
                                          "9223372036854775807",
                                          "9223372036854775808",
                                          "18446744073709551615",
                                          "1e999",
                                          "1.5",
                                          "null",
                                          "true",
                                          "\"\"",
                                          "[]",
                                          "{}"};
    if (high > *size) high = *size;
    if (low >= high) return;
    size_t at = low + fuzz_random(high - low), left = high - at,
           count = 1 + fuzz_random(left < 64 ? left : 64);
    switch (fuzz_random(6)) {
    case 0:
        data[at] ^= (uint8_t)(1u << fuzz_random(8));
        break;
    case 1:
        data[at] = (uint8_t)fuzz_random(256);
        break;
    case 2:
        fuzz_splice(data, size, at, count, "", 0);
        break;
    case 3: {
        uint8_t piece[64];
        memcpy(piece, data + at, count);
        fuzz_splice(data, size, at, 0, piece, count);
        break;
    }
    default: {
        /* the next run of digits, or the place itself */
        size_t end, start = at;
        while (start < high && (data[start] < '0' || data[start] > '9')) start++;
        if (start == high) start = at;
        for (end = start; end < high && data[end] >= '0' && data[end] <= '9';) end++;
        const char *number = numbers[fuzz_random(sizeof numbers / sizeof *numbers)];
        fuzz_splice(data, size, start, end - start, number, strlen(number));
    }
    }
}

/* A nameless file in memory that holds these bytes, and a path under which it can be opened. */
static inline const char *fuzz_file(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[32];
    if (fd < 0) fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) {
        perror("memfd");
        exit(1);
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

/* The arguments of every fuzzer: number of inputs, seed. */
static inline uint64_t fuzz_begin(int argc, char **argv, const char *name) {
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000;
    fuzz_state = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
    printf("%s: %llu inputs; repeat with: %s %llu %llu\n", name, (unsigned long long)count, name,
           (unsigned long long)count, (unsigned long long)fuzz_state);
    fflush(stdout);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
