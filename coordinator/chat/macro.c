/* Macros at work. */
#include <stdlib.h>

#include "render.h"

static int shown(chat_text text) {
    return (int)(text.count < 40 ? text.count : 40);
}

/* The place of a parameter; that of the one behind the last where there is none. */
static size_t place_of(const chat_node *macro, chat_text name) {
    size_t place = 0;
    while (place < macro->parameters.count && !chat_text_same(macro->parameters.at[place]->name, name))
        place++;
    return place;
}

/* The arguments in the order of the parameters, as the caller sees them. @param values [parameters] @param given [parameters] */
static mst_status evaluate_arguments(chat_renderer *r, const chat_node *call, const chat_node *macro,
                                     chat_value *values, bool *given) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < call->body.count; i++) {
        const chat_node *argument = call->body.at[i];
        const size_t place = argument->name.count > 0 ? place_of(macro, argument->name) : i;
        MST_CHECK(place < macro->parameters.count || argument->name.count > 0, MST_EFORMAT,
                  "the macro '%.*s' takes no more than %zu arguments", shown(macro->name), macro->name.at,
                  macro->parameters.count);
        MST_CHECK(place < macro->parameters.count && !given[place], MST_EFORMAT,
                  "the macro '%.*s' takes no argument '%.*s', or it is given twice", shown(macro->name),
                  macro->name.at, shown(argument->name), argument->name.at);
        MST_TRY(chat_evaluate(r, argument->a, &values[place]));
        given[place] = true;
    }
done:
    return status;
}

/* The parameters as variables of the macro; what a parameter has for a value of its own may speak of those before it. */
static mst_status set_parameters(chat_renderer *r, const chat_node *macro, chat_value *values,
                                 const bool *given) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < macro->parameters.count; i++) {
        const chat_node *parameter = macro->parameters.at[i];
        if (!given[i]) values[i] = chat_undefined(parameter->name);
        if (!given[i] && parameter->a != NULL) MST_TRY(chat_evaluate(r, parameter->a, &values[i]));
        MST_TRY(chat_variable_set(r, parameter->name, &values[i]));
    }
done:
    return status;
}

/* Runs the macro in a frame of its own. What surrounds its call is as before when it fails, too. */
static mst_status run_macro(chat_renderer *r, const chat_node *macro, chat_value *values, const bool *given,
                            chat_buffer *text) {
    chat_buffer *outer = r->out;
    const size_t count = r->variable_count, frame = r->frame, scope = chat_scope_begin(r);
    r->frame = count;
    r->out = text;
    mst_status status = set_parameters(r, macro, values, given);
    if (status == MST_OK) status = chat_run(r, &macro->body);
    r->out = outer;
    r->frame = frame;
    r->scope = scope;
    r->variable_count = count;
    return status;
}

mst_status chat_call_macro(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_buffer text = {0};
    void *values = NULL, *given = NULL;
    MST_TRY(chat_work(r, r->variable_count * CHAT_LOOK_BYTES));
    const chat_value *found = chat_variable_get(r, node->name);
    MST_CHECK(found != NULL && found->kind == KIND_MACRO, MST_EFORMAT, "'%.*s' is no macro here",
              shown(node->name), node->name.at);
    const chat_node *macro = found->macro;
    MST_TRY(chat_take(r, (macro->parameters.count + 1) * sizeof(chat_value), &values));
    MST_TRY(chat_take(r, (macro->parameters.count + 1) * sizeof(bool), &given));
    MST_TRY(evaluate_arguments(r, node, macro, values, given));
    MST_TRY(run_macro(r, macro, values, given, &text));
    MST_TRY(chat_join(r, &(chat_text){text.at, text.count}, 1, value_out));
done:
    free(text.at);
    return status;
}
