/* A template as a tree. Private to the room. */
#ifndef CHAT_TREE_H
#define CHAT_TREE_H

#include "value.h"

typedef enum chat_node_kind {
    /* statements */
    NODE_TEXT,       /* constant: written as it is */
    NODE_PRINT,      /* a */
    NODE_IF,         /* a; body; otherwise */
    NODE_FOR,        /* names in a, if b; body; otherwise: what is done for nothing */
    NODE_SET,        /* name = a */
    NODE_SET_FIELD,  /* name.field = a */
    NODE_SET_BLOCK,  /* name = the text of body */
    NODE_GENERATION, /* body: what the assistant wrote */
    NODE_MACRO,      /* name(parameters): body */
    NODE_BREAK,
    NODE_CONTINUE,
    /* expressions */
    NODE_CONSTANT,
    NODE_NAME,
    NODE_LIST,       /* body: its elements */
    NODE_DICT,       /* body: keys and values by turns */
    NODE_FIELD,      /* a.name */
    NODE_ITEM,       /* a[b] */
    NODE_SLICE,      /* a[b:c:d], each of them may be NULL */
    NODE_CHOICE,     /* a if b else c; c may be NULL */
    NODE_OR,         /* a or b */
    NODE_AND,        /* a and b */
    NODE_NOT,        /* not a */
    NODE_COMPARE,    /* a, and body: what it is compared with in turn, as NODE_OPERAND */
    NODE_OPERAND,    /* operation a */
    NODE_ARITHMETIC, /* a operation b */
    NODE_MINUS,      /* -a */
    NODE_PLUS,       /* +a */
    NODE_CONCAT,     /* a ~ b */
    NODE_FILTER,     /* a | name(body) */
    NODE_TEST,       /* a is name(body) */
    NODE_METHOD,     /* a.name(body) */
    NODE_FUNCTION,   /* name(body) */
    NODE_MAKE_DICT,  /* namespace(...) and dict(...): body: keys and values by turns */
    NODE_MACRO_CALL, /* name(body): a macro's text; body: NODE_ARGUMENT */
    /* parts of these */
    NODE_PARAMETER, /* name, or name = a */
    NODE_ARGUMENT   /* a, or name = a */
} chat_node_kind;

typedef enum chat_operation {
    OP_EQUAL,
    OP_UNEQUAL,
    OP_LESS,
    OP_LESS_EQUAL,
    OP_GREATER,
    OP_GREATER_EQUAL,
    OP_IN,
    OP_NOT_IN,
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_FLOOR,
    OP_MODULO
} chat_operation;

typedef struct chat_node chat_node;

typedef struct chat_nodes {
    chat_node **at; /* an element may be NULL where an argument was not given */
    size_t count, room;
} chat_nodes;

struct chat_callable;

struct chat_node {
    chat_node_kind kind;
    chat_operation operation;
    uint32_t line, column;
    uint32_t depth;                /* of the tree below it */
    bool changes;                  /* NODE_MAKE_DICT: a namespace */
    chat_text name, field, second; /* second: the other name of `for key, value in` */
    chat_value constant;
    chat_node *a, *b, *c, *d;
    chat_nodes body, otherwise, parameters;
    const struct chat_callable *callable;
};

#endif
