/* Expressions, in Jinja's order of precedence: choice, or, and, not, comparison, + and -, ~, * and /, signs, then what follows
 * a value (.name, [item], (call), |filter, is test). */
#include <string.h>

#include "callable.h"
#include "parser.h"

enum { DEPTH_MAX = 100 /* expressions in each other */ };

static mst_status parse_or(chat_parser *p, chat_node **node_out);
static mst_status parse_unary(chat_parser *p, bool with_filter, chat_node **node_out);
static mst_status parse_postfix(chat_parser *p, chat_node **node);

static int shown(chat_text text) {
    return (int)(text.count < 40 ? text.count : 40);
}

/* A node with two children. */
static mst_status join(chat_parser *p, chat_node_kind kind, const chat_token *at, chat_node *a, chat_node *b,
                       chat_node **node_out) {
    mst_status status = MST_OK;
    chat_node *node = NULL;
    MST_TRY(chat_node_new(p, kind, at, &node));
    node->a = a;
    node->b = b;
    MST_TRY(chat_node_link(p, node, a));
    MST_TRY(chat_node_link(p, node, b));
    *node_out = node;
done:
    return status;
}

static mst_status constant(chat_parser *p, const chat_token *at, chat_value value, chat_node **node_out) {
    mst_status status = chat_node_new(p, NODE_CONSTANT, at, node_out);
    if (status == MST_OK) (*node_out)->constant = value;
    return status;
}

/* ---- values ---- */

/* Elements up to the bracket that closes. */
static mst_status parse_elements(chat_parser *p, chat_node *node, const char *close) {
    mst_status status = MST_OK;
    chat_node *element;
    while (!chat_take_operator(p, close)) {
        if (node->body.count > 0) MST_TRY(chat_expect_operator(p, ","));
        if (chat_take_operator(p, close)) break; /* a comma before it */
        MST_TRY(chat_parse_expression(p, false, &element));
        MST_TRY(chat_nodes_add(p, &node->body, element));
        MST_TRY(chat_node_link(p, node, element));
    }
done:
    return status;
}

static mst_status parse_pair(chat_parser *p, chat_node *node, chat_node *key) {
    mst_status status = MST_OK;
    chat_node *value = NULL;
    MST_TRY(chat_parse_expression(p, false, &value));
    MST_TRY(chat_nodes_add(p, &node->body, key));
    MST_TRY(chat_nodes_add(p, &node->body, value));
    MST_TRY(chat_node_link(p, node, key));
    MST_TRY(chat_node_link(p, node, value));
done:
    return status;
}

static mst_status parse_dict(chat_parser *p, chat_node *node) {
    mst_status status = MST_OK;
    chat_node *key = NULL;
    while (!chat_take_operator(p, "}")) {
        if (node->body.count > 0) MST_TRY(chat_expect_operator(p, ","));
        if (chat_take_operator(p, "}")) break;
        MST_TRY(chat_parse_expression(p, false, &key));
        MST_TRY(chat_expect_operator(p, ":"));
        MST_TRY(parse_pair(p, node, key));
    }
done:
    return status;
}

/* In parentheses: an expression, or a tuple, which is used as a list. */
static mst_status parse_parentheses(chat_parser *p, const chat_token *at, chat_node **node_out) {
    mst_status status = MST_OK;
    chat_node *list = NULL;
    if (!chat_is_operator(p, ")")) MST_TRY(chat_parse_expression(p, false, node_out));
    if (*node_out != NULL && chat_take_operator(p, ")")) goto done;
    MST_TRY(chat_node_new(p, NODE_LIST, at, &list));
    if (*node_out != NULL) {
        MST_TRY(chat_nodes_add(p, &list->body, *node_out));
        MST_TRY(chat_node_link(p, list, *node_out));
    }
    MST_TRY(parse_elements(p, list, ")"));
    *node_out = list;
done:
    return status;
}

static bool among(chat_text name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (chat_text_is(name, names[i])) return true;
    return false;
}

/* What Jinja offers under these names is not there; to take them for variables without a value would be a guess. */
static const char *const refused_names[] = {"lipsum", "cycler",  "joiner", "self",   "super",
                                            "caller", "varargs", "kwargs", "gettext"};
