/* A command's help, generated from its table. */
#include <string.h>

#include "cli.h"

enum { HELP_COLUMN = 26, HELP_WIDTH = 96 };

/* Prints text word by word between HELP_COLUMN and HELP_WIDTH; `column` says where the line stands now. */
static void print_wrapped(FILE *file, size_t column, const char *text) {
    if (column + 2 > HELP_COLUMN) {
        fputc('\n', file);
        column = 0;
    }
    fprintf(file, "%*s", (int)(HELP_COLUMN - column), "");
    column = HELP_COLUMN;
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        bool first = column == HELP_COLUMN;
        if (!first && column + 1 + length > HELP_WIDTH) {
            fprintf(file, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
            first = true;
        }
        fprintf(file, "%s%.*s", first ? "" : " ", (int)length, text);
        column += length + !first;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', file);
}

static void print_option(FILE *file, const cli_option *option) {
    char left[80], letter[4] = "  ";
    if (option->letter != 0) snprintf(letter, sizeof letter, "-%c", option->letter);
    int column =
        snprintf(left, sizeof left, "  %s%c --%s%s%s", letter, option->letter != 0 ? ',' : ' ', option->name,
                 option->argument != NULL ? " " : "", option->argument != NULL ? option->argument : "");
    fputs(left, file);
    print_wrapped(file, (size_t)column, option->help);
}

static void print_usage(FILE *file, const cli_command *command) {
    fprintf(file, "usage: muster %s", command->name);
    for (const cli_operand *operand = command->operands; operand != NULL && operand->name != NULL; operand++)
        fprintf(file, operand->optional ? " [%s%s]" : " %s%s", operand->name, operand->many ? "..." : "");
    for (const cli_option *option = command->options; option != NULL && option->name != NULL; option++)
        if (option->required) fprintf(file, " --%s %s", option->name, option->argument);
    fputs(" [option]...\n", file);
}

void cli_help(const cli_command *command, FILE *file) {
    static const cli_option help = {.name = "help", .letter = 'h', .help = "show this text"};
    fprintf(file, "muster %s: %s\n\n", command->name, command->summary);
    print_usage(file, command);
    if (command->description != NULL) fprintf(file, "\n%s\n", command->description);
    if (command->operands != NULL && command->operands->name != NULL) fputc('\n', file);
    for (const cli_operand *operand = command->operands; operand != NULL && operand->name != NULL;
         operand++) {
        int column = fprintf(file, "  %s%s", operand->name, operand->many ? "..." : "");
        print_wrapped(file, (size_t)column, operand->help);
    }
    fputs("\noptions:\n", file);
    for (const cli_option *option = command->options; option != NULL && option->name != NULL; option++)
        print_option(file, option);
    print_option(file, &help);
    fputs("\nexample:\n", file);
    for (const char *line = command->example; line != NULL && *line != '\0'; line += *line == '\n') {
        size_t length = strcspn(line, "\n");
        fprintf(file, "  %.*s\n", (int)length, line);
        line += length;
    }
}
