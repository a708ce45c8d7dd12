/* What muster makes of conversations with a chat template, for another program to compare.
 *
 *     chat_dump TEMPLATE render|reply|spans|sanitize [DATE] [TOKENIZER]
 *
 * Standard input: a conversation on each line. Standard output: a line of JSON for each: {"text": ..., "spans": [[start, end], ...]},
 * spans in characters, or {"error": ..., "status": ...}. With a tokenizer, tokens and mask too; sanitize: control
 * tokens' names in the conversation are text. */
#include <jansson.h>

#include "muster/chat.h"
#include "test.h"

static size_t characters(const char *text, size_t bytes) {
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

static json_t *spans_of(const mst_chat_text *text) {
    json_t *spans = json_array();
    for (size_t i = 0; i < text->span_count; i++)
        json_array_append_new(spans,
                              json_pack("[I, I]", (json_int_t)characters(text->at, text->spans[i].start),
                                        (json_int_t)characters(text->at, text->spans[i].end)));
    return spans;
}

static mst_status render(const mst_chat_template *chat, const char *mode, const char *date, const char *line,
                         size_t bytes, json_t *object) {
    mst_status status = MST_OK;
    mst_conversation *conversation = NULL;
    mst_chat_text text = {0};
    const mst_chat_options options = {.date = date, .reply = strcmp(mode, "reply") == 0};
    MST_TRY(mst_conversation_parse(line, bytes, &conversation));
    MST_TRY(strcmp(mode, "spans") == 0 ? mst_chat_render_spans(chat, conversation, &options, &text)
                                       : mst_chat_render(chat, conversation, &options, &text));
    json_object_set_new(object, "text", json_stringn(text.at, text.count));
    json_object_set_new(object, "spans", spans_of(&text));
done:
    mst_chat_text_clear(&text);
    mst_conversation_destroy(&conversation);
    return status;
}

static mst_status encode(const mst_encoder *encoder, const char *line, size_t bytes, json_t *object) {
    const int32_t *tokens = NULL;
    const uint8_t *mask = NULL;
    size_t count = 0;
    mst_status status =
        encoder->encode_record(encoder->context, (const uint8_t *)line, bytes, &tokens, &mask, &count);
    if (status != MST_OK) return status;
    json_t *ids = json_array(), *marks = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(ids, json_integer(tokens[i]));
    for (size_t i = 0; i < count; i++) json_array_append_new(marks, json_integer(mask[i]));
    json_object_set_new(object, "ids", ids);
    json_object_set_new(object, "mask", marks);
    return MST_OK;
}

int main(int argc, char **argv) {
    mst_chat_template *chat = NULL;
    mst_tokenizer *tokenizer = NULL;
    mst_encoder *encoder = NULL;
    mst_chat_report report;
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    if (argc < 3) return 2;
    const char *date = argc > 3 && argv[3][0] != '\0' ? argv[3] : NULL;
    const mst_chat_encoding encoding = {.date = date, .sanitize = strcmp(argv[2], "sanitize") == 0};
    mst_status status = mst_chat_template_load(argv[1], &chat);
    if (status == MST_OK && argc > 4) status = mst_tokenizer_load(argv[4], &tokenizer);
    if (status == MST_OK && argc > 4)
        status = mst_chat_encoder(tokenizer, NULL, chat, &encoding, &report, &encoder);
    if (status != MST_OK) {
        fprintf(stderr, "%s: %s\n", mst_status_name(status), mst_error_message());
        return 1;
    }
    while ((length = getline(&line, &room, stdin)) > 0) {
        json_t *object = json_object();
        status = render(chat, argv[2], date, line, (size_t)length, object);
        if (status == MST_OK && encoder != NULL) status = encode(encoder, line, (size_t)length, object);
        if (status != MST_OK)
            json_object_set_new(object, "error",
                                json_sprintf("%s: %s", mst_status_name(status), mst_error_message()));
        json_dumpf(object, stdout, JSON_ENSURE_ASCII);
        putchar('\n');
        json_decref(object);
    }
    free(line);
    mst_chat_encoder_destroy(&encoder);
    mst_tokenizer_destroy(&tokenizer);
    mst_chat_template_destroy(&chat);
    return 0;
}
