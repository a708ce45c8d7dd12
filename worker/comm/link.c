#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    ADDRESS_MAX = 16,
    TOKEN_BYTES = 16,
    PENDING_MAX = 128, /* strangers and ranks that have not said who they are yet */
    OPEN_SECONDS = 30, /* for all connections together */
    TRY_SECONDS = 3,   /* for one address */
};

/* What rank 0 tells the others over MPI. */
typedef struct invitation {
    unsigned char token[TOKEN_BYTES],
        answer[TOKEN_BYTES]; /* proofs of the one that calls and of the one that answers */
    struct sockaddr_storage address[ADDRESS_MAX];
    int count;
} invitation;

typedef struct hello {
    unsigned char token[TOKEN_BYTES];
    int32_t rank;
} hello;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int milliseconds_to(double deadline) {
    double left = deadline - seconds_now();
    return left <= 0 ? 0 : (int)(left * 1e3) + 1;
}

size_t mst_link_count(const mst_comm *comm) {
    size_t size = (size_t)mst_comm_size(comm);
    return mst_comm_rank(comm) == 0 || size == 1 ? size - 1 : 1;
}

/* ---- beats ---- */

void mst_link_close(mst_link *link) {
    if (link->fd >= 0) close(link->fd);
    link->fd = -1;
}

void mst_link_send(mst_link *link, const mst_beat *beat) {
    if (link->fd < 0) return;
    if (link->out_count == 0) {
        memcpy(link->out, beat, sizeof *beat);
        link->out_count = sizeof *beat;
    } /* else the end of the last one must go first, and this one is dropped */
    const unsigned char *rest = link->out + sizeof link->out - link->out_count;
    ssize_t sent = send(link->fd, rest, link->out_count, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) link->out_count -= (size_t)sent;
}

