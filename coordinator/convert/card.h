/* README.md of an exported model: what the checkpoint knows of how it came to be. */
#ifndef CONVERT_CARD_H
#define CONVERT_CARD_H

#include "muster/convert.h"

/** @param weights whose tensors are written: `manifest`, or the model that its adapters were merged into
 * @param imported it began as another model's weights @param text_out freed by the caller @retval MST_ENOMEM */
mst_status hf_card_make(const mst_manifest *manifest, const mst_manifest *weights,
                        const mst_export_options *options, mst_hf_dtype dtype, bool imported,
                        char **text_out);

/** The same of adapters apart. */
mst_status hf_adapter_card_make(const mst_manifest *manifest, const mst_export_options *options,
                                char **text_out);

#endif
