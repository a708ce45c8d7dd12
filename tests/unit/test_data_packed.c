/* Packed inputs: .gz and .zst give the same tokens as plain files, in members and
 * frames, and damage is found. */
#include <zlib.h>
#include <zstd.h>

#include "data_fixture.h"
#include "muster/random.h"

enum { TEXT_BYTES = 700 * 1000 };

static const mst_build_options plain = {.output = "out.h5"};

/* Text that packs to about half, so that packed files are longer than the reader's buffer. */
static char *make_text(void) {
    char *text = malloc(TEXT_BYTES + 1);
    uint32_t bits[4];
    for (uint64_t i = 0; i < TEXT_BYTES; i++) {
        if (i % 4 == 0) mst_random_bits(1, MST_RANDOM_TEST, i, 0, bits);
        text[i] = (char)(' ' + bits[i % 4] % 64);
    }
    text[TEXT_BYTES] = '\0';
    return text;
}

/* Appends a gzip member. */
static void gzip_append(const char *path, const char *text, size_t count) {
    gzFile file = gzopen(path, "ab");
    if (count > 0) CHECK(gzwrite(file, text, (unsigned)count) == (int)count, "gzwrite");
    CHECK(gzclose(file) == Z_OK, "gzclose");
}

/* Appends a zstd frame with a checksum, as the zstd program writes it. */
static void zstd_append(const char *path, const char *text, size_t count) {
    size_t room = ZSTD_compressBound(count);
    void *packed = malloc(room);
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    size_t used = ZSTD_compress2(context, packed, room, text, count);
    ZSTD_freeCCtx(context);
    FILE *file = fopen(path, "ab");
    CHECK(!ZSTD_isError(used) && fwrite(packed, 1, used, file) == used, "zstd");
    fclose(file);
    free(packed);
}

static void test_round_trip(const char *text) {
    mst_build_report report;
    mst_digest digest;
    put_bytes("t.txt", text, TEXT_BYTES);
    CHECK_OK(build((mst_build_options){.output = "plain.h5"}, &report, "t.txt", NULL));
    digest = report.digest;
    gzip_append("one.txt.gz", text, TEXT_BYTES);
    gzip_append("many.txt.gz", text, 100 * 1000);
    gzip_append("many.txt.gz", text, 0);
    gzip_append("many.txt.gz", text + 100 * 1000, TEXT_BYTES - 100 * 1000);
    zstd_append("one.txt.zst", text, TEXT_BYTES);
    zstd_append("many.txt.zst", text, 100 * 1000);
    zstd_append("many.txt.zst", text, 0);
    zstd_append("many.txt.zst", text + 100 * 1000, TEXT_BYTES - 100 * 1000);
    static const char *const names[] = {"one.txt.gz", "many.txt.gz", "one.txt.zst", "many.txt.zst"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK_OK(build(plain, &report, names[i], NULL));
        CHECK(report.train_tokens == TEXT_BYTES + 1, "%s: %llu tokens", names[i],
              (unsigned long long)report.train_tokens);
        CHECK(memcmp(&digest, &report.digest, sizeof digest) == 0, "%s: not the tokens of the plain file",
              names[i]);
        CHECK_OK(build(plain, &report, "t.txt", names[i], NULL));
        CHECK(report.duplicates == 1, "%s: a duplicate of its plain text", names[i]);
    }
    static const char lines[] = "{\"text\": \"a\"}\n{\"text\": \"b\"}\n";
    gzip_append("l.jsonl.gz", lines, strlen(lines));
    zstd_append("l.jsonl.zst", lines, strlen(lines));
    CHECK_OK(build(plain, &report, "l.jsonl.gz", "l.jsonl.zst", NULL));
    CHECK(split_is("out.h5", MST_SPLIT_TRAIN, "a$b$") && report.duplicates == 2, "packed lines");
    gzip_append("nothing.txt.gz", "", 0);
    zstd_append("nothing.txt.zst", "", 0);
    CHECK_OK(build(plain, &report, "nothing.txt.gz", "nothing.txt.zst", "l.jsonl.gz", NULL));
    CHECK(report.empty == 2, "packed empty files are empty documents");
}

/* Cut at many places, and with one bit changed (both formats carry a checksum): never accepted as whole. */
static void test_damage(const char *path, const char *ending) {
    mst_build_report report;
    char name[32];
    size_t count;
    uint8_t *bytes = get_bytes(path, &count);
    snprintf(name, sizeof name, "bad.%s", ending);
    const size_t cuts[] = {0, 1, 3, 9, 17, count / 3, count / 2, count - 9, count - 4, count - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        put_bytes(name, bytes, cuts[i]);
        CHECK_STATUS(build(plain, &report, name, NULL), MST_EFORMAT);
        CHECK(message_has(name, NULL), "cut at %zu: %s", cuts[i], mst_error_message());
    }
    for (size_t i = 0; i < 20; i++) {
        size_t at = count / 20 * i + 40;
        bytes[at] ^= 0x10;
        put_bytes(name, bytes, count);
        mst_status status = build(plain, &report, name, NULL);
        CHECK(status == MST_EFORMAT && message_has(name, NULL), "bit %zu: %s: %s", at,
              mst_status_name(status), mst_error_message());
        bytes[at] ^= 0x10;
    }
    uint8_t *longer = malloc(count + 5);
    memcpy(longer, bytes, count);
    memcpy(longer + count, "extra", 5);
    put_bytes(name, longer, count + 5);
    CHECK_STATUS(build(plain, &report, name, NULL), MST_EFORMAT);
    put_text(name, "this is plain text, whatever its name says");
    CHECK_STATUS(build(plain, &report, name, NULL), MST_EFORMAT);
    free(longer);
    free(bytes);
}

int main(void) {
    scratch_enter();
    char *text = make_text();
    test_round_trip(text);
    test_damage("one.txt.gz", "gz");
    test_damage("one.txt.zst", "zst");
    free(text);
    scratch_leave();
    return test_finish("data packed");
}
