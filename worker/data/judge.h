/* Which documents a build keeps, and in which split: the one place where that is decided. */
#ifndef MUSTER_DATA_JUDGE_H
#define MUSTER_DATA_JUDGE_H

#include "digest_set.h"
#include "muster/data.h"

typedef enum verdict { VERDICT_EMPTY, VERDICT_DUPLICATE, VERDICT_KEPT } verdict;

/* Between documents, or within one whose pieces arrive. A zeroed one may be cleared. */
typedef struct document_judge {
    const mst_build_options *options;
    digest_set seen;
    mst_hasher *hasher; /* of the document so far */
    uint64_t bytes;     /* of it so far */
} document_judge;

/** @param options kept by reference; the fraction and the field are checked @retval MST_ECONFIG, MST_ENOMEM */
mst_status judge_init(document_judge *judge, const mst_build_options *options);
void judge_clear(document_judge *judge);

/** Takes a piece of the document, and then judges the whole.
 * @param split_out means something for a document that is kept
 * @retval MST_ENOMEM */
mst_status judge_piece(document_judge *judge, const uint8_t *bytes, size_t count);
mst_status judge_end(document_judge *judge, verdict *verdict_out, mst_split *split_out);

/** The name of the text field. */
const char *judge_field(const mst_build_options *options);

#endif