static const char *const words[] = {"if", "else", "not", "and", "or", "in", "is"};

static mst_status parse_name(chat_parser *p, const chat_token *t, chat_node **node_out) {
    const chat_text name = t->text;
    if (chat_text_is(name, "true") || chat_text_is(name, "True"))
        return constant(p, t, chat_bool(true), node_out);
    if (chat_text_is(name, "false") || chat_text_is(name, "False"))
        return constant(p, t, chat_bool(false), node_out);
    if (chat_text_is(name, "none") || chat_text_is(name, "None"))
        return constant(p, t, chat_none(), node_out);
    if (among(name, words, sizeof words / sizeof *words)) {
        p->next = t;
        return chat_unexpected(p, "a value");
    }
    if (among(name, refused_names, sizeof refused_names / sizeof *refused_names))
        return chat_refuse(p, t, MST_EUNSUPPORTED, "'%.*s' is not supported", shown(name), name.at);
    mst_status status = chat_node_new(p, NODE_NAME, t, node_out);
    if (status == MST_OK) (*node_out)->name = name;
    return status;
}

/* Texts that stand behind one another are one. */
static mst_status parse_text(chat_parser *p, const chat_token *t, chat_node **node_out) {
    chat_text whole = t->text;
    while (p->next->kind == TOKEN_STRING) {
        const chat_text more = (p->next++)->text;
        char *both = chat_arena_take(p->arena, whole.count + more.count + 1);
        if (both == NULL) return mst_error(MST_ENOMEM, "%s: out of memory for its texts", p->name);
        memcpy(both, whole.at, whole.count);
        memcpy(both + whole.count, more.at, more.count);
        whole = (chat_text){both, whole.count + more.count};
    }
    return constant(p, t, chat_string(whole), node_out);
}

static mst_status parse_primary(chat_parser *p, chat_node **node_out) {
    mst_status status = MST_OK;
    const chat_token *t = p->next++;
    *node_out = NULL;
    switch (t->kind) {
    case TOKEN_NAME:
        return parse_name(p, t, node_out);
    case TOKEN_STRING:
        return parse_text(p, t, node_out);
    case TOKEN_INTEGER:
        return constant(p, t, chat_int(t->integer), node_out);
    case TOKEN_REAL:
        return constant(p, t, (chat_value){.kind = KIND_REAL, .real = t->real}, node_out);
    default:
        break;
    }
    p->next = t;
    if (chat_take_operator(p, "(")) return parse_parentheses(p, t, node_out);
    if (!chat_is_operator(p, "[") && !chat_is_operator(p, "{")) return chat_unexpected(p, "a value");
    const bool list = chat_text_is((p->next++)->text, "[");
    MST_TRY(chat_node_new(p, list ? NODE_LIST : NODE_DICT, t, node_out));
    MST_TRY(list ? parse_elements(p, *node_out, "]") : parse_dict(p, *node_out));
done:
    return status;
}

/* ---- calls ---- */

/* The place among the arguments of what is called, and the argument. */
static mst_status parse_argument(chat_parser *p, chat_node *node, size_t place) {
    mst_status status = MST_OK;
    const chat_token *t = p->next;
    const chat_callable *callable = node->callable;
    if (t->kind == TOKEN_NAME && t[1].kind == TOKEN_OPERATOR && chat_text_is(t[1].text, "=")) {
        const int found = chat_argument_place(callable, t->text);
        if (found < 0)
            return chat_refuse(p, t, MST_EUNSUPPORTED, "the argument '%.*s' of '%s' is not supported",
                               shown(t->text), t->text.at, callable->name);
        place = (size_t)found;
        p->next += 2;
    }
    if (place >= node->body.count)
        return chat_refuse(p, t, MST_EUNSUPPORTED, "'%s' with more than %zu arguments is not supported",
                           callable->name, node->body.count);
    if (node->body.at[place] != NULL)
        return chat_refuse(p, t, MST_EFORMAT, "argument %zu of '%s' is given twice", place + 1,
                           callable->name);
    MST_TRY(chat_parse_expression(p, false, &node->body.at[place]));
    MST_TRY(chat_node_link(p, node, node->body.at[place]));
done:
    return status;
}

