/*
 * Messages on their way while kernels work. MPI moves them only inside of its own calls, and a large one takes
 * more of these than a pass has units. So the thread that computes makes some between its tasks, too.
 */
#include <mpi.h>

#include "muster/clock.h"
#include "transport.h"

static const double period = 200e-6; /* seconds: 25 kB at 1 Gb/s, which the sockets' buffers hold */

/* Looking for a message that nobody sends, one from this rank, makes MPI look after all others. Errors are for
 * the calls that wait for those. */
static void move_messages(void *context) {
    mst_exchange *x = context;
    int found;
    if (mst_clock_now() < x->next_move) return;
    MPI_Iprobe(x->rank, 0, *(const MPI_Comm *)mst_comm_mpi(x->comm, false), &found, MPI_STATUS_IGNORE);
    x->next_move = mst_clock_now() + period;
}

void mst_exchange_keep_moving(mst_exchange *x) {
    if (x->transport->by_mpi && x->size > 1) mst_queue_attend(x->queue, move_messages, x);
}

void mst_exchange_stop_moving(mst_exchange *x) {
    if (x->transport && x->transport->by_mpi && x->size > 1) mst_queue_attend(x->queue, NULL, NULL);
}
