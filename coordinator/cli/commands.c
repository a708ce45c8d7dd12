/* The table of all commands, and finding in it. */
#include "commands.h"

#include <string.h>

const cli_command *const cli_commands[] = {
#define CLI_ADDRESS(command) &(command),
    CLI_COMMANDS(CLI_ADDRESS)
#undef CLI_ADDRESS
};
const size_t cli_command_count = sizeof cli_commands / sizeof *cli_commands;

const cli_option cli_help_option = {.name = "help", .letter = 'h', .help = "show this text"};

const cli_exit cli_exits[] = {
    {0, "done"},
    {1, "the work failed"},
    {2, "the command or config is wrong"},
    {75, "stopped early on request, with a good checkpoint: run the same command again to go on"},
    {0, NULL},
};

/* How many of the words name this command: 0 if they do not, else 1 or 2. */
static int words_named(const cli_command *command, int count, char *const *words) {
    const char *second = strchr(command->name, ' ');
    if (second == NULL) return strcmp(words[0], command->name) == 0 ? 1 : 0;
    return count >= 2 && cli_in_group(command, words[0]) && strcmp(words[1], second + 1) == 0 ? 2 : 0;
}

const cli_command *cli_find(int count, char *const *words, int *named_out) {
    for (size_t i = 0; i < cli_command_count && count > 0; i++) {
        *named_out = words_named(cli_commands[i], count, words);
        if (*named_out > 0) return cli_commands[i];
    }
    *named_out = 0;
    return NULL;
}

bool cli_in_group(const cli_command *command, const char *group) {
    size_t length = strlen(group);
    return strncmp(command->name, group, length) == 0 && command->name[length] == ' ';
}

bool cli_begins_group(size_t number, char group_out[16]) {
    const char *name = cli_commands[number]->name;
    if (strchr(name, ' ') == NULL) return false;
    snprintf(group_out, 16, "%.*s", (int)strcspn(name, " "), name);
    for (size_t i = 0; i < number; i++)
        if (cli_in_group(cli_commands[i], group_out)) return false;
    return true;
}

void cli_group_words(const char *group, char *text_out, size_t room) {
    size_t used = 0;
    text_out[0] = '\0';
    for (size_t i = 0; i < cli_command_count; i++)
        if (cli_in_group(cli_commands[i], group) && used < room)
            used += (size_t)snprintf(text_out + used, room - used, "%s%s", used > 0 ? ", " : "",
                                     strchr(cli_commands[i]->name, ' ') + 1);
}
