/* Fuzzing of the token file's reader: whatever the file says, it is refused or
 * gives tokens of its vocabulary. */
#include "fuzz.h"
#include "index.h"

enum { SEQ_LEN = 7, COUNT = 3 };

/* Reads at the beginning, the end and the middle of a split. */
static void read_split(mst_data *d, mst_split split) {
    int32_t tokens[COUNT * SEQ_LEN], targets[COUNT * SEQ_LEN], starts[COUNT * SEQ_LEN] = {0};
    const int32_t vocab = (int32_t)mst_data_vocab(d);
    const uint64_t samples = mst_data_samples(d, split), last = samples > COUNT ? samples - COUNT : 0;
    const uint64_t firsts[] = {0, last, last / 2};
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
        if (mst_data_read(d, split, firsts[i], COUNT, tokens, targets, starts) != MST_OK) continue;
        for (int t = 0; t < COUNT * SEQ_LEN; t++) {
            if (tokens[t] < 0 || tokens[t] >= vocab || targets[t] < -1 || targets[t] >= vocab) abort();
            const int32_t former = t % SEQ_LEN > 0 ? starts[t - 1] : 0;
            if (starts[t] != former && starts[t] != t % SEQ_LEN) abort();
        }
    }
}

/* Whether the file can be opened and read so. */
static bool read_file(const char *path, mst_packing packing) {
    const mst_source_config source = {path, 1, NULL};
    const mst_data_config config = {
        .sources = &source, .source_count = 1, .seq_len = SEQ_LEN, .seed = 1, .packing = packing};
    mst_data *d = NULL;
    if (mst_data_open(&config, &d) != MST_OK) return false;
    for (int split = 0; split < SPLITS; split++) read_split(d, (mst_split)split);
    mst_data_close(&d);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = fuzz_file(data, size);
    mst_digest digest;
    for (int packing = MST_PACKING_STREAM; packing <= MST_PACKING_SINGLE; packing++) {
        const bool accepted = read_file(path, (mst_packing)packing);
        fuzz_accepted += accepted && packing == MST_PACKING_STREAM;
    }
    if (mst_data_verify(path, &digest) != MST_OK && mst_error_message()[0] == '\0') abort();
    return 0;
}

enum { LINE_BYTES = 118 };

/* States the index's true length and digest again, so that a mutation of the JSON is
 * not all refused by its digest. */
static void mend_line(uint8_t *data, size_t size, size_t line, size_t body) {
    mst_digest digest;
    char hex[MST_DIGEST_HEX], text[256];
    if (line + body > size || line != LINE_BYTES) return;
    CHECK_OK(mst_digest_of(data + line, body, &digest));
    mst_digest_to_hex(&digest, hex);
    int used = snprintf(text, sizeof text, "muster tokens 1, index of %012zu bytes, sha256 %s\n", body, hex);
    if (used != LINE_BYTES) abort();
    memcpy(data, text, line);
}

/* A token file of sixty short texts. */
static size_t make_valid(uint8_t *data) {
    mst_build_report report;
    size_t size;
    scratch_enter();
    FILE *lines = fopen("v.jsonl", "w");
    for (int i = 0; i < 60; i++) fprintf(lines, "{\"text\": \"text number %d\"}\n", i);
    fclose(lines);
    CHECK_OK(build((mst_build_options){.output = "v.h5", .heldout_fraction = 0.3}, &report, "v.jsonl", NULL));
    uint8_t *file = get_bytes("v.h5", &size);
    scratch_leave();
    if (size > FUZZ_ROOM) abort();
    memcpy(data, file, size);
    free(file);
    return size;
}

static size_t fuzz_valid(size_t number, uint8_t *data) {
    static uint8_t valid[FUZZ_ROOM];
    static size_t size;
    if (size == 0) size = make_valid(valid);
    memcpy(data, valid, size);
    return number == 0 ? size : 0;
}

/* The index stands behind the first line, up to a NUL. */
static void fuzz_change(uint8_t *data, size_t *size) {
    for (uint64_t changes = 1 + fuzz_random(3); changes > 0; changes--) {
        const uint8_t *newline = memchr(data, '\n', *size);
        const size_t line = newline != NULL ? (size_t)(newline - data) + 1 : 0;
        const size_t body = strnlen((char *)data + line, *size - line), before = *size;
        if (line > 0 && fuzz_random(4) > 0) {
            fuzz_mutate(data, size, line, line + body);
            mend_line(data, *size, line, body + *size - before);
        } else {
            fuzz_mutate(data, size, 0, *size);
        }
    }
    if (fuzz_random(8) == 0) *size = fuzz_random(*size + 1);
}

#ifndef MST_LIBFUZZER
int main(int argc, char **argv) {
    return fuzz_main(argc, argv, "fuzz_tokens");
}
#endif
