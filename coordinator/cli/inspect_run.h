/* The part of muster inspect that is about a run folder. */
#ifndef CLI_INSPECT_RUN_H
#define CLI_INSPECT_RUN_H

#include "muster/status.h"

/** Prints who trains in a run folder, and its checkpoints: steps, held-out losses, which is the newest and which the best.
 * @param path a run folder or a checkpoints folder @retval MST_EIO, MST_ENOMEM */
mst_status inspect_run(const char *path);

#endif
