#include "index.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "muster/files.h"

/* The first line: LEAD, the JSON's length in 12 digits, MIDDLE, its SHA-256 in 64 digits, a newline. */
#define LEAD   INDEX_NAME "1, index of "
#define MIDDLE " bytes, sha256 "

enum {
    VERSION = 1,
    LEAD_LENGTH = sizeof LEAD - 1,
    MIDDLE_LENGTH = sizeof MIDDLE - 1,
    LENGTH_DIGITS = 12,
    DIGEST_DIGITS = MST_DIGEST_HEX - 1,
    LINE_LENGTH = LEAD_LENGTH + LENGTH_DIGITS + MIDDLE_LENGTH + DIGEST_DIGITS + 1,
    INDEX_LIMIT = 1 << 28, /* bytes of JSON: over a million sources */
};

const char *index_split_name(mst_split split) {
    return split == MST_SPLIT_TRAIN ? "train" : "heldout";
}

size_t index_token_bytes(uint64_t vocab_size) {
    return vocab_size <= 65536 ? 2 : 4;
}

/* ---- rendering ---- */

static json_t *array_to_json(const array_index *array, const char *type) {
    char hex[MST_DIGEST_HEX];
    mst_digest_to_hex(&array->digest, hex);
    return json_pack("{s:s, s:I, s:I, s:s}", "type", type, "count", (json_int_t)array->count, "offset",
                     (json_int_t)array->offset, "sha256", hex);
}

static json_t *split_to_json(const token_index *index, mst_split split) {
    const split_index *part = &index->split[split];
    json_t *mask = part->has_loss_mask ? array_to_json(&part->loss_mask, "uint8") : json_null();
    return json_pack("{s:o, s:o, s:o}", "tokens",
                     array_to_json(&part->tokens, index->token_bytes == 2 ? "uint16" : "uint32"), "documents",
                     array_to_json(&part->documents, "uint64"), "loss_mask", mask);
}

static json_t *tokenizer_to_json(const tokenizer_index *tokenizer) {
    char hex[MST_DIGEST_HEX];
    mst_digest_to_hex(&tokenizer->digest, hex);
    json_t *json = json_pack("{s:s, s:s, s:i}", "kind", tokenizer->has_json ? "tokenizer.json" : "bytes",
                             "sha256", hex, "eos", (int)tokenizer->end);
    if (json != NULL && tokenizer->has_json) {
        json_object_set_new(json, "json", array_to_json(&tokenizer->json, "uint8"));
        json_object_set_new(json, "lengths", array_to_json(&tokenizer->lengths, "uint32"));
    }
    return json;
}

/* How the file was built. */
static json_t *notes_to_json(const index_notes *notes) {
    char seed[24], hex[MST_DIGEST_HEX];
    snprintf(seed, sizeof seed, "%" PRIu64, notes->seed);
    /* The seed is a string: not every reader of JSON keeps 64-bit numbers whole. */
    json_t *build = json_pack("{s:s, s:f, s:s}", "seed", seed, "heldout_fraction", notes->heldout_fraction,
                              "text_field", notes->text_field);
    if (build == NULL || notes->template_name == NULL) return build;
    mst_digest_to_hex(&notes->template_digest, hex);
    json_object_del(build, "text_field");
    json_object_set_new(build, "chat_template",
                        json_pack("{s:s, s:s}", "name", notes->template_name, "sha256", hex));
    return build;
}

static json_t *index_to_json(const token_index *index, const index_notes *notes) {
    return json_pack("{s:s, s:i, s:s, s:I, s:o, s:o, s:{s:o, s:o}, s:O}", "format", "muster tokens",
                     "version", VERSION, "tool", "muster " MST_VERSION, "vocab_size",
                     (json_int_t)index->vocab_size, "tokenizer", tokenizer_to_json(&index->tokenizer),
                     "build", notes_to_json(notes), "splits", "train", split_to_json(index, MST_SPLIT_TRAIN),
                     "heldout", split_to_json(index, MST_SPLIT_HELDOUT), "sources", notes->sources);
}

