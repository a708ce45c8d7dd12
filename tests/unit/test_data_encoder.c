/* Token files of a tokenizer that is not bytes: whole documents are encoded, in both widths; the file keeps the tokenizer's
 * text and the length of every token. */
#include "data_fixture.h"
#include "index.h"

enum { WIDE_VOCAB = 70000, NARROW_VOCAB = 300 };
static const char json[] = "{\"stands for\": \"a tokenizer\"}";

/* Pairs of equal letters are one token (id: the highest ids), other bytes are themselves plus one; 0 ends. */
typedef struct pairs {
    size_t vocab;
    int32_t tokens[4096];
    size_t documents;
    bool fail;
} pairs;
static uint32_t lengths[WIDE_VOCAB];

static mst_status encode(void *context, const uint8_t *bytes, size_t count, const int32_t **tokens_out,
                         size_t *count_out) {
    pairs *p = context;
    size_t used = 0;
    if (p->fail) return mst_error(MST_EUNSUPPORTED, "no token for this");
    for (size_t i = 0; i < count; i++) {
        bool pair = i + 1 < count && bytes[i] == bytes[i + 1] && bytes[i] < 26 + 'a' && bytes[i] >= 'a';
        p->tokens[used++] = pair ? (int32_t)(p->vocab - 26 + (size_t)(bytes[i] - 'a')) : 1 + bytes[i];
        i += pair;
    }
    p->documents++;
    *tokens_out = p->tokens;
    *count_out = used;
    return MST_OK;
}

static mst_encoder encoder_of(pairs *p) {
    for (size_t i = 0; i < p->vocab; i++) lengths[i] = i == 0 || i > 256 ? 0 : 1;
    for (size_t i = p->vocab - 26; i < p->vocab; i++) lengths[i] = 2;
    return (mst_encoder){
        .context = p,
        .encode = encode,
        .vocabulary = {
            .size = p->vocab, .end = 0, .json = json, .json_bytes = sizeof json - 1, .lengths = lengths}};
}

static mst_build_options options_of(const mst_encoder *encoder, const char *const *inputs, size_t count) {
    return (mst_build_options){.inputs = inputs,
                               .input_count = count,
                               .output = "tokens.h5",
                               .text_field = "text",
                               .heldout_fraction = 0.4,
                               .seed = 3,
                               .encoder = encoder,
                               .heldout_list = "heldout.txt"};
}

static void put_inputs(void) {
    FILE *file = fopen("lines.jsonl", "w");
    for (int i = 0; i < 200; i++) fprintf(file, "{\"text\": \"bookkeeper number %d aabbc\"}\n", i % 150);
    fclose(file);
    char name[32], text[64];
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "file%02d.txt", i);
        snprintf(text, sizeof text, "aaa of file %d", i);
        put_text(name, text);
    }
}

/* Decodes a split from what mst_data_read gives and compares it with the text of mst_data_documents. */
typedef struct expected {
    uint8_t text[2][1 << 14];
    size_t count[2];
    char paths[4096];
    const char *last;
} expected;

static mst_status note(void *context, const uint8_t *bytes, size_t count, mst_split split, const char *path) {
    expected *e = context;
    memcpy(e->text[split] + e->count[split], bytes, count);
    e->count[split] += count;
    e->text[split][e->count[split]++] = '$';
    if (split == MST_SPLIT_HELDOUT && e->last != path) {
        strcat(strcat(e->paths, path), "\n");
        e->last = path;
    }
    return MST_OK;
}

static void check_split(mst_data *data, size_t vocab, const expected *e) {
    /* One sample a token: token t is sample t's only token. Held-out samples are in file order. */
    uint8_t text[1 << 14];
    size_t used = 0;
    uint64_t bytes = 0, samples = mst_data_samples(data, MST_SPLIT_HELDOUT);
    for (uint64_t i = 0; i <= samples; i++) {
        int32_t token = 0, target = 0;
        if (i < samples) CHECK_OK(mst_data_read(data, MST_SPLIT_HELDOUT, i, 1, &token, &target, NULL));
        if (i < samples) bytes += mst_data_bytes(data, &target, 1);
        size_t pair = (size_t)token - (vocab - 26);
        if ((size_t)token >= vocab - 26) {
            text[used++] = (uint8_t)('a' + pair);
            text[used++] = (uint8_t)('a' + pair);
        } else {
            text[used++] = token == 0 ? '$' : (uint8_t)(token - 1);
        }
    }
    CHECK(used == e->count[1] && memcmp(text, e->text[1], used) == 0, "held-out text of %zu bytes, not %zu",
          used, e->count[1]);
    int32_t first = 0, none[2] = {-1, 0}, target;
    CHECK_OK(mst_data_read(data, MST_SPLIT_HELDOUT, 0, 1, &first, &target, NULL));
    size_t ends = 0;
    for (size_t i = 0; i < used; i++) ends += text[i] == '$';
    CHECK(bytes + lengths[first] + ends == used, "%d bytes of %zu", (int)bytes, used);
    CHECK(mst_data_bytes(data, none, 2) == 0, "what is no target has bytes");
}

