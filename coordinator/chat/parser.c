/* Statements, and what both files of the parser stand on. */
#include "parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NODES_MAX = 200000, NESTING_MAX = 100 /* statements in each other */ };

/* ---- messages ---- */

mst_status chat_refuse(const chat_parser *p, const chat_token *at, mst_status code, const char *format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return mst_error(code, "%s:%u:%u: %s", p->name, (unsigned)at->line, (unsigned)at->column, text);
}

mst_status chat_unexpected(const chat_parser *p, const char *wanted) {
    static const char *const kinds[] = {"text",
                                        "{{",
                                        "}}",
                                        "{%",
                                        "%}",
                                        "a name",
                                        "a text in quotes",
                                        "a number",
                                        "a number",
                                        "",
                                        "the end of the template"};
    const chat_token *t = p->next;
    const bool shown = t->kind == TOKEN_NAME || t->kind == TOKEN_OPERATOR;
    const char *kind = kinds[t->kind];
    return chat_refuse(p, t, MST_EFORMAT, "%s stands where %s is expected%s%.*s%s", shown ? "a word" : kind,
                       wanted, shown ? ": '" : "", shown ? (int)(t->text.count < 40 ? t->text.count : 40) : 0,
                       shown ? t->text.at : "", shown ? "'" : "");
}

/* ---- nodes ---- */

mst_status chat_node_new(chat_parser *p, chat_node_kind kind, const chat_token *at, chat_node **node_out) {
    if (++p->nodes > NODES_MAX)
        return chat_refuse(p, at, MST_EUNSUPPORTED, "the template has more than %d parts", NODES_MAX);
    chat_node *node = chat_arena_take(p->arena, sizeof *node);
    *node_out = node;
    if (node == NULL) return mst_error(MST_ENOMEM, "%s: out of memory for its tree", p->name);
    *node = (chat_node){.kind = kind, .line = at->line, .column = at->column, .depth = 1};
    return MST_OK;
}

mst_status chat_node_link(const chat_parser *p, chat_node *parent, const chat_node *child) {
    if (child != NULL && child->depth >= parent->depth) parent->depth = child->depth + 1;
    if (parent->depth > CHAT_TREE_DEPTH)
        return mst_error(MST_EUNSUPPORTED, "%s:%u:%u: more than %d parts in each other", p->name,
                         (unsigned)parent->line, (unsigned)parent->column, CHAT_TREE_DEPTH);
    return MST_OK;
}

mst_status chat_nodes_add(chat_parser *p, chat_nodes *list, chat_node *node) {
    if (list->count == list->room) {
        const size_t room = list->room > 0 ? 2 * list->room : 4;
        chat_node **grown = chat_arena_take(p->arena, room * sizeof(chat_node *));
        if (grown == NULL) return mst_error(MST_ENOMEM, "%s: out of memory for its tree", p->name);
        for (size_t i = 0; i < list->count; i++) grown[i] = list->at[i];
        list->at = grown;
        list->room = room;
    }
    list->at[list->count++] = node;
    return MST_OK;
}

/* ---- tokens ---- */

bool chat_is_operator(const chat_parser *p, const char *operation) {
    return p->next->kind == TOKEN_OPERATOR && chat_text_is(p->next->text, operation);
}

bool chat_is_name(const chat_parser *p, const char *name) {
    return p->next->kind == TOKEN_NAME && chat_text_is(p->next->text, name);
}

bool chat_take_operator(chat_parser *p, const char *operation) {
    const bool there = chat_is_operator(p, operation);
    p->next += there;
    return there;
}

bool chat_take_name(chat_parser *p, const char *name) {
    const bool there = chat_is_name(p, name);
    p->next += there;
    return there;
}

mst_status chat_expect_operator(chat_parser *p, const char *operation) {
    char wanted[16];
    if (chat_take_operator(p, operation)) return MST_OK;
    snprintf(wanted, sizeof wanted, "'%s'", operation);
    return chat_unexpected(p, wanted);
}

mst_status chat_expect_name(chat_parser *p, chat_text *name_out) {
    if (p->next->kind != TOKEN_NAME) return chat_unexpected(p, "a name");
    *name_out = (p->next++)->text;
    return MST_OK;
}

static mst_status expect(chat_parser *p, chat_token_kind kind, const char *wanted) {
    if (p->next->kind != kind) return chat_unexpected(p, wanted);
    p->next++;
    return MST_OK;
}

/* ---- statements ---- */

/* Statements up to a tag that begins with one of the names; p->next is that name then. `begin` is what they belong to;
 * NULL: the whole template. */
static mst_status parse_body(chat_parser *p, const chat_token *begin, const char *const *ends,
                             chat_nodes *body_out);

