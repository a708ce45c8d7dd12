/* Training a tokenizer: the merges against a plain trainer that counts every pair anew for every merge, the same file for any number of
 * threads, what is read and what is not, what is refused, memory. */
#include <sys/resource.h>

#include "data_fixture.h"
#include "muster/random.h"
#include "muster/tokenizer.h"
#include "train_count.h"
#include "train_merge.h"

static uint64_t seed = 20261123, draws;

static unsigned draw(unsigned below) {
    return (unsigned)(mst_random_uniform(seed, MST_RANDOM_HELDOUT, draws++, 0) * below);
}

/* ---- merges ---- */

enum { WORDS_MAX = 60, WORD_MAX = 24, MERGES_MAX = 120 };

/* A word as tokens, and how often it stands in the text. */
typedef struct plain_word {
    uint32_t tokens[WORD_MAX];
    size_t count;
    uint64_t times;
} plain_word;

static uint64_t plain_count(const plain_word *words, size_t count, uint32_t left, uint32_t right) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k + 1 < words[i].count; k++)
            if (words[i].tokens[k] == left && words[i].tokens[k + 1] == right) sum += words[i].times;
    return sum;
}

/* The pair that a merge must take; false: none stands twice. */
static bool plain_best(const plain_word *words, size_t count, merge_pair *best_out) {
    uint64_t best = 1;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k + 1 < words[i].count; k++) {
            merge_pair pair = {words[i].tokens[k], words[i].tokens[k + 1]};
            uint64_t sum = plain_count(words, count, pair.left, pair.right);
            bool smaller =
                pair.left < best_out->left || (pair.left == best_out->left && pair.right < best_out->right);
            if (sum < 2 || sum < best || (sum == best && !smaller)) continue;
            best = sum;
            *best_out = pair;
        }
    return best > 1;
}

static void plain_join(plain_word *w, merge_pair pair, uint32_t joined) {
    size_t used = 0;
    for (size_t k = 0; k < w->count; k++) {
        bool here = k + 1 < w->count && w->tokens[k] == pair.left && w->tokens[k + 1] == pair.right;
        w->tokens[used++] = here ? joined : w->tokens[k];
        k += here;
    }
    w->count = used;
}

/* Random words of few letters: many pairs are equally frequent, and many stand in runs. */
static size_t make_words(word_table *table, plain_word words[WORDS_MAX], uint32_t special) {
    unsigned letters = 1 + draw(4);
    size_t wanted = 1 + draw(WORDS_MAX - 1);
    for (size_t i = 0; i < wanted; i++) {
        uint8_t bytes[WORD_MAX] = {0};
        size_t length = 1 + draw(WORD_MAX - 1), known = table->count;
        uint64_t times = 1 + draw(3);
        for (size_t k = 0; k < length; k++) bytes[k] = (uint8_t)(draw(letters) * 60);
        CHECK_OK(word_table_add(table, bytes, length, bytes[0] % 7u, times)); /* many hashes are equal */
        if (table->count == known) { /* a word that is there already: find it */
            for (known = 0;; known++) {
                const counted_word *w = &table->words[known];
                if (w->length == length && memcmp(table->bytes + w->at, bytes, length) == 0) break;
            }
        }
        plain_word *w = &words[known];
        w->count = length;
        w->times = table->words[known].count;
        for (size_t k = 0; k < length; k++)
            w->tokens[k] = special + 255 - bytes[k]; /* bytes in falling order */
    }
    return table->count;
}

static bool refuse_even(void *context, const uint8_t *bytes, size_t count) {
    (void)bytes;
    return context != NULL && count % 4 == 0;
}

