/* Whole documents as samples: which ones a sequence holds, and what is read of them. */
#include "data_fixture.h"
#include "muster/random.h"
#include "packing.h"

enum { SEED = 5 };

/* ---- dealing ---- */

/* Best fit by looking at every sequence. @param sequence_out [count] of each document; -1: it is left out */
static size_t naive_fit(const uint32_t *places, size_t count, size_t seq_len, int *sequence_out) {
    size_t *room = calloc(count + 1, sizeof *room), *age = calloc(count + 1, sizeof *age), sequences = 0,
           now = 0;
    for (size_t i = 0; i < count; i++) sequence_out[i] = -1;
    for (size_t length = seq_len; length > 0; length--)
        for (size_t i = 0; i < count; i++) {
            if (places[i] != length) continue;
            size_t best = sequences;
            for (size_t s = 0; s < sequences; s++)
                if (room[s] >= length && (best == sequences || room[s] < room[best] ||
                                          (room[s] == room[best] && age[s] > age[best])))
                    best = s;
            if (best == sequences) room[sequences++] = seq_len;
            room[best] -= length;
            age[best] = ++now; /* of equals the one that changed last */
            sequence_out[i] = (int)best;
        }
    free(room);
    free(age);
    return sequences;
}

/* Every document once, in the sequence that is expected, the longest first, and no sequence too long. */
static void check_deal(const uint32_t *places, size_t count, size_t seq_len) {
    packing p = {0};
    int *expected = calloc(count + 1, sizeof *expected);
    size_t sequences = naive_fit(places, count, seq_len, expected), there = 0, found = 0;
    for (size_t i = 0; i < count; i++) there += places[i] > 0;
    CHECK_OK(packing_deal(places, count, seq_len, MST_PACKING_DOCUMENTS, &p));
    CHECK(p.sequences == sequences, "%zu documents in %zu sequences, not %zu", count, (size_t)p.sequences,
          sequences);
    for (size_t s = 0; s < p.sequences; s++) {
        size_t taken = 0;
        CHECK(p.first[s + 1] > p.first[s], "sequence %zu is empty", s);
        for (uint32_t i = p.first[s]; i < p.first[s + 1]; i++) {
            const uint32_t document = p.documents[i];
            CHECK(document < count && expected[document] == (int)s, "document %u is in sequence %zu",
                  document, s);
            CHECK(i == p.first[s] || places[document] <= places[p.documents[i - 1]],
                  "a longer one comes later");
            expected[document] = -2; /* seen */
            taken += places[document];
            found++;
        }
        CHECK(taken <= seq_len, "sequence %zu has %zu of %zu places", s, taken, seq_len);
    }
    CHECK(found == there, "%zu of %zu documents", found, there);
    packing_clear(&p);
    free(expected);
}

static void test_deal(void) {
    static const size_t lengths[] = {1, 2, 63, 64, 65, 300};
    uint32_t places[400];
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        const size_t seq_len = lengths[i];
        for (size_t count = 0; count <= 400; count = 3 * count + 1) {
            for (size_t d = 0; d < count; d++) {
                const double u = mst_random_uniform(SEED, MST_RANDOM_TEST, i, 1000 * count + d);
                places[d] =
                    (uint32_t)(u * u * (double)(seq_len + 1)); /* short ones are more frequent; 0, too */
            }
            check_deal(places, count, seq_len);
        }
    }
    for (size_t d = 0; d < 400; d++) places[d] = 0;
    check_deal(places, 400, 8);
    for (size_t d = 0; d < 400; d++) places[d] = 8;
    check_deal(places, 400, 8);
}

static void test_single(void) {
    static const uint32_t places[] = {3, 0, 5, 1, 0};
    packing p = {0};
    CHECK_OK(packing_deal(places, 5, 5, MST_PACKING_SINGLE, &p));
    CHECK(p.sequences == 3 && p.documents[0] == 0 && p.documents[1] == 2 && p.documents[2] == 3,
          "one each, in order");
    CHECK(p.first[0] == 0 && p.first[1] == 1 && p.first[2] == 2 && p.first[3] == 3, "bounds");
    packing_clear(&p);
}

/* ---- reading ---- */

enum { DOCUMENTS = 120, SEQ = 40, LONGEST = 60, MICRO = 3 };

/* Document i: its number, and as many letters as it is long. */
static size_t text_of(size_t i, char text[LONGEST + 8]) {
    const size_t letters = i * 7 % LONGEST;
    int used = snprintf(text, LONGEST + 8, "%03zu", i);
    memset(text + used, 'a' + (int)(i % 26), letters);
    text[(size_t)used + letters] = '\0';
    return (size_t)used + letters;
}

