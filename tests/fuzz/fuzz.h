/*
 * Mutation fuzzing in plain C: a fuzzer defines LLVMFuzzerTestOneInput and what is declared below, and fuzz_main changes
 * its valid inputs at random, so many times or so long ("60s"). The preset `fuzz` makes of the same file a libFuzzer,
 * guided by coverage, with the same changes and libFuzzer's own: fuzz_manifest -max_len=262144 -max_total_time=600
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "../unit/data_fixture.h"

enum {
    FUZZ_ROOM = 1 << 18,
    FUZZ_SECONDS = 30,            /* one input takes longer: it hangs, and the alarm ends the program */
    FUZZ_MEMORY_MAX_KIB = 1 << 20 /* with what AddressSanitizer keeps back */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* A valid input. @param data [FUZZ_ROOM] @return its size; 0: there are not so many */
static size_t fuzz_valid(size_t number, uint8_t *data);
/* Some changes to an input, any one. @param data [FUZZ_ROOM] */
static void fuzz_change(uint8_t *data, size_t *size);
/* Inputs that were not refused; LLVMFuzzerTestOneInput counts them. */
static unsigned fuzz_accepted;

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

#ifdef MST_LIBFUZZER
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed) {
    static uint8_t changed[FUZZ_ROOM];
    fuzz_state = seed;
    if (size > 1)
        memcpy(changed, data, size);
    else if ((size = fuzz_valid(fuzz_random(8), changed)) == 0)
        size = fuzz_valid(0, changed);
    if (fuzz_random(4) == 0)
        size = LLVMFuzzerMutate(changed, size, sizeof changed);
    else
        fuzz_change(changed, &size);
    if (size > room) size = room;
    memcpy(data, changed, size);
    return size;
}
#else
/* The whole program. Arguments: a number of inputs or a time, and a seed. */
static inline int fuzz_main(int argc, char **argv, const char *name) {
    static uint8_t data[FUZZ_ROOM];
    const char *amount = argc > 1 ? argv[1] : "10000";
    const bool timed = strchr(amount, 's') != NULL;
    const uint64_t limit = strtoull(amount, NULL, 10);
    uint64_t done = 0;
    size_t size, valid = 0;
    struct rusage usage;
    fuzz_state = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
    printf("repeat with: %s %s %llu\n", name, amount, (unsigned long long)fuzz_state);
    fflush(stdout);
    for (; (size = fuzz_valid(valid, data)) > 0; valid++) {
        LLVMFuzzerTestOneInput(data, size);
        CHECK(fuzz_accepted == valid + 1, "valid input %zu is refused: %s", valid, mst_error_message());
    }
    const time_t begin = time(NULL);
    for (; timed ? time(NULL) - begin < (time_t)limit : done < limit; done++) {
        alarm(FUZZ_SECONDS);
        size = fuzz_valid(fuzz_random(valid), data);
        fuzz_change(data, &size);
        LLVMFuzzerTestOneInput(data, size);
    }
    alarm(0);
    getrusage(RUSAGE_SELF, &usage);
    printf("%llu inputs in %lld s, %u accepted, %ld MiB at most\n", (unsigned long long)done,
           (long long)(time(NULL) - begin), fuzz_accepted - (unsigned)valid, usage.ru_maxrss >> 10);
    CHECK(usage.ru_maxrss < FUZZ_MEMORY_MAX_KIB, "%ld KiB of memory", usage.ru_maxrss);
    return test_finish(name);
}
#endif

#endif
