/*
 * The watchdogs' own connections: rank 0 has one TCP connection to every other rank, over which both sides
 * say each second how they are. Not over MPI, since MPI may be what hangs. Private to the room.
 */
#ifndef MUSTER_LINK_H
#define MUSTER_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "muster/comm.h"

typedef enum mst_beat_kind {
    MST_BEAT_ALIVE = 1, /* the rank and its state */
    MST_BEAT_FAREWELL,  /* the rank leaves in peace; its connection may close */
    MST_BEAT_END,       /* the job ends: exit at once */
} mst_beat_kind;

/* What a rank says; the same bytes travel, between processes of one program on one kind of machine. */
typedef struct mst_beat {
    uint32_t kind, waiting; /* waiting: for other ranks, 0 or 1 */
    uint64_t step;
    double idle; /* seconds since the main thread last reported progress */
    char phase[40];
} mst_beat;

typedef struct mst_link {
    int rank; /* at the other end */
    int fd;   /* -1: closed */
    unsigned char in[sizeof(mst_beat)], out[sizeof(mst_beat)];
    size_t in_count,
        out_count; /* bytes of a beat that has come in part, and of one that is still to be sent */
} mst_link;

/** Connections of this rank: size - 1 on rank 0, one elsewhere, none when it is alone. */
size_t mst_link_count(const mst_comm *comm);

/**
 * Connects every rank with rank 0. Who does not know the random token, which travels
 * over MPI only, is dropped.
 *
 * Collective: agrees on its status.
 * @param one_host all ranks run on one host: nothing leaves it
 * @param links_out [mst_link_count]
 * @retval MST_EIO no socket, or a rank could not be reached within 30 s
 */
mst_status mst_links_open(mst_comm *comm, bool one_host, mst_link *links_out);
void mst_link_close(mst_link *link);

/** Sends a beat, or drops it when the other end does not read. Does not block. */
void mst_link_send(mst_link *link, const mst_beat *beat);

typedef enum mst_link_event { MST_LINK_NOTHING, MST_LINK_BEAT, MST_LINK_CLOSED } mst_link_event;

/** Takes the next beat if one has come. Does not block. */
mst_link_event mst_link_receive(mst_link *link, mst_beat *beat_out);

#endif
