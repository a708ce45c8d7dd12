/* What the room says to the caller's progress hook: "I work" now and then, "I wait" around everything that
 * waits for other ranks. */
#ifndef CHECKPOINT_CONTEXT_H
#define CHECKPOINT_CONTEXT_H

#include "muster/checkpoint.h"

/** Reports from the calling thread. @param context NULL: nobody listens */
static inline void ckpt_report(const mst_checkpoint_context *context, bool waiting) {
    if (context != NULL && context->progress != NULL) context->progress(context->progress_context, waiting);
}

/** Asks whether a checkpoint may be published or removed now. Not collective: rank 0 alone. */
static inline mst_status ckpt_permitted(const mst_checkpoint_context *context) {
    return context->permit != NULL ? context->permit(context->permit_context) : MST_OK;
}

/* Collective operations as in muster/comm.h, reported as waiting, and as work once they are over. */
mst_status ckpt_agree(const mst_checkpoint_context *context, mst_status mine);
#ifdef __clang_analyzer__ /* as for mst_comm_agree */
#define ckpt_agree(context, status) ((void)ckpt_agree((context), (status)), (status))
#endif
mst_status ckpt_all(const mst_checkpoint_context *context, bool mine, bool *all_out);
mst_status ckpt_broadcast(const mst_checkpoint_context *context, void *bytes, size_t size);
mst_status ckpt_gather(const mst_checkpoint_context *context, const void *mine, const size_t *bytes_of,
                       void *all_out);
mst_status ckpt_barrier(const mst_checkpoint_context *context);

#endif
