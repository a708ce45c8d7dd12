/*
 * Memory that the ranks of a node share: the slots of all of them, and one copy of the published weights.
 * Private to the room.
 */
#ifndef MUSTER_EXCHANGE_WINDOW_H
#define MUSTER_EXCHANGE_WINDOW_H

#include <mpi.h>
#include <stdatomic.h>

#include "transport.h"

enum { MST_PAGE = 4096 };

/** Bytes in whole pages; and the first page that begins in memory, which has room for one more. */
size_t mst_whole_pages(size_t bytes);
char *mst_page_start(void *memory);

/** How much shared memory the parts of a node's ranks need together, and how much of /dev/shm they may take.
 * Collective for the node, the same on all its ranks. @retval MST_EMPI */
mst_status mst_shm_room(const MPI_Comm *node, size_t part, size_t *needed_out, size_t *free_out);

typedef struct mst_window {
    MPI_Win window;
    bool locked;
    int ranks, rank;         /* of the node, and this one's place among them */
    int *place;              /* [all ranks] place on this node; -1: on another */
    char **mark;             /* [ranks] each rank's mark */
    _Atomic uint32_t **done; /* [ranks][unit][own piece]: the number of the round in which it was completed */
    char **slots;            /* [ranks] each rank's slots as this rank sees them */
} mst_window;

/** Bytes of a rank's part of a window, with the weights and slots that stand in it. */
size_t mst_window_bytes(const mst_layout *layout, size_t weights, size_t slots);

/** How much shared memory a window would need on this node, and whether /dev/shm has it.
 * Collective; the same on all ranks of a node. */
mst_status mst_window_room(mst_exchange *x, size_t *needed_out, size_t *free_out);

/** Allocates x->slots and x->weights in a window. Collective. @retval MST_ENOMEM with both numbers when
 * /dev/shm is short; MST_EMPI. Cleared by mst_window_clear, also after a failure. */
mst_status mst_window_init(mst_exchange *x, mst_window *window_out);
/** Collective for the node's ranks. */
void mst_window_clear(mst_exchange *x, mst_window *window);

/** Orders this rank's writes before, and its reads after. Not collective. */
mst_status mst_window_fence(const mst_window *window);

/** A unit's blocks from `first_block` on in a piece of a rank of this node. */
const void *mst_window_blocks(const mst_exchange *x, const mst_window *window, const mst_piece *piece,
                              size_t unit, size_t first_block);

/** Where the ranks of the node read whether a piece (number `within` of its rank) of a unit is complete. */
_Atomic uint32_t *mst_window_done(const mst_window *window, int rank, size_t unit, size_t within);

#endif
