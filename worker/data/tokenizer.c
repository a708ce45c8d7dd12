/* The tokenizer that an open mst_data was made with. */
#include <stdlib.h>
#include <string.h>

#include "muster/files.h"
#include "reader.h"

/* What a token file of muster says, with the digest that its index states. */
static mst_status read_lengths(const source *s, uint32_t *lengths_out) {
    mst_status status = MST_OK;
    const source_file *file = &s->file[MST_SPLIT_TRAIN];
    const array_index *array = &s->index.tokenizer.lengths;
    const size_t bytes = s->index.vocab_size * sizeof *lengths_out;
    mst_digest found;
    MST_TRY(mst_file_read(file->fd, file->path, array->offset, lengths_out, bytes));
    MST_TRY(mst_digest_of(lengths_out, bytes, &found));
    MST_CHECK(memcmp(&found, &array->digest, sizeof found) == 0, MST_EFORMAT,
              "'%s': tokenizer/lengths does not have the SHA-256 of its index; it is damaged: build it again",
              s->path);
done:
    return status;
}

mst_status reader_tokenizer(const mst_data_config *config, mst_data *data) {
    mst_status status = MST_OK;
    const source *s = &data->sources[0]; /* the others have the same */
    const tokenizer_index *tokenizer = &s->index.tokenizer;
    const mst_vocabulary *given = config->vocabulary;
    const size_t vocab = s->index.vocab_size;
    if (!tokenizer->has_json && !tokenizer->is_bytes) return MST_OK;
    data->lengths = calloc(vocab, sizeof *data->lengths);
    MST_CHECK(data->lengths != NULL, MST_ENOMEM, "out of memory for a vocabulary of %zu", vocab);
    if (tokenizer->is_bytes) {
        for (size_t i = 0; i < MST_BYTE_EOS; i++) data->lengths[i] = 1;
    } else if (s->is_foreign) {
        memcpy(data->lengths, given->lengths, vocab * sizeof *data->lengths);
        data->json = calloc(1, given->json_bytes + 1);
        MST_CHECK(data->json != NULL, MST_ENOMEM, "out of memory for a tokenizer of %zu bytes",
                  given->json_bytes);
        memcpy(data->json, given->json, given->json_bytes);
        data->json_bytes = given->json_bytes;
    } else {
        MST_TRY(read_lengths(s, data->lengths));
    }
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

/* The array of a token file of muster. @param json_out [bytes of the array] */
static mst_status read_json(const source *s, char *json_out) {
    mst_status status = MST_OK;
    const source_file *file = &s->file[MST_SPLIT_TRAIN];
    const array_index *array = &s->index.tokenizer.json;
    mst_digest found;
    MST_TRY(mst_file_read(file->fd, file->path, array->offset, json_out, array->count));
    MST_TRY(mst_digest_of(json_out, array->count, &found));
    MST_CHECK(memcmp(&found, &array->digest, sizeof found) == 0, MST_EFORMAT,
              "'%s': tokenizer/json does not have the SHA-256 of its index; it is damaged: build it again",
              s->path);
done:
    return status;
}

mst_status mst_data_tokenizer_json(const mst_data *data, char **json_out, size_t *bytes_out) {
    mst_status status = MST_OK;
    const source *s = &data->sources[0];
    const size_t bytes = s->is_foreign ? data->json_bytes : s->index.tokenizer.json.count;
    char *json = NULL;
    *json_out = NULL;
    MST_CHECK(s->index.tokenizer.has_json, MST_EINVAL, "'%s' has no tokenizer.json inside", s->path);
    json = calloc(1, bytes + 1);
    MST_CHECK(json != NULL, MST_ENOMEM, "out of memory for the tokenizer of '%s', %zu bytes", s->path, bytes);
    if (s->is_foreign)
        memcpy(json, data->json, bytes);
    else
        MST_TRY(read_json(s, json));
    *bytes_out = bytes;
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
