/* From tokens to a tree. Private to the room. */
#ifndef CHAT_PARSER_H
#define CHAT_PARSER_H

#include "lexer.h"
#include "tree.h"

typedef struct chat_parser {
    const char *name; /* of the template, for messages */
    chat_arena *arena;
    const chat_token *next;
    chat_nodes macros;     /* a NODE_NAME for each macro, wherever it stands */
    size_t nodes, nesting; /* against their limits */
    size_t loops;          /* that break and continue may leave */
    size_t scopes;         /* that are open: loops and the like */
    bool apart;            /* within {% set %}...{% endset %}, a macro or {% generation %} */
    bool has_generation;
} chat_parser;

/** Reads a whole template. @retval MST_EUNSUPPORTED, MST_EFORMAT with name, line and column; MST_ENOMEM */
mst_status chat_parse(chat_parser *p, chat_nodes *body_out);

/* ---- between the files of the parser ---- */

enum { CHAT_TREE_DEPTH = 300 };

/** An expression; without `if ... else` where `plain`. */
mst_status chat_parse_expression(chat_parser *p, bool plain, chat_node **node_out);

/** Whether the template has a macro of this name. */
bool chat_has_macro(const chat_parser *p, chat_text name);
/** A macro from its word on, without the %} at its end. */
mst_status chat_parse_macro(chat_parser *p, const chat_token *begin, chat_node **node_out);
/** The call of a macro, from its ( on. @param node NODE_NAME */
mst_status chat_parse_macro_call(chat_parser *p, chat_node *node);
/** Finds all macros. */
mst_status chat_find_macros(chat_parser *p);
/** What stands up to the name of an end, which is passed; loops outside of it are not left from,
 * and {% generation %} has no place in it. */
mst_status chat_parse_apart(chat_parser *p, chat_node *node, const chat_token *begin,
                            const char *const *ends);

/** A failure at a token. */
mst_status chat_refuse(const chat_parser *p, const chat_token *at, mst_status code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
mst_status chat_unexpected(const chat_parser *p, const char *wanted);

mst_status chat_node_new(chat_parser *p, chat_node_kind kind, const chat_token *at, chat_node **node_out);
/** Counts a child into its parent's depth. @retval MST_EUNSUPPORTED the tree is too deep */
mst_status chat_node_link(const chat_parser *p, chat_node *parent, const chat_node *child);
mst_status chat_nodes_add(chat_parser *p, chat_nodes *list, chat_node *node);

bool chat_is_operator(const chat_parser *p, const char *operation);
bool chat_is_name(const chat_parser *p, const char *name);
bool chat_take_operator(chat_parser *p, const char *operation);
bool chat_take_name(chat_parser *p, const char *name);
mst_status chat_expect_operator(chat_parser *p, const char *operation);
mst_status chat_expect_name(chat_parser *p, chat_text *name_out);

#endif
