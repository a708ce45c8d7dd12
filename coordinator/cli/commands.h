/* All commands, in the order in which `muster --help` lists them. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "cli.h"

#define CLI_COMMANDS(X)                                                                                      \
    X(cli_data_build) /* cmd_data.c */                                                                       \
    X(cli_data_show)                                                                                         \
    X(cli_tokenizer_train)                                                                                   \
    X(cli_plan)     /* cmd_plan.c */                                                                         \
    X(cli_doctor)   /* cmd_doctor.c */                                                                       \
    X(cli_train)    /* cmd_train.c */                                                                        \
    X(cli_launch)   /* cmd_launch.c */                                                                       \
    X(cli_submit)   /* cmd_submit.c */                                                                       \
    X(cli_eval)     /* cmd_eval.c */                                                                         \
    X(cli_generate) /* cmd_generate.c */                                                                     \
    X(cli_inspect)  /* cmd_inspect.c */                                                                      \
    X(cli_verify)   /* cmd_verify.c */                                                                       \
    X(cli_pack)     /* cmd_pack.c */                                                                         \
    X(cli_import)   /* cmd_import.c */                                                                       \
    X(cli_export)   /* cmd_export.c */                                                                       \
    X(cli_report)   /* cmd_report.c */                                                                       \
    X(cli_completion)

/* The operand CKPT. */
#define CLI_CKPT_HELP                                                                                        \
    "a checkpoint folder, or a run folder: its newest checkpoint; or a file of 'muster pack' or 'muster "    \
    "import'"

#define CLI_DECLARE(command) extern const cli_command command;
CLI_COMMANDS(CLI_DECLARE)
#undef CLI_DECLARE

#endif
