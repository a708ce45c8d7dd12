/* Conversations as tokens, with a mask of what the assistant wrote. */
#include <stdlib.h>
#include <string.h>

#include "control.h"

typedef struct encoder {
    mst_encoder offer;  /* first: what the caller holds is this one */
    mst_encoder *plain; /* owned; the tokenizer's own, of which the rest of the offer is */
    mst_tokenizer *tokenizer;
    const mst_chat_template *chat;
    mst_chat_encoding encoding;
    mst_chat_report *report;
    const chat_program *controlled; /* the template that has these controls; NULL: not known yet */
    chat_controls controls;
    mst_token_list special; /* ids of those of the tokenizer */
    mst_token_list tokens;
    mst_byte_list mask;
} encoder;

/* ---- the mask ---- */

static bool is_special(const mst_tokenizer *tokenizer, int32_t token) {
    size_t bytes;
    bool special = false;
    (void)mst_tokenizer_piece(tokenizer, token, &bytes, &special);
    return special;
}

static bool is_blank(const mst_tokenizer *tokenizer, int32_t token) {
    size_t bytes;
    bool special;
    const uint8_t *piece = mst_tokenizer_piece(tokenizer, token, &bytes, &special);
    return piece != NULL &&
           chat_text_strip((chat_text){(const char *)piece, bytes}, NULL, true, true).count == 0;
}

/* A turn ends with the special token that ends it: white space that the template puts between turns is nothing that the
 * assistant writes. */
static void end_turns(const mst_tokenizer *tokenizer, const mst_token_list *tokens, uint8_t *mask) {
    for (size_t at = tokens->count; at > 0;) {
        size_t last = at;
        while (last > 0 && mask[last - 1] == 0) last--;
        size_t end = last; /* behind the run of ones that ends here */
        while (end > 0 && mask[end - 1] != 0 && is_blank(tokenizer, tokens->at[end - 1])) end--;
        if (end > 0 && mask[end - 1] != 0 && is_special(tokenizer, tokens->at[end - 1]))
            memset(mask + end, 0, last - end);
        for (at = end; at > 0 && mask[at - 1] != 0;) at--;
    }
}

/* What the assistant wrote as part of a prompt is not learned. {% generation %} does not know of prompts. */
static mst_status forget_prompt(const encoder *e, const mst_conversation *conversation,
                                const mst_chat_options *options, mst_chat_text *text) {
    mst_status status = MST_OK;
    mst_chat_text prompt = {0};
    size_t kept = 0;
    if (conversation->learned == 0 || !chat_has_generation(e->chat, conversation)) return MST_OK;
    MST_TRY(chat_render_first(e->chat, conversation, conversation->learned, options, &prompt));
    for (size_t i = 0; i < text->span_count; i++)
        if (text->spans[i].start >= prompt.count) text->spans[kept++] = text->spans[i];
    text->span_count = kept;
done:
    mst_chat_text_clear(&prompt);
    return status;
}

/* ---- one conversation ---- */

static bool names_special(const encoder *e, chat_text text) {
    for (size_t i = 0; i < e->special.count; i++) {
        size_t bytes;
        bool special;
        const uint8_t *piece = mst_tokenizer_piece(e->tokenizer, e->special.at[i], &bytes, &special);
        if (chat_text_find(text, (chat_text){(const char *)piece, bytes}, 0) != SIZE_MAX) return true;
    }
    return false;
}

/* Whether the messages hold the name of a special token. */
static bool holds_special(const encoder *e, const json_t *value) {
    bool any = json_is_string(value) &&
               names_special(e, (chat_text){json_string_value(value), json_string_length(value)});
    for (size_t i = 0; !any && i < json_array_size(value); i++)
        any = holds_special(e, json_array_get(value, i));
    json_t *object = json_is_object(value) ? (json_t *)(uintptr_t)value : NULL;
    for (void *at = json_object_iter(object); !any && at != NULL; at = json_object_iter_next(object, at))
        any = holds_special(e, json_object_iter_value(at));
    return any;
}

