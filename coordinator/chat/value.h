/* What a template computes with: the values of Jinja that chat templates need. Private to the room. */
#ifndef CHAT_VALUE_H
#define CHAT_VALUE_H

#include <jansson.h>

#include "text.h"

typedef enum chat_kind {
    KIND_UNDEFINED,
    KIND_NONE,
    KIND_BOOL,
    KIND_INT,
    KIND_REAL,
    KIND_STRING,
    KIND_LIST,
    KIND_DICT,
    KIND_NAMESPACE,
    KIND_LOOP,
    KIND_MACRO,
    KIND_SAFE /* a text that the filter safe has marked: + would escape what it is added to */
} chat_kind;

typedef struct chat_value chat_value;

typedef struct chat_pair chat_pair;

/* A mapping of texts in the order of insertion; a namespace is one that changes. */
typedef struct chat_dict {
    chat_pair *at;
    size_t count, room;
} chat_dict;

struct chat_loop;
struct chat_node;

/* Lists, dicts and texts lie in an arena and never change once made, so values may share them. */
struct chat_value {
    chat_kind kind;
    union {
        bool truth;
        int64_t integer;
        double real;
        chat_text text; /* KIND_STRING, KIND_SAFE; of KIND_UNDEFINED the name that has no value */
        struct {
            chat_value *at;
            size_t count;
        } list;
        chat_dict *dict; /* KIND_DICT, KIND_NAMESPACE */
        const struct chat_loop *loop;
        const struct chat_node *macro;
    };
};

struct chat_pair {
    chat_text key;
    chat_value value;
};

enum { CHAT_VALUE_DEPTH = 200 /* of lists and dicts in each other */ };

/** The kind in words, for messages: "a list". */
const char *chat_kind_name(chat_kind kind);

chat_value chat_none(void);
chat_value chat_bool(bool truth);
chat_value chat_int(int64_t integer);
chat_value chat_string(chat_text text);
chat_value chat_undefined(chat_text name);

bool chat_is_true(const chat_value *value);
bool chat_is_number(const chat_value *value); /* a truth counts, as in Python */
double chat_real_of(const chat_value *value);

/** Python's ==. @param depth 0 @param steps that may be taken; each comparison takes one
 * @retval MST_EUNSUPPORTED nested too deeply, no step left */
mst_status chat_equal(const chat_value *a, const chat_value *b, size_t depth, uint64_t *steps,
                      bool *equal_out);

/** The value of a key; NULL: there is none. */
const chat_value *chat_dict_get(const chat_dict *dict, chat_text key);
/** Sets a key, behind the others where it is new. @retval MST_ENOMEM the arena is full */
mst_status chat_dict_set(chat_dict *dict, chat_text key, const chat_value *value, chat_arena *arena);

/** Values of JSON; texts are copied. @param depth 0 @retval MST_EUNSUPPORTED nested too deeply; MST_ENOMEM */
mst_status chat_value_of_json(const json_t *json, size_t depth, chat_arena *arena, chat_value *value_out);

/** Python's str of a number, a truth or None. @param buffer [32] */
chat_text chat_number_text(const chat_value *value, char *buffer);

#endif
