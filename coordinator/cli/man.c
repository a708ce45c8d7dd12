/* The man page in man(7), written from the tables. What the tables do not hold stands here: files and
 * environment. Lines are filled, so that the source reads like a page, too. */
#include <ctype.h>
#include <string.h>

#include "cli.h"

typedef struct term {
    const char *name, *meaning;
} term;

static const term files[] = {
    {"runs/NAME/", "a run: the default of train --run, in the working directory"},
    {"runs/NAME/config.yaml", "the config as used, every key with its value and all paths absolute"},
    {"runs/NAME/run.json", "the run's identity and its device class"},
    {"runs/NAME/metrics.jsonl", "a line for each step and event (docs/metrics.md)"},
    {"runs/NAME/checkpoints/step-00001000/",
     "a checkpoint (docs/checkpoint-format.md); model.h5 in it shows every tensor whole to any program that "
     "reads HDF5"},
    {"runs/NAME/launch.jsonl", "what muster launch did, a line for each attempt (docs/launch.md)"},
    {"runs/NAME/job.sbatch", "the batch script of muster submit (docs/slurm.md)"},
    {NULL, NULL}};

static const term variables[] = {
    {"NO_COLOR", "set, and not empty: no colours; otherwise there are colours on a terminal, and only there"},
    {"TERM", "dumb or not set: no colours, and plain lines in place of the line that shows progress"},
    {"LC_ALL, LC_CTYPE, LANG", "the first that is set decides whether the bar of progress is drawn in UTF-8"},
    {"OMPI_COMM_WORLD_RANK, PMIX_RANK, PMI_RANK, SLURM_PROCID",
     "the rank of this process, set by mpirun and srun; only rank 0 prints"},
    {"OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_LOCAL_SIZE",
     "how many ranks there are, and on this node; set by mpirun, whose ranks print without colours"},
    {"MPI_LOCALNRANKS", "the same of this node, set by the mpirun of MPICH"},
    {"PATH", "where mpirun, srun and sbatch are looked for"},
    {"CUDA_HOME, CUDA_PATH", "where cuBLASLt (lib64) and cuDNN (lib64, lib) are looked for when the system's "
                             "loader does not find them"},
    {"CUDNN_HOME", "where cuDNN is looked for before that"},
    {"NCCL_HOSTID",
     "what NCCL takes for the host: ranks that share a GPU may use NCCL where each has another"},
    {"OPAL_PREFIX, OPAL_PKGLIBDIR, OPAL_PKGDATADIR, OPAL_SYSCONFDIR, PMIX_PKGLIBDIR, PMIX_PKGDATADIR",
     "where the parts of Open MPI lie; muster sets them where it was unpacked from a bundle, which brings "
     "its own"},
    {"OMPI_MCA_osc_sm_backing_directory",
     "where Open MPI puts memory that ranks of a node share, instead of /dev/shm"},
    {"OMPI_MCA_mpi_yield_when_idle",
     "muster sets it to 1, unless it is set, where a node has more ranks than processors"},
    {"OMPI_MCA_btl_tcp_if_include", "the interfaces of Open MPI's own messages; heartbeats take "
                                    "network.interfaces, and these where it is null"},
    {"OMPI_MCA_orte_default_hostfile, OMPI_MCA_plm_rsh_agent",
     "the nodes of a 'muster launch' without --hostfile, and the program that reaches them; as mpirun has "
     "them"},
    {"OMPI_ALLOW_RUN_AS_ROOT, OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
     "muster launch sets both for root, which mpirun refuses without"},
    {"PMIX_NAMESPACE, PMI_SIZE, PMI_FD, PMI_PORT",
     "what launchers give their ranks: muster launch refuses to be one"},
    {"SLURM_JOB_NODELIST, SLURM_JOB_CPUS_PER_NODE",
     "the nodes and processors that muster launch starts ranks on"},
    {"SLURM_JOB_ID, SLURM_STEP_ID",
     "the step that is cancelled when a rank of it died; the job is named in a run folder's lease"},
    {"SLURM_JOB_END_TIME",
     "when the job ends; training stops in time before it, with a checkpoint. Not set: scontrol is asked"},
    {"SLURM_RESTART_COUNT",
     "tells a job that comes out of the queue again from the one that held its run folder before"},
    {"SLURM_STEP_NUM_TASKS, SLURM_STEP_TASKS_PER_NODE", "as set by srun: how many ranks there should be"},
    {"SLURMD_NODENAME", "the name of this node in messages"},
    {NULL, NULL}};

