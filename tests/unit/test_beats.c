/* Heartbeats: their bytes, their MAC, what a connection takes and what it passes over; the addresses that carry them. */
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"
#include "network.h"
#include "test.h"

static const unsigned char job_key[MST_KEY_BYTES] = "a key of this test's ranks only";

static mst_beat some_beat(void) {
    return (mst_beat){.kind = MST_BEAT_ALIVE,
                      .waiting = true,
                      .cpu = 97,
                      .step = 123456789012345u,
                      .idle = 12.5,
                      .phase = "exchange"};
}

/* ---- the MAC ---- */

static void check_mac(const char *key, size_t key_bytes, const char *text, const char *hex) {
    unsigned char mac[MST_KEY_BYTES];
    char got[2 * MST_KEY_BYTES + 1];
    CHECK_OK(mst_mac(key, key_bytes, text, strlen(text), mac));
    for (size_t i = 0; i < sizeof mac; i++) snprintf(got + 2 * i, 3, "%02x", mac[i]);
    CHECK(strcmp(got, hex) == 0, "MAC of '%s' is %s", text, got);
}

/* Test cases 1 and 2 of RFC 4231. */
static void test_mac(void) {
    unsigned char mac[MST_KEY_BYTES], key[65] = {0};
    check_mac("\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b", 20,
              "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    check_mac("Jefe", 4, "what do ya want for nothing?",
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    CHECK_STATUS(mst_mac(key, sizeof key, "", 0, mac), MST_EINVAL);
}

/* ---- one beat ---- */

static mst_seal seal_of(uint32_t from, uint32_t to, uint32_t session) {
    mst_seal seal = {.from = from, .to = to};
    unsigned char asked[MST_NONCE_BYTES] = {0}, given[MST_NONCE_BYTES] = {0};
    memcpy(asked, &session, sizeof session);
    CHECK_OK(mst_session_key(job_key, asked, given, from > to ? from : to, seal.key));
    return seal;
}

static void test_round_trip(void) {
    mst_seal out = seal_of(3, 0, 1), in = out;
    mst_beat beat = some_beat(), got;
    unsigned char bytes[MST_BEAT_BYTES];
    for (uint64_t i = 1; i <= 3; i++) {
        CHECK_OK(mst_beat_write(&out, &beat, bytes));
        CHECK(mst_beat_read(&in, bytes, sizeof bytes, &got) == MST_BEAT_GOOD, "beat %d is refused", (int)i);
        CHECK(got.number == i && got.kind == beat.kind && got.waiting && got.cpu == 97 &&
                  got.step == beat.step,
              "fields of beat %d", (int)i);
        CHECK(fabs(got.idle - 12.5) < 1e-5 && strcmp(got.phase, "exchange") == 0, "idle %g, phase %s",
              got.idle, got.phase);
        in.number = got.number;
    }
}

/* Every single bit counts, and so does every length. */
static void test_damage(void) {
    mst_seal out = seal_of(3, 0, 1), in = out;
    mst_beat beat = some_beat(), got;
    unsigned char bytes[MST_BEAT_BYTES + 1] = {0};
    CHECK_OK(mst_beat_write(&out, &beat, bytes));
    for (size_t bit = 0; bit < 8 * (size_t)MST_BEAT_BYTES; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        const mst_verdict verdict = mst_beat_read(&in, bytes, MST_BEAT_BYTES, &got);
        CHECK(verdict == (bit < 32 ? MST_BEAT_MARKER : MST_BEAT_MAC), "bit %zu: verdict %d", bit,
              (int)verdict);
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    for (size_t count = 0; count <= MST_BEAT_BYTES + 1; count++)
        CHECK((mst_beat_read(&in, bytes, count, &got) == MST_BEAT_GOOD) == (count == MST_BEAT_BYTES),
              "%zu bytes", count);
}

/* Repeated, out of order, turned round, of another rank, of another connection. */
static void test_misuse(void) {
    mst_seal out = seal_of(3, 0, 1), in = out;
    mst_beat beat = some_beat(), got;
    unsigned char first[MST_BEAT_BYTES], second[MST_BEAT_BYTES];
    CHECK_OK(mst_beat_write(&out, &beat, first));
    CHECK_OK(mst_beat_write(&out, &beat, second));
    in.number = 2;
    CHECK(mst_beat_read(&in, second, sizeof second, &got) == MST_BEAT_NUMBER, "a repetition is taken");
    CHECK(mst_beat_read(&in, first, sizeof first, &got) == MST_BEAT_NUMBER, "an older one is taken");
    const mst_seal other[] = {seal_of(0, 3, 1), seal_of(2, 0, 1), seal_of(3, 0, 2)};
    for (size_t i = 0; i < 3; i++)
        CHECK(mst_beat_read(&other[i], first, sizeof first, &got) == MST_BEAT_MAC, "case %zu is taken", i);
    mst_seal same_key = seal_of(3, 0, 1); /* the key is right: the direction alone tells */
    same_key.from = 0;
    same_key.to = 3;
    CHECK(mst_beat_read(&same_key, first, sizeof first, &got) == MST_BEAT_MAC, "a reflection is taken");
}

/* ---- a connection ---- */

static int wire(mst_link *link) {
    int ends[2];
    unsigned char key[MST_KEY_BYTES] = {7};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0, "no pair of sockets");
    *link = mst_link_make(0, 1);
    mst_link_open(link, ends[0], key);
    return ends[1];
}

static void put(int fd, const void *bytes, size_t count) {
    CHECK(write(fd, bytes, count) == (ssize_t)count, "cannot write");
}

/* Beats that are heard when `junk` comes before, between and after three of them, the second of which comes twice. */
static int heard_amid(const unsigned char *junk, size_t bytes) {
    mst_link link;
    const int fd = wire(&link);
    mst_seal out = {.from = 1, .to = 0, .key = {7}};
    mst_beat beat = some_beat(), got;
    unsigned char sealed[MST_BEAT_BYTES];
    int heard = 0;
    for (int i = 0; i < 3; i++) {
        put(fd, junk, bytes);
        CHECK_OK(mst_beat_write(&out, &beat, sealed));
        put(fd, sealed, sizeof sealed);
        if (i == 1) put(fd, sealed, sizeof sealed);
    }
    put(fd, junk, bytes);
    mst_link_event event;
    while ((event = mst_link_receive(&link, &got)) == MST_LINK_BEAT) heard++;
    CHECK(event == MST_LINK_NOTHING, "the connection closed");
    close(fd);
    CHECK(mst_link_receive(&link, &got) == MST_LINK_CLOSED, "the end is not seen");
    mst_link_close(&link);
    return heard;
}

static void test_junk(void) {
    unsigned char junk[3 * MST_BEAT_BYTES];
    mst_seal wrong = {.from = 1, .to = 0, .key = {8}};
    mst_beat beat = some_beat();
    srand(5);
    for (size_t bytes = 0; bytes < 2 * (size_t)MST_BEAT_BYTES; bytes++) {
        for (size_t i = 0; i < bytes; i++) junk[i] = (unsigned char)rand();
        /* junk shorter than a beat may hide one that follows it only until the next bytes come */
        CHECK(heard_amid(junk, bytes) == 3, "%zu bytes of junk hide beats", bytes);
    }
    CHECK_OK(mst_beat_write(&wrong, &beat, junk));
    CHECK(heard_amid(junk, MST_BEAT_BYTES) == 3, "beats under another key hide good ones");
    CHECK(heard_amid(junk, MST_BEAT_BYTES / 2) == 3, "halves of beats hide good ones");
    for (size_t i = 0; i < sizeof junk; i += 4) memcpy(junk + i, "mb\xf5\x02", 4);
    CHECK(heard_amid(junk, sizeof junk) == 3, "markers hide beats");
}

/* ---- addresses ---- */

static mst_address address_of(const char *text, const char *interface, uint8_t prefix) {
    mst_address address = {.family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET, .prefix = prefix};
    CHECK(inet_pton(address.family, text, address.bytes) == 1, "%s is no address", text);
    address.loopback = strcmp(interface, "lo") == 0;
    snprintf(address.interface, sizeof address.interface, "%s", interface);
    return address;
}

static void check_named(const mst_addresses *own, const char *text, const char *wanted) {
    mst_addresses named;
    char got[256] = "";
    const mst_status status = mst_addresses_named(own, text, "n1", &named);
    for (int i = 0; status == MST_OK && i < named.count; i++) {
        char address[64];
        inet_ntop(named.item[i].family, named.item[i].bytes, address, sizeof address);
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i > 0 ? " " : "", address);
    }
    CHECK(strcmp(got, wanted) == 0, "'%s' names '%s'", text, got);
    if (wanted[0] == '\0') CHECK_STATUS(status, MST_ECONFIG);
}