mst_link_event mst_link_receive(mst_link *link, mst_beat *beat_out) {
    if (link->fd < 0) return MST_LINK_NOTHING;
    while (link->in_count < sizeof link->in) {
        ssize_t got =
            recv(link->fd, link->in + link->in_count, sizeof link->in - link->in_count, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return MST_LINK_NOTHING;
        if (got <= 0) return MST_LINK_CLOSED;
        link->in_count += (size_t)got;
    }
    memcpy(beat_out, link->in, sizeof *beat_out);
    beat_out->phase[sizeof beat_out->phase - 1] = '\0';
    link->in_count = 0;
    return MST_LINK_BEAT;
}

/* ---- rank 0 invites ---- */

static void set_options(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static socklen_t address_bytes(const struct sockaddr_storage *address) {
    return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static void set_port(struct sockaddr_storage *address, in_port_t port) {
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = port;
    else
        ((struct sockaddr_in *)(void *)address)->sin_port = port;
}

/* A socket that listens on a free port: on the loopback only, or on all interfaces,
 * IPv6 too where the system has it. */
static mst_status listen_anywhere(bool one_host, int *fd_out, in_port_t *port_out) {
    mst_status status = MST_OK;
    struct sockaddr_storage address = {0};
    int off = 0, fd = -1;
    if (!one_host) fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        address.ss_family = AF_INET6; /* zeros are "any" */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)&address;
        in->sin_family = AF_INET;
        in->sin_addr.s_addr = htonl(one_host ? INADDR_LOOPBACK : INADDR_ANY);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    MST_CHECK(fd >= 0, MST_EIO, "watchdog: opening a socket: %s", strerror(errno));
    socklen_t bytes = address_bytes(&address);
    MST_CHECK(bind(fd, (struct sockaddr *)&address, bytes) == 0 && listen(fd, PENDING_MAX) == 0 &&
                  getsockname(fd, (struct sockaddr *)&address, &bytes) == 0,
              MST_EIO, "watchdog: listening on a free port: %s", strerror(errno));
    // NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): getsockname filled it
    *port_out = address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&address)->sin6_port
                                              : ((struct sockaddr_in *)(void *)&address)->sin_port;
    *fd_out = fd;
    fd = -1;
done:
    if (fd >= 0) close(fd);
    return status;
}

static bool is_usable(const struct ifaddrs *interface, bool one_host) {
    const struct sockaddr *address = interface->ifa_addr;
    if (!address || !(interface->ifa_flags & IFF_UP)) return false;
    if (one_host != ((interface->ifa_flags & IFF_LOOPBACK) != 0)) return false;
    if (address->sa_family == AF_INET) return true;
    return address->sa_family == AF_INET6 && !one_host &&
           !IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

/* The addresses under which other hosts may find this one.
 * Not by its name, which often means the loopback. */
static mst_status list_addresses(bool one_host, in_port_t port, invitation *invite) {
    mst_status status = MST_OK;
    struct ifaddrs *interfaces = NULL;
    MST_CHECK(getifaddrs(&interfaces) == 0, MST_EIO, "watchdog: listing network interfaces: %s",
              strerror(errno));
    for (const struct ifaddrs *i = interfaces; i && invite->count < ADDRESS_MAX; i = i->ifa_next) {
        if (!is_usable(i, one_host)) continue;
        struct sockaddr_storage *address = &invite->address[invite->count++];
        memcpy(address, i->ifa_addr,
               i->ifa_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
        set_port(address, port);
    }
    MST_CHECK(invite->count > 0, MST_EIO, "watchdog: this host has no network interface that is up%s",
              one_host ? " (not even lo)" : " besides lo");
done:
    freeifaddrs(interfaces);
    return status;
}

static mst_status invite_all(bool one_host, int *listener_out, invitation *invite) {
    mst_status status = MST_OK;
    in_port_t port = 0;
    MST_CHECK(getrandom(invite->token, TOKEN_BYTES, 0) == TOKEN_BYTES &&
                  getrandom(invite->answer, TOKEN_BYTES, 0) == TOKEN_BYTES,
              MST_EIO, "watchdog: no random numbers: %s", strerror(errno));
    MST_TRY(listen_anywhere(one_host, listener_out, &port));
    MST_TRY(list_addresses(one_host, port, invite));
done:
    return status;
}

/* ---- rank 0 accepts ---- */

/* One who called and has not proved to be a rank. */
typedef struct caller {
    int fd;
    size_t count;
    hello said;
} caller;

typedef struct reception {
    const invitation *invite;
    mst_link *links; /* of ranks 1 to size - 1 */
    size_t size, missing;
    caller pending[PENDING_MAX];
    size_t pending_count;
} reception;

/* Reads what a caller says, at most one hello. True when the caller is done with: dropped, or now a link. */
static bool hear(reception *r, caller *c) {
    ssize_t got = recv(c->fd, (char *)&c->said + c->count, sizeof c->said - c->count, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got > 0) c->count += (size_t)got;
    if (got > 0 && c->count < sizeof c->said) return false;
    bool known = got > 0 && memcmp(c->said.token, r->invite->token, TOKEN_BYTES) == 0 && c->said.rank >= 1 &&
                 (size_t)c->said.rank < r->size && r->links[c->said.rank - 1].fd < 0 &&
                 send(c->fd, r->invite->answer, TOKEN_BYTES, MSG_NOSIGNAL | MSG_DONTWAIT) == TOKEN_BYTES;
    if (known) {
        set_options(c->fd);
        r->links[c->said.rank - 1].fd = c->fd;
        r->missing--;
    } else {
        close(c->fd);
    }
    return true;
}

static void hear_all(reception *r, const struct pollfd *polled) {
    size_t kept = 0;
    for (size_t i = 0; i < r->pending_count; i++) {
        if (polled[i].revents == 0 || !hear(r, &r->pending[i])) r->pending[kept++] = r->pending[i];
    }
    r->pending_count = kept;
}

static mst_status accept_all(int listener, reception *r) {
    mst_status status = MST_OK;
    struct pollfd polled[PENDING_MAX + 1];
    double deadline = seconds_now() + OPEN_SECONDS;
    while (r->missing > 0) {
        size_t count = r->pending_count;
        for (size_t i = 0; i < count; i++)
            polled[i] = (struct pollfd){.fd = r->pending[i].fd, .events = POLLIN};
        polled[count] = (struct pollfd){.fd = count < PENDING_MAX ? listener : -1, .events = POLLIN};
        int wait = milliseconds_to(deadline);
        if (wait == 0) break;
        if (poll(polled, count + 1, wait) <= 0) continue;
        hear_all(r, polled);
        if (polled[count].revents == 0) continue;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) r->pending[r->pending_count++] = (caller){.fd = fd};
    }
    for (size_t i = 0; i + 1 < r->size; i++)
        MST_CHECK(r->links[i].fd >= 0, MST_EIO,
                  "watchdog: rank %zu did not connect within %d s (a firewall between the hosts?); open TCP "
                  "between "
                  "them or set watchdog.seconds=0",
                  i + 1, OPEN_SECONDS);
done:
    for (size_t i = 0; i < r->pending_count; i++) close(r->pending[i].fd);
    return status;
}

/* ---- the others connect ---- */

static bool wait_for(int fd, short events, double deadline) {
    struct pollfd polled = {.fd = fd, .events = events};
    int ready;
    do ready = poll(&polled, 1, milliseconds_to(deadline));
    while (ready < 0 && errno == EINTR);
    return ready > 0;
}

/* Connects, proves itself, and asks for proof. Returns a socket or -1. */
static int try_address(const struct sockaddr_storage *address, const invitation *invite, const hello *self) {
    double deadline = seconds_now() + TRY_SECONDS;
    unsigned char answer[TOKEN_BYTES];
    size_t count = 0;
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    set_options(fd);
    if (connect(fd, (const struct sockaddr *)address, address_bytes(address)) != 0 && errno != EINPROGRESS)
        goto failed;
    if (!wait_for(fd, POLLOUT, deadline)) goto failed;
    if (send(fd, self, sizeof *self, MSG_NOSIGNAL) != (ssize_t)sizeof *self) goto failed;
    while (count < sizeof answer) {
        if (!wait_for(fd, POLLIN, deadline)) goto failed;
        ssize_t got = recv(fd, answer + count, sizeof answer - count, 0);
        if (got <= 0) goto failed;
        count += (size_t)got;
    }
    if (memcmp(answer, invite->answer, TOKEN_BYTES) == 0) return fd;
failed:
    close(fd);
    return -1;
}

static mst_status connect_to(const invitation *invite, const mst_comm *comm, mst_link *link) {
    double deadline = seconds_now() + OPEN_SECONDS;
    hello self = {.rank = mst_comm_rank(comm)};
    memcpy(self.token, invite->token, TOKEN_BYTES);
    do {
        for (int i = 0; i < invite->count; i++) {
            link->fd = try_address(&invite->address[i], invite, &self);
            if (link->fd >= 0) return MST_OK;
        }
        struct timespec pause = {.tv_nsec = 100000000};
        nanosleep(&pause, NULL);
    } while (seconds_now() < deadline);
    return mst_error(
        MST_EIO,
        "watchdog: cannot reach rank 0 on host %s at any of its %d addresses within %d s; open TCP between "
        "the hosts or set watchdog.seconds=0",
        mst_comm_host(comm, 0), invite->count, OPEN_SECONDS);
}

mst_status mst_links_open(mst_comm *comm, bool one_host, mst_link *links) {
    mst_status status = MST_OK;
    invitation invite = {.count = 0};
    int listener = -1, rank = mst_comm_rank(comm);
    size_t count = mst_link_count(comm);
    reception *r = NULL;
    for (size_t i = 0; i < count; i++) links[i] = (mst_link){.rank = rank == 0 ? (int)i + 1 : 0, .fd = -1};
    if (count == 0) goto done;
    if (rank == 0) {
        r = calloc(1, sizeof *r);
        status = r ? invite_all(one_host, &listener, &invite) : mst_error(MST_ENOMEM, "watchdog: no memory");
    }
    MST_TRY(mst_comm_agree(comm, status));
    MST_TRY(mst_comm_broadcast(comm, 0, &invite, sizeof invite));
    if (rank == 0) {
        r->invite = &invite;
        r->links = links;
        r->size = count + 1;
        r->missing = count;
        status = accept_all(listener, r);
    } else {
        status = connect_to(&invite, comm, links);
    }
    MST_TRY(mst_comm_agree(comm, status));
done:
    if (status != MST_OK)
        for (size_t i = 0; i < count; i++) mst_link_close(&links[i]);
    if (listener >= 0) close(listener);
    free(r);
    return status;
}
