/* The data of a config: where the tokenizer, which the data room does not know, meets the files. */
#include <string.h>

#include "muster/sources.h"

/* A token file of muster has its tokenizer inside: data.tokenizer may not say another. */
static mst_status check_tokenizer(const mst_config *config, const mst_vocabulary *vocabulary,
                                  const mst_data *data) {
    mst_status status = MST_OK;
    mst_data_tokenizer theirs;
    mst_digest ours;
    mst_data_tokenizer_of(data, &theirs);
    MST_TRY(mst_digest_of(vocabulary->json, vocabulary->json_bytes, &ours));
    MST_CHECK(theirs.has_json && memcmp(&ours, &theirs.digest, sizeof ours) == 0, MST_ECONFIG,
              "%s: data.tokenizer: '%s' is not the tokenizer inside '%s'; leave it out, or build with it",
              mst_config_place(config, "data.tokenizer"), config->data.tokenizer,
              config->data.sources[0].path);
done:
    return status;
}

static mst_status load_tokenizer(const mst_config *config, mst_tokenizer **tokenizer_out) {
    mst_status status = mst_tokenizer_load(config->data.tokenizer, tokenizer_out);
    if (status != MST_OK)
        mst_error_context(status, "%s: data.tokenizer", mst_config_place(config, "data.tokenizer"));
    return status;
}

mst_status mst_sources_open(const mst_config *config, const mst_sources_instead *instead,
                            mst_data **data_out) {
    mst_status status = MST_OK;
    const mst_sources_instead nothing = {0}, *other = instead != NULL ? instead : &nothing;
    mst_tokenizer *loaded = NULL;
    const mst_tokenizer *tokenizer = other->tokenizer;
    mst_vocabulary vocabulary = {0};
    mst_data *data = NULL;
    mst_data_config wanted = {.sources = other->sources != NULL ? other->sources : config->data.sources,
                              .source_count =
                                  other->sources != NULL ? other->source_count : config->data.source_count,
                              .seq_len = config->data.seq_len,
                              .seed = config->run.seed,
                              .packing = config->data.packing,
                              .type = other->type != MST_TOKENS_AUTO ? other->type : config->data.type,
                              .vocab_size = config->model.vocab_size};
    *data_out = NULL;
    if (tokenizer == NULL && config->data.tokenizer != NULL) {
        MST_TRY(load_tokenizer(config, &loaded));
        tokenizer = loaded;
    }
    if (tokenizer != NULL) {
        MST_TRY(mst_tokenizer_vocabulary(tokenizer, &vocabulary));
        wanted.vocabulary = &vocabulary;
    }
    MST_TRY(mst_data_open(&wanted, &data));
    if (loaded != NULL) MST_TRY(check_tokenizer(config, &vocabulary, data));
    *data_out = data;
    data = NULL;
done:
    mst_data_close(&data);
    mst_tokenizer_vocabulary_clear(&vocabulary);
    mst_tokenizer_destroy(&loaded);
    return status;
}

mst_status mst_sources_count_steps(mst_config *config) {
    mst_status status = MST_OK;
    mst_data *data = NULL;
    if (config->run.steps > 0) goto done;
    MST_TRY(mst_sources_open(config, NULL, &data));
    MST_TRY(mst_config_count_steps(config, mst_data_samples(data, MST_SPLIT_TRAIN)));
done:
    mst_data_close(&data);
    return status;
}
