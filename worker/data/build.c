/*
 * Building a token file. Where bytes are tokens, documents stream into the spill of the training split and are
 * judged when they end: a duplicate is taken back, a held-out one is moved to the other spill. So a document
 * of any size needs no memory. For another tokenizer a document is gathered whole, judged, and then encoded.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "documents.h"
#include "inputs.h"
#include "judge.h"
#include "muster/files.h"
#include "text.h"
#include "token_file.h"

enum { PART = 16 << 10 /* tokens that are converted or moved at once */ };

/* What the byte tokenizer's digest is the SHA-256 of. */
static const char bytes_description[] =
    "muster byte tokenizer 1: token = byte; 256 end of document; 257 padding";

/* The files that held-out documents came from, a path on each line. */
typedef struct heldout_list {
    FILE *stream; /* into text; NULL: nobody asks */
    char *text;
    size_t length;
    const char *last; /* the path added last, as a pointer */
} heldout_list;

typedef struct builder {
    const mst_build_options *options;
    mst_build_report report;
    split_content content[SPLITS];
    document_judge judge;
    const char *path; /* of the file that is being read */
    uint64_t
        document_start; /* of the one being read: in the training split's spill, in bytes; bytes as tokens only */
    document_text text; /* of the one being read; with an encoder only */
    size_t vocab_size, token_bytes;
    int32_t end; /* the token that ends a document */
    json_t *sources;
    heldout_list heldout;
} builder;

/* Appends tokens in the width that the vocabulary needs. */
static mst_status append_tokens(const builder *b, spill *to, const int32_t *tokens, size_t count) {
    mst_status status = MST_OK;
    uint16_t narrow[PART];
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (size_t)tokens[i] >= b->vocab_size)
            return mst_error(MST_EINTERNAL, "'%s': token %d is outside the vocabulary of %zu", b->path,
                             (int)tokens[i], b->vocab_size);
    if (b->token_bytes == sizeof *tokens) return spill_append(to, tokens, count * sizeof *tokens);
    while (count > 0) {
        size_t part = count < PART ? count : PART;
        for (size_t i = 0; i < part; i++) narrow[i] = (uint16_t)tokens[i];
        MST_TRY(spill_append(to, narrow, part * sizeof *narrow));
        tokens += part;
        count -= part;
    }
done:
    return status;
}

/* Bytes as tokens. */
static mst_status append_bytes(builder *b, const uint8_t *bytes, size_t count) {
    mst_status status = MST_OK;
    int32_t tokens[PART];
    while (count > 0) {
        size_t part = count < PART ? count : PART;
        mst_bytes_encode(bytes, part, tokens);
        MST_TRY(append_tokens(b, &b->content[MST_SPLIT_TRAIN].tokens, tokens, part));
        bytes += part;
        count -= part;
    }
done:
    return status;
}

static mst_status take_piece(void *context, const uint8_t *bytes, size_t count) {
    mst_status status = MST_OK;
    builder *b = context;
    MST_TRY(judge_piece(&b->judge, bytes, count));
    if (b->options->encoder == NULL)
        MST_TRY(append_bytes(b, bytes, count));
    else
        MST_TRY(text_append(&b->text, bytes, count, b->path));
done:
    return status;
}

static bool of_records(const mst_build_options *options) {
    return options->encoder != NULL && options->encoder->encode_record != NULL;
}

/* The tokens of a record and their mask. */
static mst_status append_record(builder *b, split_content *to, bool *ended_out) {
    mst_status status = MST_OK;
    const mst_encoder *encoder = b->options->encoder;
    const int32_t *tokens = NULL;
    const uint8_t *mask = NULL;
    size_t count = 0;
    MST_TRY(encoder->encode_record(encoder->context, b->text.bytes, b->text.count, &tokens, &mask, &count));
    MST_TRY(append_tokens(b, &to->tokens, tokens, count));
    if (count > 0) MST_TRY(spill_append(&to->loss_mask, mask, count));
    *ended_out = count == 0 || tokens[count - 1] == b->end;
done:
    return status;
}

