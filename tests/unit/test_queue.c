/* The device queue: every task once, the lowest failure, scratch memory; and status messages. */
#include "test.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "muster/digest.h"
#include "muster/queue.h"

enum { TASKS = 1000 };

typedef struct tally {
    atomic_int runs[TASKS];
    atomic_size_t threads_seen;
    size_t fail_from;
} tally;

static mst_status count_task(void *context, size_t task, int thread) {
    tally *t = context;
    atomic_fetch_add(&t->runs[task], 1);
    atomic_fetch_or(&t->threads_seen, (size_t)1 << thread);
    if (task >= t->fail_from) return mst_error(MST_EIO, "task %zu failed", task);
    return MST_OK;
}

static void check_every_task_once(int threads) {
    mst_queue *queue = NULL;
    CHECK_OK(mst_queue_create(threads, &queue));
    for (size_t count = 0; count <= TASKS; count += 1 + count / 3) {
        tally t = {.fail_from = SIZE_MAX};
        CHECK_OK(mst_queue_for(queue, count, count_task, &t));
        for (size_t i = 0; i < TASKS; i++)
            CHECK(atomic_load(&t.runs[i]) == (i < count), "%d threads, %zu tasks: task %zu ran %d times",
                  threads, count, i, atomic_load(&t.runs[i]));
        CHECK(atomic_load(&t.threads_seen) >> threads == 0, "thread numbers stay below %d", threads);
    }
    mst_queue_destroy(&queue);
    CHECK(queue == NULL, "destroy resets the pointer");
}

static void check_lowest_failure(int threads) {
    mst_queue *queue = NULL;
    CHECK_OK(mst_queue_create(threads, &queue));
    for (int repeat = 0; repeat < 50; repeat++) {
        tally t = {.fail_from = 40};
        CHECK_STATUS(mst_queue_for(queue, TASKS, count_task, &t), MST_EIO);
        CHECK(strcmp(mst_error_message(), "task 40 failed") == 0, "the lowest failure, not '%s'",
              mst_error_message());
    }
    tally after = {.fail_from = SIZE_MAX};
    CHECK_OK(mst_queue_for(queue, TASKS, count_task, &after));
    mst_queue_destroy(&queue);
}

static void count_call(void *context) {
    ++*(size_t *)context;
}

/* The caller's thread attends after each task that it runs, and no other does: a plain counter is enough. */
static void check_attending(int threads) {
    mst_queue *queue = NULL;
    size_t calls = 0;
    tally t = {.fail_from = SIZE_MAX};
    CHECK_OK(mst_queue_create(threads, &queue));
    mst_queue_attend(queue, count_call, &calls);
    CHECK_OK(mst_queue_for(queue, TASKS, count_task, &t));
    CHECK(threads > 1 ? calls <= TASKS : calls == TASKS, "%d threads, %d tasks: attended %zu times", threads,
          TASKS, calls);
    mst_queue_attend(queue, NULL, NULL);
    calls = 0;
    CHECK_OK(mst_queue_for(queue, TASKS, count_task, &t));
    CHECK(calls == 0, "attended %zu times after its end", calls);
    mst_queue_destroy(&queue);
}

static mst_status fill_scratch(void *context, size_t task, int thread) {
    mst_queue *queue = context;
    size_t bytes = 64 + task * 100;
    unsigned char *memory = mst_queue_scratch(queue, thread, bytes);
    if (memory == NULL || (uintptr_t)memory % 64 != 0)
        return mst_error(MST_EINTERNAL, "scratch of %zu bytes is not aligned", bytes);
    memset(memory, thread, bytes);
    for (size_t i = 0; i < bytes; i++)
        if (memory[i] != thread) return mst_error(MST_EINTERNAL, "scratch is shared");
    return MST_OK;
}

