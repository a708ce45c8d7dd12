#include "place.h"

#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child.h"

/* The first processor among those that share a core with this one; `cpu` itself where the system does not say. */
static int first_sibling(int cpu) {
    char path[128];
    int first = cpu;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *file = fopen(path, "re");
    if (file == NULL) return cpu;
    if (fscanf(file, "%d", &first) != 1) first = cpu;
    fclose(file);
    return first;
}

size_t place_cores(size_t *threads_per_core_out) {
    cpu_set_t allowed, cores;
    *threads_per_core_out = 1;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        return online > 0 ? (size_t)online : 1;
    }
    CPU_ZERO(&cores);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed)) CPU_SET(first_sibling(cpu), &cores);
    const size_t count = (size_t)CPU_COUNT(&cores);
    if (count == 0) return 1;
    *threads_per_core_out = ((size_t)CPU_COUNT(&allowed) + count - 1) / count;
    return count;
}

/* How much of a name stands before its domain. */
static size_t short_length(const char *name) {
    return strcspn(name, ".");
}

static bool is_same_host(const char *one, const char *two) {
    const size_t length = short_length(one);
    if (strcmp(one, two) == 0) return true;
    if (isdigit((unsigned char)one[0]) || length != short_length(two))
        return false; /* addresses have dots, too */
    return strncmp(one, two, length) == 0 && (one[length] == '\0' || two[length] == '\0');
}

place_node *place_node_of(place *p, const char *name) {
    for (size_t i = 0; i < p->count; i++)
        if (is_same_host(p->nodes[i].name, name)) return &p->nodes[i];
    return NULL;
}

mst_status place_add(place *p, const char *name, size_t cores) {
    char self[PLACE_NAME_MAX] = "";
    if (gethostname(self, sizeof self - 1) != 0) self[0] = '\0';
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->nodes[i].name, name) == 0) {
            p->nodes[i].cores += cores;
            return MST_OK;
        }
    place_node *nodes = realloc(p->nodes, (p->count + 1) * sizeof *nodes);
    if (nodes == NULL) return mst_error(MST_ENOMEM, "launch: no memory for %zu nodes", p->count + 1);
    p->nodes = nodes;
    place_node *node = &nodes[p->count++];
    *node = (place_node){.cores = cores > 0 ? cores : 1, .answers = true};
    snprintf(node->name, sizeof node->name, "%s", name);
    node->here = strcmp(name, "localhost") == 0 || strcmp(name, "127.0.0.1") == 0 || is_same_host(name, self);
    return MST_OK;
}

/* ---- Slurm ---- */

static const char *value_of(const char *name) {
    const char *value = getenv(name);
    return value != NULL ? value : "";
}

/* CPUs of the next node in "2(x3),8"; *left says how often the number before it still counts. */
static size_t next_cpus(const char **text, size_t *cpus, size_t *left) {
    if (*left == 0 && isdigit((unsigned char)**text)) {
        char *end;
        *cpus = strtoul(*text, &end, 10);
        *left = 1;
        if (strncmp(end, "(x", 2) == 0) *left = strtoul(end + 2, &end, 10);
        *text = end + strspn(end, "),");
    }
    if (*left > 0) (*left)--;
    return *cpus;
}

/* Of a job of several parts ("het group") the list of all nodes; otherwise the job's. */
static mst_status find_slurm(place *p) {
    mst_status status = MST_OK;
    const char *const words[] = {"scontrol", "show", "hostnames", value_of("SLURM_JOB_NODELIST"), NULL};
    const char *counts = value_of("SLURM_JOB_CPUS_PER_NODE");
    char *text = NULL, *rest = NULL;
    size_t cpus = 1, left = 0;
    int code = 0;
    snprintf(p->job, sizeof p->job, "%s", value_of("SLURM_JOB_ID"));
    MST_CHECK(
        words[3][0] != '\0', MST_ECONFIG,
        "launch: SLURM_JOB_ID is %s, but SLURM_JOB_NODELIST is not set: is this the shell of an allocation?",
        p->job);
    MST_TRY(child_capture(words, 30, &text, &code));
    MST_CHECK(code == 0 && text[0] != '\0', MST_EIO, "launch: 'scontrol show hostnames %s' fails: %.300s",
              words[3], text);
    for (const char *name = strtok_r(text, "\n", &rest); name != NULL; name = strtok_r(NULL, "\n", &rest))
        MST_TRY(place_add(p, name, next_cpus(&counts, &cpus, &left)));
    p->kind = PLACE_SLURM;
done:
    free(text);
    return status;
}

/* ---- the whole ---- */

/* A rank of a job of several has no business here. An interactive step of Slurm is a job of one task. */
static mst_status refuse_rank(void) {
    const char *const count = value_of("SLURM_STEP_NUM_TASKS");
    const char *by = NULL;
    if (*value_of("OMPI_COMM_WORLD_SIZE") != '\0')
        by = "mpirun";
    else if (strtol(count, NULL, 10) > 1)
        by = "srun";
    else if (*count == '\0' && (*value_of("PMIX_RANK") != '\0' || *value_of("PMI_RANK") != '\0'))
        by = "an MPI launcher";
    if (by == NULL) return MST_OK;
    return mst_error(
        MST_ECONFIG,
        "launch: this is a rank of %s, but launch starts the ranks itself: run it once, without %s; or run "
        "'muster train' under %s",
        by, by, by);
}

/* What an interactive step was told of MPI is not for the ranks of this launch. */
static void forget_step(void) {
    static const char *const names[] = {"PMIX_RANK", "PMIX_NAMESPACE", "PMI_RANK",
                                        "PMI_SIZE",  "PMI_FD",         "PMI_PORT"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unsetenv(names[i]);
}

mst_status place_find(const char *hostfile, place *place_out) {
    mst_status status = MST_OK;
    place p = {.kind = PLACE_ALONE};
    char self[PLACE_NAME_MAX] = "localhost";
    *place_out = (place){0};
    MST_TRY(refuse_rank());
    forget_step();
    const size_t cores = place_cores(&p.threads_per_core);
    if (hostfile == NULL && *value_of("OMPI_MCA_orte_default_hostfile") != '\0' &&
        *value_of("SLURM_JOB_ID") == '\0')
        hostfile = value_of("OMPI_MCA_orte_default_hostfile");
    if (hostfile != NULL) {
        p.kind = PLACE_HOSTFILE;
        MST_TRY(place_read_hostfile(hostfile, cores, &p));
    } else if (*value_of("SLURM_JOB_ID") != '\0') {
        MST_TRY(find_slurm(&p));
    } else {
        if (gethostname(self, sizeof self - 1) != 0) snprintf(self, sizeof self, "localhost");
        MST_TRY(place_add(&p, self, cores));
    }
    *place_out = p;
    p.nodes = NULL;
done:
    place_clear(&p);
    return status;
}

void place_clear(place *p) {
    free(p->nodes);
    p->nodes = NULL;
    p->count = 0;
}

void place_describe(const place *p, char *text_out, size_t room) {
    switch (p->kind) {
    case PLACE_ALONE:
        snprintf(text_out, room, "this machine");
        break;
    case PLACE_SLURM:
        snprintf(text_out, room, "Slurm job %s", p->job);
        break;
    case PLACE_HOSTFILE:
        snprintf(text_out, room, "hostfile %s", p->hostfile);
        break;
    }
}
