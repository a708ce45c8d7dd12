/* Token files of other trainers: read as they are, and refused by name where they are not what they say. */
#include "foreign_fixture.h"

enum { COUNT = 23, SEQ = 7, VOCAB = 70000, FIRST = 1000 };

static mst_data_config config_of(const mst_source_config *sources, size_t count) {
    return (mst_data_config){
        .sources = sources, .source_count = count, .seq_len = SEQ, .seed = 3, .vocab_size = VOCAB};
}

static mst_status open_path(const char *path, mst_token_type type, mst_data **data_out) {
    const mst_source_config source = {.path = path, .weight = 1};
    mst_data_config config = config_of(&source, 1);
    config.type = type;
    return mst_data_open(&config, data_out);
}

static mst_digest digest_of(const char *path, mst_token_type type) {
    mst_data *data = NULL;
    mst_digest digest = {{0}};
    CHECK_OK(open_path(path, type, &data));
    if (data != NULL) mst_data_digest(data, &digest);
    mst_data_close(&data);
    return digest;
}

static bool same(mst_digest a, mst_digest b) {
    return memcmp(&a, &b, sizeof a) == 0;
}

/* ---- each kind ---- */

/* The file holds FIRST, FIRST + 1, ... */
static void check_stream(const char *path, mst_token_type type) {
    enum { WINDOWS = (COUNT - 1 + SEQ - 1) / SEQ };
    int32_t tokens[WINDOWS * SEQ], targets[WINDOWS * SEQ];
    mst_data *data = NULL;
    mst_sample_place place;
    mst_data_tokenizer tokenizer;
    CHECK_OK(open_path(path, type, &data));
    if (data == NULL) return;
    CHECK(mst_data_vocab(data) == VOCAB, "vocabulary");
    CHECK(mst_data_tokens(data, MST_SPLIT_TRAIN) == COUNT, "%s: %zu tokens", path,
          (size_t)mst_data_tokens(data, MST_SPLIT_TRAIN));
    CHECK(mst_data_tokens(data, MST_SPLIT_HELDOUT) == 0, "nothing is held out");
    CHECK_OK(mst_data_read_windows(data, MST_SPLIT_TRAIN, 0, WINDOWS, tokens, targets, NULL));
    for (int t = 0; t < COUNT - 1; t++)
        CHECK(tokens[t] == FIRST + t && targets[t] == FIRST + t + 1, "%s: token %d is %d, target %d", path, t,
              tokens[t], targets[t]);
    for (uint64_t i = 0; i < 6; i++) {
        CHECK_OK(mst_data_locate(data, MST_SPLIT_TRAIN, i, &place));
        CHECK_OK(mst_data_read(data, MST_SPLIT_TRAIN, i, 1, tokens, targets, NULL));
        CHECK(tokens[0] == FIRST + (int32_t)place.first_token && targets[SEQ - 1] == tokens[0] + SEQ,
              "sample");
    }
    mst_data_tokenizer_of(data, &tokenizer);
    CHECK(!tokenizer.has_json && !tokenizer.is_bytes && tokenizer.end == -1, "no tokenizer is known");
    CHECK(mst_data_bytes(data, targets, SEQ) == 0, "bytes are not known");
    mst_data_close(&data);
}

static void put_numpy(const char *path, int major, const char *type, size_t size) {
    bytes b = {.count = 0};
    char header[100];
    snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (%d,), }", type, COUNT);
    add_numpy(&b, major, header);
    add_tokens(&b, FIRST, COUNT, size);
    put(path, &b);
}