static void check_scratch(void) {
    mst_queue *queue = NULL;
    CHECK_OK(mst_queue_create(3, &queue));
    CHECK_OK(mst_queue_for(queue, 200, fill_scratch, queue));
    void *once = mst_queue_scratch(queue, 0, 100000), *again = mst_queue_scratch(queue, 0, 10);
    CHECK(once == again, "scratch only grows");
    mst_queue_destroy(&queue);
    CHECK_STATUS(mst_queue_create(0, &queue), MST_EINVAL);
    CHECK_STATUS(mst_queue_create(100000, &queue), MST_EINVAL);
    mst_queue_destroy(&queue);
}

static void check_memory(void) {
    for (size_t bytes = 0; bytes < 20000; bytes = bytes * 2 + 1) {
        void *memory = NULL;
        CHECK_OK(mst_memory_alloc(MST_SPACE_HOST, bytes, &memory));
        size_t alignment = bytes >= 4096 ? 4096 : 64, sum = 0;
        CHECK((uintptr_t)memory % alignment == 0, "%zu bytes are not aligned to %zu", bytes, alignment);
        for (size_t i = 0; i < bytes; i++) sum += ((unsigned char *)memory)[i];
        CHECK(sum == 0, "%zu bytes are not zeroed", bytes);
        memset(memory, 1, bytes);
        mst_memory_free(MST_SPACE_HOST, &memory);
        CHECK(memory == NULL, "free resets the pointer");
    }
    void *memory = NULL;
    CHECK_STATUS(mst_memory_alloc(MST_SPACE_HOST, SIZE_MAX, &memory), MST_ENOMEM);
    CHECK_STATUS(mst_memory_alloc(MST_SPACE_HOST, SIZE_MAX / 4, &memory), MST_ENOMEM);
    mst_memory_free(MST_SPACE_HOST, &memory);
}

/* ---- a device beside the CPU: what it is asked to do, in order ---- */

static char asked[64];

static mst_status ask(char what) {
    size_t length = strlen(asked);
    asked[length] = what;
    asked[length + 1] = '\0';
    return MST_OK;
}
static mst_status fake_copy(void *device, void *to, const void *from, size_t bytes) {
    memcpy(to, from, bytes);
    return device == asked ? ask('c') : MST_EINTERNAL;
}
static mst_status fake_fill(void *device, void *memory, unsigned char value, size_t bytes) {
    memset(memory, value, bytes);
    return device == asked ? ask('f') : MST_EINTERNAL;
}
static mst_status fake_sync(void *device) {
    return device == asked ? ask('s') : MST_EINTERNAL;
}
static void fake_destroy(void *device) {
    if (device == asked) ask('d');
}
static mst_status fake_alloc(mst_space space, size_t bytes, void **memory_out) {
    *memory_out = calloc(bytes, 1);
    return ask(space == MST_SPACE_DEVICE ? 'D' : 'P');
}
static void fake_free(mst_space space, void *memory) {
    free(memory);
    ask(space == MST_SPACE_DEVICE ? 'x' : 'y');
}
static mst_status fake_drive(mst_queue *queue) {
    static const mst_queue_face face = {
        .copy = fake_copy, .fill = fake_fill, .sync = fake_sync, .destroy = fake_destroy};
    mst_queue_attach(queue, &face, asked);
    return ask('+');
}

static mst_status fake_room(size_t *free_out, size_t *all_out) {
    *free_out = 3;
    *all_out = 8;
    return MST_OK;
}

