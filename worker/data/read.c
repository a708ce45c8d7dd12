/* Reading samples from token files: bounded pread at places that a pure function gives. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "muster/files.h"
#include "order.h"
#include "packed.h"

/* A sample: so many samples of its source stand before it, in that epoch. */
typedef struct sample_place {
    const source *from;
    uint64_t epoch, index;
} sample_place;

static mst_status allocate(mst_data *data, const mst_data_config *config) {
    mst_status status = MST_OK;
    size_t count = config->source_count;
    MST_CHECK(config->seq_len >= 1 && config->seq_len < INT32_MAX, MST_ECONFIG,
              "the sequence length is %zu; it must be from 1 to %d", config->seq_len, INT32_MAX - 1);
    data->source_count = count;
    data->seq_len = config->seq_len;
    data->seed = config->seed;
    data->packing = config->packing;
    data->first_slot = calloc(count + 1, sizeof *data->first_slot);
    data->sources = calloc(count, sizeof *data->sources);
    for (int which = 0; which < SPLITS; which++)
        data->samples[which] = calloc(count, sizeof *data->samples[which]);
    data->tokens = calloc(data->seq_len + 1, sizeof(uint64_t));
    data->mask = calloc(data->seq_len + 1, 1);
    MST_CHECK(data->first_slot != NULL && data->sources != NULL && data->samples[0] != NULL &&
                  data->samples[1] != NULL && data->tokens != NULL && data->mask != NULL,
              MST_ENOMEM, "out of memory to read %zu data sources", count);
done:
    return status;
}

/* Packs a source's documents. */
static mst_status pack_source(mst_data *data, size_t number) {
    mst_status status = MST_OK;
    source *s = &data->sources[number];
    for (int which = 0; which < SPLITS; which++) {
        MST_TRY(packed_open(s, (mst_split)which, data->seq_len, data->packing, &s->packed[which]));
        data->samples[which][number] = s->packed[which].sequences;
    }
    MST_CHECK(data->samples[MST_SPLIT_TRAIN][number] > 0, MST_ECONFIG,
              "data source '%s' has no training document of two tokens or more: there is nothing to predict",
              s->path);
done:
    return status;
}

/* Cuts a source's stream into samples. */
static mst_status cut_source(mst_data *data, size_t number) {
    mst_status status = MST_OK;
    const source *s = &data->sources[number];
    for (int which = 0; which < SPLITS; which++) {
        uint64_t tokens = s->index.split[which].tokens.count;
        data->samples[which][number] = tokens > 0 ? (tokens - 1) / data->seq_len : 0;
    }
    MST_CHECK(data->samples[MST_SPLIT_TRAIN][number] > 0, MST_ECONFIG,
              "data source '%s' has %" PRIu64 " training tokens; a sequence length of %zu needs at least %zu",
              s->path, s->index.split[MST_SPLIT_TRAIN].tokens.count, data->seq_len, data->seq_len + 1);
done:
    return status;
}

static mst_status open_source(mst_data *data, size_t number, const mst_data_config *config) {
    mst_status status = MST_OK;
    source *s = &data->sources[number];
    MST_TRY(source_open(config, number, s));
    if (data->packing == MST_PACKING_STREAM)
        MST_TRY(cut_source(data, number));
    else
        MST_TRY(pack_source(data, number));
    for (size_t i = 0; i < number; i++) MST_TRY(source_compare(&data->sources[i], s));
done:
    return status;
}

/* Names the order of samples. Slots instead of weights: weights 1 and 2 give the same order as 2 and 4. */
static mst_status compute_digest(mst_data *data) {
    mst_status status = MST_OK;
    mst_hasher *hasher = NULL;
    uint64_t numbers[] = {data->seq_len, data->seed, data->source_count};
    static const char *const versions[] = {"muster data order 1", "muster data order 1, documents",
                                           "muster data order 1, single"};
    const char *version = versions[data->packing];
    MST_TRY(mst_hasher_create(&hasher));
    MST_TRY(mst_hasher_update(hasher, version, strlen(version) + 1));
    MST_TRY(mst_hasher_update(hasher, numbers, sizeof numbers));
    for (size_t i = 0; i < data->source_count; i++) {
        mst_digest content;
        uint64_t slots = data->first_slot[i + 1] - data->first_slot[i];
        MST_TRY(index_content_digest(&data->sources[i].index, &content));
        MST_TRY(mst_hasher_update(hasher, &content, sizeof content));
        MST_TRY(mst_hasher_update(hasher, &slots, sizeof slots));
    }
    MST_TRY(mst_hasher_finish(hasher, &data->digest));
done:
    mst_hasher_destroy(&hasher);
    return status;
}

