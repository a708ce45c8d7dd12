/* Building token files: what is read, what is dropped, what is held out, and that the
 * same input gives the same bytes. */
#include <sys/wait.h>
#include <time.h>

#include "data_fixture.h"

static const mst_build_options plain = {.output = "out.h5"};

static void test_inputs(void) {
    mst_build_report report;
    mkdir("in", 0777), mkdir("in/b", 0777), mkdir("in/.hidden", 0777);
    put_text("in/z.txt", "last");
    put_text("in/b/a.txt", "second");
    put_text("in/b.txt", "first");
    put_text("in/.hidden/h.txt", "hidden folder");
    put_text("in/.h.txt", "hidden file");
    put_text("in/c.md", "markdown");
    CHECK(symlink("..", "in/b/up") == 0 && symlink("loop", "in/loop") == 0 && symlink("b", "in/link") == 0,
          "symlinks");
    /* in/loop cannot be read, but its name does not match. in/link/a.txt is a duplicate. */
    CHECK_OK(build(plain, &report, "in", NULL));
    CHECK(report.files == 4 && report.documents == 4 && report.duplicates == 1, "%llu files, %llu documents",
          (unsigned long long)report.files, (unsigned long long)report.documents);
    CHECK(split_is("out.h5", MST_SPLIT_TRAIN, "first$second$last$"),
          "bytewise order: in/b.txt before in/b/a.txt");

    CHECK_OK(build((mst_build_options){.output = "out.h5", .glob = "*.md"}, &report, "in", NULL));
    CHECK(split_is("out.h5", MST_SPLIT_TRAIN, "markdown$"), "another pattern");
    CHECK_OK(build(plain, &report, "in/c.md", "in/.h.txt", NULL));
    CHECK(split_is("out.h5", MST_SPLIT_TRAIN, "markdown$hidden file$"),
          "files that are named are read, whatever their name");
}

static void test_input_errors(void) {
    mst_build_report report;
    CHECK_STATUS(build(plain, &report, NULL), MST_ECONFIG);
    CHECK_STATUS(build((mst_build_options){.output = "out.h5", .glob = "*.none"}, &report, "in", NULL),
                 MST_ECONFIG);
    CHECK(message_has("*.none", "in", NULL), "%s", mst_error_message());
    CHECK_STATUS(build((mst_build_options){.output = "out.h5", .glob = ""}, &report, "in", NULL),
                 MST_ECONFIG);
    CHECK_STATUS(build((mst_build_options){.output = "out.h5", .glob = "a/*"}, &report, "in", NULL),
                 MST_ECONFIG);
    CHECK_STATUS(build(plain, &report, "missing.txt", NULL), MST_EIO);
    CHECK(message_has("missing.txt", "No such file", NULL), "%s", mst_error_message());
    CHECK_STATUS(build(plain, &report, "/dev/null", NULL), MST_EIO);
    CHECK_STATUS(build((mst_build_options){.output = "none/out.h5"}, &report, "in", NULL), MST_EIO);
    CHECK_STATUS(build((mst_build_options){.output = "out.h5", .heldout_fraction = 0.6}, &report, "in", NULL),
                 MST_ECONFIG);
    CHECK_STATUS(
        build((mst_build_options){.output = "out.h5", .heldout_fraction = (double)NAN}, &report, "in", NULL),
        MST_ECONFIG);
    put_text("empty.txt", "");
    CHECK_STATUS(build((mst_build_options){.output = "none.h5"}, &report, "empty.txt", NULL), MST_ECONFIG);
    CHECK(access("none.h5", F_OK) != 0, "no output without text");
    CHECK_STATUS(build(plain, &report, "in/c.md", "out.h5", NULL), MST_ECONFIG);
    CHECK(message_has("out.h5", "also an input", NULL), "%s", mst_error_message());
}

/* As nobody where we are root, who may read everything; in a child, since there is no way back. */
static void test_unreadable(void) {
    mst_build_report report;
    int state;
    mkdir("shut", 0777);
    put_text("shut/secret.txt", "x");
    chmod("shut/secret.txt", 0), chmod(".", 0777);
    pid_t child = fork();
    if (child == 0) {
        bool able = geteuid() != 0 || setuid(65534) == 0;
        bool file = build(plain, &report, "shut", NULL) == MST_EIO &&
                    message_has("shut/secret.txt", "Permission denied", NULL);
        bool folder = build((mst_build_options){.output = "/out.h5"}, &report, "in", NULL) == MST_EIO &&
                      message_has("'/'", "Permission denied", NULL);
        fprintf(stderr, "%s", file && folder ? "" : mst_error_message());
        _exit(able && file && folder ? 0 : 1);
    }
    waitpid(child, &state, 0);
    CHECK(WIFEXITED(state) && WEXITSTATUS(state) == 0, "state %x", state);
}

