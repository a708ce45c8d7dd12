#include "packing.h"

#include <stdlib.h>

#define NONE UINT32_MAX

/* The sequences that have room left, by how much: a list for each number of places, and a bit that tells whether it is empty. */
typedef struct room_table {
    size_t words;
    uint64_t *some; /* [words] bit r: there is a sequence with r places left */
    uint32_t *head; /* [seq_len + 1] the newest sequence with so many places left */
    uint32_t *next; /* [sequences] the one before it */
} room_table;

static mst_status room_init(room_table *room, size_t seq_len, size_t sequences) {
    mst_status status = MST_OK;
    room->words = seq_len / 64 + 1;
    room->some = calloc(room->words, sizeof *room->some);
    room->head = malloc((seq_len + 1) * sizeof *room->head);
    room->next = malloc((sequences + 1) * sizeof *room->next);
    MST_CHECK(room->some != NULL && room->head != NULL && room->next != NULL, MST_ENOMEM,
              "out of memory to pack %zu documents", sequences);
    for (size_t r = 0; r <= seq_len; r++) room->head[r] = NONE;
done:
    return status;
}

static void room_clear(room_table *room) {
    free(room->some);
    free(room->head);
    free(room->next);
}

static void room_push(room_table *room, size_t left, uint32_t sequence) {
    room->next[sequence] = room->head[left];
    room->head[left] = sequence;
    room->some[left / 64] |= UINT64_C(1) << left % 64;
}

static uint32_t room_pop(room_table *room, size_t left) {
    const uint32_t sequence = room->head[left];
    room->head[left] = room->next[sequence];
    if (room->head[left] == NONE) room->some[left / 64] &= ~(UINT64_C(1) << left % 64);
    return sequence;
}

/* The least room that is at least `places`; false: there is none. */
static bool room_find(const room_table *room, size_t places, size_t *left_out) {
    uint64_t word = room->some[places / 64] >> places % 64 << places % 64;
    for (size_t i = places / 64;; word = room->some[i]) {
        if (word != 0) {
            *left_out = i * 64 + (size_t)__builtin_ctzll(word);
            return true;
        }
        if (++i == room->words) return false;
    }
}

/* Numbers of the documents that take places, the longest first, those of one length in their order.
 * @param sorted_out [count] @return how many there are */
static size_t sort_documents(const uint32_t *places, size_t count, size_t seq_len, size_t *ends,
                             uint32_t *sorted_out) {
    for (size_t i = 0; i < count; i++) ends[places[i]]++;
    for (size_t length = seq_len; length > 0; length--) ends[length - 1] += ends[length];
    const size_t there = ends[1];
    for (size_t i = count; i > 0; i--)
        if (places[i - 1] > 0) sorted_out[--ends[places[i - 1]]] = (uint32_t)(i - 1);
    return there;
}

/* Gives each document a sequence. @param sequence_out [there] of sorted[i] @return how many sequences there are */
static uint32_t fit(const uint32_t *places, const uint32_t *sorted, size_t there, size_t seq_len,
                    room_table *room, uint32_t *sequence_out) {
    uint32_t sequences = 0;
    for (size_t i = 0; i < there; i++) {
        const size_t wanted = places[sorted[i]];
        size_t left = seq_len;
        sequence_out[i] = room_find(room, wanted, &left) ? room_pop(room, left) : sequences++;
        room_push(room, left - wanted, sequence_out[i]);
    }
    return sequences;
}

/* Fills in first and documents from the sequence of each document. */
static mst_status gather(const uint32_t *sorted, const uint32_t *sequence, size_t there, uint32_t sequences,
                         packing *p) {
    mst_status status = MST_OK;
    p->first = calloc((size_t)sequences + 1, sizeof *p->first);
    p->documents = malloc((there + 1) * sizeof *p->documents);
    MST_CHECK(p->first != NULL && p->documents != NULL, MST_ENOMEM, "out of memory to pack %zu documents",
              there);
    for (size_t i = 0; i < there; i++) p->first[sequence[i]]++;
    for (size_t s = 1; s <= sequences; s++) p->first[s] += p->first[s - 1];
    for (size_t i = there; i > 0; i--) p->documents[--p->first[sequence[i - 1]]] = sorted[i - 1];
    p->sequences = sequences;
done:
    return status;
}

/* A sequence for each. */
static size_t leave_single(const uint32_t *places, size_t count, uint32_t *sorted_out,
                           uint32_t *sequence_out) {
    size_t there = 0;
    for (size_t i = 0; i < count; i++) {
        if (places[i] == 0) continue;
        sorted_out[there] = (uint32_t)i;
        sequence_out[there] = (uint32_t)there;
        there++;
    }
    return there;
}

mst_status packing_deal(const uint32_t *places, size_t count, size_t seq_len, mst_packing kind,
                        packing *packing_out) {
    mst_status status = MST_OK;
    room_table room = {0};
    uint32_t *sorted = malloc((count + 1) * sizeof *sorted),
             *sequence = malloc((count + 1) * sizeof *sequence), sequences;
    size_t there, *ends = calloc(seq_len + 1, sizeof *ends);
    MST_CHECK(sorted != NULL && sequence != NULL && ends != NULL, MST_ENOMEM,
              "out of memory to pack %zu documents", count);
    if (kind == MST_PACKING_SINGLE) {
        there = leave_single(places, count, sorted, sequence);
        sequences = (uint32_t)there;
    } else {
        there = sort_documents(places, count, seq_len, ends, sorted);
        MST_TRY(room_init(&room, seq_len, there));
        sequences = fit(places, sorted, there, seq_len, &room, sequence);
    }
    MST_TRY(gather(sorted, sequence, there, sequences, packing_out));
done:
    room_clear(&room);
    free(sorted);
    free(sequence);
    free(ends);
    return status;
}

void packing_clear(packing *p) {
    free(p->documents);
    free(p->first);
    *p = (packing){0};
}