static void test_merges(void) {
    size_t merges = 0, full = 0, ties = 0;
    for (int trial = 0; trial < 400; trial++) {
        word_table table = {0};
        plain_word words[WORDS_MAX];
        uint8_t order[256];
        uint32_t special = draw(3);
        size_t count = make_words(&table, words, special);
        uint32_t room = special + 256 + draw(MERGES_MAX);
        merger *m = NULL;
        uint64_t tokens = 0;
        bool done = false, ended = false;
        for (int i = 0; i < 256; i++) order[i] = (uint8_t)(255 - i);
        CHECK_OK(merger_create(&table, 1, special, order, room, &m));
        CHECK(merger_words(m) == count && table.words == NULL, "%llu words",
              (unsigned long long)merger_words(m));
        while (!done) {
            merge_pair best = {0, 0};
            uint32_t next = merger_vocab(m)->size;
            CHECK_OK(merger_step(m, refuse_even, NULL, &done));
            ended = !plain_best(words, count, &best);
            CHECK(done == (ended || next == room), "trial %d: done %d after %u", trial, done, next);
            if (done) break;
            merge_pair got = merger_vocab(m)->merges[next - special - 256];
            CHECK(got.left == best.left && got.right == best.right, "trial %d, token %u: %u %u, not %u %u",
                  trial, next, got.left, got.right, best.left, best.right);
            if (got.left != best.left || got.right != best.right) break;
            for (size_t i = 0; i < count; i++) plain_join(&words[i], best, next);
            merges++;
        }
        for (size_t i = 0; i < count; i++) tokens += words[i].count * words[i].times;
        CHECK(merger_tokens(m) == tokens, "trial %d: %llu tokens", trial,
              (unsigned long long)merger_tokens(m));
        full += done && !ended;
        ties += ended;
        merger_destroy(&m);
        word_table_clear(&table);
    }
    CHECK(merges > 5000 && full > 50 && ties > 50, "%zu merges, %zu full, %zu ended", merges, full, ties);
}

/* A token that is refused never comes to be, nor any that would be made of it. */
static void test_refused(void) {
    word_table table = {0};
    uint8_t order[256];
    merger *m = NULL;
    bool done = false;
    for (int i = 0; i < 256; i++) order[i] = (uint8_t)i;
    CHECK_OK(word_table_add(&table, (const uint8_t *)"abababababababab", 16, 1, 9));
    CHECK_OK(merger_create(&table, 1, 0, order, 400, &m));
    while (!done) CHECK_OK(merger_step(m, refuse_even, m, &done));
    CHECK(merger_vocab(m)->size == 257 && merger_tokens(m) == 72,
          "%u tokens of the vocabulary, %llu of the text", merger_vocab(m)->size,
          (unsigned long long)merger_tokens(m));
    merger_destroy(&m);
}

/* ---- words ---- */

static mst_status count_plainly(void *context, const uint8_t *word, size_t count) {
    word_table *table = context;
    return word_table_add(table, word, count, (uint32_t)count, 1);
}

static uint64_t times_of(const word_table *tables, size_t table_count, const uint8_t *bytes, size_t length) {
    for (size_t t = 0; t < table_count; t++)
        for (size_t i = 0; i < tables[t].count; i++) {
            const counted_word *w = &tables[t].words[i];
            if (w->length == length && memcmp(tables[t].bytes + w->at, bytes, length) == 0) return w->count;
        }
    return 0;
}

/* Long documents are counted in parts: their words must be those of the whole, with every pattern. */
static void test_parts(void) {
    static const char *const pieces[] = {"a",     "it's",  " ",        "  ",    " b",           "\n",
                                         "\n\n ", "12345", "\xC3\xA9", "don't", "\xE4\xB8\xAD", "...",
                                         "x y",   "\xFF",  "'ll",      "\t",    "Zz "};
    static const char *const names[] = {"gpt2", "cl100k", "qwen2"};
    enum { BYTES = 1 << 20 };
    char *text = malloc(BYTES + 16);
    for (size_t which = 0; which < 6; which++) {
        const train_scheme *scheme = NULL;
        word_counter *counter = NULL;
        pretokenizer *whole = NULL;
        word_table wanted = {0};
        size_t used = 0, distinct = 0;
        bool digits = which % 2 == 1;
        while (used < BYTES) {
            const char *piece = pieces[draw(sizeof pieces / sizeof *pieces)];
            while (*piece != '\0') text[used++] = *piece++;
        }
        if (which == 5) { /* nowhere to cut, and longer than a part */
            memset(text + 1000, 'a', BYTES / 2);
            text[999] = text[1000 + BYTES / 2] = '\n';
        }
        CHECK_OK(train_scheme_find(names[which / 2], &scheme));
        CHECK_OK(train_scheme_pretokenizer(scheme, digits, &whole));
        CHECK_OK(word_counter_create(scheme, digits, 2, &counter));
        for (size_t at = 0, taken = 0; at < used; at += taken) {
            CHECK_OK(word_counter_add(counter, (const uint8_t *)text + at, used - at, &taken));
            CHECK(taken > 0 && taken <= used - at && taken < used, "%zu of %zu bytes taken", taken,
                  used - at);
            if (taken == 0) break;
        }
        CHECK_OK(word_counter_finish(counter));
        if (which == 5) {
            /* one word of 512 KiB, as parts of 4096 bytes */
            uint64_t parts =
                times_of(word_counter_tables(counter), WORD_SHARDS, (uint8_t *)text + 1100, WORD_BYTES_MAX);
            CHECK(parts == BYTES / 2 / WORD_BYTES_MAX, "%llu parts", (unsigned long long)parts);
        } else {
            CHECK_OK(pretokenizer_walk(whole, (const uint8_t *)text, used, count_plainly, &wanted));
            uint64_t words = 0;
            for (size_t i = 0; i < wanted.count; i++) {
                const counted_word *w = &wanted.words[i];
                words += w->count;
                CHECK(times_of(word_counter_tables(counter), WORD_SHARDS, wanted.bytes + w->at, w->length) ==
                          w->count,
                      "%s, word %zu of %u bytes", names[which / 2], i, w->length);
            }
            for (size_t t = 0; t < WORD_SHARDS; t++) distinct += word_counter_tables(counter)[t].count;
            CHECK(distinct == wanted.count && distinct > 500, "%zu distinct words, not %zu", distinct,
                  wanted.count);
            CHECK(word_counter_words(counter) == words, "%llu words", (unsigned long long)words);
        }
        word_table_clear(&wanted);
        pretokenizer_destroy(&whole);
        word_counter_destroy(&counter);
    }
    free(text);
}