mst_status index_render(const token_index *index, const index_notes *notes, char **text_out) {
    mst_status status = MST_OK;
    char hex[MST_DIGEST_HEX], *body = NULL;
    mst_digest digest;
    *text_out = NULL;
    json_t *json = index_to_json(index, notes);
    if (json != NULL) body = json_dumps(json, JSON_INDENT(1) | JSON_REAL_PRECISION(15));
    MST_CHECK(body != NULL, MST_ENOMEM, "out of memory for the index of a token file");
    MST_CHECK(strlen(body) < INDEX_LIMIT, MST_ECONFIG,
              "the index needs %zu bytes, more than %d; build from fewer files", strlen(body), INDEX_LIMIT);
    MST_TRY(mst_digest_of(body, strlen(body), &digest));
    mst_digest_to_hex(&digest, hex);
    if (asprintf(text_out, LEAD "%0*zu" MIDDLE "%s\n%s", LENGTH_DIGITS, strlen(body), hex, body) < 0)
        *text_out = NULL;
    MST_CHECK(*text_out != NULL, MST_ENOMEM, "out of memory for the index of a token file");
done:
    free(body);
    json_decref(json);
    return status;
}

/* ---- reading: the text comes from a file that anybody may have written ---- */

/* A whole number of at most `limit`; `where` names the field's place. */
static mst_status get_number(const json_t *object, const char *where, const char *field, uint64_t limit,
                             uint64_t *value_out) {
    const json_t *value = json_object_get(object, field);
    if (!json_is_integer(value)) return mst_error(MST_EFORMAT, "%s.%s is not a whole number", where, field);
    json_int_t number = json_integer_value(value);
    if (number < 0 || (uint64_t)number > limit)
        return mst_error(MST_EFORMAT, "%s.%s is %" JSON_INTEGER_FORMAT ", outside 0 to %" PRIu64, where,
                         field, number, limit);
    *value_out = (uint64_t)number;
    return MST_OK;
}

static mst_status get_digest(const json_t *object, const char *where, mst_digest *digest_out) {
    const char *hex = json_string_value(json_object_get(object, "sha256"));
    if (hex == NULL || mst_digest_from_hex(hex, digest_out) != MST_OK)
        return mst_error(MST_EFORMAT, "%s.sha256 is not a SHA-256 of 64 hexadecimal digits", where);
    return MST_OK;
}

/* An array of elements of a given type that lies inside the file. */
static mst_status get_array(const json_t *split, const char *where, const char *field, const char *type,
                            size_t element_bytes, uint64_t file_bytes, array_index *array_out) {
    mst_status status = MST_OK;
    char place[64];
    snprintf(place, sizeof place, "%s.%s", where, field);
    const json_t *object = json_object_get(split, field);
    const char *found = json_string_value(json_object_get(object, "type"));
    MST_CHECK(found != NULL && strcmp(found, type) == 0, MST_EFORMAT, "%s.type is '%.16s', not %s", place,
              found != NULL ? found : "", type);
    MST_TRY(get_number(object, place, "offset", file_bytes, &array_out->offset));
    MST_TRY(get_number(object, place, "count", (file_bytes - array_out->offset) / element_bytes,
                       &array_out->count));
    MST_TRY(get_digest(object, place, &array_out->digest));
done:
    return status;
}

static mst_status get_split(const json_t *splits, mst_split which, uint64_t file_bytes, token_index *index) {
    mst_status status = MST_OK;
    char place[32];
    split_index *part = &index->split[which];
    const json_t *split = json_object_get(splits, index_split_name(which));
    snprintf(place, sizeof place, "splits.%s", index_split_name(which));
    MST_TRY(get_array(split, place, "tokens", index->token_bytes == 2 ? "uint16" : "uint32",
                      index->token_bytes, file_bytes, &part->tokens));
    MST_TRY(get_array(split, place, "documents", "uint64", sizeof(uint64_t), file_bytes, &part->documents));
    MST_CHECK(part->documents.count > 0, MST_EFORMAT,
              "%s.documents.count is 0; it counts the documents plus one", place);
    const json_t *mask = json_object_get(split, "loss_mask");
    MST_CHECK(mask != NULL, MST_EFORMAT, "%s.loss_mask is missing; null says that there is none", place);
    part->has_loss_mask = !json_is_null(mask);
    if (part->has_loss_mask) {
        MST_TRY(get_array(split, place, "loss_mask", "uint8", 1, file_bytes, &part->loss_mask));
        MST_CHECK(part->loss_mask.count == part->tokens.count, MST_EFORMAT,
                  "%s.loss_mask.count is %" PRIu64 " for %" PRIu64 " tokens", place, part->loss_mask.count,
                  part->tokens.count);
    }
done:
    return status;
}