static void test_jsonl(void) {
    mst_build_report report;
    put_text(
        "a.jsonl",
        "\xEF\xBB\xBF{\"text\": \"one\"}\n\n  \r\n{\"id\": 7, \"text\": \"t\\u0077o\"}\r\n{\"text\": \"\"}\n"
        "{\"text\": \"one\"}\n{\"text\": \"last, no newline\"}");
    CHECK_OK(build(plain, &report, "a.jsonl", NULL));
    CHECK(report.documents == 4 && report.empty == 1 && report.duplicates == 1 && report.train_documents == 3,
          "%llu documents, %llu empty", (unsigned long long)report.documents,
          (unsigned long long)report.empty);
    CHECK(split_is("out.h5", MST_SPLIT_TRAIN, "one$two$last, no newline$"), "lines");

    size_t count;
    put_text("b.jsonl", "{\"body\": \"a\\u0000b\", \"text\": 3}\n");
    CHECK_OK(build((mst_build_options){.output = "out.h5", .text_field = "body"}, &report, "b.jsonl", NULL));
    int32_t *tokens = all_tokens("out.h5", MST_SPLIT_TRAIN, &count);
    CHECK(count == 4 && tokens[0] == 'a' && tokens[1] == 0 && tokens[2] == 'b', "\\u0000 is a character");
    free(tokens);

    static const struct {
        const char *text, *line, *what;
    } bad[] = {
        {"{\"text\": \"a\"}\n{\"text\": \"b\"\n", "bad.jsonl:2", "not valid JSON"},
        {"{\"text\": \"a\"}\n\n[1]\n", "bad.jsonl:3", "expected an object"},
        {"{\"txt\": \"a\"}\n", "bad.jsonl:1", "no field 'text'"},
        {"\n{\"text\": 5}\n", "bad.jsonl:2", "not a string"},
        {"{\"text\": \"\xFF\"}\n", "bad.jsonl:1", "not valid JSON"},
        {"{\"text\": \"a\"} {\"text\": \"b\"}\n", "bad.jsonl:1", "not valid JSON"},
        {"{\"text\": \"a\"}\n\xEF\xBB\xBF{\"text\": \"b\"}\n", "bad.jsonl:2", "not valid JSON"},
    };
    size_t former_count, now_count;
    uint8_t *former = get_bytes("out.h5", &former_count);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text("bad.jsonl", bad[i].text);
        CHECK_STATUS(build(plain, &report, "bad.jsonl", NULL), MST_EFORMAT);
        CHECK(message_has(bad[i].line, bad[i].what, NULL), "case %zu: %s", i, mst_error_message());
    }
    uint8_t *now = get_bytes("out.h5", &now_count);
    CHECK(former_count == now_count && memcmp(former, now, now_count) == 0,
          "a failed build leaves the former output");
    free(former);
    free(now);
}

/* A line and a document longer than any buffer. */
static void test_long(void) {
    enum { LONG = 3 << 20 };
    mst_build_report report;
    char *text = malloc(LONG + 32);
    int used = sprintf(text, "{\"text\": \"");
    memset(text + used, 'x', LONG);
    memcpy(text + used + LONG, "\"}\n", 4);
    put_text("long.jsonl", text);
    put_bytes("long.txt", text + used, LONG - 1);
    CHECK_OK(build(plain, &report, "long.jsonl", "long.txt", NULL));
    CHECK(report.train_documents == 2 && report.train_tokens == 2 * LONG + 1, "%llu tokens",
          (unsigned long long)report.train_tokens);
    mst_digest digest;
    CHECK_OK(mst_data_verify("out.h5", &digest));
    CHECK(memcmp(&digest, &report.digest, sizeof digest) == 0, "verify gives the digest of the build");
    free(text);
}

static void put_numbers(const char *path, int first, int count) {
    FILE *file = fopen(path, "w");
    for (int i = 0; i < count; i++) fprintf(file, "{\"text\": \"document number %d\"}\n", first + i);
    fclose(file);
}

/* The set of numbers of a split's documents. */
static void collect_numbers(const char *path, mst_split split, bool found[2000]) {
    size_t count;
    int32_t *tokens = all_tokens(path, split, &count);
    memset(found, 0, 2000 * sizeof *found);
    for (size_t i = 0, number = 0; i < count; i++) {
        if (tokens[i] == MST_BYTE_EOS) {
            CHECK(number < 2000 && !found[number], "document %zu twice", number);
            if (number < 2000) found[number] = true;
            number = 0;
        } else if (tokens[i] >= '0' && tokens[i] <= '9') {
            number = 10 * number + (size_t)(tokens[i] - '0');
        }
    }
    free(tokens);
}

