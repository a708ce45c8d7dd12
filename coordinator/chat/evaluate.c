/* Expressions of a template at work. */
#include <math.h>
#include <string.h>

#include "callable.h"

static int shown(chat_text text) {
    return (int)(text.count < 40 ? text.count : 40);
}

/* ---- what values are to each other ---- */

mst_status chat_value_text(const chat_value *v, char *buffer, chat_text *text_out) {
    if (v->kind == KIND_STRING || v->kind == KIND_SAFE)
        *text_out = v->text;
    else if (v->kind == KIND_UNDEFINED)
        *text_out = (chat_text){"", 0};
    else if (chat_is_number(v) || v->kind == KIND_NONE)
        *text_out = chat_number_text(v, buffer);
    else
        return mst_error(MST_EUNSUPPORTED, "%s as a text is not supported; the filter tojson makes one",
                         chat_kind_name(v->kind));
    return MST_OK;
}

/* A list in the arena of what is not one in itself. */
static mst_status list_of(chat_renderer *r, const chat_value *v, chat_value **at_out, size_t *count_out) {
    void *memory = NULL;
    size_t at = 0;
    *count_out = v->kind == KIND_DICT ? v->dict->count : chat_text_characters(v->text);
    mst_status status = chat_take(r, (*count_out + 1) * sizeof(chat_value), &memory);
    if (status != MST_OK) return status;
    *at_out = memory;
    for (size_t i = 0; i < *count_out; i++) {
        if (v->kind == KIND_DICT) {
            (*at_out)[i] = chat_string(v->dict->at[i].key);
            continue;
        }
        const size_t bytes = chat_text_step(v->text, at);
        (*at_out)[i] = chat_string((chat_text){v->text.at + at, bytes});
        at += bytes;
    }
    return MST_OK;
}

mst_status chat_elements(chat_renderer *r, const chat_value *v, const chat_value **items_out,
                         size_t *count_out) {
    chat_value *list = NULL;
    mst_status status = MST_OK;
    *items_out = NULL;
    *count_out = 0;
    if (v->kind == KIND_UNDEFINED) return MST_OK;
    if (v->kind == KIND_LIST) {
        *items_out = v->list.at;
        *count_out = v->list.count;
        return MST_OK;
    }
    if (v->kind != KIND_DICT && v->kind != KIND_STRING)
        return mst_error(MST_EFORMAT, "%s has no elements", chat_kind_name(v->kind));
    status = list_of(r, v, &list, count_out);
    *items_out = list;
    return status;
}

mst_status chat_contains(chat_renderer *r, const chat_value *whole, const chat_value *part, bool *in_out) {
    mst_status status = MST_OK;
    *in_out = false;
    if (whole->kind == KIND_STRING) {
        MST_CHECK(part->kind == KIND_STRING, MST_EFORMAT, "%s cannot be in a text",
                  chat_kind_name(part->kind));
        *in_out = chat_text_find(whole->text, part->text, 0) != SIZE_MAX;
        return chat_work(r, whole->text.count);
    }
    if (whole->kind == KIND_DICT) {
        *in_out = part->kind == KIND_STRING && chat_dict_get(whole->dict, part->text) != NULL;
        return chat_work(r, whole->dict->count * CHAT_LOOK_BYTES);
    }
    if (whole->kind == KIND_UNDEFINED) return MST_OK;
    MST_CHECK(whole->kind == KIND_LIST, MST_EFORMAT, "nothing can be in %s", chat_kind_name(whole->kind));
    for (size_t i = 0; i < whole->list.count && !*in_out; i++) {
        MST_TRY(chat_work(r, 0));
        MST_TRY(chat_equal(&whole->list.at[i], part, 0, &r->steps, in_out));
    }
done:
    return status;
}