static mst_status begin_arguments(chat_parser *p, chat_node *node) {
    mst_status status = MST_OK;
    for (size_t i = chat_argument_count(node->callable); i > 0; i--)
        MST_TRY(chat_nodes_add(p, &node->body, NULL));
done:
    return status;
}

static mst_status check_required(const chat_parser *p, const chat_node *node, const chat_token *at) {
    for (unsigned i = 0; i < node->callable->required; i++)
        if (node->body.at[i] == NULL)
            return chat_refuse(p, at, MST_EFORMAT, "'%s' wants %u argument%s", node->callable->name,
                               node->callable->required, node->callable->required == 1 ? "" : "s");
    return MST_OK;
}

/* (a, b, name=c), or nothing where nothing is wanted. */
static mst_status parse_arguments(chat_parser *p, chat_node *node, const chat_token *at) {
    mst_status status = MST_OK;
    size_t place = 0;
    MST_TRY(begin_arguments(p, node));
    if (chat_take_operator(p, "(")) {
        while (!chat_take_operator(p, ")")) {
            if (place > 0) MST_TRY(chat_expect_operator(p, ","));
            if (chat_take_operator(p, ")")) break;
            MST_TRY(parse_argument(p, node, place++));
        }
    }
    MST_TRY(check_required(p, node, at));
done:
    return status;
}

/* namespace(name=value, ...) and dict(name=value, ...) */
static mst_status parse_make_dict(chat_parser *p, const chat_token *at, bool changes, chat_node **node_out) {
    mst_status status = MST_OK;
    chat_node *node = NULL, *key = NULL;
    MST_TRY(chat_node_new(p, NODE_MAKE_DICT, at, &node));
    node->changes = changes;
    MST_TRY(chat_expect_operator(p, "("));
    while (!chat_take_operator(p, ")")) {
        chat_text name;
        if (node->body.count > 0) MST_TRY(chat_expect_operator(p, ","));
        const chat_token *t = p->next;
        MST_TRY(chat_expect_name(p, &name));
        MST_TRY(chat_expect_operator(p, "="));
        MST_TRY(constant(p, t, chat_string(name), &key));
        MST_TRY(parse_pair(p, node, key));
    }
    *node_out = node;
done:
    return status;
}

/* A name or a field before parentheses. */
static mst_status parse_call(chat_parser *p, chat_node **node) {
    mst_status status = MST_OK;
    chat_node *called = *node;
    const chat_token at = {.line = called->line, .column = called->column};
    const bool method = called->kind == NODE_FIELD;
    if (!method && called->kind != NODE_NAME)
        return chat_refuse(p, p->next, MST_EUNSUPPORTED, "a call of what is neither a name nor a method");
    if (!method && chat_has_macro(p, called->name)) return chat_parse_macro_call(p, called);
    const bool changes = chat_text_is(called->name, "namespace");
    if (!method && (changes || chat_text_is(called->name, "dict")))
        return parse_make_dict(p, &at, changes, node);
    const chat_callable *found = method ? chat_find_method(called->name) : chat_find_function(called->name);
    if (found == NULL)
        return chat_refuse(p, &at, MST_EUNSUPPORTED, "the %s '%.*s' is not supported",
                           method ? "method" : "function", shown(called->name), called->name.at);
    called->kind = method ? NODE_METHOD : NODE_FUNCTION;
    called->callable = found;
    MST_TRY(parse_arguments(p, called, &at));
done:
    return status;
}

/* ---- what follows a value ---- */

/* A bound of a slice, or nothing. */
static mst_status parse_bound(chat_parser *p, chat_node *node, chat_node **bound_out) {
    mst_status status = MST_OK;
    if (chat_is_operator(p, ":") || chat_is_operator(p, "]")) return MST_OK;
    MST_TRY(chat_parse_expression(p, false, bound_out));
    MST_TRY(chat_node_link(p, node, *bound_out));
done:
    return status;
}