static void build_documents(void) {
    FILE *file = fopen("lines.jsonl", "w");
    for (size_t i = 0; i < DOCUMENTS; i++) {
        char text[LONGEST + 8];
        text_of(i, text);
        fprintf(file, "{\"text\": \"%s\"}\n", text);
    }
    fclose(file);
    mst_build_report report;
    CHECK_OK(build((mst_build_options){.output = "tokens.h5", .heldout_fraction = 0.2, .seed = 1}, &report,
                   "lines.jsonl", NULL));
    CHECK(report.heldout_documents > 5 && report.train_documents > 50, "splits");
}

static mst_data *open_packed(mst_packing kind, uint64_t seed) {
    mst_data *data = NULL;
    const mst_source_config source = {"tokens.h5", 1, NULL};
    CHECK_OK(mst_data_open(
        &(mst_data_config){
            .sources = &source, .source_count = 1, .seq_len = SEQ, .seed = seed, .packing = kind},
        &data));
    return data;
}

typedef struct sequence {
    int32_t tokens[SEQ], targets[SEQ], starts[SEQ];
} sequence;

/* Looks at one sequence; counts which documents it holds. @return how many */
static size_t look_at(const sequence *s, size_t documents, int seen[DOCUMENTS]) {
    size_t begin = 0;
    for (size_t d = 0; d < documents; d++) {
        char text[LONGEST + 8];
        size_t end = begin;
        while (end < SEQ && s->starts[end] == (int32_t)begin) end++;
        CHECK(end > begin, "document %zu of the sequence has no place", d);
        if (end == begin) return d;
        size_t number = 0;
        for (size_t t = begin; t < begin + 3; t++) number = 10 * number + (size_t)(s->tokens[t] - '0');
        CHECK(number < DOCUMENTS, "document %zu", number);
        if (number >= DOCUMENTS) return d;
        seen[number]++;
        const size_t bytes = text_of(number, text), places = bytes < SEQ ? bytes : SEQ;
        CHECK(end - begin == places, "document %zu takes %zu places, not %zu", number, end - begin, places);
        for (size_t t = 0; t < places; t++) {
            const int32_t next = t + 1 < bytes ? (int32_t)text[t + 1] : MST_BYTE_EOS;
            CHECK(s->tokens[begin + t] == (int32_t)text[t] && s->targets[begin + t] == next,
                  "document %zu, place %zu", number, t);
        }
        begin = end;
    }
    for (size_t t = begin; t < SEQ; t++)
        CHECK(s->tokens[t] == 0 && s->targets[t] == -1 && s->starts[t] == (int32_t)begin,
              "place %zu is empty", t);
    return documents;
}

/* An epoch holds every document once, another one in another order; any number of samples at a time is the same. */
static void test_epochs(mst_packing kind) {
    mst_data *data = open_packed(kind, 3), *other = open_packed(kind, 4);
    const uint64_t samples = mst_data_samples(data, MST_SPLIT_TRAIN);
    mst_packing_report report;
    size_t same_place = 0, same_seed = 0;
    static sequence first[DOCUMENTS], one;
    mst_data_packing_report(data, MST_SPLIT_TRAIN, &report);
    CHECK(report.sequences == samples && report.documents > 50 && report.cut > 0, "the report");
    CHECK(kind == MST_PACKING_SINGLE ? samples == report.documents : samples < report.documents * 3 / 4,
          "%zu documents in %zu sequences", (size_t)report.documents, (size_t)samples);
    for (uint64_t epoch = 0; epoch < 2; epoch++) {
        int seen[DOCUMENTS] = {0};
        size_t found = 0, places = 0, cut = 0;
        for (uint64_t i = 0; i < samples; i++) {
            mst_sample_place place;
            CHECK_OK(mst_data_locate(data, MST_SPLIT_TRAIN, epoch * samples + i, &place));
            CHECK_OK(mst_data_read(data, MST_SPLIT_TRAIN, epoch * samples + i, 1, one.tokens, one.targets,
                                   one.starts));
            CHECK(place.epoch == epoch && strcmp(place.path, "tokens.h5") == 0, "its place");
            found += look_at(&one, place.documents, seen);
            for (size_t t = 0; t < SEQ; t++) places += one.targets[t] >= 0;
            if (epoch == 0)
                first[i] = one;
            else
                same_place += memcmp(&first[i], &one, sizeof one) == 0;
            sequence theirs;
            CHECK_OK(
                mst_data_read(other, MST_SPLIT_TRAIN, i, 1, theirs.tokens, theirs.targets, theirs.starts));
            same_seed += epoch == 0 && memcmp(&theirs, &one, sizeof one) == 0;
        }
        for (size_t d = 0; d < DOCUMENTS; d++) {
            char text[LONGEST + 8];
            CHECK(seen[d] <= 1, "document %zu was read %d times", d, seen[d]);
            if (seen[d] > 0 && text_of(d, text) > SEQ) cut += text_of(d, text) - SEQ;
        }
        CHECK(found == report.documents && places == report.places && cut == report.cut_tokens,
              "%zu documents, %zu places, %zu tokens cut", found, places, cut);
    }
    CHECK(same_place < samples / 2 && same_seed < samples / 2, "%zu and %zu of %zu samples where they were",
          same_place, same_seed, (size_t)samples);
    int32_t tokens[MICRO * SEQ], targets[MICRO * SEQ], starts[MICRO * SEQ];
    CHECK_OK(mst_data_read(data, MST_SPLIT_TRAIN, 4, MICRO, tokens, targets, starts));
    for (size_t i = 0; i < MICRO; i++)
        CHECK(memcmp(tokens + i * SEQ, first[4 + i].tokens, sizeof first->tokens) == 0 &&
                  memcmp(targets + i * SEQ, first[4 + i].targets, sizeof first->targets) == 0 &&
                  memcmp(starts + i * SEQ, first[4 + i].starts, sizeof first->starts) == 0,
              "several at once");
    CHECK_STATUS(mst_data_read(data, MST_SPLIT_TRAIN, 0, 1, tokens, targets, NULL), MST_EINVAL);
    mst_data_close(&data);
    mst_data_close(&other);
}

