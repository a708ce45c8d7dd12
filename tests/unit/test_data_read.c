/* Reading token files: samples, loss masks, 32-bit tokens, and files that lie about themselves. */
#include "data_fixture.h"
#include "muster/digest.h"

/* ---- token files made by hand, from the description in docs/data-format.md: no HDF5 in them ---- */

typedef struct hand_file {
    const char *version, *vocab, *train_offset, *train_count, *documents_count, *mask,
        *type;                                  /* JSON texts; NULL: right ones */
    uint32_t token_bytes, tokens, bad_token_at; /* bad_token_at 0: none */
    size_t cut;                                 /* bytes missing at the end */
} hand_file;

enum {
    HAND_TOKENS = 21,
    HAND_DATA = 4096,
    HAND_MASK = 6000,
    HAND_HELD = 7000,
    HAND_DOCUMENTS = 8000,
    HAND_END = 8192
};
static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";

static const char *or_else(const char *text, const char *otherwise) {
    return text != NULL ? text : otherwise;
}

static void put_hand_file(const char *path, hand_file h) {
    char json[3000], hex[MST_DIGEST_HEX], line[256];
    static uint8_t file[HAND_END];
    memset(file, 0, sizeof file);
    const char *type = or_else(h.type, h.token_bytes == 4 ? "uint32" : "uint16");
    int length = snprintf(
        json, sizeof json,
        "{\"version\": %s, \"vocab_size\": %s, \"tokenizer\": {\"sha256\": \"%s\"}, \"splits\": {"
        "\"train\": {\"tokens\": {\"type\": \"%s\", \"count\": %s, \"offset\": %s, \"sha256\": \"%s\"},"
        " \"documents\": {\"type\": \"uint64\", \"count\": %s, \"offset\": %d, \"sha256\": \"%s\"}, "
        "\"loss_mask\": %s},"
        "\"heldout\": {\"tokens\": {\"type\": \"%s\", \"count\": 9, \"offset\": %d, \"sha256\": \"%s\"},"
        " \"documents\": {\"type\": \"uint64\", \"count\": 2, \"offset\": %d, \"sha256\": \"%s\"}, "
        "\"loss_mask\": null}}}",
        or_else(h.version, "1"), or_else(h.vocab, h.token_bytes == 4 ? "70000" : "258"), zeros, type,
        or_else(h.train_count, "21"), or_else(h.train_offset, "4096"), zeros, or_else(h.documents_count, "2"),
        HAND_DOCUMENTS, zeros, or_else(h.mask, "null"), type, HAND_HELD, zeros, HAND_DOCUMENTS, zeros);
    mst_digest digest;
    CHECK_OK(mst_digest_of(json, (size_t)length, &digest));
    mst_digest_to_hex(&digest, hex);
    int used = snprintf(line, sizeof line, "muster tokens 1, index of %012d bytes, sha256 %s\n", length, hex);
    memcpy(file, line, (size_t)used);
    memcpy(file + used, json, (size_t)length);
    for (uint32_t i = 0; i < HAND_TOKENS; i++) {
        uint32_t token = h.bad_token_at == i && i > 0 ? 258 : h.token_bytes == 4 ? 69000 + i : 100 + i;
        memcpy(file + HAND_DATA + (size_t)i * h.token_bytes, &token, h.token_bytes);
        file[HAND_MASK + i] = i % 3 != 0;
    }
    put_bytes(path, file, sizeof file - h.cut);
}

static void test_hand_files(void) {
    int32_t tokens[10], targets[10];
    mst_sample_place place;
    const char *mask = "{\"type\": \"uint8\", \"count\": 21, \"offset\": 6000, \"sha256\": "
                       "\"0000000000000000000000000000000000000000000000000000000000000000\"}";
    for (uint32_t token_bytes = 2; token_bytes <= 4; token_bytes += 2)
        for (int masked = 0; masked < 2; masked++) {
            put_hand_file("hand.h5", (hand_file){.token_bytes = token_bytes, .mask = masked ? mask : NULL});
            mst_data *data = open_one("hand.h5", 10, 3);
            CHECK(mst_data_samples(data, MST_SPLIT_TRAIN) == 2 &&
                      mst_data_tokens(data, MST_SPLIT_TRAIN) == 21,
                  "sizes");
            CHECK(mst_data_vocab(data) == (token_bytes == 4 ? 70000 : 258), "vocabulary");
            for (uint64_t i = 0; i < 4; i++) {
                CHECK_OK(mst_data_locate(data, MST_SPLIT_TRAIN, i, &place));
                CHECK_OK(mst_data_read(data, MST_SPLIT_TRAIN, i, 1, tokens, targets, NULL));
                CHECK(place.first_token % 10 == 0 && place.epoch == i / 2 &&
                          strcmp(place.path, "hand.h5") == 0,
                      "place");
                for (int t = 0; t < 10; t++) {
                    int32_t position = (int32_t)place.first_token + t, base = token_bytes == 4 ? 69000 : 100;
                    int32_t wanted = masked && (position + 1) % 3 == 0 ? -1 : base + position + 1;
                    CHECK(tokens[t] == base + position, "token %d is %d", position, tokens[t]);
                    CHECK(targets[t] == wanted, "target %d is %d, not %d", position, targets[t], wanted);
                }
            }
            mst_data_close(&data);
        }
}