enum { LINE_MOST = 70 };

/* One character of running text or code. */
static void put_char(FILE *file, char c) {
    switch (c) {
    case '\\':
        fputs("\\e", file);
        break;
    case '-':
        fputs("\\-", file);
        break;
    case '\'':
        fputs("\\(aq", file);
        break;
    case '`':
        fputs("\\(ga", file);
        break;
    case '^':
        fputs("\\(ha", file);
        break;
    case '~':
        fputs("\\(ti", file);
        break;
    default:
        fputc(c, file);
    }
}

/* Text that does not begin a line, or cannot be taken for a request. */
static void put_text(FILE *file, const char *text) {
    for (; *text != '\0'; text++) put_char(file, *text);
}

/* Words in lines of their own, as many as it takes; an empty line begins a paragraph. */
static void put_filled(FILE *file, const char *text) {
    size_t column = 0;
    while (*text != '\0') {
        size_t blanks = strspn(text, " \n");
        bool paragraph = column > 0 && blanks >= 2 && strncmp(text, "\n\n", 2) == 0;
        text += blanks;
        size_t word = strcspn(text, " \n");
        if (word == 0) break;
        if (paragraph || (column > 0 && column + 1 + word > LINE_MOST)) {
            fputs(paragraph ? "\n.PP\n" : "\n", file);
            column = 0;
        }
        if (column > 0) fputc(' ', file);
        if (column == 0 && *text == '.') fputs("\\&", file); /* no request */
        for (size_t i = 0; i < word; i++) put_char(file, text[i]);
        column += word + (column > 0);
        text += word;
    }
    fputc('\n', file);
}

/* A table's summary as a sentence: with a capital letter and a full stop. */
static void put_sentence(FILE *file, const char *text) {
    char whole[256];
    snprintf(whole, sizeof whole, "%s.", text);
    whole[0] = (char)toupper((unsigned char)whole[0]);
    put_filled(file, whole);
}

static void put_bold(FILE *file, const char *text) {
    fputs("\\fB", file);
    put_text(file, text);
    fputs("\\fR", file);
}

static void put_italic(FILE *file, const char *text) {
    fputs("\\fI", file);
    put_text(file, text);
    fputs("\\fR", file);
}

static void put_synopsis(FILE *file, const cli_command *command) {
    fputs(".PP\n", file);
    put_bold(file, "muster ");
    put_bold(file, command->name);
    for (const cli_operand *operand = command->operands; operand != NULL && operand->name != NULL;
         operand++) {
        fputs(operand->optional ? " [" : " ", file);
        put_italic(file, operand->name);
        if (operand->many) fputs("...", file);
        if (operand->optional) fputc(']', file);
    }
    for (const cli_option *option = command->options; option != NULL && option->name != NULL; option++) {
        if (!option->required) continue;
        fputc(' ', file);
        fputs("\\fB\\-\\-", file);
        put_text(file, option->name);
        fputs("\\fR ", file);
        put_italic(file, option->argument);
    }
    fputs(" [\\fIoption\\fR]...\n", file);
}

static void put_option(FILE *file, const cli_option *option) {
    fputs(".TP\n", file);
    if (option->letter != 0) fprintf(file, "\\fB\\-%c\\fR, ", option->letter);
    fputs("\\fB\\-\\-", file);
    put_text(file, option->name);
    fputs("\\fR", file);
    if (option->argument != NULL) {
        fputc(' ', file);
        put_italic(file, option->argument);
    }
    fputc('\n', file);
    put_filled(file, option->help);
}

/* Lines as they are. */
static void put_lines(FILE *file, const char *text) {
    fputs(".PP\n.EX\n", file);
    for (; *text != '\0'; text += *text == '\n') {
        size_t length = strcspn(text, "\n");
        fputs("  ", file); /* no request begins with a blank */
        for (size_t i = 0; i < length; i++) put_char(file, text[i]);
        fputc('\n', file);
        text += length;
    }
    fputs(".EE\n", file);
}

