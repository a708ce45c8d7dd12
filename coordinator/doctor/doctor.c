/* The order of an examination, its lines and its verdict. */
#include "muster/doctor.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "examination.h"
#include "muster/digest.h"
#include "muster/run.h"
#include "muster/terminal.h"
#include "muster/units.h"

void doctor_say(examination *e, verdict how, const char *subject, const char *format, ...) {
    static const char *const words[] = {"ok", "warn", "FAIL"};
    static const mst_style styles[] = {MST_STYLE_PLAIN, MST_STYLE_NOTE, MST_STYLE_ERROR};
    if (e->file == NULL) return;
    e->warnings += how == VERDICT_WARN;
    e->failures += how == VERDICT_FAIL;
    fprintf(e->file, "%s%-4s%s  %-12s  ", mst_terminal_style(e->file, styles[how]), words[how],
            mst_terminal_style(e->file, MST_STYLE_PLAIN), subject);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(e->file, format, arguments);
    va_end(arguments);
    fputc('\n', e->file);
    fflush(e->file);
}

const char *doctor_rank(const examination *e, int rank, char *text_out) {
    snprintf(text_out, FACT_TEXT, "rank %d (%s)", rank, mst_comm_host(e->comm, rank));
    return text_out;
}

/* ---- the config ---- */

/* Each rank reads its own, as a job's ranks would be given it: they are compared. */
static mst_status read_config(examination *e, const mst_doctor_options *options, mst_digest *digest_out) {
    mst_status status = MST_OK;
    char *yaml = NULL;
    FILE *errors = mst_comm_rank(e->comm) == 0 ? stderr : NULL;
    memset(digest_out, 0, sizeof *digest_out);
    if (options->config_path == NULL) goto done;
    MST_TRY(mst_config_load(options->config_path, options->overrides, options->override_count, errors,
                            &e->config));
    MST_TRY(mst_run_vocabulary(&e->config));
    MST_TRY(mst_config_to_yaml(&e->config, &yaml));
    MST_TRY(mst_digest_of(yaml, strlen(yaml), digest_out));
    e->has_config = true;
done:
    free(yaml);
    return status;
}

static mst_status compare_configs(examination *e, const mst_digest *mine) {
    mst_status status = MST_OK;
    mst_digest *all = NULL;
    char name[FACT_TEXT];
    int differs = -1;
    MST_TRY(mst_comm_allgather_equal(e->comm, mine, sizeof *mine, (void **)&all));
    for (int r = mst_comm_size(e->comm) - 1; r > 0; r--)
        if (memcmp(&all[r], &all[0], sizeof *all) != 0) differs = r;
    if (!e->has_config)
        doctor_say(e, VERDICT_OK, "config",
                   "none given: machines only; 'muster doctor CONFIG' also looks at what the run needs");
    else if (differs > 0)
        doctor_say(e, VERDICT_WARN, "config", "%s reads another config than rank 0: training takes rank 0's",
                   doctor_rank(e, differs, name));
    else
        doctor_say(e, VERDICT_OK, "config", "read, and the same on all ranks");
done:
    free(all);
    return status;
}

static void choose_folder(examination *e, const mst_doctor_options *options) {
    if (options->run_dir != NULL)
        snprintf(e->run, sizeof e->run, "%s", options->run_dir);
    else if (e->has_config && e->config.run.dir != NULL)
        snprintf(e->run, sizeof e->run, "%s", e->config.run.dir);
    else if (e->has_config)
        snprintf(e->run, sizeof e->run, "runs/%s", e->config.run.name);
}

/* ---- nodes ---- */

static mst_status find_nodes(examination *e) {
    mst_status status = MST_OK;
    const int size = mst_comm_size(e->comm);
    char hosts[256] = "";
    e->leaders = calloc((size_t)size, sizeof *e->leaders);
    MST_TRY(
        mst_comm_agree(e->comm, e->leaders != NULL ? MST_OK : mst_error(MST_ENOMEM, "doctor: no memory")));
    for (int r = 0; r < size; r++)
        if (e->all[r].node == r) {
            const size_t used = strlen(hosts);
            snprintf(hosts + used, sizeof hosts - used, "%s%s", used > 0 ? ", " : "",
                     mst_comm_host(e->comm, r));
            e->leaders[e->nodes++] = r;
        }
    for (int n = 0; n < e->nodes; n++)
        if (e->leaders[n] == e->all[mst_comm_rank(e->comm)].node) e->own_node = n;
    doctor_say(e, VERDICT_OK, "ranks", "%d on %d node%s: %s", size, e->nodes, e->nodes == 1 ? "" : "s",
               hosts);
done:
    return status;
}

