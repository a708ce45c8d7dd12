/*
 * The watchdogs' own connections: rank 0 has one TCP connection to every other rank, over which both sides
 * say each second how they are. Not over MPI, since MPI may be what hangs. Private to the room.
 */
#ifndef MUSTER_LINK_H
#define MUSTER_LINK_H

#include "beat.h"

typedef struct mst_link {
    int rank;         /* at the other end */
    int fd;           /* -1: closed */
    double lost;      /* clock of the watchdog when it closed; negative: it stands */
    mst_seal in, out; /* of this connection */
    unsigned char arriving[MST_BEAT_BYTES], leaving[MST_BEAT_BYTES];
    size_t arrived, left; /* bytes of a beat that has come in part, and of one that is still to be sent */
    uint64_t refused;     /* beats that were no good */
} mst_link;

/** A link of rank `self` to rank `rank` that is closed. */
mst_link mst_link_make(int self, int rank);

/** Takes a connected socket, which does not block, and the key of its connection, in place of what was there. */
void mst_link_open(mst_link *link, int fd, const unsigned char key[MST_KEY_BYTES]);
void mst_link_close(mst_link *link);
/** Closes after a farewell: what has come is read first, since the system answers unread bytes with a reset, which could
 * overtake the farewell. */
void mst_link_leave(mst_link *link);

/** Sends a beat, or drops it when the other end does not read. Does not block. */
void mst_link_send(mst_link *link, const mst_beat *beat);

typedef enum mst_link_event { MST_LINK_NOTHING, MST_LINK_BEAT, MST_LINK_CLOSED } mst_link_event;

/** Takes the next good beat if one has come; passes over every byte that belongs to none. Does not block. */
mst_link_event mst_link_receive(mst_link *link, mst_beat *beat_out);

#endif