mst_status mst_data_open(const mst_data_config *config, mst_data **data_out) {
    mst_status status = MST_OK;
    mst_data *data = calloc(1, sizeof *data);
    *data_out = NULL;
    MST_CHECK(data != NULL, MST_ENOMEM, "out of memory to open the data");
    MST_CHECK(config->source_count > 0, MST_ECONFIG, "no data source; name at least one token file");
    MST_TRY(allocate(data, config));
    MST_TRY(order_deal_slots(config->sources, config->source_count, data->first_slot));
    for (size_t i = 0; i < config->source_count; i++) MST_TRY(open_source(data, i, config));
    MST_TRY(reader_tokenizer(config, data));
    MST_TRY(compute_digest(data));
    *data_out = data;
    data = NULL;
done:
    mst_data_close(&data);
    return status;
}

void mst_data_close(mst_data **data) {
    mst_data *old = *data;
    *data = NULL;
    if (old == NULL) return;
    for (size_t i = 0; old->sources != NULL && i < old->source_count; i++) source_close(&old->sources[i]);
    for (int which = 0; which < SPLITS; which++) free(old->samples[which]);
    free(old->sources);
    free(old->first_slot);
    free(old->lengths);
    free(old->json);
    free(old->tokens);
    free(old->mask);
    free(old);
}

size_t mst_data_vocab(const mst_data *data) {
    return data->sources[0].index.vocab_size;
}

uint64_t mst_data_tokens(const mst_data *data, mst_split split) {
    uint64_t sum = 0;
    for (size_t i = 0; i < data->source_count; i++) sum += data->sources[i].index.split[split].tokens.count;
    return sum;
}

uint64_t mst_data_samples(const mst_data *data, mst_split split) {
    uint64_t sum = 0;
    for (size_t i = 0; i < data->source_count; i++) sum += data->samples[split][i];
    return sum;
}

void mst_data_digest(const mst_data *data, mst_digest *digest_out) {
    *digest_out = data->digest;
}

static mst_status find_sample(const mst_data *data, mst_split split, uint64_t sample,
                              sample_place *place_out) {
    size_t number = 0;
    uint64_t index = sample;
    if (split == MST_SPLIT_TRAIN) {
        order_place found =
            order_find(data->seed, data->first_slot, data->samples[split], data->source_count, sample);
        *place_out = (sample_place){&data->sources[found.source], found.epoch, found.index};
        return MST_OK;
    }
    while (number < data->source_count && index >= data->samples[split][number])
        index -= data->samples[split][number++];
    if (number == data->source_count)
        return mst_error(MST_EINVAL, "held-out sample %" PRIu64 " was asked for; there are %" PRIu64, sample,
                         mst_data_samples(data, split));
    *place_out = (sample_place){&data->sources[number], 0, index};
    return MST_OK;
}

static uint64_t token_at(const void *tokens, size_t token_bytes, size_t t) {
    if (token_bytes == 2) return ((const uint16_t *)tokens)[t];
    return token_bytes == 4 ? ((const uint32_t *)tokens)[t] : ((const uint64_t *)tokens)[t];
}

/* Widens the tokens in data->tokens and checks them.
 * @param tokens_out, targets_out [count] */
static mst_status unpack(const mst_data *data, const token_place *at, mst_split split, size_t count,
                         int32_t *tokens_out, int32_t *targets_out) {
    const token_index *index = &at->from->index;
    for (size_t t = 0; t <= count; t++) {
        const uint64_t token = token_at(data->tokens, index->token_bytes, t);
        if (token >= index->vocab_size)
            return mst_error(MST_EFORMAT,
                             "'%s': token %" PRIu64 " at position %" PRIu64
                             " of %s is outside the vocabulary of %" PRIu64 "; %s",
                             source_file_of(at->from, split)->path, token, at->first_token + t,
                             index_split_name(split), index->vocab_size,
                             at->from->is_foreign
                                 ? "the file is damaged, or was made with another tokenizer or type"
                                 : "the file is damaged: build it again");
        if (t < count) tokens_out[t] = (int32_t)token;
        if (t > 0) targets_out[t - 1] = data->mask[t] != 0 ? (int32_t)token : -1;
    }
    return MST_OK;
}

mst_status reader_read(mst_data *data, mst_split split, const token_place *at, size_t count,
                       int32_t *tokens_out, int32_t *targets_out) {
    mst_status status = MST_OK;
    const source *from = at->from;
    const split_index *part = &from->index.split[split];
    const source_file *file = source_file_of(from, split);
    size_t token_bytes = from->index.token_bytes;
    MST_TRY(mst_file_read(file->fd, file->path, part->tokens.offset + at->first_token * token_bytes,
                          data->tokens, (count + 1) * token_bytes));
    if (part->has_loss_mask)
        MST_TRY(mst_file_read(file->fd, file->path, part->loss_mask.offset + at->first_token, data->mask,
                              count + 1));
    else
        memset(data->mask, 1, count + 1);
    MST_TRY(unpack(data, at, split, count, tokens_out, targets_out));
done:
    return status;
}

