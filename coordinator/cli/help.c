/* What --help prints, of one command and of all, generated from the tables. */
#include <string.h>

#include "cli.h"
#include "muster/terminal.h"

enum { HELP_COLUMN = 26, WIDTH_PIPED = 80, WIDTH_LEAST = 48, WIDTH_MOST = 96 };

/* Where lines end: text is filled up to the terminal's width, within what reads well. */
static size_t width_of(FILE *file) {
    size_t width = mst_terminal_live(file) ? mst_terminal_columns(file, WIDTH_PIPED) : WIDTH_PIPED;
    return width < WIDTH_LEAST ? WIDTH_LEAST : width > WIDTH_MOST ? WIDTH_MOST : width;
}

/* Prints `length` bytes of text word by word, indented; `column` says where the line stands now. Returns the
 * column that it ends in. */
static size_t print_filled(FILE *file, size_t indent, size_t column, const char *text, size_t length) {
    size_t width = width_of(file);
    const char *end = text + length;
    bool begun = false;
    for (;;) {
        text += strspn(text, " \n");
        if (text >= end) return column;
        size_t word = strcspn(text, " \n");
        if (word > (size_t)(end - text)) word = (size_t)(end - text);
        if (begun && column + 1 + word > width) {
            fputc('\n', file);
            column = 0;
            begun = false;
        }
        int blanks = begun ? 1 : column < indent ? (int)(indent - column) : 0;
        fprintf(file, "%*s%.*s", blanks, "", (int)word, text);
        column += (size_t)blanks + word;
        text += word;
        begun = true;
    }
}

/* Paragraphs, an empty line before each. */
static void print_paragraphs(FILE *file, const char *text) {
    while (*text != '\0') {
        const char *end = strstr(text, "\n\n");
        size_t length = end != NULL ? (size_t)(end - text) : strlen(text);
        fputc('\n', file);
        print_filled(file, 0, 0, text, length);
        fputc('\n', file);
        text += length;
        text += strspn(text, "\n");
    }
}

static void print_heading(FILE *file, const char *before, const char *heading, const char *after) {
    fprintf(file, "%s%s%s%s%s", before, mst_terminal_style(file, MST_STYLE_HEADING), heading,
            mst_terminal_style(file, MST_STYLE_PLAIN), after);
}

/* The help of what was printed up to `column`: beside it, or below. */
static void print_beside(FILE *file, size_t column, const char *text) {
    if (column + 2 > HELP_COLUMN) {
        fputc('\n', file);
        column = 0;
    }
    print_filled(file, HELP_COLUMN, column, text, strlen(text));
    fputc('\n', file);
}

static void print_option(FILE *file, const cli_option *option) {
    char letter[4] = "  ";
    if (option->letter != 0) snprintf(letter, sizeof letter, "-%c", option->letter);
    int column =
        fprintf(file, "  %s%c --%s%s%s", letter, option->letter != 0 ? ',' : ' ', option->name,
                option->argument != NULL ? " " : "", option->argument != NULL ? option->argument : "");
    print_beside(file, (size_t)column, option->help);
}

static void print_usage(FILE *file, const cli_command *command) {
    print_heading(file, "\n", "usage:", " muster ");
    fputs(command->name, file);
    for (const cli_operand *operand = command->operands; operand != NULL && operand->name != NULL; operand++)
        fprintf(file, operand->optional ? " [%s%s]" : " %s%s", operand->name, operand->many ? "..." : "");
    for (const cli_option *option = command->options; option != NULL && option->name != NULL; option++)
        if (option->required) fprintf(file, " --%s %s", option->name, option->argument);
    fputs(" [option]...\n", file);
}

/* Lines as they are, such as those of an example. */
static void print_lines(FILE *file, const char *text) {
    while (text != NULL && *text != '\0') {
        size_t length = strcspn(text, "\n");
        fprintf(file, "  %.*s\n", (int)length, text);
        text += length;
        text += *text == '\n';
    }
}

void cli_help(const cli_command *command, FILE *file) {
    char title[40];
    snprintf(title, sizeof title, "muster %s:", command->name);
    print_heading(file, "", title, " ");
    print_filled(file, 0, strlen(title) + 1, command->summary, strlen(command->summary));
    fputc('\n', file);
    print_usage(file, command);
    if (command->description != NULL) print_paragraphs(file, command->description);
    const cli_operand *operand = command->operands;
    if (operand != NULL && operand->name != NULL) print_heading(file, "\n", "operands:", "\n");
    for (; operand != NULL && operand->name != NULL; operand++) {
        int column = fprintf(file, "  %s%s", operand->name, operand->many ? "..." : "");
        print_beside(file, (size_t)column, operand->help);
    }
    print_heading(file, "\n", "options:", "\n");
    for (const cli_option *option = command->options; option != NULL && option->name != NULL; option++)
        print_option(file, option);
    print_option(file, &cli_help_option);
    print_heading(file, "\n", strchr(command->example, '\n') != NULL ? "examples:" : "example:", "\n");
    print_lines(file, command->example);
    print_heading(file, "\n", "see also:", " 'muster --help' for all commands and the exit codes\n");
}

static void print_command(FILE *file, const cli_command *command) {
    enum { SUMMARY_COLUMN = 20 };
    int column = fprintf(file, "  %-*s", SUMMARY_COLUMN - 2, command->name);
    print_filled(file, SUMMARY_COLUMN, (size_t)column, command->summary, strlen(command->summary));
    fputc('\n', file);
}

void cli_overview(FILE *file) {
    print_heading(file, "", "muster:",
                  " trains language models on one machine or many, to the same bits on any\n"
                  "number of ranks\n");
    print_heading(file, "\n", "usage:", " muster COMMAND [word]... [option]...\n");
    print_heading(file, "\n", "commands:", "\n");
    for (size_t i = 0; i < cli_command_count; i++) print_command(file, cli_commands[i]);
    print_heading(file, "\n", "options:",
                  "\n"
                  "  -h, --help        show this text; after a command: its options and examples\n"
                  "      --man         print the manual, for 'muster --man | man -l -'\n"
                  "      --version     show the version\n"
                  "  without any word: what to do next where you are\n");
    print_heading(file, "\n", "exit codes:", "\n");
    for (const cli_exit *exit = cli_exits; exit->meaning != NULL; exit++) {
        int column = fprintf(file, "  %-4d", exit->code);
        print_filled(file, 6, (size_t)column, exit->meaning, strlen(exit->meaning));
        fputc('\n', file);
    }
    print_heading(file, "\n", "example:",
                  "\n"
                  "  muster data build texts/ -o tokens.h5\n"
                  "  muster train --help-config >config.yaml   # every key with its meaning: edit it\n"
                  "  muster train config.yaml                  # or: mpirun -n 4 muster train ...\n");
}

bool cli_group_help(const char *group, FILE *file) {
    bool found = false;
    for (size_t i = 0; i < cli_command_count; i++) {
        if (!cli_in_group(cli_commands[i], group)) continue;
        if (!found && file != NULL) {
            print_heading(file, "", "usage:", " muster ");
            fprintf(file, "%s COMMAND\n", group);
            print_heading(file, "\n", "commands:", "\n");
        }
        if (file != NULL) print_command(file, cli_commands[i]);
        found = true;
    }
    if (found && file != NULL) {
        print_heading(file, "\n", "example:", "\n");
        fprintf(file, "  muster %s COMMAND --help\n", group);
    }
    return found;
}
