/* Stored blocks: read and compared with what they must be by all threads of the queue, many at a time, so that neither the disk
 * nor a core waits for the other. */
#ifndef CHECKPOINT_READER_H
#define CHECKPOINT_READER_H

#include "file.h"

typedef struct ckpt_reader ckpt_reader;

/**
 * Makes a reader for one checkpoint.
 *
 * Not collective.
 * @param context, path, manifest kept by reference; must outlive the reader
 * @retval MST_ENOMEM
 */
mst_status ckpt_reader_create(const mst_checkpoint_context *context, const char *path,
                              const mst_manifest *manifest, ckpt_reader **reader_out);
void ckpt_reader_destroy(ckpt_reader **reader);

/**
 * Has whole blocks of one stored piece read and compared: now, or at a later call of add or finish.
 *
 * Not collective. All that is passed stays in use until ckpt_reader_finish returns.
 * @param first, count elements of the tensor, within the piece; whole blocks, except at the tensor's end
 * @param to [count] or NULL: they are compared only
 * @param digests, checksums [blocks of count], those that must be right; NULL: not looked at
 * @retval MST_EFORMAT a block differs: names file, tensor and element; or the file is cut short; MST_EIO, MST_ENOMEM. After an
 * error the reader can only be destroyed
 */
mst_status ckpt_reader_add(ckpt_reader *reader, const mst_manifest_piece *piece, uint64_t first,
                           uint64_t count, float *to, const mst_digest *digests, const uint64_t *checksums);

/** Ends what was begun: on return all is read and compared. @retval as ckpt_reader_add */
mst_status ckpt_reader_finish(ckpt_reader *reader);

#endif
