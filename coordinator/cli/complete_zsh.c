/* The completion script for zsh: a function for each command, with what _arguments wants to know. */
#include <string.h>

#include "cli.h"
#include "muster/config.h"

/* Text inside '...' of the script; in a description of _arguments ] and : end it. */
static void put_quoted(FILE *file, const char *text, size_t length, const char *escaped) {
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\'')
            fputs("'\\''", file);
        else
            fprintf(file, strchr(escaped, text[i]) != NULL ? "\\%c" : "%c", text[i]);
    }
}

/* @param quote as it must be written here */
static void put_paths(FILE *file, const cli_values *values, const char *quote) {
    fputs("_files", file);
    if (values->suffix[0] != '\0')
        fprintf(file, " -g %s*%s(-.)%s", quote, values->suffix, quote);
    else if (!values->files)
        fputs(" -/", file);
}

/* "value_name:action" for _arguments. */
static void put_values(FILE *file, const char *name, const cli_values *values) {
    const bool words = values->words[0] != '\0', paths = values->files || values->folders;
    put_quoted(file, name, strlen(name), ":\\");
    fputc(':', file);
    if (values->keys)
        fputs("_muster_keys", file);
    else if (words && paths) {
        fprintf(file, "{_alternative \"words\\:word\\:(%s)\" \"files\\:file\\:", values->words);
        put_paths(file, values, "\\\"");
        fputs("\"}", file);
    } else if (words)
        fprintf(file, "(%s)", values->words);
    else if (paths)
        put_paths(file, values, "\"");
    else
        fputc(' ', file); /* there is nothing to offer: the name is shown */
}

static void put_option(FILE *file, const cli_option *option) {
    const char *equals = option->argument != NULL ? "=" : "";
    cli_values values;
    cli_option_values(option, &values);
    fputs("    '", file);
    if (option->repeated)
        fputc('*', file);
    else if (option->letter != 0)
        fprintf(file, "(-%c --%s)", option->letter, option->name);
    if (option->letter != 0)
        fprintf(file, "'{-%c%s,--%s%s}'", option->letter, option->argument != NULL ? "+" : "", option->name,
                equals);
    else
        fprintf(file, "--%s%s", option->name, equals);
    fputc('[', file);
    put_quoted(file, option->help, cli_meaning_length(option->help), "]:\\");
    fputc(']', file);
    if (option->argument != NULL) {
        fputc(':', file);
        put_values(file, option->argument, &values);
    }
    fputs("' \\\n", file);
}

/* data build: _muster_data_build */
static void put_function_name(FILE *file, const char *command) {
    fputs("_muster_", file);
    for (; *command != '\0'; command++) fputc(*command == ' ' ? '_' : *command, file);
}

static void put_command(FILE *file, const cli_command *command) {
    put_function_name(file, command->name);
    fputs("() {\n  _arguments -s \\\n", file);
    for (const cli_option *option = command->options; option != NULL && option->name != NULL; option++)
        put_option(file, option);
    fputs("    '(- *)'{-h,--help}'[show the help of this command]'", file);
    for (const cli_operand *operand = command->operands; operand != NULL && operand->name != NULL;
         operand++) {
        cli_values values;
        cli_values_of(operand->name, &values);
        fprintf(file, " \\\n    '%s", operand->many ? "*:" : operand->optional ? "::" : ":");
        put_values(file, operand->name, &values);
        fputc('\'', file);
    }
    fputs("\n}\n\n", file);
}

static void put_key(void *context, const char *key, const char *const *words) {
    (void)words;
    fprintf(context, " %s", key);
}

static void put_key_words(void *context, const char *key, const char *const *words) {
    if (words == NULL) return;
    fprintf(context, "      %s) compadd --", key);
    for (size_t i = 0; words[i] != NULL; i++) fprintf(context, " %s", words[i]);
    fputs(" ;;\n", context);
}

static void put_keys(FILE *file) {
    fputs("# Keys of a config, or, after one, the words that it takes.\n"
          "_muster_keys() {\n"
          "  if compset -P '*='; then\n"
          "    case ${${IPREFIX%=}##*=} in\n",
          file);
    mst_config_keys(put_key_words, file);
    fputs("    esac\n"
          "  else\n"
          "    compadd -S = --",
          file);
    mst_config_keys(put_key, file);
    fputs("\n  fi\n}\n\n", file);
}

/* 'name:summary' for _describe. */
static void put_description(FILE *file, const char *name, const char *summary) {
    fprintf(file, "      '%s:", name);
    put_quoted(file, summary, strlen(summary), "\\");
    fputs("'\n", file);
}

static void put_group(FILE *file, const char *group) {
    fprintf(file, "_muster_%s() {\n  local -a names=(\n", group);
    for (size_t i = 0; i < cli_command_count; i++)
        if (cli_in_group(cli_commands[i], group))
            put_description(file, strchr(cli_commands[i]->name, ' ') + 1, cli_commands[i]->summary);
    fprintf(file,
            "  )\n"
            "  if ((CURRENT == 2)); then\n"
            "    _describe -t commands 'muster %s command' names\n"
            "  else\n"
            "    shift words\n"
            "    ((CURRENT--))\n"
            "    (($+functions[_muster_%s_$words[1]])) && _muster_%s_$words[1]\n"
            "  fi\n"
            "}\n\n",
            group, group, group);
}

static void put_names(FILE *file) {
    char group[16], text[200];
    fputs("_muster_names() {\n  local -a names=(\n", file);
    for (size_t i = 0; i < cli_command_count; i++) {
        if (strchr(cli_commands[i]->name, ' ') == NULL)
            put_description(file, cli_commands[i]->name, cli_commands[i]->summary);
        if (!cli_begins_group(i, group)) continue;
        cli_group_words(group, text, sizeof text);
        put_description(file, group, text);
    }
    fputs("      'help:the help of a command'\n"
          "  )\n"
          "  _describe -t commands 'muster command' names\n"
          "}\n\n",
          file);
}

void cli_complete_zsh(FILE *file) {
    char group[16];
    fputs("#compdef muster\n"
          "# zsh completion for muster, written by 'muster completion zsh'.\n\n",
          file);
    put_keys(file);
    for (size_t i = 0; i < cli_command_count; i++) {
        put_command(file, cli_commands[i]);
        if (cli_begins_group(i, group)) put_group(file, group);
    }
    put_names(file);
    fputs("_muster() {\n"
          "  local curcontext=$curcontext state line\n"
          "  typeset -A opt_args\n"
          "  _arguments -C \\\n"
          "    '(- *)'{-h,--help}'[show all commands]' \\\n"
          "    '(- *)--man[print the manual]' \\\n"
          "    '(- *)--version[show the version]' \\\n"
          "    '1:command:_muster_names' \\\n"
          "    '*::word:->words'\n"
          "  [[ $state == words ]] || return\n"
          "  if [[ $words[1] == help ]]; then\n"
          "    if ((CURRENT == 2)); then\n"
          "      _muster_names\n"
          "      return\n"
          "    fi\n"
          "    shift words\n"
          "    ((CURRENT--))\n"
          "    ((CURRENT == 2)) || return\n"
          "  fi\n"
          "  (($+functions[_muster_$words[1]])) && _muster_$words[1]\n"
          "}\n"
          "\n"
          "# sourced, it registers itself; loaded by compinit, it is the function that completes\n"
          "if [[ $funcstack[1] == _muster ]]; then\n"
          "  _muster \"$@\"\n"
          "else\n"
          "  compdef _muster muster\n"
          "fi\n",
          file);
}