/* ---- what the run needs of them ---- */

/* The plan of this job, with what was measured. */
static mst_status plan_here(examination *e) {
    mst_status status = MST_OK;
    const int size = mst_comm_size(e->comm);
    char a[MST_QUANTITY_TEXT], b[MST_QUANTITY_TEXT], c[MST_QUANTITY_TEXT], d[MST_QUANTITY_TEXT];
    double slowest = e->all[0].flops;
    if (!e->has_config) goto done;
    for (int r = 1; r < size; r++)
        if (e->all[r].flops < slowest) slowest = e->all[r].flops;
    if (slowest <= 0) goto done; /* the reference kernels */
    const mst_machine machine = {.ranks = size,
                                 .nodes = e->nodes,
                                 .flops = slowest,
                                 .utilisation = MST_PLAN_UTILISATION,
                                 .bandwidth = e->bandwidth > 0 ? e->bandwidth : 10e9 / 8,
                                 .latency = e->latency,
                                 .disk = 500e6,
                                 .driver = e->all[0].driver_bytes};
    MST_TRY(mst_plan_make(&e->config, &machine, &e->plan));
    const mst_plan *p = &e->plan;
    const double exchange = p->sum_seconds + p->publish_seconds + p->agreement_seconds,
                 waited = exchange - p->hidden_seconds;
    if (e->nodes == 1)
        doctor_say(e, VERDICT_OK, "step", "computes about %s; nothing travels between nodes",
                   mst_quantity_text(MST_QUANTITY_SECONDS, p->compute_seconds, a));
    else
        doctor_say(e, waited > 0.2 * p->step_seconds ? VERDICT_WARN : VERDICT_OK, "step",
                   "computes about %s, backward of it %s; exchange %s: %s hidden, %s waited for (%.0f %% of "
                   "the step)%s",
                   mst_quantity_text(MST_QUANTITY_SECONDS, p->compute_seconds, a),
                   mst_quantity_text(MST_QUANTITY_SECONDS, p->compute_seconds * 2 / 3, b),
                   mst_quantity_text(MST_QUANTITY_SECONDS, exchange, c),
                   mst_quantity_text(MST_QUANTITY_SECONDS, p->hidden_seconds, d),
                   mst_quantity_text(MST_QUANTITY_SECONDS, waited, (char[MST_QUANTITY_TEXT]){0}),
                   100 * waited / p->step_seconds,
                   waited > 0.2 * p->step_seconds ? "; 'muster plan' says what would help" : "");
done:
    return status;
}

/* ---- the whole ---- */

static mst_status conclude(examination *e) {
    mst_status status = MST_OK;
    int counts[2] = {e->warnings, e->failures};
    MST_TRY(mst_comm_broadcast(e->comm, 0, counts, sizeof counts));
    if (e->file != NULL && counts[1] == 0)
        fprintf(e->file, "%s: %s\n", counts[0] == 0 ? "all well" : "fit to train",
                counts[0] == 0 ? "nothing was found that would disturb training"
                               : "read the warnings; none of them prevents training");
    MST_CHECK(counts[1] == 0, MST_EUNSUPPORTED,
              "doctor: not fit to train: %d check%s FAILed and %d warned; mend what the lines above name, "
              "and run this again",
              counts[1], counts[1] == 1 ? "" : "s", counts[0]);
done:
    return status;
}

static mst_status examine(examination *e, const mst_doctor_options *options) {
    mst_status status = MST_OK;
    mst_digest config;
    MST_TRY(mst_comm_agree(e->comm, read_config(e, options, &config)));
    choose_folder(e, options);
    const mst_watchdog_options watch = {.seconds = e->has_config ? e->config.watchdog.seconds : 60,
                                        .interfaces = e->config.network.interfaces};
    MST_TRY(mst_watchdog_start(e->comm, &watch, &e->watchdog));
    MST_TRY(doctor_gather(e));
    MST_TRY(find_nodes(e));
    MST_TRY(compare_configs(e, &config));
    doctor_judge_machines(e);
    doctor_judge_memory(e);
    MST_TRY(doctor_folder(e));
    MST_TRY(doctor_links(e));
    MST_TRY(mst_comm_agree(e->comm, plan_here(e)));
    MST_TRY(conclude(e));
done:
    return status;
}

mst_status mst_doctor_examine(mst_comm *comm, const mst_doctor_options *options, FILE *file) {
    examination e = {.comm = comm, .file = mst_comm_rank(comm) == 0 ? file : NULL};
    mst_status status = examine(&e, options);
    mst_watchdog_destroy(&e.watchdog);
    mst_config_clear(&e.config);
    free(e.all);
    free(e.leaders);
    return status;
}
