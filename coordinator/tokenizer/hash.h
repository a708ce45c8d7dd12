/* Hashing for tables in memory. The seed differs from run to run, so that no file can be made to collide; no result depends on
 * it. Private to the room. */
#ifndef TOKENIZER_HASH_H
#define TOKENIZER_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/** A number of this process. */
uint64_t hash_seed(void);

static inline uint64_t hash_mix(uint64_t x) {
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93u;
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93u;
    return x ^ x >> 32;
}

static inline uint64_t hash_bytes(const uint8_t *bytes, size_t count, uint64_t seed) {
    uint64_t hash = seed ^ count * 0x9E3779B97F4A7C15u, part = 0;
    for (; count >= 8; bytes += 8, count -= 8) {
        memcpy(&part, bytes, 8);
        hash = hash_mix(hash ^ part) + seed;
    }
    part = 0;
    memcpy(&part, bytes, count);
    return hash_mix(hash ^ part);
}

#endif
