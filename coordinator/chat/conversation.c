/* Conversations: from a line of JSON, or turn by turn. */
#include <stdlib.h>
#include <string.h>

#include "template.h"

mst_status mst_conversation_create(mst_conversation **conversation_out) {
    mst_conversation *c = calloc(1, sizeof *c);
    if (c != NULL) c->messages = json_array();
    *conversation_out = c;
    if (c != NULL && c->messages != NULL) return MST_OK;
    mst_conversation_destroy(conversation_out);
    return mst_error(MST_ENOMEM, "out of memory for a conversation");
}

void mst_conversation_destroy(mst_conversation **conversation) {
    mst_conversation *c = *conversation;
    *conversation = NULL;
    if (c == NULL) return;
    json_decref(c->messages);
    json_decref(c->tools);
    json_decref(c->documents);
    json_decref(c->variables);
    free(c);
}

size_t mst_conversation_count(const mst_conversation *conversation) {
    return json_array_size(conversation->messages);
}

/* A text with U+FFFD in the place of each byte that is not UTF-8. */
static mst_status make_utf8(chat_text text, chat_buffer *to) {
    mst_status status = MST_OK;
    size_t bad = 0;
    while (!chat_text_is_utf8(text, &bad)) {
        MST_TRY(chat_buffer_add(to, (chat_text){text.at, bad}));
        MST_TRY(chat_buffer_add(to, chat_text_of("\xEF\xBF\xBD")));
        text = (chat_text){text.at + bad + 1, text.count - bad - 1};
    }
    MST_TRY(chat_buffer_add(to, text));
done:
    return status;
}

mst_status mst_conversation_add(mst_conversation *conversation, const char *role, const char *content,
                                size_t bytes) {
    mst_status status = MST_OK;
    chat_buffer text = {0};
    MST_TRY(make_utf8((chat_text){content, bytes}, &text));
    json_t *message =
        json_pack("{s:s, s:s%}", "role", role, "content", text.count > 0 ? text.at : "", text.count);
    MST_CHECK(message != NULL && json_array_append_new(conversation->messages, message) == 0, MST_ENOMEM,
              "out of memory for a message of %zu bytes", bytes);
done:
    free(text.at);
    return status;
}

bool chat_is_learned(const mst_conversation *conversation, size_t message) {
    const json_t *role = json_object_get(json_array_get(conversation->messages, message), "role");
    return message >= conversation->learned && json_is_string(role) &&
           strcmp(json_string_value(role), "assistant") == 0;
}

/* ---- from JSON ---- */

/* As transformers does it: fields that are null are dropped, and what the model thought, which has several names, is found under
 * those that templates read. */
static mst_status copy_message(const json_t *from, json_t **message_out) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    mst_status status = MST_OK;
    json_t *message = json_object(), *thought = NULL, *object = (json_t *)(uintptr_t)from;
    bool failed = message == NULL;
    for (size_t i = 0; thought == NULL && i < sizeof names / sizeof *names; i++) {
        json_t *value = json_object_get(from, names[i]);
        if (!json_is_null(value)) thought = value;
    }
    if (thought != NULL) failed |= json_object_set(message, "thinking", thought) != 0;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        json_t *value = json_object_iter_value(at);
        if (!json_is_null(value)) failed |= json_object_set(message, json_object_iter_key(at), value) != 0;
    }
    if (thought != NULL) failed |= json_object_set(message, "reasoning_content", thought) != 0;
    MST_CHECK(!failed, MST_ENOMEM, "out of memory for a message");
    *message_out = message;
    message = NULL;
done:
    json_decref(message);
    return status;
}

static mst_status add_messages(mst_conversation *c, const char *field, const json_t *list) {
    mst_status status = MST_OK;
    json_t *message = NULL;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *from = json_array_get(list, i);
        MST_CHECK(json_is_object(from) && json_is_string(json_object_get(from, "role")), MST_EFORMAT,
                  "%s[%zu] is no object with a text `role`", field, i);
        MST_TRY(copy_message(from, &message));
        MST_CHECK(json_array_append_new(c->messages, message) == 0, MST_ENOMEM,
                  "out of memory for a message");
    }
done:
    return status;
}

/* A prompt or a completion: a text is one message. */
static mst_status add_part(mst_conversation *c, const json_t *record, const char *field, const char *role) {
    const json_t *part = json_object_get(record, field);
    if (json_is_string(part))
        return mst_conversation_add(c, role, json_string_value(part), json_string_length(part));
    if (json_is_array(part)) return add_messages(c, field, part);
    return mst_error(MST_EFORMAT, "field '%s' is %s; it must be a text or a list of messages", field,
                     part == NULL ? "missing" : "something else");
}

/* A field that the template gets as it is; null and absent are the same. */
static void take_field(const json_t *record, const char *field, json_t **value_out) {
    json_t *value = json_object_get(record, field);
    if (value != NULL && !json_is_null(value)) *value_out = json_incref(value);
}

static mst_status fill(mst_conversation *c, const json_t *record) {
    mst_status status = MST_OK;
    const json_t *messages = json_object_get(record, "messages");
    MST_CHECK(json_is_object(record), MST_EFORMAT,
              "expected an object with `messages`, or `prompt` and `completion`");
    if (messages != NULL) {
        MST_CHECK(json_is_array(messages), MST_EFORMAT, "field 'messages' is not a list");
        MST_TRY(add_messages(c, "messages", messages));
    } else {
        MST_CHECK(json_object_get(record, "prompt") != NULL || json_object_get(record, "completion") != NULL,
                  MST_EFORMAT, "the object has neither `messages` nor `prompt` and `completion`");
        MST_TRY(add_part(c, record, "prompt", "user"));
        c->learned = mst_conversation_count(c);
        MST_TRY(add_part(c, record, "completion", "assistant"));
    }
    MST_CHECK(mst_conversation_count(c) > 0, MST_EFORMAT, "a conversation without messages");
    take_field(record, "tools", &c->tools);
    take_field(record, "documents", &c->documents);
    take_field(record, "chat_template_kwargs", &c->variables);
    MST_CHECK(c->tools == NULL || json_is_array(c->tools), MST_EFORMAT, "field 'tools' is not a list");
    MST_CHECK(c->variables == NULL || json_is_object(c->variables), MST_EFORMAT,
              "field 'chat_template_kwargs' is not an object");
done:
    return status;
}

mst_status mst_conversation_parse(const char *json, size_t bytes, mst_conversation **conversation_out) {
    mst_status status = MST_OK;
    json_error_t error;
    mst_conversation *c = NULL;
    json_t *record = json_loadb(json, bytes, JSON_ALLOW_NUL, &error);
    *conversation_out = NULL;
    MST_CHECK(record != NULL, MST_EFORMAT, "not valid JSON: %s", error.text);
    MST_TRY(mst_conversation_create(&c));
    MST_TRY(fill(c, record));
    *conversation_out = c;
    c = NULL;
done:
    mst_conversation_destroy(&c);
    json_decref(record);
    return status;
}