/* The ids of all special tokens that have a name. */
static mst_status list_special(encoder *e) {
    mst_status status = MST_OK;
    size_t bytes, count = 0;
    bool special;
    for (size_t id = 0; id < e->offer.vocabulary.size; id++) count += is_special(e->tokenizer, (int32_t)id);
    e->special.at = calloc(count + 1, sizeof *e->special.at);
    MST_CHECK(e->special.at != NULL, MST_ENOMEM, "no memory for %zu special tokens", count);
    for (size_t id = 0; id < e->offer.vocabulary.size; id++) {
        (void)mst_tokenizer_piece(e->tokenizer, (int32_t)id, &bytes, &special);
        if (special && bytes > 0) e->special.at[e->special.count++] = (int32_t)id;
    }
done:
    return status;
}

/* Cuts off what is behind max_tokens; false: nothing of the assistant's is left. */
static bool cut(encoder *e) {
    const size_t most = e->encoding.max_tokens;
    if (most == 0 || e->tokens.count <= most) return true;
    e->tokens.count = e->mask.count = most;
    e->report->cut++;
    return memchr(e->mask.at, 1, most) != NULL;
}

/* A copy of a conversation with the names of control tokens marked. */
static mst_status mark(encoder *e, const mst_conversation *conversation, mst_conversation **marked_out) {
    mst_status status = MST_OK;
    const chat_program *program = chat_program_for(e->chat, conversation);
    if (program != e->controlled) {
        chat_controls_clear(&e->controls);
        e->controlled = NULL;
        MST_TRY(chat_controls_find(program, e->tokenizer, &e->controls));
        e->controlled = program;
    }
    MST_TRY(chat_mark(&e->controls, conversation, marked_out));
done:
    return status;
}

/* The text of a conversation and the parts that are learned. */
static mst_status render(encoder *e, const mst_conversation *conversation, mst_chat_text *text) {
    mst_status status = MST_OK;
    const mst_chat_options options = {.date = e->encoding.date};
    mst_conversation *marked = NULL;
    if (e->encoding.sanitize) MST_TRY(mark(e, conversation, &marked));
    if (marked != NULL) conversation = marked;
    MST_TRY(mst_chat_render_spans(e->chat, conversation, &options, text));
    MST_TRY(forget_prompt(e, conversation, &options, text));
    if (marked != NULL) MST_TRY(chat_unmark(&e->controls, text));
done:
    mst_conversation_destroy(&marked);
    return status;
}

static mst_status encode_text(encoder *e, const mst_conversation *conversation, const mst_chat_text *text) {
    mst_status status = MST_OK;
    e->tokens.count = e->mask.count = 0;
    MST_TRY(chat_encode(e->tokenizer, text, &e->tokens, &e->mask));
    if (!chat_has_generation(e->chat, conversation)) end_turns(e->tokenizer, &e->tokens, e->mask.at);
    MST_CHECK(e->tokens.count > 0 && memchr(e->mask.at, 1, e->mask.count) != NULL, MST_EFORMAT,
              "no token of the assistant's: there is nothing to learn in this conversation; drop it, or look "
              "at its roles");
done:
    return status;
}

static mst_status encode_record(void *context, const uint8_t *bytes, size_t count, const int32_t **tokens_out,
                                const uint8_t **mask_out, size_t *count_out) {
    mst_status status = MST_OK;
    encoder *e = context;
    mst_conversation *conversation = NULL;
    mst_chat_text text = {0};
    *count_out = 0;
    MST_TRY(mst_conversation_parse((const char *)bytes, count, &conversation));
    MST_TRY(render(e, conversation, &text));
    MST_TRY(encode_text(e, conversation, &text));
    e->report->conversations++;
    e->report->named += holds_special(e, conversation->messages);
    if (!cut(e)) {
        e->report->skipped++;
        goto done;
    }
    for (size_t i = 0; i < e->mask.count; i++) e->report->targets += e->mask.at[i];
    *tokens_out = e->tokens.at;
    *mask_out = e->mask.at;
    *count_out = e->tokens.count;
done:
    mst_chat_text_clear(&text);
    mst_conversation_destroy(&conversation);
    return status;
}

/* ---- tokens alone ---- */

