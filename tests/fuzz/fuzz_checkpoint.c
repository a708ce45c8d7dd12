/*
 * Fuzzing of the readers of a whole checkpoint folder. The input is the bytes of its five files, the manifest without
 * its last line, which is set right; its first byte says whether the digests of whole files are set right too. An attacker
 * does both. Whatever the files say: each reader takes or refuses them, naming the folder; none asks for much memory, and
 * elements whose digests are the right ones are the right elements.
 */
#include "../checkpoint/state.h"
#include "cli/commands.h"
#include "fuzz.h"
#include "manifest.h"

enum { MANIFEST, DIGESTS, MODEL, TOKENIZER, SHARD, PARTS };
enum { HEAD = 1 + PARTS * 4, MEND_DIGESTS = 1, REQUEST_MAX = 16 << 20 };

typedef struct parts {
    const uint8_t *at[PARTS];
    size_t size[PARTS];
    bool mend;
} parts;

static const test_shape shapes[] = {{"a.weight", 2, {100, 41}, 0}, {"b.bias", 1, {7, 1}, 0}};
static const uint64_t seed = 3;
static test_state state;
static char folder[4096],
    names[PARTS][MST_FILE_NAME_MAX] = {"manifest.json", "digests.bin", "model.h5", "tokenizer.json"};

/* --- memory: no reader asks for much at once --- */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);

static size_t modest(size_t bytes) {
    if (bytes <= REQUEST_MAX) return bytes;
    fprintf(stderr, "%zu bytes of memory are asked for\n", bytes);
    abort();
}

void *__wrap_malloc(size_t bytes) {
    return __real_malloc(modest(bytes));
}
void *__wrap_calloc(size_t count, size_t bytes) {
    if (bytes > 0 && count > SIZE_MAX / bytes) modest(SIZE_MAX);
    modest(count * bytes);
    return __real_calloc(count, bytes);
}
void *__wrap_realloc(void *memory, size_t bytes) {
    return __real_realloc(memory, modest(bytes));
}

/* --- the input and the folder --- */

static void put_number(uint8_t *to, size_t number) {
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(number >> 8 * i);
}

/* Lengths beyond the input's end are cut. */
static void find_parts(const uint8_t *data, size_t size, parts *p) {
    size_t at = HEAD;
    p->mend = data[0] & MEND_DIGESTS;
    for (int i = 0; i < PARTS; i++) {
        size_t length = 0;
        for (int byte = 3; byte >= 0; byte--) length = length << 8 | data[1 + 4 * i + byte];
        if (length > size - at) length = size - at;
        p->at[i] = data + at;
        p->size[i] = length;
        at += length;
    }
}

/* Writes a file unless it holds these bytes already. */
static void put_file(int number, const uint8_t *bytes, size_t count) {
    static uint8_t there[PARTS][FUZZ_ROOM + CKPT_SEAL_BYTES];
    static size_t size[PARTS];
    static bool written[PARTS];
    char path[4096];
    if (written[number] && size[number] == count && memcmp(there[number], bytes, count) == 0) return;
    test_path(folder, names[number], path);
    put_bytes(path, bytes, count);
    memcpy(there[number], bytes, count);
    size[number] = count;
    written[number] = true;
}

/* Puts the true digest of a file where the manifest speaks of it: {"name": NAME, ..., "sha256": "HEX"}. */
static void mend_digest(char *text, size_t bytes, const char *name, const uint8_t *file, size_t file_bytes) {
    static const char key[] = "\"sha256\": \"";
    char quoted[MST_FILE_NAME_MAX + 2], hex[MST_DIGEST_HEX];
    mst_digest digest;
    int length = snprintf(quoted, sizeof quoted, "\"%s\"", name);
    char *named = memmem(text, bytes, quoted, (size_t)length);
    char *said = named == NULL ? NULL : memmem(named, bytes - (size_t)(named - text), key, sizeof key - 1);
    if (said == NULL || (size_t)(said - text) + sizeof key + MST_DIGEST_HEX > bytes) return;
    if (mst_digest_of(file, file_bytes, &digest) != MST_OK) abort();
    mst_digest_to_hex(&digest, hex);
    memcpy(said + sizeof key - 1, hex, MST_DIGEST_HEX - 1);
}

