/* Opening a source of data: a token file of muster, or one of another trainer that is given the same index. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "reader.h"

const source_file *source_file_of(const source *s, mst_split split) {
    return &s->file[s->file[split].path != NULL ? split : MST_SPLIT_TRAIN];
}

void source_close(source *s) {
    for (int which = 0; which < SPLITS; which++) {
        source_file_close(&s->file[which]);
        packing_clear(&s->packed[which]);
    }
    free(s->path);
    *s = (source){0};
}

/* Whether a file begins as muster's own do. What cannot be opened is not: who opens it in earnest says why. */
static bool is_own(const char *path) {
    char begin[INDEX_NAME_BYTES];
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    const bool own =
        pread(fd, begin, sizeof begin, 0) == sizeof begin && memcmp(begin, INDEX_NAME, sizeof begin) == 0;
    close(fd);
    return own;
}

/* The tokenizer and the vocabulary of what does not say them itself. */
static mst_status describe(const mst_data_config *config, source *s) {
    mst_status status = MST_OK;
    token_index *index = &s->index;
    const mst_vocabulary *given = config->vocabulary;
    snprintf(index->heldout_seed, sizeof index->heldout_seed, "0");
    index->tokenizer.end = given != NULL ? given->end : -1;
    index->vocab_size = given != NULL ? given->size : config->vocab_size;
    MST_CHECK(
        index->vocab_size > 0, MST_ECONFIG,
        "data source '%s' does not say its vocabulary; name the tokenizer.json that it was made with in "
        "data.tokenizer, or give model.vocab_size",
        s->path);
    MST_CHECK(index->vocab_size <= INT32_MAX, MST_ECONFIG, "a vocabulary of %" PRIu64 " is more than %d",
              index->vocab_size, INT32_MAX);
    if (given == NULL) goto done;
    index->tokenizer.has_json = true;
    MST_TRY(mst_digest_of(given->json, given->json_bytes, &index->tokenizer.digest));
done:
    return status;
}

static void take_place(const source_file *file, array_index *tokens_out) {
    *tokens_out = (array_index){.count = file->count, .offset = file->offset, .digest = file->digest};
}

/* That what is held out of one source is not what is trained on of another, or of the same: as far as their digests show. */
static mst_status check_heldout(const source *from, const source *trained) {
    mst_status status = MST_OK;
    const source_file *heldout = &from->file[MST_SPLIT_HELDOUT], *file = &trained->file[MST_SPLIT_TRAIN];
    if (heldout->path == NULL || !trained->is_foreign) goto done;
    MST_CHECK(heldout->count != file->count ||
                  memcmp(&heldout->digest, &file->digest, sizeof heldout->digest) != 0,
              MST_ECONFIG,
              "'%s', which is held out of '%s', has the same tokens as '%s', which is trained on; name "
              "another file",
              heldout->path, from->path, trained->path);
done:
    return status;
}

static mst_status open_heldout(const mst_data_config *config, const char *path, source *s) {
    mst_status status = MST_OK;
    source_file *file = &s->file[MST_SPLIT_HELDOUT];
    MST_CHECK(!is_own(path), MST_ECONFIG,
              "'%s' cannot be what is held out of '%s': it is a token file of muster, with splits of its own",
              path, s->path);
    MST_TRY(foreign_open(path, config->type, file));
    MST_CHECK(file->token_bytes == s->index.token_bytes, MST_ECONFIG,
              "'%s' has tokens of %zu bytes, '%s', which is held out of it, of %zu; make both of one type",
              s->path, s->index.token_bytes, path, file->token_bytes);
    take_place(file, &s->index.split[MST_SPLIT_HELDOUT].tokens);
    MST_TRY(check_heldout(s, s));
done:
    return status;
}

static mst_status open_foreign(const mst_data_config *config, const char *heldout, source *s) {
    mst_status status = MST_OK;
    source_file *file = &s->file[MST_SPLIT_TRAIN];
    s->is_foreign = true;
    MST_TRY(foreign_open(s->path, config->type, file));
    s->index.token_bytes = file->token_bytes;
    take_place(file, &s->index.split[MST_SPLIT_TRAIN].tokens);
    MST_TRY(describe(config, s));
    if (heldout != NULL) MST_TRY(open_heldout(config, heldout, s));
done:
    return status;
}

mst_status source_open(const mst_data_config *config, size_t number, source *s) {
    mst_status status = MST_OK;
    const mst_source_config *wanted = &config->sources[number];
    s->path = strdup(wanted->path);
    MST_CHECK(s->path != NULL, MST_ENOMEM, "out of memory for the name '%s'", wanted->path);
    if (is_own(s->path)) {
        MST_CHECK(wanted->heldout == NULL, MST_ECONFIG,
                  "data source '%s' has a held-out split of its own; leave out its heldout: '%s'", s->path,
                  wanted->heldout);
        MST_TRY(source_file_open(s->path, &s->file[MST_SPLIT_TRAIN]));
        MST_TRY(index_read(s->file[MST_SPLIT_TRAIN].fd, s->path, &s->index));
    } else {
        MST_TRY(open_foreign(config, wanted->heldout, s));
    }
done:
    return status;
}

static bool says_tokenizer(const source *s) {
    return s->index.tokenizer.has_json || s->index.tokenizer.is_bytes;
}

mst_status source_compare(const source *first, const source *s) {
    mst_status status = MST_OK;
    const token_index *a = &first->index, *b = &s->index;
    const bool same = a->vocab_size == b->vocab_size &&
                      memcmp(&a->tokenizer.digest, &b->tokenizer.digest, sizeof(mst_digest)) == 0;
    const bool foreign = first->is_foreign || s->is_foreign;
    MST_CHECK(same || !foreign || says_tokenizer(first) == says_tokenizer(s), MST_ECONFIG,
              "of the data sources '%s' and '%s' only one says its tokenizer; name that of the other in "
              "data.tokenizer",
              first->path, s->path);
    MST_CHECK(same, MST_ECONFIG,
              "data sources '%s' and '%s' were made with different tokenizers; build both with the same one",
              first->path, s->path);
    MST_TRY(check_heldout(first, s));
    MST_TRY(check_heldout(s, first));
    if (foreign) goto done; /* nobody says how those were split */
    MST_CHECK(strcmp(a->heldout_seed, b->heldout_seed) == 0 && a->heldout_fraction == b->heldout_fraction,
              MST_ECONFIG,
              "data sources '%s' and '%s' were split differently (--seed %s --heldout %g, --seed %s "
              "--heldout %g): what is held out of one may be trained on in the other; build them with the "
              "same --seed and --heldout",
              first->path, s->path, a->heldout_seed, a->heldout_fraction, b->heldout_seed,
              b->heldout_fraction);
done:
    return status;
}