/* What is held out is read in order, as samples and as windows, which are the same. */
static void test_heldout(mst_packing kind) {
    mst_data *data = open_packed(kind, 3);
    const uint64_t samples = mst_data_samples(data, MST_SPLIT_HELDOUT);
    int seen[DOCUMENTS] = {0};
    size_t found = 0;
    mst_packing_report report;
    sequence one, window;
    mst_data_packing_report(data, MST_SPLIT_HELDOUT, &report);
    CHECK(mst_data_windows(data, MST_SPLIT_HELDOUT) == samples && samples > 0, "%zu samples",
          (size_t)samples);
    for (uint64_t i = 0; i < samples; i++) {
        mst_sample_place place;
        CHECK_OK(mst_data_locate(data, MST_SPLIT_HELDOUT, i, &place));
        CHECK_OK(mst_data_read(data, MST_SPLIT_HELDOUT, i, 1, one.tokens, one.targets, one.starts));
        CHECK_OK(mst_data_read_windows(data, MST_SPLIT_HELDOUT, i, 1, window.tokens, window.targets,
                                       window.starts));
        CHECK(memcmp(&one, &window, sizeof one) == 0, "window %zu", (size_t)i);
        found += look_at(&one, place.documents, seen);
    }
    CHECK(found == report.documents, "%zu held-out documents", found);
    CHECK_STATUS(mst_data_read(data, MST_SPLIT_HELDOUT, samples, 1, one.tokens, one.targets, one.starts),
                 MST_EINVAL);
    CHECK_STATUS(mst_data_read_windows(data, MST_SPLIT_HELDOUT, 0, 1, one.tokens, one.targets, NULL),
                 MST_EINVAL);
    mst_data_close(&data);
}

static void test_digests(void) {
    mst_digest digests[3];
    for (int kind = 0; kind < 3; kind++) {
        mst_data *data = open_packed((mst_packing)kind, 3);
        CHECK(mst_data_packing(data) == (mst_packing)kind, "packing");
        mst_data_digest(data, &digests[kind]);
        mst_data_close(&data);
    }
    CHECK(memcmp(&digests[0], &digests[1], sizeof *digests) != 0 &&
              memcmp(&digests[0], &digests[2], sizeof *digests) != 0 &&
              memcmp(&digests[1], &digests[2], sizeof *digests) != 0,
          "the digest says what samples are");
}

static void test_refused(void) {
    static const uint16_t tokens[100] = {1, 2, 3};
    mst_data *data = NULL;
    mst_build_report report;
    mst_source_config source = {"bare.bin", 1, NULL};
    mst_data_config config = {.sources = &source,
                              .source_count = 1,
                              .seq_len = 4,
                              .type = MST_TOKENS_UINT16,
                              .vocab_size = 10,
                              .packing = MST_PACKING_DOCUMENTS};
    put_bytes("bare.bin", tokens, sizeof tokens);
    CHECK_STATUS(mst_data_open(&config, &data), MST_ECONFIG);
    CHECK(message_has("bare.bin", "where its documents begin", "data.packing: stream", NULL), "message");
    put_text("a.txt", "a");
    CHECK_OK(build((mst_build_options){.output = "short.h5"}, &report, "a.txt", NULL));
    source.path = "short.h5";
    CHECK_OK(mst_data_open(&config, &data)); /* one place: 'a', then the end */
    mst_data_close(&data);
}

int main(void) {
    scratch_enter();
    test_deal();
    test_single();
    build_documents();
    test_epochs(MST_PACKING_DOCUMENTS);
    test_epochs(MST_PACKING_SINGLE);
    test_heldout(MST_PACKING_DOCUMENTS);
    test_heldout(MST_PACKING_SINGLE);
    test_digests();
    test_refused();
    scratch_leave();
    return test_finish("test_data_packing");
}
