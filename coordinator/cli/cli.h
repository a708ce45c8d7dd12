/*
 * The command line: one constant table per command. Parsing, --help, and later the man page and shell
 * completion all come from these tables. A command file (cmd_NAME.c) defines one `const cli_command` for each
 * command that commands.h lists.
 */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "muster/status.h"

/* One option, written --name VALUE, --name=VALUE, -l VALUE or -lVALUE;
 * without an argument just --name or -l. */
typedef struct cli_option {
    const char *name;     /* without the dashes */
    const char *argument; /* name of its value in the help, such as "FILE"; NULL: a flag */
    const char *help;     /* what it does; states the default */
    char letter;          /* of the short form, or 0 */
    bool required;
    bool repeated; /* every value counts (cli_texts); otherwise the last one does */
} cli_option;

/* Words without dashes, in order. Only the last one may be optional or many. */
typedef struct cli_operand {
    const char *name; /* such as "CONFIG.yaml" */
    const char *help;
    bool optional;
    bool many; /* one or more; with optional: any number */
} cli_operand;

typedef struct cli_args cli_args;

typedef struct cli_command {
    const char *name;            /* one or two words: "train", "data build" */
    const char *summary;         /* one line, no full stop */
    const char *description;     /* paragraphs for --help, lines of at most 80 characters; or NULL */
    const cli_operand *operands; /* ends with {0}; NULL: none */
    const cli_option *options;   /* ends with {0}; NULL: none. --help is added to all */
    const char *example;         /* complete commands, one a line */
    bool parallel; /* works on all ranks of a launcher; otherwise the first rank does the work alone */

    /** Does the work. Errors are returned with their message (mst_error), and main prints it.
     * @retval MST_ECONFIG for what the user typed wrong, MST_ESTOPPED for stopped early with a good
     * checkpoint; see cli_exit_code. */
    mst_status (*run)(const cli_args *args);
} cli_command;

/**
 * Parses the words after a command's name.
 *
 * @param words kept by reference, in args_out too; must outlive it
 * @param args_out freed by cli_args_destroy
 * @retval MST_ECONFIG unknown option (with the nearest known one), value missing or not
 * wanted, operands missing or too many
 * @retval MST_ENOMEM
 */
mst_status cli_parse(const cli_command *command, int count, char *const *words, cli_args **args_out);
void cli_args_destroy(cli_args **args);

/* What was given. `name` is an option of the command's table (checked by an assertion). */

/** --help or -h was given; then nothing else was checked. */
bool cli_wants_help(const cli_args *args);
/** Whether the option was given at all. */
bool cli_flag(const cli_args *args, const char *name);
/** The option's (last) value, or `otherwise`. */
const char *cli_text(const cli_args *args, const char *name, const char *otherwise);
/** All values of a repeated option, in order; returns how many. */
size_t cli_texts(const cli_args *args, const char *name, const char *const **values_out);
/** A whole number in [low, high]; *value_out keeps its value (the default) when the option is not given.
 * @retval MST_ECONFIG not a whole number, or out of range */
mst_status cli_whole(const cli_args *args, const char *name, uint64_t low, uint64_t high,
                     uint64_t *value_out);
/** As cli_whole, for a finite real number. */
mst_status cli_real(const cli_args *args, const char *name, double low, double high, double *value_out);

/** The operands; [cli_operand_count]. The required ones are there. */
size_t cli_operand_count(const cli_args *args);
const char *const *cli_operands(const cli_args *args);

/** Prints a command's help, generated from its table. */
void cli_help(const cli_command *command, FILE *file);

/** Prints this thread's error message on the first rank, the first time that it is called with a failure.
 * main does so at the end; a command of several ranks does it before it leaves the job, since a launcher
 * kills the others when one has failed. */
void cli_print_error(mst_status status);

/** 0 done; 1 the work failed; 2 the command or config is wrong;
 * 75 stopped early on request with a good checkpoint. */
int cli_exit_code(mst_status status);

/** This process's rank as its launcher (mpirun, srun) put it into the environment; 0 without a launcher. Only
 * for who may print: the job itself asks its mst_comm. */
long cli_launcher_rank(void);

#endif
