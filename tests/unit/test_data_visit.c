/* The documents of a build, handed over whole: those that mst_data_build keeps, in its order and its splits. */
#include "data_fixture.h"

/* What was visited: the texts of each split, each with '$' behind it, as split_is wants them. */
typedef struct seen {
    char text[2][1 << 16];
    size_t used[2], documents, fail_after;
    char last_path[64];
} seen;

static mst_status note(void *context, const uint8_t *bytes, size_t count, mst_split split, const char *path) {
    seen *s = context;
    if (s->documents == s->fail_after) return mst_error(MST_ESTOPPED, "enough of %s", path);
    s->documents++;
    if (s->used[split] + count + 2 > sizeof s->text[split]) return mst_error(MST_EINVAL, "too much text");
    memcpy(s->text[split] + s->used[split], bytes, count);
    s->used[split] += count;
    s->text[split][s->used[split]++] = '$';
    s->text[split][s->used[split]] = '\0';
    snprintf(s->last_path, sizeof s->last_path, "%s", path);
    return MST_OK;
}

static seen visited;

static mst_status visit(mst_build_options options, const char *const *inputs, size_t count) {
    visited.used[0] = visited.used[1] = visited.documents = 0;
    visited.text[0][0] = visited.text[1][0] = '\0';
    options.inputs = inputs;
    options.input_count = count;
    return mst_data_documents(&options, note, &visited);
}

static void put_inputs(void) {
    FILE *file = fopen("lines.jsonl", "w");
    for (int i = 0; i < 300; i++) fprintf(file, "{\"body\": \"number %d\"}\n{\"body\": \"\"}\n", i % 250);
    fclose(file);
    put_text("one.txt", "number 3"); /* as a line of the other file: kept once */
    put_text("two.txt", "a text of its own");
    put_text("empty.txt", "");
    put_bytes("nul.txt", "a\0b\xFF", 4);
}

/* Splits, order, duplicates and empty ones as in the token file made of the same inputs. */
static void test_as_build(void) {
    static const char *const inputs[] = {"two.txt", "lines.jsonl", "one.txt", "empty.txt"};
    for (uint64_t seed = 0; seed < 3; seed++) {
        mst_build_report report;
        mst_build_options options = {
            .output = "out.h5", .text_field = "body", .heldout_fraction = 0.3, .seed = seed};
        CHECK_OK(build(options, &report, inputs[0], inputs[1], inputs[2], inputs[3], NULL));
        options.output = NULL;
        CHECK_OK(visit(options, inputs, 4));
        CHECK(visited.documents == 251 && visited.documents == report.documents - report.duplicates,
              "%zu documents", visited.documents);
        CHECK(split_is("out.h5", MST_SPLIT_TRAIN, visited.text[MST_SPLIT_TRAIN]), "training, seed %d",
              (int)seed);
        CHECK(split_is("out.h5", MST_SPLIT_HELDOUT, visited.text[MST_SPLIT_HELDOUT]), "held out, seed %d",
              (int)seed);
    }
    CHECK_OK(visit((mst_build_options){0}, (const char *[]){"nul.txt"}, 1));
    CHECK(visited.used[0] == 5 && memcmp(visited.text[0], "a\0b\xFF$", 5) == 0, "any bytes");
    CHECK(strcmp(visited.last_path, "nul.txt") == 0, "the path '%s'", visited.last_path);
}

/* A document much longer than the pieces in which files are read, then a short one. */
static mst_status measure(void *context, const uint8_t *bytes, size_t count, mst_split split,
                          const char *path) {
    size_t *counts = context;
    (void)split, (void)path;
    counts[counts[0] == 0 ? 0 : 1] = count;
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != 'a' + i % 23) return mst_error(MST_EFORMAT, "byte %zu", i);
    return MST_OK;
}

static void test_long(void) {
    enum { LONG = 3000001 };
    char *text = malloc(LONG);
    for (size_t i = 0; i < LONG; i++) text[i] = (char)('a' + i % 23);
    put_bytes("long.txt", text, LONG);
    put_bytes("short.txt", text, 5);
    size_t counts[2] = {0};
    CHECK_OK(mst_data_documents(
        &(mst_build_options){.inputs = (const char *[]){"long.txt", "short.txt"}, .input_count = 2}, measure,
        counts));
    CHECK(counts[0] == LONG && counts[1] == 5, "%zu and %zu bytes", counts[0], counts[1]);
    free(text);
}

static void test_refusals(void) {
    static const char *const inputs[] = {"two.txt", "lines.jsonl"};
    const mst_build_options options = {.text_field = "body"};
    visited.fail_after = 7;
    CHECK_STATUS(visit(options, inputs, 2), MST_ESTOPPED);
    CHECK(visited.documents == 7 && message_has("enough of lines.jsonl", NULL),
          "the visitor's own failure: %s", mst_error_message());
    visited.fail_after = SIZE_MAX;
    CHECK_STATUS(visit((mst_build_options){0}, inputs, 2), MST_EFORMAT);
    CHECK(message_has("lines.jsonl:1", "'text'", NULL), "%s", mst_error_message());
    CHECK_STATUS(visit(options, (const char *[]){"empty.txt"}, 1), MST_ECONFIG);
    CHECK(message_has("no text", NULL), "%s", mst_error_message());
    CHECK_STATUS(visit(options, inputs, 0), MST_ECONFIG);
    CHECK_STATUS(visit(options, (const char *[]){"none.txt"}, 1), MST_EIO);
    CHECK_STATUS(visit((mst_build_options){.heldout_fraction = 0.6}, inputs, 1), MST_ECONFIG);
    CHECK_STATUS(visit((mst_build_options){.output = "two.txt"}, inputs, 1), MST_ECONFIG);
    CHECK(message_has("also an input", NULL), "%s", mst_error_message());
}

int main(void) {
    visited.fail_after = SIZE_MAX;
    scratch_enter();
    put_inputs();
    test_as_build();
    test_long();
    test_refusals();
    scratch_leave();
    return test_finish("data visit");
}
