/* The communicator: pieces of every size, and failures that all ranks learn of alike.
 * Run it on any number of ranks. */
#include "muster/comm.h"
#include "test.h"

enum { RANKS_MAX = 64 };

static unsigned char byte_of(int rank, size_t i) {
    return (unsigned char)(rank * 37 + (int)(i % 251) + 1);
}

static size_t wrong_bytes(const unsigned char *all, const size_t *bytes_of, int size) {
    size_t wrong = 0;
    for (int rank = 0; rank < size; rank++)
        for (size_t i = 0; i < bytes_of[rank]; i++) wrong += *all++ != byte_of(rank, i);
    return wrong;
}

/* Rank r has 1000 r bytes: rank 0 has none. */
static void check_pieces(mst_comm *comm, int rank, int size) {
    size_t bytes_of[RANKS_MAX], sum = 0, before = 0;
    for (int r = 0; r < size; r++) {
        bytes_of[r] = 1000 * (size_t)r;
        before += r < rank ? bytes_of[r] : 0;
        sum += bytes_of[r];
    }
    unsigned char *mine = malloc(bytes_of[rank] + 1), *all = calloc(1, sum + 1);
    for (size_t i = 0; i < bytes_of[rank]; i++) mine[i] = byte_of(rank, i);
    CHECK_OK(mst_comm_allgather(comm, mine, bytes_of, all));
    CHECK(wrong_bytes(all, bytes_of, size) == 0, "allgather: %zu bytes differ",
          wrong_bytes(all, bytes_of, size));
    for (size_t i = 0; i < sum; i++)
        if (i < before || i >= before + bytes_of[rank]) all[i] = 0;
    CHECK_OK(mst_comm_allgather(comm, all + before, bytes_of, all)); /* in place */
    CHECK(wrong_bytes(all, bytes_of, size) == 0, "allgather in place differs");
    memset(all, 0, sum);
    CHECK_OK(mst_comm_gather(comm, mine, bytes_of, rank == 0 ? all : NULL));
    if (rank == 0) CHECK(wrong_bytes(all, bytes_of, size) == 0, "gather differs");
    for (int root = 0; root < size; root++) {
        unsigned char data[100];
        for (size_t i = 0; i < sizeof data; i++) data[i] = rank == root ? byte_of(root, i) : 0;
        CHECK_OK(mst_comm_broadcast(comm, root, data, sizeof data));
        CHECK(data[0] == byte_of(root, 0) && data[99] == byte_of(root, 99), "broadcast from %d differs",
              root);
    }
    free(mine);
    free(all);
}

static void check_equal_pieces(mst_comm *comm, int rank, int size) {
    int mine[2] = {rank, 100 * rank}, (*all)[2] = NULL;
    CHECK_OK(mst_comm_allgather_equal(comm, mine, sizeof mine, (void **)&all));
    for (int r = 0; all != NULL && r < size; r++)
        CHECK(all[r][0] == r && all[r][1] == 100 * r, "rank %d's piece is %d, %d", r, all[r][0], all[r][1]);
    free(all);
}

static void check_texts(mst_comm *comm, int rank) {
    char *text = strdup(rank == 0 ? "of rank 0" : "another, which is longer");
    CHECK_OK(mst_comm_share_text(comm, &text));
    CHECK(strcmp(text, "of rank 0") == 0, "rank %d has '%s'", rank, text);
    if (rank == 0) *text = '\0';
    CHECK_OK(mst_comm_share_text(comm, &text));
    CHECK(text != NULL && *text == '\0', "rank %d has no empty text", rank);
    if (rank == 0) {
        free(text);
        text = NULL;
    }
    CHECK_OK(mst_comm_share_text(comm, &text));
    CHECK(text == NULL, "rank %d has '%s'", rank, text);
}

static void check_programs(mst_comm *comm, int rank, int size) {
    CHECK_OK(mst_comm_check_program(comm, "one program"));
    if (size == 1) return;
    CHECK_STATUS(mst_comm_check_program(comm, rank < size - 1 ? "muster 1" : "muster 2"), MST_ECONFIG);
    char said[64];
    snprintf(said, sizeof said, " is muster 2 (1 of %d ranks are not rank 0's)", size);
    CHECK(strstr(mst_error_message(), " is muster 1, rank ") != NULL, "message: %s", mst_error_message());
    CHECK(strstr(mst_error_message(), said) != NULL, "message: %s", mst_error_message());
}

