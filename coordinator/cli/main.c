/* muster: finds the command, runs it, says what went wrong. The only place that may end the process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "muster/nearest.h"

static const cli_command *const commands[] = {
#define CLI_ADDRESS(command) &(command),
    CLI_COMMANDS(CLI_ADDRESS)
#undef CLI_ADDRESS
};
#define CLI_NUMBER(command) number_of_##command,
enum { CLI_COMMANDS(CLI_NUMBER) COMMANDS };
#undef CLI_NUMBER

/* How many of the words name this command: 0 if they do not, else 1 or 2. */
static int words_named(const cli_command *command, int count, char *const *words) {
    const char *second = strchr(command->name, ' ');
    if (second == NULL) return strcmp(words[0], command->name) == 0 ? 1 : 0;
    size_t first_length = (size_t)(second - command->name);
    bool match = count >= 2 && strlen(words[0]) == first_length &&
                 memcmp(words[0], command->name, first_length) == 0 && strcmp(words[1], second + 1) == 0;
    return match ? 2 : 0;
}

static void print_help(FILE *file) {
    fputs("muster: trains language models on one machine or many, to the same bits on any number of ranks\n\n"
          "usage: muster COMMAND [word]... [option]...\n\ncommands:\n",
          file);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(file, "  %-14s%s\n", commands[i]->name, commands[i]->summary);
    fputs(
        "\noptions:\n"
        "  --help        show this text; after a command: the command's options, with an example\n"
        "  --version     show the version\n\n"
        "exit codes: 0 done; 1 the work failed; 2 the command or config is wrong; 75 stopped early on "
        "request,\n"
        "            with a good checkpoint (run the same command again to go on)\n\n"
        "example:\n"
        "  muster data build texts/ -o tokens.h5\n"
        "  muster train --help-config > config.yaml     # every key, with its meaning; edit it, then\n"
        "  muster train config.yaml                     # alone, or: mpirun -n 4 muster train config.yaml\n",
        file);
}

/* Whether the command is one of a group ("data build" of "data"). */
static bool in_group(const cli_command *command, const char *word) {
    size_t length = strlen(word);
    return strncmp(command->name, word, length) == 0 && command->name[length] == ' ';
}

/* Prints the commands of a group; nothing where there is no such group. */
static bool print_group_help(const char *word, FILE *file) {
    bool found = false;
    for (size_t i = 0; i < COMMANDS; i++) {
        if (!in_group(commands[i], word)) continue;
        if (!found && file != NULL) fprintf(file, "usage: muster %s COMMAND\n\ncommands:\n", word);
        if (file != NULL) fprintf(file, "  %-14s%s\n", commands[i]->name, commands[i]->summary);
        found = true;
    }
    if (found && file != NULL) fprintf(file, "\nexample:\n  muster %s COMMAND --help\n", word);
    return found;
}

/* The words name no command: says which one may have been meant. */
static mst_status unknown_command(int count, char *const *words) {
    char group[256] = "", typed[64], both[128];
    for (size_t i = 0; i < COMMANDS; i++) {
        size_t used = strlen(group);
        if (in_group(commands[i], words[0]))
            snprintf(group + used, sizeof group - used, "%s'muster %s'", used > 0 ? ", " : "",
                     commands[i]->name);
    }
    bool alone = count == 1 || words[1][0] == '-';
    if (group[0] != '\0' && alone) return mst_error(MST_ECONFIG, "%s: say what to do: %s", words[0], group);

    snprintf(typed, sizeof typed, "%s", words[0]);
    snprintf(both, sizeof both, "%s %s", typed, alone ? "" : words[1]);
    mst_nearest one = {.word = typed}, two = {.word = both};
    for (size_t i = 0; i < COMMANDS; i++) {
        mst_nearest_offer(&one, commands[i]->name);
        mst_nearest_offer(&two, commands[i]->name);
    }
    const char *meant = one.best != NULL ? one.best : two.best;
    const char *said = group[0] != '\0' ? both : typed;
    if (meant != NULL)
        return mst_error(MST_ECONFIG, "unknown command '%s'; did you mean 'muster %s'?", said, meant);
    return mst_error(MST_ECONFIG, "unknown command '%s'; 'muster --help' lists the commands", said);
}

/* Runs the command that the words name, or prints its help. */
static mst_status run_command(int count, char *const *words, bool help) {
    const cli_command *command = NULL;
    int named = 0;
    for (size_t i = 0; i < COMMANDS && named == 0; i++) {
        command = commands[i];
        named = words_named(command, count, words);
    }
    bool first = cli_launcher_rank() == 0;
    if (named == 0) {
        bool group = count == 1 ? help : strcmp(words[1], "--help") == 0 || strcmp(words[1], "-h") == 0;
        if (group && print_group_help(words[0], first ? stdout : NULL)) return MST_OK;
        return unknown_command(count, words);
    }

    cli_args *args = NULL;
    mst_status status = help ? MST_OK : cli_parse(command, count - named, words + named, &args);
    if (status != MST_OK) return status;
    if (help || cli_wants_help(args)) {
        if (first) cli_help(command, stdout);
    } else if (command->parallel || first) {
        status = command->run(args);
    }
    cli_args_destroy(&args);
    return status;
}

static mst_status run(int count, char *const *words) {
    bool first = cli_launcher_rank() == 0;
    if (count == 0) {
        if (first) print_help(stderr);
        return mst_error(MST_ECONFIG,
                         "no command given; begin with 'muster data build --help' or 'muster train --help'");
    }
    bool help = strcmp(words[0], "help") == 0;
    if (help && count > 1) return run_command(count - 1, words + 1, true);
    if (help || strcmp(words[0], "--help") == 0 || strcmp(words[0], "-h") == 0) {
        if (first) print_help(stdout);
        return MST_OK;
    }
    if (strcmp(words[0], "--version") == 0) {
        if (first) puts("muster " MST_VERSION);
        return MST_OK;
    }
    return run_command(count, words, false);
}

void cli_print_error(mst_status status) {
    static bool printed;
    if (status == MST_OK || printed) return;
    printed = true;
    fflush(stdout);
    /* All ranks of a job have the same failure, unless they could not even join it. */
    if (cli_launcher_rank() == 0 || status == MST_EMPI) fprintf(stderr, "muster: %s\n", mst_error_message());
}

int main(int argc, char **argv) {
    mst_status status = run(argc - 1, argv + 1);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == MST_OK)
        status = mst_error(MST_EIO, "cannot write to standard output: %s", strerror(errno));
    cli_print_error(status);
    return cli_exit_code(status);
}
