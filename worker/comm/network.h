/* The addresses of a host, and which of them the job uses. Private to the room. */
#ifndef MUSTER_NETWORK_H
#define MUSTER_NETWORK_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "muster/status.h"

enum { MST_ADDRESSES_MAX = 16 };

/* The same bytes travel between ranks. */
typedef struct mst_address {
    uint8_t family, prefix; /* AF_INET or AF_INET6; bits of the subnet */
    bool loopback;
    uint8_t bytes[16]; /* the first 4 of AF_INET; in network order */
    uint16_t port;     /* in network order; 0: none */
    char interface[IF_NAMESIZE];
} mst_address;

typedef struct mst_addresses {
    int32_t count;
    mst_address item[MST_ADDRESSES_MAX];
} mst_addresses;

/** Addresses of this host's interfaces that are up; not those of IPv6 that hold on one cable only. Not collective.
 * @retval MST_EIO the system does not list them */
mst_status mst_addresses_list(mst_addresses *own_out);

/**
 * Those of `own` that a text names: interfaces ("ib0") and subnets ("10.1.0.0/16"), with commas between.
 *
 * Not collective. @param host for messages
 * @retval MST_ECONFIG a part of the text names none of them; the message lists all
 */
mst_status mst_addresses_named(const mst_addresses *own, const char *text, const char *host,
                               mst_addresses *named_out);

/** The loopback addresses of `own`, or all others. Not collective. */
void mst_addresses_local(const mst_addresses *own, bool loopback, mst_addresses *chosen_out);

/** Adds the address of `own` from which this host's routes reach another host; nothing where they do not.
 * Not collective. @param other addresses of that host */
void mst_addresses_towards(const mst_addresses *own, const mst_addresses *other, mst_addresses *chosen);

/** For connect and bind. @return the bytes of it that count */
socklen_t mst_address_socket(const mst_address *address, struct sockaddr_storage *socket_out);

/** Listens on a free port of this address only, which it writes into it. Not collective.
 * @return a socket that does not block; -1 with errno */
int mst_address_listen(mst_address *address, int backlog);

#endif
