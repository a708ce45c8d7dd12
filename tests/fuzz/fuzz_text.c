/* Fuzzing of the text readers: .jsonl, .gz and .zst, alone and one inside the other.
 * The input's first byte chooses. */
#include <zlib.h>
#include <zstd.h>

#include "documents.h"
#include "fuzz.h"

static const char *const endings[] = {"jsonl", "txt.gz", "txt.zst", "jsonl.gz", "jsonl.zst"};
enum { ENDINGS = sizeof endings / sizeof *endings };

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
    document_file file;
    char name[32];
    if (size == 0) return 0;
    document_sink sink = {take_piece, take_end, &last, data[0] >= 128};
    snprintf(name, sizeof name, "link.%s", endings[data[0] % ENDINGS]);
    const char *target = fuzz_file(data + 1, size - 1);
    if (access(name, F_OK) != 0 && symlink(target, name) != 0) abort();
    mst_status status = documents_read(name, "text", &sink, &file);
    if (status == MST_OK && file.bytes != size - 1) abort();
    const bool refused = status == MST_EFORMAT || (sink.records && status == MST_ECONFIG);
    if (status != MST_OK && (!refused || strstr(mst_error_message(), name) == NULL)) abort();
    fuzz_accepted += status == MST_OK;
    return 0;
}

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

/* Fifty texts, packed in the way of this number. */
static size_t make_valid(size_t number, uint8_t *data) {
    char text[6000];
    size_t used = 0, room = FUZZ_ROOM / 2;
    for (int i = 0; i < 50; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "{\"id\": %d, \"text\": \"t\\u00e9xt \\ud83d\\ude00 %d\"}\n", i, i * i);
    data[0] = (uint8_t)number;
    if (strstr(endings[number], ".gz") != NULL) return 1 + pack_gzip(text, used, data + 1, room);
    if (strstr(endings[number], ".zst") != NULL) return 1 + ZSTD_compress(data + 1, room, text, used, 3);
    memcpy(data + 1, text, used);
    return 1 + used;
}

static size_t fuzz_valid(size_t number, uint8_t *data) {
    static uint8_t valid[ENDINGS][FUZZ_ROOM];
    static size_t size[ENDINGS];
    if (number >= ENDINGS) return 0;
    if (size[number] == 0) size[number] = make_valid(number, valid[number]);
    memcpy(data, valid[number], size[number]);
    return size[number];
}

static void fuzz_change(uint8_t *data, size_t *size) {
    for (uint64_t changes = 1 + fuzz_random(4); changes > 0; changes--) fuzz_mutate(data, size, 1, *size);
    if (fuzz_random(8) == 0) *size = 1 + fuzz_random(*size);
}

#ifndef MST_LIBFUZZER
int main(int argc, char **argv) {
    static uint8_t data[FUZZ_ROOM];
    size_t size;
    scratch_enter();
    for (size_t i = 0; (size = fuzz_valid(i, data)) > 0; i++) LLVMFuzzerTestOneInput(data, size);
    CHECK(documents == 3 * 50 + 2, "%llu documents in the valid files", (unsigned long long)documents);
    fuzz_accepted = 0;
    const int ended = fuzz_main(argc, argv, "fuzz_text");
    scratch_leave();
    return ended;
}
#endif