static mst_status append_encoded(builder *b, spill *to) {
    mst_status status = MST_OK;
    const mst_encoder *encoder = b->options->encoder;
    const int32_t *tokens = NULL;
    size_t count = 0;
    MST_TRY(encoder->encode(encoder->context, b->text.bytes, b->text.count, &tokens, &count));
    MST_TRY(append_tokens(b, to, tokens, count));
done:
    return status;
}

/* Moves the last document from the training split's tokens to the held-out split's; what a token is does not matter. */
static mst_status move_to_heldout(builder *b) {
    mst_status status = MST_OK;
    unsigned char tokens[2 * PART];
    spill *from = &b->content[MST_SPLIT_TRAIN].tokens, *to = &b->content[MST_SPLIT_HELDOUT].tokens;
    uint64_t end = spill_bytes(from);
    for (uint64_t at = b->document_start; at < end;) {
        size_t part = end - at < sizeof tokens ? (size_t)(end - at) : sizeof tokens;
        MST_TRY(spill_read(from, at, tokens, part));
        MST_TRY(spill_append(to, tokens, part));
        at += part;
    }
    spill_cut(from, b->document_start);
done:
    return status;
}

/* The tokens of a document that is kept, with the one that ends it. */
static mst_status append_document(builder *b, mst_split which) {
    mst_status status = MST_OK;
    static const uint8_t no_target = 0;
    split_content *to = &b->content[which];
    bool ended = false;
    if (of_records(b->options))
        MST_TRY(append_record(b, to, &ended));
    else if (b->options->encoder != NULL)
        MST_TRY(append_encoded(b, &to->tokens));
    else if (which == MST_SPLIT_HELDOUT)
        MST_TRY(move_to_heldout(b));
    if (ended) goto done;
    MST_TRY(append_tokens(b, &to->tokens, &b->end, 1));
    if (of_records(b->options)) MST_TRY(spill_append(&to->loss_mask, &no_target, 1));
done:
    return status;
}

/* Completes a document that is kept. */
static mst_status keep(builder *b, mst_split which) {
    mst_status status = MST_OK;
    spill *to = &b->content[which].tokens;
    const uint64_t before = spill_bytes(to);
    MST_TRY(append_document(b, which));
    uint64_t end = spill_bytes(to) / b->token_bytes;
    if (of_records(b->options) && spill_bytes(to) == before) goto done; /* a record that was passed over */
    MST_TRY(spill_append(&b->content[which].documents, &end, sizeof end));
    if (which == MST_SPLIT_HELDOUT && b->heldout.stream != NULL && b->heldout.last != b->path) {
        b->heldout.last = b->path;
        MST_CHECK(
            strchr(b->path, '\n') == NULL, MST_ECONFIG,
            "'%s': a list of held-out files has a line for each, and this name has two; rename the file",
            b->path);
        MST_CHECK(fprintf(b->heldout.stream, "%s\n", b->path) > 0, MST_ENOMEM,
                  "out of memory for the list of held-out files");
    }
done:
    return status;
}

/* Judges the document whose tokens have arrived, and makes ready for the next. */
static mst_status take_end(void *context) {
    mst_status status = MST_OK;
    builder *b = context;
    spill *train = &b->content[MST_SPLIT_TRAIN].tokens;
    verdict judged;
    mst_split which;
    MST_TRY(judge_end(&b->judge, &judged, &which));
    b->report.empty += judged == VERDICT_EMPTY;
    b->report.documents += judged != VERDICT_EMPTY;
    b->report.duplicates += judged == VERDICT_DUPLICATE;
    if (judged == VERDICT_KEPT)
        MST_TRY(keep(b, which));
    else
        spill_cut(train, b->document_start);
    b->document_start = spill_bytes(train);
    b->text.count = 0;
done:
    return status;
}

