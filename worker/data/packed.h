/* Samples of whole documents, as the reader has them. */
#ifndef MUSTER_DATA_PACKED_H
#define MUSTER_DATA_PACKED_H

#include "reader.h"

/**
 * Packs the documents of a split.
 *
 * Memory: 20 bytes a document while it works, about 8 after it.
 * @param packing_out zeroed; to be cleared also after a failure
 * @retval MST_ECONFIG another trainer's file, which knows no documents; MST_EIO; MST_EFORMAT bounds outside of the tokens;
 * MST_EUNSUPPORTED more than 2^32 - 2 documents; MST_ENOMEM
 */
mst_status packed_open(const source *from, mst_split split, size_t seq_len, mst_packing kind,
                       packing *packing_out);

/** Reads a sequence of a source that is packed. @retval as mst_data_read */
mst_status packed_read(mst_data *data, mst_split split, const source *from, uint64_t sequence,
                       const sample_buffers *out);

#endif
