#include "beat.h"

#include <string.h>

#include "muster/digest.h"

/* Where each field stands; numbers are little-endian. */
enum {
    MARKER_BYTES = 4,
    AT_KIND = 4,
    AT_WAITING = 5,
    AT_CPU = 6,
    AT_ZERO = 7,
    AT_NUMBER = 8,
    AT_STEP = 16,
    AT_IDLE = 24, /* microseconds */
    AT_PHASE = 32,
    AT_MAC = AT_PHASE + MST_PHASE_BYTES,
    HASH_BLOCK = 64, /* of SHA-256 */
    TEXT_MAX = 128,
};
_Static_assert(AT_MAC + MST_MAC_BYTES == MST_BEAT_BYTES, "the fields fill a beat");
static const unsigned char marker[MARKER_BYTES] = {'m', 'b', 0xf5, 2}; /* 2: of this layout */

static void put(unsigned char *place, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) place[i] = (unsigned char)(value >> 8 * i);
}

static uint64_t get(const unsigned char *place, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) value |= (uint64_t)place[i] << 8 * i;
    return value;
}

/* ---- the MAC ---- */

mst_status mst_mac(const void *key, size_t key_bytes, const void *text, size_t bytes,
                   unsigned char mac_out[MST_KEY_BYTES]) {
    mst_status status = MST_OK;
    unsigned char inner[HASH_BLOCK + TEXT_MAX] = {0}, outer[HASH_BLOCK + MST_DIGEST_BYTES] = {0};
    mst_digest digest;
    MST_CHECK(key_bytes <= HASH_BLOCK && bytes <= TEXT_MAX, MST_EINVAL,
              "MAC: a key of %zu bytes or a text of %zu is too long", key_bytes, bytes);
    memcpy(inner, key, key_bytes);
    memcpy(outer, key, key_bytes);
    for (size_t i = 0; i < HASH_BLOCK; i++) {
        inner[i] ^= 0x36;
        outer[i] ^= 0x5c;
    }
    if (bytes > 0) memcpy(inner + HASH_BLOCK, text, bytes);
    MST_TRY(mst_digest_of(inner, HASH_BLOCK + bytes, &digest));
    memcpy(outer + HASH_BLOCK, digest.bytes, sizeof digest.bytes);
    MST_TRY(mst_digest_of(outer, sizeof outer, &digest));
    memcpy(mac_out, digest.bytes, sizeof digest.bytes);
done:
    return status;
}

mst_status mst_session_key(const unsigned char job[MST_KEY_BYTES], const unsigned char asked[MST_NONCE_BYTES],
                           const unsigned char given[MST_NONCE_BYTES], uint32_t rank,
                           unsigned char key_out[MST_KEY_BYTES]) {
    static const char purpose[] = "muster heartbeats";
    unsigned char text[sizeof purpose + 2 * MST_NONCE_BYTES + 4];
    memcpy(text, purpose, sizeof purpose);
    memcpy(text + sizeof purpose, asked, MST_NONCE_BYTES);
    memcpy(text + sizeof purpose + MST_NONCE_BYTES, given, MST_NONCE_BYTES);
    put(text + sizeof purpose + 2 * (size_t)MST_NONCE_BYTES, rank, 4);
    return mst_mac(job, MST_KEY_BYTES, text, sizeof text, key_out);
}

/* Who says it to whom is not sent, but is in the MAC: a beat that comes back does not fit. */
static mst_status seal_mac(const mst_seal *seal, const unsigned char *bytes,
                           unsigned char mac_out[MST_KEY_BYTES]) {
    unsigned char text[8 + AT_MAC];
    put(text, seal->from, 4);
    put(text + 4, seal->to, 4);
    memcpy(text + 8, bytes, AT_MAC);
    return mst_mac(seal->key, sizeof seal->key, text, sizeof text, mac_out);
}

/* In the same time wherever the first difference stands. */
static bool is_same(const unsigned char *left, const unsigned char *right, size_t bytes) {
    unsigned char difference = 0;
    for (size_t i = 0; i < bytes; i++) difference |= (unsigned char)(left[i] ^ right[i]);
    return difference == 0;
}

/* ---- a beat ---- */

static uint64_t microseconds_of(double seconds) {
    if (!(seconds > 0)) return 0;
    return seconds < 1e12 ? (uint64_t)(seconds * 1e6) : UINT64_C(1000000000000000000);
}

mst_status mst_beat_write(mst_seal *seal, const mst_beat *beat, unsigned char bytes_out[MST_BEAT_BYTES]) {
    mst_status status = MST_OK;
    unsigned char mac[MST_KEY_BYTES];
    memset(bytes_out, 0, MST_BEAT_BYTES);
    memcpy(bytes_out, marker, MARKER_BYTES);
    bytes_out[AT_KIND] = (unsigned char)beat->kind;
    bytes_out[AT_WAITING] = beat->waiting;
    bytes_out[AT_CPU] = beat->cpu;
    put(bytes_out + AT_NUMBER, ++seal->number, 8);
    put(bytes_out + AT_STEP, beat->step, 8);
    put(bytes_out + AT_IDLE, microseconds_of(beat->idle), 8);
    memcpy(bytes_out + AT_PHASE, beat->phase, strnlen(beat->phase, MST_PHASE_BYTES - 1));
    MST_TRY(seal_mac(seal, bytes_out, mac));
    memcpy(bytes_out + AT_MAC, mac, MST_MAC_BYTES);
done:
    return status;
}

static bool read_fields(const unsigned char *bytes, mst_beat *beat) {
    const unsigned char kind = bytes[AT_KIND];
    if (kind < MST_BEAT_HELLO || kind > MST_BEAT_END || bytes[AT_WAITING] > 1 || bytes[AT_ZERO] != 0)
        return false;
    if (memchr(bytes + AT_PHASE, '\0', MST_PHASE_BYTES) == NULL) return false;
    *beat = (mst_beat){.kind = (mst_beat_kind)kind,
                       .waiting = bytes[AT_WAITING],
                       .cpu = bytes[AT_CPU],
                       .number = get(bytes + AT_NUMBER, 8),
                       .step = get(bytes + AT_STEP, 8),
                       .idle = 1e-6 * (double)get(bytes + AT_IDLE, 8)};
    memcpy(beat->phase, bytes + AT_PHASE, MST_PHASE_BYTES);
    return true;
}

mst_verdict mst_beat_read(const mst_seal *seal, const unsigned char *bytes, size_t count,
                          mst_beat *beat_out) {
    unsigned char mac[MST_KEY_BYTES];
    *beat_out = (mst_beat){.kind = 0};
    if (count != MST_BEAT_BYTES) return MST_BEAT_LENGTH;
    if (memcmp(bytes, marker, MARKER_BYTES) != 0) return MST_BEAT_MARKER;
    if (seal_mac(seal, bytes, mac) != MST_OK || !is_same(mac, bytes + AT_MAC, MST_MAC_BYTES))
        return MST_BEAT_MAC;
    if (get(bytes + AT_NUMBER, 8) <= seal->number) return MST_BEAT_NUMBER;
    return read_fields(bytes, beat_out) ? MST_BEAT_GOOD : MST_BEAT_FIELD;
}

size_t mst_beat_find(const unsigned char *bytes, size_t count, size_t from) {
    for (size_t at = from; at < count; at++) {
        const size_t left = count - at;
        if (memcmp(bytes + at, marker, left < MARKER_BYTES ? left : MARKER_BYTES) == 0) return at;
    }
    return count;
}
