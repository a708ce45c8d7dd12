/* Questions with several answers: from lines of JSON to tokens. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "muster/choices.h"

enum { CHOICES_MOST = 1000 /* answers to a question */ };

/* What a line says; texts belong to its JSON. */
typedef struct record {
    const char *question;
    size_t question_bytes;
    const json_t *choices;
    size_t right;
} record;

/* ---- fields ---- */

/* The one field of these names that the object has; *name_out is that name, or of none the first. */
static mst_status find_field(const json_t *object, const char *const *names, const char **name_out,
                             const json_t **value_out) {
    mst_status status = MST_OK;
    *value_out = NULL;
    *name_out = names[0];
    for (; *names != NULL; names++) {
        const json_t *value = json_object_get(object, *names);
        if (value == NULL) continue;
        MST_CHECK(*value_out == NULL, MST_EFORMAT, "it has '%s' and '%s', of which one is wanted", *name_out,
                  *names);
        *value_out = value;
        *name_out = *names;
    }
done:
    return status;
}

static mst_status read_question(const json_t *object, record *r) {
    static const char *const names[] = {"ctx", "question", "context", NULL};
    mst_status status = MST_OK;
    const char *name;
    const json_t *value;
    MST_TRY(find_field(object, names, &name, &value));
    MST_CHECK(value != NULL, MST_EFORMAT, "it has no 'ctx', 'question' or 'context'");
    MST_CHECK(json_is_string(value), MST_EFORMAT, "'%s' is no text", name);
    r->question = json_string_value(value);
    r->question_bytes = json_string_length(value);
done:
    return status;
}

static mst_status read_choices(const json_t *object, record *r) {
    static const char *const names[] = {"endings", "choices", NULL};
    mst_status status = MST_OK;
    const char *name;
    MST_TRY(find_field(object, names, &name, &r->choices));
    MST_CHECK(r->choices != NULL, MST_EFORMAT, "it has no 'endings' or 'choices'");
    const size_t count = json_array_size(r->choices);
    MST_CHECK(count >= 2 && count <= CHOICES_MOST, MST_EFORMAT, "'%s' is no list of 2 to %d texts", name,
              CHOICES_MOST);
    for (size_t i = 0; i < count; i++)
        MST_CHECK(json_string_length(json_array_get(r->choices, i)) > 0, MST_EFORMAT,
                  "%s[%zu] is no text, or an empty one", name, i);
done:
    return status;
}

/* The number that a text of digits or one letter stands for; -1: another one. HellaSwag writes its labels as digits from 0; in an
 * `answer` digits might as well count from 1, so they are not taken for either. */
static json_int_t number_of(const char *text, bool digits) {
    const bool one = text[0] != '\0' && text[1] == '\0';
    if (one && text[0] >= 'A' && text[0] <= 'Z') return text[0] - 'A';
    if (one && text[0] >= 'a' && text[0] <= 'z') return text[0] - 'a';
    if (!digits || text[0] == '\0' || strlen(text) > 4 || strspn(text, "0123456789") != strlen(text))
        return -1;
    return strtol(text, NULL, 10);
}

static mst_status read_right(const json_t *object, record *r) {
    static const char *const names[] = {"label", "answer", NULL};
    mst_status status = MST_OK;
    const char *name;
    const json_t *value;
    MST_TRY(find_field(object, names, &name, &value));
    MST_CHECK(value != NULL, MST_EFORMAT, "it has no 'label' or 'answer'");
    const json_int_t number = json_is_integer(value) ? json_integer_value(value)
                              : json_is_string(value)
                                  ? number_of(json_string_value(value), strcmp(name, "label") == 0)
                                  : -1;
    MST_CHECK(number >= 0 && (size_t)number < json_array_size(r->choices), MST_EFORMAT,
              "'%s' is neither a number from 0 to %zu nor the letter of one of the answers", name,
              json_array_size(r->choices) - 1);
    r->right = (size_t)number;
done:
    return status;
}

static mst_status read_record(const json_t *object, record *r) {
    mst_status status = MST_OK;
    MST_CHECK(json_is_object(object), MST_EFORMAT, "it is no object");
    MST_TRY(read_question(object, r));
    MST_TRY(read_choices(object, r));
    MST_TRY(read_right(object, r));
done:
    return status;
}

/* ---- tokens ---- */

static bool is_space(char c) {
    return c != '\0' && strchr(" \t\n\r\f\v", c) != NULL;
}

/* The tokens of two texts and what stands between them, behind the token that ends a document where nothing else stands first. */
static mst_status encode_pair(mst_inference *x, const record *r, size_t kept, const json_t *answer,
                              mst_token_list *tokens_out) {
    mst_status status = MST_OK;
    mst_token_list tokens = {0};
    char *text = NULL;
    const size_t bytes = json_string_length(answer), spaces = r->question_bytes - kept;
    const bool blank = kept > 0 && spaces == 0 && !is_space(*json_string_value(answer));
    const int32_t end = mst_inference_end_token(x);
    *tokens_out = (mst_token_list){0};
    MST_CHECK(kept > 0 || end >= 0, MST_ECONFIG,
              "the question is empty, and this model has no token between documents to begin after");
    MST_CHECK((text = malloc(r->question_bytes + bytes + 2)) != NULL, MST_ENOMEM, "out of memory");
    memcpy(text, r->question, r->question_bytes);
    text[r->question_bytes] = ' ';
    memcpy(text + r->question_bytes + blank, json_string_value(answer), bytes);
    MST_TRY(mst_inference_encode(x, (const uint8_t *)text, r->question_bytes + blank + bytes, &tokens));
    const bool begins = kept == 0;
    tokens_out->at = calloc(tokens.count + begins, sizeof *tokens_out->at);
    MST_CHECK(tokens_out->at != NULL, MST_ENOMEM, "out of memory");
    if (begins) tokens_out->at[0] = end;
    if (tokens.count > 0) memcpy(tokens_out->at + begins, tokens.at, tokens.count * sizeof *tokens.at);
    tokens_out->count = tokens.count + begins;
done:
    free(tokens.at);
    free(text);
    return status;
}

