/* muster train */
#include "commands.h"
#include "muster/comm.h"
#include "muster/config.h"
#include "muster/run.h"

static const cli_operand operands[] = {
    {.name = "CONFIG.yaml",
     .help = "the config of the run; 'muster train --help-config' prints one to begin with",
     .optional = true},
    {0},
};

static const cli_option options[] = {
    {.name = "run", .argument = "DIR", .help = "run folder (default: run.dir of the config, else runs/NAME)"},
    {.name = "resume",
     .argument = "auto|never|CKPT",
     .help = "auto: go on from the run folder's newest good checkpoint, or begin; never: begin, and refuse a "
             "folder "
             "that has checkpoints; CKPT: go on from this checkpoint (default: auto)"},
    {.name = "set",
     .argument = "KEY=VALUE",
     .repeated = true,
     .help =
         "set one key of the config, such as optimizer.beta2=0.99; VALUE is YAML, paths in it start at the "
         "working directory; may be repeated, the last one counts"},
    {.name = "help-config", .help = "print every key of a config with its type, range, default and meaning"},
    {0},
};

static mst_status train(const cli_args *args) {
    if (cli_flag(args, "help-config")) {
        if (cli_launcher_rank() == 0) mst_config_print_help(stdout);
        return MST_OK;
    }
    if (cli_operand_count(args) == 0)
        return mst_error(
            MST_ECONFIG,
            "train: CONFIG.yaml is missing; 'muster train --help-config' prints one to begin with");

    mst_train_options wanted = {.config_path = cli_operands(args)[0],
                                .run_dir = cli_text(args, "run", NULL),
                                .resume = cli_text(args, "resume", "auto")};
    wanted.override_count = cli_texts(args, "set", &wanted.overrides);
    mst_comm *comm = NULL;
    mst_run_listen(cli_launcher_rank() == 0);
    mst_status status = mst_comm_create(&comm);
    if (status == MST_OK) status = mst_comm_check_program(comm, cli_program);
    if (status == MST_OK) status = mst_run_train(comm, &wanted);
    cli_print_error(status);
    mst_comm_destroy(&comm);
    return status;
}

const cli_command cli_train = {
    .name = "train",
    .summary = "train a model; run again, it goes on where it was",
    .description =
        "Trains the model that CONFIG.yaml describes, alone or on all ranks of mpirun or srun, to the\n"
        "same bits on any number of ranks. The run folder gets the config as used, checkpoints and\n"
        "metrics.jsonl. Ctrl-C once (or SIGTERM, HUP, USR1, USR2): finish the step, save a checkpoint,\n"
        "exit with 75; twice: stop at once. The last line printed is 'weights <sha256>  state <sha256>'.",
    .operands = operands,
    .options = options,
    .example = "muster train configs/tiny-llama.yaml --set run.steps=500\n"
               "mpirun -n 4 muster train configs/tiny-llama.yaml --run runs/first",
    .parallel = true,
    .run = train,
};
