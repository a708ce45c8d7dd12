/* What the ranks' facts say when they stand side by side. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "examination.h"
#include "muster/units.h"

typedef char text[MST_QUANTITY_TEXT];

static const char *bytes(double value, char *out) {
    return mst_quantity_text(MST_QUANTITY_BYTES, value, out);
}

/* ---- one word that must be the same everywhere ---- */

/* Ranks whose text is not that of most ranks, in words; "" when all agree. The text of most is *usual_out's. */
static void dissenters(const examination *e, size_t offset, int *usual_out, char *names, size_t room) {
    const int size = mst_comm_size(e->comm);
    int most = 0, others = 0;
    char name[FACT_TEXT];
    *usual_out = 0;
    names[0] = '\0';
    for (int r = 0; r < size; r++) {
        int like = 0;
        for (int q = 0; q < size; q++)
            like += strcmp((const char *)&e->all[q] + offset, (const char *)&e->all[r] + offset) == 0;
        if (like <= most) continue;
        most = like;
        *usual_out = r;
    }
    for (int r = 0; r < size; r++) {
        const char *own = (const char *)&e->all[r] + offset;
        if (strcmp(own, (const char *)&e->all[*usual_out] + offset) == 0 || ++others > 4) continue;
        const size_t used = strlen(names);
        snprintf(names + used, room - used, "%s%s has '%s'", used > 0 ? ", " : "", doctor_rank(e, r, name),
                 own);
    }
    if (others > 4) {
        const size_t used = strlen(names);
        snprintf(names + used, room - used, ", and %d more", others - 4);
    }
}

/* @param advice what to do where they differ */
static void judge_same(examination *e, const char *subject, size_t offset, verdict differing,
                       const char *advice) {
    char names[1200];
    int usual;
    dissenters(e, offset, &usual, names, sizeof names);
    const char *own = (const char *)&e->all[usual] + offset;
    if (names[0] == '\0')
        doctor_say(e, VERDICT_OK, subject, "%s%s", own, mst_comm_size(e->comm) > 1 ? ", on all ranks" : "");
    else
        doctor_say(e, differing, subject, "%s; most ranks have '%s'; %s", names, own, advice);
}

static void judge_class(examination *e) {
    char name[FACT_TEXT];
    bool all = true;
    for (int r = 0; r < mst_comm_size(e->comm); r++) {
        if (strncmp(e->all[r].class_name, "none: ", 6) != 0) continue;
        doctor_say(e, VERDICT_FAIL, "device", "%s has no device: %s", doctor_rank(e, r, name),
                   e->all[r].class_name + 6);
        all = false;
    }
    /* none is no fault: a run that needs one has no device then */
    const char *where = mst_comm_size(e->comm) > 1 ? "rank 0's node: " : "";
    const facts *first = &e->all[0];
    doctor_say(e, VERDICT_OK, "GPU software", "%s%s%s%s", where, first->cuda,
               first->driver[0] ? "; driver " : "", first->driver);
    char used[64] = "";
    if (first->driver_bytes > 0)
        snprintf(used, sizeof used, ", of which %.0f are in use on rank 0's",
                 first->driver_bytes / (1 << 20));
    doctor_say(e, VERDICT_OK, "GPUs", "%s%s%s", where, first->gpus, used);
    if (!all) return;
    if (e->has_config && e->config.batch.allow_mixed)
        judge_same(e, "device class", offsetof(facts, class_name), VERDICT_WARN,
                   "batch.allow_mixed lets them train together, and the bits depend on who computes what");
    else
        judge_same(e, "device class", offsetof(facts, class_name), VERDICT_FAIL,
                   "the bits would depend on who computes what: set device.level to the highest that all "
                   "have, and use "
                   "one version of oneDNN");
}

/* ---- cores ---- */

