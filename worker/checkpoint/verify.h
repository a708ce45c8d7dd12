/* Verifying, with an ear for what was found right: packing copies it. */
#ifndef CHECKPOINT_VERIFY_H
#define CHECKPOINT_VERIFY_H

#include "digests.h"
#include "manifest.h"

/* Receives all elements in the order of the manifest's pieces, some blocks at a time, once they have their digests. Whether these
 * are the checkpoint's is known only when everything was verified. */
typedef struct ckpt_sink {
    void *context;
    /** @param first of the elements, within the tensor @param digests of their blocks */
    mst_status (*put)(void *context, const mst_manifest_piece *piece, uint64_t first, const float *data,
                      uint64_t count, const mst_digest *digests);
} ckpt_sink;

/**
 * Verifies every byte of a checkpoint but those of kinds from `kinds` on.
 *
 * Not collective.
 * @param manifest of the checkpoint at `path`
 * @param sink NULL: nobody listens
 * @retval as mst_checkpoint_verify, and what the sink returns
 */
mst_status ckpt_verify(const mst_checkpoint_context *context, const char *path, const mst_manifest *manifest,
                       size_t kinds, const ckpt_sink *sink);

#endif
