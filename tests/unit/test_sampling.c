/* The draw of a token, and the text that is written while it comes. */
#include "muster/inference.h"
#include "muster/random.h"
#include "test.h"

static const uint64_t seed = 5;
static const double almost_one = 1 - 0x1p-53;

enum { MOST = 300 };

static int32_t drawn(const float *logits, size_t vocab, const mst_sampling *sampling, double uniform) {
    mst_candidate candidates[MOST];
    int32_t token = -1;
    CHECK_OK(mst_sample(logits, vocab, sampling, uniform, candidates, &token));
    CHECK(token >= 0 && (size_t)token < vocab, "token %d", (int)token);
    return token;
}

/* ---- edges ---- */

static void check_greedy(void) {
    const float logits[] = {1, 3, -INFINITY, 3, 2.5f};
    for (int u = 0; u < 100; u += 24) {
        const double uniform = u / 100.0;
        CHECK(drawn(logits, 5, &(mst_sampling){.top_p = 1}, uniform) == 1,
              "temperature 0: the first likeliest");
        mst_sampling one = {.temperature = 9, .top_p = 1, .top_k = 1};
        CHECK(drawn(logits, 5, &one, uniform) == 1, "top-k 1");
        mst_sampling tiny = {.temperature = 9, .top_p = 1e-6};
        CHECK(drawn(logits, 5, &tiny, uniform) == 1, "a tiny top-p");
    }
    /* Nearly cold: the two likeliest share the draw, nothing overflows. */
    mst_sampling cold = {.temperature = 1e-9, .top_p = 1};
    CHECK(drawn(logits, 5, &cold, 0) != drawn(logits, 5, &cold, almost_one),
          "equal logits, one is never drawn");
    const float far[] = {-3e38f, 3e38f, 0};
    CHECK(drawn(far, 3, &cold, 0.5) == 1 && drawn(far, 3, &cold, almost_one) == 1, "logits far apart");
}

static void check_refused(void) {
    const mst_sampling sampling[] = {
        {.top_p = 1}, {.temperature = 1, .top_p = 1}, {.temperature = 1, .top_p = 0.5}};
    mst_candidate candidates[3];
    int32_t token;
    for (size_t i = 0; i < 3; i++) {
        const float nan[] = {1, 2, NAN}, inf[] = {INFINITY, 1, 2}, none[] = {-INFINITY, -INFINITY};
        CHECK_STATUS(mst_sample(nan, 3, &sampling[i], 0.5, candidates, &token), MST_ENONFINITE);
        CHECK(strstr(mst_error_message(), "the logit of token 2 is"), "%s", mst_error_message());
        CHECK_STATUS(mst_sample(inf, 3, &sampling[i], 0.5, candidates, &token), MST_ENONFINITE);
        CHECK_STATUS(mst_sample(none, 2, &sampling[i], 0.5, candidates, &token), MST_ENONFINITE);
    }
}

/* A token of no weight is never drawn, wherever it stands and whatever the number. */
static void check_impossible(void) {
    const float logits[] = {-INFINITY, 0, -INFINITY, 1, -INFINITY};
    const mst_sampling every[] = {{.temperature = 1, .top_p = 1},
                                  {.temperature = 1, .top_p = 1, .top_k = 4},
                                  {.temperature = 1, .top_p = almost_one}};
    for (size_t i = 0; i < 3; i++)
        for (int u = 0; u <= 100; u++) {
            int32_t token = drawn(logits, 5, &every[i], u < 100 ? u / 100.0 : almost_one);
            CHECK(token == 1 || token == 3, "token %d of weight 0", (int)token);
        }
}

/* Which tokens can be drawn at all: those at both ends of the numbers tell. */
static void check_cuts(void) {
    const float equal[] = {0, 0, 0, 0};
    for (int u = 0; u < 100; u++) {
        CHECK(drawn(equal, 4, &(mst_sampling){.temperature = 1, .top_p = 0.5}, u / 100.0) == u / 50,
              "half of four");
        CHECK(drawn(equal, 4, &(mst_sampling){.temperature = 1, .top_p = 1, .top_k = 3}, u / 100.0) ==
                  u * 3 / 100,
              "three of four");
    }
    /* 0.5, 0.3, 0.2: of the two likeliest the first has 0.625. */
    const float logits[] = {logf(0.2f), logf(0.5f), logf(0.3f)};
    mst_sampling both = {.temperature = 1, .top_p = 0.6, .top_k = 2};
    CHECK(drawn(logits, 3, &both, almost_one) == 1, "top-p counts in what top-k leaves");
    both.top_p = 0.65;
    CHECK(drawn(logits, 3, &both, almost_one) == 2, "top-p 0.65 of two");
    both = (mst_sampling){.temperature = 1, .top_p = 0.75};
    CHECK(drawn(logits, 3, &both, almost_one) == 2, "top-p 0.75 of three");
    both = (mst_sampling){.temperature = 1, .top_p = 0.85, .top_k = 99};
    CHECK(drawn(logits, 3, &both, almost_one) == 0, "top-k beyond the vocabulary");
}