static void test_named(void) {
    const mst_addresses own = {.count = 4,
                               .item = {address_of("127.0.0.1", "lo", 8), address_of("10.1.2.3", "eth0", 16),
                                        address_of("192.168.7.1", "ib0", 25),
                                        address_of("fd00::5", "ib0", 64)}};
    check_named(&own, "eth0", "10.1.2.3");
    check_named(&own, "ib0", "192.168.7.1 fd00::5");
    check_named(&own, "ib0, eth0 ,ib0", "192.168.7.1 fd00::5 10.1.2.3");
    check_named(&own, "10.0.0.0/8", "10.1.2.3");
    check_named(&own, "10.1.0.0/16,fd00::/16", "10.1.2.3 fd00::5");
    check_named(&own, "192.168.7.126/25", "192.168.7.1");
    check_named(&own, "0.0.0.0/0", "127.0.0.1 10.1.2.3 192.168.7.1");
    check_named(&own, "10.1.2.3", "10.1.2.3");
    static const char *const wrong[] = {
        "",      "eth1",        "192.168.7.129/25", "10.1.2.4",   "10.0.0.0/33", "10.0.0.0/",
        "eth0,", "10.0.0.0/-1", "10.0.0.0/8x",      "fd00::/129", "eth0 eth1,x", ","};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) check_named(&own, wrong[i], "");
    mst_addresses named;
    CHECK_STATUS(mst_addresses_named(&own, "eth1", "n1", &named), MST_ECONFIG);
    CHECK(strstr(mst_error_message(), "network.interfaces: 'eth1'") != NULL &&
              strstr(mst_error_message(), "ib0 (192.168.7.1/25)") != NULL,
          "%s", mst_error_message());
}