/* Behind a [. */
static mst_status parse_item(chat_parser *p, const chat_token *at, chat_node **node) {
    mst_status status = MST_OK;
    chat_node *item = NULL;
    MST_TRY(join(p, NODE_ITEM, at, *node, NULL, &item));
    MST_TRY(parse_bound(p, item, &item->b));
    if (chat_take_operator(p, ":")) {
        item->kind = NODE_SLICE;
        MST_TRY(parse_bound(p, item, &item->c));
        if (chat_take_operator(p, ":")) MST_TRY(parse_bound(p, item, &item->d));
    }
    if (item->kind == NODE_ITEM && item->b == NULL) {
        status = chat_unexpected(p, "a value");
        goto done;
    }
    MST_TRY(chat_expect_operator(p, "]"));
    *node = item;
done:
    return status;
}

static mst_status parse_field(chat_parser *p, const chat_token *at, chat_node **node) {
    mst_status status = MST_OK;
    chat_node *field = NULL;
    chat_text name;
    const chat_token *t = p->next;
    MST_TRY(chat_expect_name(p, &name));
    if (name.at[0] == '_') {
        status = chat_refuse(p, t, MST_EUNSUPPORTED, "the name '%.*s' begins with _", shown(name), name.at);
        goto done;
    }
    MST_TRY(join(p, NODE_FIELD, at, *node, NULL, &field));
    field->name = name;
    field->line = t->line;
    field->column = t->column;
    *node = field;
done:
    return status;
}

static mst_status parse_postfix(chat_parser *p, chat_node **node) {
    mst_status status = MST_OK;
    for (;;) {
        const chat_token *t = p->next;
        if (chat_take_operator(p, "."))
            MST_TRY(parse_field(p, t, node));
        else if (chat_take_operator(p, "["))
            MST_TRY(parse_item(p, t, node));
        else if (chat_is_operator(p, "("))
            MST_TRY(parse_call(p, node));
        else
            break;
    }
done:
    return status;
}

static mst_status parse_filter(chat_parser *p, chat_node **node) {
    mst_status status = MST_OK;
    const chat_token *t = p->next;
    chat_text name;
    MST_TRY(chat_expect_name(p, &name));
    const chat_callable *found = chat_find_filter(name);
    if (found == NULL) {
        status =
            chat_refuse(p, t, MST_EUNSUPPORTED, "the filter '%.*s' is not supported", shown(name), name.at);
        goto done;
    }
    MST_TRY(join(p, NODE_FILTER, t, *node, NULL, node));
    (*node)->callable = found;
    MST_TRY(parse_arguments(p, *node, t));
done:
    return status;
}

/* Whether a test's argument stands here without parentheses. */
static bool is_bare_argument(const chat_parser *p) {
    if (p->next->kind == TOKEN_NAME)
        return !chat_is_name(p, "else") && !chat_is_name(p, "or") && !chat_is_name(p, "and") &&
               !chat_is_name(p, "is") && !chat_is_name(p, "if") && !chat_is_name(p, "in") &&
               !chat_is_name(p, "not");
    return p->next->kind == TOKEN_STRING || p->next->kind == TOKEN_INTEGER || p->next->kind == TOKEN_REAL ||
           chat_is_operator(p, "[") || chat_is_operator(p, "{");
}

static mst_status parse_test(chat_parser *p, chat_node **node) {
    mst_status status = MST_OK;
    const bool negated = chat_take_name(p, "not");
    const chat_token *t = p->next;
    chat_text name;
    MST_TRY(chat_expect_name(p, &name));
    const chat_callable *found = chat_find_test(name);
    if (found == NULL) {
        status =
            chat_refuse(p, t, MST_EUNSUPPORTED, "the test '%.*s' is not supported", shown(name), name.at);
        goto done;
    }
    MST_TRY(join(p, NODE_TEST, t, *node, NULL, node));
    (*node)->callable = found;
    if (!chat_is_operator(p, "(") && is_bare_argument(p)) {
        MST_TRY(begin_arguments(p, *node));
        if ((*node)->body.count == 0) {
            status = chat_unexpected(p, "the end of the test");
            goto done;
        }
        MST_TRY(parse_primary(p, &(*node)->body.at[0]));
        MST_TRY(parse_postfix(p, &(*node)->body.at[0]));
        MST_TRY(chat_node_link(p, *node, (*node)->body.at[0]));
        MST_TRY(check_required(p, *node, t));
    } else {
        MST_TRY(parse_arguments(p, *node, t));
    }
    if (negated) MST_TRY(join(p, NODE_NOT, t, *node, NULL, node));
done:
    return status;
}

