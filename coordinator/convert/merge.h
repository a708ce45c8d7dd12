/* Adapters added to the weights that they adapt. Private to the room. */
#ifndef CONVERT_MERGE_H
#define CONVERT_MERGE_H

#include "muster/convert.h"

typedef struct hf_merge hf_merge;

/** Reads all adapters of a checkpoint, each compared with its digest. Not collective.
 * @param base of the model that they are to be added to
 * @retval as mst_checkpoint_weights; MST_EFORMAT base is no model that they fit */
mst_status hf_merge_create(const mst_checkpoint_context *context, const char *path,
                           const mst_model_config *model, const mst_lora *lora, const mst_manifest *base,
                           hf_merge **merge_out);
void hf_merge_destroy(hf_merge **merge);

/** values += scale B A of elements [first, first + count) of a tensor of the model, which is one of the base's and has `cols` in a row. Each is summed in fp64
 * and rounded to fp32 once; nothing happens to tensors without an adapter. */
void hf_merge_add(const hf_merge *merge, const char *tensor, size_t cols, uint64_t first, uint64_t count,
                  float *values);

#endif
