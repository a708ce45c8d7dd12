/* Statements, variables, and the limits of a template at work. */
#include "render.h"

#include <stdlib.h>
#include <string.h>

enum {
    STEPS_MAX = 3000000,   /* parts evaluated, and blocks of text looked at */
    STEP_BYTES = 512,      /* of text that count as a step */
    ARENA_MAX = 256 << 20, /* bytes of values */
    OUTPUT_MAX = 16 << 20, /* bytes of text: millions of tokens, whose list takes more memory than they */
    VARIABLES_MAX = 4096,
    DEPTH_MAX =
        1000 /* parts at work in each other, some hundred bytes of stack each: a macro may call itself */
};

void chat_renderer_init(chat_renderer *r) {
    *r = (chat_renderer){.arena = {.limit = ARENA_MAX}, .steps = STEPS_MAX};
}

void chat_renderer_clear(chat_renderer *r) {
    chat_arena_clear(&r->arena);
    free(r->variables);
    free(r->spans.at);
    *r = (chat_renderer){0};
}

/* ---- limits ---- */

mst_status chat_work(chat_renderer *r, size_t bytes) {
    const uint64_t steps = 1 + bytes / STEP_BYTES;
    if (steps > r->steps)
        return mst_error(MST_EUNSUPPORTED, "the template has not ended after %d steps", STEPS_MAX);
    r->steps -= steps;
    return MST_OK;
}

mst_status chat_strip_work(chat_renderer *r, chat_text text, chat_text set) {
    size_t bytes;
    return chat_work(r, __builtin_mul_overflow(text.count, 1 + set.count / 16, &bytes) ? SIZE_MAX : bytes);
}

mst_status chat_take(chat_renderer *r, size_t bytes, void **memory_out) {
    *memory_out = chat_arena_take(&r->arena, bytes);
    if (*memory_out == NULL)
        return mst_error(MST_ENOMEM, "no memory for a template's values, or they need more than %d MiB",
                         ARENA_MAX >> 20);
    return chat_work(r, bytes);
}

mst_status chat_buffer_add(chat_buffer *buffer, chat_text text) {
    if (text.count == 0) return MST_OK;
    if (text.count > OUTPUT_MAX - buffer->count)
        return mst_error(MST_EUNSUPPORTED, "the template makes more than %d MiB of text", OUTPUT_MAX >> 20);
    if (text.count > buffer->room - buffer->count) {
        const size_t room = 2 * (buffer->count + text.count) + 256;
        char *grown = realloc(buffer->at, room);
        if (grown == NULL) return mst_error(MST_ENOMEM, "out of memory for %zu bytes of text", room);
        buffer->at = grown;
        buffer->room = room;
    }
    memcpy(buffer->at + buffer->count, text.at, text.count);
    buffer->count += text.count;
    return MST_OK;
}

mst_status chat_join(chat_renderer *r, const chat_text *parts, size_t count, chat_value *value_out) {
    size_t bytes = 0, used = 0;
    void *memory = NULL;
    for (size_t i = 0; i < count; i++) bytes += parts[i].count;
    mst_status status = chat_take(r, bytes + 1, &memory);
    if (status != MST_OK) return status;
    char *text = memory;
    for (size_t i = 0; i < count; used += parts[i++].count)
        if (parts[i].count > 0) memcpy(text + used, parts[i].at, parts[i].count);
    *value_out = chat_string((chat_text){text, bytes});
    return MST_OK;
}

mst_status chat_descend(chat_renderer *r) {
    if (++r->depth <= DEPTH_MAX) return MST_OK;
    return mst_error(MST_EUNSUPPORTED,
                     "more than %d parts of the template at work in each other: a macro without an end?",
                     DEPTH_MAX);
}

/* ---- variables ---- */

size_t chat_scope_begin(chat_renderer *r) {
    const size_t around = r->scope;
    if (around == 0) r->top = r->variable_count;
    r->scope = r->variable_count;
    return around;
}