static void test_numpy(void) {
    static const char *const types[] = {"<u2", "<u4", "<i4", "<u8", "<i8"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (int major = 1; major <= 3; major++) {
            put_numpy("a.npy", major, types[i], (size_t)(types[i][2] - '0'));
            check_stream("a.npy", MST_TOKENS_AUTO);
        }
}

static void put_llmc(const char *path, bool wide) {
    bytes b = {.count = 0};
    add_llmc(&b, wide ? 20240801 : 20240520, wide ? 7 : 1, COUNT);
    add_tokens(&b, FIRST, COUNT, wide ? 4 : 2);
    put(path, &b);
}

static void put_bare(const char *path, size_t size) {
    bytes b = {.count = 0};
    add_tokens(&b, FIRST, COUNT, size);
    put(path, &b);
}

static void put_megatron(const char *index, const char *bin, megatron m) {
    bytes b = {.count = 0};
    add_megatron(&b, &m);
    put(index, &b);
    put_bare(bin, m.token_bytes);
}

static const megatron three = {.sequence_count = 3, .token_bytes = 2, .lengths = {10, 0, 13}};

static void test_kinds(void) {
    for (size_t size = 2; size <= 4; size += 2) {
        put_llmc("l.bin", size == 4);
        check_stream("l.bin", MST_TOKENS_AUTO);
        put_bare("b.bin", size);
        check_stream("b.bin", size == 2 ? MST_TOKENS_UINT16 : MST_TOKENS_UINT32);
    }
    for (size_t size = 2; size <= 8; size *= 2) {
        megatron m = three;
        m.token_bytes = size;
        put_megatron("m.idx", "m.bin", m);
        check_stream("m.idx", MST_TOKENS_AUTO);
        check_stream("m.bin", MST_TOKENS_AUTO);
        check_stream("m", MST_TOKENS_AUTO);
        CHECK(mst_data_is_there("m") && mst_data_is_there("m.bin") && !mst_data_is_there("n"), "is there");
    }
}

/* ---- what names the tokens ---- */

/* Tokens of one type have one digest, whatever file they lie in; others have another. */
static void test_digests(void) {
    put_numpy("a.npy", 1, "<u2", 2);
    put_llmc("l.bin", false);
    put_bare("b.bin", 2);
    put_megatron("m.idx", "m.bin", three);
    const mst_digest digest = digest_of("a.npy", MST_TOKENS_AUTO);
    CHECK(same(digest, digest_of("l.bin", MST_TOKENS_AUTO)), "llm.c");
    CHECK(same(digest, digest_of("m", MST_TOKENS_AUTO)), "Megatron");
    CHECK(same(digest, digest_of("b.bin", MST_TOKENS_UINT16)), "bare");
    put_bare("b.bin", 4);
    CHECK(!same(digest, digest_of("b.bin", MST_TOKENS_UINT32)), "another type");
    bytes b = {.count = 0};
    add_tokens(&b, FIRST, COUNT - 1, 2);
    add_number(&b, FIRST, 2);
    put("b.bin", &b);
    CHECK(!same(digest, digest_of("b.bin", MST_TOKENS_UINT16)), "another last token");
}

/* Of a big file the first MiB, the last, and 1,000 pieces between: docs/data-format.md. */
static void test_sample(void) {
    const size_t edge = 1 << 20, count = 9 * edge, step = (count - 2 * edge - 4096) / 999;
    const size_t seen[] = {
        0, edge - 1, edge, edge + 4095, edge + 500 * step, edge + 999 * step + 4095, count - edge, count - 1};
    uint8_t *big = calloc(1, count);
    put_bytes("big.bin", big, count);
    const mst_digest digest = digest_of("big.bin", MST_TOKENS_UINT16);
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
        big[seen[i]] = 1;
        put_bytes("big.bin", big, count);
        CHECK(!same(digest, digest_of("big.bin", MST_TOKENS_UINT16)), "a change at byte %zu is seen",
              seen[i]);
        big[seen[i]] = 0;
    }
    big[edge + 4096] = 1;
    put_bytes("big.bin", big, count);
    CHECK(same(digest, digest_of("big.bin", MST_TOKENS_UINT16)), "between the pieces nothing is read");
    free(big);
}

