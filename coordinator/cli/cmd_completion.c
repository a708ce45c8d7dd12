/* muster completion: scripts for shells, from the tables. */
#include <string.h>

#include "commands.h"

static const cli_operand operands[] = {{.name = "bash|zsh|fish", .help = "the shell"}, {0}};

static mst_status run(const cli_args *args) {
    const char *shell = cli_operands(args)[0];
    if (strcmp(shell, "bash") == 0)
        cli_complete_bash(stdout);
    else if (strcmp(shell, "zsh") == 0)
        cli_complete_zsh(stdout);
    else if (strcmp(shell, "fish") == 0)
        cli_complete_fish(stdout);
    else
        return mst_error(MST_ECONFIG, "completion: '%s' is not known; there are bash, zsh and fish", shell);
    return MST_OK;
}

const cli_command cli_completion = {
    .name = "completion",
    .summary = "print a script that completes commands, options and files in a shell",
    .description =
        "The script knows all commands and options, the keys of a config after --set, and which kind of file "
        "stands where. 'cmake --install' puts it where the shell finds it by itself; from a build folder, "
        "use "
        "one of the lines below, or put it into the shell's start-up file. zsh: after compinit.",
    .operands = operands,
    .example = "source <(muster completion bash)\n"
               "source <(muster completion zsh)\n"
               "muster completion fish | source",
    .run = run,
};
