#include "plan.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"

const char *job_launcher_name(launcher_kind launcher) {
    static const char *const names[] = {
        [LAUNCHER_NONE] = "muster train", [LAUNCHER_MPIRUN] = "mpirun", [LAUNCHER_SRUN] = "srun"};
    return names[launcher];
}

/* ---- the launcher ---- */

static bool is_there(const char *program) {
    const char *const asked[] = {"sh", "-c", "command -v \"$0\"", program, NULL};
    char *text = NULL;
    int code = -1;
    const mst_status status = child_capture(asked, 10, &text, &code);
    free(text);
    return status == MST_OK && code == 0;
}

/* srun starts ranks of Open MPI only by PMIx. */
static bool srun_has_pmix(void) {
    const char *const asked[] = {"srun", "--mpi=list", NULL};
    char *text = NULL;
    int code = -1;
    const bool has = child_capture(asked, 30, &text, &code) == MST_OK && strstr(text, "pmix") != NULL;
    free(text);
    return has;
}

static mst_status check_given(const place *p, const char *with, launcher_kind *launcher_out) {
    mst_status status = MST_OK;
    const bool srun = strcmp(with, "srun") == 0;
    MST_CHECK(srun || strcmp(with, "mpirun") == 0, MST_ECONFIG,
              "launch: --with: expected mpirun or srun, found '%s'", with);
    MST_CHECK(!srun || p->kind == PLACE_SLURM, MST_ECONFIG,
              "launch: --with srun: this is no allocation of Slurm; begin one with salloc or sbatch");
    MST_CHECK(
        !srun || srun_has_pmix(), MST_ECONFIG,
        "launch: --with srun: 'srun --mpi=list' does not name pmix, which Open MPI needs; use --with mpirun");
    *launcher_out = srun ? LAUNCHER_SRUN : LAUNCHER_MPIRUN;
done:
    return status;
}

mst_status job_launcher(const place *p, const char *with, bool one_rank, launcher_kind *launcher_out,
                        char why_out[256]) {
    mst_status status = MST_OK;
    launcher_kind chosen = LAUNCHER_MPIRUN;
    if (with != NULL) {
        MST_TRY(check_given(p, with, &chosen));
        snprintf(why_out, 256, "%s, as --with says", with);
    } else if (p->kind == PLACE_ALONE && one_rank) {
        chosen = LAUNCHER_NONE;
        snprintf(why_out, 256, "no launcher: one rank on this machine needs none");
    } else if (p->kind == PLACE_SLURM && srun_has_pmix()) {
        chosen = LAUNCHER_SRUN;
        snprintf(why_out, 256, "srun: this is an allocation of Slurm, and 'srun --mpi=list' names pmix");
    } else if (p->kind == PLACE_SLURM) {
        snprintf(why_out, 256, "mpirun: 'srun --mpi=list' does not name pmix");
    } else {
        snprintf(why_out, 256, "mpirun: this is no allocation of Slurm");
    }
    MST_CHECK(chosen != LAUNCHER_MPIRUN || is_there("mpirun"), MST_ECONFIG,
              "launch: there is no mpirun in PATH; install Open MPI (Debian: apt-get install openmpi-bin)%s",
              p->kind == PLACE_ALONE ? ", or use one rank" : "");
    *launcher_out = chosen;
done:
    return status;
}

/* ---- nodes and ranks ---- */

__attribute__((format(printf, 2, 3))) static void explain(job_plan *plan, const char *format, ...) {
    const size_t used = strlen(plan->why);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(plan->why + used, sizeof plan->why - used, format, arguments);
    va_end(arguments);
}

