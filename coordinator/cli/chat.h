/* muster generate --chat: a conversation, turn by turn. */
#ifndef CLI_CHAT_H
#define CLI_CHAT_H

#include "cli.h"
#include "muster/inference.h"

/* For 'data build', too. */
#define CLI_SANITIZE_OPTION                                                                                  \
    {                                                                                                        \
        .name = "sanitize",                                                                                  \
        .help = "of conversations: names of special tokens in messages are text, and no such tokens"         \
    }

/* To be set into the list of options. */
#define CLI_CHAT_OPTIONS                                                                                     \
    {.name = "chat",                                                                                         \
     .help = "a conversation: each line of standard input is a turn of the user's, and the model answers"},  \
        {.name = "chat-template",                                                                            \
         .argument = "chatml|llama3|tulu|FILE",                                                              \
         .help = "what makes texts of conversations, as in 'data build'; default: the template that came "   \
                 "with the model"},                                                                          \
        CLI_SANITIZE_OPTION,                                                                                 \
        {.name = "system",                                                                                   \
         .argument = "TEXT",                                                                                 \
         .help = "of a chat: the system's message, which comes first"},                                      \
    {                                                                                                        \
        .name = "date", .argument = "YYYY-MM-DD", .help = "of a chat: what its template takes for today"     \
    }

/**
 * Reads turns from standard input and writes the answers on standard output, each with a newline, until the input ends. In a
 * terminal each turn is asked for, and an interrupt (Ctrl-C) ends an answer.
 *
 * @param wanted count 0: as many tokens as the context has; end_tokens are found here
 * @retval MST_ECONFIG an option is missing; as mst_chat_template_load, mst_chat_render, mst_generator_run
 */
mst_status cli_chat(const cli_args *args, mst_inference *inference, const mst_generation *wanted);

#endif