/* Windows cover a split whole, in file order: the last one is short. */
static void test_windows(void) {
    enum { SEQ = 7, WINDOWS = 3 };
    int32_t tokens[WINDOWS * SEQ], targets[WINDOWS * SEQ];
    put_hand_file("hand.h5", (hand_file){.token_bytes = 2});
    const mst_source_config sources[] = {{"hand.h5", 1, NULL}, {"hand.h5", 5, NULL}};
    for (size_t count = 1; count <= 2; count++) {
        const mst_data_config config = {.sources = sources, .source_count = count, .seq_len = SEQ, .seed = 3};
        mst_data *data = NULL;
        CHECK_OK(mst_data_open(&config, &data));
        CHECK(mst_data_windows(data, MST_SPLIT_TRAIN) == count * WINDOWS, "windows");
        CHECK(mst_data_windows(data, MST_SPLIT_HELDOUT) == count * 2, "held-out windows");
        for (uint64_t source = 0; source < count; source++) {
            CHECK_OK(mst_data_read_windows(data, MST_SPLIT_TRAIN, source * WINDOWS, WINDOWS, tokens, targets,
                                           NULL));
            for (int t = 0; t < WINDOWS * SEQ;
                 t++) { /* 21 tokens: 20 of them are targets, and one place is left */
                CHECK(tokens[t] == (t < 20 ? 100 + t : 0), "token %d is %d", t, tokens[t]);
                CHECK(targets[t] == (t < 20 ? 101 + t : -1), "target %d is %d", t, targets[t]);
            }
        }
        CHECK_STATUS(mst_data_read_windows(data, MST_SPLIT_TRAIN, count * WINDOWS, 1, tokens, targets, NULL),
                     MST_EINVAL);
        CHECK_OK(mst_data_read_windows(data, MST_SPLIT_HELDOUT, 1, 1, tokens, targets,
                                       NULL)); /* 9 tokens: 7 and 1 */
        for (int t = 0; t < SEQ; t++) CHECK(targets[t] == (t < 1 ? 0 : -1), "held-out target %d", targets[t]);
        mst_data_close(&data);
    }
    put_hand_file("hand.h5", (hand_file){.token_bytes = 2, .bad_token_at = 18});
    mst_data *data = open_one("hand.h5", SEQ, 3);
    CHECK_OK(mst_data_read_windows(data, MST_SPLIT_TRAIN, 0, 2, tokens, targets, NULL));
    CHECK_STATUS(mst_data_read_windows(data, MST_SPLIT_TRAIN, 2, 1, tokens, targets, NULL), MST_EFORMAT);
    mst_data_close(&data);
}

static void expect_refused(const char *path, mst_status wanted, const char *word) {
    mst_data *data = NULL;
    mst_source_config source = {path, 1, NULL};
    CHECK_STATUS(
        mst_data_open(&(mst_data_config){.sources = &source, .source_count = 1, .seq_len = 4, .seed = 0},
                      &data),
        wanted);
    CHECK(data == NULL && message_has(path, word, NULL), "%s (expected '%s')", mst_error_message(), word);
}

