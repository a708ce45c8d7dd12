/* The tokenizer that an open mst_data was made with. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "muster/files.h"
#include "reader.h"

mst_status reader_lengths(mst_data *data) {
    mst_status status = MST_OK;
    const source *s = &data->sources[0];
    const tokenizer_index *tokenizer = &s->index.tokenizer;
    const size_t vocab = s->index.vocab_size;
    mst_digest found;
    if (!tokenizer->has_json && !tokenizer->is_bytes) return MST_OK;
    data->lengths = calloc(vocab, sizeof *data->lengths);
    MST_CHECK(data->lengths != NULL, MST_ENOMEM, "out of memory for a vocabulary of %zu", vocab);
    if (tokenizer->is_bytes) {
        for (size_t i = 0; i < MST_BYTE_EOS; i++) data->lengths[i] = 1;
        return MST_OK;
    }
    MST_TRY(mst_file_read(s->fd, s->path, tokenizer->lengths.offset, data->lengths,
                          vocab * sizeof *data->lengths));
    MST_TRY(mst_digest_of(data->lengths, vocab * sizeof *data->lengths, &found));
    MST_CHECK(memcmp(&found, &tokenizer->lengths.digest, sizeof found) == 0, MST_EFORMAT,
              "'%s': tokenizer/lengths does not have the SHA-256 of its index; it is damaged: build it again",
              s->path);
done:
    return status;
}

void mst_data_tokenizer_of(const mst_data *data, mst_data_tokenizer *tokenizer_out) {
    const tokenizer_index *tokenizer = &data->sources[0].index.tokenizer;
    *tokenizer_out = (mst_data_tokenizer){.is_bytes = tokenizer->is_bytes,
                                          .has_json = tokenizer->has_json,
                                          .end = tokenizer->end,
                                          .digest = tokenizer->digest};
}

mst_status mst_data_tokenizer_json(const mst_data *data, char **json_out, size_t *bytes_out) {
    mst_status status = MST_OK;
    const source *s = &data->sources[0];
    const array_index *array = &s->index.tokenizer.json;
    mst_digest found;
    char *json = NULL;
    *json_out = NULL;
    MST_CHECK(s->index.tokenizer.has_json, MST_EINVAL, "'%s' has no tokenizer.json inside", s->path);
    json = malloc(array->count + 1);
    MST_CHECK(json != NULL, MST_ENOMEM, "out of memory for the tokenizer of '%s', %" PRIu64 " bytes", s->path,
              array->count);
    MST_TRY(mst_file_read(s->fd, s->path, array->offset, json, array->count));
    MST_TRY(mst_digest_of(json, array->count, &found));
    MST_CHECK(memcmp(&found, &array->digest, sizeof found) == 0, MST_EFORMAT,
              "'%s': tokenizer/json does not have the SHA-256 of its index; it is damaged: build it again",
              s->path);
    json[array->count] = '\0';
    *bytes_out = array->count;
    *json_out = json;
    json = NULL;
done:
    free(json);
    return status;
}

uint64_t mst_data_bytes(const mst_data *data, const int32_t *targets, size_t count) {
    const size_t vocab = mst_data_vocab(data);
    uint64_t bytes = 0;
    for (size_t i = 0; data->lengths != NULL && i < count; i++)
        if (targets[i] >= 0 && (size_t)targets[i] < vocab) bytes += data->lengths[targets[i]];
    return bytes;
}
