#include "meeting.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "muster/clock.h"
#include "network.h"

enum {
    PENDING_MAX = 64,  /* strangers and ranks that have not proved themselves yet */
    OPEN_SECONDS = 30, /* for all connections together */
    TRY_SECONDS = 3,   /* for one address, and for a caller to prove itself */
    PROOF_AT = 4 + 16, /* a caller says its rank and a nonce, and then its first beat */
    PROOF_BYTES = PROOF_AT + MST_BEAT_BYTES,
};
_Static_assert(MST_NONCE_BYTES == 16, "PROOF_AT counts it");

/* What rank 0 tells the others over MPI. */
typedef struct invitation {
    unsigned char key[MST_KEY_BYTES];
    mst_addresses addresses;
} invitation;

/* One who called and has not proved to be a rank. */
typedef struct caller {
    int fd;
    double until;
    size_t count;
    unsigned char asked[MST_NONCE_BYTES], said[PROOF_BYTES];
} caller;

struct mst_meeting {
    uint32_t rank;
    invitation invite;
    mst_link *links;
    size_t link_count;
    /* rank 0 */
    int listeners[MST_ADDRESSES_MAX];
    int listener_count;
    double rest_until; /* accepting failed for want of something */
    caller pending[PENDING_MAX];
    size_t pending_count;
};

static int milliseconds_to(double deadline) {
    double left = deadline - mst_clock_now();
    return left <= 0 ? 0 : (int)(left * 1e3) + 1;
}

static bool fill_random(unsigned char *bytes_out, size_t bytes) {
    return getrandom(bytes_out, bytes, 0) == (ssize_t)bytes;
}

