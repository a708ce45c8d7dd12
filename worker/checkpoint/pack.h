/* The writing of a packed checkpoint, from whatever source. */
#ifndef CHECKPOINT_PACK_H
#define CHECKPOINT_PACK_H

#include "verify.h"

typedef struct ckpt_pack {
    const mst_checkpoint_context *context;
    const mst_pack_options *options;
    bool weights_only;
    mst_manifest from;     /* meta, tensors and digests, and the names of files; owned */
    const char *tokenizer; /* their content; NULL: there is none. Not owned */
    const void *companions;
    /* Gives all pieces of the kinds that are wanted, kind after kind, tensors in name order, to the sink. */
    mst_status (*feed)(struct ckpt_pack *p, const ckpt_sink *sink);
    void *feed_context;

    /* filled by ckpt_pack_write */
    mst_manifest to; /* its strings and tensors are those of `from` */
    ckpt_file out;
    uint64_t digests_end; /* where the next block digest goes */
    mst_hasher *hasher;   /* of the block digests */
    uint64_t done, all;   /* bytes of tensors, copied and verified */
} ckpt_pack;

/** Writes the file; what cannot be finished is removed. @retval as mst_checkpoint_pack */
mst_status ckpt_pack_write(ckpt_pack *p, const char *output, mst_checkpoint_digests *digests_out);

/** Tells the user that so many elements more were copied, verified or hashed. */
void ckpt_pack_report(ckpt_pack *p, uint64_t elements);

void ckpt_pack_clear(ckpt_pack *p);

#endif
