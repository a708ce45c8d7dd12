/* A template cut into tokens, with Jinja's rules of white space as transformers sets them (trim_blocks, lstrip_blocks). Private. */
#ifndef CHAT_LEXER_H
#define CHAT_LEXER_H

#include "text.h"

typedef enum chat_token_kind {
    TOKEN_TEXT,      /* outside of tags */
    TOKEN_PRINT,     /* {{ */
    TOKEN_PRINT_END, /* }} */
    TOKEN_BLOCK,     /* {% */
    TOKEN_BLOCK_END, /* %} */
    TOKEN_NAME,
    TOKEN_STRING, /* its text without quotes and escapes */
    TOKEN_INTEGER,
    TOKEN_REAL,
    TOKEN_OPERATOR,
    TOKEN_END
} chat_token_kind;

typedef struct chat_token {
    chat_token_kind kind;
    uint32_t line, column; /* from 1; columns are bytes */
    chat_text text;
    int64_t integer;
    double real;
} chat_token;

typedef struct chat_tokens {
    chat_token *at; /* owned: free it; the last is TOKEN_END */
    size_t count, room;
} chat_tokens;

/**
 * Cuts a template. Newlines become \n and one at the end is dropped, as Jinja does it.
 *
 * @param name stands in messages
 * @param arena holds the texts of the tokens
 * @retval MST_EFORMAT not UTF-8, a tag or text without end, a character that begins nothing; MST_EUNSUPPORTED too long, a name or
 * an escape of a kind that is not supported; MST_ENOMEM
 */
mst_status chat_tokens_cut(chat_text source, const char *name, chat_arena *arena, chat_tokens *tokens_out);

#endif
