/*
 * strangers PID: calls the ports on which a rank's process listens, as somebody would who has not got the job's key, and
 * says what was done. Says nothing that a rank could take for a beat:
 *   garbage    of every length, and connections that say nothing
 *   reflection of all that the other end sends
 *   proofs     of the right form, with a MAC that was guessed
 *   replays    of beats that were heard on the loopback (by root, else they are left out)
 * Status 1 when a port answered any of it with more than its nonce, or does not take connections any more.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/if_ether.h>

#include "test.h"

enum { NONCE = 16, BEAT = 80, PROOF = 4 + NONCE + BEAT, PORTS_MAX = 8, HEARD_MAX = 16, CROWD = 200 };

static unsigned char heard[HEARD_MAX][BEAT];
static int heard_count;

/* ---- where it listens ---- */

static bool owns(const char *pid, unsigned long inode) {
    char path[300], link[64], wanted[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder != NULL && !found && (entry = readdir(folder)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%s/fd/%.200s", pid, entry->d_name);
        const ssize_t length = readlink(path, link, sizeof link - 1);
        link[length > 0 ? length : 0] = '\0';
        found = strcmp(link, wanted) == 0;
    }
    if (folder != NULL) closedir(folder);
    return found;
}

/* The process that started it: the launcher, whose own sockets a rank of MPICH inherits. They are not ours to harm. */
static void parent_of(const char *pid, char parent_out[32]) {
    char path[64], line[512] = "";
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *file = fopen(path, "re");
    if (file != NULL && fgets(line, sizeof line, file) == NULL) line[0] = '\0';
    if (file != NULL) fclose(file);
    const char *behind_name = strrchr(line, ')');
    CHECK(behind_name != NULL && sscanf(behind_name, ") %*c %31s", parent_out) == 1, "%s: no parent", path);
}

static int find_ports(const char *pid, in_port_t ports[PORTS_MAX]) {
    char line[512], parent[32] = "";
    int count = 0;
    parent_of(pid, parent);
    FILE *file = fopen("/proc/net/tcp", "re");
    while (file != NULL && count < PORTS_MAX && fgets(line, sizeof line, file) != NULL) {
        unsigned port, state;
        unsigned long inode;
        // NOLINTNEXTLINE(cert-err34-c): the system's own text
        const int fields =
            sscanf(line, " %*d: %*8x:%x %*8x:%*x %x %*s %*s %*s %*s %*s %lu", &port, &state, &inode);
        if (fields == 3 && state == 0x0a && owns(pid, inode) && !owns(parent, inode))
            ports[count++] = htons((in_port_t)port);
    }
    if (file != NULL) fclose(file);
    return count;
}

/* ---- one call ---- */

static int call(in_port_t port) {
    struct sockaddr_in name = {
        .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fd, (struct sockaddr *)&name, sizeof name) == 0, "no connection to port %d: %s",
          ntohs(port), strerror(errno));
    return fd;
}

/* What the other end says within a time. */
static size_t hear(int fd, unsigned char *bytes_out, size_t room, int milliseconds) {
    size_t count = 0;
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    while (count < room && poll(&polled, 1, milliseconds) > 0) {
        const ssize_t got = recv(fd, bytes_out + count, room - count, 0);
        if (got <= 0) break;
        count += (size_t)got;
    }
    return count;
}

static void say(int fd, const void *bytes, size_t count) {
    if (count > 0 && send(fd, bytes, count, MSG_NOSIGNAL) < 0) { /* it has hung up: so it should */
    }
}

/* Nothing but the nonce may come. */
static void finish(int fd, size_t before, const char *what) {
    unsigned char answer[256];
    const size_t count = before + hear(fd, answer, sizeof answer, 60);
    CHECK(count <= NONCE, "%s was answered with %zu bytes", what, count);
    close(fd);
}

/* ---- what strangers do ---- */

static void fill(unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) bytes[i] = (unsigned char)rand();
}

static void send_garbage(in_port_t port) {
    unsigned char junk[2 * PROOF];
    for (size_t count = 0; count <= sizeof junk; count += 1 + count / 8) {
        const int fd = call(port);
        fill(junk, count);
        say(fd, junk, count);
        finish(fd, 0, "garbage");
    }
}

static void reflect(in_port_t port) {
    unsigned char said[512];
    const int fd = call(port);
    size_t count = hear(fd, said, NONCE, 1000);
    for (int turn = 0; turn < PROOF / NONCE + 1; turn++) say(fd, said, count);
    finish(fd, count, "a reflection");
}

/* A proof of rank 1 to 3, with a beat that is guessed or that a rank once sent. */
static void prove(in_port_t port, unsigned rank, const unsigned char *beat, const char *what) {
    unsigned char proof[PROOF] = {(unsigned char)rank}, said[NONCE];
    const int fd = call(port);
    const size_t count = hear(fd, said, sizeof said, 1000);
    fill(proof + 4, NONCE);
    memcpy(proof + 4 + NONCE, beat, BEAT);
    say(fd, proof, sizeof proof);
    finish(fd, count, what);
}

static void send_proofs(in_port_t port) {
    static const unsigned ranks[] = {0, 1, 2, 3, 4, 200};
    unsigned char beat[BEAT] = {'m', 'b', 0xf5, 2, 1};
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
        fill(beat + BEAT - 16, 16);
        prove(port, ranks[i], beat, "a guess");
        for (int k = 0; k < heard_count; k++) prove(port, ranks[i], heard[k], "a replay");
    }
}

/* So many that the rank must send some away; and then still takes calls. */
static void crowd(in_port_t port) {
    static int fds[CROWD];
    for (int i = 0; i < CROWD; i++) fds[i] = call(port);
    finish(call(port), 0, "a crowd");
    for (int i = 0; i < CROWD; i++) close(fds[i]);
}

/* ---- listening in ---- */

static void keep_beat(const unsigned char *packet, size_t bytes) {
    const struct iphdr *ip = (const void *)packet;
    if (bytes < sizeof *ip || ip->protocol != IPPROTO_TCP) return;
    const size_t at = 4u * ip->ihl;
    if (bytes < at + sizeof(struct tcphdr)) return;
    const struct tcphdr *tcp = (const void *)(packet + at);
    const size_t from = at + 4u * tcp->th_off;
    if (bytes != from + BEAT || memcmp(packet + from, "mb\xf5\x02", 4) != 0) return;
    memcpy(heard[heard_count++], packet + from, BEAT);
}

static void listen_in(void) {
    unsigned char packet[2048];
    const int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_IP));
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    const time_t until = time(NULL) + 10;
    if (fd < 0) return;
    while (heard_count < HEARD_MAX && time(NULL) < until && poll(&polled, 1, 1000) >= 0) {
        const ssize_t got = recv(fd, packet, sizeof packet, MSG_DONTWAIT);
        if (got > 0) keep_beat(packet, (size_t)got);
    }
    close(fd);
    CHECK(heard_count > 0, "no beat was heard on the loopback");
}

int main(int argc, char **argv) {
    in_port_t ports[PORTS_MAX];
    if (argc != 2) return 2;
    const int count = find_ports(argv[1], ports);
    CHECK(count > 0, "process %s listens nowhere", argv[1]);
    listen_in();
    for (int i = 0; i < count; i++) {
        send_garbage(ports[i]);
        reflect(ports[i]);
        send_proofs(ports[i]);
        crowd(ports[i]);
    }
    printf("strangers called %d port%s, with %d beats that they had heard\n", count, count == 1 ? "" : "s",
           heard_count);
    return test_finish("strangers");
}