/* Threads that its ranks would run on a node, and cores that they may use. */
static void count_cores(const examination *e, int node, int *threads_out, cpu_set_t *used_out) {
    *threads_out = 0;
    CPU_ZERO(used_out);
    for (int r = 0; r < mst_comm_size(e->comm); r++) {
        const facts *f = &e->all[r];
        if (f->node != node) continue;
        CPU_OR(used_out, used_out, &f->cores);
        *threads_out += f->threads > 0 ? f->threads : 1;
    }
}

/* What a node's judge says of it. */
typedef struct opinion {
    verdict how;
    char words[400];
    double spare; /* of those that are well, the one with least stands for all */
} opinion;

typedef void node_judge(const examination *e, int node, opinion *opinion_out);

/* One line for each node that is not well, and one for all that are. */
static void judge_nodes(examination *e, const char *subject, node_judge *judge) {
    opinion least = {.spare = INFINITY};
    int well = 0;
    for (int n = 0; n < e->nodes; n++) {
        opinion o = {.how = VERDICT_OK};
        judge(e, e->leaders[n], &o);
        if (o.how != VERDICT_OK) {
            doctor_say(e, o.how, subject, "%s: %s", mst_comm_host(e->comm, e->leaders[n]), o.words);
            continue;
        }
        char words[sizeof o.words];
        memcpy(words, o.words, sizeof words);
        if (well++ > 0 && o.spare >= least.spare) continue;
        least = o;
        snprintf(least.words, sizeof least.words, "%.80s: %.300s", mst_comm_host(e->comm, e->leaders[n]),
                 words);
    }
    if (well == 1)
        doctor_say(e, VERDICT_OK, subject, "%s", least.words);
    else if (well > 1)
        doctor_say(e, VERDICT_OK, subject, "%s; %d other node%s no less", least.words, well - 1,
                   well == 2 ? " has" : "s have");
}

static void judge_cores(const examination *e, int node, opinion *o) {
    cpu_set_t used;
    int threads, ranks = 0;
    count_cores(e, node, &threads, &used);
    for (int r = 0; r < mst_comm_size(e->comm); r++) ranks += e->all[r].node == node;
    const int cores = CPU_COUNT(&used), online = e->all[node].online;
    const bool kept = cores < online && getenv("OMPI_COMM_WORLD_LOCAL_SIZE") != NULL;
    o->spare = cores - threads;
    if (threads > cores || kept) o->how = VERDICT_WARN;
    if (threads > cores)
        snprintf(o->words, sizeof o->words,
                 "%d ranks with %d threads on %d core%s: each waits for the others; start fewer ranks", ranks,
                 threads, cores, cores == 1 ? "" : "s");
    else if (kept)
        snprintf(o->words, sizeof o->words,
                 "the ranks may use %d of %d cores: Open MPI binds each rank to one unless told otherwise; "
                 "'mpirun --bind-to none' gives them all",
                 cores, online);
    else
        snprintf(o->words, sizeof o->words, "%d rank%s, %d thread%s, %d of %d cores", ranks,
                 ranks == 1 ? "" : "s", threads, threads == 1 ? "" : "s", cores, online);
}