/* Takes those that answer, of these the ones that failed least often, in their order. */
static mst_status choose_nodes(const place *p, const mst_launch_options *o, job_plan *plan) {
    size_t answering = 0, most = o->most_nodes > 0 ? o->most_nodes : p->count;
    const size_t least = o->least_nodes > 0 ? o->least_nodes : 1;
    plan->nodes = calloc(p->count, sizeof *plan->nodes);
    if (plan->nodes == NULL) return mst_error(MST_ENOMEM, "launch: no memory for %zu nodes", p->count);
    for (size_t i = 0; i < p->count; i++) answering += p->nodes[i].answers;
    if (answering < least) return MST_OK;
    if (most > answering) most = answering;
    size_t tolerated = 0;
    for (size_t fit = 0;; tolerated++) { /* so few failures that enough nodes have no more */
        fit = 0;
        for (size_t i = 0; i < p->count; i++) fit += p->nodes[i].answers && p->nodes[i].blamed <= tolerated;
        if (fit >= most) break;
    }
    for (size_t turn = 0; turn < 2; turn++) /* first those with fewer failures */
        for (size_t i = 0; i < p->count && plan->node_count < most; i++) {
            const place_node *node = &p->nodes[i];
            if (node->answers && (turn == 0 ? node->blamed < tolerated : node->blamed == tolerated))
                plan->nodes[plan->node_count++] = node;
        }
    return MST_OK;
}

static size_t least_cores(const job_plan *plan) {
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < plan->node_count; i++)
        if (plan->nodes[i]->cores < least) least = plan->nodes[i]->cores;
    return least;
}

static size_t divide_up(size_t a, size_t b) {
    return (a + b - 1) / b;
}

/* How many ranks, and on how many of the nodes. --ranks says how many stand on all nodes: fewer nodes get fewer. */
static void choose_ranks(const place *p, const mst_launch_options *o, size_t lanes, job_plan *plan) {
    const size_t cores = least_cores(plan);
    const size_t full = o->most_nodes > 0 && o->most_nodes < p->count ? o->most_nodes : p->count;
    size_t per_node = 1, ranks;
    if (o->ranks > 0) per_node = divide_up(o->ranks, full);
    if (o->all) per_node = cores;
    ranks = per_node * plan->node_count;
    if (o->ranks > 0 && ranks > o->ranks) ranks = o->ranks;
    explain(plan, "%zu rank%s: %s\n", ranks, ranks == 1 ? "" : "s",
            o->all ? "one for each core, as --all says"
            : o->ranks > 0
                ? (ranks < o->ranks ? "as many on each node as --ranks gives all of them" : "as --ranks says")
                : "one a node, whose threads share its memory");
    if (ranks > lanes) {
        explain(plan, "%zu rank%s instead: the others would have nothing to do (batch.lanes is %zu)\n", lanes,
                lanes == 1 ? "" : "s", lanes);
        ranks = lanes;
    }
    if (plan->node_count > ranks) plan->node_count = ranks;
    plan->ranks = ranks;
    plan->per_node = divide_up(ranks, plan->node_count);
    plan->cores = cores / plan->per_node;
}

/* ---- the command ---- */

/* Whether a word is this option: "--ranks", "--ranks=4", and "-n4" of a letter. */
static bool is_option(const char *word, const char *name) {
    const size_t length = strlen(name);
    if (strncmp(word, name, length) != 0) return false;
    return word[length] == '\0' || word[length] == '=' ||
           (length == 2 && word[length] >= '0' && word[length] <= '9');
}

/* Whether an option of the user's says where ranks stand or what they are bound to. */
static bool says_binding(const mst_launch_options *o) {
    static const char *const names[] = {"--bind-to",
                                        "-bind-to",
                                        "--map-by",
                                        "-map-by",
                                        "--rank-by",
                                        "--npernode",
                                        "-npernode",
                                        "--ppr",
                                        "--cpus-per-task",
                                        "-c",
                                        "--cpu-bind",
                                        "--use-hwthread-cpus",
                                        "--rankfile",
                                        "-rf",
                                        "--cpus-per-rank",
                                        "--distribution",
                                        "-m",
                                        "--hint"};
    for (size_t i = 0; i < o->extra_count; i++)
        for (size_t n = 0; n < sizeof names / sizeof *names; n++)
            if (is_option(o->extra[i], names[n])) return true;
    return false;
}