static mst_status parse_filters(chat_parser *p, chat_node **node) {
    mst_status status = MST_OK;
    for (;;) {
        if (chat_take_operator(p, "|"))
            MST_TRY(parse_filter(p, node));
        else if (chat_take_name(p, "is"))
            MST_TRY(parse_test(p, node));
        else if (chat_is_operator(p, "("))
            MST_TRY(parse_call(p, node));
        else
            break;
    }
done:
    return status;
}

/* ---- operations ---- */

static mst_status parse_unary(chat_parser *p, bool with_filter, chat_node **node_out) {
    mst_status status = MST_OK;
    const chat_token *t = p->next;
    const bool minus = chat_is_operator(p, "-");
    if (++p->nesting > DEPTH_MAX) {
        status = chat_refuse(p, t, MST_EUNSUPPORTED, "more than %d expressions in each other", DEPTH_MAX);
        goto done;
    }
    if (chat_take_operator(p, "-") || chat_take_operator(p, "+")) {
        chat_node *operand = NULL;
        MST_TRY(parse_unary(p, false, &operand));
        MST_TRY(join(p, minus ? NODE_MINUS : NODE_PLUS, t, operand, NULL, node_out));
    } else {
        MST_TRY(parse_primary(p, node_out));
    }
    MST_TRY(parse_postfix(p, node_out));
    if (with_filter) MST_TRY(parse_filters(p, node_out));
    if (chat_is_operator(p, "**"))
        status = chat_refuse(p, p->next, MST_EUNSUPPORTED, "the operator '**' is not supported");
done:
    p->nesting--;
    return status;
}

typedef struct operator_name {
    const char *text;
    chat_operation operation;
} operator_name;

/* The operation that stands here, which is passed. */
static bool take_operation(chat_parser *p, const operator_name *names, size_t count,
                           chat_operation *operation_out) {
    for (size_t i = 0; i < count; i++) {
        if (!chat_take_operator(p, names[i].text)) continue;
        *operation_out = names[i].operation;
        return true;
    }
    return false;
}

typedef mst_status parse_fn(chat_parser *p, chat_node **node_out);

/* Operands with operations of one precedence between them, from the left. */
static mst_status parse_chain(chat_parser *p, const operator_name *names, size_t count, chat_node_kind kind,
                              parse_fn *operand, chat_node **node_out) {
    mst_status status = MST_OK;
    chat_operation operation = OP_ADD;
    chat_node *right = NULL;
    MST_TRY(operand(p, node_out));
    for (const chat_token *t = p->next; take_operation(p, names, count, &operation); t = p->next) {
        MST_TRY(operand(p, &right));
        MST_TRY(join(p, kind, t, *node_out, right, node_out));
        (*node_out)->operation = operation;
    }
done:
    return status;
}

static mst_status parse_signed(chat_parser *p, chat_node **node_out) {
    return parse_unary(p, true, node_out);
}

static mst_status parse_product(chat_parser *p, chat_node **node_out) {
    static const operator_name names[] = {
        {"*", OP_MULTIPLY}, {"//", OP_FLOOR}, {"/", OP_DIVIDE}, {"%", OP_MODULO}};
    return parse_chain(p, names, 4, NODE_ARITHMETIC, parse_signed, node_out);
}

static mst_status parse_concat(chat_parser *p, chat_node **node_out) {
    static const operator_name names[] = {{"~", OP_ADD}};
    return parse_chain(p, names, 1, NODE_CONCAT, parse_product, node_out);
}

static mst_status parse_sum(chat_parser *p, chat_node **node_out) {
    static const operator_name names[] = {{"+", OP_ADD}, {"-", OP_SUBTRACT}};
    return parse_chain(p, names, 2, NODE_ARITHMETIC, parse_concat, node_out);
}

