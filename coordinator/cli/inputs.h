/* Which text a command reads: the operands and options that the commands on text share. */
#ifndef CLI_INPUTS_H
#define CLI_INPUTS_H

#include "cli.h"
#include "muster/data.h"

/* The whole list of operands of such a command. */
extern const cli_operand cli_input_operands[];

/* To be set into the list of options. */
#define CLI_INPUT_OPTIONS                                                                                    \
    {.name = "glob",                                                                                         \
     .argument = "PATTERN",                                                                                  \
     .help = "which file names to read in folders (default: *.txt and *.jsonl, also with .gz and .zst)"},    \
        {.name = "field",                                                                                    \
         .argument = "NAME",                                                                                 \
         .help = "the field of a .jsonl line that holds the text (default: text)"},                          \
        {.name = "heldout",                                                                                  \
         .argument = "FRACTION",                                                                             \
         .help = "share of the documents that is kept from training, 0 to 0.5 (default: 0.01)"},             \
    {                                                                                                        \
        .name = "seed", .argument = "N",                                                                     \
        .help = "which documents are held out; the same seed and fraction split alike in every command "     \
                "(default: 0)"                                                                               \
    }

/** What the operands and options say, with the defaults of the others. Texts are the arguments'.
 * @retval MST_ECONFIG a value out of range */
mst_status cli_inputs(const cli_args *args, mst_build_options *options_out);

#endif
