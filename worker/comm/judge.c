/* Who holds the job up, and how that is said. */
#include <stdio.h>
#include <string.h>

#include "watch.h"

/* Seconds: waits that began less apart began together, as far as beats can tell. */
static const double simultaneous = 0.25;

/* ---- finding ---- */

static bool find_silent(const mst_watchdog *w, double limit, mst_finding *f) {
    for (size_t i = 0; i < w->link_count; i++) {
        const mst_peer *other = &w->peers[w->links[i].rank];
        const double silent = w->clock - other->heard;
        if (other->gone || silent < limit) continue;
        *f = (mst_finding){MST_SILENT, w->links[i].rank, silent};
        return true;
    }
    return false;
}

/* Somebody works without progress. The longest is named: the others may only wait for it without saying so. */
static bool find_idle(const mst_watchdog *w, double limit, mst_finding *f) {
    bool found = false;
    for (int rank = 0; rank < w->size; rank++) {
        const mst_beat *last = &w->peers[rank].last;
        if (w->peers[rank].gone || last->waiting || last->idle < limit) continue;
        if (found && last->idle <= f->seconds) continue;
        *f = (mst_finding){MST_IDLE, rank, last->idle};
        found = true;
    }
    return found;
}

static bool same_place(const mst_beat *left, const mst_beat *right) {
    return left->step == right->step && strcmp(left->phase, right->phase) == 0;
}

/* How long a rank has made no progress by now: its last beat has become older since. */
static double idle_of(const mst_watchdog *w, int rank) {
    return w->peers[rank].last.idle + (w->clock - w->peers[rank].heard);
}

/* Ranks that stand where this one does, itself among them. */
static int count_beside(const mst_watchdog *w, int rank) {
    int beside = 0;
    for (int other = 0; other < w->size; other++)
        beside += !w->peers[other].gone && same_place(&w->peers[other].last, &w->peers[rank].last);
    return beside;
}

/* Whether a rank has been left behind by others, rather than gone ahead of them: at a lower step, or in its place no
 * shorter than they in theirs. */
static bool is_behind(const mst_watchdog *w, int rank, int others) {
    const mst_beat *last = &w->peers[rank].last, *theirs = &w->peers[others].last;
    if (last->step != theirs->step) return last->step < theirs->step;
    return idle_of(w, rank) > idle_of(w, others) - simultaneous;
}

/*
 * All wait. Where most stand in one place, and one is behind in another, that one hangs in MPI, in something that the
 * others have left.
 */
static bool find_blocked(const mst_watchdog *w, double limit, mst_finding *f) {
    int present = 0, first = -1, most = -1;
    for (int rank = 0; rank < w->size; rank++) {
        if (w->peers[rank].gone) continue;
        if (!w->peers[rank].last.waiting || w->peers[rank].last.idle < limit) return false;
        present++;
        if (first < 0) first = rank;
    }
    if (present < 2) return false;
    for (int rank = 0; rank < w->size && most < 0; rank++)
        if (!w->peers[rank].gone && 2 * count_beside(w, rank) > present) most = rank;
    *f = (mst_finding){MST_BLOCKED, first, w->peers[first].last.idle};
    for (int rank = 0; rank < w->size && most >= 0; rank++) {
        if (w->peers[rank].gone || same_place(&w->peers[rank].last, &w->peers[most].last)) continue;
        if (is_behind(w, rank, most)) *f = (mst_finding){MST_STUCK, rank, w->peers[rank].last.idle};
    }
    return true;
}

bool mst_judge(const mst_watchdog *w, double limit, mst_finding *finding_out) {
    if (find_silent(w, limit, finding_out)) return true;
    if (w->rank != 0) return false;
    return find_idle(w, limit, finding_out) || find_blocked(w, limit, finding_out);
}

/* ---- words ---- */

/* "rank 3 (host n4, process 4711, cpu x86-64-v4, 2 threads)" */
static const char *name_rank(const mst_watchdog *w, int rank, char text[256]) {
    const mst_introduction *known = &w->known[rank];
    snprintf(text, 256, "rank %d (host %.64s, process %lld%s%.95s)", rank, mst_comm_host(w->comm, rank),
             (long long)known->process.pid, known->device[0] != '\0' ? ", " : "", known->device);
    return text;
}

static const char *name_place(const mst_beat *beat, char text[80]) {
    snprintf(text, 80, "at step %llu in phase %.31s", (unsigned long long)beat->step, beat->phase);
    return text;
}

