/* The order of samples: shares, epochs, and that it is a pure function of its arguments. */
#include "data_fixture.h"
#include "order.h"

static void test_slots(void) {
    uint32_t first[ORDER_SLOTS + 2];
    mst_source_config thirds[] = {{"a", 1, NULL}, {"b", 1, NULL}, {"c", 1, NULL}};
    CHECK_OK(order_deal_slots(thirds, 3, first));
    CHECK(first[0] == 0 && first[1] == 1366 && first[2] == 2731 && first[3] == 4096, "%u %u %u", first[1],
          first[2], first[3]);
    mst_source_config tiny[] = {{"a", 1e-9, NULL}, {"b", 1, NULL}, {"c", 1e-300, NULL}};
    CHECK_OK(order_deal_slots(tiny, 3, first));
    CHECK(first[1] == 1 && first[2] == 4095 && first[3] == 4096, "at least one slot each: %u %u", first[1],
          first[2]);
    mst_source_config exact[] = {{"a", 3, NULL}, {"b", 1, NULL}, {"c", 12, NULL}};
    CHECK_OK(order_deal_slots(exact, 3, first));
    CHECK(first[1] == 768 && first[2] == 1024 && first[3] == 4096, "%u %u", first[1], first[2]);

    mst_source_config *many = calloc(ORDER_SLOTS + 1, sizeof *many);
    for (int i = 0; i <= ORDER_SLOTS; i++)
        many[i] = (mst_source_config){.path = "m", .weight = i == 0 ? 1000 : 1};
    CHECK_OK(order_deal_slots(many, ORDER_SLOTS, first));
    for (int i = 0; i < ORDER_SLOTS; i++) CHECK(first[i + 1] == first[i] + 1, "source %d", i);
    CHECK_STATUS(order_deal_slots(many, ORDER_SLOTS + 1, first), MST_ECONFIG);
    free(many);

    const double bad[] = {0, -1, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < 4; i++) {
        mst_source_config sources[] = {{"good", 1, NULL}, {"wrong", bad[i], NULL}};
        CHECK_STATUS(order_deal_slots(sources, 2, first), MST_ECONFIG);
        CHECK(message_has("wrong", NULL), "%s", mst_error_message());
    }
    mst_source_config huge[] = {{"a", 1e308, NULL}, {"b", 1e308, NULL}};
    CHECK_STATUS(order_deal_slots(huge, 2, first), MST_ECONFIG);
}

/* One source: every epoch has each sample exactly once, and epochs differ. */
static void test_epochs(uint64_t size) {
    const uint32_t first[] = {0, ORDER_SLOTS};
    uint8_t *seen = calloc((size_t)size, 1);
    uint64_t in_place = 0, repeated = 0;
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        memset(seen, 0, (size_t)size);
        for (uint64_t i = 0; i < size; i++) {
            order_place place = order_find(5, first, &size, 1, epoch * size + i);
            CHECK(place.epoch == epoch && place.index < size && !seen[place.index],
                  "size %llu, epoch %llu, sample %llu", (unsigned long long)size, (unsigned long long)epoch,
                  (unsigned long long)i);
            seen[place.index] = 1;
            in_place += place.index == i;
            repeated += place.index == order_find(5, first, &size, 1, i).index && epoch > 0;
        }
    }
    /* A random permutation leaves one sample in place on average, whatever its size. */
    if (size >= 100)
        CHECK(in_place < 30 && repeated < 20, "size %llu: %llu in place, %llu as in epoch 0",
              (unsigned long long)size, (unsigned long long)in_place, (unsigned long long)repeated);
    free(seen);
}