mst_status chat_compare_values(const chat_value *a, const chat_value *b, int *order_out) {
    if (a->kind == KIND_STRING && b->kind == KIND_STRING) {
        *order_out = chat_text_compare(a->text, b->text);
        return MST_OK;
    }
    if (!chat_is_number(a) || !chat_is_number(b))
        return mst_error(MST_EFORMAT, "%s and %s have no order", chat_kind_name(a->kind),
                         chat_kind_name(b->kind));
    if (a->kind == KIND_INT && b->kind == KIND_INT) {
        *order_out = (a->integer > b->integer) - (a->integer < b->integer);
        return MST_OK;
    }
    const double x = chat_real_of(a), y = chat_real_of(b);
    *order_out = (x > y) - (x < y);
    return MST_OK;
}

/* ---- fields and items ---- */

/* The names of Python's methods: where one of these is not called, Jinja would hand on the method itself. */
static bool is_method_name(chat_kind kind, chat_text name) {
    static const char texts[] =
        " capitalize casefold center count encode endswith expandtabs find format format_map "
        "index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric "
        "isprintable isspace istitle isupper join ljust lower lstrip maketrans partition "
        "removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split "
        "splitlines startswith strip swapcase title translate upper zfill ";
    static const char lists[] = " append clear copy count extend index insert pop remove reverse sort ";
    static const char dicts[] = " clear copy fromkeys get items keys pop popitem setdefault update values ";
    char word[24];
    const char *names = kind == KIND_STRING ? texts
                        : kind == KIND_LIST ? lists
                        : kind == KIND_DICT ? dicts
                                            : "";
    if (name.count == 0 || name.count > sizeof word - 3 || memchr(name.at, ' ', name.count) != NULL)
        return false;
    word[0] = word[name.count + 1] = ' ';
    memcpy(word + 1, name.at, name.count);
    word[name.count + 2] = '\0';
    return strstr(names, word) != NULL;
}

static mst_status loop_field(const chat_loop *loop, chat_text name, chat_value *value_out) {
    const size_t i = loop->index, n = loop->count;
    *value_out = chat_undefined(name);
    if (chat_text_is(name, "index"))
        *value_out = chat_int((int64_t)i + 1);
    else if (chat_text_is(name, "index0"))
        *value_out = chat_int((int64_t)i);
    else if (chat_text_is(name, "revindex"))
        *value_out = chat_int((int64_t)(n - i));
    else if (chat_text_is(name, "revindex0"))
        *value_out = chat_int((int64_t)(n - i) - 1);
    else if (chat_text_is(name, "length"))
        *value_out = chat_int((int64_t)n);
    else if (chat_text_is(name, "first"))
        *value_out = chat_bool(i == 0);
    else if (chat_text_is(name, "last"))
        *value_out = chat_bool(i + 1 == n);
    else if (chat_text_is(name, "previtem"))
        *value_out = i > 0 ? loop->items[i - 1] : *value_out;
    else if (chat_text_is(name, "nextitem"))
        *value_out = i + 1 < n ? loop->items[i + 1] : *value_out;
    else
        return mst_error(MST_EUNSUPPORTED, "loop.%.*s is not supported", shown(name), name.at);
    return MST_OK;
}

mst_status chat_field(chat_renderer *r, const chat_value *v, chat_text name, bool dotted,
                      chat_value *value_out) {
    const chat_value *found = NULL;
    *value_out = chat_undefined(name);
    if (v->kind == KIND_UNDEFINED)
        return mst_error(MST_EFORMAT, "'%.*s' has no value, so it has no '%.*s'", shown(v->text), v->text.at,
                         shown(name), name.at);
    if (v->kind == KIND_LOOP) return loop_field(v->loop, name, value_out);
    if (v->kind == KIND_DICT || v->kind == KIND_NAMESPACE) {
        mst_status status = chat_work(r, v->dict->count * CHAT_LOOK_BYTES);
        if (status != MST_OK) return status;
        found = chat_dict_get(v->dict, name);
    }
    if ((dotted || found == NULL) && is_method_name(v->kind, name))
        return mst_error(MST_EUNSUPPORTED, "the method '%.*s' without a call is not supported", shown(name),
                         name.at);
    if (found != NULL) *value_out = *found;
    return MST_OK;
}