/* A host reaches itself by the loopback, and never by an address that both have. */
static void test_towards(void) {
    mst_addresses own, other, chosen = {.count = 0};
    CHECK_OK(mst_addresses_list(&own));
    CHECK(own.count > 0, "this host has no address");
    mst_addresses_towards(&own, &own, &chosen);
    CHECK(chosen.count == 0, "an address of its own leads to another host");
    other = (mst_addresses){.count = 1, .item = {address_of("127.0.0.1", "lo", 8)}};
    mst_addresses_towards(&own, &other, &chosen);
    CHECK(chosen.count == 0, "the loopback leads to another host");
    for (int i = 0; i < own.count; i++) { /* a neighbour in the subnet of each address */
        mst_address *neighbour = &other.item[0];
        *neighbour = own.item[i];
        if (neighbour->loopback || neighbour->family != AF_INET || neighbour->prefix > 30) continue;
        neighbour->bytes[3] ^= 3;
        chosen.count = 0;
        mst_addresses_towards(&own, &other, &chosen);
        CHECK(chosen.count == 1 && memcmp(chosen.item[0].bytes, own.item[i].bytes, 4) == 0,
              "a neighbour of address %d is not reached from it", i);
    }
}

int main(void) {
    test_mac();
    test_round_trip();
    test_damage();
    test_misuse();
    test_junk();
    test_named();
    test_towards();
    return test_finish("test_beats");
}
