/* What a template may call: filters, tests, methods of texts and mappings, functions. A name that stands in none of these
 * tables is refused when the template is read. Private to the room. */
#ifndef CHAT_CALLABLE_H
#define CHAT_CALLABLE_H

#include "render.h"

enum { CHAT_ARGUMENTS_MAX = 6 };

/* The arguments by their places; those not given are KIND_UNDEFINED with given[i] false. */
typedef struct chat_arguments {
    chat_value at[CHAT_ARGUMENTS_MAX];
    bool given[CHAT_ARGUMENTS_MAX];
} chat_arguments;

/** @param self what a filter, test or method is applied to; NULL for a function */
typedef mst_status chat_call_fn(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                                chat_value *value_out);

typedef struct chat_callable {
    const char *name;
    const char *arguments; /* their names, blanks between them, in order */
    unsigned required;     /* so many of them at least */
    chat_call_fn *call;
} chat_callable;

/** The entry of a name; NULL: it is not supported. */
const chat_callable *chat_find_filter(chat_text name);
const chat_callable *chat_find_test(chat_text name);
const chat_callable *chat_find_method(chat_text name);
const chat_callable *chat_find_function(chat_text name);
const chat_callable *chat_find_in(const chat_callable *table, size_t count, chat_text name);

/** The place of an argument by its name; -1: there is none. */
int chat_argument_place(const chat_callable *callable, chat_text name);
size_t chat_argument_count(const chat_callable *callable);

/** Appends Python's json.dumps of a value. @retval MST_EUNSUPPORTED what JSON has not */
typedef struct chat_json_style {
    bool ascii, sorted;
    int indent; /* -1: on one line */
    chat_text comma, colon;
} chat_json_style;
mst_status chat_write_json(chat_renderer *r, const chat_value *value, const chat_json_style *style,
                           size_t depth, chat_buffer *to);

#endif