static mst_status evaluate_item(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_value whole, key;
    MST_TRY(chat_evaluate(r, node->a, &whole));
    MST_TRY(chat_evaluate(r, node->b, &key));
    if (key.kind == KIND_STRING) return chat_field(r, &whole, key.text, false, value_out);
    *value_out = chat_undefined(chat_text_of("an element"));
    MST_CHECK(whole.kind != KIND_UNDEFINED, MST_EFORMAT, "'%.*s' has no value, so it has no elements",
              shown(whole.text), whole.text.at);
    if (key.kind != KIND_INT || (whole.kind != KIND_LIST && whole.kind != KIND_STRING)) goto done;
    const size_t count = whole.kind == KIND_LIST ? whole.list.count : chat_text_characters(whole.text);
    const int64_t at = key.integer < 0 ? key.integer + (int64_t)count : key.integer;
    if (at < 0 || (uint64_t)at >= count) goto done;
    if (whole.kind == KIND_LIST) {
        *value_out = whole.list.at[at];
        goto done;
    }
    MST_TRY(chat_work(r, whole.text.count));
    const size_t byte = chat_text_byte_of(whole.text, (size_t)at);
    *value_out = chat_string((chat_text){whole.text.at + byte, chat_text_step(whole.text, byte)});
done:
    return status;
}

/* A bound of a slice; `otherwise` where there is none. */
static mst_status evaluate_bound(chat_renderer *r, const chat_node *node, int64_t otherwise,
                                 int64_t *bound_out) {
    mst_status status = MST_OK;
    chat_value value = chat_none();
    if (node != NULL) MST_TRY(chat_evaluate(r, node, &value));
    MST_CHECK(value.kind == KIND_INT || value.kind == KIND_NONE, MST_EFORMAT, "a slice from or to %s",
              chat_kind_name(value.kind));
    *bound_out = value.kind == KIND_INT ? value.integer : otherwise;
done:
    return status;
}

/* A bound as Python reads it: from the end where it is negative, within [low, high]. */
static int64_t clamp(int64_t bound, int64_t count, int64_t low, int64_t high) {
    if (bound < 0) bound = bound < -count ? low : bound + count;
    return bound < low ? low : bound > high ? high : bound;
}

static mst_status evaluate_slice(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_value whole;
    int64_t step = 1, first = 0, last = 0;
    const chat_value *items = NULL;
    size_t count = 0, kept = 0;
    void *memory = NULL;
    MST_TRY(chat_evaluate(r, node->a, &whole));
    MST_CHECK(whole.kind == KIND_LIST || whole.kind == KIND_STRING, MST_EFORMAT, "%s cannot be sliced",
              chat_kind_name(whole.kind));
    MST_TRY(chat_elements(r, &whole, &items, &count));
    const int64_t n = (int64_t)count;
    MST_TRY(evaluate_bound(r, node->d, 1, &step));
    MST_CHECK(step != 0 && step > -INT32_MAX && step < INT32_MAX, MST_EFORMAT, "a slice in steps of %lld",
              (long long)step);
    MST_TRY(evaluate_bound(r, node->b, step > 0 ? 0 : INT64_MAX, &first));
    MST_TRY(evaluate_bound(r, node->c, step > 0 ? INT64_MAX : INT64_MIN, &last));
    first = step > 0 ? clamp(first, n, 0, n) : clamp(first, n, -1, n - 1);
    last = step > 0 ? clamp(last, n, 0, n) : clamp(last, n, -1, n - 1);
    MST_TRY(chat_take(r, (count + 1) * sizeof(chat_value), &memory));
    chat_value *slice = memory;
    for (int64_t i = first; step > 0 ? i < last : i > last; i += step) slice[kept++] = items[i];
    *value_out = (chat_value){.kind = KIND_LIST, .list = {slice, kept}};
    if (whole.kind == KIND_LIST) goto done;
    MST_TRY(chat_take(r, (kept + 1) * sizeof(chat_text), &memory));
    chat_text *parts = memory;
    for (size_t i = 0; i < kept; i++) parts[i] = slice[i].text;
    MST_TRY(chat_join(r, parts, kept, value_out));
done:
    return status;
}