/* The part of a caller's arrays that sample `number` of them goes to. */
static sample_buffers buffers_of(const mst_data *data, size_t number, int32_t *tokens, int32_t *targets,
                                 int32_t *starts) {
    const size_t offset = number * data->seq_len;
    return (sample_buffers){tokens + offset, targets + offset, starts != NULL ? starts + offset : NULL};
}

/* Packed samples cannot be told apart without their starts. */
static mst_status check_starts(const mst_data *data, const int32_t *starts) {
    mst_status status = MST_OK;
    MST_CHECK(data->packing == MST_PACKING_STREAM || starts != NULL, MST_EINVAL,
              "data: samples of whole documents are read without room for where these begin");
done:
    return status;
}

static mst_status read_sample(mst_data *data, mst_split split, uint64_t sample, const sample_buffers *out) {
    mst_status status = MST_OK;
    sample_place place = {0};
    MST_TRY(find_sample(data, split, sample, &place));
    const token_place at = {place.from, place.epoch, place.index * data->seq_len};
    if (data->packing == MST_PACKING_STREAM)
        MST_TRY(reader_read(data, split, &at, data->seq_len, out->tokens, out->targets));
    else
        MST_TRY(packed_read(data, split, place.from, place.index, out));
done:
    return status;
}

mst_status mst_data_read(mst_data *data, mst_split split, uint64_t first, size_t count, int32_t *tokens_out,
                         int32_t *targets_out, int32_t *starts_out) {
    mst_status status = MST_OK;
    MST_TRY(check_starts(data, starts_out));
    for (size_t i = 0; i < count; i++) {
        const sample_buffers out = buffers_of(data, i, tokens_out, targets_out, starts_out);
        MST_TRY(read_sample(data, split, first + i, &out));
    }
done:
    return status;
}

/* Targets of a source: every token but the first. */
static uint64_t targets_of(const source *from, mst_split split) {
    uint64_t tokens = from->index.split[split].tokens.count;
    return tokens > 0 ? tokens - 1 : 0;
}

static uint64_t windows_of(const mst_data *data, const source *from, mst_split split) {
    if (data->packing != MST_PACKING_STREAM) return from->packed[split].sequences;
    return (targets_of(from, split) + data->seq_len - 1) / data->seq_len;
}

uint64_t mst_data_windows(const mst_data *data, mst_split split) {
    uint64_t sum = 0;
    for (size_t i = 0; i < data->source_count; i++) sum += windows_of(data, &data->sources[i], split);
    return sum;
}

static mst_status read_window(mst_data *data, mst_split split, uint64_t window, const sample_buffers *out) {
    mst_status status = MST_OK;
    const source *from = data->sources, *end = from + data->source_count;
    uint64_t number = window;
    for (; from < end && number >= windows_of(data, from, split); from++)
        number -= windows_of(data, from, split);
    MST_CHECK(from < end, MST_EINVAL, "window %" PRIu64 " was asked for; there are %" PRIu64, window,
              mst_data_windows(data, split));
    if (data->packing != MST_PACKING_STREAM) return packed_read(data, split, from, number, out);
    const token_place at = {.from = from, .first_token = number * data->seq_len};
    const uint64_t left = targets_of(from, split) - at.first_token;
    const size_t count = left < data->seq_len ? (size_t)left : data->seq_len;
    MST_TRY(reader_read(data, split, &at, count, out->tokens, out->targets));
    for (size_t t = count; t < data->seq_len; t++) {
        out->tokens[t] = 0;
        out->targets[t] = -1;
    }
done:
    return status;
}

mst_status mst_data_read_windows(mst_data *data, mst_split split, uint64_t first, size_t count,
                                 int32_t *tokens_out, int32_t *targets_out, int32_t *starts_out) {
    mst_status status = MST_OK;
    MST_TRY(check_starts(data, starts_out));
    for (size_t i = 0; i < count; i++) {
        const sample_buffers out = buffers_of(data, i, tokens_out, targets_out, starts_out);
        MST_TRY(read_window(data, split, first + i, &out));
    }
done:
    return status;
}

mst_status mst_data_locate(mst_data *data, mst_split split, uint64_t sample, mst_sample_place *place_out) {
    sample_place at = {0};
    mst_status status = find_sample(data, split, sample, &at);
    if (status != MST_OK) return status;
    *place_out = (mst_sample_place){.path = source_file_of(at.from, split)->path, .epoch = at.epoch};
    const uint32_t *first = at.from->packed[split].first;
    if (first != NULL)
        place_out->documents = first[at.index + 1] - first[at.index];
    else
        place_out->first_token = at.index * data->seq_len;
    return MST_OK;
}

mst_packing mst_data_packing(const mst_data *data) {
    return data->packing;
}
