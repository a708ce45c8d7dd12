/* The completion script for bash: code that is always the same, around cases written from the tables. */
#include <string.h>

#include "cli.h"
#include "muster/config.h"

/* Helpers: `cur` is what is being typed, without the "--option=" or "key=" before it. */
static const char beginning[] =
    "# bash completion for muster, written by 'muster completion bash'.\n"
    "\n"
    "# Files whose names end in $1 (any when empty), and folders.\n"
    "_muster_files() {\n"
    "  local name\n"
    "  compopt -o filenames 2>/dev/null\n"
    "  while IFS= read -r name; do\n"
    "    [[ -d $name ]] || COMPREPLY+=(\"$name\")\n"
    "  done < <(compgen -f -X \"!*$1\" -- \"$cur\")\n"
    "  _muster_folders\n"
    "}\n"
    "\n"
    "_muster_folders() {\n"
    "  local name\n"
    "  compopt -o filenames 2>/dev/null\n"
    "  while IFS= read -r name; do COMPREPLY+=(\"$name\"); done < <(compgen -d -- \"$cur\")\n"
    "}\n"
    "\n"
    "_muster_words() {\n"
    "  local word\n"
    "  for word in $1; do\n"
    "    [[ $word != \"$cur\"* ]] || COMPREPLY+=(\"$word\")\n"
    "  done\n"
    "}\n"
    "\n";

static const char middle[] =
    "\n"
    "_muster() {\n"
    "  # bash cuts words at '=' (COMP_WORDBREAKS); here they are whole again, up to the cursor.\n"
    "  local words=() i\n"
    "  for ((i = 0; i <= COMP_CWORD; i++)); do\n"
    "    if ((i > 1)) && [[ ${COMP_WORDS[i]} == =* || ${COMP_WORDS[i - 1]} == *= ]]; then\n"
    "      words[${#words[@]} - 1]+=${COMP_WORDS[i]}\n"
    "    else\n"
    "      words+=(\"${COMP_WORDS[i]}\")\n"
    "    fi\n"
    "  done\n"
    "  local last=$((${#words[@]} - 1))\n"
    "  local cur=${words[last]} before='' option='' at=2 number=0 helping=''\n"
    "  COMPREPLY=()\n"
    "  if [[ ${words[1]} == help ]] && ((last > 1)); then\n"
    "    helping=1 last=$((last - 1)) words=(\"${words[@]:1}\")\n"
    "  fi\n"
    "  local command=${words[1]-}\n"
    "\n";

static const char end[] = "  # where bash does not cut at '=', the answer is the whole word\n"
                          "  if [[ -n $before && $COMP_WORDBREAKS != *=* ]]; then\n"
                          "    COMPREPLY=(\"${COMPREPLY[@]/#/$before}\")\n"
                          "  fi\n"
                          "}\n"
                          "complete -F _muster muster\n";

/* The calls that offer the values; a colon, which does nothing, where there are none to offer. */
static void put_values(FILE *file, const cli_values *values) {
    const bool words = values->words[0] != '\0', paths = values->files || values->folders;
    if (words) fprintf(file, "_muster_words '%s'", values->words);
    if (words && paths) fputs("; ", file);
    if (values->files)
        fprintf(file, "_muster_files '%s'", values->suffix);
    else if (values->folders)
        fputs("_muster_folders", file);
    else if (values->keys)
        fputs("_muster_keys", file);
    else if (!words)
        fputc(':', file);
    fputs(" ;;\n", file);
}

/* "key=" of every key, or after one the words that it takes. */
static void put_key(void *context, const char *key, const char *const *words) {
    (void)words;
    fprintf(context, " %s=", key);
}

static void put_key_words(void *context, const char *key, const char *const *words) {
    if (words == NULL) return;
    fprintf(context, "    %s) _muster_words '", key);
    for (size_t i = 0; words[i] != NULL; i++) fprintf(context, "%s%s", i > 0 ? " " : "", words[i]);
    fputs("' ;;\n", context);
}

static void put_keys(FILE *file) {
    fputs("# Keys of a config, or, after one, the words that it takes.\n"
          "_muster_keys() {\n"
          "  local key=${before%=}\n"
          "  key=${key#--*=}\n"
          "  case $key in\n",
          file);
    mst_config_keys(put_key_words, file);
    fputs("    '' | --*)\n"
          "      compopt -o nospace 2>/dev/null\n"
          "      _muster_words '",
          file);
    mst_config_keys(put_key, file);
    fputs("' ;;\n  esac\n}\n", file);
}