mst_status chat_variable_set(chat_renderer *r, chat_text name, const chat_value *value) {
    for (size_t i = r->scope; i < r->variable_count; i++) {
        if (!chat_text_same(r->variables[i].name, name)) continue;
        r->variables[i].value = *value;
        return MST_OK;
    }
    if (r->variable_count == r->variable_room) {
        const size_t room = r->variable_room > 0 ? 2 * r->variable_room : 32;
        chat_variable *grown = room > VARIABLES_MAX ? NULL : realloc(r->variables, room * sizeof *grown);
        if (grown == NULL) return mst_error(MST_ENOMEM, "no memory for a template's variables, or too many");
        r->variables = grown;
        r->variable_room = room;
    }
    r->variables[r->variable_count++] = (chat_variable){name, *value};
    return MST_OK;
}

const chat_value *chat_variable_get(const chat_renderer *r, chat_text name) {
    for (size_t i = r->variable_count; i > 0; i--) {
        if (i == r->frame && (i = r->top) == 0) break; /* what lies between is the caller's */
        if (chat_text_same(r->variables[i - 1].name, name)) return &r->variables[i - 1].value;
    }
    return NULL;
}

/* Runs statements in a scope of their own: what they set is gone behind them. */
static mst_status run_apart(chat_renderer *r, const chat_nodes *body) {
    const size_t count = r->variable_count, scope = chat_scope_begin(r);
    mst_status status = chat_run(r, body);
    r->scope = scope;
    r->variable_count = count;
    return status;
}

/* ---- statements ---- */

static mst_status print(chat_renderer *r, const chat_value *value) {
    char buffer[32];
    chat_text text;
    mst_status status = chat_value_text(value, buffer, &text);
    if (status == MST_OK) status = chat_work(r, text.count);
    if (status == MST_OK) status = chat_buffer_add(r->out, text);
    return status;
}

static mst_status run_if(chat_renderer *r, const chat_node *node) {
    mst_status status = MST_OK;
    chat_value condition;
    MST_TRY(chat_evaluate(r, node->a, &condition));
    MST_TRY(chat_run(r, chat_is_true(&condition) ? &node->body : &node->otherwise));
done:
    return status;
}

/* The loop's names for one element. */
static mst_status set_targets(chat_renderer *r, const chat_node *node, const chat_value *item) {
    mst_status status = MST_OK;
    if (node->second.count == 0) return chat_variable_set(r, node->name, item);
    MST_CHECK(item->kind == KIND_LIST && item->list.count == 2, MST_EFORMAT,
              "the loop has two names, and an element is %s that is no pair", chat_kind_name(item->kind));
    MST_TRY(chat_variable_set(r, node->name, &item->list.at[0]));
    MST_TRY(chat_variable_set(r, node->second, &item->list.at[1]));
done:
    return status;
}

/* The elements for which the loop's condition holds. */
static mst_status select_items(chat_renderer *r, const chat_node *node, const chat_value **items,
                               size_t *count) {
    mst_status status = MST_OK;
    void *memory = NULL;
    size_t kept = 0;
    if (node->b == NULL) return MST_OK;
    MST_TRY(chat_take(r, (*count + 1) * sizeof(chat_value), &memory));
    chat_value *selected = memory, holds;
    for (size_t i = 0; i < *count; i++) {
        MST_TRY(set_targets(r, node, &(*items)[i]));
        MST_TRY(chat_evaluate(r, node->b, &holds));
        if (chat_is_true(&holds)) selected[kept++] = (*items)[i];
    }
    *items = selected;
    *count = kept;
done:
    return status;
}

static mst_status run_iterations(chat_renderer *r, const chat_node *node, const chat_value *items,
                                 size_t count) {
    mst_status status = MST_OK;
    void *memory = NULL;
    MST_TRY(chat_take(r, sizeof(chat_loop), &memory));
    chat_loop *loop = memory;
    const chat_value value = {.kind = KIND_LOOP, .loop = loop};
    *loop = (chat_loop){.count = count, .items = items};
    for (size_t i = 0; i < count && r->jump != JUMP_BREAK; i++) {
        r->jump = JUMP_NONE;
        r->variable_count = r->scope;
        loop->index = i;
        MST_TRY(chat_variable_set(r, chat_text_of("loop"), &value));
        MST_TRY(set_targets(r, node, &items[i]));
        MST_TRY(chat_run(r, &node->body));
    }
    r->jump = JUMP_NONE;
done:
    return status;
}