mst_status job_check_extra(const mst_launch_options *o, launcher_kind launcher) {
    static const struct {
        const char *name, *what, *instead;
    } ours[] = {
        {"-n", "how many ranks there are", "--ranks N"},
        {"-np", "how many ranks there are", "--ranks N"},
        {"--np", "how many ranks there are", "--ranks N"},
        {"--n", "how many ranks there are", "--ranks N"},
        {"-c", "how many ranks there are", "--ranks N"}, /* of mpirun */
        {"--ntasks", "how many ranks there are", "--ranks N"},
        {"-N", "how many nodes are used", "--elastic MIN-MAX"},
        {"--nodes", "how many nodes are used", "--elastic MIN-MAX"},
        {"-H", "which nodes are used", "--hostfile FILE"},
        {"-host", "which nodes are used", "--hostfile FILE"},
        {"--host", "which nodes are used", "--hostfile FILE"},
        {"-hostfile", "which nodes are used", "--hostfile FILE"},
        {"--hostfile", "which nodes are used", "--hostfile FILE"},
        {"-machinefile", "which nodes are used", "--hostfile FILE"},
        {"--machinefile", "which nodes are used", "--hostfile FILE"},
        {"-w", "which nodes are used", "--hostfile FILE"},
        {"--nodelist", "which nodes are used", "--hostfile FILE"},
    };
    mst_status status = MST_OK;
    for (size_t i = 0; i < o->extra_count; i++)
        for (size_t n = 0; n < sizeof ours / sizeof *ours; n++) {
            if (launcher == LAUNCHER_SRUN && strcmp(ours[n].name, "-c") == 0) continue; /* CPUs of a task */
            MST_CHECK(
                !is_option(o->extra[i], ours[n].name), MST_ECONFIG,
                "launch: '%s' behind '--': launch itself says %s, anew for each attempt; give it %s before "
                "'--'",
                o->extra[i], ours[n].what, ours[n].instead);
        }
done:
    return status;
}

/* The nodes as one word, each followed by ":SLOTS" where `slots` is not 0. */
static mst_status add_nodes(job_plan *plan, size_t slots) {
    char *text = malloc(plan->node_count * (PLACE_NAME_MAX + 24) + 1);
    if (text == NULL) return mst_error(MST_ENOMEM, "launch: no memory for %zu nodes", plan->node_count);
    for (size_t i = 0, used = 0; i < plan->node_count; i++) {
        used += (size_t)sprintf(text + used, "%s%s", i > 0 ? "," : "", plan->nodes[i]->name);
        if (slots > 0) used += (size_t)sprintf(text + used, ":%zu", slots);
    }
    const mst_status status = words_add(&plan->command, "%s", text);
    free(text);
    return status;
}

static mst_status add_mpirun(const place *p, job_plan *plan) {
    mst_status status = MST_OK;
    words *c = &plan->command;
    const size_t per_core = p->kind == PLACE_SLURM ? p->threads_per_core : 1;
    size_t cores = plan->cores / per_core; /* mpirun counts cores, Slurm may count what runs on them */
    if (cores == 0 && plan->cores > 0) cores = 1;
    MST_TRY(words_add(c, "mpirun"));
    if (p->kind != PLACE_ALONE) {
        MST_TRY(words_add(c, "--host"));
        MST_TRY(add_nodes(plan, plan->per_node));
    }
    MST_TRY(words_add(c, "-n"));
    MST_TRY(words_add(c, "%zu", plan->ranks));
    if (plan->own_binding) return MST_OK;
    MST_TRY(words_add(c, "--map-by"));
    if (cores > 0) {
        MST_TRY(words_add(c, "ppr:%zu:node:PE=%zu", plan->per_node, cores));
        MST_TRY(words_add(c, "--bind-to"));
        MST_TRY(words_add(c, "core"));
    } else {
        MST_TRY(words_add(c, "ppr:%zu:node", plan->per_node));
        MST_TRY(words_add(c, "--bind-to"));
        MST_TRY(words_add(c, "none"));
        MST_TRY(words_add(c, "--oversubscribe"));
    }
done:
    return status;
}