/* ---- against a plain sort ---- */

static int by_weight(const void *left, const void *right) {
    const mst_candidate *a = left, *b = right;
    return a->weight != b->weight ? (a->weight < b->weight ? 1 : -1) : a->token - b->token;
}

/* The same by sorting everything. @param count_out how many tokens can be drawn */
static int32_t plainly(const float *logits, size_t vocab, const mst_sampling *sampling, double uniform) {
    mst_candidate all[MOST];
    double highest = -INFINITY, total = 0, reached = 0;
    size_t most = sampling->top_k > 0 && sampling->top_k < vocab ? sampling->top_k : vocab, count = 0;
    for (size_t i = 0; i < vocab; i++) highest = fmax(highest, (double)logits[i]);
    for (size_t i = 0; i < vocab; i++)
        all[i] = (mst_candidate){exp(((double)logits[i] - highest) / sampling->temperature), (int32_t)i};
    qsort(all, vocab, sizeof *all, by_weight);
    for (size_t i = 0; i < most; i++) total += all[i].weight;
    while (count < most && (count == 0 || reached < sampling->top_p * total)) reached += all[count++].weight;
    total = reached;
    reached = 0;
    for (size_t i = 0; i < count; i++) {
        reached += all[i].weight;
        if (uniform * total < reached) return all[i].token;
    }
    return all[count - 1].token;
}

static void check_against_sort(void) {
    float logits[MOST];
    for (uint64_t trial = 0; trial < 2000; trial++) {
        size_t vocab = 2 + (size_t)(mst_random_uniform(seed, MST_RANDOM_TEST, trial, 0) * (MOST - 2));
        mst_sampling sampling = {.temperature = 0.2 + 2 * mst_random_uniform(seed, MST_RANDOM_TEST, trial, 1),
                                 .top_p = 0.05 + 0.9 * mst_random_uniform(seed, MST_RANDOM_TEST, trial, 2)};
        if (trial % 3 != 0)
            sampling.top_k =
                1 + (size_t)(mst_random_uniform(seed, MST_RANDOM_TEST, trial, 3) * (double)vocab);
        for (size_t i = 0; i < vocab; i++) { /* rounded, so that many are equal */
            logits[i] = (float)(round(8 * mst_random_normal(seed, MST_RANDOM_TEST, trial, 9 + i, 0)) / 4);
        }
        double uniform = mst_random_uniform(seed, MST_RANDOM_TEST, trial, 4);
        int32_t found = drawn(logits, vocab, &sampling, uniform),
                wanted = plainly(logits, vocab, &sampling, uniform);
        CHECK(found == wanted, "trial %d, vocabulary %zu, top-k %zu: token %d, not %d", (int)trial, vocab,
              sampling.top_k, (int)found, (int)wanted);
    }
}

/* ---- distribution ---- */

/*
 * 20,000 draws against the probabilities p [vocab] (0: never). The statistic of f degrees of freedom is above
 * f + 2 sqrt(f x) + 2 x with a probability of at most exp(-x) (Laurent and Massart 2000, lemma 1): x = 9.3 is one in
 * 10,000, and the seed is fixed, so that the test never fails by chance.
 */
static void check_distribution(const char *what, const float *logits, size_t vocab,
                               const mst_sampling *sampling, const double *p) {
    enum { DRAWS = 20000 };
    size_t counts[MOST] = {0}, possible = 0;
    double statistic = 0;
    for (uint64_t i = 0; i < DRAWS; i++)
        counts[drawn(logits, vocab, sampling, mst_random_uniform(sampling->seed, MST_RANDOM_SAMPLE, i, 0))]++;
    for (size_t i = 0; i < vocab; i++) {
        CHECK(p[i] > 0 || counts[i] == 0, "%s: token %zu was drawn %zu times", what, i, counts[i]);
        if (p[i] <= 0) continue;
        possible++;
        statistic += pow((double)counts[i] - DRAWS * p[i], 2) / (DRAWS * p[i]);
    }
    double freedom = (double)possible - 1, bound = freedom + 2 * sqrt(9.3 * freedom) + 2 * 9.3;
    CHECK(statistic <= bound, "%s: chi-square %.1f, at most %.1f", what, statistic, bound);
    printf("%s: chi-square %.1f with %.0f degrees of freedom\n", what, statistic, freedom);
}