static void test_lies(void) {
    static const struct {
        hand_file file;
        mst_status status;
        const char *word;
    } cases[] = {
        {{.version = "2"}, MST_EUNSUPPORTED, "version is 2"},
        {{.version = "\"1\""}, MST_EFORMAT, "version"},
        {{.version = "1, \"version\": 1"}, MST_EFORMAT, "not JSON"},
        {{.vocab = "0"}, MST_EFORMAT, "vocab_size"},
        {{.vocab = "-1"}, MST_EFORMAT, "vocab_size is -1"},
        {{.vocab = "4294967296"}, MST_EFORMAT, "vocab_size is 4294967296"},
        {{.vocab = "65537"}, MST_EFORMAT, "uint16"},
        {{.type = "float16"}, MST_EFORMAT, "float16"},
        {{.train_offset = "8193"}, MST_EFORMAT, "train.tokens.offset is 8193"},
        {{.train_offset = "-4096"}, MST_EFORMAT, "train.tokens.offset"},
        {{.train_offset = "1e3"}, MST_EFORMAT, "train.tokens.offset"},
        {{.train_offset = "9223372036854775807"}, MST_EFORMAT, "train.tokens.offset"},
        {{.train_offset = "99999999999999999999999"}, MST_EFORMAT, "not JSON"},
        {{.train_count = "2049"}, MST_EFORMAT, "train.tokens.count is 2049"},
        {{.train_count = "9223372036854775807"}, MST_EFORMAT, "train.tokens.count"},
        {{.train_count = "-1"}, MST_EFORMAT, "train.tokens.count"},
        {{.documents_count = "0"}, MST_EFORMAT, "documents.count"},
        {{.documents_count = "1152921504606846976"}, MST_EFORMAT, "documents.count"},
        {{.mask = "7"}, MST_EFORMAT, "loss_mask"},
        {{.mask = "{\"type\": \"uint8\", \"count\": 20, \"offset\": 6000, \"sha256\": \"00\"}"},
         MST_EFORMAT,
         "loss_mask"},
        {{.train_count = "4"}, MST_ECONFIG, "at least 5"},
        {{.train_count = "0"}, MST_ECONFIG, "at least 5"},
        {{.cut = 5000}, MST_EFORMAT, "train.tokens"},
        {{.cut = HAND_END - 400}, MST_EFORMAT, "ends inside its index"},
        {{.cut = HAND_END - 100}, MST_EFORMAT, "not a token file"},
        {{.cut = HAND_END}, MST_EFORMAT, "not a token file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hand_file file = cases[i].file;
        file.token_bytes = 2;
        put_hand_file("lie.h5", file);
        expect_refused("lie.h5", cases[i].status, cases[i].word);
    }
    put_hand_file("lie.h5", (hand_file){.token_bytes = 2});
    size_t count;
    uint8_t *bytes = get_bytes("lie.h5", &count);
    bytes[200] ^= 1;
    put_bytes("lie.h5", bytes, count);
    expect_refused("lie.h5", MST_EFORMAT, "SHA-256");
    bytes[200] ^= 1;
    bytes[30] = 'x';
    put_bytes("lie.h5", bytes, count);
    expect_refused("lie.h5", MST_EFORMAT, "first line");
    memcpy(bytes, "muster tokens 2", 15);
    put_bytes("lie.h5", bytes, count);
    expect_refused("lie.h5", MST_EUNSUPPORTED, "version");
    free(bytes);
    put_text("lie.h5", "\x89HDF\r\n\x1a\n and more, but no index: a file of another program, long enough to "
                       "have a first line"
                       " of the length that muster's own files have");
    expect_refused("lie.h5", MST_EFORMAT, "not a token file");
    expect_refused("missing.h5", MST_EIO, "No such file");
    expect_refused(".", MST_EIO, "regular file");
}

static void test_bad_contents(void) {
    int32_t tokens[20], targets[20];
    put_hand_file("bad.h5", (hand_file){.token_bytes = 2, .bad_token_at = 15});
    mst_data *data = open_one("bad.h5", 20, 0);
    CHECK_STATUS(mst_data_read(data, MST_SPLIT_TRAIN, 0, 1, tokens, targets, NULL), MST_EFORMAT);
    CHECK(message_has("bad.h5", "token 258", "position 15", NULL), "%s", mst_error_message());
    mst_digest digest;
    CHECK_STATUS(mst_data_verify("bad.h5", &digest), MST_EFORMAT);
    /* The file shrinks while it is open. */
    CHECK(truncate("bad.h5", 4100) == 0, "truncate");
    CHECK_STATUS(mst_data_read(data, MST_SPLIT_TRAIN, 0, 1, tokens, targets, NULL), MST_EFORMAT);
    CHECK(message_has("bad.h5", "ends at byte 4100", NULL), "%s", mst_error_message());
    mst_data_close(&data);
}

/* ---- built files ---- */

static void test_built(void) {
    mst_build_report report;
    enum { LENGTH = 5 };
    int32_t tokens[3 * LENGTH], targets[3 * LENGTH], one[LENGTH], one_target[LENGTH];
    put_text("a.txt", "abcdefghijklmnopqrstuvwxyz");
    put_text("b.txt", "0123456789");
    CHECK_OK(build((mst_build_options){.output = "a.h5"}, &report, "a.txt", NULL));
    CHECK_OK(build((mst_build_options){.output = "b.h5"}, &report, "b.txt", NULL));
    mst_source_config sources[] = {{"a.h5", 1, NULL}, {"b.h5", 1, NULL}};
    mst_data *data = NULL;
    CHECK_OK(mst_data_open(
        &(mst_data_config){.sources = sources, .source_count = 2, .seq_len = LENGTH, .seed = 1}, &data));
    CHECK(mst_data_samples(data, MST_SPLIT_TRAIN) == 5 + 2, "26 + 1 and 10 + 1 tokens: 5 and 2 samples");
    CHECK(mst_data_vocab(data) == MST_BYTE_VOCAB, "vocabulary");
    /* Several at once are the same as one by one. */
    for (uint64_t i = 0; i < 30; i += 3) {
        CHECK_OK(mst_data_read(data, MST_SPLIT_TRAIN, i, 3, tokens, targets, NULL));
        for (uint64_t j = 0; j < 3; j++) {
            mst_sample_place place;
            CHECK_OK(mst_data_locate(data, MST_SPLIT_TRAIN, i + j, &place));
            CHECK_OK(mst_data_read(data, MST_SPLIT_TRAIN, i + j, 1, one, one_target, NULL));
            CHECK(memcmp(one, tokens + j * LENGTH, sizeof one) == 0 &&
                      memcmp(one_target, targets + j * LENGTH, sizeof one) == 0,
                  "sample %llu", (unsigned long long)(i + j));
            int32_t base = place.path[0] == 'a' ? 'a' : '0';
            CHECK(one[0] == base + (int32_t)place.first_token, "first token");
            for (int t = 0; t + 1 < LENGTH; t++) CHECK(one_target[t] == one[t + 1], "target %d", t);
        }
    }
    mst_data_close(&data);
    mst_data_close(&data); /* NULL is fine */

    /* Held-out: source by source, in file order. */
    put_hand_file("h.h5", (hand_file){.token_bytes = 2});
    mst_source_config two[] = {{"h.h5", 1, NULL}, {"h.h5", 1, NULL}};
    CHECK_OK(
        mst_data_open(&(mst_data_config){.sources = two, .source_count = 2, .seq_len = 4, .seed = 1}, &data));
    CHECK(mst_data_samples(data, MST_SPLIT_HELDOUT) == 4, "2 samples of 9 tokens, twice");
    for (uint64_t i = 0; i < 4; i++) {
        mst_sample_place place;
        CHECK_OK(mst_data_locate(data, MST_SPLIT_HELDOUT, i, &place));
        CHECK(place.first_token == i % 2 * 4 && place.epoch == 0, "held-out sample %llu",
              (unsigned long long)i);
    }
    CHECK_STATUS(mst_data_read(data, MST_SPLIT_HELDOUT, 3, 2, tokens, targets, NULL), MST_EINVAL);
    mst_data_close(&data);
}

static void test_config(void) {
    mst_data *data = NULL;
    mst_source_config mixed[] = {{"a.h5", 1, NULL}, {"wide.h5", 1, NULL}}, wrong[] = {{"a.h5", 0, NULL}};
    put_hand_file("wide.h5", (hand_file){.token_bytes = 4});
    CHECK_STATUS(mst_data_open(
                     &(mst_data_config){.sources = mixed, .source_count = 2, .seq_len = 4, .seed = 0}, &data),
                 MST_ECONFIG);
    CHECK(message_has("a.h5", "wide.h5", "tokenizers", NULL), "%s", mst_error_message());
    CHECK_STATUS(mst_data_open(
                     &(mst_data_config){.sources = wrong, .source_count = 1, .seq_len = 4, .seed = 0}, &data),
                 MST_ECONFIG);
    CHECK_STATUS(mst_data_open(
                     &(mst_data_config){.sources = mixed, .source_count = 0, .seq_len = 4, .seed = 0}, &data),
                 MST_ECONFIG);
    CHECK_STATUS(mst_data_open(
                     &(mst_data_config){.sources = mixed, .source_count = 1, .seq_len = 0, .seed = 0}, &data),
                 MST_ECONFIG);
    CHECK_STATUS(
        mst_data_open(&(mst_data_config){.sources = mixed, .source_count = 1, .seq_len = SIZE_MAX, .seed = 0},
                      &data),
        MST_ECONFIG);
    CHECK_STATUS(
        mst_data_open(&(mst_data_config){.sources = mixed, .source_count = 1, .seq_len = 27, .seed = 0},
                      &data),
        MST_ECONFIG);
    CHECK(message_has("a.h5", "27 training tokens", "at least 28", NULL), "%s", mst_error_message());
}

static void test_bytes(void) {
    const uint8_t bytes[] = {0, 'a', 255, 128};
    int32_t tokens[4];
    mst_bytes_encode(bytes, 4, tokens);
    CHECK(tokens[0] == 0 && tokens[1] == 'a' && tokens[2] == 255 && tokens[3] == 128, "encode");
}

int main(void) {
    scratch_enter();
    test_hand_files();
    test_windows();
    test_lies();
    test_bad_contents();
    test_built();
    test_config();
    test_bytes();
    scratch_leave();
    return test_finish("data read");
}