/* Records a file that was read. JSON is UTF-8, file names need not be: other bytes become '?'. */
static mst_status add_source(builder *b, const char *path, const document_file *file) {
    mst_status status = MST_OK;
    char hex[MST_DIGEST_HEX], *name = strdup(mst_base_name(path));
    MST_CHECK(name != NULL, MST_ENOMEM, "out of memory for the name '%s'", path);
    json_t *text = json_string(name);
    for (char *c = name; text == NULL && *c != '\0'; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    json_decref(text);
    mst_digest_to_hex(&file->digest, hex);
    json_t *source =
        json_pack("{s:s, s:I, s:s}", "name", name, "bytes", (json_int_t)file->bytes, "sha256", hex);
    MST_CHECK(source != NULL && json_array_append_new(b->sources, source) == 0, MST_ENOMEM,
              "out of memory for the name '%s'", path);
    b->report.files++;
    b->report.bytes_read += file->bytes;
done:
    free(name);
    return status;
}

static mst_status read_inputs(builder *b, const char *field) {
    mst_status status = MST_OK;
    input_list inputs = {0};
    document_sink sink = {take_piece, take_end, b, of_records(b->options)};
    document_file file;
    MST_TRY(inputs_collect(b->options, &inputs));
    for (size_t i = 0; i < inputs.count; i++) {
        b->path = inputs.paths[i];
        MST_TRY(documents_read(b->path, field, &sink, &file));
        MST_TRY(add_source(b, b->path, &file));
    }
done:
    inputs_clear(&inputs);
    return status;
}

/* That a file can come to stand there: seen now, not after hours of work. */
static mst_status check_place(const char *path) {
    mst_status status = MST_OK;
    struct stat there;
    char *folder = NULL;
    const size_t length = strlen(path);
    const bool exists = lstat(path, &there) == 0; /* a link would be replaced, not what it leads to */
    MST_CHECK(length > 0 && path[length - 1] != '/' && !(exists && S_ISDIR(there.st_mode)), MST_ECONFIG,
              "the output '%s' is a folder; name a file", path);
    MST_CHECK(!exists || S_ISREG(there.st_mode), MST_ECONFIG,
              "the output '%s' is there and no regular file; name another", path);
    MST_TRY(mst_folder_of(path, &folder));
    MST_CHECK(stat(folder, &there) == 0 && S_ISDIR(there.st_mode), MST_EIO,
              "the output '%s': there is no folder '%s'", path, folder);
done:
    free(folder);
    return status;
}

static mst_status check_output(const mst_build_options *options) {
    mst_status status = MST_OK;
    MST_CHECK(options->output != NULL && options->output[0] != '\0', MST_ECONFIG,
              "no output; name the token file to write");
    MST_TRY(check_place(options->output));
    if (options->heldout_list == NULL) goto done;
    MST_TRY(check_place(options->heldout_list));
    MST_CHECK(strcmp(options->heldout_list, options->output) != 0, MST_ECONFIG,
              "the token file and the list of held-out files would both be '%s'; name two files",
              options->output);
done:
    return status;
}

static mst_status builder_init(builder *b, const mst_build_options *options) {
    mst_status status = MST_OK;
    char *folder = NULL;
    static const uint64_t first = 0;
    const mst_encoder *encoder = options->encoder;
    b->options = options;
    b->vocab_size = encoder != NULL ? encoder->vocabulary.size : MST_BYTE_VOCAB;
    b->token_bytes = index_token_bytes(b->vocab_size);
    b->end = encoder != NULL ? encoder->vocabulary.end : MST_BYTE_EOS;
    b->sources = json_array();
    if (options->heldout_list != NULL)
        b->heldout.stream = open_memstream(&b->heldout.text, &b->heldout.length);
    MST_CHECK(b->sources != NULL && (options->heldout_list == NULL || b->heldout.stream != NULL), MST_ENOMEM,
              "out of memory to build '%s'", options->output);
    MST_TRY(judge_init(&b->judge, options));
    MST_TRY(mst_folder_of(options->output, &folder));
    for (int which = 0; which < SPLITS; which++) {
        MST_TRY(spill_init(&b->content[which].tokens, folder));
        MST_TRY(spill_init(&b->content[which].documents, folder));
        if (of_records(options)) MST_TRY(spill_init(&b->content[which].loss_mask, folder));
        MST_TRY(spill_append(&b->content[which].documents, &first, sizeof first));
    }
done:
    free(folder);
    return status;
}

static void builder_clear(builder *b) {
    for (int which = 0; which < SPLITS; which++) {
        spill_clear(&b->content[which].tokens);
        spill_clear(&b->content[which].documents);
        spill_clear(&b->content[which].loss_mask);
    }
    judge_clear(&b->judge);
    if (b->heldout.stream != NULL) fclose(b->heldout.stream);
    free(b->heldout.text);
    free(b->text.bytes);
    json_decref(b->sources);
}

static mst_status write_heldout_list(builder *b) {
    const char *path = b->options->heldout_list;
    if (path == NULL) return MST_OK;
    if (fflush(b->heldout.stream) != 0)
        return mst_error(MST_ENOMEM, "out of memory for the list of held-out files");
    return mst_file_replace(path, b->heldout.text, b->heldout.length);
}

/* Which tokenizer, for the index and the arrays. */
static mst_status describe_tokenizer(const builder *b, token_index *index, tokenizer_content *content) {
    const mst_encoder *encoder = b->options->encoder;
    index->tokenizer.end = b->end;
    if (encoder == NULL) {
        index->tokenizer.is_bytes = true;
        return mst_digest_of(bytes_description, sizeof bytes_description - 1, &index->tokenizer.digest);
    }
    index->tokenizer.has_json = true;
    const mst_vocabulary *vocabulary = &encoder->vocabulary;
    *content = (tokenizer_content){vocabulary->json, vocabulary->json_bytes, vocabulary->lengths};
    return mst_digest_of(vocabulary->json, vocabulary->json_bytes, &index->tokenizer.digest);
}

static mst_status write_output(builder *b, const char *field) {
    mst_status status = MST_OK;
    const mst_build_options *options = b->options;
    token_index index = {.token_bytes = b->token_bytes, .vocab_size = b->vocab_size};
    tokenizer_content tokenizer = {0};
    index_notes notes = {options->seed, options->heldout_fraction, field, b->sources, NULL, {{0}}};
    MST_CHECK(b->report.documents > 0, MST_ECONFIG, "no text in %llu files: nothing to write to '%s'",
              (unsigned long long)b->report.files, options->output);
    MST_CHECK(
        spill_bytes(&b->content[MST_SPLIT_TRAIN].tokens) > 0 || !of_records(options), MST_ECONFIG,
        "none of %llu conversations is left to train on: they were held out, or passed over as too long",
        (unsigned long long)b->report.documents);
    MST_CHECK(spill_bytes(&b->content[MST_SPLIT_TRAIN].tokens) > 0, MST_ECONFIG,
              "all %zu different documents fell into the held-out split; give more documents, another seed "
              "or fraction 0",
              b->judge.seen.used);
    for (int which = 0; which < SPLITS; which++) index.split[which].has_loss_mask = of_records(options);
    if (of_records(options) && options->encoder->template_name != NULL) {
        notes.template_name = options->encoder->template_name;
        MST_TRY(mst_digest_of(options->encoder->template_text, options->encoder->template_bytes,
                              &notes.template_digest));
    }
    MST_TRY(describe_tokenizer(b, &index, &tokenizer));
    MST_TRY(write_heldout_list(b)); /* before: where the token file is, its list is, too */
    MST_TRY(token_file_write(options->output, b->content, &tokenizer, &notes, &index));
    MST_TRY(index_content_digest(&index, &b->report.digest));
    b->report.train_tokens = index.split[MST_SPLIT_TRAIN].tokens.count;
    b->report.heldout_tokens = index.split[MST_SPLIT_HELDOUT].tokens.count;
    b->report.train_documents = index.split[MST_SPLIT_TRAIN].documents.count - 1;
    b->report.heldout_documents = index.split[MST_SPLIT_HELDOUT].documents.count - 1;
done:
    return status;
}

mst_status mst_data_build(const mst_build_options *options, mst_build_report *report_out) {
    mst_status status = MST_OK;
    builder b = {0};
    const char *field = judge_field(options);
    *report_out = (mst_build_report){0};
    MST_TRY(check_output(options));
    MST_TRY(builder_init(&b, options));
    MST_TRY(read_inputs(&b, field));
    MST_TRY(write_output(&b, field));
    *report_out = b.report;
done:
    builder_clear(&b);
    return status;
}