static mst_status run_for(chat_renderer *r, const chat_node *node) {
    mst_status status = MST_OK;
    const size_t scope = r->scope, variables = r->variable_count;
    chat_value value;
    const chat_value *items = NULL;
    size_t count = 0;
    MST_TRY(chat_evaluate(r, node->a, &value));
    MST_TRY(chat_elements(r, &value, &items, &count));
    chat_scope_begin(r);
    MST_TRY(select_items(r, node, &items, &count));
    r->variable_count = variables;
    if (count > 0)
        MST_TRY(run_iterations(r, node, items, count));
    else
        MST_TRY(run_apart(r, &node->otherwise));
done:
    r->scope = scope;
    r->variable_count = variables;
    return status;
}

static mst_status run_set_field(chat_renderer *r, const chat_node *node) {
    mst_status status = MST_OK;
    chat_value value;
    const chat_value *target = chat_variable_get(r, node->name);
    MST_CHECK(target != NULL && target->kind == KIND_NAMESPACE, MST_EFORMAT,
              "'%.*s' is no namespace: its field cannot be set", (int)node->name.count, node->name.at);
    chat_dict *dict = target->dict;
    MST_TRY(chat_evaluate(r, node->a, &value));
    MST_TRY(chat_dict_set(dict, node->field, &value, &r->arena));
done:
    return status;
}

static mst_status run_set_block(chat_renderer *r, const chat_node *node) {
    mst_status status = MST_OK;
    chat_buffer text = {0}, *outer = r->out;
    chat_value value;
    r->out = &text;
    status = run_apart(r, &node->body);
    r->out = outer;
    if (status != MST_OK) goto done;
    const chat_text part = {text.at, text.count};
    MST_TRY(chat_join(r, &part, 1, &value));
    MST_TRY(chat_variable_set(r, node->name, &value));
done:
    free(text.at);
    return status;
}

static mst_status run_generation(chat_renderer *r, const chat_node *node) {
    mst_status status = MST_OK;
    chat_spans *spans = &r->spans;
    const size_t start = r->out->count;
    MST_TRY(run_apart(r, &node->body));
    if (r->out->count == start) goto done;
    if (spans->count == spans->room) {
        const size_t room = 2 * spans->room + 16;
        chat_span *grown = realloc(spans->at, room * sizeof *grown);
        MST_CHECK(grown != NULL, MST_ENOMEM, "out of memory for %zu spans", room);
        spans->at = grown;
        spans->room = room;
    }
    spans->at[spans->count++] = (chat_span){start, r->out->count};
done:
    return status;
}

static mst_status run_macro(chat_renderer *r, const chat_node *node) {
    const chat_value value = {.kind = KIND_MACRO, .macro = node};
    return chat_variable_set(r, node->name, &value);
}

static mst_status run(chat_renderer *r, const chat_node *node) {
    mst_status status = chat_work(r, 0);
    chat_value value;
    if (status != MST_OK) return status;
    switch (node->kind) {
    case NODE_TEXT:
        return print(r, &node->constant);
    case NODE_PRINT:
        MST_TRY(chat_evaluate(r, node->a, &value));
        return print(r, &value);
    case NODE_SET:
        MST_TRY(chat_evaluate(r, node->a, &value));
        return chat_variable_set(r, node->name, &value);
    case NODE_IF:
        return run_if(r, node);
    case NODE_FOR:
        return run_for(r, node);
    case NODE_SET_FIELD:
        return run_set_field(r, node);
    case NODE_SET_BLOCK:
        return run_set_block(r, node);
    case NODE_GENERATION:
        return run_generation(r, node);
    case NODE_MACRO:
        return run_macro(r, node);
    default:
        r->jump = node->kind == NODE_BREAK ? JUMP_BREAK : JUMP_CONTINUE;
    }
done:
    return status;
}

mst_status chat_run(chat_renderer *r, const chat_nodes *body) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < body->count && status == MST_OK && r->jump == JUMP_NONE; i++) {
        status = chat_descend(r);
        if (status == MST_OK) status = run(r, body->at[i]);
        r->depth--;
        if (status != MST_OK && r->failed == NULL) r->failed = body->at[i];
    }
    return status;
}