static void put_command_names(FILE *file) {
    char group[16];
    fputs("  # the command's name, of one or two words\n"
          "  case $command in\n",
          file);
    for (size_t i = 0; i < cli_command_count; i++)
        if (cli_begins_group(i, group)) fprintf(file, "    %s) at=3 command+=\" ${words[2]-}\" ;;\n", group);
    fputs("  esac\n"
          "  if ((last == 1)); then\n"
          "    _muster_words 'help --help --man --version",
          file);
    for (size_t i = 0; i < cli_command_count; i++) {
        if (strchr(cli_commands[i]->name, ' ') == NULL)
            fprintf(file, " %s", cli_commands[i]->name);
        else if (cli_begins_group(i, group))
            fprintf(file, " %s", group);
    }
    fputs("'\n    return\n  fi\n"
          "  if ((last < at)); then\n"
          "    case ${words[1]} in\n",
          file);
    for (size_t i = 0; i < cli_command_count; i++) {
        if (!cli_begins_group(i, group)) continue;
        fprintf(file, "      %s) _muster_words '", group);
        for (size_t j = 0; j < cli_command_count; j++)
            if (cli_in_group(cli_commands[j], group))
                fprintf(file, "%s ", strchr(cli_commands[j]->name, ' ') + 1);
        fputs("--help' ;;\n", file);
    }
    fputs("    esac\n    return\n  fi\n\n", file);
}

/* The names of a command's options that `wanted` chooses: all, or those with a value. */
static void put_option_names(FILE *file, const cli_command *command, bool with_value_only) {
    for (const cli_option *option = command->options; option != NULL && option->name != NULL; option++) {
        if (with_value_only && option->argument == NULL) continue;
        fprintf(file, " --%s", option->name);
        if (option->letter != 0) fprintf(file, " -%c", option->letter);
    }
}

static void put_options(FILE *file) {
    fputs("  local options='' valued=''\n"
          "  case $command in\n",
          file);
    for (size_t i = 0; i < cli_command_count; i++) {
        fprintf(file, "    '%s')\n      options='--help -h", cli_commands[i]->name);
        put_option_names(file, cli_commands[i], false);
        fputs("'\n      valued='", file);
        put_option_names(file, cli_commands[i], true);
        fputs(" ' ;;\n", file);
    }
    fputs("    *) return ;;\n"
          "  esac\n"
          "  [[ -z $helping ]] || return\n"
          "\n"
          "  # which option's value, or which operand, is being typed\n"
          "  for ((i = at; i < last; i++)); do\n"
          "    if [[ $valued == *\" ${words[i]} \"* ]]; then\n"
          "      if ((i + 1 == last)); then option=${words[i]}; else i=$((i + 1)); fi\n"
          "    elif [[ ${words[i]} != -* ]]; then\n"
          "      number=$((number + 1))\n"
          "    fi\n"
          "  done\n"
          "  if [[ -z $option && $cur == --*=* ]]; then option=${cur%%=*}; fi\n"
          "  if [[ -z $option && $cur == -* ]]; then\n"
          "    _muster_words \"$options\"\n"
          "    return\n"
          "  fi\n"
          "  if [[ $cur == *=* ]]; then before=${cur%=*}= cur=${cur##*=}; fi\n"
          "\n"
          "  case \"$command:${option:-$number}\" in\n",
          file);
}

static void put_cases(FILE *file) {
    cli_values values;
    for (size_t i = 0; i < cli_command_count; i++) {
        const cli_command *command = cli_commands[i];
        for (const cli_option *option = command->options; option != NULL && option->name != NULL; option++) {
            if (option->argument == NULL) continue;
            fprintf(file, "    '%s:--%s'", command->name, option->name);
            if (option->letter != 0) fprintf(file, " | '%s:-%c'", command->name, option->letter);
            fputs(") ", file);
            cli_option_values(option, &values);
            put_values(file, &values);
        }
        size_t number = 0;
        const cli_operand *operand = command->operands;
        for (; operand != NULL && operand->name != NULL; operand++, number++) {
            if (operand->many)
                fprintf(file, "    '%s:'[0-9]*) ", command->name);
            else
                fprintf(file, "    '%s:%zu') ", command->name, number);
            cli_values_of(operand->name, &values);
            put_values(file, &values);
        }
    }
    fputs("  esac\n", file);
}

void cli_complete_bash(FILE *file) {
    fputs(beginning, file);
    put_keys(file);
    fputs(middle, file);
    put_command_names(file);
    put_options(file);
    put_cases(file);
    fputs(end, file);
}