static mst_status get_tokenizer(const json_t *json, uint64_t file_bytes, token_index *index) {
    mst_status status = MST_OK;
    tokenizer_index *tokenizer = &index->tokenizer;
    const json_t *object = json_object_get(json, "tokenizer");
    const char *kind = json_string_value(json_object_get(object, "kind"));
    uint64_t end = 0;
    tokenizer->end = -1;
    MST_TRY(get_digest(object, "tokenizer", &tokenizer->digest));
    if (json_object_get(object, "eos") != NULL) {
        MST_TRY(get_number(object, "tokenizer", "eos", index->vocab_size - 1, &end));
        tokenizer->end = (int32_t)end;
    }
    tokenizer->is_bytes = kind != NULL && strcmp(kind, "bytes") == 0 && index->vocab_size == MST_BYTE_VOCAB;
    tokenizer->has_json = kind != NULL && strcmp(kind, "tokenizer.json") == 0;
    if (!tokenizer->has_json) goto done;
    MST_TRY(get_array(object, "tokenizer", "json", "uint8", 1, file_bytes, &tokenizer->json));
    MST_TRY(get_array(object, "tokenizer", "lengths", "uint32", sizeof(uint32_t), file_bytes,
                      &tokenizer->lengths));
    MST_CHECK(tokenizer->lengths.count == index->vocab_size, MST_EFORMAT,
              "tokenizer.lengths.count is %" PRIu64 " for a vocabulary of %" PRIu64, tokenizer->lengths.count,
              index->vocab_size);
    MST_CHECK(memcmp(&tokenizer->json.digest, &tokenizer->digest, sizeof tokenizer->digest) == 0, MST_EFORMAT,
              "tokenizer.json.sha256 is not tokenizer.sha256");
done:
    return status;
}

/* How documents were held out; a file that does not say so (another program's) holds out none. */
static mst_status get_build(const json_t *json, token_index *index) {
    mst_status status = MST_OK;
    const json_t *build = json_object_get(json, "build");
    const json_t *fraction = json_object_get(build, "heldout_fraction");
    const char *seed = json_string_value(json_object_get(build, "seed"));
    snprintf(index->heldout_seed, sizeof index->heldout_seed, "0");
    if (build == NULL) goto done;
    MST_CHECK(seed != NULL && strlen(seed) < sizeof index->heldout_seed, MST_EFORMAT,
              "build.seed is not a number in a string");
    MST_CHECK(json_is_number(fraction), MST_EFORMAT, "build.heldout_fraction is not a number");
    snprintf(index->heldout_seed, sizeof index->heldout_seed, "%s", seed);
    index->heldout_fraction = json_number_value(fraction);
done:
    return status;
}

static mst_status parse_json(const json_t *json, uint64_t file_bytes, token_index *index) {
    mst_status status = MST_OK;
    uint64_t version = 0;
    MST_TRY(get_number(json, "index", "version", INT32_MAX, &version));
    MST_CHECK(version == VERSION, MST_EUNSUPPORTED, "index.version is %" PRIu64 ", this muster reads %d",
              version, VERSION);
    MST_TRY(get_number(json, "index", "vocab_size", INT32_MAX, &index->vocab_size));
    MST_CHECK(index->vocab_size > 0, MST_EFORMAT, "index.vocab_size is 0");
    index->token_bytes = index_token_bytes(index->vocab_size);
    MST_TRY(get_tokenizer(json, file_bytes, index));
    MST_TRY(get_build(json, index));
    const json_t *splits = json_object_get(json, "splits");
    for (int which = 0; which < SPLITS; which++)
        MST_TRY(get_split(splits, (mst_split)which, file_bytes, index));
done:
    return status;
}