static void test_heldout(void) {
    mst_build_report report, other;
    mst_build_options options = {.output = "out.h5", .heldout_fraction = 0.2, .seed = 11};
    static bool train[2000], held[2000], other_train[2000], other_held[2000];
    put_numbers("n.jsonl", 0, 1000);
    put_numbers("m.jsonl", 500, 1000);
    CHECK_OK(build(options, &report, "n.jsonl", "m.jsonl", NULL));
    CHECK(report.documents == 2000 && report.duplicates == 500, "%llu duplicates across files",
          (unsigned long long)report.duplicates);
    CHECK(report.train_documents + report.heldout_documents == 1500, "each document once");
    collect_numbers("out.h5", MST_SPLIT_TRAIN, train);
    collect_numbers("out.h5", MST_SPLIT_HELDOUT, held);
    int count = 0;
    for (int i = 0; i < 1500; i++) {
        CHECK(train[i] != held[i], "document %d is in %s", i, train[i] ? "both splits" : "no split");
        count += held[i];
    }
    /* 1,500 draws at 0.2: mean 300, deviation 15.5; five of them */
    CHECK(count > 300 - 78 && count < 300 + 78, "%d held out", count);

    /* The choice depends neither on the order of the inputs nor on what else is there. */
    CHECK_OK(build(options, &other, "m.jsonl", NULL));
    collect_numbers("out.h5", MST_SPLIT_TRAIN, other_train);
    collect_numbers("out.h5", MST_SPLIT_HELDOUT, other_held);
    for (int i = 500; i < 1500; i++)
        CHECK(train[i] == other_train[i] && held[i] == other_held[i], "document %d moved", i);
    options.seed = 12;
    CHECK_OK(build(options, &other, "n.jsonl", "m.jsonl", NULL));
    collect_numbers("out.h5", MST_SPLIT_HELDOUT, other_held);
    CHECK(memcmp(held, other_held, sizeof held) != 0, "another seed, another choice");
    CHECK(memcmp(&report.digest, &other.digest, sizeof other.digest) != 0, "another choice, another digest");
}

/* With one document there is nothing to hold out, or nothing to train on. */
static void test_one_document(void) {
    int trained = 0, refused = 0;
    put_text("one.txt", "a single document");
    for (uint64_t seed = 0; seed < 20; seed++) {
        mst_build_report report;
        mst_status status =
            build((mst_build_options){.output = "one.h5", .heldout_fraction = 0.5, .seed = seed}, &report,
                  "one.txt", NULL);
        if (status == MST_OK) {
            CHECK(report.heldout_tokens == 0, "no held-out token");
            mst_data *data = open_one("one.h5", 4, 0);
            CHECK(mst_data_samples(data, MST_SPLIT_HELDOUT) == 0, "no held-out sample");
            CHECK_STATUS(mst_data_read(data, MST_SPLIT_HELDOUT, 0, 1, (int32_t[4]){0}, (int32_t[4]){0}, NULL),
                         MST_EINVAL);
            mst_data_close(&data);
            trained++;
        } else {
            CHECK(status == MST_ECONFIG && message_has("held-out", NULL), "%s", mst_error_message());
            refused++;
        }
    }
    CHECK(trained > 0 && refused > 0, "%d trained, %d refused of 20 at one half", trained, refused);
}

static void test_same_bytes(void) {
    mst_build_report report, other;
    mst_build_options options = {.output = "first.h5", .heldout_fraction = 0.1, .seed = 3};
    CHECK_OK(build(options, &report, "n.jsonl", "in", "a.jsonl", NULL));
    /* HDF5 stamps in whole seconds: wait for the next one */
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 100 * 1000 * 1000}, NULL);
    options.output = "second.h5";
    CHECK_OK(build(options, &other, "n.jsonl", "in", "a.jsonl", NULL));
    CHECK(same_files("first.h5", "second.h5"), "the same input must give the same file");
    CHECK(memcmp(&report.digest, &other.digest, sizeof other.digest) == 0, "and the same digest");
}

int main(void) {
    scratch_enter();
    test_inputs();
    test_input_errors();
    test_unreadable();
    test_jsonl();
    test_long();
    test_heldout();
    test_one_document();
    test_same_bytes();
    /* Nothing but what the test itself made. */
    DIR *here = opendir(".");
    for (const struct dirent *entry; (entry = readdir(here)) != NULL;)
        CHECK(entry->d_name[0] != '.' || strlen(entry->d_name) <= 2, "left behind: %s", entry->d_name);
    closedir(here);
    scratch_leave();
    return test_finish("data build");
}
