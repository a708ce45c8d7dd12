/* Fuzzing of what reads the token files of other trainers: whatever they say, they are refused or give tokens of the
 * vocabulary. An input is a letter that says the kind and, for Megatron's pair, the length of the .bin in two bytes; then
 * the bytes of the file, or of .bin and .idx. */
#include "../unit/foreign_fixture.h"
#include "fuzz.h"

enum { SEQ_LEN = 7, SAMPLES = 3, VOCAB = 1100, HEAD = 3, TOKENS = 40 };

/* A folder for the pair, whose two files need names; removed at the end. */
static char folder[] = "scratch-foreign-XXXXXX";
static char index_path[sizeof folder + 8], bin_path[sizeof folder + 8];

static void remove_folder(void) {
    unlink(index_path);
    unlink(bin_path);
    rmdir(folder);
}

static const char *put_pair(const uint8_t *bin, size_t bin_bytes, const uint8_t *index, size_t index_bytes) {
    if (index_path[0] == '\0') {
        if (mkdtemp(folder) == NULL) exit(1);
        snprintf(index_path, sizeof index_path, "%s/f.idx", folder);
        snprintf(bin_path, sizeof bin_path, "%s/f.bin", folder);
        atexit(remove_folder);
    }
    put_bytes(bin_path, bin, bin_bytes);
    put_bytes(index_path, index, index_bytes);
    return bin_path;
}

/* The path under which an input's bytes can be opened. */
static const char *put_input(const uint8_t *data, size_t size) {
    size_t bin = data[1] | (size_t)data[2] << 8;
    if (data[0] != 'm') return fuzz_file(data + HEAD, size - HEAD);
    if (bin > size - HEAD) bin = size - HEAD;
    return put_pair(data + HEAD, bin, data + HEAD + bin, size - HEAD - bin);
}

static void read_some(mst_data *data) {
    int32_t tokens[SAMPLES * SEQ_LEN], targets[SAMPLES * SEQ_LEN];
    const uint64_t windows = mst_data_windows(data, MST_SPLIT_TRAIN);
    for (uint64_t first = 0; first < 2; first++) {
        if (mst_data_read(data, MST_SPLIT_TRAIN, first * 1000, SAMPLES, tokens, targets, NULL) != MST_OK)
            continue;
        for (int t = 0; t < SAMPLES * SEQ_LEN; t++)
            if (tokens[t] < 0 || tokens[t] >= VOCAB || targets[t] < 0 || targets[t] >= VOCAB) abort();
    }
    if (windows == 0) abort();
    if (mst_data_read_windows(data, MST_SPLIT_TRAIN, windows - 1, 1, tokens, targets, NULL) == MST_OK &&
        targets[0] < 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mst_data *d = NULL;
    if (size < HEAD) return 0;
    const mst_source_config source = {.path = put_input(data, size), .weight = 1};
    const mst_data_config config = {.sources = &source,
                                    .source_count = 1,
                                    .seq_len = SEQ_LEN,
                                    .type = data[0] == 'b' ? MST_TOKENS_UINT16 : MST_TOKENS_AUTO,
                                    .vocab_size = VOCAB};
    if (mst_data_open(&config, &d) != MST_OK) {
        if (d != NULL || mst_error_message()[0] == '\0') abort();
        return 0;
    }
    fuzz_accepted++;
    read_some(d);
    mst_data_close(&d);
    return 0;
}

/* ---- inputs ---- */

static void begin_input(bytes *b, char kind, size_t bin_bytes) {
    b->count = 0;
    add(b, &kind, 1);
    add_number(b, (int64_t)bin_bytes, 2);
}

/* numpy's of each version, llm.c's two, bare tokens, Megatron's of each type. */
static size_t fuzz_valid(size_t number, uint8_t *data) {
    static const char *const headers[] = {"{'descr': '<u2', 'fortran_order': False, 'shape': (40,), }",
                                          "{'descr': '<i4', 'fortran_order': False, 'shape': (40,), }",
                                          "{\"shape\": (40,), \"descr\": \"<i8\", \"fortran_order\": False}"};
    static const size_t sizes[] = {2, 4, 8};
    megatron pair = {.sequence_count = 4, .lengths = {10, 1, 0, 29}};
    bytes b;
    const size_t which = number % 3, size = sizes[which];
    if (number < 3) {
        begin_input(&b, 'n', 0);
        add_numpy(&b, (int)number + 1, headers[number]);
        add_tokens(&b, 1000, TOKENS, size);
    } else if (number < 6) {
        begin_input(&b, 'm', TOKENS * size);
        add_tokens(&b, 1000, TOKENS, size);
        pair.token_bytes = size;
        add_megatron(&b, &pair);
    } else if (number < 8) {
        begin_input(&b, 'l', 0);
        add_llmc(&b, number == 6 ? 20240520 : 20240801, number == 6 ? 1 : 7, TOKENS);
        add_tokens(&b, 1000, TOKENS, size);
    } else if (number == 8) {
        begin_input(&b, 'b', 0);
        add_tokens(&b, 1000, TOKENS, 2);
    } else {
        return 0;
    }
    memcpy(data, b.at, b.count);
    return b.count;
}

/* A number of a header or an index becomes one that is hard to add, to multiply or to believe. */
static void change_number(uint8_t *data, size_t size) {
    static const int64_t numbers[] = {0,         1,         -1,        2,         12,
                                      INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 0x1555555555555556};
    const size_t width = fuzz_random(2) == 0 ? 4 : 8;
    if (size < HEAD + width) return;
    const size_t at = HEAD + fuzz_random(size - HEAD - width + 1);
    memcpy(data + at, &numbers[fuzz_random(sizeof numbers / sizeof *numbers)], width);
}

static void fuzz_change(uint8_t *data, size_t *size) {
    for (uint64_t changes = 1 + fuzz_random(3); changes > 0; changes--) {
        if (fuzz_random(2) == 0)
            change_number(data, *size);
        else
            fuzz_mutate(data, size, fuzz_random(8) == 0 ? 0 : HEAD, *size);
    }
    if (fuzz_random(8) == 0) *size = fuzz_random(*size + 1);
}

#ifndef MST_LIBFUZZER
int main(int argc, char **argv) {
    return fuzz_main(argc, argv, "fuzz_foreign");
}
#endif