/* ---- operations ---- */

static mst_status compare(chat_renderer *r, chat_operation operation, const chat_value *a,
                          const chat_value *b, bool *holds_out) {
    mst_status status = MST_OK;
    int order = 0;
    if (operation == OP_EQUAL || operation == OP_UNEQUAL) {
        MST_TRY(chat_equal(a, b, 0, &r->steps, holds_out));
        *holds_out = *holds_out == (operation == OP_EQUAL);
    } else if (operation == OP_IN || operation == OP_NOT_IN) {
        MST_TRY(chat_contains(r, b, a, holds_out));
        *holds_out = *holds_out == (operation == OP_IN);
    } else {
        MST_TRY(chat_work(r, a->kind == KIND_STRING ? a->text.count : 0));
        MST_TRY(chat_compare_values(a, b, &order));
        *holds_out = operation == OP_LESS         ? order < 0
                     : operation == OP_LESS_EQUAL ? order <= 0
                     : operation == OP_GREATER    ? order > 0
                                                  : order >= 0;
        if (chat_is_number(a) && (isnan(chat_real_of(a)) || isnan(chat_real_of(b)))) *holds_out = false;
    }
done:
    return status;
}

static mst_status evaluate_compare(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_value left, right;
    bool holds = true;
    MST_TRY(chat_evaluate(r, node->a, &left));
    for (size_t i = 0; holds && i < node->body.count; i++) {
        const chat_node *operand = node->body.at[i];
        MST_TRY(chat_evaluate(r, operand->a, &right));
        MST_TRY(compare(r, operand->operation, &left, &right, &holds));
        left = right;
    }
    *value_out = chat_bool(holds);
done:
    return status;
}

static int64_t whole_of(const chat_value *v) {
    return v->kind == KIND_BOOL ? v->truth : v->integer;
}

/* Python's // and % round towards minus infinity. */
static mst_status whole_arithmetic(chat_operation operation, int64_t a, int64_t b, chat_value *value_out) {
    int64_t result = 0;
    bool overflow = false;
    if ((operation == OP_FLOOR || operation == OP_MODULO) && b == 0)
        return mst_error(MST_EFORMAT, "%lld divided by 0", (long long)a);
    if (operation == OP_ADD)
        overflow = __builtin_add_overflow(a, b, &result);
    else if (operation == OP_SUBTRACT)
        overflow = __builtin_sub_overflow(a, b, &result);
    else if (operation == OP_MULTIPLY)
        overflow = __builtin_mul_overflow(a, b, &result);
    else if (b == -1)
        overflow = operation == OP_FLOOR && __builtin_sub_overflow((int64_t)0, a, &result);
    else if (operation == OP_FLOOR)
        result = a / b - (a % b != 0 && (a < 0) != (b < 0));
    else
        result = a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0);
    if (overflow) return mst_error(MST_EUNSUPPORTED, "a whole number beyond 64 bits");
    *value_out = chat_int(result);
    return MST_OK;
}

static mst_status real_arithmetic(chat_operation operation, double a, double b, chat_value *value_out) {
    double result = operation == OP_ADD ? a + b : operation == OP_SUBTRACT ? a - b : a * b;
    if (operation == OP_FLOOR || operation == OP_MODULO)
        return mst_error(MST_EUNSUPPORTED, "// and %% of real numbers are not supported");
    if (operation == OP_DIVIDE) {
        if (b == 0) return mst_error(MST_EFORMAT, "a division by 0");
        result = a / b;
    }
    *value_out = (chat_value){.kind = KIND_REAL, .real = result};
    return MST_OK;
}