static void put_manifest(const parts *p) {
    static char text[FUZZ_ROOM + CKPT_SEAL_BYTES + 1];
    char hex[MST_DIGEST_HEX];
    mst_digest digest;
    const size_t size = p->size[MANIFEST];
    memcpy(text, p->at[MANIFEST], size);
    for (int i = DIGESTS; p->mend && i <= TOKENIZER; i++)
        mend_digest(text, size, names[i], p->at[i], p->size[i]);
    if (mst_digest_of(text, size, &digest) != MST_OK) abort();
    mst_digest_to_hex(&digest, hex);
    snprintf(text + size, CKPT_SEAL_BYTES + 1, "%s%s%s", CKPT_SEAL_HEAD, hex, CKPT_SEAL_TAIL);
    put_file(MANIFEST, (const uint8_t *)text, size + CKPT_SEAL_BYTES);
}

/* --- the readers --- */

static bool taken(mst_status status) {
    if (status == MST_OK) return true;
    if ((status != MST_EFORMAT && status != MST_EIO) || strstr(mst_error_message(), folder) == NULL) {
        fprintf(stderr, "%s: %s\n", mst_status_name(status), mst_error_message());
        abort();
    }
    return false;
}

/* As `muster inspect CKPT --tensors`, and --config. */
static void inspect(char *option) {
    static int nowhere = -1, out;
    char *words[] = {folder, option};
    cli_args *args;
    if (nowhere < 0) {
        nowhere = open("/dev/null", O_WRONLY);
        out = dup(STDOUT_FILENO);
    }
    if (cli_parse(&cli_inspect, 2, words, &args) != MST_OK) abort();
    fflush(stdout);
    dup2(nowhere, STDOUT_FILENO);
    taken(cli_inspect.run(args));
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    cli_args_destroy(&args);
}

static void read_all(bool right_digests) {
    mst_checkpoint_meta meta;
    mst_checkpoint_digests digests;
    char *json, tensors[] = "--tensors", config[] = "--config";
    size_t bytes;
    taken(mst_checkpoint_open(folder, &meta, &digests));
    mst_checkpoint_meta_clear(&meta);
    if (taken(mst_checkpoint_tokenizer(folder, &json, &bytes)) && json != NULL && json[bytes] != '\0')
        abort();
    free(json);
    bool whole = taken(mst_checkpoint_verify(&state.context, folder, &digests));
    bool loaded = taken(mst_checkpoint_load(&state.context, folder, &state.layout, state.shards));
    if (loaded && right_digests && test_state_differences(&state, seed) > 0) abort();
    fuzz_accepted += whole && loaded;
    inspect(tensors);
    inspect(config);
}

/* --- valid inputs --- */

static void pack(const parts *p, uint8_t *data, size_t *size_out) {
    size_t at = HEAD;
    data[0] = p->mend ? MEND_DIGESTS : 0;
    for (int i = 0; i < PARTS; i++) {
        if (p->size[i] > FUZZ_ROOM - at) abort();
        put_number(data + 1 + 4 * i, p->size[i]);
        memcpy(data + at, p->at[i], p->size[i]);
        at += p->size[i];
    }
    *size_out = at;
}

static void leave(void) {
    test_folder_remove(folder);
}

/* Saves a checkpoint; what it holds is the first valid input. */
static void make_valid(uint8_t *data, size_t *size_out) {
    mst_comm *comm;
    mst_manifest manifest;
    mst_checkpoint_digests digests;
    uint8_t *files[PARTS];
    char base[4096], path[4096];
    parts p = {.mend = false};
    CHECK_OK(mst_comm_create_alone(&comm));
    test_state_create_of(comm, seed, shapes, 2, &state);
    test_folder_make(base);
    CHECK_OK(
        mst_checkpoint_save(&state.context, base, &state.layout, state.shards, &state.meta, &digests, path));
    CHECK_OK(mst_manifest_read(path, &manifest));
    snprintf(names[SHARD], sizeof names[SHARD], "%s", manifest.shards[0].name);
    mst_manifest_clear(&manifest);
    memcpy(folder, path, sizeof folder);
    for (int i = 0; i < PARTS; i++) {
        test_path(folder, names[i], path);
        p.at[i] = files[i] = get_bytes(path, &p.size[i]);
    }
    p.size[MANIFEST] -= CKPT_SEAL_BYTES;
    pack(&p, data, size_out);
    for (int i = 0; i < PARTS; i++) free(files[i]);
    atexit(leave);
}

