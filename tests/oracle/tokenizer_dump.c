/* What muster makes of texts with a tokenizer.json, for another program to compare and to time.
 *
 *     tokenizer_dump TOKENIZER encode|affixes|plain|decode|words|time
 *
 * Standard input and output are records: a number of items (32 bits, little-endian), then that many bytes or tokens (32 bits each).
 * `words` is encoding, each token's bytes as a record of its own; `time` encodes all records three times and prints bytes and the
 * seconds of the fastest. */
#include <time.h>

#include "muster/tokenizer.h"
#include "test.h"

typedef struct record {
    uint8_t *at; /* items * item_bytes */
    uint32_t items;
} record;

/* False at the end of the input. */
static bool read_record(record *r, size_t item_bytes) {
    r->at = NULL;
    if (fread(&r->items, sizeof r->items, 1, stdin) != 1) return false;
    r->at = malloc(r->items * item_bytes + 1);
    return r->at != NULL && fread(r->at, item_bytes, r->items, stdin) == r->items;
}

static void write_record(const void *at, size_t items, size_t item_bytes) {
    uint32_t count = (uint32_t)items;
    fwrite(&count, sizeof count, 1, stdout);
    fwrite(at, item_bytes, items, stdout);
}

static mst_status print_words(const mst_tokenizer *tokenizer, const mst_token_list *tokens) {
    for (size_t i = 0; i < tokens->count; i++) {
        size_t bytes;
        bool special;
        const uint8_t *piece = mst_tokenizer_piece(tokenizer, tokens->at[i], &bytes, &special);
        write_record(piece, bytes, 1);
    }
    return MST_OK;
}

static mst_status encode_all(mst_tokenizer *tokenizer, const char *mode) {
    mst_encode_options options = {.affixes = strcmp(mode, "affixes") == 0,
                                  .plain = strcmp(mode, "plain") == 0};
    mst_token_list tokens = {0};
    mst_status status = MST_OK;
    record r;
    while (status == MST_OK && read_record(&r, 1)) {
        tokens.count = 0;
        status = mst_tokenizer_encode(tokenizer, r.at, r.items, &options, &tokens);
        if (status == MST_OK && strcmp(mode, "words") == 0)
            status = print_words(tokenizer, &tokens);
        else if (status == MST_OK)
            write_record(tokens.at, tokens.count, sizeof *tokens.at);
        free(r.at);
    }
    free(tokens.at);
    return status;
}

static mst_status decode_all(const mst_tokenizer *tokenizer) {
    mst_byte_list bytes = {0};
    mst_status status = MST_OK;
    record r;
    while (status == MST_OK && read_record(&r, sizeof(int32_t))) {
        bytes.count = 0;
        status = mst_tokenizer_decode(tokenizer, (const int32_t *)(const void *)r.at, r.items, true, &bytes);
        write_record(bytes.at, bytes.count, 1);
        free(r.at);
    }
    free(bytes.at);
    return status;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { RECORDS_MAX = 1 << 16 };

static mst_status time_all(mst_tokenizer *tokenizer) {
    static record texts[RECORDS_MAX];
    mst_token_list tokens = {0};
    mst_status status = MST_OK;
    size_t count = 0, bytes = 0;
    double best = INFINITY;
    while (count < RECORDS_MAX && read_record(&texts[count], 1)) bytes += texts[count++].items;
    for (int turn = 0; turn < 3 && status == MST_OK; turn++) {
        double begin = now();
        for (size_t i = 0; i < count && status == MST_OK; i++) {
            tokens.count = 0;
            status = mst_tokenizer_encode(tokenizer, texts[i].at, texts[i].items, &(mst_encode_options){0},
                                          &tokens);
        }
        best = fmin(best, now() - begin);
    }
    printf("%zu %.6f\n", bytes, best);
    for (size_t i = 0; i < count; i++) free(texts[i].at);
    free(tokens.at);
    return status;
}

int main(int argc, char **argv) {
    mst_tokenizer *tokenizer = NULL;
    if (argc != 3) return 2;
    mst_status status = mst_tokenizer_load(argv[1], &tokenizer);
    if (status == MST_OK && strcmp(argv[2], "decode") == 0)
        status = decode_all(tokenizer);
    else if (status == MST_OK && strcmp(argv[2], "time") == 0)
        status = time_all(tokenizer);
    else if (status == MST_OK)
        status = encode_all(tokenizer, argv[2]);
    if (status != MST_OK) fprintf(stderr, "%s: %s\n", mst_status_name(status), mst_error_message());
    mst_tokenizer_destroy(&tokenizer);
    return status == MST_OK ? 0 : 1;
}