static mst_status add_lists(chat_renderer *r, const chat_value *a, const chat_value *b,
                            chat_value *value_out) {
    const size_t first = a->list.count, second = b->list.count;
    void *memory = NULL;
    mst_status status = chat_take(r, (first + second + 1) * sizeof(chat_value), &memory);
    if (status != MST_OK) return status;
    chat_value *both = memory;
    if (first > 0) memcpy(both, a->list.at, first * sizeof *both);
    if (second > 0) memcpy(both + first, b->list.at, second * sizeof *both);
    *value_out = (chat_value){.kind = KIND_LIST, .list = {both, first + second}};
    return MST_OK;
}

static mst_status evaluate_arithmetic(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_value a, b;
    MST_TRY(chat_evaluate(r, node->a, &a));
    MST_TRY(chat_evaluate(r, node->b, &b));
    if (node->operation == OP_ADD && a.kind == KIND_STRING && b.kind == KIND_STRING) {
        const chat_text parts[] = {a.text, b.text};
        return chat_join(r, parts, 2, value_out);
    }
    if (node->operation == OP_ADD && a.kind == KIND_LIST && b.kind == KIND_LIST)
        return add_lists(r, &a, &b, value_out);
    for (const chat_value *v = &a;; v = &b) {
        MST_CHECK(v->kind != KIND_UNDEFINED, MST_EFORMAT, "'%.*s' has no value to calculate with",
                  shown(v->text), v->text.at);
        if (v == &b) break;
    }
    MST_CHECK(chat_is_number(&a) && chat_is_number(&b), MST_EFORMAT,
              "this operation between %s and %s is not supported", chat_kind_name(a.kind),
              chat_kind_name(b.kind));
    if (a.kind == KIND_REAL || b.kind == KIND_REAL || node->operation == OP_DIVIDE)
        MST_TRY(real_arithmetic(node->operation, chat_real_of(&a), chat_real_of(&b), value_out));
    else
        MST_TRY(whole_arithmetic(node->operation, whole_of(&a), whole_of(&b), value_out));
done:
    return status;
}

static mst_status evaluate_sign(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_value value;
    MST_TRY(chat_evaluate(r, node->a, &value));
    MST_CHECK(chat_is_number(&value), MST_EFORMAT, "%s has no sign", chat_kind_name(value.kind));
    if (value.kind == KIND_REAL)
        *value_out =
            (chat_value){.kind = KIND_REAL, .real = node->kind == NODE_MINUS ? -value.real : value.real};
    else
        MST_TRY(whole_arithmetic(node->kind == NODE_MINUS ? OP_SUBTRACT : OP_ADD, 0, whole_of(&value),
                                 value_out));
done:
    return status;
}

static mst_status evaluate_concat(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_value a, b;
    chat_text parts[2];
    char buffers[2][32];
    MST_TRY(chat_evaluate(r, node->a, &a));
    MST_TRY(chat_evaluate(r, node->b, &b));
    MST_TRY(chat_value_text(&a, buffers[0], &parts[0]));
    MST_TRY(chat_value_text(&b, buffers[1], &parts[1]));
    MST_TRY(chat_join(r, parts, 2, value_out));
done:
    return status;
}

/* `or` and `and` give one of their operands, as in Python. */
static mst_status evaluate_logic(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    MST_TRY(chat_evaluate(r, node->a, value_out));
    if (node->kind == NODE_NOT)
        *value_out = chat_bool(!chat_is_true(value_out));
    else if (chat_is_true(value_out) == (node->kind == NODE_AND))
        MST_TRY(chat_evaluate(r, node->b, value_out));
done:
    return status;
}

