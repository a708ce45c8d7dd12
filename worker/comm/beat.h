/*
 * A heartbeat's bytes. Each has a number and a MAC (HMAC-SHA256, 16 bytes of it) under a key that only the job's ranks know,
 * so that nobody else can make, repeat, reorder or turn round one. Reading is a pure function. Private to the room.
 */
#ifndef MUSTER_BEAT_H
#define MUSTER_BEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

enum {
    MST_KEY_BYTES = 32,
    MST_NONCE_BYTES = 16,
    MST_MAC_BYTES = 16,
    MST_PHASE_BYTES = 32, /* with the final NUL */
    MST_BEAT_BYTES = 80,
    MST_CPU_UNKNOWN = 255,
};

typedef enum mst_beat_kind {
    MST_BEAT_HELLO = 1, /* the first one of a connection */
    MST_BEAT_ALIVE,     /* the rank and its state */
    MST_BEAT_FAREWELL,  /* the rank leaves in peace; its connection may close */
    MST_BEAT_END,       /* the job ends: exit at once */
} mst_beat_kind;

/* What a rank says. */
typedef struct mst_beat {
    mst_beat_kind kind;
    bool waiting; /* for other ranks */
    uint8_t cpu;  /* percent of a core that the main thread used since its last progress; MST_CPU_UNKNOWN */
    uint64_t number, step;
    double idle; /* seconds since the main thread last reported progress; to the microsecond */
    char phase[MST_PHASE_BYTES];
} mst_beat;

/* One direction of one connection. */
typedef struct mst_seal {
    unsigned char key[MST_KEY_BYTES];
    uint32_t from, to; /* ranks */
    uint64_t number;   /* of the last beat that was sealed or taken */
} mst_seal;

typedef enum mst_verdict {
    MST_BEAT_GOOD,
    MST_BEAT_LENGTH, /* not MST_BEAT_BYTES */
    MST_BEAT_MARKER, /* no beat begins here */
    MST_BEAT_MAC,    /* made without the key, for another connection, or for the other direction */
    MST_BEAT_NUMBER, /* the MAC is right: a repetition, or out of order */
    MST_BEAT_FIELD,  /* the MAC is right, a value is not: another program's */
} mst_verdict;

/** HMAC-SHA256 (RFC 2104) of at most 128 bytes under a key of at most 64. Not collective.
 * @retval MST_ELIBRARY libcrypto failed; MST_EINVAL too long */
mst_status mst_mac(const void *key, size_t key_bytes, const void *text, size_t bytes,
                   unsigned char mac_out[MST_KEY_BYTES]);

/** The key of one connection, from the job's key, a nonce of either end and the rank that called. Not collective. */
mst_status mst_session_key(const unsigned char job[MST_KEY_BYTES], const unsigned char asked[MST_NONCE_BYTES],
                           const unsigned char given[MST_NONCE_BYTES], uint32_t rank,
                           unsigned char key_out[MST_KEY_BYTES]);

/** Writes the next beat of a direction; its number is the seal's, raised by one. Not collective.
 * @retval MST_ELIBRARY as mst_mac */
mst_status mst_beat_write(mst_seal *seal, const mst_beat *beat, unsigned char bytes_out[MST_BEAT_BYTES]);

/** Reads a beat. Pure: who takes it sets seal->number to beat_out->number. Not collective.
 * @param beat_out whole when the verdict is MST_BEAT_GOOD, else zero */
mst_verdict mst_beat_read(const mst_seal *seal, const unsigned char *bytes, size_t count, mst_beat *beat_out);

/** Bytes before the first place at or after `from` where a beat may begin; `count` when there is none. Not collective. */
size_t mst_beat_find(const unsigned char *bytes, size_t count, size_t from);

#endif
