#include "words.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

mst_status words_add(words *w, const char *format, ...) {
    char *word = NULL;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&word, format, arguments);
    va_end(arguments);
    char **list = length < 0 ? NULL : realloc(w->list, (w->count + 2) * sizeof *list);
    if (list == NULL) {
        if (length >= 0) free(word);
        return mst_error(MST_ENOMEM, "launch: no memory for a command line");
    }
    w->list = list;
    list[w->count++] = word;
    list[w->count] = NULL;
    return MST_OK;
}

/* As a word that a shell leaves as it is: in quotes where it needs them. */
static char *put_word(char *to, const char *word) {
    static const char *const plain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/,@%:=";
    if (word[0] != '\0' && word[strspn(word, plain)] == '\0') return stpcpy(to, word);
    *to++ = '\'';
    for (; *word != '\0'; word++) {
        if (*word == '\'')
            to = stpcpy(to, "'\\''");
        else
            *to++ = *word;
    }
    *to++ = '\'';
    *to = '\0';
    return to;
}

mst_status words_quote(const words *w, char **text_out) {
    size_t room = 1;
    for (size_t i = 0; i < w->count; i++) room += 4 * strlen(w->list[i]) + 3;
    char *text = malloc(room), *end = text;
    *text_out = text;
    if (text == NULL) return mst_error(MST_ENOMEM, "launch: no memory for a command line");
    *text = '\0';
    for (size_t i = 0; i < w->count; i++) {
        if (i > 0) *end++ = ' ';
        end = put_word(end, w->list[i]);
    }
    return MST_OK;
}

void words_clear(words *w) {
    for (size_t i = 0; i < w->count; i++) free(w->list[i]);
    free(w->list);
    *w = (words){0};
}
