/* The tokenizer.json of a checkpoint. */
#ifndef CHECKPOINT_TOKENIZER_FILE_H
#define CHECKPOINT_TOKENIZER_FILE_H

#include "muster/checkpoint.h"

/** Writes the text and brings it to the disk. @retval MST_EIO */
mst_status ckpt_tokenizer_write(const mst_checkpoint_context *context, const char *folder, const char *text,
                                mst_manifest_file *file_out);

#endif