/* Last of all: the process keeps the device. */
static void check_device(void) {
    static const mst_memory_face face = {fake_alloc, fake_free, fake_drive, fake_room};
    mst_queue *queue = NULL;
    char from[3] = "ab", to[3] = "";
    void *host = NULL, *pinned = NULL, *device = NULL;
    size_t room = 1, all = 1;
    CHECK_OK(mst_queue_create(1, &queue));
    CHECK_OK(mst_memory_room(&room, &all));
    CHECK(room == 0 && all == 0, "room without a device: %zu of %zu", room, all);
    CHECK_OK(mst_memory_copy(queue, to, from + 2, 1));
    CHECK_OK(mst_memory_copy_later(queue, to, from, 3));
    CHECK(strcmp(to, "ab") == 0 && mst_queue_device(queue) == NULL, "a copy without a device");
    CHECK_OK(mst_memory_fill(queue, to, 'x', 1));
    CHECK(strcmp(to, "xb") == 0 && !mst_memory_is_apart(), "filling without a device");
    mst_memory_attach(&face);
    CHECK(mst_memory_is_apart(), "memory is apart");
    CHECK_OK(mst_memory_room(&room, &all));
    CHECK(room == 3 && all == 8, "room: %zu of %zu", room, all);
    CHECK_OK(mst_memory_alloc(MST_SPACE_HOST, 5, &host));
    CHECK_OK(mst_memory_alloc(MST_SPACE_PINNED, 5, &pinned));
    CHECK_OK(mst_memory_alloc(MST_SPACE_DEVICE, 5, &device));
    CHECK_OK(mst_queue_sync(queue)); /* nothing was queued, so there is nothing to drive */
    CHECK_OK(mst_memory_fill(queue, to, 'y', 1));
    CHECK_OK(mst_memory_copy_later(queue, to + 1, from + 1, 1)); /* waits for nothing */
    CHECK_OK(mst_memory_copy(queue, to + 1, from, 1));           /* waits for itself */
    CHECK_OK(mst_queue_sync(queue));
    CHECK(strcmp(to, "ya") == 0, "the device's copy and fill");
    mst_memory_free(MST_SPACE_HOST, &host);
    mst_memory_free(MST_SPACE_PINNED, &pinned);
    mst_memory_free(MST_SPACE_DEVICE, &device);
    mst_queue_destroy(&queue);
    CHECK(strcmp(asked, "PD+fccssyxd") == 0, "the device was asked '%s'", asked);
}

static void check_status_texts(void) {
    mst_error(MST_EIO, "reading %s", "x");
    CHECK(mst_error_context(MST_EIO, "file %d", 3) == MST_EIO, "the code is kept");
    CHECK(strcmp(mst_error_message(), "file 3: reading x") == 0, "message '%s'", mst_error_message());
    mst_error(MST_EIO, "again: %s", mst_error_message());
    CHECK(strcmp(mst_error_message(), "again: file 3: reading x") == 0,
          "a message may quote the one before: '%s'", mst_error_message());
    CHECK(strcmp(mst_status_name(MST_EHDF5), "MST_EHDF5") == 0, "name");
    CHECK(strlen(mst_status_text(MST_EHDF5)) > 0, "text");
}

static void check_digest(void) {
    /* NIST FIPS 180-2, appendix B.1 */
    const char *expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    mst_digest digest, parsed;
    mst_hasher *hasher = NULL;
    char hex[MST_DIGEST_HEX];
    CHECK_OK(mst_digest_of("abc", 3, &digest));
    mst_digest_to_hex(&digest, hex);
    CHECK(strcmp(hex, expected) == 0, "%s", hex);
    CHECK_OK(mst_digest_from_hex(hex, &parsed));
    CHECK(memcmp(&parsed, &digest, sizeof parsed) == 0, "hexadecimal there and back");
    CHECK_STATUS(mst_digest_from_hex("12", &parsed), MST_EFORMAT);
    hex[5] = 'g';
    CHECK_STATUS(mst_digest_from_hex(hex, &parsed), MST_EFORMAT);
    CHECK_OK(mst_hasher_create(&hasher));
    for (int twice = 0; twice < 2; twice++) {
        CHECK_OK(mst_hasher_update(hasher, "a", 1));
        CHECK_OK(mst_hasher_update(hasher, "bc", 2));
        CHECK_OK(mst_hasher_finish(hasher, &digest));
        mst_digest_to_hex(&digest, hex);
        CHECK(strcmp(hex, expected) == 0, "in pieces: %s", hex);
    }
    mst_hasher_destroy(&hasher);
}

int main(void) {
    for (int threads = 1; threads <= 9; threads += 2) check_every_task_once(threads);
    for (int threads = 1; threads <= 4; threads++) check_lowest_failure(threads);
    for (int threads = 1; threads <= 4; threads++) check_attending(threads);
    check_scratch();
    check_memory();
    check_status_texts();
    check_device();
    check_digest();
    return test_finish("test_queue");
}
