/* The files that a build reads. */
#ifndef MUSTER_DATA_INPUTS_H
#define MUSTER_DATA_INPUTS_H

#include "muster/data.h"

typedef struct input_list {
    char **paths; /* owned */
    size_t count, capacity;
} input_list;

/**
 * Lists the inputs of a build: files as given; folders with everything below them whose name matches, in the
 * bytewise order of the paths, without hidden files and folders. Links are followed, except into a folder
 * that is being listed already.
 *
 * @param list_out zeroed; to be cleared also after a failure
 * @retval MST_ECONFIG no input, no file, a bad pattern, or the output among the inputs; MST_EIO; MST_ENOMEM
 */
mst_status inputs_collect(const mst_build_options *options, input_list *list_out);
void inputs_clear(input_list *list);

#endif
