/* Fuzzing of the token file's reader: whatever the file says, it is refused or
 * gives tokens of its vocabulary. */
#include "fuzz.h"
#include "index.h"

static unsigned opened;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { SEQ_LEN = 7, COUNT = 3 };
    int32_t tokens[COUNT * SEQ_LEN], targets[COUNT * SEQ_LEN];
    mst_source_config source = {fuzz_file(data, size), 1};
    mst_data *d = NULL;
    mst_digest digest;
    if (mst_data_open(&(mst_data_config){&source, 1, SEQ_LEN, 1}, &d) != MST_OK) return 0;
    opened++;
    int32_t vocab = (int32_t)mst_data_vocab(d);
    for (int split = 0; split < SPLITS; split++) {
        uint64_t samples = mst_data_samples(d, (mst_split)split),
                 last = samples > COUNT ? samples - COUNT : 0;
        const uint64_t firsts[] = {0, last, last / 2};
        for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
            if (mst_data_read(d, (mst_split)split, firsts[i], COUNT, tokens, targets) != MST_OK) continue;
            for (int t = 0; t < COUNT * SEQ_LEN; t++)
                if (tokens[t] < 0 || tokens[t] >= vocab || targets[t] < -1 || targets[t] >= vocab) abort();
        }
    }
    mst_data_close(&d);
    if (mst_data_verify(source.path, &digest) != MST_OK && mst_error_message()[0] == '\0') abort();
    return 0;
}

#ifndef MST_LIBFUZZER
/* States the index's true length and digest again, so that a mutation of the JSON is
 * not all refused by its digest. */
static void mend_line(uint8_t *data, size_t size, size_t line, size_t body) {
    mst_digest digest;
    char hex[MST_DIGEST_HEX], text[256];
    if (line + body > size) return;
    CHECK_OK(mst_digest_of(data + line, body, &digest));
    mst_digest_to_hex(&digest, hex);
    int used = snprintf(text, sizeof text, "muster tokens 1, index of %012zu bytes, sha256 %s\n", body, hex);
    CHECK((size_t)used == line, "the first line's length is %zu", line);
    memcpy(data, text, line);
}

int main(int argc, char **argv) {
    static uint8_t valid[FUZZ_ROOM], data[FUZZ_ROOM];
    mst_build_report report;
    uint64_t count = fuzz_begin(argc, argv, "fuzz_tokens");
    scratch_enter();
    FILE *lines = fopen("v.jsonl", "w");
    for (int i = 0; i < 60; i++) fprintf(lines, "{\"text\": \"text number %d\"}\n", i);
    fclose(lines);
    CHECK_OK(build((mst_build_options){.output = "v.h5", .heldout_fraction = 0.3}, &report, "v.jsonl", NULL));
    size_t valid_size;
    uint8_t *file = get_bytes("v.h5", &valid_size);
    CHECK(valid_size <= sizeof valid, "the valid file has %zu bytes", valid_size);
    memcpy(valid, file, valid_size);
    free(file);
    size_t line = (size_t)((uint8_t *)memchr(valid, '\n', valid_size) - valid) + 1,
           body = strlen((char *)valid) - line;
    LLVMFuzzerTestOneInput(valid, valid_size);
    CHECK(opened == 1, "the valid file opens");
    for (uint64_t i = 0; i < count; i++) {
        size_t size = valid_size;
        memcpy(data, valid, size);
        for (uint64_t changes = 1 + fuzz_random(3); changes > 0; changes--)
            if (fuzz_random(4) > 0) {
                size_t before = size;
                fuzz_mutate(data, &size, line, line + body);
                mend_line(data, size, line, body + size - before);
            } else {
                fuzz_mutate(data, &size, 0, size);
            }
        if (fuzz_random(8) == 0) size = fuzz_random(size + 1);
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%u of them could be opened\n", opened - 1);
    scratch_leave();
    return test_finish("fuzz tokens");
}
#endif