static void check_file(pairs *p, const expected *e) {
    const mst_source_config source = {"tokens.h5", 1, NULL};
    const mst_data_config config = {.sources = &source, .source_count = 1, .seq_len = 1};
    mst_data *data = NULL;
    mst_data_tokenizer tokenizer;
    mst_digest digest;
    char *text = NULL;
    size_t bytes = 0;
    CHECK_OK(mst_data_open(&config, &data));
    if (data == NULL) return;
    mst_data_tokenizer_of(data, &tokenizer);
    CHECK_OK(mst_digest_of(json, sizeof json - 1, &digest));
    CHECK(tokenizer.has_json && !tokenizer.is_bytes && tokenizer.end == 0 &&
              memcmp(&tokenizer.digest, &digest, sizeof digest) == 0,
          "the tokenizer");
    CHECK_OK(mst_data_tokenizer_json(data, &text, &bytes));
    CHECK(text != NULL && bytes == sizeof json - 1 && strcmp(text, json) == 0, "tokenizer.json is '%s'",
          text);
    CHECK(mst_data_vocab(data) == p->vocab, "vocabulary of %zu", mst_data_vocab(data));
    check_split(data, p->vocab, e);
    free(text);
    mst_data_close(&data);
}

static void test_round_trip(size_t vocab) {
    static const char *const inputs[] = {"."};
    static expected e;
    pairs p = {.vocab = vocab};
    const mst_encoder encoder = encoder_of(&p);
    mst_build_options options = options_of(&encoder, inputs, 1);
    mst_build_report report, again;
    mst_digest digest;
    memset(&e, 0, sizeof e);
    unlink("heldout.txt");
    CHECK_OK(mst_data_documents(&options, note, &e));
    CHECK_OK(mst_data_build(&options, &report));
    CHECK(p.documents == report.documents - report.duplicates && report.duplicates == 50,
          "%zu documents were encoded, %d were dropped", p.documents, (int)report.duplicates);
    CHECK(report.heldout_documents > 20 && report.train_documents > 20, "splits");
    size_t count;
    char *list = (char *)get_bytes("heldout.txt", &count);
    CHECK(count == strlen(e.paths) && memcmp(list, e.paths, count) == 0,
          "the list of held-out files:\n%.*s\nnot\n%s", (int)count, list, e.paths);
    free(list);
    check_file(&p, &e);
    CHECK_OK(mst_data_verify("tokens.h5", &digest));
    CHECK(rename("tokens.h5", "first.h5") == 0 && rename("heldout.txt", "first.list") == 0, "rename");
    CHECK_OK(mst_data_build(&options, &again));
    CHECK(same_files("tokens.h5", "first.h5"), "a second build gives other bytes");
}

/* A flipped byte in the tokenizer's arrays is found, by the reader as by verify. */
static void test_damage(void) {
    const mst_source_config source = {"tokens.h5", 1, NULL};
    const mst_data_config config = {.sources = &source, .source_count = 1, .seq_len = 1};
    token_index index;
    mst_data *data = NULL;
    mst_digest digest;
    char *text = NULL;
    size_t count;
    int fd = open("tokens.h5", O_RDONLY);
    CHECK_OK(index_read(fd, "tokens.h5", &index));
    close(fd);
    uint8_t *bytes = get_bytes("tokens.h5", &count);
    bytes[index.tokenizer.json.offset + 3] ^= 1;
    put_bytes("tokens.h5", bytes, count);
    CHECK_STATUS(mst_data_verify("tokens.h5", &digest), MST_EFORMAT);
    CHECK_OK(mst_data_open(&config, &data));
    if (data != NULL) CHECK_STATUS(mst_data_tokenizer_json(data, &text, &count), MST_EFORMAT);
    mst_data_close(&data);
    bytes[index.tokenizer.json.offset + 3] ^= 1;
    bytes[index.tokenizer.lengths.offset + 5] ^= 1;
    uint8_t *whole = bytes;
    count = 0;
    struct stat info;
    CHECK(stat("tokens.h5", &info) == 0, "stat");
    put_bytes("tokens.h5", whole, (size_t)info.st_size);
    CHECK_STATUS(mst_data_verify("tokens.h5", &digest), MST_EFORMAT);
    CHECK_STATUS(mst_data_open(&config, &data), MST_EFORMAT);
    CHECK(strstr(mst_error_message(), "tokenizer/lengths") != NULL, "message: %s", mst_error_message());
    free(bytes);
}

