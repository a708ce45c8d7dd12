/* A template at work. Private to the room. */
#ifndef CHAT_RENDER_H
#define CHAT_RENDER_H

#include "tree.h"

/* A growing text. */
typedef struct chat_buffer {
    char *at; /* owned: free it */
    size_t count, room;
} chat_buffer;

/* What `loop` says. */
typedef struct chat_loop {
    size_t index, count; /* index from 0 */
    const chat_value *items;
} chat_loop;

typedef struct chat_variable {
    chat_text name;
    chat_value value;
} chat_variable;

/* A slice of the rendered text. */
typedef struct chat_span {
    size_t start, end;
} chat_span;

typedef struct chat_spans {
    chat_span *at; /* owned: free it */
    size_t count, room;
} chat_spans;

typedef enum chat_jump { JUMP_NONE, JUMP_BREAK, JUMP_CONTINUE } chat_jump;

typedef struct chat_renderer {
    bool
        tokens_known; /* names such as eos_token that have no variable have no value; otherwise they are not known */
    const char *date;         /* YYYY-MM-DD, for strftime_now; NULL: there is no such function */
    chat_arena arena;         /* of all values */
    chat_variable *variables; /* owned; the newest scope last */
    size_t variable_count, variable_room, scope; /* scope: where the innermost begins */
    size_t top;                                  /* how many of them are the template's own, outside of
                                                    loops and the like; where scope is 0, all */
    size_t frame; /* where those of a macro at work begin, which sees these and the template's; 0: none is */
    size_t depth; /* of parts at work in each other */
    chat_buffer *out; /* where text goes */
    chat_spans spans; /* of {% generation %} */
    chat_jump jump;
    uint64_t steps;          /* that are left */
    const chat_node *failed; /* the innermost part that could not be done */
} chat_renderer;

/** An empty one, with its limits. */
void chat_renderer_init(chat_renderer *r);
void chat_renderer_clear(chat_renderer *r);

/** Begins a scope; the caller restores what is behind it. Returns where the one around it begins. */
size_t chat_scope_begin(chat_renderer *r);
/** Sets a variable of the innermost scope. @retval MST_ENOMEM */
mst_status chat_variable_set(chat_renderer *r, chat_text name, const chat_value *value);
/** The value of a name that can be seen; NULL: there is none. */
const chat_value *chat_variable_get(const chat_renderer *r, chat_text name);
/** Goes into a part of the template, of which there may be only so many in each other; r->depth-- goes back.
 * @retval MST_EUNSUPPORTED too many */
mst_status chat_descend(chat_renderer *r);

/** Runs statements. @retval MST_EFORMAT, MST_EUNSUPPORTED, and r->failed says where; MST_ENOMEM */
mst_status chat_run(chat_renderer *r, const chat_nodes *body);
/** The value of an expression. @retval as chat_run */
mst_status chat_evaluate(chat_renderer *r, const chat_node *node, chat_value *value_out);

/** The text that a macro makes of its arguments. @param node NODE_MACRO_CALL @retval as chat_run */
mst_status chat_call_macro(chat_renderer *r, const chat_node *node, chat_value *value_out);

enum { CHAT_LOOK_BYTES = 32 /* that looking at a key or a variable counts as, see chat_work */ };

/** Counts work against the limit: `bytes` of text looked at or made. @retval MST_EUNSUPPORTED too much of it */
mst_status chat_work(chat_renderer *r, size_t bytes);
/** The work of stripping a text of the characters of a set. @retval as chat_work */
mst_status chat_strip_work(chat_renderer *r, chat_text text, chat_text set);
/** Memory that lives as long as the renderer. @retval MST_ENOMEM */
mst_status chat_take(chat_renderer *r, size_t bytes, void **memory_out);
/** A text of the parts, in the arena. @retval MST_ENOMEM, MST_EUNSUPPORTED too much work */
mst_status chat_join(chat_renderer *r, const chat_text *parts, size_t count, chat_value *value_out);
mst_status chat_buffer_add(chat_buffer *buffer, chat_text text);
/** What stands for a value in text. @param buffer [32] @retval MST_EUNSUPPORTED a list or a mapping */
mst_status chat_value_text(const chat_value *value, char *buffer, chat_text *text_out);
/** What `for`, `in`, `join` and `list` walk over: the elements of a list, the keys of a mapping, the characters of a text.
 * @retval MST_EFORMAT another kind */
mst_status chat_elements(chat_renderer *r, const chat_value *value, const chat_value **items_out,
                         size_t *count_out);
/** Python's `part in whole`. */
mst_status chat_contains(chat_renderer *r, const chat_value *whole, const chat_value *part, bool *in_out);
/** value.name, or value['name'] where not `dotted`, as Jinja finds them; undefined where there is none.
 * @retval MST_EFORMAT of an undefined value; MST_EUNSUPPORTED the name of a method that is not called */
mst_status chat_field(chat_renderer *r, const chat_value *value, chat_text name, bool dotted,
                      chat_value *value_out);
/** Python's < between numbers or texts. @retval MST_EFORMAT others */
mst_status chat_compare_values(const chat_value *a, const chat_value *b, int *order_out);

#endif
