/* Macros, and their calls. */
#include "callable.h"
#include "parser.h"

enum { MACROS_MAX = 256 };

static int shown(chat_text text) {
    return (int)(text.count < 40 ? text.count : 40);
}

static const chat_node *find_name(const chat_nodes *nodes, chat_text name) {
    for (size_t i = 0; i < nodes->count; i++)
        if (chat_text_same(nodes->at[i]->name, name)) return nodes->at[i];
    return NULL;
}

bool chat_has_macro(const chat_parser *p, chat_text name) {
    return find_name(&p->macros, name) != NULL;
}

mst_status chat_find_macros(chat_parser *p) {
    mst_status status = MST_OK;
    chat_node *node = NULL;
    for (const chat_token *t = p->next; t->kind != TOKEN_END; t++) {
        if (t->kind != TOKEN_BLOCK || t[1].kind != TOKEN_NAME || !chat_text_is(t[1].text, "macro") ||
            t[2].kind != TOKEN_NAME || chat_has_macro(p, t[2].text))
            continue;
        if (p->macros.count == MACROS_MAX) {
            status = chat_refuse(p, t, MST_EUNSUPPORTED, "more than %d macros", MACROS_MAX);
            goto done;
        }
        MST_TRY(chat_node_new(p, NODE_NAME, t, &node));
        node->name = t[2].text;
        MST_TRY(chat_nodes_add(p, &p->macros, node));
    }
done:
    return status;
}

/* ---- what a macro is made of ---- */

static mst_status parse_parameter(chat_parser *p, chat_node *macro) {
    mst_status status = MST_OK;
    chat_node *parameter = NULL;
    chat_text name;
    const chat_token *t = p->next;
    const chat_nodes *before = &macro->parameters;
    MST_TRY(chat_node_new(p, NODE_PARAMETER, t, &parameter));
    MST_TRY(chat_expect_name(p, &name));
    if (find_name(before, name) != NULL) {
        status = chat_refuse(p, t, MST_EFORMAT, "the parameter '%.*s' stands twice", shown(name), name.at);
        goto done;
    }
    parameter->name = name;
    if (chat_take_operator(p, "=")) {
        MST_TRY(chat_parse_expression(p, false, &parameter->a));
        MST_TRY(chat_node_link(p, parameter, parameter->a));
    } else if (before->count > 0 && before->at[before->count - 1]->a != NULL) {
        status =
            chat_refuse(p, t, MST_EFORMAT, "the parameter '%.*s' without a value stands behind one with one",
                        shown(name), name.at);
        goto done;
    }
    MST_TRY(chat_nodes_add(p, &macro->parameters, parameter));
    MST_TRY(chat_node_link(p, macro, parameter));
done:
    return status;
}

/* Macros see what is set outside of all loops and macros, so they stand there, too: then no other scope is to be remembered. */
static mst_status check_place(const chat_parser *p, const chat_token *begin, const chat_token *name) {
    if (p->scopes > 0)
        return chat_refuse(
            p, begin, MST_EUNSUPPORTED,
            "a macro within a loop, a macro, {%% set %%} or {%% generation %%} is not supported");
    if (chat_find_function(name->text) != NULL || chat_text_is(name->text, "namespace") ||
        chat_text_is(name->text, "dict"))
        return chat_refuse(p, name, MST_EUNSUPPORTED,
                           "a macro with the name of the function '%.*s' is not supported", shown(name->text),
                           name->text.at);
    return MST_OK;
}

mst_status chat_parse_macro(chat_parser *p, const chat_token *begin, chat_node **node_out) {
    static const char *const ends[] = {"endmacro", NULL};
    mst_status status = MST_OK;
    chat_node *node = NULL;
    MST_TRY(chat_node_new(p, NODE_MACRO, begin, &node));
    MST_TRY(check_place(p, begin, p->next));
    MST_TRY(chat_expect_name(p, &node->name));
    MST_TRY(chat_expect_operator(p, "("));
    for (bool first = true; !chat_take_operator(p, ")"); first = false) {
        if (!first) MST_TRY(chat_expect_operator(p, ","));
        MST_TRY(parse_parameter(p, node));
    }
    MST_TRY(chat_parse_apart(p, node, begin, ends));
    *node_out = node;
done:
    return status;
}

/* ---- calls ---- */

static mst_status parse_argument(chat_parser *p, chat_node *call) {
    mst_status status = MST_OK;
    chat_node *argument = NULL;
    const chat_token *t = p->next;
    const chat_nodes *before = &call->body;
    MST_TRY(chat_node_new(p, NODE_ARGUMENT, t, &argument));
    if (t->kind == TOKEN_NAME && t[1].kind == TOKEN_OPERATOR && chat_text_is(t[1].text, "=")) {
        argument->name = t->text;
        p->next += 2;
    } else if (before->count > 0 && before->at[before->count - 1]->name.count > 0) {
        status = chat_refuse(p, t, MST_EFORMAT, "an argument without a name stands behind one with a name");
        goto done;
    }
    MST_TRY(chat_parse_expression(p, false, &argument->a));
    MST_TRY(chat_node_link(p, argument, argument->a));
    MST_TRY(chat_nodes_add(p, &call->body, argument));
    MST_TRY(chat_node_link(p, call, argument));
done:
    return status;
}

mst_status chat_parse_macro_call(chat_parser *p, chat_node *node) {
    mst_status status = MST_OK;
    node->kind = NODE_MACRO_CALL;
    MST_TRY(chat_expect_operator(p, "("));
    while (!chat_take_operator(p, ")")) {
        if (node->body.count > 0) MST_TRY(chat_expect_operator(p, ","));
        if (chat_take_operator(p, ")")) break; /* a comma before it */
        MST_TRY(parse_argument(p, node));
    }
done:
    return status;
}
