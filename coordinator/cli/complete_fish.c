/* The completion script for fish: one `complete` line for each command, option and operand. */
#include <string.h>

#include "cli.h"
#include "muster/config.h"

/* Text in single quotes, in which fish knows \' and \\. */
static void put_quoted(FILE *file, const char *text, size_t length) {
    fputc('\'', file);
    for (size_t i = 0; i < length; i++)
        fprintf(file, strchr("'\\", text[i]) != NULL ? "\\%c" : "%c", text[i]);
    fputc('\'', file);
}

/* What may stand there, as arguments of `complete`. */
static void put_values(FILE *file, const cli_values *values) {
    const bool any_file = values->files && values->suffix[0] == '\0';
    if (any_file) fputs(" -F", file);
    if (values->suffix[0] != '\0') fputs(" -k", file); /* in this order: the fitting files first */
    fprintf(file, " -a '%s", values->words);
    if (values->keys) fputs(" (__muster_keys)", file);
    if (values->suffix[0] != '\0') fprintf(file, " (__muster_files %s)", values->suffix);
    if (values->folders && !values->files) fputs(" (__muster_folders)", file);
    fputc('\'', file);
}

static void put_option(FILE *file, const cli_command *command, const cli_option *option) {
    cli_values values;
    cli_option_values(option, &values);
    fprintf(file, "complete -c muster -n '__muster_given %s' -l %s", command->name, option->name);
    if (option->letter != 0) fprintf(file, " -s %c", option->letter);
    if (option->argument != NULL) fputs(values.files && values.suffix[0] == '\0' ? " -r" : " -x", file);
    put_values(file, &values);
    fputs(" -d ", file);
    put_quoted(file, option->help, cli_meaning_length(option->help));
    fputc('\n', file);
}

static void put_command(FILE *file, const cli_command *command) {
    fprintf(file, "\n# muster %s\n", command->name);
    for (const cli_option *option = command->options; option != NULL && option->name != NULL; option++)
        put_option(file, command, option);
    put_option(file, command, &cli_help_option);
    for (const cli_operand *operand = command->operands; operand != NULL && operand->name != NULL;
         operand++) {
        cli_values values;
        cli_values_of(operand->name, &values);
        fprintf(file, "complete -c muster -n '__muster_given %s'", command->name);
        put_values(file, &values);
        fputc('\n', file);
    }
}

static void put_key(void *context, const char *key, const char *const *words) {
    fprintf(context, "    echo %s=\n", key);
    for (size_t i = 0; words != NULL && words[i] != NULL; i++)
        fprintf(context, "    echo %s=%s\n", key, words[i]);
}

/* A command's name, or the first word of several; again after 'help'. */
static void put_name(FILE *file, const char *given, const char *name, const char *summary) {
    fprintf(file, "complete -c muster -n '__muster_given -x%s%s' -a %s -d ", given[0] != '\0' ? " " : "",
            given, name);
    put_quoted(file, summary, strlen(summary));
    fputc('\n', file);
}

static void put_names(FILE *file, const char *before) {
    char group[16], given[40], words[200];
    for (size_t i = 0; i < cli_command_count; i++) {
        const cli_command *command = cli_commands[i];
        const char *second = strchr(command->name, ' ');
        if (second == NULL) {
            put_name(file, before, command->name, command->summary);
            continue;
        }
        if (cli_begins_group(i, group)) {
            cli_group_words(group, words, sizeof words);
            put_name(file, before, group, words);
        }
        snprintf(given, sizeof given, "%s%s%.*s", before, before[0] != '\0' ? " " : "",
                 (int)(second - command->name), command->name);
        put_name(file, given, second + 1, command->summary);
    }
}

void cli_complete_fish(FILE *file) {
    fputs("# fish completion for muster, written by 'muster completion fish'.\n"
          "\n"
          "# __muster_given [-x] WORD...: the words after 'muster' begin with these (-x: they are these)\n"
          "function __muster_given\n"
          "    set -l exactly no\n"
          "    if test \"$argv[1]\" = -x\n"
          "        set exactly yes\n"
          "        set -e argv[1]\n"
          "    end\n"
          "    set -l words (commandline -opc)\n"
          "    set -e words[1]\n"
          "    test $exactly = no -o (count $words) = (count $argv); or return 1\n"
          "    for i in (seq (count $argv))\n"
          "        test \"$words[$i]\" = \"$argv[$i]\"; or return 1\n"
          "    end\n"
          "end\n"
          "\n"
          "# The word being typed, without '--option=' before it\n"
          "function __muster_word\n"
          "    string replace -r '^--[^=]*=' '' -- (commandline -ct)\n"
          "end\n"
          "\n"
          "function __muster_folders\n"
          "    __fish_complete_directories (__muster_word)\n"
          "end\n"
          "\n"
          "function __muster_files\n"
          "    __fish_complete_suffix (__muster_word) $argv[1]\n"
          "end\n"
          "\n"
          "function __muster_keys\n",
          file);
    mst_config_keys(put_key, file);
    fputs("end\n"
          "\n"
          "complete -c muster -f\n"
          "complete -c muster -n '__muster_given -x' -s h -l help -d 'show all commands'\n"
          "complete -c muster -n '__muster_given -x' -l man -d 'print the manual'\n"
          "complete -c muster -n '__muster_given -x' -l version -d 'show the version'\n",
          file);
    put_name(file, "", "help", "the help of a command");
    put_names(file, "");
    put_names(file, "help");
    for (size_t i = 0; i < cli_command_count; i++) put_command(file, cli_commands[i]);
}