/* The second valid input: the larger tensor's pieces are cut in two. */
static void cut_pieces(uint8_t *data, size_t *size) {
    mst_manifest m;
    mst_manifest_piece cut[9];
    char *text;
    size_t bytes, count = 0;
    parts p;
    CHECK_OK(mst_manifest_read(folder, &m));
    for (size_t i = 0; i < m.piece_count; i++) {
        cut[count++] = m.pieces[i];
        if (m.pieces[i].count <= MST_BLOCK) continue;
        cut[count] = m.pieces[i];
        cut[count - 1].count = cut[count].first = MST_BLOCK;
        cut[count].count -= MST_BLOCK;
        cut[count++].offset += MST_BLOCK * 4;
    }
    mst_manifest again = m;
    again.pieces = cut;
    again.piece_count = count;
    CHECK_OK(ckpt_manifest_print(&again, &text, &bytes));
    static uint8_t first[FUZZ_ROOM];
    memcpy(first, data, *size);
    find_parts(first, *size, &p);
    p.at[MANIFEST] = (uint8_t *)text;
    p.size[MANIFEST] = bytes - CKPT_SEAL_BYTES;
    pack(&p, data, size);
    free(text);
    mst_manifest_clear(&m);
}

static size_t fuzz_valid(size_t number, uint8_t *data) {
    static uint8_t valid[2][FUZZ_ROOM];
    static size_t size[2];
    if (size[0] == 0) {
        make_valid(valid[0], &size[0]);
        memcpy(valid[1], valid[0], size[1] = size[0]);
        cut_pieces(valid[1], &size[1]);
    }
    if (number > 1) return 0;
    memcpy(data, valid[number], size[number]);
    return size[number];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t valid[FUZZ_ROOM];
    static parts first;
    parts p;
    if (first.at[0] == NULL) find_parts(valid, fuzz_valid(0, valid), &first);
    if (size < HEAD || size > FUZZ_ROOM) return 0;
    find_parts(data, size, &p);
    put_manifest(&p);
    for (int i = DIGESTS; i < PARTS; i++) put_file(i, p.at[i], p.size[i]);
    read_all(p.size[DIGESTS] == first.size[DIGESTS] &&
             memcmp(p.at[DIGESTS], first.at[DIGESTS], p.size[DIGESTS]) == 0);
    return 0;
}

/* --- changes --- */

/* A line of the manifest: again, gone, or in the place of another. */
static void change_line(uint8_t *data, size_t *size, size_t low, size_t high) {
    uint8_t line[256];
    size_t from = low + fuzz_random(high - low), to = low + fuzz_random(high - low), length = 0;
    while (from > low && data[from - 1] != '\n') from--;
    while (to > low && data[to - 1] != '\n') to--;
    while (from + length < high && length + 1 < sizeof line && data[from + length] != '\n') length++;
    memcpy(line, data + from, ++length);
    size_t there = 0, kind = fuzz_random(3);
    while (kind > 0 && to + there < high && data[to + there] != '\n') there++;
    fuzz_splice(data, size, to, there, line, kind == 2 ? 0 : length - (there > 0));
}

static void change_once(uint8_t *data, size_t *size) {
    static const int likely[] = {MANIFEST, MANIFEST, MANIFEST, MANIFEST,  MANIFEST,
                                 DIGESTS,  SHARD,    MODEL,    TOKENIZER, PARTS};
    const int part = likely[fuzz_random(sizeof likely / sizeof *likely)];
    const size_t before = *size;
    parts p;
    if (part == PARTS || before < HEAD) {
        fuzz_mutate(data, size, 0, before);
        return;
    }
    find_parts(data, before, &p);
    const size_t low = (size_t)(p.at[part] - data), high = low + p.size[part];
    if (low >= high) return;
    if (part == MANIFEST && fuzz_random(4) == 0)
        change_line(data, size, low, high);
    else
        fuzz_mutate(data, size, low, high);
    put_number(data + 1 + 4 * part, p.size[part] + *size - before);
}

static void fuzz_change(uint8_t *data, size_t *size) {
    for (uint64_t changes = 1 + fuzz_random(3); changes > 0; changes--) change_once(data, size);
    data[0] = (uint8_t)fuzz_random(2);
    if (fuzz_random(16) == 0) *size = fuzz_random(*size + 1);
}

#ifndef MST_LIBFUZZER
int main(int argc, char **argv) {
    return fuzz_main(argc, argv, "fuzz_checkpoint");
}
#endif
