/* muster: finds the command, runs it, says what went wrong. The only place that may end the process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "muster/comm.h"
#include "muster/nearest.h"
#include "muster/terminal.h"

/* The words name no command: says which one may have been meant. */
static mst_status unknown_command(int count, char *const *words) {
    char group[256] = "", typed[64], both[128];
    for (size_t i = 0; i < cli_command_count; i++) {
        size_t used = strlen(group);
        if (cli_in_group(cli_commands[i], words[0]))
            snprintf(group + used, sizeof group - used, "%s'muster %s'", used > 0 ? ", " : "",
                     cli_commands[i]->name);
    }
    bool alone = count == 1 || words[1][0] == '-';
    if (group[0] != '\0' && alone) return mst_error(MST_ECONFIG, "%s: say what to do: %s", words[0], group);

    snprintf(typed, sizeof typed, "%s", words[0]);
    snprintf(both, sizeof both, "%s %s", typed, alone ? "" : words[1]);
    mst_nearest one = {.word = typed}, two = {.word = both};
    for (size_t i = 0; i < cli_command_count; i++) {
        mst_nearest_offer(&one, cli_commands[i]->name);
        mst_nearest_offer(&two, cli_commands[i]->name);
    }
    const char *meant = one.best != NULL ? one.best : two.best;
    const char *said = group[0] != '\0' ? both : typed;
    if (meant != NULL)
        return mst_error(MST_ECONFIG, "unknown command '%s'; did you mean 'muster %s'?", said, meant);
    return mst_error(MST_ECONFIG, "unknown command '%s'; 'muster --help' lists the commands", said);
}

/* Runs the command that the words name, or prints its help. */
static mst_status run_command(int count, char *const *words, bool help) {
    int named;
    const cli_command *command = cli_find(count, words, &named);
    bool first = cli_launcher_rank() == 0;
    if (command == NULL) {
        bool group = count == 1 ? help : strcmp(words[1], "--help") == 0 || strcmp(words[1], "-h") == 0;
        if (group && cli_group_help(words[0], first ? stdout : NULL)) return MST_OK;
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

static void print_version(FILE *file) {
    fputs("muster " MST_VERSION "\n", file);
}

static mst_status run(int count, char *const *words) {
    void (*print)(FILE * file) = NULL;
    bool help = count > 0 && strcmp(words[0], "help") == 0;
    if (count == 0)
        print = cli_next;
    else if (strcmp(words[0], "--man") == 0 || (help && count > 1 && strcmp(words[1], "--man") == 0))
        print = cli_man;
    else if (strcmp(words[0], "--version") == 0)
        print = print_version;
    else if (help && count > 1)
        return run_command(count - 1, words + 1, true);
    else if (help || strcmp(words[0], "--help") == 0 || strcmp(words[0], "-h") == 0)
        print = cli_overview;
    else
        return run_command(count, words, false);
    if (cli_launcher_rank() == 0) print(stdout);
    return MST_OK;
}

void cli_print_error(mst_status status) {
    static bool printed;
    if (status == MST_OK || printed) return;
    printed = true;
    fflush(stdout);
    /* All ranks of a job have the same failure, unless they could not even join it. */
    if (cli_launcher_rank() == 0 || status == MST_EMPI)
        fprintf(stderr, "%smuster:%s %s\n",
                mst_terminal_style(stderr, status == MST_ESTOPPED ? MST_STYLE_NOTE : MST_STYLE_ERROR),
                mst_terminal_style(stderr, MST_STYLE_PLAIN), mst_error_message());
}

int main(int argc, char **argv) {
    mst_status status = mst_comm_enter_bundle();
    if (status == MST_OK) status = run(argc - 1, argv + 1);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == MST_OK)
        status = mst_error(MST_EIO, "cannot write to standard output: %s", strerror(errno));
    cli_print_error(status);
    return cli_exit_code(status);
}