static mst_status evaluate_choice(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_value condition;
    MST_TRY(chat_evaluate(r, node->b, &condition));
    const chat_node *chosen = chat_is_true(&condition) ? node->a : node->c;
    *value_out = chat_undefined(chat_text_of("a choice without else"));
    if (chosen != NULL) MST_TRY(chat_evaluate(r, chosen, value_out));
done:
    return status;
}

/* ---- values made ---- */

static mst_status evaluate_list(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    void *memory = NULL;
    MST_TRY(chat_take(r, (node->body.count + 1) * sizeof(chat_value), &memory));
    *value_out = (chat_value){.kind = KIND_LIST, .list = {memory, node->body.count}};
    for (size_t i = 0; i < node->body.count; i++)
        MST_TRY(chat_evaluate(r, node->body.at[i], &value_out->list.at[i]));
done:
    return status;
}

static mst_status evaluate_dict(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    void *memory = NULL;
    chat_value key, value;
    MST_TRY(chat_take(r, sizeof(chat_dict), &memory));
    chat_dict *dict = memory;
    for (size_t i = 0; i < node->body.count; i += 2) {
        MST_TRY(chat_evaluate(r, node->body.at[i], &key));
        MST_TRY(chat_evaluate(r, node->body.at[i + 1], &value));
        MST_CHECK(key.kind == KIND_STRING, MST_EUNSUPPORTED, "a mapping with %s as a key",
                  chat_kind_name(key.kind));
        MST_TRY(chat_work(r, dict->count * CHAT_LOOK_BYTES));
        MST_TRY(chat_dict_set(dict, key.text, &value, &r->arena));
    }
    *value_out = (chat_value){.kind = node->changes ? KIND_NAMESPACE : KIND_DICT, .dict = dict};
done:
    return status;
}

/* ---- names and calls ---- */

static bool is_function(const chat_renderer *r, chat_text name) {
    if (chat_text_is(name, "strftime_now")) return r->date != NULL;
    return chat_find_function(name) != NULL || chat_text_is(name, "namespace") || chat_text_is(name, "dict");
}

static mst_status evaluate_name(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = chat_work(r, r->variable_count * CHAT_LOOK_BYTES);
    if (status != MST_OK) return status;
    const chat_value *found = chat_variable_get(r, node->name);
    *value_out = found != NULL ? *found : chat_undefined(node->name);
    if (found != NULL && found->kind == KIND_MACRO)
        return mst_error(MST_EUNSUPPORTED, "the macro '%.*s' without a call is not supported",
                         shown(node->name), node->name.at);
    if (found == NULL && is_function(r, node->name))
        return mst_error(MST_EUNSUPPORTED, "the function '%.*s' without a call is not supported",
                         shown(node->name), node->name.at);
    if (found == NULL && !r->tokens_known && chat_text_ends(node->name, chat_text_of("_token")))
        return mst_error(MST_ECONFIG,
                         "'%.*s' is not known: a tokenizer_config.json says it, beside the template",
                         shown(node->name), node->name.at);
    return MST_OK;
}

static mst_status evaluate_arguments(chat_renderer *r, const chat_node *node, chat_arguments *arguments) {
    mst_status status = MST_OK;
    *arguments = (chat_arguments){0};
    for (size_t i = 0; i < node->body.count; i++) {
        if (node->body.at[i] == NULL) continue;
        MST_TRY(chat_evaluate(r, node->body.at[i], &arguments->at[i]));
        arguments->given[i] = true;
    }
done:
    return status;
}

/* Whether a name stands for what can be called, and for no variable. */
static bool is_callable(const chat_renderer *r, const chat_node *node) {
    if (node->kind != NODE_NAME) return false;
    const chat_value *found = chat_variable_get(r, node->name);
    return found != NULL ? found->kind == KIND_MACRO : is_function(r, node->name);
}

