/* The text of a batch script. The files in configs/slurm are the same by hand. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "muster/submit.h"

/* Characters that neither sbatch nor a shell takes for anything but themselves. */
static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/,@%:=";

static bool is_plain(const char *text) {
    return text[0] != '\0' && text[strspn(text, plain)] == '\0';
}

/* The shell sees the text as one word. */
static void put_word(FILE *file, const char *text) {
    if (is_plain(text)) {
        fputs(text, file);
        return;
    }
    fputc('\'', file);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\'')
            fputs("'\\''", file);
        else
            fputc(*c, file);
    }
    fputc('\'', file);
}

/* sbatch reads its lines with quotes and backslashes of its own. @param file_name a '%' begins a replacement, and is doubled */
static void put_value(FILE *file, const char *text, bool file_name) {
    const bool quoted = !is_plain(text);
    if (quoted) fputc('"', file);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') fputc('\\', file);
        if (*c == '%' && file_name) fputc('%', file);
        fputc(*c, file);
    }
    if (quoted) fputc('"', file);
}

static void put_option(FILE *file, const char *name, const char *value) {
    if (value == NULL) return;
    fprintf(file, "#SBATCH --%s=", name);
    put_value(file, value, false);
    fputc('\n', file);
}

/* Which cores the job gets is said behind '--'. */
static bool chooses_cores(const mst_submit_job *job) {
    static const char *const words[] = {"-c", "--cpus-per-task", "--exclusive", "-s", "--oversubscribe"};
    for (size_t i = 0; i < job->option_count; i++)
        for (size_t w = 0; w < sizeof words / sizeof *words; w++)
            if (strncmp(job->options[i], words[w], strlen(words[w])) == 0) return true;
    return false;
}

static void put_options(FILE *file, const mst_submit_job *job) {
    put_option(file, "job-name", job->name);
    fprintf(file, "#SBATCH --nodes=%" PRIu64, job->nodes_least);
    if (job->nodes_most > job->nodes_least)
        fprintf(file, "-%" PRIu64 " # begins with what is free; the result has the same bits on any number",
                job->nodes_most);
    fputc('\n', file);
    if (!chooses_cores(job)) fputs("#SBATCH --exclusive # all cores of the nodes\n", file);
    fprintf(file, "#SBATCH --time=%s # muster stops in time before it, with a checkpoint\n", job->time);
    put_option(file, "partition", job->partition);
    put_option(file, "account", job->account);
    put_option(file, "chdir", job->folder);
    fputs("#SBATCH --output=", file);
    put_value(file, job->run, true);
    fputs("/job-%j.out\n"
          "#SBATCH --open-mode=append # the output of all its starts in one file\n"
          "#SBATCH --requeue # a preempted job, or one whose node died, is queued again\n"
          "#SBATCH --signal=B:USR1@120 # to this shell, before a preemption or the end of the time\n",
          file);
    for (size_t i = 0; i < job->option_count; i++) {
        fputs("#SBATCH ", file);
        put_value(file, job->options[i], false);
        fputc('\n', file);
    }
}

/* What starts the ranks, in the background. */
static void put_start(FILE *file, const mst_submit_job *job) {
    if (job->launches) {
        fputs("# Starts the ranks, and again from the newest checkpoint when one dies or a node is gone.\n",
              file);
        put_word(file, job->program);
        fputs(" launch ", file);
    } else {
        fputs("# One rank that ends with 75 must not make srun kill the others; muster's watchdog ends all "
              "when one "
              "dies.\n",
              file);
        fprintf(
            file,
            "srun --mpi=pmix --kill-on-bad-exit=0 --nodes=\"$SLURM_JOB_NUM_NODES\" --ntasks-per-node=%" PRIu64
            " ",
            job->ranks_per_node);
        put_word(file, job->program);
        fputs(" train ", file);
    }
    put_word(file, job->config);
    fputs(" --run ", file);
    put_word(file, job->run);
    if (job->launches && job->ranks_per_node > 1)
        fprintf(file, " --ranks $((%" PRIu64 " * SLURM_JOB_NUM_NODES))", job->ranks_per_node);
    for (size_t i = 0; i < job->override_count; i++) {
        fputs(" --set ", file);
        put_word(file, job->overrides[i]);
    }
    fputs(" &\njob=$!\n", file);
}

