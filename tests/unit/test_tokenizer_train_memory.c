/* Training a tokenizer while the Nth allocation fails, for every N until it succeeds: MST_ENOMEM each time, and all is freed (the
 * address sanitizer looks). Linked with --wrap, so that the allocations of our own code come here. */
#include <limits.h>
#include <stdatomic.h>

#include "data_fixture.h"
#include "train_json.h"

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);

static atomic_long left = LONG_MAX; /* allocations that still succeed */

static bool is_refused(void) {
    return atomic_fetch_sub(&left, 1) == 1;
}

void *__wrap_malloc(size_t bytes) {
    return is_refused() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes) {
    return is_refused() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes) {
    return is_refused() ? NULL : __real_realloc(memory, bytes);
}

/* Trains with each allocation failing once; returns how many there were. */
static long train_failing(const mst_tokenizer_training *training, const char *what) {
    for (long n = 1;; n++) {
        mst_tokenizer_report report;
        char *json = NULL;
        atomic_store(&left, n);
        mst_status status = mst_tokenizer_train(training, &json, &report);
        bool failed = atomic_load(&left) <= 0;
        atomic_store(&left, LONG_MAX);
        CHECK(failed == (json == NULL), "%s: allocation %ld failed: %d, a result: %d", what, n, failed,
              json != NULL);
        CHECK(status == (failed ? MST_ENOMEM : MST_OK), "%s: allocation %ld: %s: %s", what, n,
              mst_status_name(status), mst_error_message());
        free(json);
        if (!failed || status != MST_ENOMEM) return n;
    }
}

/* The file's JSON is made by jansson, a shared library: its allocations come here by its own hook. Reading is left out. */
static long write_failing(const mst_tokenizer_training *training) {
    word_table table = {0};
    uint8_t order[256];
    merger *m = NULL;
    bool done = false;
    const train_scheme *scheme = NULL;
    char *whole = NULL;
    train_byte_order(order);
    CHECK_OK(train_scheme_find(training->pattern, &scheme));
    CHECK_OK(word_table_add(&table, (const uint8_t *)" written \x01\xFF", 11, 1, 5));
    CHECK_OK(merger_create(&table, 1, (uint32_t)training->special_count, order, 300, &m));
    while (!done) CHECK_OK(merger_step(m, NULL, NULL, &done));
    CHECK_OK(train_json(training, scheme, merger_vocab(m), &whole));
    json_set_alloc_funcs(__wrap_malloc, free);
    for (long n = 1;; n++) {
        char *json = NULL;
        atomic_store(&left, n);
        mst_status status = train_json(training, scheme, merger_vocab(m), &json);
        bool failed = atomic_load(&left) <= 0;
        atomic_store(&left, LONG_MAX);
        /* jansson may do without what it asked for: then the text is whole all the same */
        bool good =
            status == MST_OK ? strcmp(json, whole) == 0 : status == MST_ENOMEM && failed && json == NULL;
        CHECK(good, "allocation %ld: %s", n, mst_status_name(status));
        free(json);
        if (failed && status == MST_ENOMEM) continue;
        free(whole);
        merger_destroy(&m);
        return n;
    }
}

int main(void) {
    scratch_enter();
    FILE *file = fopen("text.txt", "w");
    for (int i = 0; i < 3000; i++) fprintf(file, "%x%x and %d\n", i * 7919, i % 13, i % 50);
    fclose(file);
    const mst_build_options text = {.inputs = (const char *[]){"text.txt"}, .input_count = 1};
    const mst_tokenizer_training training = {.text = &text,
                                             .vocab_size = 420,
                                             .special = (const char *[]){"<|endoftext|>"},
                                             .special_count = 1,
                                             .pattern = "cl100k",
                                             .digits = true,
                                             .threads = 1};
    long own = train_failing(&training, "own code");
    CHECK(own > 100, "only %ld allocations", own);
    long json = write_failing(&training);
    CHECK(json > 500, "only %ld allocations of jansson", json);
    scratch_leave();
    printf("%ld allocations, %ld of jansson\n", own, json);
    return test_finish("tokenizer train memory");
}