/* ---- the whole ---- */

static char *train(const char *const *inputs, size_t count, mst_build_options text,
                   mst_tokenizer_training training, mst_tokenizer_report *report) {
    char *json = NULL;
    text.inputs = inputs;
    text.input_count = count;
    training.text = &text;
    CHECK_OK(mst_tokenizer_train(&training, &json, report));
    return json != NULL ? json : strdup("");
}

/* Text of made-up words, the frequent ones more frequent by far. */
static void put_corpus(const char *path, size_t documents, size_t words, unsigned different) {
    FILE *file = fopen(path, "w");
    for (size_t d = 0; d < documents; d++) {
        fputs("{\"text\": \"", file);
        for (size_t i = 0; i < words; i++) {
            unsigned number = draw(1 + draw(different));
            fputs(number % 11 == 0 ? "\\n" : " ", file);
            for (number += 7; number > 0; number /= 9)
                fputs((const char *[]){"an", "ter", "o", "qu", "\xC3\xBC", "s", "i", "ing", "9"}[number % 9],
                      file);
        }
        fprintf(file, " %zu\"}\n", d);
    }
    fclose(file);
}

static void test_threads(void) {
    static const char *const inputs[] = {"corpus.jsonl", "long.txt"};
    static const size_t threads[] = {1, 2, 3, 8, 0};
    mst_tokenizer_report first, report;
    size_t bytes;
    put_corpus("corpus.jsonl", 200, 300, 5000);
    put_corpus("more.jsonl", 3000, 300, 5000);
    uint8_t *text = get_bytes("more.jsonl", &bytes);
    put_bytes("long.txt", text, bytes);
    free(text);
    CHECK(bytes > 2 << 20, "a long document of %zu bytes", bytes);
    char *wanted = train(inputs, 2, (mst_build_options){0},
                         (mst_tokenizer_training){.vocab_size = 2000, .threads = 1}, &first);
    CHECK(first.merges == 2000 - 256 && first.documents == 201, "%zu merges", first.merges);
    CHECK(first.tokens > 0 && (double)first.bytes / (double)first.tokens > 3, "%llu tokens",
          (unsigned long long)first.tokens);
    for (size_t i = 1; i < 5; i++) {
        char *got = train(inputs, 2, (mst_build_options){0},
                          (mst_tokenizer_training){.vocab_size = 2000, .threads = threads[i]}, &report);
        CHECK(strcmp(got, wanted) == 0, "another file on %zu threads", threads[i]);
        CHECK(report.words == first.words && report.distinct_words == first.distinct_words &&
                  report.tokens == first.tokens,
              "another report on %zu threads", threads[i]);
        free(got);
    }
    free(wanted);
}

/* The held-out documents of a build are not read: training is as on the others alone. */
static mst_status keep_training(void *context, const uint8_t *bytes, size_t count, mst_split split,
                                const char *path) {
    (void)path;
    if (split == MST_SPLIT_TRAIN) fprintf(context, "{\"text\": \"%.*s\"}\n", (int)count, (const char *)bytes);
    return MST_OK;
}