static const char pass_on[] =
    "\n# What Slurm tells this shell goes on to all ranks: they finish the step, "
    "save a checkpoint and end with exit code "
    "75.\n"
    "job='' asked=''\n"
    "pass_on() {\n"
    "    if [ -z \"$job\" ] || [ -z \"$asked\" ]; then return; fi\n"
    "    # again and again: while mpirun or srun are starting they do not hear it\n"
    "    while kill -s USR1 \"$job\" 2>/dev/null; do sleep 2; done &\n"
    "}\n"
    "trap 'asked=yes; pass_on' USR1 TERM\n"
    "echo \"job $SLURM_JOB_ID on $SLURM_JOB_NODELIST, start $((${SLURM_RESTART_COUNT:-0} + 1))\"\n"
    "\n";

static const char ending[] =
    "pass_on # if the signal came before there was anybody to tell\n"
    "wait \"$job\" # which a signal interrupts, so:\n"
    "code=$?\n"
    "while kill -0 \"$job\" 2>/dev/null; do\n"
    "    wait \"$job\"\n"
    "    code=$?\n"
    "done\n"
    "\n"
    "# 75: stopped with a checkpoint; 138: the signal came before training began. Both go on later, unless "
    "somebody has cancelled\n# the job.\n"
    "if [ \"$code\" = 75 ] || { [ \"$code\" = 138 ] && [ -n \"$asked\" ]; }; then\n"
    "    if scontrol show job -o \"$SLURM_JOB_ID\" | grep -q ' JobState=RUNNING '; then\n"
    "        scontrol requeue \"$SLURM_JOB_ID\"\n"
    "    fi\n"
    "fi\n"
    "exit \"$code\"\n";

static mst_status check_text(const char *what, const char *text) {
    mst_status status = MST_OK;
    for (const char *c = text; c != NULL && *c != '\0'; c++)
        MST_CHECK((unsigned char)*c >= ' ' && *c != 0x7f, MST_ECONFIG,
                  "submit: %s has a line break or another control character, which no batch script can hold",
                  what);
done:
    return status;
}

/* With a number of tasks Slurm gives the least number of nodes, and srun other ranks than launch asks for. */
static mst_status check_tasks(const char *option) {
    mst_status status = MST_OK;
    const bool letter = strncmp(option, "-n", 2) == 0 && option[2] >= '0' && option[2] <= '9';
    MST_CHECK(!letter && strncmp(option, "--ntasks", 8) != 0, MST_ECONFIG,
              "submit: '%s': the number of tasks follows from nodes and --ranks-per-node; with one of its "
              "own Slurm "
              "gives the job no more than the least number of nodes",
              option);
done:
    return status;
}

static mst_status check_texts(const mst_submit_job *job) {
    mst_status status = MST_OK;
    MST_TRY(check_text("the path of muster", job->program));
    MST_TRY(check_text("the config's path", job->config));
    MST_TRY(check_text("the run folder's path", job->run));
    MST_TRY(check_text("the working directory's path", job->folder));
    MST_TRY(check_text("--name", job->name));
    MST_TRY(check_text("--partition", job->partition));
    MST_TRY(check_text("--account", job->account));
    for (size_t i = 0; i < job->override_count; i++) MST_TRY(check_text("--set", job->overrides[i]));
    for (size_t i = 0; i < job->option_count; i++) {
        MST_TRY(check_text("an option behind '--'", job->options[i]));
        MST_TRY(check_tasks(job->options[i]));
    }
done:
    return status;
}

mst_status mst_submit_script(const mst_submit_job *job, char **script_out) {
    mst_status status = MST_OK;
    size_t bytes = 0;
    FILE *file = NULL;
    *script_out = NULL;
    MST_TRY(check_texts(job));
    file = open_memstream(script_out, &bytes);
    MST_CHECK(file != NULL, MST_ENOMEM, "submit: out of memory for the batch script");
    fprintf(file, "#!/bin/bash\n# Written by muster " MST_VERSION
                  ". Give it to sbatch again to go on, or to train with changes of yours.\n");
    put_options(file, job);
    fputs(pass_on, file);
    put_start(file, job);
    fputs(ending, file);
done:
    if (file != NULL && fclose(file) != 0 && status == MST_OK)
        status = mst_error(MST_ENOMEM, "submit: out of memory for the batch script");
    if (status != MST_OK) {
        free(*script_out);
        *script_out = NULL;
    }
    return status;
}
