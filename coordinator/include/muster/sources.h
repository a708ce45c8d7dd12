/* The data that a config names, opened. */
#ifndef MUSTER_SOURCES_H
#define MUSTER_SOURCES_H

#include "muster/config.h"
#include "muster/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Other sources than the config's, or another tokenizer; all zero for none. Nothing is owned. */
typedef struct mst_sources_instead {
    const mst_source_config *sources; /* NULL: the config's */
    size_t source_count;
    const mst_tokenizer *tokenizer; /* of files that do not say theirs; NULL: data.tokenizer */
    mst_token_type type;            /* of files without a header; AUTO: data.dtype */
} mst_sources_instead;

/**
 * Opens data.sources of a config, with what data.dtype, data.tokenizer and model.vocab_size say of files of other trainers.
 *
 * Not collective. Memory: as mst_data_open; data.tokenizer while it is read.
 * @param instead NULL: nothing
 * @retval as mst_data_open and mst_tokenizer_load; MST_ECONFIG data.tokenizer is not the one that the data was made with
 */
mst_status mst_sources_open(const mst_config *config, const mst_sources_instead *instead,
                            mst_data **data_out);

/** mst_config_count_steps with the data of the config, which is opened only where it is needed. Not collective.
 * @retval as both */
mst_status mst_sources_count_steps(mst_config *config);

#ifdef __cplusplus
}
#endif
#endif