/* A text made safe stays so; other filters, and methods, would escape their arguments. */
static mst_status call_of_safe(chat_renderer *r, const chat_node *node, const chat_value *self,
                               const chat_arguments *arguments, chat_value *value_out) {
    mst_status status = MST_OK;
    const char *name = node->callable->name;
    const bool keeps = strcmp(name, "safe") == 0 || strcmp(name, "string") == 0;
    MST_CHECK(node->kind == NODE_FILTER && keeps, MST_EUNSUPPORTED,
              "'%s' of a text made safe is not supported", name);
    MST_TRY(node->callable->call(r, self, arguments, value_out));
    value_out->kind = KIND_SAFE;
done:
    return status;
}

static mst_status evaluate_call(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = MST_OK;
    chat_arguments arguments;
    chat_value self = {0};
    const bool applied = node->kind != NODE_FUNCTION;
    if (node->kind == NODE_TEST && is_callable(r, node->a)) { /* "is strftime_now defined?" */
        const bool defined = strcmp(node->callable->name, "defined") == 0;
        MST_CHECK(defined || strcmp(node->callable->name, "undefined") == 0, MST_EUNSUPPORTED,
                  "the test '%s' of a function is not supported", node->callable->name);
        *value_out = chat_bool(defined);
        goto done;
    }
    if (applied) MST_TRY(chat_evaluate(r, node->a, &self));
    MST_TRY(evaluate_arguments(r, node, &arguments));
    if (self.kind == KIND_SAFE && node->kind != NODE_TEST)
        return call_of_safe(r, node, &self, &arguments, value_out);
    MST_TRY(node->callable->call(r, applied ? &self : NULL, &arguments, value_out));
done:
    return status;
}

static mst_status evaluate_field(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    chat_value whole;
    mst_status status = chat_evaluate(r, node->a, &whole);
    if (status == MST_OK) status = chat_field(r, &whole, node->name, true, value_out);
    return status;
}

static mst_status evaluate_constant(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    (void)r;
    *value_out = node->constant;
    return MST_OK;
}

typedef mst_status evaluate_fn(chat_renderer *r, const chat_node *node, chat_value *value_out);

static evaluate_fn *const evaluators[] = {[NODE_CONSTANT] = evaluate_constant,
                                          [NODE_NAME] = evaluate_name,
                                          [NODE_LIST] = evaluate_list,
                                          [NODE_DICT] = evaluate_dict,
                                          [NODE_FIELD] = evaluate_field,
                                          [NODE_ITEM] = evaluate_item,
                                          [NODE_SLICE] = evaluate_slice,
                                          [NODE_CHOICE] = evaluate_choice,
                                          [NODE_OR] = evaluate_logic,
                                          [NODE_AND] = evaluate_logic,
                                          [NODE_NOT] = evaluate_logic,
                                          [NODE_COMPARE] = evaluate_compare,
                                          [NODE_ARITHMETIC] = evaluate_arithmetic,
                                          [NODE_MINUS] = evaluate_sign,
                                          [NODE_PLUS] = evaluate_sign,
                                          [NODE_CONCAT] = evaluate_concat,
                                          [NODE_FILTER] = evaluate_call,
                                          [NODE_TEST] = evaluate_call,
                                          [NODE_METHOD] = evaluate_call,
                                          [NODE_FUNCTION] = evaluate_call,
                                          [NODE_MAKE_DICT] = evaluate_dict,
                                          [NODE_MACRO_CALL] = chat_call_macro};

mst_status chat_evaluate(chat_renderer *r, const chat_node *node, chat_value *value_out) {
    mst_status status = chat_descend(r);
    if (status == MST_OK) status = chat_work(r, 0);
    if (status == MST_OK) status = evaluators[node->kind](r, node, value_out);
    r->depth--;
    if (status != MST_OK && r->failed == NULL) r->failed = node;
    return status;
}