mst_status mst_chat_tokens(const mst_chat_template *chat, mst_tokenizer *tokenizer,
                           const mst_conversation *conversation, const mst_chat_options *options,
                           bool sanitize, mst_token_list *tokens) {
    mst_status status = MST_OK;
    mst_conversation *marked = NULL;
    mst_chat_text text = {0};
    chat_controls controls = {0};
    if (sanitize) {
        MST_TRY(chat_controls_find(chat_program_for(chat, conversation), tokenizer, &controls));
        MST_TRY(chat_mark(&controls, conversation, &marked));
    }
    MST_TRY(mst_chat_render(chat, marked != NULL ? marked : conversation, options, &text));
    if (marked != NULL) MST_TRY(chat_unmark(&controls, &text));
    MST_TRY(chat_encode(tokenizer, &text, tokens, NULL));
done:
    chat_controls_clear(&controls);
    mst_chat_text_clear(&text);
    mst_conversation_destroy(&marked);
    return status;
}

/* ---- life ---- */

mst_status mst_chat_encoder(mst_tokenizer *tokenizer, const char *end, const mst_chat_template *chat,
                            const mst_chat_encoding *encoding, mst_chat_report *report_out,
                            mst_encoder **encoder_out) {
    mst_status status = MST_OK;
    encoder *e = calloc(1, sizeof *e);
    *encoder_out = NULL;
    *report_out = (mst_chat_report){0};
    MST_CHECK(e != NULL, MST_ENOMEM, "no memory for an encoder");
    MST_TRY(mst_tokenizer_encoder(tokenizer, end, &e->plain));
    e->offer = *e->plain;
    e->offer.context = e;
    e->offer.encode = NULL;
    e->offer.encode_record = encode_record;
    e->offer.template_name = mst_chat_template_name(chat);
    e->offer.template_text = mst_chat_template_text(chat, &e->offer.template_bytes);
    e->tokenizer = tokenizer;
    e->chat = chat;
    e->encoding = *encoding;
    e->report = report_out;
    MST_TRY(list_special(e));
    *encoder_out = &e->offer;
    e = NULL;
done:
    if (e != NULL) {
        mst_tokenizer_encoder_destroy(&e->plain);
        free(e->special.at);
    }
    free(e);
    return status;
}

void mst_chat_encoder_destroy(mst_encoder **offer) {
    encoder *e = *offer != NULL ? (*offer)->context : NULL;
    *offer = NULL;
    if (e == NULL) return;
    mst_tokenizer_encoder_destroy(&e->plain);
    chat_controls_clear(&e->controls);
    free(e->special.at);
    free(e->tokens.at);
    free(e->mask.at);
    free(e);
}

/* ---- the end of a turn ---- */

mst_status mst_chat_ends(const mst_chat_template *chat, mst_tokenizer *tokenizer,
                         const mst_chat_options *options, int32_t ends_out[2]) {
    static const char word[] = "kumquat"; /* nothing that a template says by itself */
    mst_status status = MST_OK;
    mst_conversation *conversation = NULL;
    mst_chat_text text = {0};
    mst_token_list tokens = {0};
    const mst_chat_options whole = {.date = options->date};
    const mst_encode_options plain = {.plain = false};
    ends_out[0] = mst_tokenizer_end(tokenizer);
    ends_out[1] = -1;
    MST_TRY(mst_conversation_create(&conversation));
    MST_TRY(mst_conversation_add(conversation, "user", "question", 8));
    MST_TRY(mst_conversation_add(conversation, "assistant", word, sizeof word - 1));
    MST_TRY(mst_chat_render(chat, conversation, &whole, &text));
    const size_t at = chat_text_find((chat_text){text.at, text.count}, chat_text_of(word), 0);
    MST_CHECK(at != SIZE_MAX, MST_EUNSUPPORTED, "%s: what the assistant says is not in the text", chat->name);
    const size_t end = at + sizeof word - 1;
    MST_TRY(
        mst_tokenizer_encode(tokenizer, (const uint8_t *)text.at + end, text.count - end, &plain, &tokens));
    if (tokens.count > 0 && is_special(tokenizer, tokens.at[0])) ends_out[1] = tokens.at[0];
done:
    free(tokens.at);
    mst_chat_text_clear(&text);
    mst_conversation_destroy(&conversation);
    return status;
}
