/* Recordings: when work is done as it comes, when it is recorded, when its recording is played, and what a device that fails leaves. */
#include "muster/recording.h"
#include "test.h"

/* ---- a device whose work is to say a letter ---- */

struct mst_recording {
    char said[8];
};

static char said[64]; /* by the device, in order */
static mst_recording *recording;
static bool is_recording;
static size_t calls, begun, played,
    living; /* of the work; of the device; recordings that are not destroyed */
static uint64_t basis;
static const char *fails = ""; /* what the device does not do */

static mst_status unless(const char *what) {
    return strcmp(fails, what) == 0 ? mst_error(MST_ELIBRARY, "it does not %s", what) : MST_OK;
}
static mst_status say(void *letter) {
    char *to = is_recording ? recording->said : said;
    calls++;
    to[strlen(to) + 1] = '\0';
    to[strlen(to)] = *(const char *)letter;
    return is_recording ? unless("work") : MST_OK;
}
static mst_status begin(void *device) {
    (void)device;
    if (strcmp(fails, "begin") == 0) return unless("begin");
    begun++;
    is_recording = true;
    recording = calloc(1, sizeof *recording);
    living++;
    return MST_OK;
}
static void destroy(void *device, mst_recording *r) {
    (void)device;
    free(r);
    living--;
}
static mst_status end(void *device, mst_recording **recording_out) {
    const mst_status status = unless("end");
    is_recording = false;
    if (recording_out && status == MST_OK)
        *recording_out = recording;
    else
        destroy(device, recording);
    return status;
}
static mst_status play(void *device, mst_recording *r) {
    const mst_status status = unless("play");
    (void)device;
    if (status != MST_OK) return status;
    played++;
    strcat(said, r->said);
    return MST_OK;
}
static uint64_t basis_of(const void *device) {
    (void)device;
    return basis;
}

static void close_device(void *device) {
    (void)device;
}

static const mst_recording_face recordings_face = {begin, end, play, destroy, basis_of};

/* ---- checks ---- */

static void reset(void) {
    said[0] = '\0';
    calls = begun = played = 0;
}

/* Does the work of each letter, whose key is the letter. */
static void run(mst_recordings *r, const char *letters) {
    for (char key; (key = *letters) != '\0'; letters++) CHECK_OK(mst_recordings_run(r, &key, say, &key));
}

static void check_without_device(void) {
    mst_queue *queue = NULL;
    mst_recordings *r = NULL;
    CHECK_OK(mst_queue_create(1, &queue));
    CHECK_OK(mst_recordings_create(queue, 2, 1, &r));
    run(r, "aaaa");
    CHECK(strcmp(said, "aaaa") == 0 && calls == 4, "the CPU said '%s', in %zu calls", said, calls);
    CHECK(mst_recordings_failure(r) == NULL, "nothing has failed");
    mst_recordings_destroy(&r);
    CHECK(r == NULL, "destroy resets the pointer");
    mst_queue_destroy(&queue);
}

static void check_replays(mst_queue *queue) {
    mst_recordings *r = NULL;
    CHECK_OK(mst_recordings_create(queue, 2, 1, &r));
    reset();
    run(r, "ab");
    CHECK(begun == 0 && calls == 2, "what is met once is not recorded");
    run(r, "ab");
    CHECK(begun == 2 && calls == 4 && played == 2, "%zu recorded, %zu calls, %zu played", begun, calls,
          played);
    run(r, "abba");
    CHECK(begun == 2 && calls == 4 && played == 6, "then it is played alone: %zu calls, %zu played", calls,
          played);
    run(r, "ccc");
    CHECK(begun == 2 && calls == 7, "there is no room for a third");
    CHECK(strcmp(said, "abababbaccc") == 0, "it said '%s'", said);
    mst_recordings_destroy(&r);
    CHECK(living == 0, "%zu recordings are left", living);
}

static void check_basis(mst_queue *queue) {
    mst_recordings *r = NULL;
    CHECK_OK(mst_recordings_create(queue, 2, 1, &r));
    run(r, "aaa");
    reset();
    basis++;
    run(r, "a");
    CHECK(begun == 0 && calls == 1 && living == 0, "what does not hold is not played, and done as if new");
    run(r, "aa");
    CHECK(begun == 1 && calls == 2 && played == 2, "then recorded again");
    mst_recordings_forget(r);
    CHECK(living == 0, "forgotten");
    run(r, "aaa");
    CHECK(begun == 2 && strcmp(said, "aaaaaa") == 0, "and met again: '%s'", said);
    mst_recordings_destroy(&r);
}

static void check_failures(mst_queue *queue) {
    static const char *const all[] = {"begin", "work", "end", "play"};
    for (size_t i = 0; i < 4; i++) {
        mst_recordings *r = NULL;
        char words[32];
        snprintf(words, sizeof words, "it does not %s", all[i]);
        CHECK_OK(mst_recordings_create(queue, 2, 1, &r));
        reset();
        run(r, "bbba");
        fails = all[i];
        run(r, "aba");
        const size_t tried = begun;
        run(r, "ba");
        fails = "";
        run(r, "ba");
        CHECK(begun == tried, "%s: it is tried once", all[i]);
        CHECK(strcmp(said, "bbbaabababa") == 0, "%s: it said '%s'", all[i], said);
        const char *why = mst_recordings_failure(r);
        CHECK(why && strcmp(why, words) == 0, "%s: why: %s", all[i], why ? why : "nobody says");
        CHECK(living == 0, "%s: %zu recordings are left", all[i], living);
        mst_recordings_destroy(&r);
    }
}

/* Of the work itself, as it comes. */
static mst_status refuse(void *context) {
    (void)context;
    return mst_error(MST_EINVAL, "no such work");
}

static void check_work_that_fails(mst_queue *queue) {
    mst_recordings *r = NULL;
    CHECK_OK(mst_recordings_create(queue, 2, 1, &r));
    reset();
    for (int i = 0; i < 3; i++) CHECK_STATUS(mst_recordings_run(r, "x", refuse, NULL), MST_EINVAL);
    CHECK(begun == 0 && mst_recordings_failure(r) == NULL, "it is not recorded, and no failure to record");
    mst_recordings_destroy(&r);
}

int main(void) {
    static const mst_queue_face face = {.destroy = close_device, .recordings = &recordings_face};
    mst_queue *queue = NULL;
    check_without_device();
    CHECK_OK(mst_queue_create(1, &queue));
    mst_queue_attach(queue, &face, said);
    check_replays(queue);
    check_basis(queue);
    check_failures(queue);
    check_work_that_fails(queue);
    mst_queue_destroy(&queue);
    return test_finish("test_recording");
}
