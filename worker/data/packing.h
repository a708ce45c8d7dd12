/*
 * Whole documents put into sequences: which documents a sequence holds.
 *
 * A document of n tokens takes n - 1 places, since its last token is only predicted; one that is longer than a sequence is
 * cut. All documents of a split are packed at once, by best fit in descending length (ties in file order): a pure function
 * of their lengths and of seq_len. So an epoch has as many sequences as the one before, and what changes from epoch to epoch
 * is their order.
 */
#ifndef MUSTER_DATA_PACKING_H
#define MUSTER_DATA_PACKING_H

#include "muster/data.h"

/* Of one split of one source. All zero: nothing is packed. */
typedef struct packing {
    uint64_t sequences;
    uint32_t *documents; /* numbers of documents, sequence by sequence */
    uint32_t *first; /* [sequences + 1] sequence i has documents[first[i]] to documents[first[i + 1] - 1] */
    mst_packing_report report;
} packing;

/**
 * Deals documents to sequences.
 *
 * Memory: 16 bytes a document while it works, about 8 after it.
 * @param places [count] what each document takes, at most seq_len; 0: it is left out
 * @param kind DOCUMENTS, or SINGLE: a sequence for each document, in their order
 * @param packing_out zeroed; to be cleared also after a failure. Its report is not touched.
 * @retval MST_ENOMEM
 */
mst_status packing_deal(const uint32_t *places, size_t count, size_t seq_len, mst_packing kind,
                        packing *packing_out);
void packing_clear(packing *p);

#endif
