/* Control tokens' names that come with a conversation: kept apart from those that the template writes. As transformers'
 * sanitize_control_tokens does it, names are marked before a template is rendered, by characters that nobody uses; what the template
 * makes of them shows in the text where the marks are. Private to the room. */
#ifndef CHAT_CONTROL_H
#define CHAT_CONTROL_H

#include "template.h"

/* The names of control tokens. Begin with {0}. */
typedef struct chat_controls {
    chat_text *at; /* owned, the longest first; their bytes are the tokenizer's */
    size_t count;
    bool begins[256]; /* bytes that begin one */
} chat_controls;

/** Finds the special tokens of a tokenizer, and of the other added ones those that the template names (but for white space).
 * @retval MST_ENOMEM */
mst_status chat_controls_find(const chat_program *program, const mst_tokenizer *tokenizer,
                              chat_controls *controls_out);
void chat_controls_clear(chat_controls *controls);

/** A copy of a conversation in which all names in messages, tools, documents and variables are marked.
 * @param marked_out destroyed by mst_conversation_destroy @retval MST_ENOMEM */
mst_status chat_mark(const chat_controls *controls, const mst_conversation *conversation,
                     mst_conversation **marked_out);

/** Whether all characters are of ASCII or marks, which have no case. */
bool chat_is_ascii_or_marks(chat_text text);

/** Takes the marks out of a rendered text, and says in text->names where they were. @retval MST_ENOMEM */
mst_status chat_unmark(const chat_controls *controls, mst_chat_text *text);

/** Appends the tokens of a text, its names as plain text, and to `mask` (NULL: nobody asks) 1 for what overlaps a span.
 * @retval MST_EUNSUPPORTED plain text becomes the token of that name; as mst_tokenizer_encode_spans */
mst_status chat_encode(mst_tokenizer *tokenizer, const mst_chat_text *text, mst_token_list *tokens,
                       mst_byte_list *mask);

#endif