/* Several sources: exact shares in each block, and every source's samples come once per epoch. */
static void test_mix(void) {
    enum { BLOCKS = 6 };
    mst_source_config sources[] = {{"a", 0.7, NULL}, {"b", 0.25, NULL}, {"c", 0.05, NULL}};
    const uint64_t samples[] = {1000, 5000, 7};
    uint32_t first[4];
    CHECK_OK(order_deal_slots(sources, 3, first));
    uint32_t *seen[3];
    for (int s = 0; s < 3; s++) seen[s] = calloc(samples[s], sizeof **seen);
    uint64_t runs = 0;
    size_t former = 0;
    for (uint64_t block = 0; block < BLOCKS; block++) {
        uint32_t count[3] = {0};
        for (uint64_t i = 0; i < ORDER_SLOTS; i++) {
            order_place place = order_find(9, first, samples, 3, block * ORDER_SLOTS + i);
            CHECK(place.source < 3 && place.index < samples[place.source], "a place inside its source");
            count[place.source]++;
            seen[place.source][place.index]++;
            runs += place.source != former;
            former = place.source;
        }
        for (int s = 0; s < 3; s++)
            CHECK(count[s] == first[s + 1] - first[s], "block %llu: %u samples of source %d",
                  (unsigned long long)block, count[s], s);
    }
    for (int s = 0; s < 3; s++) {
        uint64_t drawn = (uint64_t)BLOCKS * (first[s + 1] - first[s]), whole = drawn / samples[s];
        for (uint64_t i = 0; i < samples[s]; i++)
            CHECK(seen[s][i] == whole || seen[s][i] == whole + 1,
                  "source %d, sample %llu: %u times in %llu draws of %llu", s, (unsigned long long)i,
                  seen[s][i], (unsigned long long)drawn, (unsigned long long)samples[s]);
        free(seen[s]);
    }
    /* Two neighbours differ with probability 1 - sum of squared shares = 0.445: about 10,900 of 24,576. */
    CHECK(runs > 10000 && runs < 12000, "sources are interleaved: %llu changes", (unsigned long long)runs);
}

/* The same seed and contents give the same digest and samples; anything else gives another digest. */
static void test_digest(void) {
    mst_build_report report;
    mst_digest digests[6];
    char text[4096];
    for (size_t i = 0; i < sizeof text - 1; i++) text[i] = (char)('a' + (i * 7 + i / 26) % 26);
    text[sizeof text - 1] = '\0';
    put_text("a.txt", text);
    put_text("b.txt", text + 1);
    CHECK_OK(build((mst_build_options){.output = "a.h5"}, &report, "a.txt", NULL));
    CHECK_OK(build((mst_build_options){.output = "a2.h5"}, &report, "a.txt", NULL));
    CHECK_OK(build((mst_build_options){.output = "b.h5"}, &report, "b.txt", NULL));
    static const struct {
        const char *first, *second;
        double weight;
        size_t seq_len;
        uint64_t seed;
    } cases[] = {
        {"a.h5", "b.h5", 1, 64, 1}, {"a2.h5", "b.h5", 1, 64, 1}, {"b.h5", "a.h5", 1, 64, 1},
        {"a.h5", "b.h5", 2, 64, 1}, {"a.h5", "b.h5", 1, 65, 1},  {"a.h5", "b.h5", 1, 64, 2},
    };
    for (size_t i = 0; i < 6; i++) {
        mst_data *data = NULL;
        mst_source_config sources[] = {{cases[i].first, 1, NULL}, {cases[i].second, cases[i].weight, NULL}};
        CHECK_OK(mst_data_open(
            &(mst_data_config){
                .sources = sources, .source_count = 2, .seq_len = cases[i].seq_len, .seed = cases[i].seed},
            &data));
        mst_data_digest(data, &digests[i]);
        mst_data_close(&data);
        for (size_t j = 0; j < i; j++) {
            bool same = memcmp(&digests[i], &digests[j], sizeof digests[i]) == 0;
            CHECK(same == (i == 1 && j == 0), "cases %zu and %zu", i, j);
        }
    }
}

int main(void) {
    scratch_enter();
    test_slots();
    const uint64_t sizes[] = {1, 2, 3, 17, 4096, 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) test_epochs(sizes[i]);
    test_mix();
    test_digest();
    scratch_leave();
    return test_finish("data order");
}
