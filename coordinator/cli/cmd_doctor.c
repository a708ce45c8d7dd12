/* muster doctor: whether the machines of a job are fit to train on. */
#include "commands.h"
#include "muster/comm.h"
#include "muster/doctor.h"

static const cli_operand operands[] = {{.name = "CONFIG.yaml",
                                        .help = "the run that the machines are for; default: machines only",
                                        .optional = true},
                                       {0}};

static const cli_option options[] = {
    {.name = "run",
     .argument = "DIR",
     .help = "run folder to look at (default: the config's, as for muster train)"},
    {.name = "set", .argument = "KEY=VALUE", .repeated = true, .help = "as for muster train"},
    {0}};

static mst_status run(const cli_args *args) {
    mst_doctor_options wanted = {.config_path = cli_operand_count(args) > 0 ? cli_operands(args)[0] : NULL,
                                 .run_dir = cli_text(args, "run", NULL)};
    wanted.override_count = cli_texts(args, "set", &wanted.overrides);
    if (wanted.override_count > 0 && wanted.config_path == NULL)
        return mst_error(MST_ECONFIG, "doctor: --set changes a config: name one, too");
    mst_comm *comm = NULL;
    mst_status status = mst_comm_create(&comm);
    if (status == MST_OK) status = mst_comm_check_program(comm, cli_program);
    if (status == MST_OK) status = mst_doctor_examine(comm, &wanted, stdout);
    cli_print_error(status);
    mst_comm_destroy(&comm);
    return status;
}

const cli_command cli_doctor = {
    .name = "doctor",
    .summary = "whether the machines of a job are fit to train on",
    .description =
        "Alone, or on all ranks of mpirun or srun as training would be started: versions and device class,\n"
        "cores, clocks, load, limits, memory and disk against what the run needs, the run folder (seen by "
        "all\n"
        "ranks? fsync, renames, locks), links between every pair of nodes, the nodes' clocks. One line "
        "each:\n"
        "ok, warn or FAIL, and what to do. Ends with 0 unless something FAILs, then with 1. Trains nothing "
        "and\n"
        "leaves nothing behind; takes seconds.",
    .operands = operands,
    .options = options,
    .example = "muster doctor\n"
               "mpirun -n 4 --bind-to none muster doctor configs/tiny-llama.yaml\n"
               "srun --mpi=pmix -N4 -n4 muster doctor configs/tiny-llama.yaml --run /shared/runs/first",
    .parallel = true,
    .run = run,
};