static void put_command(FILE *file, const cli_command *command) {
    fputs(".SS muster ", file);
    put_text(file, command->name);
    fputc('\n', file);
    put_sentence(file, command->summary);
    put_synopsis(file, command);
    if (command->description != NULL) {
        fputs(".PP\n", file);
        put_filled(file, command->description);
    }
    for (const cli_operand *operand = command->operands; operand != NULL && operand->name != NULL;
         operand++) {
        fputs(".TP\n", file);
        put_italic(file, operand->name);
        fputs(operand->many ? "...\n" : "\n", file);
        put_filled(file, operand->help);
    }
    for (const cli_option *option = command->options; option != NULL && option->name != NULL; option++)
        put_option(file, option);
    put_lines(file, command->example);
}

static void put_terms(FILE *file, const char *heading, const term *terms) {
    fprintf(file, ".SH %s\n", heading);
    for (; terms->name != NULL; terms++) {
        fputs(".TP\n", file);
        put_bold(file, terms->name);
        fputc('\n', file);
        put_filled(file, terms->meaning);
    }
}

static void put_beginning(FILE *file) {
    fputs(".\\\" Written by 'muster --man' from the tables of its commands.\n"
          ".TH MUSTER 1 " MST_DATE " \"muster " MST_VERSION "\" \"User Commands\"\n"
          ".nh\n" /* words that are typed are not cut */
          ".ad l\n"
          ".SH NAME\n"
          "muster \\- train language models, to the same bits on any number of ranks\n"
          ".SH SYNOPSIS\n"
          "\\fBmuster\\fR \\fICOMMAND\\fR [\\fIword\\fR]... [\\fIoption\\fR]...\n"
          ".br\n"
          "\\fBmpirun \\-n\\fR \\fIN\\fR \\fBmuster train\\fR \\fICONFIG.yaml\\fR [\\fIoption\\fR]...\n"
          ".br\n"
          "\\fBmuster\\fR\n"
          ".SH DESCRIPTION\n",
          file);
    put_filled(file,
               "muster trains language models on a laptop, on one node or on a few nodes under mpirun or "
               "srun. The same config, data and seed give the same bits in every weight, loss and gradient "
               "norm on any number of ranks and threads, and through any number of kills and resumes.\n\n"
               "Without a word it says what to do next, by the runs, configs and token files of the working "
               "directory. Long options may be written --option VALUE or --option=VALUE, short ones -o VALUE "
               "or -oVALUE; -- ends the options.");
    fputs(".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\n"
          "List the commands; after a command: list its options.\n"
          ".TP\n\\fB\\-\\-man\\fR\nPrint this page.\n"
          ".TP\n\\fB\\-\\-version\\fR\nPrint the version.\n",
          file);
}

void cli_man(FILE *file) {
    put_beginning(file);
    fputs(".SH COMMANDS\n", file);
    for (size_t i = 0; i < cli_command_count; i++) put_command(file, cli_commands[i]);
    fputs(".SH CONFIG\n", file);
    put_filled(file, "A run is described by one YAML file. 'muster train --help-config' prints all of its "
                     "keys with type, range, default and meaning, as a config to begin with. --set KEY=VALUE "
                     "sets one key on the command line.");
    fputs(".SH EXIT STATUS\n", file);
    for (const cli_exit *exit = cli_exits; exit->meaning != NULL; exit++) {
        fprintf(file, ".TP\n\\fB%d\\fR\n", exit->code);
        put_filled(file, exit->meaning);
    }
    put_terms(file, "FILES", files);
    put_terms(file, "ENVIRONMENT", variables);
    fputs(".SH EXAMPLES\n", file);
    put_filled(file, "From texts to a model, on two ranks, and what it writes:");
    put_lines(file, "muster data build texts/ -o tokens.h5\n"
                    "muster train --help-config >config.yaml\n"
                    "mpirun -n 2 muster train config.yaml\n"
                    "muster generate runs/config --prompt \"The \"");
    fputs(".SH SEE ALSO\n"
          "\\fBmpirun\\fR(1), \\fBsrun\\fR(1), \\fBh5dump\\fR(1)\n",
          file);
}
