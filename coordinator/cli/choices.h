/* muster eval --choices: how many questions a checkpoint answers right. */
#ifndef CLI_CHOICES_H
#define CLI_CHOICES_H

#include "cli.h"
#include "muster/inference.h"

/* To be set into the list of options. */
#define CLI_CHOICES_OPTIONS                                                                                  \
    {.name = "choices",                                                                                      \
     .argument = "FILE.jsonl",                                                                               \
     .help = "questions with answers to choose among, as HellaSwag has them; may be given several times",    \
     .repeated = true},                                                                                      \
        {.name = "context",                                                                                  \
         .argument = "N",                                                                                    \
         .help = "of --choices: tokens that the model sees, at most model.max_seq_len; default: "            \
                 "data.seq_len of its training"},                                                            \
    {                                                                                                        \
        .name = "details", .argument = "FILE.jsonl",                                                         \
        .help = "of --choices: write for each question what was chosen, and the loss of every answer"        \
    }

/** That options of one kind of evaluation are not given for the other. @retval MST_ECONFIG */
mst_status cli_check_choices(const cli_args *args);

/** Reads the questions, weighs their answers and prints what is right. @retval as mst_choices_read, mst_choices_weigh; MST_EIO */
mst_status cli_choices(const cli_args *args, mst_inference *inference);

#endif
