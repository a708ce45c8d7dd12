/*
 * The command line: one constant table per command. Parsing, --help, the man page and the completion of all
 * shells come from these tables. A command file (cmd_NAME.c) defines one `const cli_command` for each command
 * that commands.h lists.
 *
 * The name of an operand or of an option's value is read by people and by the completion (cli_values_of). It is
 * one or more alternatives with | between them: words to be typed as they are, in small letters ("auto"); files
 * of one kind ("FILE.h5"); FILE and INPUT, any file; DIR, RUN, a folder; CKPT, a folder or ".h5" file; KEY=VALUE, a key of a config;
 * anything else in capitals is for the user to invent. So "auto|never|CKPT" says all that is needed.
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
    const char *description;     /* paragraphs, an empty line between them, filled when printed; or NULL */
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
 * wanted, operands missing or too many, a file or folder whose name is empty
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

/** This program, by its version and a digest of its sources: made by program.cmake. */
extern const char cli_program[];

/* ---- all commands (commands.c) ---- */

extern const cli_command *const cli_commands[]; /* in the order in which `muster --help` lists them */
extern const size_t cli_command_count;
extern const cli_option cli_help_option; /* which every command has */

/** The command that the words begin with and how many of them (1 or 2) name it; NULL: none. */
const cli_command *cli_find(int count, char *const *words, int *named_out);
/** Whether the command is one of a group ("data build" of "data"). */
bool cli_in_group(const cli_command *command, const char *group);
/** Whether the command is the first of its group: then group_out [16] is the group's name. */
bool cli_begins_group(size_t number, char group_out[16]);
/** The second words of a group's commands: "build, show". */
void cli_group_words(const char *group, char *text_out, size_t room);

typedef struct cli_exit {
    int code;
    const char *meaning;
} cli_exit;
extern const cli_exit cli_exits[]; /* ends with a meaning of NULL */

/* ---- what is printed of the tables; never fails but by the stream ---- */

/** A command's help. */
void cli_help(const cli_command *command, FILE *file);
/** The help of muster itself. */
void cli_overview(FILE *file);
/** The commands of a group; false where there is no such group. With NULL nothing is printed. */
bool cli_group_help(const char *group, FILE *file);
/** What to do next where one stands: in the working directory, by its runs, configs and token files. */
void cli_next(FILE *file);
/** The man page, muster(1), in man(7). */
void cli_man(FILE *file);

/* What may stand for an operand or an option's value, as far as its name says. */
typedef struct cli_values {
    char words[96];  /* to be typed as they are, a blank between them */
    char suffix[16]; /* of files: ".h5"; "" with `files`: any file */
    bool files, folders, keys;
} cli_values;

void cli_values_of(const char *name, cli_values *values_out);
/** The same for an option; nothing for a flag. */
void cli_option_values(const cli_option *option, cli_values *values_out);
/** Bytes of an option's help that fit a menu: up to its first semicolon or parenthesis. */
size_t cli_meaning_length(const char *help);

void cli_complete_bash(FILE *file);
void cli_complete_zsh(FILE *file);
void cli_complete_fish(FILE *file);

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
