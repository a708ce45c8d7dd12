/* A test program: CHECKs that print what they saw, a random seed that is printed, exit 77 for skipped. */
#ifndef MUSTER_TEST_H
#define MUSTER_TEST_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "muster/status.h"

static int test_failures, test_checks;

/* Fails the test, and goes on: one run shows every failure. A comparison with NaN is false, so NaN fails. */
#define CHECK(condition, ...)                                                                                \
    do {                                                                                                     \
        test_checks++;                                                                                       \
        if (!(condition)) {                                                                                  \
            test_failures++;                                                                                 \
            fprintf(stderr, "%s:%d: failed: %s: ", __FILE__, __LINE__, #condition);                          \
            fprintf(stderr, __VA_ARGS__);                                                                    \
            fputc('\n', stderr);                                                                             \
        }                                                                                                    \
    } while (0)

#define CHECK_OK(call)                                                                                       \
    do {                                                                                                     \
        mst_status check_status_ = (call);                                                                   \
        CHECK(check_status_ == MST_OK, "%s: %s", mst_status_name(check_status_), mst_error_message());       \
    } while (0)

#define CHECK_STATUS(call, expected)                                                                         \
    do {                                                                                                     \
        mst_status check_status_ = (call);                                                                   \
        CHECK(check_status_ == (expected), "got %s: %s", mst_status_name(check_status_),                     \
              mst_error_message());                                                                          \
    } while (0)

/* Ends a test program that cannot run here. */
#define SKIP(...)                                                                                            \
    do {                                                                                                     \
        printf("skipped: ");                                                                                 \
        printf(__VA_ARGS__);                                                                                 \
        putchar('\n');                                                                                       \
        exit(77);                                                                                            \
    } while (0)

/* The last line of main. A program that checked nothing fails. */
static inline int test_finish(const char *name) {
    printf("%s: %d checks, %d failed\n", name, test_checks, test_failures);
    return test_failures > 0 || test_checks == 0;
}

#endif
