/* Fuzzing of the manifest reader. The input is a manifest without its last line, which is set
 * right: an attacker does that too. What is accepted must be in bounds, and must be accepted again
 * when it is printed. */
#include "fuzz.h"
#include "manifest.h"

static void check(const mst_manifest *m) {
    uint64_t covered = 0, elements = 0;
    for (size_t i = 0; i < m->tensor_count; i++) elements += m->tensors[i].count;
    for (size_t i = 0; i < m->piece_count; i++) {
        const mst_manifest_piece *piece = &m->pieces[i];
        if (piece->shard >= m->shard_count || piece->tensor >= m->tensor_count) abort();
        if (piece->count == 0 || piece->first + piece->count > m->tensors[piece->tensor].count) abort();
        if (piece->offset + piece->count * 4 > m->shards[piece->shard].bytes) abort();
        covered += piece->count;
    }
    const size_t kinds = mst_manifest_kinds(m);
    if (covered != kinds * elements || m->digests.bytes != m->blocks * kinds * 32) abort();
    if (m->weights_only && !m->packed) abort();
    for (size_t i = 0; i < m->place_count; i++) {
        const mst_manifest_place *place = &m->places[i];
        if (place->shard >= m->shard_count || place->offset + place->bytes > m->shards[place->shard].bytes)
            abort();
    }
    if (m->place_count != m->piece_count + (m->packed ? 2u + (m->tokenizer.name[0] != '\0') : 0u)) abort();
    for (size_t i = 0; i < m->shard_count; i++)
        if (strchr(m->shards[i].name, '/') != NULL || m->shards[i].name[0] == '.') abort();
}

static void print_again(const mst_manifest *m) {
    mst_manifest again;
    char *text = NULL;
    size_t bytes;
    if (ckpt_manifest_print(m, &text, &bytes) != MST_OK ||
        mst_manifest_parse(text, bytes, "again", &again) != MST_OK) {
        fprintf(stderr, "%s\n", mst_error_message());
        abort();
    }
    mst_manifest_clear(&again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mst_manifest manifest;
    mst_digest digest;
    char hex[MST_DIGEST_HEX];
    char *text = malloc(size + CKPT_SEAL_BYTES + 1);
    if (text == NULL || mst_digest_of(data, size, &digest) != MST_OK) abort();
    memcpy(text, data, size);
    mst_digest_to_hex(&digest, hex);
    snprintf(text + size, CKPT_SEAL_BYTES + 1, "%s%s%s", CKPT_SEAL_HEAD, hex, CKPT_SEAL_TAIL);
    mst_status status = mst_manifest_parse(text, size + CKPT_SEAL_BYTES, "fuzz", &manifest);
    if (status == MST_OK) {
        check(&manifest);
        print_again(&manifest);
        fuzz_accepted++;
    } else if (status != MST_EFORMAT || manifest.tensors != NULL) {
        abort();
    }
    mst_manifest_clear(&manifest);
    free(text);
    return 0;
}

/* Two tensors, the larger one in two files; or packed, with a tokenizer. */
static size_t make_valid(size_t kinds, bool packed, uint8_t *data) {
    mst_manifest_file shards[2] = {{.name = "shard-0000-of-0002-0123456789abcdef.h5", .bytes = 100000},
                                   {.name = "shard-0001-of-0002-0123456789abcdef.h5", .bytes = 200000}};
    mst_manifest_tensor tensors[2] = {{.name = "a.weight", .dims = 2, .shape = {100, 50}, .count = 5000},
                                      {.name = "b.bias", .dims = 1, .shape = {7, 1}, .count = 7}};
    mst_manifest_piece pieces[9];
    for (size_t kind = 0; kind < MST_KIND_COUNT; kind++) {
        mst_manifest_piece *p = &pieces[3 * kind];
        p[0] =
            (mst_manifest_piece){.kind = (mst_tensor_kind)kind, .count = 4096, .offset = 4096 + 20000 * kind};
        p[1] = (mst_manifest_piece){.kind = (mst_tensor_kind)kind, .shard = 1, .first = 4096, .count = 904};
        p[1].offset = 4096 + 20000 * kind;
        p[2] = (mst_manifest_piece){.kind = (mst_tensor_kind)kind, .tensor = 1, .shard = 1, .count = 7};
        p[2].offset = 4096 + 20000 * kind + 904 * 4;
    }
    const mst_manifest_file tokenizer = {.name = "tokenizer.json", .bytes = 40, .offset = 90000};
    for (size_t i = 0; packed && i < 2 * kinds; i++) /* each tensor whole, in one file */
        pieces[i] = (mst_manifest_piece){.kind = (mst_tensor_kind)(i / 2),
                                         .tensor = i % 2,
                                         .count = tensors[i % 2].count,
                                         .offset = 8192 + 20480 * (i / 2) + 20000 * (i % 2)};
    char id[] = "run", config[] = "run: {name: x}\n";
    mst_model_config model = {.rope_factor = 8,
                              .rope_low_freq_factor = 1,
                              .rope_high_freq_factor = 4,
                              .rope_original_seq_len = 8192};
    mst_manifest manifest = {.packed = packed,
                             .weights_only = kinds == 1,
                             .meta = {.step = 3, .run_id = id, .config = config, .model = model},
                             .digests = {.name = "digests.bin", .bytes = kinds * 3 * 32},
                             .model = {.name = "model.h5", .bytes = 4000},
                             .shards = shards,
                             .shard_count = packed ? 1 : 2,
                             .tensors = tensors,
                             .tensor_count = 2,
                             .pieces = pieces,
                             .piece_count = packed ? 2 * kinds : 9};
    if (packed) {
        manifest.digests.offset = 80000;
        manifest.tokenizer = tokenizer;
    }
    if (!packed) manifest.checksums = (mst_manifest_file){.name = "checksums.bin", .bytes = 3 * 3 * 8};
    char *text = NULL;
    size_t bytes = 0;
    CHECK_OK(ckpt_manifest_print(&manifest, &text, &bytes));
    CHECK(bytes > CKPT_SEAL_BYTES && bytes < FUZZ_ROOM, "the valid manifest has %zu bytes", bytes);
    memcpy(data, text, bytes);
    free(text);
    return bytes - CKPT_SEAL_BYTES;
}

/* A folder's, a packed one's, one of weights only. */
static size_t fuzz_valid(size_t number, uint8_t *data) {
    static uint8_t valid[3][FUZZ_ROOM];
    static size_t sizes[3];
    if (number > 2) return 0;
    if (sizes[number] == 0)
        sizes[number] = make_valid(number == 2 ? 1 : MST_KIND_COUNT, number > 0, valid[number]);
    memcpy(data, valid[number], sizes[number]);
    return sizes[number];
}

static void fuzz_change(uint8_t *data, size_t *size) {
    for (uint64_t changes = 1 + fuzz_random(3); changes > 0; changes--) fuzz_mutate(data, size, 0, *size);
    if (fuzz_random(16) == 0) *size = fuzz_random(*size + 1);
}

#ifndef MST_LIBFUZZER
int main(int argc, char **argv) {
    return fuzz_main(argc, argv, "fuzz_manifest");
}
#endif
