/* What a command needs that verifies checkpoints, and how it prints their digests. */
#ifndef CLI_HASHING_H
#define CLI_HASHING_H

#include "cli.h"
#include "muster/checkpoint.h"

/* The option of these commands: see cli_hashing_begin. */
#define CLI_THREADS_OPTION                                                                                   \
    { .name = "threads", .argument = "N", .help = "default: all cores that this process may use" }

typedef struct cli_hashing {
    mst_kernels kernels;
    mst_checkpoint_context context;
} cli_hashing;

/** Kernels, and a queue of --threads. Points into itself: not to be copied. @retval MST_ECONFIG, MST_ENOMEM */
mst_status cli_hashing_begin(const cli_args *args, cli_hashing *hashing_out);
void cli_hashing_end(cli_hashing *hashing);

/** Whether a packed checkpoint may be written there: nothing is there, or another one. A slip of the hand must not cost a token
 * file or a part of a checkpoint. @retval MST_ECONFIG, MST_EIO */
mst_status cli_check_replaced(const char *output);

/** "weights SHA256  state SHA256"; or that there is no state, where there are only weights. */
void cli_print_digests(const mst_checkpoint_digests *digests, bool weights_only);

#endif
