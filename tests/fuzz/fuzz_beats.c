/*
 * Fuzzing of heartbeats. The first byte says how the rest comes: with MACs that an attacker without the key can only guess,
 * or (odd) with every MAC set right, as from another program with the key. A stream is read as a connection reads it.
 * What is accepted must be in bounds, newer than the last, and the same when it is written again.
 */
#include "beat.h"
#include "fuzz.h"

enum { PIECES_MAX = 64, MAC_AT = MST_BEAT_BYTES - MST_MAC_BYTES };

static const mst_seal start = {.key = {1, 2, 3}, .from = 5, .to = 0, .number = 1};

static void check(const mst_seal *seal, const mst_beat *beat, const uint8_t *bytes) {
    uint8_t again[MST_BEAT_BYTES];
    mst_seal before = *seal;
    if (beat->kind < MST_BEAT_HELLO || beat->kind > MST_BEAT_END || beat->number <= seal->number) abort();
    if (memchr(beat->phase, '\0', sizeof beat->phase) == NULL || !(beat->idle >= 0)) abort();
    before.number = beat->number - 1;
    if (mst_beat_write(&before, beat, again) != MST_OK || before.number != beat->number) abort();
    /* what stands behind a phase's end, and microseconds beyond a double's digits, are not kept */
    if (memcmp(again, bytes, 24) != 0 || strcmp((const char *)again + 32, (const char *)bytes + 32) != 0)
        abort();
}

/* A beat's bytes with the MAC that its other bytes deserve. */
static void set_right(uint8_t *bytes) {
    uint8_t text[8 + MAC_AT] = {5}, mac[MST_KEY_BYTES];
    memcpy(text + 8, bytes, MAC_AT);
    if (mst_mac(start.key, sizeof start.key, text, sizeof text, mac) != MST_OK) abort();
    memcpy(bytes + MAC_AT, mac, MST_MAC_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    mst_seal seal = start;
    if (size == 0) return 0;
    const bool honest = (data[0] & 1) != 0;
    bool accepted = false;
    size_t at = 1;
    for (int pieces = 0; at < size && pieces < PIECES_MAX; pieces++) {
        uint8_t bytes[MST_BEAT_BYTES];
        mst_beat beat;
        const size_t left = size - at, count = left < sizeof bytes ? left : sizeof bytes;
        memcpy(bytes, data + at, count);
        if (honest && count == sizeof bytes) set_right(bytes);
        const mst_verdict verdict = mst_beat_read(&seal, bytes, count, &beat);
        const mst_beat none = {.kind = 0};
        if (verdict != MST_BEAT_GOOD && memcmp(&beat, &none, sizeof beat) != 0) abort();
        if (verdict == MST_BEAT_GOOD) {
            check(&seal, &beat, bytes);
            seal.number = beat.number;
            accepted = true;
        }
        const bool whole =
            verdict == MST_BEAT_GOOD || verdict == MST_BEAT_NUMBER || verdict == MST_BEAT_FIELD;
        const size_t next = whole ? count : mst_beat_find(bytes, count, 1);
        if (next < 1 || next > count) abort();
        at += next;
    }
    fuzz_accepted += accepted;
    return 0;
}

/* Two beats after another, as they come or to be set right. */
static size_t fuzz_valid(size_t number, uint8_t *data) {
    mst_seal seal = start;
    const mst_beat beat = {.kind = MST_BEAT_ALIVE,
                           .waiting = number > 1,
                           .cpu = 40,
                           .step = 7,
                           .idle = 0.25,
                           .phase = "compute"};
    if (number > 3) return 0;
    data[0] = (uint8_t)(number & 1);
    for (size_t i = 0; i < 2; i++) CHECK_OK(mst_beat_write(&seal, &beat, data + 1 + i * MST_BEAT_BYTES));
    return 1 + 2 * MST_BEAT_BYTES;
}

static void fuzz_change(uint8_t *data, size_t *size) {
    for (uint64_t changes = 1 + fuzz_random(4); changes > 0; changes--) fuzz_mutate(data, size, 0, *size);
    if (fuzz_random(8) == 0) *size = fuzz_random(*size + 1);
}

#ifndef MST_LIBFUZZER
int main(int argc, char **argv) {
    return fuzz_main(argc, argv, "fuzz_beats");
}
#endif