/*
 * -K0 --wait: a rank that ends leaves the others 5 s, and then the step ends. With -K1 the first rank that exits with 75
 * after a planned stop has the others killed on their way out, and srun ends with 143. --overlap: the step of an attempt
 * whose node died keeps its cores for minutes, until Slurm gives that node up.
 */
static mst_status add_srun(job_plan *plan) {
    mst_status status = MST_OK;
    words *c = &plan->command;
    MST_TRY(words_add(c, "srun"));
    MST_TRY(words_add(c, "--mpi=pmix"));
    MST_TRY(words_add(c, "-K0"));
    MST_TRY(words_add(c, "--wait=5"));
    MST_TRY(words_add(c, "--overlap"));
    MST_TRY(words_add(c, "-N%zu", plan->node_count));
    MST_TRY(words_add(c, "-n%zu", plan->ranks));
    MST_TRY(words_add(c, "--nodelist"));
    MST_TRY(add_nodes(plan, 0));
    MST_TRY(words_add(c, "--ntasks-per-node=%zu", plan->per_node));
    if (plan->own_binding) return MST_OK;
    if (plan->cores > 0) {
        MST_TRY(words_add(c, "--cpus-per-task=%zu", plan->cores));
        MST_TRY(words_add(c, "--cpu-bind=cores"));
    } else {
        MST_TRY(words_add(c, "--overcommit"));
        MST_TRY(words_add(c, "--cpu-bind=none"));
    }
done:
    return status;
}

static mst_status add_program(const mst_launch_options *o, const char *resume, words *c) {
    mst_status status = MST_OK;
    char self[4096] = "";
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    MST_CHECK(length > 0, MST_EIO, "launch: /proc/self/exe does not say where muster is");
    MST_TRY(words_add(c, "%s", self));
    MST_TRY(words_add(c, "train"));
    MST_TRY(words_add(c, "%s", o->config_path));
    if (o->run_dir != NULL) {
        MST_TRY(words_add(c, "--run"));
        MST_TRY(words_add(c, "%s", o->run_dir));
    }
    if (strcmp(resume, "auto") != 0) {
        MST_TRY(words_add(c, "--resume"));
        MST_TRY(words_add(c, "%s", resume));
    }
    for (size_t i = 0; i < o->override_count; i++) {
        MST_TRY(words_add(c, "--set"));
        MST_TRY(words_add(c, "%s", o->overrides[i]));
    }
done:
    return status;
}

mst_status job_plan_make(const place *p, const mst_launch_options *options, launcher_kind launcher,
                         size_t lanes, const char *resume, job_plan *plan_out) {
    mst_status status = MST_OK;
    job_plan made = {.launcher = launcher, .own_binding = says_binding(options)};
    *plan_out = (job_plan){0};
    MST_TRY(choose_nodes(p, options, &made));
    if (made.node_count > 0) {
        choose_ranks(p, options, lanes, &made);
        if (launcher == LAUNCHER_MPIRUN) MST_TRY(add_mpirun(p, &made));
        if (launcher == LAUNCHER_SRUN) MST_TRY(add_srun(&made));
        for (size_t i = 0; i < options->extra_count && launcher != LAUNCHER_NONE; i++)
            MST_TRY(words_add(&made.command, "%s", options->extra[i]));
        MST_TRY(add_program(options, resume, &made.command));
        if (made.own_binding)
            explain(&made, "no binding: your options for %s say where the ranks stand\n",
                    job_launcher_name(launcher));
        else if (launcher != LAUNCHER_NONE && made.cores > 0)
            explain(&made, "%zu core%s for each rank: a node's cores divided by its ranks\n", made.cores,
                    made.cores == 1 ? "" : "s");
        else if (launcher != LAUNCHER_NONE)
            explain(&made, "nothing is bound: %zu ranks share the %zu core%s of a node\n", made.per_node,
                    least_cores(&made), least_cores(&made) == 1 ? "" : "s");
    }
    *plan_out = made;
    made = (job_plan){0};
done:
    job_plan_clear(&made);
    return status;
}

void job_plan_clear(job_plan *plan) {
    free(plan->nodes);
    words_clear(&plan->command);
    plan->nodes = NULL;
    plan->node_count = 0;
}
