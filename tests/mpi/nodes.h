/* One machine as if it were several, and what travels between them: nodes.c. */
#ifndef MUSTER_TEST_NODES_H
#define MUSTER_TEST_NODES_H

#include <stddef.h>

/** The node of a rank as MST_TEST_NODES has it: its digit there; without it all ranks stand on node 0. */
int nodes_of(int rank);

typedef struct nodes_traffic {
    size_t messages, bytes;
} nodes_traffic;

/** What this rank's persistent sends took to ranks of other nodes since the last call. */
nodes_traffic nodes_take_traffic(void);

#endif
