/* Fuzzing of the text readers: .jsonl, .gz and .zst, alone and one inside the other.
 * The input's first byte chooses. */
#include <zlib.h>
#include <zstd.h>

#include "documents.h"
#include "fuzz.h"

static const char *const endings[] = {"jsonl", "txt.gz", "txt.zst", "jsonl.gz", "jsonl.zst"};
enum { ENDINGS = sizeof endings / sizeof *endings };

static unsigned whole;
static uint64_t documents;

static mst_status take_piece(void *context, const uint8_t *bytes, size_t count) {
    volatile uint8_t *last = context;
    for (size_t i = 0; i < count; i++) *last ^= bytes[i]; /* reads every byte */
    return MST_OK;
}

static mst_status take_end(void *context) {
    (void)context;
    documents++;
    return MST_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t last = 0;
    document_sink sink = {take_piece, take_end, &last};
    document_file file;
    char name[32];
    if (size == 0) return 0;
    snprintf(name, sizeof name, "link.%s", endings[data[0] % ENDINGS]);
    const char *target = fuzz_file(data + 1, size - 1);
    if (access(name, F_OK) != 0 && symlink(target, name) != 0) abort();
    mst_status status = documents_read(name, "text", &sink, &file);
    if (status == MST_OK && file.bytes != size - 1) abort();
    if (status != MST_OK && (status != MST_EFORMAT || strstr(mst_error_message(), name) == NULL)) abort();
    whole += status == MST_OK;
    return 0;
}

#ifndef MST_LIBFUZZER
static size_t pack_gzip(const char *text, size_t count, uint8_t *out, size_t room) {
    z_stream z = {0};
    if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) abort();
    z.next_in = (Bytef *)(uintptr_t)text, z.avail_in = (uInt)count;
    z.next_out = out, z.avail_out = (uInt)room;
    if (deflate(&z, Z_FINISH) != Z_STREAM_END) abort();
    size_t used = room - z.avail_out;
    deflateEnd(&z);
    return used;
}

int main(int argc, char **argv) {
    static uint8_t valid[ENDINGS][FUZZ_ROOM], data[FUZZ_ROOM];
    size_t valid_size[ENDINGS];
    char text[6000];
    size_t used = 0;
    uint64_t count = fuzz_begin(argc, argv, "fuzz_text");
    scratch_enter();
    for (int i = 0; i < 50; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "{\"id\": %d, \"text\": \"t\\u00e9xt \\ud83d\\ude00 %d\"}\n", i, i * i);
    for (uint8_t kind = 0; kind < ENDINGS; kind++) {
        uint8_t *to = valid[kind];
        size_t room = FUZZ_ROOM / 2;
        to[0] = kind;
        if (strstr(endings[kind], ".gz") != NULL)
            valid_size[kind] = 1 + pack_gzip(text, used, to + 1, room);
        else if (strstr(endings[kind], ".zst") != NULL)
            valid_size[kind] = 1 + ZSTD_compress(to + 1, room, text, used, 3);
        else
            memcpy(to + 1, text, used), valid_size[kind] = 1 + used;
        LLVMFuzzerTestOneInput(to, valid_size[kind]);
    }
    CHECK(whole == ENDINGS && documents == 3 * 50 + 2, "%u valid files of %d, %llu documents", whole, ENDINGS,
          (unsigned long long)documents);
    for (uint64_t i = 0; i < count; i++) {
        size_t kind = fuzz_random(ENDINGS), size = valid_size[kind];
        memcpy(data, valid[kind], size);
        for (uint64_t changes = 1 + fuzz_random(4); changes > 0; changes--) fuzz_mutate(data, &size, 1, size);
        if (fuzz_random(8) == 0) size = 1 + fuzz_random(size);
        LLVMFuzzerTestOneInput(data, size);
    }
    printf("%u of them were accepted\n", whole - ENDINGS);
    scratch_leave();
    return test_finish("fuzz text");
}
#endif