static void test_heldout(void) {
    static const char *const all[] = {"n.jsonl"}, *const kept[] = {"kept.jsonl"};
    mst_build_options options = {.inputs = all, .input_count = 1, .heldout_fraction = 0.4, .seed = 5};
    mst_tokenizer_training training = {.vocab_size = 400};
    mst_tokenizer_report report, other;
    FILE *file = fopen("n.jsonl", "w");
    for (int i = 0; i < 300; i++)
        fprintf(file, "{\"text\": \"%c%c%c of %d\"}\n", 'a' + i % 7, 'a' + i % 5, 'a' + i % 26, i);
    fclose(file);
    file = fopen("kept.jsonl", "w");
    CHECK_OK(mst_data_documents(&options, keep_training, file));
    fclose(file);
    char *wanted = train(kept, 1, (mst_build_options){0}, training, &other);
    char *got = train(all, 1, options, training, &report);
    CHECK(strcmp(got, wanted) == 0 && report.documents == other.documents, "%llu documents, not %llu",
          (unsigned long long)report.documents, (unsigned long long)other.documents);
    CHECK(report.documents > 140 && report.documents < 220, "%llu of 300 documents",
          (unsigned long long)report.documents);
    free(got);
    got = train(all, 1, (mst_build_options){0}, training, &report);
    CHECK(strcmp(got, wanted) != 0 && report.documents == 300, "all of them");
    free(got);
    free(wanted);
}

/* What the file says is read again as it was meant; special tokens first. */
static void test_file(void) {
    static const char *const inputs[] = {"th.txt"}, *const special[] = {"<|endoftext|>", "th",
                                                                        "\"\\\xE2\x82\xAC"};
    mst_tokenizer_report report;
    mst_tokenizer *tokenizer = NULL;
    mst_token_list tokens = {0};
    mst_byte_list bytes = {0};
    static const char text[] = "the thing that 12 they gathered\xFF";
    put_text("th.txt", "the the then that they th th 12 12 12 12\n");
    char *json = train(
        inputs, 1, (mst_build_options){0},
        (mst_tokenizer_training){
            .vocab_size = 300, .special = special, .special_count = 3, .pattern = "qwen2", .digits = true},
        &report);
    CHECK(report.merges < 300 - 256 - 3, "%zu merges of a small text", report.merges);
    CHECK_OK(mst_tokenizer_parse(json, strlen(json), "trained", &tokenizer));
    if (tokenizer == NULL) return;
    CHECK(mst_tokenizer_vocab_size(tokenizer) == 259 + report.merges, "%zu tokens",
          mst_tokenizer_vocab_size(tokenizer));
    CHECK(mst_tokenizer_end(tokenizer) == 0 && mst_tokenizer_id(tokenizer, special[1]) == 1 &&
              mst_tokenizer_id(tokenizer, special[2]) == 2,
          "the special tokens have the first ids");
    for (size_t id = 259; id < mst_tokenizer_vocab_size(tokenizer); id++) {
        size_t count;
        bool is_special;
        const uint8_t *piece = mst_tokenizer_piece(tokenizer, (int32_t)id, &count, &is_special);
        CHECK(!(count == 2 && memcmp(piece, "th", 2) == 0) && !(count == 2 && memcmp(piece, "12", 2) == 0),
              "token %zu has the name of a special token, or two digits", id);
    }
    mst_encode_options plain = {.plain = true};
    CHECK_OK(mst_tokenizer_encode(tokenizer, (const uint8_t *)text, sizeof text - 1, &plain, &tokens));
    CHECK_OK(mst_tokenizer_decode(tokenizer, tokens.at, tokens.count, true, &bytes));
    CHECK(bytes.count == sizeof text - 1 && memcmp(bytes.at, text, bytes.count) == 0 &&
              tokens.count < bytes.count,
          "%zu bytes in %zu tokens", bytes.count, tokens.count);
    mst_tokenizer_destroy(&tokenizer);
    free(tokens.at);
    free(bytes.at);
    free(json);
}

