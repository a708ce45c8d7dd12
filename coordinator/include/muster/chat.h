/* Conversations as text: the chat templates of the model families, in the part of Jinja that these use. */
#ifndef MUSTER_CHAT_H
#define MUSTER_CHAT_H

#include "muster/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- templates ---- */

typedef struct mst_chat_template mst_chat_template;

/**
 * Reads a template. Nothing in it is trusted: depth, size and work have limits, and what is not understood is refused by name.
 *
 * Not collective.
 * @param name stands in messages
 * @param template_out destroyed by mst_chat_template_destroy; text is copied
 * @retval MST_EUNSUPPORTED a statement, filter, test, method, function or operator that is not supported; too large a template
 * @retval MST_EFORMAT not UTF-8, not a template. Both name the place: NAME:line:column
 * @retval MST_ENOMEM
 */
mst_status mst_chat_template_parse(const char *text, size_t bytes, const char *name,
                                   mst_chat_template **template_out);

/**
 * Reads the template that a user names: a built-in one (mst_chat_template_names); a file in Jinja; a tokenizer_config.json with
 * a `chat_template`, one or several with names; or a folder with chat_template.jinja or tokenizer_config.json. The special
 * tokens (bos_token, eos_token ...) are those of the tokenizer_config.json, also of one beside a file in Jinja.
 *
 * Not collective. @retval MST_ECONFIG neither a file nor a built-in name; MST_EIO; and as mst_chat_template_parse
 */
mst_status mst_chat_template_load(const char *name, mst_chat_template **template_out);

/**
 * The template of a model whose files are in memory: the text of chat_template.jinja, else the `chat_template` of
 * tokenizer_config.json, whose special tokens it takes in any case.
 *
 * Not collective.
 * @param jinja, config NULL: there is none
 * @param name of the model, for messages
 * @retval MST_ECONFIG there is no template; and as mst_chat_template_load
 */
mst_status mst_chat_template_carried(const char *jinja, size_t jinja_bytes, const char *config,
                                     size_t config_bytes, const char *name, mst_chat_template **template_out);
void mst_chat_template_destroy(mst_chat_template **chat);

/** The names of the built-in templates, blanks between them. Static storage. */
const char *mst_chat_template_names(void);
/** Its name, and the text that was read. Owned by the template. */
const char *mst_chat_template_name(const mst_chat_template *chat);
const char *mst_chat_template_text(const mst_chat_template *chat, size_t *bytes_out);

/* ---- conversations ---- */

typedef struct mst_conversation mst_conversation;

/** One without messages. @retval MST_ENOMEM */
mst_status mst_conversation_create(mst_conversation **conversation_out);
/**
 * Reads a line of a .jsonl file: an object with `messages` (a list of objects with a `role`), or with `prompt` and `completion`,
 * each a text or a list of messages. `tools`, `documents` and the names in `chat_template_kwargs` are the template's, too.
 *
 * Not collective. @retval MST_EFORMAT another thing; MST_ENOMEM
 */
mst_status mst_conversation_parse(const char *json, size_t bytes, mst_conversation **conversation_out);
void mst_conversation_destroy(mst_conversation **conversation);
/** Appends a message. @param content [bytes] bytes that are not UTF-8 become U+FFFD @retval MST_ENOMEM */
mst_status mst_conversation_add(mst_conversation *conversation, const char *role, const char *content,
                                size_t bytes);
size_t mst_conversation_count(const mst_conversation *conversation);

/* ---- text ---- */

/* A conversation as text, and the parts of it that the assistant wrote. Begin with {0}; mst_chat_text_clear. */
typedef struct mst_chat_text {
    char *at;
    size_t count;
    mst_text_span *spans; /* in order, apart from each other */
    size_t span_count;
    /* Names of control tokens that came with the conversation, to be encoded as text; an empty one cuts the text. In order. Only
     * where a conversation is encoded with `sanitize`. */
    mst_text_span *names;
    size_t name_count;
} mst_chat_text;
void mst_chat_text_clear(mst_chat_text *text);

