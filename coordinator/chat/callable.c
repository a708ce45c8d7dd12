#include "callable.h"

#include <string.h>

const chat_callable *chat_find_in(const chat_callable *table, size_t count, chat_text name) {
    for (size_t i = 0; i < count; i++)
        if (chat_text_is(name, table[i].name)) return &table[i];
    return NULL;
}

/* The next word of a list, and what follows it. */
static chat_text next_word(const char **list) {
    *list += strspn(*list, " ");
    const chat_text word = {*list, strcspn(*list, " ")};
    *list += word.count;
    return word;
}

int chat_argument_place(const chat_callable *callable, chat_text name) {
    const char *list = callable->arguments;
    chat_text word;
    for (int place = 0; (word = next_word(&list)).count > 0; place++)
        if (chat_text_same(word, name)) return place;
    return -1;
}

size_t chat_argument_count(const chat_callable *callable) {
    const char *list = callable->arguments;
    size_t count = 0;
    while (next_word(&list).count > 0) count++;
    return count;
}
