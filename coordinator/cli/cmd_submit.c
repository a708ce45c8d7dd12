/* muster submit: a batch script for Slurm, written and submitted. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "muster/config.h"
#include "muster/files.h"
#include "muster/submit.h"

static const cli_operand operands[] = {
    {.name = "CONFIG.yaml", .help = "the config of the run, as for 'muster train'"},
    {.name = "OPTION",
     .help = "behind '--': options for sbatch, each one word, such as --qos=long or --mem=0",
     .optional = true,
     .many = true},
    {0},
};

static const cli_option options[] = {
    {.name = "nodes",
     .argument = "MIN-MAX",
     .help =
         "nodes, or the least and the most that the job may get; the result has the same bits (default: 1)"},
    {.name = "time",
     .argument = "TIME",
     .required = true,
     .help = "limit of one start, such as 4:00:00; the job queues itself again until the run is done"},
    {.name = "partition", .argument = "NAME", .help = "where to (default: Slurm's)"},
    {.name = "account", .argument = "NAME", .help = "who pays (default: Slurm's)"},
    {.name = "ranks-per-node",
     .argument = "N",
     .help = "ranks on each node, which share its cores (default: 1)"},
    {.name = "name", .argument = "NAME", .help = "the job's name (default: run.name of the config)"},
    {.name = "run", .argument = "DIR", .help = "run folder (default: run.dir of the config, else runs/NAME)"},
    {.name = "set",
     .argument = "KEY=VALUE",
     .repeated = true,
     .help = "set one key of the config; may be repeated"},
    {.name = "dry-run", .help = "print the script; write and submit nothing"},
    {0},
};

/* A path from the root on, without looking at what is there; freed by the caller. */
static mst_status absolute(const char *path, const char *folder, char **absolute_out) {
    if (asprintf(absolute_out, "%s%s%s", path[0] == '/' ? "" : folder, path[0] == '/' ? "" : "/", path) >= 0)
        return MST_OK;
    *absolute_out = NULL;
    return mst_error(MST_ENOMEM, "submit: out of memory");
}

/* The paths of a job, owned. */
typedef struct job_paths {
    char program[PATH_MAX], folder[PATH_MAX];
    char *config, *run;
} job_paths;

static mst_status find_paths(const cli_args *args, const mst_config *config, job_paths *paths) {
    mst_status status = MST_OK;
    char *under = NULL;
    const ssize_t length = readlink("/proc/self/exe", paths->program, sizeof paths->program - 1);
    MST_CHECK(length > 0, MST_EIO, "submit: /proc/self/exe: %s", strerror(errno));
    paths->program[length] = '\0';
    MST_CHECK(getcwd(paths->folder, sizeof paths->folder) != NULL, MST_EIO,
              "submit: the working directory: %s", strerror(errno));
    MST_TRY(absolute(cli_operands(args)[0], paths->folder, &paths->config));
    if (asprintf(&under, "runs/%s", config->run.name) < 0) under = NULL;
    MST_CHECK(under != NULL, MST_ENOMEM, "submit: out of memory");
    MST_TRY(absolute(cli_text(args, "run", config->run.dir != NULL ? config->run.dir : under), paths->folder,
                     &paths->run));
done:
    free(under);
    return status;
}

static mst_status fill_job(const cli_args *args, const mst_config *config, const job_paths *paths,
                           mst_submit_job *job_out) {
    mst_status status = MST_OK;
    char launch[] = "launch", *const word[] = {launch};
    int named;
    *job_out = (mst_submit_job){.program = paths->program,
                                .config = paths->config,
                                .run = paths->run,
                                .folder = paths->folder,
                                .name = cli_text(args, "name", config->run.name),
                                .time = cli_text(args, "time", ""),
                                .partition = cli_text(args, "partition", NULL),
                                .account = cli_text(args, "account", NULL),
                                .ranks_per_node = 1,
                                .launches = cli_find(1, word, &named) != NULL,
                                .options = cli_operands(args) + 1,
                                .option_count = cli_operand_count(args) - 1};
    job_out->override_count = cli_texts(args, "set", &job_out->overrides);
    MST_TRY(mst_submit_check_time(job_out->time));
    MST_TRY(mst_submit_read_nodes(cli_text(args, "nodes", "1"), &job_out->nodes_least, &job_out->nodes_most));
    MST_TRY(cli_whole(args, "ranks-per-node", 1, 1024, &job_out->ranks_per_node));
    for (size_t i = 0; i < job_out->option_count; i++)
        MST_CHECK(
            job_out->options[i][0] == '-', MST_ECONFIG,
            "submit: unexpected word '%s'; an option of sbatch is written behind '--' as one word, such as "
            "--qos=long",
            job_out->options[i]);
done:
    return status;
}

static void say_submitted(const mst_submit_job *job, const char *number) {
    printf("submitted job %s: %s\n", number, job->config);
    printf("output   %s/job-%s.out\n", job->run, number);
    printf("watch    squeue -j %s; tail -f %s/job-%s.out\n", number, job->run, number);
    printf("pause    scancel --batch --signal=USR1 %s    (saves a checkpoint; the job queues itself again)\n",
           number);
    printf("end      scancel %s    (the ranks save a checkpoint; 'muster submit' goes on from there)\n",
           number);
}

static mst_status submit(const mst_submit_job *job, const char *script) {
    mst_status status = MST_OK;
    char *path = NULL, number[64];
    MST_TRY(mst_submit_find());
    if (asprintf(&path, "%s/job.sbatch", job->run) < 0) path = NULL;
    MST_CHECK(path != NULL, MST_ENOMEM, "submit: out of memory");
    MST_TRY(mst_folder_make(job->run));
    MST_TRY(mst_file_replace(path, script, strlen(script)));
    MST_TRY(mst_submit_send(path, number));
    say_submitted(job, number);
done:
    free(path);
    return status;
}

static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    mst_config config = {0};
    job_paths paths = {{0}, {0}, NULL, NULL};
    mst_submit_job job;
    char *script = NULL;
    const char *const *overrides;
    const size_t override_count = cli_texts(args, "set", &overrides);
    MST_TRY(mst_config_load(cli_operands(args)[0], overrides, override_count, stderr, &config));
    MST_TRY(find_paths(args, &config, &paths));
    MST_TRY(fill_job(args, &config, &paths, &job));
    MST_TRY(mst_submit_script(&job, &script));
    if (cli_flag(args, "dry-run"))
        fputs(script, stdout);
    else
        MST_TRY(submit(&job, script));
done:
    free(script);
    free(paths.config);
    free(paths.run);
    mst_config_clear(&config);
    return status;
}

const cli_command cli_submit = {
    .name = "submit",
    .summary = "train in a Slurm queue until the run is done",
    .description = "Checks the config, writes RUN/job.sbatch and gives it to sbatch. The job stops with a "
                   "checkpoint before "
                   "its time is up, when it is preempted or asked to, queues itself again, and goes on where "
                   "it was, on as "
                   "many nodes as it gets, until the run is done. The script can be read, changed and given "
                   "to sbatch by "
                   "hand.",
    .operands = operands,
    .options = options,
    .example = "muster submit configs/tiny-llama.yaml --nodes 2-4 --time 4:00:00\n"
               "muster submit configs/tiny-llama.yaml --time 30 --dry-run -- --qos=debug",
    .run = run,
};
