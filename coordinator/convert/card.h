/* README.md of an exported model: what the checkpoint knows of how it came to be. */
#ifndef CONVERT_CARD_H
#define CONVERT_CARD_H

#include "muster/convert.h"

/** @param imported it began as another model's weights @param text_out freed by the caller @retval MST_ENOMEM */
mst_status hf_card_make(const mst_manifest *manifest, const mst_export_options *options, mst_hf_dtype dtype,
                        bool imported, char **text_out);

#endif