/* Takes the first line apart: the length and the digest of the JSON that follows. */
static mst_status parse_line(const char line[LINE_LENGTH], const char *path, size_t *length_out,
                             mst_digest *digest_out) {
    mst_status status = MST_OK;
    char hex[MST_DIGEST_HEX] = {0};
    size_t length = 0;
    const char *digits = line + LEAD_LENGTH, *middle = digits + LENGTH_DIGITS;
    MST_CHECK(memcmp(line, LEAD, INDEX_NAME_BYTES) == 0, MST_EFORMAT,
              "'%s' is not a token file of muster; make one with 'muster data build'", path);
    MST_CHECK(memcmp(line, LEAD, LEAD_LENGTH) == 0, MST_EUNSUPPORTED,
              "'%s' is a token file of another version ('%.16s'); this muster reads version %d", path, line,
              VERSION);
    for (int i = 0; i < LENGTH_DIGITS; i++) {
        MST_CHECK(digits[i] >= '0' && digits[i] <= '9', MST_EFORMAT,
                  "'%s': its first line is damaged; build it again", path);
        length = 10 * length + (size_t)(digits[i] - '0');
    }
    memcpy(hex, middle + MIDDLE_LENGTH, DIGEST_DIGITS);
    MST_CHECK(memcmp(middle, MIDDLE, MIDDLE_LENGTH) == 0 && line[LINE_LENGTH - 1] == '\n' &&
                  mst_digest_from_hex(hex, digest_out) == MST_OK,
              MST_EFORMAT, "'%s': its first line is damaged; build it again", path);
    MST_CHECK(length <= INDEX_LIMIT, MST_EFORMAT, "'%s': its index of %zu bytes is longer than %d", path,
              length, INDEX_LIMIT);
    *length_out = length;
done:
    return status;
}

mst_status index_read(int fd, const char *path, token_index *index_out) {
    mst_status status = MST_OK;
    struct stat info;
    char line[LINE_LENGTH], *body = NULL;
    json_t *json = NULL;
    size_t length = 0;
    mst_digest stated, found;
    *index_out = (token_index){0};
    MST_CHECK(fstat(fd, &info) == 0 && S_ISREG(info.st_mode), MST_EIO, "'%s' is not a regular file", path);
    MST_CHECK(info.st_size >= LINE_LENGTH, MST_EFORMAT,
              "'%s' is not a token file of muster (%lld bytes long); make one with 'muster data build'", path,
              (long long)info.st_size);
    MST_TRY(mst_file_read(fd, path, 0, line, LINE_LENGTH));
    MST_TRY(parse_line(line, path, &length, &stated));
    MST_CHECK(length <= (uint64_t)info.st_size - LINE_LENGTH, MST_EFORMAT,
              "'%s' ends inside its index; it was cut: build it again", path);
    body = malloc(length + 1);
    MST_CHECK(body != NULL, MST_ENOMEM, "out of memory for the index of '%s', %zu bytes", path, length);
    MST_TRY(mst_file_read(fd, path, LINE_LENGTH, body, length));
    MST_TRY(mst_digest_of(body, length, &found));
    MST_CHECK(memcmp(&stated, &found, sizeof found) == 0, MST_EFORMAT,
              "'%s': its index does not have the SHA-256 stated before it; it is damaged: build it again",
              path);
    json_error_t error;
    json = json_loadb(body, length, JSON_REJECT_DUPLICATES, &error);
    MST_CHECK(json != NULL, MST_EFORMAT, "'%s': its index is not JSON: line %d: %s", path, error.line,
              error.text);
    status = parse_json(json, (uint64_t)info.st_size, index_out);
    if (status != MST_OK) mst_error_context(status, "'%s' cannot be used", path);
done:
    json_decref(json);
    free(body);
    return status;
}

/* A text with every digest and count, hashed: a format that another program can rebuild easily. */
mst_status index_content_digest(const token_index *index, mst_digest *digest_out) {
    char text[1024], hex[MST_DIGEST_HEX];
    mst_digest_to_hex(&index->tokenizer.digest, hex);
    int used = snprintf(text, sizeof text, "muster tokens content 1\nvocab_size %" PRIu64 "\ntokenizer %s\n",
                        index->vocab_size, hex);
    for (int which = 0; which < SPLITS; which++) {
        const split_index *part = &index->split[which];
        const array_index *arrays[] = {&part->tokens, &part->documents, &part->loss_mask};
        static const char *const names[] = {"tokens", "documents", "loss_mask"};
        for (size_t i = 0; i < (part->has_loss_mask ? 3 : 2); i++) {
            mst_digest_to_hex(&arrays[i]->digest, hex);
            used += snprintf(text + used, sizeof text - (size_t)used, "%s/%s %" PRIu64 " %s\n",
                             index_split_name((mst_split)which), names[i], arrays[i]->count, hex);
        }
    }
    return mst_digest_of(text, (size_t)used, digest_out);
}
