/* The checkpoints folder: step-00001000 and, for a moment, names that begin with a dot. */
#ifndef CHECKPOINT_FOLDER_H
#define CHECKPOINT_FOLDER_H

#include "file.h"

/* "step-00001000", which exists when it is whole; ".tmp-step-..." in the making; ".old-step-..." replaced
 * where the file system cannot exchange names; ".gone-step-..." being removed. */
typedef struct ckpt_paths {
    char folder[CKPT_PATH_MAX], final[CKPT_PATH_MAX], making[CKPT_PATH_MAX], old[CKPT_PATH_MAX];
} ckpt_paths;

/** The path of a step's checkpoint. @param path_out [CKPT_PATH_MAX] @retval MST_EINVAL too long */
mst_status ckpt_step_path(const char *folder, uint64_t step, char *path_out);

mst_status ckpt_paths_of(const char *folder, uint64_t step, ckpt_paths *paths_out);

/** Clears what killed jobs left in the folder: removes unfinished ones, puts back an
 * old one whose new one never came. */
mst_status ckpt_folder_recover(const char *folder);

/** Removes what is unfinished, unless permission is refused: then the folder of that name may be another process's by
 * now. Leaves the error message alone: it is for cleaning up. Not collective: rank 0 alone. */
void ckpt_making_discard(const mst_checkpoint_context *context, const ckpt_paths *paths);

/** Gives the finished checkpoint its final name, in the place of one that may be there. @retval MST_EIO */
mst_status ckpt_publish(const ckpt_paths *paths);

/** Steps of all checkpoints in a folder, newest first, whole or not; caller frees. A missing folder has none.
 * @retval MST_EIO, MST_ENOMEM */
mst_status ckpt_list_steps(const char *folder, uint64_t **steps_out, size_t *count_out);

/** Renames a checkpoint within its folder; `prefix` takes it out of the list of checkpoints.
 * @param gone_out [CKPT_PATH_MAX] its path from now on @retval MST_EIO */
mst_status ckpt_take_out(const char *folder, uint64_t step, const char *prefix, char *gone_out);

/** Renames a checkpoint to left-step-..., or left-2-step-... and so on where that name is taken. @retval MST_EIO */
mst_status ckpt_set_aside(const char *folder, uint64_t step);

#endif