static void check_distributions(void) {
    const double weights[] = {0.02, 0.3, 0.08, 0.2, 0.1, 0.25, 0.05};
    enum { VOCAB = sizeof weights / sizeof *weights };
    float logits[VOCAB];
    double p[VOCAB], total = 0;
    for (size_t i = 0; i < VOCAB; i++) logits[i] = (float)log(weights[i]) + 7;
    mst_sampling sampling = {.seed = 11, .temperature = 1, .top_p = 1};
    check_distribution("temperature 1", logits, VOCAB, &sampling, weights);
    sampling.temperature = 2;
    for (size_t i = 0; i < VOCAB; i++) total += sqrt(weights[i]);
    for (size_t i = 0; i < VOCAB; i++) p[i] = sqrt(weights[i]) / total;
    check_distribution("temperature 2", logits, VOCAB, &sampling, p);
    sampling = (mst_sampling){.seed = 12, .temperature = 1, .top_p = 1, .top_k = 3};
    for (size_t i = 0; i < VOCAB; i++) p[i] = weights[i] >= 0.2 ? weights[i] / 0.75 : 0;
    check_distribution("top-k 3", logits, VOCAB, &sampling, p);
    sampling = (mst_sampling){.seed = 13, .temperature = 1, .top_p = 0.8}; /* 0.3, 0.25, 0.2 and 0.1 */
    for (size_t i = 0; i < VOCAB; i++) p[i] = weights[i] >= 0.1 ? weights[i] / 0.85 : 0;
    check_distribution("top-p 0.8", logits, VOCAB, &sampling, p);
}

/* ---- text as it comes ---- */

typedef struct page {
    uint8_t bytes[4096];
    size_t count, writes;
    bool broken; /* the next write fails */
} page;

static mst_status put(void *context, const uint8_t *bytes, size_t count) {
    page *p = context;
    if (p->broken) return mst_error(MST_EIO, "the page is full");
    memcpy(p->bytes + p->count, bytes, count);
    p->count += count;
    p->writes++;
    return MST_OK;
}

static void check_page(const page *p, const char *wanted, const char *when) {
    CHECK(p->count == strlen(wanted) && memcmp(p->bytes, wanted, p->count) == 0, "%s: '%.*s', not '%s'", when,
          (int)p->count, (const char *)p->bytes, wanted);
}

/* Pushes a text and says whether it stopped. */
static bool push(mst_text_stream *stream, const char *text) {
    bool stopped = false;
    CHECK_OK(mst_text_stream_push(stream, (const uint8_t *)text, strlen(text), &stopped));
    return stopped;
}

static mst_text_stream *stream_of(const char *const *stops, size_t count, page *p) {
    mst_text_stream *stream = NULL;
    *p = (page){0};
    CHECK_OK(mst_text_stream_create(stops, count, put, p, &stream));
    return stream;
}

static void check_stops(void) {
    page p;
    const char *const stops[] = {"\n\n", "END", "NDX"};
    mst_text_stream *s = stream_of(stops, 3, &p);
    CHECK(!push(s, "one E"), "stopped");
    check_page(&p, "one ", "an E may begin a stop text");
    CHECK(!push(s, "N"), "stopped");
    check_page(&p, "one ", "EN may, too");
    CHECK(!push(s, "ergy\n"), "stopped");
    check_page(&p, "one ENergy", "a newline may begin a stop text");
    CHECK(!push(s, "two"), "stopped");
    check_page(&p, "one ENergy\ntwo", "not the newline");
    CHECK(push(s, ".\n\nthree"), "not stopped by two newlines");
    CHECK_OK(mst_text_stream_end(s, false));
    check_page(&p, "one ENergy\ntwo.", "stopped");
    mst_text_stream_destroy(&s);
    CHECK(s == NULL, "not reset");

    s = stream_of(stops, 3,
                  &p); /* the one that is complete first counts, and what may begin one is written at last */
    CHECK(push(s, "aENDX"), "not stopped");
    CHECK_OK(mst_text_stream_end(s, false));
    check_page(&p, "a", "the first complete stop");
    mst_text_stream_destroy(&s);
    s = stream_of(stops, 3, &p);
    CHECK(!push(s, "aEN"), "stopped");
    CHECK_OK(mst_text_stream_end(s, false));
    check_page(&p, "aEN", "half a stop text at the end");
    mst_text_stream_destroy(&s);
    const char *const empty[] = {"x", ""};
    CHECK_STATUS(mst_text_stream_create(empty, 2, put, &p, &s), MST_ECONFIG);
    CHECK(s == NULL, "a refused stream was created");
    s = stream_of(NULL, 0, &p);
    p.broken = true;
    bool stopped;
    CHECK_STATUS(mst_text_stream_push(s, (const uint8_t *)"x", 1, &stopped), MST_EIO);
    mst_text_stream_destroy(&s);
}