static void test_refusals(void) {
    static const char *const inputs[] = {"th.txt"}, *const lines[] = {"n.jsonl"};
    static const struct {
        const char *special[2];
        size_t count, vocab;
        const char *pattern, *says;
    } bad[] = {
        {{"a", "b"}, 0, 255, NULL, "a vocabulary of 255 tokens; it must be from 256"},
        {{"aa", "b"}, 1, 256, NULL, "it must be from 257"},
        {{"aa", "b"}, 0, (1 << 20) + 1, NULL, "to 1048576"},
        {{"a", "b"}, 1, 300, NULL, "has the name of byte 97"},
        {{"xx", "\xC4\xA0"}, 2, 300, NULL, "has the name of byte 32"},
        {{"xx", "\xC3\xBC.."}, 2, 300, NULL, "only letters that stand for bytes"},
        {{"xx", "xx"}, 2, 300, NULL, "named twice"},
        {{"", "xx"}, 2, 300, NULL, "token 1 is empty"},
        {{"xx", "\xFF"}, 2, 300, NULL, "token 2 is not valid UTF-8"},
        {{"a", "b"}, 0, 300, "gpt3", "'gpt3' is not known; there are gpt2, cl100k and qwen2"},
    };
    mst_tokenizer_report report;
    char *json;
    mst_build_options text = {.inputs = inputs, .input_count = 1};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mst_tokenizer_training training = {.text = &text,
                                           .vocab_size = bad[i].vocab,
                                           .special = bad[i].special,
                                           .special_count = bad[i].count,
                                           .pattern = bad[i].pattern};
        CHECK_STATUS(mst_tokenizer_train(&training, &json, &report), MST_ECONFIG);
        CHECK(message_has(bad[i].says, NULL) && json == NULL, "case %zu: %s", i, mst_error_message());
    }
    mst_tokenizer_training training = {.text = &text, .vocab_size = 300};
    text.inputs = (const char *[]){"empty.txt"};
    put_text("empty.txt", "");
    CHECK_STATUS(mst_tokenizer_train(&training, &json, &report), MST_ECONFIG);
    CHECK(message_has("no text", NULL), "%s", mst_error_message());
    text.inputs = lines;
    text.text_field = "body";
    CHECK_STATUS(mst_tokenizer_train(&training, &json, &report), MST_EFORMAT);
    int refused = 0;
    text = (mst_build_options){.inputs = inputs, .input_count = 1, .heldout_fraction = 0.5};
    for (text.seed = 0; text.seed < 12; text.seed++) {
        mst_status status = mst_tokenizer_train(&training, &json, &report);
        if (status != MST_OK)
            CHECK(status == MST_ECONFIG &&
                      message_has("all 1 different documents fell into the held-out", NULL),
                  "%s", mst_error_message());
        refused += status != MST_OK;
        free(json);
    }
    CHECK(refused > 0 && refused < 12, "%d of 12 seeds hold the only document out", refused);
}

/* The worst text for memory: all words are different. 100 MB of it must fit into 2 GB, so 10 MB into 200 MB. */
static void test_memory(void) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return; /* a sanitizer keeps what was freed, and shadows the rest */
#endif
    enum { BYTES = 10 << 20 };
    static const char *const inputs[] = {"worst.txt"};
    mst_tokenizer_report report;
    struct rusage before, after;
    char *text = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) {
        text[i] = "etaoinshrdlu"[draw(12)];
        if (i % 10 == 9) text[i] = ' ';
    }
    put_bytes("worst.txt", text, BYTES);
    free(text);
    getrusage(RUSAGE_SELF, &before);
    free(train(inputs, 1, (mst_build_options){0}, (mst_tokenizer_training){.vocab_size = 8000, .threads = 2},
               &report));
    getrusage(RUSAGE_SELF, &after);
    CHECK(report.distinct_words > 900000 && report.merges == 8000 - 256, "%llu distinct words",
          (unsigned long long)report.distinct_words);
    CHECK(after.ru_maxrss < 200 << 10, "%ld MB at most, %ld MB before", after.ru_maxrss >> 10,
          before.ru_maxrss >> 10);
    printf("10 MB of distinct words: %ld MB at most, %.1f s\n", after.ru_maxrss >> 10, report.seconds);
}

int main(int argc, char **argv) {
    if (argc > 1) seed = strtoull(argv[1], NULL, 10);
    printf("seed %llu\n", (unsigned long long)seed);
    scratch_enter();
    test_memory(); /* first: what others leave behind would count */
    test_merges();
    test_refused();
    test_parts();
    test_threads();
    test_heldout();
    test_file();
    test_refusals();
    scratch_leave();
    return test_finish("tokenizer train");
}
