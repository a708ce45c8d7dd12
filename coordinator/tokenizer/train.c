/* Training a tokenizer: read and count, merge, write. */
#include <sched.h>
#include <stdlib.h>

#include "muster/clock.h"
#include "train_count.h"
#include "train_json.h"
#include "train_merge.h"
#include "train_progress.h"

enum {
    BYTES = 256,
    VOCAB_MOST = 1 << 20,
    THREADS_MOST = 64,        /* a batch has no more tasks */
    MERGES_BETWEEN_LOOKS = 16 /* at the clock */
};

typedef struct trainer {
    const mst_tokenizer_training *training;
    const train_scheme *scheme;
    word_counter *counter;
    merger *merger;
    train_progress progress;
    mst_tokenizer_report report;
    uint64_t heldout;
} trainer;

static size_t threads_of(const mst_tokenizer_training *training) {
    cpu_set_t cores;
    size_t threads = training->threads;
    if (threads == 0)
        threads = sched_getaffinity(0, sizeof cores, &cores) == 0 ? (size_t)CPU_COUNT(&cores) : 1;
    return threads < THREADS_MOST ? threads : THREADS_MOST;
}

static mst_status check_training(trainer *t) {
    mst_status status = MST_OK;
    const mst_tokenizer_training *training = t->training;
    MST_TRY(train_check_special(training));
    MST_CHECK(training->vocab_size >= BYTES + training->special_count && training->vocab_size <= VOCAB_MOST,
              MST_ECONFIG,
              "a vocabulary of %zu tokens; it must be from %zu (the bytes and the special tokens) to %d",
              training->vocab_size, BYTES + training->special_count, VOCAB_MOST);
    MST_TRY(train_scheme_find(training->pattern, &t->scheme));
done:
    return status;
}

static mst_status read_document(void *context, const uint8_t *bytes, size_t count, mst_split split,
                                const char *path) {
    mst_status status = MST_OK;
    trainer *t = context;
    (void)path; /* words are counted later, with those of other files */
    t->heldout += split == MST_SPLIT_HELDOUT;
    if (split == MST_SPLIT_HELDOUT) goto done;
    t->report.documents++;
    for (size_t taken; count > 0; bytes += taken, count -= taken) {
        MST_TRY(word_counter_add(t->counter, bytes, count, &taken));
        t->report.bytes += taken;
        train_progress_reading(&t->progress, t->report.documents, t->report.bytes);
    }
done:
    return status;
}

static mst_status read_text(trainer *t) {
    mst_status status = MST_OK;
    train_progress_begin(&t->progress, t->training->progress);
    MST_TRY(word_counter_create(t->scheme, t->training->digits, threads_of(t->training), &t->counter));
    MST_TRY(mst_data_documents(t->training->text, read_document, t));
    MST_CHECK(
        t->report.documents > 0, MST_ECONFIG,
        "all %llu different documents fell into the held-out split; give more documents, another seed or "
        "fraction 0",
        (unsigned long long)t->heldout);
    MST_TRY(word_counter_finish(t->counter));
    t->report.words = word_counter_words(t->counter);
done:
    return status;
}

static mst_status merge(trainer *t) {
    mst_status status = MST_OK;
    const size_t first = t->training->special_count + BYTES, all = t->training->vocab_size - first;
    uint8_t order[BYTES];
    mst_tokenizer_training names = *t->training; /* what train_is_special looks at */
    bool done = false;
    train_byte_order(order);
    MST_TRY(merger_create(word_counter_tables(t->counter), WORD_SHARDS, (uint32_t)t->training->special_count,
                          order, (uint32_t)t->training->vocab_size, &t->merger));
    t->report.distinct_words = merger_words(t->merger);
    train_progress_end(&t->progress, "read %.1f MB, %llu document%s, %llu distinct words",
                       (double)t->report.bytes * 1e-6, (unsigned long long)t->report.documents,
                       t->report.documents == 1 ? "" : "s", (unsigned long long)t->report.distinct_words);
    word_counter_destroy(&t->counter);
    train_progress_begin(&t->progress, t->training->progress);
    while (!done) {
        MST_TRY(merger_step(t->merger, train_is_special, &names, &done));
        t->report.merges = merger_vocab(t->merger)->size - first;
        if (t->report.merges % MERGES_BETWEEN_LOOKS == 0)
            train_progress_merging(&t->progress, t->report.merges, all);
    }
    t->report.tokens = merger_tokens(t->merger);
    train_progress_end(&t->progress, "merged %zu pairs", t->report.merges);
done:
    return status;
}

mst_status mst_tokenizer_train(const mst_tokenizer_training *training, char **json_out,
                               mst_tokenizer_report *report_out) {
    mst_status status = MST_OK;
    trainer t = {.training = training};
    const double begin = mst_clock_now();
    *json_out = NULL;
    *report_out = (mst_tokenizer_report){0};
    MST_TRY(check_training(&t));
    MST_TRY(read_text(&t));
    MST_TRY(merge(&t));
    MST_TRY(train_json(training, t.scheme, merger_vocab(t.merger), json_out));
    t.report.seconds = mst_clock_now() - begin;
    *report_out = t.report;
done:
    train_progress_hide(&t.progress);
    word_counter_destroy(&t.counter);
    merger_destroy(&t.merger);
    return status;
}
