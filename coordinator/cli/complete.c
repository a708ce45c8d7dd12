/* What may stand for an operand or a value, as its name says; see cli.h. */
#include <ctype.h>
#include <string.h>

#include "cli.h"

static void read_alternative(const char *text, size_t length, cli_values *values) {
    static const char *const folders[] = {"DIR", "RUN", "HF_DIR"}, *const files[] = {"FILE", "INPUT"};
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)length, text);
    const char *dot = strcmp(word, "CKPT") == 0 ? ".h5" : strrchr(word, '.');
    if (dot != NULL) {
        values->files = true;
        snprintf(values->suffix, sizeof values->suffix, "%s", dot);
        return;
    }
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        values->folders = values->folders || strcmp(word, folders[i]) == 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        values->files = values->files || strcmp(word, files[i]) == 0;
    values->keys = values->keys || strcmp(word, "KEY=VALUE") == 0;
    if (!islower((unsigned char)word[0])) return;
    size_t used = strlen(values->words);
    snprintf(values->words + used, sizeof values->words - used, "%s%s", used > 0 ? " " : "", word);
}

void cli_values_of(const char *name, cli_values *values_out) {
    *values_out = (cli_values){0};
    for (;;) {
        size_t length = strcspn(name, "|");
        read_alternative(name, length, values_out);
        if (name[length] == '\0') return;
        name += length + 1;
    }
}

void cli_option_values(const cli_option *option, cli_values *values_out) {
    *values_out = (cli_values){0};
    if (option->argument != NULL) cli_values_of(option->argument, values_out);
}

size_t cli_meaning_length(const char *help) {
    size_t length = strcspn(help, ";(");
    while (length > 0 && help[length - 1] == ' ') length--;
    return length;
}
