/* Conversations through templates: the text, and which parts of it the assistant wrote. */
#include <stdlib.h>
#include <string.h>

#include "template.h"

void mst_chat_text_clear(mst_chat_text *text) {
    free(text->at);
    free(text->spans);
    free(text->names);
    *text = (mst_chat_text){0};
}

const chat_program *chat_program_for(const mst_chat_template *chat, const mst_conversation *conversation) {
    return conversation->tools != NULL && chat->with_tools != NULL ? chat->with_tools : chat->program;
}

bool chat_has_generation(const mst_chat_template *chat, const mst_conversation *conversation) {
    return chat_program_for(chat, conversation)->has_generation;
}

/* ---- one rendering ---- */

static mst_status set_json(chat_renderer *r, const char *name, const json_t *json) {
    mst_status status = MST_OK;
    chat_value value = chat_none();
    if (json != NULL) MST_TRY(chat_value_of_json(json, 0, &r->arena, &value));
    MST_TRY(chat_variable_set(r, chat_text_of(name), &value));
done:
    return status;
}

static mst_status set_all(chat_renderer *r, json_t *object) {
    mst_status status = MST_OK;
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) MST_TRY(set_json(r, name, value));
done:
    return status;
}

static mst_status set_variables(chat_renderer *r, const mst_chat_template *chat, const mst_conversation *c,
                                size_t count, bool reply) {
    mst_status status = MST_OK;
    chat_value messages;
    const chat_value prompt = chat_bool(reply);
    MST_TRY(set_all(r, chat->tokens));
    MST_TRY(set_all(r, c->variables));
    MST_TRY(chat_value_of_json(c->messages, 0, &r->arena, &messages));
    if (count < messages.list.count) messages.list.count = count;
    MST_TRY(chat_variable_set(r, chat_text_of("messages"), &messages));
    MST_TRY(set_json(r, "tools", c->tools));
    MST_TRY(set_json(r, "documents", c->documents));
    MST_TRY(chat_variable_set(r, chat_text_of("add_generation_prompt"), &prompt));
done:
    return status;
}

static mst_status take_result(chat_renderer *r, chat_buffer *buffer, mst_chat_text *text_out) {
    mst_status status = MST_OK;
    mst_text_span *spans = calloc(r->spans.count + 1, sizeof *spans);
    MST_CHECK(spans != NULL, MST_ENOMEM, "out of memory for %zu spans", r->spans.count);
    for (size_t i = 0; i < r->spans.count; i++)
        spans[i] = (mst_text_span){r->spans.at[i].start, r->spans.at[i].end};
    MST_TRY(chat_buffer_add(buffer, (chat_text){"\0", 1})); /* not counted; so an empty text is not NULL */
    *text_out = (mst_chat_text){
        .at = buffer->at, .count = buffer->count - 1, .spans = spans, .span_count = r->spans.count};
    buffer->at = NULL;
    spans = NULL;
done:
    free(spans);
    return status;
}

mst_status chat_render_first(const mst_chat_template *chat, const mst_conversation *conversation,
                             size_t count, const mst_chat_options *options, mst_chat_text *text_out) {
    mst_status status = MST_OK;
    const chat_program *program = chat_program_for(chat, conversation);
    chat_renderer r;
    chat_buffer buffer = {0};
    chat_renderer_init(&r);
    *text_out = (mst_chat_text){0};
    r.date = options->date;
    r.tokens_known = chat->tokens != NULL;
    r.out = &buffer;
    MST_TRY(set_variables(&r, chat, conversation, count, options->reply));
    MST_TRY(chat_run(&r, &program->body));
    MST_TRY(take_result(&r, &buffer, text_out));
done:
    if (status != MST_OK && r.failed != NULL)
        mst_error_context(status, "%s:%u:%u", program->name, (unsigned)r.failed->line,
                          (unsigned)r.failed->column);
    free(buffer.at);
    chat_renderer_clear(&r);
    return status;
}

mst_status mst_chat_render(const mst_chat_template *chat, const mst_conversation *conversation,
                           const mst_chat_options *options, mst_chat_text *text_out) {
    return chat_render_first(chat, conversation, mst_conversation_count(conversation), options, text_out);
}

/* ---- what the assistant wrote ---- */

/* The length of the text of the first messages, which must be how the whole text begins. */
static mst_status find_prefix(const mst_chat_template *chat, const mst_conversation *conversation,
                              size_t count, const mst_chat_options *options, const mst_chat_text *whole,
                              size_t *bytes_out) {
    mst_status status = MST_OK;
    mst_chat_text part = {0};
    MST_TRY(chat_render_first(chat, conversation, count, options, &part));
    *bytes_out = part.count;
    MST_CHECK(chat_text_begins((chat_text){whole->at, whole->count}, (chat_text){part.at, part.count}),
              MST_EUNSUPPORTED,
              "%s: the text of the first %zu messages is another when more follow, so what the assistant "
              "wrote cannot "
              "be found; {%% generation %%} in the template can say it",
              chat->name, count);
done:
    mst_chat_text_clear(&part);
    return status;
}

/* Where the text of a message of the assistant lies: behind the beginning of an answer to those before it. */
static mst_status find_message(const mst_chat_template *chat, const mst_conversation *conversation,
                               size_t message, const mst_chat_options *options, const mst_chat_text *whole,
                               mst_text_span *span_out) {
    mst_status status = MST_OK;
    mst_chat_options asked = *options;
    asked.reply = true;
    MST_TRY(find_prefix(chat, conversation, message, &asked, whole, &span_out->start));
    asked.reply = false;
    MST_TRY(find_prefix(chat, conversation, message + 1, &asked, whole, &span_out->end));
    MST_CHECK(span_out->start <= span_out->end, MST_EUNSUPPORTED,
              "%s: message %zu ends before an answer in its place would begin", chat->name, message);
done:
    return status;
}

mst_status mst_chat_render_spans(const mst_chat_template *chat, const mst_conversation *conversation,
                                 const mst_chat_options *options, mst_chat_text *text_out) {
    mst_status status = MST_OK;
    mst_chat_text text = {0};
    const size_t count = mst_conversation_count(conversation);
    MST_TRY(mst_chat_render(chat, conversation, options, &text));
    if (!chat_has_generation(chat, conversation)) {
        free(text.spans);
        text.spans = calloc(count + 1, sizeof *text.spans);
        MST_CHECK(text.spans != NULL, MST_ENOMEM, "out of memory for %zu spans", count);
        for (size_t i = 0; i < count; i++)
            if (chat_is_learned(conversation, i))
                MST_TRY(find_message(chat, conversation, i, options, &text, &text.spans[text.span_count++]));
    }
    *text_out = text;
    text = (mst_chat_text){0};
done:
    mst_chat_text_clear(&text);
    return status;
}