/* A body into a node, with its depth. */
static mst_status parse_body_of(chat_parser *p, chat_node *node, const chat_token *begin,
                                const char *const *ends, chat_nodes *body_out) {
    mst_status status = MST_OK;
    MST_TRY(parse_body(p, begin, ends, body_out));
    for (size_t i = 0; i < body_out->count; i++) MST_TRY(chat_node_link(p, node, body_out->at[i]));
done:
    return status;
}

/* {% if %}, and {% elif %} as an if alone in what is otherwise done. `begin` is the word. */
static mst_status parse_if(chat_parser *p, const chat_token *begin, chat_node **node_out) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    mst_status status = MST_OK;
    chat_node *first = NULL, *node = NULL, *chain[NESTING_MAX];
    size_t links = 0;
    do {
        MST_TRY(chat_node_new(p, NODE_IF, p->next, &node));
        if (first == NULL)
            first = node;
        else
            MST_TRY(chat_nodes_add(p, &chain[links - 1]->otherwise, node));
        if (links == NESTING_MAX) {
            status = chat_refuse(p, p->next, MST_EUNSUPPORTED, "more than %d {%% elif %%}", NESTING_MAX);
            goto done;
        }
        chain[links++] = node;
        MST_TRY(chat_parse_expression(p, true, &node->a));
        MST_TRY(chat_node_link(p, node, node->a));
        MST_TRY(expect(p, TOKEN_BLOCK_END, "%}"));
        MST_TRY(parse_body_of(p, node, begin, ends, &node->body));
    } while (chat_take_name(p, "elif"));
    if (chat_take_name(p, "else")) {
        MST_TRY(expect(p, TOKEN_BLOCK_END, "%}"));
        MST_TRY(parse_body_of(p, node, begin, last, &node->otherwise));
    }
    p->next++; /* endif */
    while (--links > 0) MST_TRY(chat_node_link(p, chain[links - 1], chain[links]));
    *node_out = first;
done:
    return status;
}

static mst_status parse_for(chat_parser *p, const chat_token *begin, chat_node **node_out) {
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    mst_status status = MST_OK;
    chat_node *node = NULL;
    MST_TRY(chat_node_new(p, NODE_FOR, begin, &node));
    MST_TRY(chat_expect_name(p, &node->name));
    if (chat_take_operator(p, ",")) MST_TRY(chat_expect_name(p, &node->second));
    if (!chat_take_name(p, "in")) {
        status = chat_unexpected(p, "'in'");
        goto done;
    }
    MST_TRY(chat_parse_expression(p, true, &node->a));
    MST_TRY(chat_node_link(p, node, node->a));
    if (chat_take_name(p, "if")) {
        MST_TRY(chat_parse_expression(p, false, &node->b));
        MST_TRY(chat_node_link(p, node, node->b));
    }
    if (chat_is_name(p, "recursive")) {
        status = chat_refuse(p, p->next, MST_EUNSUPPORTED, "a recursive loop is not supported");
        goto done;
    }
    MST_TRY(expect(p, TOKEN_BLOCK_END, "%}"));
    p->scopes++;
    p->loops++;
    status = parse_body_of(p, node, begin, ends, &node->body);
    p->loops--;
    if (status == MST_OK && chat_take_name(p, "else")) {
        status = expect(p, TOKEN_BLOCK_END, "%}");
        if (status == MST_OK) status = parse_body_of(p, node, begin, last, &node->otherwise);
    }
    p->scopes--;
    MST_TRY(status);
    p->next++; /* endfor */
    *node_out = node;
done:
    return status;
}

/* Jinja makes a function of it. */
mst_status chat_parse_apart(chat_parser *p, chat_node *node, const chat_token *begin,
                            const char *const *ends) {
    mst_status status = MST_OK;
    const size_t loops = p->loops;
    const bool outer = p->apart;
    MST_TRY(expect(p, TOKEN_BLOCK_END, "%}"));
    p->loops = 0;
    p->apart = true;
    p->scopes++;
    status = parse_body_of(p, node, begin, ends, &node->body);
    p->scopes--;
    p->apart = outer;
    p->loops = loops;
    if (status == MST_OK) p->next++; /* the end's name */
done:
    return status;
}

static mst_status parse_set(chat_parser *p, const chat_token *begin, chat_node **node_out) {
    static const char *const ends[] = {"endset", NULL};
    mst_status status = MST_OK;
    chat_node *node = NULL;
    MST_TRY(chat_node_new(p, NODE_SET, begin, &node));
    MST_TRY(chat_expect_name(p, &node->name));
    if (chat_take_operator(p, ".")) {
        node->kind = NODE_SET_FIELD;
        MST_TRY(chat_expect_name(p, &node->field));
    }
    if (node->kind == NODE_SET && p->next->kind == TOKEN_BLOCK_END) {
        node->kind = NODE_SET_BLOCK;
        MST_TRY(chat_parse_apart(p, node, begin, ends));
    } else {
        MST_TRY(chat_expect_operator(p, "="));
        MST_TRY(chat_parse_expression(p, false, &node->a));
        MST_TRY(chat_node_link(p, node, node->a));
    }
    *node_out = node;
done:
    return status;
}

