/* Files that a checkpoint carries whole, byte for byte: tokenizer.json and huggingface.tar. */
#ifndef CHECKPOINT_CARRIED_H
#define CHECKPOINT_CARRIED_H

#include "muster/checkpoint.h"

/** Writes a file into a checkpoint's folder and brings it to the disk. @retval MST_EIO */
mst_status ckpt_carried_write(const mst_checkpoint_context *context, const char *folder, const char *name,
                              const void *content, size_t bytes, mst_manifest_file *file_out);

#endif
