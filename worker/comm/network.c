#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t bits_of(uint8_t family) {
    return family == AF_INET6 ? 128 : 32;
}

static bool same_bits(const uint8_t *left, const uint8_t *right, size_t bits) {
    const size_t whole = bits / 8, rest = bits % 8;
    if (memcmp(left, right, whole) != 0) return false;
    return rest == 0 || ((left[whole] ^ right[whole]) & (0xff00u >> rest) & 0xffu) == 0;
}

static bool is_same(const mst_address *left, const mst_address *right) {
    return left->family == right->family && same_bits(left->bytes, right->bytes, bits_of(left->family));
}

static bool contains(const mst_addresses *list, const mst_address *address) {
    for (int i = 0; i < list->count; i++)
        if (is_same(&list->item[i], address)) return true;
    return false;
}

static void add(mst_addresses *list, const mst_address *address) {
    if (list->count < MST_ADDRESSES_MAX && !contains(list, address)) list->item[list->count++] = *address;
}

/* ---- what there is ---- */

/* Family and bytes of a socket's address; false for other families. */
static bool read_socket(const struct sockaddr *socket, mst_address *address_out) {
    if (socket == NULL) return false;
    address_out->family = (uint8_t)socket->sa_family;
    if (socket->sa_family == AF_INET)
        memcpy(address_out->bytes, &((const struct sockaddr_in *)(const void *)socket)->sin_addr, 4);
    else if (socket->sa_family == AF_INET6)
        memcpy(address_out->bytes, &((const struct sockaddr_in6 *)(const void *)socket)->sin6_addr, 16);
    else
        return false;
    return true;
}

static uint8_t count_ones(const uint8_t bytes[16]) {
    uint8_t ones = 0;
    for (size_t bit = 0; bit < 128 && (bytes[bit / 8] >> (7 - bit % 8) & 1) != 0; bit++) ones++;
    return ones;
}

static bool is_of_one_cable(const mst_address *address) {
    return address->family == AF_INET6 && address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80;
}

mst_status mst_addresses_list(mst_addresses *own_out) {
    mst_status status = MST_OK;
    struct ifaddrs *interfaces = NULL;
    *own_out = (mst_addresses){.count = 0};
    MST_CHECK(getifaddrs(&interfaces) == 0, MST_EIO, "watchdog: listing network interfaces: %s",
              strerror(errno));
    for (const struct ifaddrs *i = interfaces; i != NULL; i = i->ifa_next) {
        mst_address address = {.loopback = (i->ifa_flags & IFF_LOOPBACK) != 0}, mask = {.family = 0};
        if (!(i->ifa_flags & IFF_UP) || !read_socket(i->ifa_addr, &address) || is_of_one_cable(&address))
            continue;
        address.prefix = read_socket(i->ifa_netmask, &mask) ? count_ones(mask.bytes) : 0;
        snprintf(address.interface, sizeof address.interface, "%s", i->ifa_name);
        add(own_out, &address);
    }
done:
    freeifaddrs(interfaces);
    return status;
}

/* ---- those that the user names ---- */

/* "10.1.0.0/16", "fd00::/8", or an address alone. */
static bool read_subnet(const char *text, mst_address *subnet_out) {
    char head[64], *end;
    const char *slash = strchr(text, '/');
    const size_t length = slash != NULL ? (size_t)(slash - text) : strlen(text);
    *subnet_out = (mst_address){.family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET};
    if (length >= sizeof head) return false;
    memcpy(head, text, length);
    head[length] = '\0';
    if (inet_pton(subnet_out->family, head, subnet_out->bytes) != 1) return false;
    const size_t most = bits_of(subnet_out->family);
    subnet_out->prefix = (uint8_t)most;
    if (slash == NULL) return true;
    if (slash[1] < '0' || slash[1] > '9') return false;
    const unsigned long prefix = strtoul(slash + 1, &end, 10);
    subnet_out->prefix = (uint8_t)prefix;
    return *end == '\0' && prefix <= most;
}

static void describe(const mst_addresses *own, char *text_out, size_t room) {
    size_t used = 0;
    text_out[0] = '\0';
    for (int i = 0; i < own->count && used < room; i++) {
        char address[INET6_ADDRSTRLEN] = "?";
        inet_ntop(own->item[i].family, own->item[i].bytes, address, sizeof address);
        used += (size_t)snprintf(text_out + used, room - used, "%s%s (%s/%d)", i > 0 ? ", " : "",
                                 own->item[i].interface, address, own->item[i].prefix);
    }
}