static const char *name_cpu(const mst_beat *beat, char text[64]) {
    text[0] = '\0';
    if (beat->cpu != MST_CPU_UNKNOWN)
        snprintf(text, 64, " (its main thread used %d %% of a core)", beat->cpu);
    return text;
}

/* Why nothing is heard of a rank, as far as this rank can see. */
static const char *name_silence(const mst_watchdog *w, int rank) {
    const mst_process *process = &w->known[rank].process;
    if (process->host != w->known[w->rank].process.host)
        return "stopped, swapped out, or its host or the network is lost";
    switch (mst_process_state(process)) {
    case 'T':
    case 't':
        return "it is stopped by a signal or a debugger";
    case 'D':
        return "it waits for a disk or for memory";
    case 0:
        return "it is gone";
    default:
        return "it lives, but gets no processor, or is swapped out";
    }
}

/* Every rank's place, as many as fit. */
static void describe_all(const mst_watchdog *w, double seconds, char *text_out) {
    char place[80], cpu[64];
    size_t used =
        (size_t)snprintf(text_out, MST_FINDING_BYTES, "all ranks wait for each other since %.1f s:", seconds);
    for (int rank = 0; rank < w->size && used < MST_FINDING_BYTES - 260; rank++) {
        const mst_beat *last = &w->peers[rank].last;
        if (w->peers[rank].gone) continue;
        used += (size_t)snprintf(text_out + used, MST_FINDING_BYTES - used, "%s rank %d (host %.64s) %s%s",
                                 rank > 0 ? "," : "", rank, mst_comm_host(w->comm, rank),
                                 name_place(last, place), name_cpu(last, cpu));
    }
}

/* Where the others wait that a stuck rank does not join. */
static const mst_beat *find_elsewhere(const mst_watchdog *w, int rank) {
    const mst_beat *here = &w->peers[rank].last;
    for (int other = 0; other < w->size; other++)
        if (!w->peers[other].gone && !same_place(&w->peers[other].last, here)) return &w->peers[other].last;
    return here;
}

void mst_finding_describe(const mst_watchdog *w, const mst_finding *f, char *text_out) {
    char who[256], place[80], other[80], cpu[64];
    const mst_beat *last = &w->peers[f->rank].last;
    name_rank(w, f->rank, who);
    name_place(last, place);
    name_cpu(last, cpu);
    switch (f->trouble) {
    case MST_DIED:
        snprintf(text_out, MST_FINDING_BYTES, "%s died %s, where it was for %.1f s", who, place, f->seconds);
        break;
    case MST_SILENT:
        snprintf(text_out, MST_FINDING_BYTES, "%s gave no sign of life for %.1f s (%s); it was last seen %s",
                 who, f->seconds, name_silence(w, f->rank), place);
        break;
    case MST_IDLE:
        snprintf(text_out, MST_FINDING_BYTES, "%s made no progress for %.1f s %s%s", who, f->seconds, place,
                 cpu);
        break;
    case MST_STUCK:
        snprintf(text_out, MST_FINDING_BYTES,
                 "%s is stuck among the others for %.1f s %s%s, which they have left: they wait %s", who,
                 f->seconds, place, cpu, name_place(find_elsewhere(w, f->rank), other));
        break;
    default:
        describe_all(w, f->seconds, text_out);
    }
}

static bool others_wait(const mst_watchdog *w, int rank) {
    for (int other = 0; other < w->size; other++)
        if (other != rank && !w->peers[other].gone && !w->peers[other].last.waiting) return false;
    return w->size > 1;
}

void mst_finding_warn(const mst_watchdog *w, const mst_finding *f, char *text_out) {
    char who[256], place[80], cpu[64], ending[96];
    const mst_beat *last = &w->peers[f->rank].last;
    name_rank(w, f->rank, who);
    name_place(last, place);
    snprintf(ending, sizeof ending, "%sthe job ends at %g s",
             w->rank == 0 && others_wait(w, f->rank) ? "the others wait; " : "", w->seconds);
    switch (f->trouble) {
    case MST_SILENT:
        snprintf(text_out, MST_FINDING_BYTES,
                 "%s has given no sign of life for %.1f s (%s), last seen %s; %s", who, f->seconds,
                 name_silence(w, f->rank), place, ending);
        break;
    case MST_BLOCKED:
        describe_all(w, f->seconds, text_out);
        snprintf(text_out + strlen(text_out), MST_FINDING_BYTES - strlen(text_out), "; the job ends at %g s",
                 w->seconds);
        break;
    default:
        snprintf(text_out, MST_FINDING_BYTES, "%s has been %s for %.1f s%s; %s", who, place, f->seconds,
                 name_cpu(last, cpu), ending);
    }
}