static bool take_comparison(chat_parser *p, chat_operation *operation_out) {
    static const operator_name names[] = {{"==", OP_EQUAL},         {"!=", OP_UNEQUAL}, {"<=", OP_LESS_EQUAL},
                                          {">=", OP_GREATER_EQUAL}, {"<", OP_LESS},     {">", OP_GREATER}};
    if (take_operation(p, names, 6, operation_out)) return true;
    *operation_out = OP_IN;
    if (chat_take_name(p, "in")) return true;
    *operation_out = OP_NOT_IN;
    if (!chat_is_name(p, "not") || p->next[1].kind != TOKEN_NAME || !chat_text_is(p->next[1].text, "in"))
        return false;
    p->next += 2;
    return true;
}

static mst_status parse_comparison(chat_parser *p, chat_node **node_out) {
    mst_status status = MST_OK;
    chat_node *first = NULL, *right = NULL, *operand = NULL;
    chat_operation operation;
    const chat_token *t = p->next;
    MST_TRY(parse_sum(p, &first));
    *node_out = first;
    for (t = p->next; take_comparison(p, &operation); t = p->next) {
        if (*node_out == first) MST_TRY(join(p, NODE_COMPARE, t, first, NULL, node_out));
        MST_TRY(parse_sum(p, &right));
        MST_TRY(join(p, NODE_OPERAND, t, right, NULL, &operand));
        operand->operation = operation;
        MST_TRY(chat_nodes_add(p, &(*node_out)->body, operand));
        MST_TRY(chat_node_link(p, *node_out, operand));
    }
done:
    return status;
}

static mst_status parse_not(chat_parser *p, chat_node **node_out) {
    mst_status status = MST_OK;
    const chat_token *first = p->next;
    bool negated = false;
    while (chat_take_name(p, "not")) negated = !negated;
    const bool any = p->next != first;
    MST_TRY(parse_comparison(p, node_out));
    if (!any) goto done;
    MST_TRY(join(p, NODE_NOT, first, *node_out, NULL, node_out));
    if (!negated) MST_TRY(join(p, NODE_NOT, first, *node_out, NULL, node_out));
done:
    return status;
}

static mst_status parse_and(chat_parser *p, chat_node **node_out) {
    mst_status status = MST_OK;
    chat_node *right = NULL;
    MST_TRY(parse_not(p, node_out));
    for (const chat_token *t = p->next; chat_take_name(p, "and"); t = p->next) {
        MST_TRY(parse_not(p, &right));
        MST_TRY(join(p, NODE_AND, t, *node_out, right, node_out));
    }
done:
    return status;
}

static mst_status parse_or(chat_parser *p, chat_node **node_out) {
    mst_status status = MST_OK;
    chat_node *right = NULL;
    MST_TRY(parse_and(p, node_out));
    for (const chat_token *t = p->next; chat_take_name(p, "or"); t = p->next) {
        MST_TRY(parse_and(p, &right));
        MST_TRY(join(p, NODE_OR, t, *node_out, right, node_out));
    }
done:
    return status;
}

/* a if b else c; what follows else is a choice again, and so is what stands before a second `if`. */
static mst_status parse_choice(chat_parser *p, chat_node **node_out) {
    mst_status status = MST_OK;
    MST_TRY(parse_or(p, node_out));
    for (const chat_token *t = p->next; chat_take_name(p, "if"); t = p->next) {
        chat_node *condition = NULL;
        MST_TRY(parse_or(p, &condition));
        MST_TRY(join(p, NODE_CHOICE, t, *node_out, condition, node_out));
        if (!chat_take_name(p, "else")) continue;
        MST_TRY(chat_parse_expression(p, false, &(*node_out)->c));
        MST_TRY(chat_node_link(p, *node_out, (*node_out)->c));
    }
done:
    return status;
}

mst_status chat_parse_expression(chat_parser *p, bool plain, chat_node **node_out) {
    mst_status status = MST_OK;
    *node_out = NULL;
    if (++p->nesting > DEPTH_MAX)
        status =
            chat_refuse(p, p->next, MST_EUNSUPPORTED, "more than %d expressions in each other", DEPTH_MAX);
    else
        status = plain ? parse_or(p, node_out) : parse_choice(p, node_out);
    p->nesting--;
    return status;
}