static int by_value(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median_of(const examination *e, size_t offset) {
    const size_t size = (size_t)mst_comm_size(e->comm);
    double *values = calloc(size, sizeof *values), median = 0;
    if (values == NULL) return 0;
    for (size_t r = 0; r < size; r++) memcpy(&values[r], (const char *)&e->all[r] + offset, sizeof *values);
    qsort(values, size, sizeof *values, by_value);
    median = values[size / 2];
    free(values);
    return median;
}

/* Whether what a rank's cores reach says something of them: nobody else was at work there. */
static bool measured_alone(const examination *e, int rank) {
    const facts *node = &e->all[e->all[rank].node];
    cpu_set_t used;
    int threads;
    count_cores(e, e->all[rank].node, &threads, &used);
    return threads <= CPU_COUNT(&used) && node->busy <= 0.1 * node->online;
}

/* Cores that run slower than most (heat, power caps, another processor), and sources of time that are slow to ask. */
static void judge_clocks(examination *e) {
    char name[FACT_TEXT];
    const double spin = median_of(e, offsetof(facts, spin)), flops = median_of(e, offsetof(facts, flops));
    bool well = true;
    for (int r = 0; r < mst_comm_size(e->comm); r++) {
        const facts *f = &e->all[r];
        const char *source = f->clock_source;
        const bool slow_source =
            strcmp(source, "hpet") == 0 || strcmp(source, "acpi_pm") == 0 || strcmp(source, "jiffies") == 0;
        if (slow_source && f->node == r)
            doctor_say(e, VERDICT_WARN, "clocks",
                       "%s: the system takes its time from %s, which is slow to ask (tsc is not); "
                       "look for 'tsc unstable' in dmesg",
                       mst_comm_host(e->comm, r), source);
        if (f->spin > 1.25 * spin)
            doctor_say(e, VERDICT_WARN, "clocks",
                       "%s: a core runs at %.0f %% of the others' speed: power limit, heat, or another "
                       "processor; all ranks wait for the slowest",
                       doctor_rank(e, r, name), 100 * spin / f->spin);
        if (flops > 0 && f->flops < 0.8 * flops && measured_alone(e, r))
            doctor_say(e, VERDICT_WARN, "clocks",
                       "%s: matrix products reach %.0f GFLOP/s, most ranks %.0f; all ranks wait for the "
                       "slowest",
                       doctor_rank(e, r, name), f->flops * 1e-9, flops * 1e-9);
        well = well && !slow_source && f->spin <= 1.25 * spin &&
               !(flops > 0 && f->flops < 0.8 * flops && measured_alone(e, r));
    }
    if (well && flops > 0)
        doctor_say(e, VERDICT_OK, "clocks", "cores are alike; matrix products reach %.0f GFLOP/s a rank",
                   flops * 1e-9);
    else if (well)
        doctor_say(e, VERDICT_OK, "clocks", "cores are alike");
}

static void judge_load(examination *e) {
    double most = 0;
    for (int n = 0; n < e->nodes; n++) {
        const facts *f = &e->all[e->leaders[n]];
        if (f->busy > most) most = f->busy;
        if (f->busy > 0.1 * f->online)
            doctor_say(e, VERDICT_WARN, "load",
                       "%s: other processes keep %.1f of %d cores busy; see 'top' there",
                       mst_comm_host(e->comm, e->leaders[n]), f->busy, f->online);
    }
    for (int n = 0; n < e->nodes; n++)
        if (e->all[e->leaders[n]].busy > 0.1 * e->all[e->leaders[n]].online) return;
    doctor_say(e, VERDICT_OK, "load", "others keep at most %.1f cores of a node busy", most);
}

/* ---- limits ---- */

static void judge_files(examination *e) {
    char name[FACT_TEXT];
    /* Rank 0's heartbeats and MPI over TCP may each have a connection to every rank; some for files and libraries. */
    const double needed = 128 + 3.0 * mst_comm_size(e->comm);
    double least = 1e300;
    int which = 0;
    for (int r = 0; r < mst_comm_size(e->comm); r++)
        if (e->all[r].open_files < least) {
            least = e->all[r].open_files;
            which = r;
        }
    if (least < needed)
        doctor_say(e, VERDICT_FAIL, "open files",
                   "%s may have %.0f files open, and a job of this size may need %.0f; 'ulimit -n 65536' "
                   "before the launcher",
                   doctor_rank(e, which, name), least, needed);
    else if (least > 1e12)
        doctor_say(e, VERDICT_OK, "open files", "no limit");
    else
        doctor_say(e, VERDICT_OK, "open files", "at least %.0f a rank", least);
}

static void judge_cores_dumped(examination *e) {
    const facts *f = &e->all[0];
    if (f->core_bytes <= 0)
        doctor_say(e, VERDICT_OK, "core dumps", "off");
    else if (f->core_pattern[0] == '|')
        doctor_say(e, VERDICT_OK, "core dumps", "go to the system's collector");
    else if (f->core_bytes < 1e9)
        doctor_say(e, VERDICT_OK, "core dumps", "at most %.0f bytes", f->core_bytes);
    else
        doctor_say(e, VERDICT_WARN, "core dumps",
                   "on: a rank that crashes writes its whole memory to '%s'; 'ulimit -c 0' unless you "
                   "want that",
                   f->core_pattern);
}

void doctor_judge_machines(examination *e) {
    if (e->file == NULL) return;
    judge_same(e, "muster", offsetof(facts, muster), VERDICT_FAIL, "install one build on all nodes");
    judge_same(e, "MPI", offsetof(facts, mpi), VERDICT_FAIL, "load the same MPI on all nodes");
    judge_same(e, "HDF5", offsetof(facts, hdf5), VERDICT_FAIL, "install the same HDF5 on all nodes");
    judge_class(e);
    judge_nodes(e, "cores", judge_cores);
    judge_clocks(e);
    judge_load(e);
    judge_files(e);
    judge_cores_dumped(e);
}

/* ---- memory ---- */

static void judge_memory(const examination *e, int node, opinion *o) {
    const double available = e->all[node].available;
    double need = 0;
    text a, b;
    for (int r = 0; r < mst_comm_size(e->comm); r++)
        if (e->all[r].node == node) need += e->all[r].need;
    o->spare = available - need;
    if (available <= 0 || need > 0.9 * available) o->how = VERDICT_WARN;
    if (available > 0 && need > available) o->how = VERDICT_FAIL;
    if (available <= 0)
        snprintf(o->words, sizeof o->words, "does not say how much it has free");
    else if (need == 0)
        snprintf(o->words, sizeof o->words, "%s available", bytes(available, a));
    else
        snprintf(o->words, sizeof o->words, "the run needs %s, %s are available%s", bytes(need, a),
                 bytes(available, b),
                 o->how == VERDICT_FAIL   ? "; 'muster plan' says what would help"
                 : o->how == VERDICT_WARN ? ": little is left for the system and its page cache"
                                          : "");
}

static void judge_shared(const examination *e, int node, opinion *o) {
    const double margin = 64.0 * 1048576; /* what the exchange leaves to MPI itself (worker/exchange/shm.c) */
    const double free_bytes = e->all[node].shm_free;
    const bool insists = e->has_config && e->config.batch.transport == MST_TRANSPORT_SHM;
    double need = 0;
    text a, b;
    for (int r = 0; r < mst_comm_size(e->comm); r++)
        if (e->all[r].node == node) need += e->all[r].shared_need;
    o->spare = free_bytes - need;
    if (free_bytes < 0) {
        o->how = VERDICT_FAIL;
        snprintf(o->words, sizeof o->words,
                 "there is none, and MPI's ranks of one node need it: mount -t tmpfs tmpfs /dev/shm");
    } else if (need + margin > free_bytes) {
        o->how = insists ? VERDICT_FAIL : VERDICT_WARN;
        snprintf(o->words, sizeof o->words,
                 "%s free, %s %s; enlarge it (docker run --shm-size, mount -o remount,size=)%s",
                 bytes(free_bytes, a), need > 0 ? "the exchange takes" : "MPI may take",
                 bytes(need + margin, b),
                 insists || need == 0 ? "" : "; as it is, messages are used instead, which need more memory");
    } else {
        snprintf(o->words, sizeof o->words, "%s free%s%s", bytes(free_bytes, a),
                 need > 0 ? "; the exchange takes " : "", need > 0 ? bytes(need, b) : "");
    }
}

void doctor_judge_memory(examination *e) {
    if (e->file == NULL) return;
    judge_nodes(e, "memory", judge_memory);
    judge_nodes(e, "/dev/shm", judge_shared);
}
