/*
 * How the watchdogs' connections come to be, and come back when one breaks: rank 0 listens as long as the job lasts, on the
 * job's interface only; who calls must know the job's key, which travels over MPI alone. Private to the room.
 */
#ifndef MUSTER_MEETING_H
#define MUSTER_MEETING_H

#include <poll.h>

#include "link.h"
#include "muster/comm.h"

typedef struct mst_meeting mst_meeting;

typedef struct mst_meeting_options {
    bool one_host;          /* all ranks run on one host: nothing leaves it */
    const char *interfaces; /* as the key network.interfaces; NULL: where the routes between the hosts lead */
    mst_link *links;        /* [mst_link_count] filled here; kept by reference */
} mst_meeting_options;

/** Connections of this rank: size - 1 on rank 0, one elsewhere, none when it is alone. */
size_t mst_link_count(const mst_comm *comm);

/**
 * Connects every rank with rank 0.
 *
 * Collective: agrees on its status.
 * @retval MST_EIO no socket, or a rank could not be reached within 30 s; MST_ECONFIG the interfaces are not there
 */
mst_status mst_meeting_create(mst_comm *comm, const mst_meeting_options *options, mst_meeting **meeting_out);
/** Closes what listens and who has not proved anything, not the links. Accepts NULL inside, resets the pointer. */
void mst_meeting_destroy(mst_meeting **meeting);

/** At most so many for mst_meeting_poll. */
size_t mst_meeting_polled_max(void);
/** What rank 0 waits for besides its links. Not collective. @return how many; 0 on other ranks */
size_t mst_meeting_poll(mst_meeting *meeting, struct pollfd *polled_out);
/** Lets in who calls and can prove to be a rank; drops all others. Not collective; does not block.
 * @param polled as of mst_meeting_poll, after poll */
void mst_meeting_serve(mst_meeting *meeting, const struct pollfd *polled);

/** Calls rank 0 until it answers. Not collective; other ranks only. @retval false it did not within `seconds` */
bool mst_meeting_call(mst_meeting *meeting, double seconds);

#endif