static void check_agreement(mst_comm *comm, int rank, int size) {
    CHECK_OK(mst_comm_agree(comm, MST_OK));
    if (size == 1) return;
    mst_status status = MST_OK; /* ranks from 1 on fail, each in its own way: all get rank 1's */
    if (rank >= 1) status = mst_error(rank == 1 ? MST_EIO : MST_ENOMEM, "cannot do thing %d", rank);
    status = mst_comm_agree(comm, status);
    CHECK(status == MST_EIO, "agreed on %s", mst_status_name(status));
    CHECK(strcmp(mst_error_message(), "rank 1: cannot do thing 1") == 0, "message: %s", mst_error_message());
    status = mst_comm_agree(comm, status); /* a second time changes nothing */
    CHECK(status == MST_EIO && strcmp(mst_error_message(), "rank 1: cannot do thing 1") == 0, "message: %s",
          mst_error_message());
    /* a cause goes before the loss of a peer */
    status = mst_error(rank == size - 1 ? MST_EIO : MST_EPEER, "cannot do thing %d", rank);
    status = mst_comm_agree(comm, status);
    CHECK(status == MST_EIO, "agreed on %s", mst_status_name(status));
    status = mst_comm_agree(comm, rank == 0 ? MST_OK : mst_error(MST_EPEER, "rank %d is lost", size));
    CHECK(status == MST_EPEER && strncmp(mst_error_message(), "rank 1: ", 8) == 0, "message: %s",
          mst_error_message());
}

static void check_all(mst_comm *comm, int rank, int size) {
    bool all = false;
    CHECK_OK(mst_comm_all(comm, true, &all));
    CHECK(all, "all of %d ranks", size);
    CHECK_OK(mst_comm_all(comm, rank != size - 1, &all));
    CHECK(!all, "all but the last of %d ranks", size);
}

/* ---- some ranks go on by themselves ---- */

static int discarded;

static void discard(void *kept) {
    discarded += *(int *)kept;
}

static void other_discard(void *kept) {
    (void)kept;
}

static void check_keeping(mst_comm *comm) {
    int first = 1, second = 10;
    CHECK(mst_comm_take(comm, discard) == NULL, "something is kept");
    mst_comm_keep(comm, &first, discard);
    CHECK(mst_comm_take(comm, other_discard) == NULL, "another room's was given away");
    CHECK(mst_comm_take(comm, discard) == &first, "it was not kept");
    CHECK(mst_comm_take(comm, discard) == NULL, "it was given away twice");
    mst_comm_keep(comm, &first, discard);
    mst_comm_keep(comm, &second, discard);
    CHECK(discarded == 1, "discarded %d", discarded);
    mst_comm_keep(comm, NULL, NULL);
    CHECK(discarded == 11, "discarded %d", discarded);
}

/* All but one go on; of them all but the next one, until one is left. Each time the others get what came of it. */
static void check_part(mst_comm *comm, int lost, int seat) {
    const int rank = mst_comm_rank(comm), size = mst_comm_size(comm);
    mst_comm *rest = NULL;
    lost %= size;
    CHECK_OK(mst_comm_part(comm, rank != lost, &rest));
    CHECK((rest != NULL) == (rank != lost), "rank %d of %d, without rank %d", rank, size, lost);
    mst_status status = MST_OK;
    if (rest != NULL) {
        const int now = mst_comm_rank(rest);
        CHECK(mst_comm_size(rest) == size - 1 && now == rank - (rank > lost), "rank %d is now rank %d of %d",
              rank, now, mst_comm_size(rest));
        CHECK(mst_comm_node_seat(rest) == seat, "its seat is %d, was %d", mst_comm_node_seat(rest), seat);
        CHECK(strcmp(mst_comm_host(rest, now), mst_comm_host(comm, rank)) == 0, "its host is another");
        check_pieces(rest, now, size - 1);
        check_agreement(rest, now, size - 1);
        if (size > 2) check_part(rest, lost + 1, seat);
        status = size % 2 == 0 ? MST_OK : mst_error(MST_EIO, "%d were left", size - 1);
        mst_comm_destroy(&rest);
    }
    status = mst_comm_rejoin(comm, rank != lost, status, 10);
    CHECK(status == (size % 2 == 0 ? MST_OK : MST_EIO), "%s", mst_status_name(status));
    char text[32];
    snprintf(text, sizeof text, "%d were left", size - 1);
    if (status != MST_OK) CHECK(strcmp(mst_error_message(), text) == 0, "message: %s", mst_error_message());
}

int main(void) {
    mst_comm *comm = NULL;
    CHECK_OK(mst_comm_create(&comm));
    if (!comm) return test_finish("check_comm");
    int rank = mst_comm_rank(comm), size = mst_comm_size(comm);
    CHECK(rank >= 0 && rank < size && size <= RANKS_MAX, "rank %d of %d", rank, size);
    CHECK(mst_comm_node_rank(comm) < mst_comm_node_size(comm), "rank %d of %d on this node",
          mst_comm_node_rank(comm), mst_comm_node_size(comm));
    for (int r = 0; r < size; r++) CHECK(mst_comm_host(comm, r)[0], "rank %d's host has no name", r);
    check_pieces(comm, rank, size);
    check_equal_pieces(comm, rank, size);
    check_agreement(comm, rank, size);
    check_texts(comm, rank);
    check_programs(comm, rank, size);
    check_all(comm, rank, size);
    check_keeping(comm);
    for (int lost = 0; size > 1 && lost < size; lost += 2) check_part(comm, lost, mst_comm_node_seat(comm));
    CHECK_OK(mst_comm_barrier(comm));
    mst_comm_destroy(&comm);
    CHECK(comm == NULL, "the communicator is not gone");
    return rank == 0 || test_failures ? test_finish("check_comm") : 0;
}
