/* Tests: what may stand behind `is`. */
#include "callable.h"

#define TEST(name, condition)                                                                                \
    static mst_status is_##name(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,   \
                                chat_value *value_out) {                                                     \
        (void)r;                                                                                             \
        (void)arguments;                                                                                     \
        *value_out = chat_bool(condition);                                                                   \
        return MST_OK;                                                                                       \
    }

TEST(defined, self->kind != KIND_UNDEFINED)
TEST(undefined, self->kind == KIND_UNDEFINED)
TEST(none, self->kind == KIND_NONE)
TEST(string, self->kind == KIND_STRING || self->kind == KIND_SAFE)
TEST(mapping, self->kind == KIND_DICT)
TEST(boolean, self->kind == KIND_BOOL)
TEST(true, self->kind == KIND_BOOL && self->truth)
TEST(false, self->kind == KIND_BOOL && !self->truth)
TEST(integer, self->kind == KIND_INT)
TEST(float, self->kind == KIND_REAL)
TEST(number, chat_is_number(self)) /* truths are numbers in Python */
/* an undefined value has no elements, but can be asked for them */
TEST(iterable, self->kind == KIND_STRING || self->kind == KIND_SAFE || self->kind == KIND_LIST ||
                   self->kind == KIND_DICT || self->kind == KIND_UNDEFINED)

static mst_status parity(const chat_value *self, bool odd, chat_value *value_out) {
    if (self->kind != KIND_INT)
        return mst_error(MST_EFORMAT, "%s is neither odd nor even", chat_kind_name(self->kind));
    *value_out = chat_bool((self->integer % 2 != 0) == odd);
    return MST_OK;
}

static mst_status is_odd(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                         chat_value *value_out) {
    (void)r;
    (void)arguments;
    return parity(self, true, value_out);
}

static mst_status is_even(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                          chat_value *value_out) {
    (void)r;
    (void)arguments;
    return parity(self, false, value_out);
}

static mst_status is_divisible(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                               chat_value *value_out) {
    const chat_value *by = &arguments->at[0];
    (void)r;
    if (self->kind != KIND_INT || by->kind != KIND_INT || by->integer == 0 || by->integer == -1)
        return mst_error(MST_EFORMAT, "divisibleby wants whole numbers that are neither 0 nor -1");
    *value_out = chat_bool(self->integer % by->integer == 0);
    return MST_OK;
}

static mst_status equal(chat_renderer *r, const chat_value *a, const chat_value *b, bool wanted,
                        chat_value *value_out) {
    bool same = false;
    mst_status status = chat_equal(a, b, 0, &r->steps, &same);
    *value_out = chat_bool(same == wanted);
    return status;
}

static mst_status is_equal(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                           chat_value *value_out) {
    return equal(r, self, &arguments->at[0], true, value_out);
}

static mst_status is_unequal(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                             chat_value *value_out) {
    return equal(r, self, &arguments->at[0], false, value_out);
}

static mst_status is_in(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                        chat_value *value_out) {
    bool there = false;
    mst_status status = chat_contains(r, &arguments->at[0], self, &there);
    *value_out = chat_bool(there);
    return status;
}

static const chat_callable tests[] = {{"defined", "", 0, is_defined},
                                      {"undefined", "", 0, is_undefined},
                                      {"none", "", 0, is_none},
                                      {"string", "", 0, is_string},
                                      {"mapping", "", 0, is_mapping},
                                      {"boolean", "", 0, is_boolean},
                                      {"true", "", 0, is_true},
                                      {"false", "", 0, is_false},
                                      {"integer", "", 0, is_integer},
                                      {"float", "", 0, is_float},
                                      {"number", "", 0, is_number},
                                      {"iterable", "", 0, is_iterable},
                                      {"sequence", "", 0, is_iterable}, /* the same kinds, in Jinja, too */
                                      {"odd", "", 0, is_odd},
                                      {"even", "", 0, is_even},
                                      {"divisibleby", "num", 1, is_divisible},
                                      {"equalto", "other", 1, is_equal},
                                      {"eq", "other", 1, is_equal},
                                      {"ne", "other", 1, is_unequal},
                                      {"in", "seq", 1, is_in}};

const chat_callable *chat_find_test(chat_text name) {
    return chat_find_in(tests, sizeof tests / sizeof *tests, name);
}
