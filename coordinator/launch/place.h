/* Where launch is: alone on a machine, in an allocation of Slurm, or with a hostfile; which nodes there are, and which answer. */
#ifndef LAUNCH_PLACE_H
#define LAUNCH_PLACE_H

#include <stdbool.h>
#include <stddef.h>

#include "muster/status.h"

enum { PLACE_NAME_MAX = 256 };

typedef enum place_kind { PLACE_ALONE, PLACE_SLURM, PLACE_HOSTFILE } place_kind;

typedef struct place_node {
    char name[PLACE_NAME_MAX];
    size_t cores;  /* that the job may use: of Slurm its CPUs */
    bool here;     /* this machine */
    bool answers;  /* when it was last asked; at first true */
    size_t blamed; /* failures that named it */
} place_node;

typedef struct place {
    place_kind kind;
    place_node *nodes; /* [count], owned */
    size_t count;
    char job[64];            /* of Slurm */
    char hostfile[4096];     /* as given */
    size_t threads_per_core; /* of this machine */
} place;

/** Cores of this machine that this process may use. Not collective. */
size_t place_cores(size_t *threads_per_core_out);

/**
 * Finds out where this process is. Not collective.
 * @param hostfile NULL: none was given
 * @retval MST_ECONFIG this is a rank of mpirun or srun; the hostfile is wrong or not there
 * @retval MST_EIO, MST_ENOMEM Slurm does not say what its nodes are
 */
mst_status place_find(const char *hostfile, place *place_out);
void place_clear(place *p);

/** Reads a hostfile of Open MPI's: a host a line, perhaps slots=N. Not collective.
 * @retval MST_ECONFIG, MST_ENOMEM */
mst_status place_read_hostfile(const char *path, size_t cores, place *p);

/** Adds a node, or its cores where it is there already. @retval MST_ENOMEM */
mst_status place_add(place *p, const char *name, size_t cores);

/** Asks which nodes answer. Takes 10 s at most for each kind of question; a node that cannot be asked counts as there. */
void place_ask(place *p);

/** The node of this name, also where one of both names is longer by a domain; NULL: none. */
place_node *place_node_of(place *p, const char *name);

/** In words: "this machine", "Slurm job 12", "hostfile hosts". */
void place_describe(const place *p, char *text_out, size_t room);

#endif