static mst_status parse_generation(chat_parser *p, const chat_token *begin, chat_node **node_out) {
    static const char *const ends[] = {"endgeneration", NULL};
    mst_status status = MST_OK;
    if (p->apart)
        return chat_refuse(p, begin, MST_EUNSUPPORTED,
                           "{%% generation %%} within {%% set %%}, a macro or another has no place");
    MST_TRY(chat_node_new(p, NODE_GENERATION, begin, node_out));
    MST_TRY(chat_parse_apart(p, *node_out, begin, ends));
    p->has_generation = true;
done:
    return status;
}

/* A tag from its word on, without its %}. */
static mst_status parse_statement(chat_parser *p, chat_node **node_out) {
    const chat_token *begin = p->next;
    chat_text word;
    mst_status status = chat_expect_name(p, &word);
    if (status != MST_OK) return status;
    if (chat_text_is(word, "if")) return parse_if(p, begin, node_out);
    if (chat_text_is(word, "for")) return parse_for(p, begin, node_out);
    if (chat_text_is(word, "set")) return parse_set(p, begin, node_out);
    if (chat_text_is(word, "generation")) return parse_generation(p, begin, node_out);
    if (chat_text_is(word, "macro")) return chat_parse_macro(p, begin, node_out);
    const bool breaks = chat_text_is(word, "break");
    if (!breaks && !chat_text_is(word, "continue"))
        return chat_refuse(p, begin, MST_EUNSUPPORTED, "the statement '%.*s' is not supported",
                           (int)(word.count < 40 ? word.count : 40), word.at);
    if (p->loops == 0)
        return chat_refuse(p, begin, MST_EFORMAT, "'%.*s' outside of a loop", (int)word.count, word.at);
    return chat_node_new(p, breaks ? NODE_BREAK : NODE_CONTINUE, begin, node_out);
}

static bool is_end(const chat_token *tag, const char *const *ends) {
    for (size_t i = 0; ends != NULL && ends[i] != NULL; i++)
        if (tag->kind == TOKEN_NAME && chat_text_is(tag->text, ends[i])) return true;
    return false;
}

/* What begins at the next token: a text, {{ }}, {% %}. */
static mst_status parse_part(chat_parser *p, chat_node **node_out) {
    mst_status status = MST_OK;
    const chat_token *t = p->next++;
    if (t->kind == TOKEN_TEXT) {
        MST_TRY(chat_node_new(p, NODE_TEXT, t, node_out));
        (*node_out)->constant = chat_string(t->text);
    } else if (t->kind == TOKEN_PRINT) {
        chat_node *node = NULL;
        MST_TRY(chat_node_new(p, NODE_PRINT, t, &node));
        MST_TRY(chat_parse_expression(p, false, &node->a));
        MST_TRY(chat_node_link(p, node, node->a));
        MST_TRY(expect(p, TOKEN_PRINT_END, "}}"));
        *node_out = node;
    } else {
        MST_TRY(parse_statement(p, node_out));
        MST_TRY(expect(p, TOKEN_BLOCK_END, "%}"));
    }
done:
    return status;
}

static mst_status parse_body(chat_parser *p, const chat_token *begin, const char *const *ends,
                             chat_nodes *body_out) {
    mst_status status = MST_OK;
    if (++p->nesting > NESTING_MAX) {
        status =
            chat_refuse(p, p->next, MST_EUNSUPPORTED, "more than %d statements in each other", NESTING_MAX);
        goto done;
    }
    for (;;) {
        chat_node *node = NULL;
        if (p->next->kind == TOKEN_END) {
            if (begin != NULL)
                status = chat_refuse(p, begin, MST_EFORMAT, "{%% %.*s %%} has no end", (int)begin->text.count,
                                     begin->text.at);
            goto done;
        }
        if (p->next->kind == TOKEN_BLOCK && is_end(p->next + 1, ends)) {
            p->next++;
            goto done;
        }
        MST_TRY(parse_part(p, &node));
        MST_TRY(chat_nodes_add(p, body_out, node));
    }
done:
    p->nesting--;
    return status;
}

mst_status chat_parse(chat_parser *p, chat_nodes *body_out) {
    const mst_status status = chat_find_macros(p);
    return status == MST_OK ? parse_body(p, NULL, NULL, body_out) : status;
}