static void set_options(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

size_t mst_link_count(const mst_comm *comm) {
    size_t size = (size_t)mst_comm_size(comm);
    return mst_comm_rank(comm) == 0 || size == 1 ? size - 1 : 1;
}

/* ---- rank 0 listens ---- */

/* What the user gave mpirun for its own connections is also the job's interface. */
static bool named_for_mpi(const mst_addresses *own, const char *host, mst_addresses *chosen) {
    const char *text = getenv("OMPI_MCA_btl_tcp_if_include");
    return text != NULL && mst_addresses_named(own, text, host, chosen) == MST_OK;
}

/* @param all [size] every rank's addresses */
static mst_status choose(const mst_comm *comm, const mst_meeting_options *options, const mst_addresses *all,
                         mst_addresses *chosen) {
    mst_status status = MST_OK;
    const mst_addresses *own = &all[0];
    const char *host = mst_comm_host(comm, 0);
    if (options->interfaces != NULL) MST_TRY(mst_addresses_named(own, options->interfaces, host, chosen));
    if (options->one_host) {
        mst_addresses_local(own, true, chosen);
    } else if (options->interfaces == NULL && !named_for_mpi(own, host, chosen)) {
        *chosen = (mst_addresses){.count = 0};
        for (int rank = 1; rank < mst_comm_size(comm); rank++) mst_addresses_towards(own, &all[rank], chosen);
        if (chosen->count == 0) mst_addresses_local(own, false, chosen);
    }
    MST_CHECK(chosen->count > 0, MST_EIO, "watchdog: host %s has no network interface that is up%s", host,
              options->one_host ? " (not even lo)" : " besides lo");
done:
    return status;
}

/* Listens on each address; one that cannot be bound is left out, as long as there is another. */
static mst_status listen_on(mst_meeting *m, const mst_addresses *chosen) {
    int error = 0;
    for (int i = 0; i < chosen->count; i++) {
        mst_address address = chosen->item[i];
        const int fd = mst_address_listen(&address, PENDING_MAX);
        if (fd < 0) error = errno;
        if (fd < 0) continue;
        m->invite.addresses.item[m->listener_count] = address;
        m->listeners[m->listener_count++] = fd;
    }
    m->invite.addresses.count = m->listener_count;
    if (m->listener_count > 0) return MST_OK;
    return mst_error(MST_EIO, "watchdog: listening on a free port: %s", strerror(error));
}

static mst_status invite_all(const mst_comm *comm, const mst_meeting_options *options,
                             const mst_addresses *all, mst_meeting *m) {
    mst_status status = MST_OK;
    mst_addresses chosen;
    MST_CHECK(fill_random(m->invite.key, sizeof m->invite.key), MST_EIO, "watchdog: no random numbers: %s",
              strerror(errno));
    MST_TRY(choose(comm, options, all, &chosen));
    MST_TRY(listen_on(m, &chosen));
done:
    return status;
}

/* ---- rank 0 lets in ---- */

/* Whether what a caller has said proves it to be a rank; then its connection is that rank's. */
static bool let_in(mst_meeting *m, const caller *c) {
    mst_beat beat;
    unsigned char key[MST_KEY_BYTES];
    uint32_t rank = 0;
    for (size_t i = 0; i < 4; i++) rank |= (uint32_t)c->said[i] << 8 * i;
    if (rank < 1 || rank > m->link_count ||
        mst_session_key(m->invite.key, c->asked, c->said + 4, rank, key) != MST_OK)
        return false;
    mst_seal seal = {.from = rank, .to = 0};
    memcpy(seal.key, key, sizeof seal.key);
    if (mst_beat_read(&seal, c->said + PROOF_AT, MST_BEAT_BYTES, &beat) != MST_BEAT_GOOD ||
        beat.kind != MST_BEAT_HELLO)
        return false;
    mst_link *link = &m->links[rank - 1];
    mst_link_open(link, c->fd, key);
    link->in.number = beat.number;
    mst_link_send(link, &(mst_beat){.kind = MST_BEAT_HELLO});
    return true;
}

/* Reads what a caller says, at most a proof. True when the caller is done with: dropped, or now a link. */
static bool hear(mst_meeting *m, caller *c) {
    ssize_t got = recv(c->fd, c->said + c->count, sizeof c->said - c->count, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got > 0) c->count += (size_t)got;
    if (got > 0 && c->count < sizeof c->said) return false;
    if (got <= 0 || !let_in(m, c)) close(c->fd);
    return true;
}

static void hear_all(mst_meeting *m, const struct pollfd *polled) {
    const double now = mst_clock_now();
    size_t kept = 0;
    for (size_t i = 0; i < m->pending_count; i++) {
        caller *c = &m->pending[i];
        if (polled[i].revents != 0 && hear(m, c)) continue;
        if (now > c->until)
            close(c->fd);
        else
            m->pending[kept++] = *c;
    }
    m->pending_count = kept;
}

/* Who has called longest makes room: a crowd of strangers keeps no rank out for long. */
static void drop_oldest(mst_meeting *m) {
    close(m->pending[0].fd);
    memmove(m->pending, m->pending + 1, --m->pending_count * sizeof *m->pending);
}

static void welcome(mst_meeting *m, int listener) {
    caller c = {.until = mst_clock_now() + TRY_SECONDS};
    c.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (c.fd < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) m->rest_until = mst_clock_now() + 1;
        return;
    }
    set_options(c.fd);
    if (!fill_random(c.asked, sizeof c.asked) ||
        send(c.fd, c.asked, sizeof c.asked, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof c.asked) {
        close(c.fd);
        return;
    }
    if (m->pending_count == PENDING_MAX) drop_oldest(m);
    m->pending[m->pending_count++] = c;
}

size_t mst_meeting_polled_max(void) {
    return PENDING_MAX + MST_ADDRESSES_MAX;
}

size_t mst_meeting_poll(mst_meeting *m, struct pollfd *polled_out) {
    size_t count = 0;
    const bool rests = mst_clock_now() < m->rest_until;
    for (size_t i = 0; i < m->pending_count; i++)
        polled_out[count++] = (struct pollfd){.fd = m->pending[i].fd, .events = POLLIN};
    for (int i = 0; i < m->listener_count; i++)
        polled_out[count++] = (struct pollfd){.fd = rests ? -1 : m->listeners[i], .events = POLLIN};
    return count;
}

void mst_meeting_serve(mst_meeting *m, const struct pollfd *polled) {
    const struct pollfd *listeners = polled + m->pending_count;
    hear_all(m, polled);
    for (int i = 0; i < m->listener_count; i++)
        if (listeners[i].revents != 0) welcome(m, m->listeners[i]);
}

static const mst_link *missing(const mst_meeting *m) {
    for (size_t i = 0; i < m->link_count; i++)
        if (m->links[i].fd < 0) return &m->links[i];
    return NULL;
}

static mst_status receive_all(const mst_comm *comm, mst_meeting *m) {
    struct pollfd polled[PENDING_MAX + MST_ADDRESSES_MAX];
    const double deadline = mst_clock_now() + OPEN_SECONDS;
    const mst_link *link;
    while ((link = missing(m)) != NULL) {
        int wait = milliseconds_to(deadline);
        if (wait == 0)
            return mst_error(MST_EIO,
                             "watchdog: rank %d on host %s did not connect within %d s (a firewall between "
                             "the hosts, or the wrong interface?); open TCP between them, name the interface "
                             "with network.interfaces, or set watchdog.seconds=0",
                             link->rank, mst_comm_host(comm, link->rank), OPEN_SECONDS);
        const size_t count = mst_meeting_poll(m, polled);
        if (poll(polled, count, wait < 1000 ? wait : 1000) >= 0) mst_meeting_serve(m, polled);
    }
    return MST_OK;
}

/* ---- the others call ---- */

static bool wait_for(int fd, short events, double deadline) {
    struct pollfd polled = {.fd = fd, .events = events};
    int ready;
    do ready = poll(&polled, 1, milliseconds_to(deadline));
    while (ready < 0 && errno == EINTR);
    return ready > 0;
}

/* Connects and hears the nonce. @return a socket; -1 */
static int reach(const mst_address *address, double deadline, unsigned char asked_out[MST_NONCE_BYTES]) {
    struct sockaddr_storage name;
    const socklen_t bytes = mst_address_socket(address, &name);
    const int fd = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    set_options(fd);
    bool reached = connect(fd, (const struct sockaddr *)&name, bytes) == 0 || errno == EINPROGRESS;
    reached = reached && wait_for(fd, POLLOUT, deadline);
    for (size_t count = 0; reached && count < MST_NONCE_BYTES;) {
        const ssize_t got =
            wait_for(fd, POLLIN, deadline) ? recv(fd, asked_out + count, MST_NONCE_BYTES - count, 0) : -1;
        reached = got > 0;
        if (got > 0) count += (size_t)got;
    }
    if (reached) return fd;
    close(fd);
    return -1;
}

/* Proves itself, and waits for rank 0's proof. */
static bool introduce(mst_meeting *m, int fd, const unsigned char asked[MST_NONCE_BYTES], double deadline) {
    mst_link *link = &m->links[0];
    unsigned char head[PROOF_AT], key[MST_KEY_BYTES];
    mst_beat beat = {.kind = 0};
    mst_link_event event = MST_LINK_CLOSED;
    for (size_t i = 0; i < 4; i++) head[i] = (unsigned char)(m->rank >> 8 * i);
    if (!fill_random(head + 4, MST_NONCE_BYTES) ||
        mst_session_key(m->invite.key, asked, head + 4, m->rank, key) != MST_OK ||
        send(fd, head, sizeof head, MSG_NOSIGNAL) != (ssize_t)sizeof head) {
        close(fd);
        return false;
    }
    mst_link_open(link, fd, key);
    mst_link_send(link, &(mst_beat){.kind = MST_BEAT_HELLO});
    do event = mst_link_receive(link, &beat);
    while (event == MST_LINK_NOTHING && wait_for(fd, POLLIN, deadline));
    if (event == MST_LINK_BEAT && beat.kind == MST_BEAT_HELLO) return true;
    mst_link_close(link);
    return false;
}

bool mst_meeting_call(mst_meeting *m, double seconds) {
    const double deadline = mst_clock_now() + seconds;
    for (;;) {
        for (int i = 0; i < m->invite.addresses.count; i++) {
            unsigned char asked[MST_NONCE_BYTES];
            const double try_until = mst_clock_now() + TRY_SECONDS;
            const double until = try_until < deadline ? try_until : deadline;
            const int fd = reach(&m->invite.addresses.item[i], until, asked);
            if (fd >= 0 && introduce(m, fd, asked, until)) return true;
        }
        if (mst_clock_now() >= deadline) return false;
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
}

static mst_status connect_all(const mst_comm *comm, mst_meeting *m) {
    if (mst_meeting_call(m, OPEN_SECONDS)) return MST_OK;
    return mst_error(MST_EIO,
                     "watchdog: cannot reach rank 0 on host %s at any of its %d addresses within %d s; open "
                     "TCP between the hosts, name the interface with network.interfaces, or set "
                     "watchdog.seconds=0",
                     mst_comm_host(comm, 0), m->invite.addresses.count, OPEN_SECONDS);
}

/* ---- the whole ---- */

static mst_status prepare(mst_comm *comm, const mst_meeting_options *options, mst_meeting **meeting_out) {
    mst_meeting *m = calloc(1, sizeof *m);
    const int rank = mst_comm_rank(comm);
    *meeting_out = m;
    if (m == NULL) return mst_error(MST_ENOMEM, "watchdog: no memory");
    m->rank = (uint32_t)rank;
    m->links = options->links;
    m->link_count = mst_link_count(comm);
    for (size_t i = 0; i < m->link_count; i++) m->links[i] = mst_link_make(rank, rank == 0 ? (int)i + 1 : 0);
    return MST_OK;
}

mst_status mst_meeting_create(mst_comm *comm, const mst_meeting_options *options, mst_meeting **meeting_out) {
    mst_status status = MST_OK;
    const bool first = mst_comm_rank(comm) == 0;
    mst_addresses own = {.count = 0}, *all = NULL;
    mst_meeting *m = NULL;
    *meeting_out = NULL;
    status = prepare(comm, options, &m);
    if (status == MST_OK) status = mst_addresses_list(&own);
    MST_TRY(mst_comm_agree(comm, status));
    MST_TRY(mst_comm_allgather_equal(comm, &own, sizeof own, (void **)&all));
    status = first ? invite_all(comm, options, all, m) : MST_OK;
    MST_TRY(mst_comm_agree(comm, status));
    MST_TRY(mst_comm_broadcast(comm, 0, &m->invite, sizeof m->invite));
    status = first ? receive_all(comm, m) : connect_all(comm, m);
    MST_TRY(mst_comm_agree(comm, status));
    *meeting_out = m;
    m = NULL;
done:
    if (m != NULL)
        for (size_t i = 0; i < m->link_count; i++) mst_link_close(&m->links[i]);
    mst_meeting_destroy(&m);
    free(all);
    return status;
}

void mst_meeting_destroy(mst_meeting **meeting) {
    mst_meeting *m = *meeting;
    if (m == NULL) return;
    for (int i = 0; i < m->listener_count; i++) close(m->listeners[i]);
    for (size_t i = 0; i < m->pending_count; i++) close(m->pending[i].fd);
    explicit_bzero(m->invite.key, sizeof m->invite.key);
    free(m);
    *meeting = NULL;
}
