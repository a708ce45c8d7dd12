/* The model that adapters adapt: once in a run folder, and named by its digest in every checkpoint. */
#include <stdio.h>
#include <string.h>

#include "file.h"
#include "muster/checkpoint.h"

mst_status mst_checkpoint_base(const char *path, const mst_digest *weights, char *path_out) {
    mst_status status = MST_OK;
    mst_checkpoint_meta meta = {0};
    mst_checkpoint_digests digests;
    char wanted[MST_DIGEST_HEX], found[MST_DIGEST_HEX];
    mst_digest_to_hex(weights, wanted);
    MST_CHECK(snprintf(path_out, CKPT_PATH_MAX, "%s/../../" MST_BASE_NAME, path) < CKPT_PATH_MAX, MST_EIO,
              "%s: the path is too long", path);
    MST_CHECK(ckpt_exists(path_out), MST_EIO,
              "%s holds adapters of a model with the weights %s, which has to stand in the run folder "
              "as " MST_BASE_NAME ", and does not: %s",
              path, wanted, path_out);
    MST_TRY(mst_checkpoint_open(path_out, &meta, &digests));
    mst_digest_to_hex(&digests.weights, found);
    MST_CHECK(strcmp(wanted, found) == 0, MST_EFORMAT,
              "%s holds adapters of a model with the weights %s; %s holds %s", path, wanted, path_out, found);
done:
    mst_checkpoint_meta_clear(&meta);
    return status;
}
