/* What an open template and a conversation are made of. Private to the room. */
#ifndef CHAT_TEMPLATE_H
#define CHAT_TEMPLATE_H

#include "muster/chat.h"
#include "render.h"

/* One text of Jinja, read. */
typedef struct chat_program {
    char *name; /* owned; of the file, for messages */
    char *text; /* owned; as it was read */
    size_t bytes;
    chat_arena arena; /* of the tree */
    chat_nodes body;
    chat_buffer
        literals; /* all that it says by itself: texts outside of tags and in quotes, each with a NUL behind */
    bool has_generation;
} chat_program;

struct mst_chat_template {
    char *name;                         /* owned */
    chat_program *program, *with_tools; /* with_tools: for conversations with tools, or NULL */
    json_t *tokens;                     /* object of texts: bos_token ...; NULL: not known */
};

struct mst_conversation {
    json_t *messages;  /* array of objects */
    json_t *tools;     /* or NULL */
    json_t *documents; /* or NULL */
    json_t *variables; /* object, or NULL */
    size_t learned;    /* messages before this one are a prompt: nothing in them is learned */
};

/** Renders the first `count` messages. @retval as mst_chat_render */
mst_status chat_render_first(const mst_chat_template *chat, const mst_conversation *conversation,
                             size_t count, const mst_chat_options *options, mst_chat_text *text_out);
/** The text of Jinja that a conversation takes. */
const chat_program *chat_program_for(const mst_chat_template *chat, const mst_conversation *conversation);
/** Whether the template that a conversation takes says itself what the assistant wrote. */
bool chat_has_generation(const mst_chat_template *chat, const mst_conversation *conversation);
/** Whether a message is the assistant's and learned. */
bool chat_is_learned(const mst_conversation *conversation, size_t message);

/** The texts of a built-in template; false: there is none of that name. */
bool chat_builtin(const char *name, const char **text_out, const char **tokens_out);

#endif
