/* muster launch */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "muster/launch.h"

static const cli_operand operands[] = {
    {.name = "CONFIG.yaml", .help = "the config of the run, as for 'muster train'"},
    {.name = "OPTION",
     .help = "behind '--': options for mpirun or srun, given to it as they are",
     .optional = true,
     .many = true},
    {0},
};

static const cli_option options[] = {
    {.name = "ranks", .argument = "N", .help = "ranks on all nodes together (default: one a node)"},
    {.name = "all", .help = "one rank for each core"},
    {.name = "elastic",
     .argument = "MIN-MAX",
     .help = "nodes to go on with when others are gone, and at most (default: one to all that there are)"},
    {.name = "restarts",
     .argument = "N",
     .help = "give up after so many restarts one after the other without a newer checkpoint (default: 10)"},
    {.name = "hostfile",
     .argument = "FILE",
     .help = "machines to use, a line each: HOST or HOST slots=N (default: that of "
             "OMPI_MCA_orte_default_hostfile)"},
    {.name = "with", .argument = "mpirun|srun", .help = "the launcher (default: what fits where one is)"},
    {.name = "dry-run", .help = "print the command and why it is that one; start nothing"},
    {.name = "run", .argument = "DIR", .help = "run folder (default: run.dir of the config, else runs/NAME)"},
    {.name = "resume",
     .argument = "auto|never|CKPT",
     .help = "where the first attempt begins, as for 'muster train' (default: auto); later ones go on from "
             "the newest "
             "good checkpoint"},
    {.name = "set",
     .argument = "KEY=VALUE",
     .repeated = true,
     .help = "set one key of the config; may be repeated"},
    {0},
};

/* Reads "2-4" or "3". */
static mst_status read_elastic(const char *text, uint64_t *least_out, uint64_t *most_out) {
    mst_status status = MST_OK;
    char *end;
    *least_out = strtoull(text, &end, 10);
    const bool first = end != text && text[0] >= '0' && text[0] <= '9';
    *most_out = *least_out;
    const char *second = end + 1;
    if (first && *end == '-' && *second >= '0' && *second <= '9') *most_out = strtoull(second, &end, 10);
    MST_CHECK(first && *end == '\0' && *least_out > 0 && *least_out <= *most_out, MST_ECONFIG,
              "launch: --elastic: expected MIN-MAX nodes, such as 2-4, found '%s'", text);
done:
    return status;
}

static mst_status launch(const cli_args *args) {
    mst_status status = MST_OK;
    const char *const *words = cli_operands(args);
    const char *elastic = cli_text(args, "elastic", NULL);
    mst_launch_options o = {.config_path = words[0],
                            .run_dir = cli_text(args, "run", NULL),
                            .resume = cli_text(args, "resume", "auto"),
                            .hostfile = cli_text(args, "hostfile", NULL),
                            .with = cli_text(args, "with", NULL),
                            .all = cli_flag(args, "all"),
                            .restarts = 10,
                            .extra = words + 1,
                            .extra_count = cli_operand_count(args) - 1,
                            .dry_run = cli_flag(args, "dry-run") ? stdout : NULL};
    o.override_count = cli_texts(args, "set", &o.overrides);
    MST_TRY(cli_whole(args, "ranks", 1, 1 << 20, &o.ranks));
    MST_TRY(cli_whole(args, "restarts", 0, 1 << 20, &o.restarts));
    if (elastic != NULL) MST_TRY(read_elastic(elastic, &o.least_nodes, &o.most_nodes));
    MST_CHECK(o.ranks == 0 || !o.all, MST_ECONFIG, "launch: --ranks and --all exclude each other");
    MST_CHECK(o.extra_count == 0 || o.extra[0][0] == '-', MST_ECONFIG,
              "launch: unexpected word '%s'; options for mpirun or srun stand behind '--'", o.extra[0]);
    status = mst_launch(&o);
done:
    return status;
}

const cli_command cli_launch = {
    .name = "launch",
    .summary = "start the ranks of a run where one is, and again when they die",
    .description = "Finds out where it is (one machine, an allocation of Slurm, a hostfile), starts 'muster "
                   "train' with the right "
                   "launcher, ranks and cores, and watches it. When a rank or a node dies it starts again "
                   "from the newest good "
                   "checkpoint, on the nodes that answer: the bits stay the same.\n\n"
                   "Ctrl-C once (or SIGTERM, HUP, USR1, USR2): the ranks finish the step and save a "
                   "checkpoint, exit with 75; "
                   "twice: stop at once. What is wrong in command or config (2) is not started again, nor "
                   "the same failure a third "
                   "time. RUN/launch.jsonl keeps what happened.",
    .operands = operands,
    .options = options,
    .example = "muster launch configs/tiny-llama.yaml --all\n"
               "muster launch configs/tiny-llama.yaml --ranks 4 --dry-run\n"
               "salloc -N4 --no-kill muster launch configs/tiny-llama.yaml --elastic 2-4",
    .parallel = true, /* so that it can refuse to be a rank */
    .run = launch,
};