/* Drops tokens from the beginning until the model can see the rest: all tokens but the last are its input. */
static mst_status fit(size_t context, mst_choice *choice, uint64_t *cut) {
    mst_status status = MST_OK;
    if (choice->count - 1 <= context) goto done;
    const size_t dropped = choice->count - 1 - context;
    MST_CHECK(choice->first > dropped, MST_ECONFIG,
              "an answer has %zu tokens, and the model sees %zu (--context)", choice->count - choice->first,
              context);
    choice->count -= dropped;
    choice->first -= dropped;
    memmove(choice->tokens, choice->tokens + dropped, choice->count * sizeof *choice->tokens);
    ++*cut;
done:
    return status;
}

/* Room for one more. */
static mst_status reserve(void **list, size_t count, size_t *room, size_t size) {
    if (count < *room) return MST_OK;
    const size_t wanted = 2 * *room + 64;
    void *grown = realloc(*list, wanted * size);
    if (grown == NULL) return mst_error(MST_ENOMEM, "out of memory for %zu of them", wanted);
    *list = grown;
    *room = wanted;
    return MST_OK;
}

static mst_status add_choice(mst_inference *x, const record *r, size_t kept, size_t question_tokens,
                             const json_t *answer, size_t context, mst_choices *all) {
    mst_status status = MST_OK;
    mst_token_list tokens;
    void *list = all->choices;
    MST_TRY(reserve(&list, all->choice_count, &all->choice_room, sizeof *all->choices));
    all->choices = list;
    MST_TRY(encode_pair(x, r, kept, answer, &tokens));
    mst_choice *choice = &all->choices[all->choice_count++];
    *choice = (mst_choice){.tokens = tokens.at,
                           .count = tokens.count,
                           .first = question_tokens,
                           .bytes = json_string_length(answer)};
    MST_CHECK(tokens.count > question_tokens, MST_EUNSUPPORTED,
              "the answer '%.40s' has no token of its own behind this question", json_string_value(answer));
    MST_TRY(fit(context, choice, &all->cut));
done:
    return status;
}

static mst_status add_question(mst_inference *x, const record *r, mst_question question, size_t context,
                               mst_choices *all) {
    mst_status status = MST_OK;
    mst_token_list tokens = {0};
    size_t kept = r->question_bytes;
    void *list = all->questions;
    while (kept > 0 && is_space(r->question[kept - 1])) kept--;
    MST_TRY(reserve(&list, all->question_count, &all->question_room, sizeof *all->questions));
    all->questions = list;
    MST_TRY(mst_inference_encode(x, (const uint8_t *)r->question, kept, &tokens));
    question.first = all->choice_count;
    question.count = json_array_size(r->choices);
    question.right = r->right;
    for (size_t i = 0; i < question.count; i++)
        MST_TRY(add_choice(x, r, kept, tokens.count > 0 ? tokens.count : 1, json_array_get(r->choices, i),
                           context, all));
    all->questions[all->question_count++] = question;
done:
    free(tokens.at);
    return status;
}

/* ---- the file ---- */

static mst_status read_line(mst_inference *x, const char *line, size_t bytes, mst_question question,
                            size_t context, mst_choices *all) {
    mst_status status = MST_OK;
    json_error_t error;
    record r = {0};
    json_t *object = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, &error);
    MST_CHECK(object != NULL, MST_EFORMAT, "not valid JSON: %s", error.text);
    MST_TRY(read_record(object, &r));
    MST_TRY(add_question(x, &r, question, context, all));
done:
    json_decref(object);
    return status;
}

mst_status mst_choices_read(mst_inference *inference, const char *path, size_t context,
                            mst_choices *choices) {
    static const char mark[] = "\xEF\xBB\xBF"; /* of UTF-8, at the beginning of a file */
    mst_status status = MST_OK;
    const size_t before = choices->question_count;
    mst_question question = {.path = path};
    char *line = NULL;
    size_t room = 0;
    ssize_t bytes;
    FILE *file = fopen(path, "rb");
    MST_CHECK(file != NULL, MST_EIO, "%s: %s", path, strerror(errno));
    while ((bytes = getline(&line, &room, file)) > 0) {
        const size_t skip = ++question.line == 1 && strncmp(line, mark, 3) == 0 ? 3 : 0;
        if (strspn(line + skip, " \t\r\n") == (size_t)bytes - skip) continue;
        status = read_line(inference, line + skip, (size_t)bytes - skip, question, context, choices);
        if (status != MST_OK) mst_error_context(status, "%s:%zu", path, question.line);
        MST_TRY(status);
    }
    MST_CHECK(!ferror(file), MST_EIO, "%s: %s", path, strerror(errno));
    MST_CHECK(choices->question_count > before, MST_EFORMAT, "%s: there is no question", path);
done:
    free(line);
    if (file != NULL) fclose(file);
    return status;
}

void mst_choices_clear(mst_choices *choices) {
    for (size_t i = 0; i < choices->choice_count; i++) free(choices->choices[i].tokens);
    free(choices->choices);
    free(choices->questions);
    *choices = (mst_choices){0};
}