/* ---- what is refused ---- */

static void expect_refused(const char *path, mst_token_type type, mst_status wanted, const char *word) {
    mst_data *data = NULL;
    CHECK_STATUS(open_path(path, type, &data), wanted);
    CHECK(data == NULL && message_has(word, NULL), "%s (expected '%s')", mst_error_message(), word);
    mst_data_close(&data);
}

static void test_numpy_refused(void) {
    static const struct {
        const char *header;
        mst_status status;
        const char *word;
    } cases[] = {
        {"{'descr': '>u2', 'fortran_order': False, 'shape': (23,), }", MST_EUNSUPPORTED, "type >u2"},
        {"{'descr': '<i2', 'fortran_order': False, 'shape': (23,), }", MST_EUNSUPPORTED, "type <i2"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (23,), }", MST_EUNSUPPORTED, "type <f4"},
        {"{'descr': '<u2', 'fortran_order': False, 'shape': (1, 23), }", MST_EUNSUPPORTED, "2 dimensions"},
        {"{'descr': '<u2', 'fortran_order': False, 'shape': (), }", MST_EUNSUPPORTED, "0 dimensions"},
        {"{'descr': '<u2', 'fortran_order': True, 'shape': (23,), }", MST_EUNSUPPORTED, "Fortran"},
        {"{'descr': '<u2', 'fortran_order': False, 'shape': (22,), }", MST_EFORMAT, "22 elements"},
        {"{'descr': '<u2', 'fortran_order': False, 'shape': (24,), }", MST_EFORMAT, "24 elements"},
        {"{'descr': '<u2', 'fortran_order': False, 'shape': (9223372036854775831,), }", MST_EFORMAT,
         "elements"},
        {"{'descr': '<u2', 'fortran_order': False, 'shape': (99999999999999999999,), }", MST_EFORMAT,
         "plain array"},
        {"{'descr': '<u2', 'fortran_order': False, 'shape': (-23,), }", MST_EFORMAT, "plain array"},
        {"{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (23,), }", MST_EFORMAT, "plain array"},
        {"{'descr': '<u2', 'descr': '<u2', 'fortran_order': False, 'shape': (23,)}", MST_EFORMAT,
         "plain array"},
        {"{'descr': '<u2', 'shape': (23,), }", MST_EFORMAT, "plain array"},
        {"{'descr': '<u2', 'fortran_order': False, 'shape': (23,), 'more': 1}", MST_EFORMAT, "plain array"},
        {"{'descr': '\033[31m', 'fortran_order': False, 'shape': (23,), }", MST_EFORMAT, "plain array"},
        {"{'descr': '<u2", MST_EFORMAT, "plain array"},
        {"", MST_EFORMAT, "plain array"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes b = {.count = 0};
        add_numpy(&b, 1, cases[i].header);
        add_tokens(&b, FIRST, COUNT, 2);
        put("bad.npy", &b);
        expect_refused("bad.npy", MST_TOKENS_UINT16, cases[i].status, cases[i].word);
    }
    bytes b = {.count = 0};
    add_numpy(&b, 4, "{'descr': '<u2', 'fortran_order': False, 'shape': (23,), }");
    put("bad.npy", &b);
    expect_refused("bad.npy", MST_TOKENS_AUTO, MST_EUNSUPPORTED, "version 4");
    put_bytes("bad.npy", b.at, 11);
    expect_refused("bad.npy", MST_TOKENS_AUTO, MST_EFORMAT, "ends inside its header");
    b.at[6] = 2;
    b.at[11] = 1; /* the highest byte of its length */
    put("bad.npy", &b);
    expect_refused("bad.npy", MST_TOKENS_AUTO, MST_EFORMAT, "would have");
}

static void test_llmc_refused(void) {
    static const struct {
        int32_t magic, version, count;
        mst_status status;
        const char *word;
    } cases[] = {
        {20240520, 2, COUNT, MST_EUNSUPPORTED, "version 2"},
        {20240801, 1, COUNT, MST_EUNSUPPORTED, "version 1"},
        {20240522, 1, COUNT, MST_EUNSUPPORTED, "evaluation"},
        {20240520, 1, COUNT + 1, MST_EFORMAT, "says 24 tokens"},
        {20240520, 1, COUNT - 1, MST_EFORMAT, "says 22 tokens"},
        {20240520, 1, -1, MST_EFORMAT, "says -1 tokens"},
        {20240520, 1, INT32_MAX, MST_EFORMAT, "says 2147483647 tokens"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes b = {.count = 0};
        add_llmc(&b, cases[i].magic, cases[i].version, cases[i].count);
        add_tokens(&b, FIRST, COUNT, 2);
        put("bad.bin", &b);
        expect_refused("bad.bin", MST_TOKENS_UINT16, cases[i].status, cases[i].word);
        put_bytes("bad.bin", b.at, 500);
        expect_refused("bad.bin", MST_TOKENS_AUTO, i < 3 ? MST_EUNSUPPORTED : MST_EFORMAT, "llm.c");
    }
}

static void test_megatron_refused(void) {
    static const struct {
        megatron file;
        mst_status status;
        const char *word;
    } cases[] = {
        {{.magic = "TNTIDX\0\0"}, MST_EFORMAT, "no index of Megatron"},
        {{.version = 2}, MST_EUNSUPPORTED, "version 2"},
        {{.code = 1}, MST_EUNSUPPORTED, "uint8"},
        {{.code = 6}, MST_EUNSUPPORTED, "float64"},
        {{.code = 200}, MST_EUNSUPPORTED, "code 200"},
        {{.code = 4}, MST_EUNSUPPORTED, "overlap"},
        {{.sequences = 4}, MST_EFORMAT, "documents do not fit"},
        {{.sequences = INT64_MAX}, MST_EFORMAT, "sequences do not fit"},
        {{.sequences = 0x1555555555555556}, MST_EFORMAT, "sequences do not fit"}, /* times 12: 8 */
        {{.sequences = -1}, MST_EFORMAT, "sequences do not fit"},
        {{.documents = 5}, MST_EFORMAT, "documents do not fit"},
        {{.documents = 3}, MST_EFORMAT, "8 bytes behind its end"},
        {{.documents = 0x2000000000000004}, MST_EFORMAT, "documents do not fit"}, /* times 8: 32 */
        {{.documents = -1}, MST_EFORMAT, "documents do not fit"},
        {{.modes = true}, MST_EUNSUPPORTED, "multimodal"},
        {{.behind = 1}, MST_EFORMAT, "1 bytes behind its end"},
        {{.lengths = {-1, 11, 13}}, MST_EFORMAT, "-1 tokens"},
        {{.lengths = {INT32_MIN, 11, 13}}, MST_EFORMAT, "-2147483648 tokens"},
        {{.lengths = {10, 0, 14}}, MST_EFORMAT, "lies outside"},
        {{.lengths = {INT32_MAX, 1, 1}}, MST_EFORMAT, "lies outside"},
        {{.lengths = {10, 0, 12}}, MST_EFORMAT, "end at byte 44"},
        {{.pointers = {0, 0, 18}}, MST_EUNSUPPORTED, "overlap"},
        {{.pointers = {2, 0, 0}, .lengths = {9, 0, 13}}, MST_EUNSUPPORTED, "gap"},
        {{.pointers = {0, 0, -2}}, MST_EFORMAT, "lies outside"},
        {{.pointers = {0, 0, INT64_MAX}}, MST_EFORMAT, "lies outside"},
        {{.pointers = {0, 0, INT64_MIN}}, MST_EFORMAT, "lies outside"},
        {{.bounds = {1, 0, 0, 0}}, MST_EFORMAT, "document 0"},
        {{.bounds = {0, 2, 1, 0}}, MST_EFORMAT, "document 2"},
        {{.bounds = {0, -1, 0, 0}}, MST_EFORMAT, "document 1"},
        {{.bounds = {0, 4, 0, 0}}, MST_EFORMAT, "document 1"},
        {{.bounds = {0, 0, 0, 2}}, MST_EFORMAT, "end at sequence 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        megatron m = cases[i].file;
        const bool lengths = m.lengths[0] != 0;
        m.sequence_count = three.sequence_count;
        m.token_bytes = three.token_bytes;
        if (!lengths) memcpy(m.lengths, three.lengths, sizeof m.lengths);
        put_megatron("bad.idx", "bad.bin", m);
        expect_refused("bad", MST_TOKENS_UINT16, cases[i].status, cases[i].word);
    }
    put_megatron("bad.idx", "bad.bin", three);
    for (off_t size = 85; size >= 0; size -= 17) {
        CHECK(truncate("bad.idx", size) == 0, "truncate");
        mst_data *data = NULL;
        CHECK_STATUS(open_path("bad.bin", MST_TOKENS_AUTO, &data), MST_EFORMAT);
    }
    put_megatron("bad.idx", "bad.bin", three);
    CHECK(rename("bad.idx", "bad.index") == 0, "rename");
    expect_refused("bad.index", MST_TOKENS_UINT16, MST_EFORMAT, "not named .idx");
    expect_refused("bad.bin", MST_TOKENS_AUTO, MST_EFORMAT, "data.dtype");
    CHECK(rename("bad.index", "lone.idx") == 0, "rename");
    expect_refused("lone", MST_TOKENS_AUTO, MST_EIO, "lone.bin");
}

static void test_bare_refused(void) {
    static const struct {
        const char *text;
        size_t count;
        const char *word;
    } others[] = {
        {"\x89HDF\r\n\x1a\n1234", 12, "HDF5"}, {"PAR1PAR1", 8, "Parquet"},
        {"PK\x03\x04.npz", 8, ".npz"},         {"\x28\xb5\x2f\xfd....", 8, "zstd"},
        {"\x1f\x8b\x08\x00....", 8, "gzip"},   {"TNTIDX\0\0", 8, "fairseq"},
    };
    put_bare("b.bin", 2);
    expect_refused("b.bin", MST_TOKENS_AUTO, MST_EFORMAT, "set data.dtype to uint16 or uint32");
    put_bytes("b.bin", "123", 3);
    expect_refused("b.bin", MST_TOKENS_UINT16, MST_EFORMAT, "3 bytes, which is no multiple of the 2");
    put_bytes("b.bin", "123456", 6);
    expect_refused("b.bin", MST_TOKENS_UINT32, MST_EFORMAT, "6 bytes, which is no multiple of the 4");
    put_bytes("b.bin", "", 0);
    expect_refused("b.bin", MST_TOKENS_UINT16, MST_ECONFIG, "0 training tokens");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        put_bytes("other", others[i].text, others[i].count);
        expect_refused("other", MST_TOKENS_UINT16, MST_EFORMAT, others[i].word);
    }
    expect_refused("missing.bin", MST_TOKENS_UINT16, MST_EIO, "No such file");
    expect_refused(".", MST_TOKENS_UINT16, MST_EIO, "regular file");
}

static void test_tokens_outside(void) {
    int32_t tokens[SEQ], targets[SEQ];
    bytes b = {.count = 0};
    mst_data *data = NULL;
    add_numpy(&b, 1, "{'descr': '<i8', 'fortran_order': False, 'shape': (8,), }");
    add_tokens(&b, FIRST, 6, 8);
    add_number(&b, -1, 8);
    add_number(&b, 1, 8);
    put("out.npy", &b);
    CHECK_OK(open_path("out.npy", MST_TOKENS_AUTO, &data));
    CHECK_STATUS(mst_data_read(data, MST_SPLIT_TRAIN, 0, 1, tokens, targets, NULL), MST_EFORMAT);
    CHECK(message_has("out.npy", "18446744073709551615", "position 6", NULL), "%s", mst_error_message());
    CHECK(truncate("out.npy", 150) == 0, "truncate");
    CHECK_STATUS(mst_data_read(data, MST_SPLIT_TRAIN, 0, 1, tokens, targets, NULL), MST_EFORMAT);
    mst_data_close(&data);
}

/* ---- vocabulary, held-out file, several sources ---- */

static void test_vocabulary(void) {
    static const char json[] = "{\"a\": 1}";
    uint32_t lengths[FIRST + COUNT];
    for (size_t i = 0; i < FIRST + COUNT; i++) lengths[i] = (uint32_t)i;
    const mst_vocabulary vocabulary = {FIRST + COUNT, 5, json, sizeof json - 1, lengths};
    const mst_source_config source = {.path = "b.bin", .weight = 1};
    mst_data_config config = config_of(&source, 1);
    mst_data *data = NULL;
    mst_data_tokenizer tokenizer;
    mst_digest digest;
    char *text = NULL;
    size_t count = 0;
    put_bare("b.bin", 2);
    config.type = MST_TOKENS_UINT16;
    config.vocab_size = 0;
    CHECK_STATUS(mst_data_open(&config, &data), MST_ECONFIG);
    CHECK(message_has("data.tokenizer", "model.vocab_size", NULL), "%s", mst_error_message());
    config.vocabulary = &vocabulary;
    CHECK_OK(mst_data_open(&config, &data));
    if (data == NULL) return;
    mst_data_tokenizer_of(data, &tokenizer);
    CHECK_OK(mst_digest_of(json, sizeof json - 1, &digest));
    CHECK(tokenizer.has_json && tokenizer.end == 5 && same(tokenizer.digest, digest), "tokenizer");
    CHECK(mst_data_vocab(data) == FIRST + COUNT, "vocabulary");
    lengths[7] = 0; /* it was copied */
    CHECK(mst_data_bytes(data, (const int32_t[]){7, -1, 3}, 3) == 10, "bytes");
    CHECK_OK(mst_data_tokenizer_json(data, &text, &count));
    CHECK(count == sizeof json - 1 && strcmp(text, json) == 0, "json");
    free(text);
    mst_data_close(&data);
}

static void test_heldout(void) {
    int32_t tokens[SEQ], targets[SEQ];
    mst_build_report report;
    mst_source_config source = {.path = "b.bin", .weight = 1, .heldout = "val.npy"};
    bytes others = {.count = 0};
    mst_data_config config = config_of(&source, 1);
    mst_sample_place place;
    mst_digest with;
    mst_data *data = NULL;
    config.type = MST_TOKENS_UINT16;
    add_tokens(&others, FIRST + 1, COUNT, 2);
    put("b.bin", &others);
    put_numpy("val.npy", 1, "<u2", 2);
    CHECK_OK(mst_data_open(&config, &data));
    if (data == NULL) return;
    CHECK(mst_data_samples(data, MST_SPLIT_HELDOUT) == 3 && mst_data_tokens(data, MST_SPLIT_HELDOUT) == COUNT,
          "held out");
    CHECK_OK(mst_data_locate(data, MST_SPLIT_HELDOUT, 1, &place));
    CHECK_OK(mst_data_read(data, MST_SPLIT_HELDOUT, 1, 1, tokens, targets, NULL));
    CHECK(strcmp(place.path, "val.npy") == 0 && tokens[0] == FIRST + SEQ, "its file");
    mst_data_digest(data, &with);
    mst_data_close(&data);
    CHECK(!same(with, digest_of("b.bin", MST_TOKENS_UINT16)), "what is held out is part of the data");
    put_numpy("val.npy", 1, "<u4", 4);
    CHECK_STATUS(mst_data_open(&config, &data), MST_ECONFIG);
    CHECK(message_has("of one type", "val.npy", NULL), "%s", mst_error_message());
    put_text("a.txt", "a text of some length");
    CHECK_OK(build((mst_build_options){.output = "a.h5"}, &report, "a.txt", NULL));
    source.heldout = "a.h5";
    CHECK_STATUS(mst_data_open(&config, &data), MST_ECONFIG);
    CHECK(message_has("a.h5", "splits of its own", NULL), "%s", mst_error_message());
    source = (mst_source_config){.path = "a.h5", .weight = 1, .heldout = "b.bin"};
    CHECK_STATUS(mst_data_open(&config, &data), MST_ECONFIG);
    CHECK(message_has("a.h5", "held-out split of its own", NULL), "%s", mst_error_message());
}

/* What is trained on is not held out: of the same source, of another, in another kind of file. */
static void test_heldout_trained(void) {
    mst_source_config sources[] = {{"b.bin", 1, "val.npy"}, {"c.bin", 1, NULL}};
    const mst_source_config turned[] = {{"c.bin", 1, NULL}, {"b.bin", 1, "val.npy"}};
    mst_data_config config = config_of(sources, 1);
    bytes others = {.count = 0};
    mst_data *data = NULL;
    config.type = MST_TOKENS_UINT16;
    add_tokens(&others, FIRST + 1, COUNT, 2);
    put_bare("b.bin", 2);
    put_numpy("val.npy", 1, "<u2", 2);
    CHECK_STATUS(mst_data_open(&config, &data), MST_ECONFIG);
    CHECK(message_has("'val.npy', which is held out of 'b.bin', has the same tokens as 'b.bin'", "trained on",
                      NULL),
          "%s", mst_error_message());
    put("b.bin", &others);
    put_bare("c.bin", 2);
    for (int i = 0; i < 2; i++) {
        config.sources = i == 0 ? sources : turned;
        config.source_count = 2;
        CHECK_STATUS(mst_data_open(&config, &data), MST_ECONFIG);
        CHECK(message_has("'val.npy', which is held out of 'b.bin', has the same tokens as 'c.bin'", NULL),
              "%s", mst_error_message());
    }
    put("c.bin", &others);
    CHECK_OK(mst_data_open(&config, &data));
    mst_data_close(&data);
}

static void test_mix(void) {
    const mst_source_config sources[] = {{"b.bin", 1, NULL}, {"l.bin", 2, NULL}, {"a.h5", 1, NULL}};
    mst_data_config config = config_of(sources, 2);
    int32_t tokens[SEQ], targets[SEQ];
    mst_data *data = NULL;
    config.type = MST_TOKENS_UINT16;
    put_bare("b.bin", 2);
    put_llmc("l.bin", true);
    CHECK_OK(mst_data_open(&config, &data)); /* of different types */
    for (uint64_t i = 0; i < 20; i++) {
        CHECK_OK(mst_data_read(data, MST_SPLIT_TRAIN, i, 1, tokens, targets, NULL));
        CHECK(targets[0] == tokens[0] + 1 && (tokens[0] - FIRST) % SEQ == 0, "sample of either");
    }
    mst_data_close(&data);
    config.source_count = 3;
    config.vocab_size = MST_BYTE_VOCAB;
    CHECK_STATUS(mst_data_open(&config, &data), MST_ECONFIG);
    CHECK(message_has("only one says its tokenizer", "data.tokenizer", NULL), "%s", mst_error_message());
}

int main(void) {
    scratch_enter();
    test_numpy();
    test_kinds();
    test_digests();
    test_sample();
    test_numpy_refused();
    test_llmc_refused();
    test_megatron_refused();
    test_bare_refused();
    test_tokens_outside();
    test_vocabulary();
    test_heldout();
    test_heldout_trained();
    test_mix();
    scratch_leave();
    return test_finish("test_data_foreign");
}