/* Adds what one part of the text names. */
static mst_status add_named(const mst_addresses *own, const char *part, const char *host,
                            mst_addresses *named) {
    char all[1024];
    mst_address subnet;
    bool found = false;
    const bool is_subnet = read_subnet(part, &subnet);
    for (int i = 0; i < own->count; i++) {
        const mst_address *address = &own->item[i];
        const bool inside =
            address->family == subnet.family && same_bits(address->bytes, subnet.bytes, subnet.prefix);
        if (is_subnet ? !inside : strcmp(address->interface, part) != 0) continue;
        add(named, address);
        found = true;
    }
    if (found) return MST_OK;
    describe(own, all, sizeof all);
    return mst_error(MST_ECONFIG,
                     "network.interfaces: '%s' is no interface or subnet of host %s that is up; it has %s",
                     part, host, all);
}

mst_status mst_addresses_named(const mst_addresses *own, const char *text, const char *host,
                               mst_addresses *named_out) {
    mst_status status = MST_OK;
    char copy[512], *rest = copy;
    *named_out = (mst_addresses){.count = 0};
    MST_CHECK(strlen(text) < sizeof copy, MST_ECONFIG,
              "network.interfaces: %zu characters are too many; at most %zu", strlen(text), sizeof copy - 1);
    memcpy(copy, text, strlen(text) + 1);
    for (char *part; (part = strsep(&rest, ",")) != NULL;) {
        part += strspn(part, " ");
        part[strcspn(part, " ")] = '\0';
        MST_TRY(add_named(own, part, host, named_out));
    }
done:
    return status;
}

/* ---- those that are used ---- */

void mst_addresses_local(const mst_addresses *own, bool loopback, mst_addresses *chosen_out) {
    *chosen_out = (mst_addresses){.count = 0};
    for (int i = 0; i < own->count; i++)
        if (own->item[i].loopback == loopback) add(chosen_out, &own->item[i]);
}

/* The address of this host that a packet to another would bear: asks the routes, sends nothing. */
static bool source_towards(const mst_address *other, mst_address *source_out) {
    struct sockaddr_storage name = {0};
    mst_address target = *other;
    target.port = htons(9); /* any */
    socklen_t bytes = mst_address_socket(&target, &name);
    const int fd = socket(other->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    const bool found = connect(fd, (struct sockaddr *)&name, bytes) == 0 &&
                       getsockname(fd, (struct sockaddr *)&name, &bytes) == 0 &&
                       read_socket((struct sockaddr *)&name, source_out);
    close(fd);
    return found;
}

/* Both hosts have an address in the subnet of one of ours. */
static bool shares_subnet(const mst_addresses *own, const mst_address *other) {
    for (int i = 0; i < own->count; i++)
        if (!own->item[i].loopback && own->item[i].family == other->family &&
            same_bits(own->item[i].bytes, other->bytes, own->item[i].prefix))
            return true;
    return false;
}

void mst_addresses_towards(const mst_addresses *own, const mst_addresses *other, mst_addresses *chosen) {
    for (int direct = 1; direct >= 0; direct--)
        for (int i = 0; i < other->count; i++) {
            const mst_address *target = &other->item[i];
            mst_address source = {.family = 0};
            /* An address that both have (a container's bridge) leads nowhere. */
            if (target->loopback || contains(own, target) || shares_subnet(own, target) != direct) continue;
            if (!source_towards(target, &source)) continue;
            for (int k = 0; k < own->count; k++)
                if (!own->item[k].loopback && is_same(&own->item[k], &source)) {
                    add(chosen, &own->item[k]);
                    return;
                }
        }
}

socklen_t mst_address_socket(const mst_address *address, struct sockaddr_storage *socket_out) {
    *socket_out = (struct sockaddr_storage){.ss_family = address->family};
    if (address->family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)socket_out;
        memcpy(&in6->sin6_addr, address->bytes, 16);
        in6->sin6_port = address->port;
        return sizeof *in6;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)socket_out;
    memcpy(&in->sin_addr, address->bytes, 4);
    in->sin_port = address->port;
    return sizeof *in;
}

int mst_address_listen(mst_address *address, int backlog) {
    struct sockaddr_storage name;
    address->port = 0;
    socklen_t bytes = mst_address_socket(address, &name);
    const int fd = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    if (bind(fd, (struct sockaddr *)&name, bytes) != 0 || listen(fd, backlog) != 0 ||
        getsockname(fd, (struct sockaddr *)&name, &bytes) != 0) {
        const int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    address->port = address->family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&name)->sin6_port
                                                : ((struct sockaddr_in *)(void *)&name)->sin_port;
    return fd;
}