/* What the encoder cannot take ends the build, and nothing is left. */
static void test_failure(void) {
    static const char *const inputs[] = {"file01.txt"};
    pairs p = {.vocab = NARROW_VOCAB, .fail = true};
    const mst_encoder encoder = encoder_of(&p);
    mst_build_options options = options_of(&encoder, inputs, 1);
    mst_build_report report;
    options.output = "failed.h5";
    options.heldout_list = "failed.list";
    CHECK_STATUS(mst_data_build(&options, &report), MST_EUNSUPPORTED);
    CHECK(access("failed.h5", F_OK) != 0 && access("failed.list", F_OK) != 0, "something was left");
    options.heldout_fraction = 0;
    options.heldout_list = "no/such/folder/list";
    p.fail = false;
    CHECK_STATUS(mst_data_build(&options, &report), MST_EIO);
}

/* Tokens of a record: its digits plus one, of which the odd ones count; without digits it is passed over. */
static mst_status encode_record(void *context, const uint8_t *bytes, size_t count, const int32_t **tokens_out,
                                const uint8_t **mask_out, size_t *count_out) {
    static uint8_t mask[4096];
    pairs *p = context;
    size_t used = 0;
    if (bytes[0] != '{' || bytes[count - 1] != '}') return mst_error(MST_EFORMAT, "not the whole record");
    if (memchr(bytes, '!', count) != NULL) return mst_error(MST_EFORMAT, "a record with !");
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] < '0' || bytes[i] > '9') continue;
        mask[used] = (bytes[i] - '0') % 2;
        p->tokens[used++] = bytes[i] == '0' ? 0 : bytes[i] - '0' + 1;
    }
    *tokens_out = p->tokens;
    *mask_out = mask;
    *count_out = used;
    return MST_OK;
}

/* The train split's tokens and mask, read back: "3!" is token 3, a target; "0." an end that is none. */
static void check_records(const char *expected_text) {
    char text[256] = "";
    token_index index;
    int fd = open("records.h5", O_RDONLY);
    CHECK_OK(index_read(fd, "records.h5", &index));
    const split_index *split = &index.split[MST_SPLIT_TRAIN];
    CHECK(split->has_loss_mask && index.split[MST_SPLIT_HELDOUT].has_loss_mask, "no mask");
    for (uint64_t i = 0; i < split->tokens.count && i < 64; i++) {
        uint16_t token = 0;
        uint8_t mask = 0;
        CHECK(pread(fd, &token, 2, (off_t)(split->tokens.offset + 2 * i)) == 2 &&
                  pread(fd, &mask, 1, (off_t)(split->loss_mask.offset + i)) == 1,
              "token %d", (int)i);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%d%c", token, mask ? '!' : '.');
    }
    close(fd);
    CHECK(strcmp(text, expected_text) == 0, "'%s', not '%s'", text, expected_text);
}

/* Records: whole lines, a mask, an end that is added where there is none; others are passed over; errors name the line. */
static void test_records(void) {
    static const char *const inputs[] = {"records.jsonl"}, *const bad[] = {"bad.jsonl"},
                             *const other[] = {"file01.txt"};
    pairs p = {.vocab = NARROW_VOCAB};
    mst_encoder encoder = encoder_of(&p);
    mst_build_report report;
    mst_digest digest;
    encoder.encode = NULL;
    encoder.encode_record = encode_record;
    mst_build_options options = options_of(&encoder, inputs, 1);
    options.output = "records.h5";
    options.heldout_list = NULL;
    options.heldout_fraction = 0;
    put_text("records.jsonl", "{\"a\": 123}\n\n{\"a\": [7, 0]}\n{\"a\": \"none\"}\n{\"a\": 123}\n");
    CHECK_OK(mst_data_build(&options, &report));
    CHECK(report.documents == 4 && report.duplicates == 1 && report.train_documents == 2 &&
              report.train_tokens == 6,
          "%d documents, %d tokens", (int)report.train_documents, (int)report.train_tokens);
    check_records("2!3.4!0.8!0.");
    CHECK_OK(mst_data_verify("records.h5", &digest));
    put_text("bad.jsonl", "{\"a\": 1}\n{\"a\": \"!\"}\n");
    options.inputs = bad;
    CHECK_STATUS(mst_data_build(&options, &report), MST_EFORMAT);
    CHECK(message_has("bad.jsonl:2: a record with !", NULL), "%s", mst_error_message());
    options.inputs = other;
    CHECK_STATUS(mst_data_build(&options, &report), MST_ECONFIG);
    CHECK(message_has("file01.txt", "not a .jsonl file", NULL), "%s", mst_error_message());
}

int main(void) {
    scratch_enter();
    put_inputs();
    test_round_trip(NARROW_VOCAB);
    test_round_trip(WIDE_VOCAB);
    test_damage();
    test_failure();
    test_records();
    scratch_leave();
    return test_finish("test_data_encoder");
}