typedef struct mst_chat_options {
    const char *date; /* YYYY-MM-DD, what strftime_now gives; NULL: the template has no such function */
    bool reply;       /* with the beginning of the assistant's answer (add_generation_prompt) */
} mst_chat_options;

/**
 * Renders a conversation. The text is that of transformers' apply_chat_template; spans are those of {% generation %}.
 *
 * Not collective. Memory: at most 256 MiB for a template's values, 16 MiB of text.
 * @retval MST_EFORMAT the template refuses the conversation, or something in it is not what the template expects;
 * MST_EUNSUPPORTED a limit, a value of a kind that is not supported: with name, line, column. MST_ECONFIG a special token or the
 * date is not known; MST_ENOMEM
 */
mst_status mst_chat_render(const mst_chat_template *chat, const mst_conversation *conversation,
                           const mst_chat_options *options, mst_chat_text *text_out);

/**
 * Renders a conversation with the spans of what the assistant wrote: those of {% generation %} where the template has it;
 * otherwise for each message of the assistant what the text has more with it than with the beginning of an answer in its place.
 *
 * Not collective.
 * @retval as mst_chat_render; MST_EUNSUPPORTED the text up to a message is another when more messages follow, so that
 * its part cannot be found
 */
mst_status mst_chat_render_spans(const mst_chat_template *chat, const mst_conversation *conversation,
                                 const mst_chat_options *options, mst_chat_text *text_out);

/* ---- tokens ---- */

/**
 * Renders a conversation and appends its tokens.
 *
 * Not collective.
 * @param sanitize the names of control tokens in messages, tools, documents and variables are text, and only those that the
 * template writes become tokens. Control tokens are the special ones, and other added ones that the template names. The tokens are
 * those of transformers' apply_chat_template with sanitize_control_tokens.
 * @retval MST_EUNSUPPORTED the tokenizer makes a control token of its name as plain text; as mst_chat_render, mst_tokenizer_encode
 */
mst_status mst_chat_tokens(const mst_chat_template *chat, mst_tokenizer *tokenizer,
                           const mst_conversation *conversation, const mst_chat_options *options,
                           bool sanitize, mst_token_list *tokens);

typedef struct mst_chat_encoding {
    const char *date;  /* as mst_chat_options */
    bool sanitize;     /* as mst_chat_tokens */
    size_t max_tokens; /* a conversation's end behind so many is cut off; 0: none is */
} mst_chat_encoding;

typedef struct mst_chat_report {
    uint64_t conversations, cut,
        skipped;      /* cut: longer than max_tokens; skipped: nothing of the assistant's was left of them */
    uint64_t targets; /* tokens that the assistant wrote */
    uint64_t named;   /* conversations whose messages hold the name of a special token */
} mst_chat_report;

/**
 * Makes what mst_data_build needs to build from conversations: their tokens, and a mask that is 1 on what the assistant wrote,
 * the token that ends its turn included.
 *
 * Not collective.
 * @param tokenizer, chat kept by reference; must outlive the encoder
 * @param end as mst_tokenizer_encoder
 * @param report_out kept by reference; counts what is encoded
 * @param encoder_out destroyed by mst_chat_encoder_destroy
 * @retval MST_ECONFIG no such token; MST_ENOMEM
 */
mst_status mst_chat_encoder(mst_tokenizer *tokenizer, const char *end, const mst_chat_template *chat,
                            const mst_chat_encoding *encoding, mst_chat_report *report_out,
                            mst_encoder **encoder_out);
void mst_chat_encoder_destroy(mst_encoder **encoder);

/** The tokens that end a turn of the assistant: the one that ends a document, and the special one that the template puts right behind
 * the assistant's text. @param ends_out [2]; -1: there is none @retval as mst_chat_render */
mst_status mst_chat_ends(const mst_chat_template *chat, mst_tokenizer *tokenizer,
                         const mst_chat_options *options, int32_t ends_out[2]);

#ifdef __cplusplus
}
#endif
#endif
