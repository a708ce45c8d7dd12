#include "link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

mst_link mst_link_make(int self, int rank) {
    return (mst_link){.rank = rank,
                      .fd = -1,
                      .lost = -1,
                      .in = {.from = (uint32_t)rank, .to = (uint32_t)self},
                      .out = {.from = (uint32_t)self, .to = (uint32_t)rank}};
}

void mst_link_open(mst_link *link, int fd, const unsigned char key[MST_KEY_BYTES]) {
    mst_link_close(link);
    link->fd = fd;
    link->lost = -1;
    link->in.number = link->out.number = 0;
    link->arrived = link->left = 0;
    memcpy(link->in.key, key, MST_KEY_BYTES);
    memcpy(link->out.key, key, MST_KEY_BYTES);
}

void mst_link_close(mst_link *link) {
    if (link->fd >= 0) close(link->fd);
    link->fd = -1;
}

void mst_link_leave(mst_link *link) {
    char rest[1024];
    if (link->fd < 0) return;
    shutdown(link->fd, SHUT_WR);
    while (recv(link->fd, rest, sizeof rest, MSG_DONTWAIT) > 0) continue;
    mst_link_close(link);
}

void mst_link_send(mst_link *link, const mst_beat *beat) {
    if (link->fd < 0) return;
    /* The end of the last beat must go first; where it has not, this one is dropped, and has no number. */
    if (link->left == 0 && mst_beat_write(&link->out, beat, link->leaving) == MST_OK)
        link->left = sizeof link->leaving;
    const unsigned char *rest = link->leaving + sizeof link->leaving - link->left;
    ssize_t sent = send(link->fd, rest, link->left, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) link->left -= (size_t)sent;
}

/* Whether a whole beat stands in the buffer. What cannot be one is thrown away up to where the next may begin, so that
 * bytes of a stranger that got in between cost no more than themselves. */
static bool take(mst_link *link, mst_beat *beat_out) {
    const mst_verdict verdict = mst_beat_read(&link->in, link->arriving, link->arrived, beat_out);
    size_t next = sizeof link->arriving;
    if (verdict == MST_BEAT_MARKER || verdict == MST_BEAT_MAC)
        next = mst_beat_find(link->arriving, link->arrived, 1);
    link->arrived -= next;
    memmove(link->arriving, link->arriving + next, link->arrived);
    if (verdict == MST_BEAT_GOOD)
        link->in.number = beat_out->number;
    else
        link->refused++;
    return verdict == MST_BEAT_GOOD;
}

mst_link_event mst_link_receive(mst_link *link, mst_beat *beat_out) {
    if (link->fd < 0) return MST_LINK_NOTHING;
    for (;;) {
        ssize_t got = recv(link->fd, link->arriving + link->arrived, sizeof link->arriving - link->arrived,
                           MSG_DONTWAIT);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return MST_LINK_NOTHING;
        if (got <= 0) return MST_LINK_CLOSED;
        link->arrived += (size_t)got;
        if (link->arrived == sizeof link->arriving && take(link, beat_out)) return MST_LINK_BEAT;
    }
}