static void check_characters(void) {
    /* Text, how much of it is written after each byte, and how it ends on a terminal. */
    static const struct {
        const char *text, *written, *terminal;
    } cases[] = {
        {"a\xc3\xa4z", "1134", "a\xc3\xa4z"},
        {"\xe2\x82\xac", "003", "\xe2\x82\xac"},
        {"\xf0\x9f\x98\x80!", "00045", "\xf0\x9f\x98\x80!"},
        {"a\xf0\x9f\x98", "1111", "a\xef\xbf\xbd"},
        {"\xe2\x82", "00", "\xef\xbf\xbd"},
        {"\xe2(", "02", "\xe2("},                         /* begins none after all */
        {"\xe2\xe2\x82\xac", "0114", "\xe2\xe2\x82\xac"}, /* nor does the first here */
        {"\x80\xff\xc0\xf5", "1234", "\x80\xff\xc0\xf5"}, /* bytes that begin none */
        {"\xed\xa0\x80", "023", "\xed\xa0\x80"},          /* a surrogate */
        {"\xe0\x9f\xbf", "023", "\xe0\x9f\xbf"},          /* overlong */
        {"\xf4\x90\x80\x80", "0234", "\xf4\x90\x80\x80"}, /* beyond 10FFFF */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int terminal = 0; terminal < 2; terminal++) {
            page p;
            mst_text_stream *s = stream_of(NULL, 0, &p);
            for (size_t b = 0; cases[i].text[b] != '\0'; b++) {
                bool stopped = true;
                CHECK_OK(mst_text_stream_push(s, (const uint8_t *)cases[i].text + b, 1, &stopped));
                CHECK(!stopped && p.count == (size_t)(cases[i].written[b] - '0'),
                      "case %zu: %zu bytes after %zu", i, p.count, b + 1);
            }
            CHECK_OK(mst_text_stream_end(s, terminal));
            check_page(&p, terminal ? cases[i].terminal : cases[i].text, "at the end");
            mst_text_stream_destroy(&s);
        }
    }
}

/* Where the first complete stop text begins in a text, by looking at all of it. */
static size_t cut_of(const char *text, const char *const *stops, size_t count) {
    size_t length = strlen(text);
    for (size_t end = 1; end <= length; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < count; i++) {
            size_t n = strlen(stops[i]);
            if (n <= end && n > longest && memcmp(text + end - n, stops[i], n) == 0) longest = n;
        }
        if (longest > 0) return end - longest;
    }
    return length;
}

/* However a text is cut into pieces, the same comes out, character by character. */
static void check_pieces(void) {
    static const char *const letters[] = {"a", "b", "ab", "\xc3\xa4", "\xf0\x9f\x98\x80", "\xe2\x82\xac"};
    static const char *const stops[] = {"abab", "b\xc3\xa4", "\xe2\x82\xac\xe2\x82\xac", "baab"};
    for (uint64_t trial = 0; trial < 3000; trial++) {
        char text[256] = "";
        size_t length = 0;
        for (uint64_t i = 0; i < 30; i++) {
            const char *letter =
                letters[(size_t)(6 * mst_random_uniform(seed, MST_RANDOM_TEST, 5000 + trial, i))];
            length += (size_t)snprintf(text + length, sizeof text - length, "%s", letter);
        }
        page p;
        mst_text_stream *s = stream_of(stops, 4, &p);
        size_t cut = cut_of(text, stops, 4);
        bool stopped = false;
        for (size_t at = 0, n; at < length && !stopped; at += n) {
            n = 1 + (size_t)(5 * mst_random_uniform(seed, MST_RANDOM_TEST, 9000 + trial, at));
            if (n > length - at) n = length - at;
            CHECK_OK(mst_text_stream_push(s, (const uint8_t *)text + at, n, &stopped));
            CHECK(p.count <= cut, "a part of a stop text is written");
            CHECK(p.count == length || (text[p.count] & 0xc0) != 0x80, "half a character is written");
        }
        CHECK(stopped == (cut < length), "stopped: %d", stopped);
        CHECK_OK(mst_text_stream_end(s, true));
        CHECK(p.count == cut && memcmp(p.bytes, text, cut) == 0, "trial %d: %zu bytes of '%s', not %zu",
              (int)trial, p.count, text, cut);
        mst_text_stream_destroy(&s);
    }
}

int main(void) {
    printf("seed %llu\n", (unsigned long long)seed);
    check_greedy();
    check_refused();
    check_impossible();
    check_cuts();
    check_against_sort();
    check_distributions();
    check_stops();
    check_characters();
    check_pieces();
    return test_finish("test_sampling");
}
