/* What is started where: launcher, nodes, ranks, cores; and the command that does it. */
#ifndef LAUNCH_PLAN_H
#define LAUNCH_PLAN_H

#include "muster/launch.h"
#include "place.h"
#include "words.h"

typedef enum launcher_kind { LAUNCHER_NONE, LAUNCHER_MPIRUN, LAUNCHER_SRUN } launcher_kind;

typedef struct job_plan {
    launcher_kind launcher;
    const place_node **nodes; /* [node_count] those that are used; owned, what it points to is the place's */
    size_t node_count;
    size_t ranks, per_node; /* per_node: on each node at most */
    size_t cores;           /* of each rank; 0: more ranks than cores, nothing is bound */
    bool own_binding;       /* the user's options say where ranks stand */
    words command;
    char why[1024]; /* lines */
} job_plan;

/** The launcher to use here. Not collective. @param with what the user asked for, or NULL
 * @param why_out [256] the reason
 * @retval MST_ECONFIG that launcher is not there, or of no use here */
mst_status job_launcher(const place *p, const char *with, bool one_rank, launcher_kind *launcher_out,
                        char why_out[256]);

/** Refuses options behind '--' that would contradict what launch decides itself. Not collective. @retval MST_ECONFIG */
mst_status job_check_extra(const mst_launch_options *options, launcher_kind launcher);

/**
 * Decides what the next attempt is. Not collective.
 * @param lanes more ranks than these have nothing to do
 * @param resume of this attempt
 * @param plan_out cleared by job_plan_clear; node_count 0: fewer nodes answer than options->least_nodes
 * @retval MST_ECONFIG, MST_ENOMEM
 */
mst_status job_plan_make(const place *p, const mst_launch_options *options, launcher_kind launcher,
                         size_t lanes, const char *resume, job_plan *plan_out);
void job_plan_clear(job_plan *plan);

/** "mpirun", "srun", "muster train". */
const char *job_launcher_name(launcher_kind launcher);

#endif
