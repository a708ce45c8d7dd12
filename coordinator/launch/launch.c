/* The loop over attempts. docs/launch.md tells the rules. */
#include "muster/launch.h"
#include "muster/clock.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attempt.h"
#include "child.h"
#include "leftovers.h"
#include "muster/config.h"
#include "muster/run.h"
#include "muster/terminal.h"
#include "plan.h"
#include "stand.h"
#include "watch.h"

enum { PAUSE_LEAST = 1, PAUSE_MOST = 60 }; /* seconds */
enum { RANKS_SECONDS = 10 };               /* after a killed launcher, beyond watchdog.seconds */
/* How often the same failure is taken: one of muster's comes again; a launcher may have met a node that was just busy. */
enum { SAME_OF_MUSTER = 2, SAME_OF_LAUNCHER = 4 };

typedef struct launch {
    const mst_launch_options *options;
    mst_config config;
    char run[STAND_PATH_MAX];
    place place;
    launcher_kind launcher;
    watch watch;
    history history;
    uint64_t idle;              /* failures one after the other without progress */
    uint64_t same;              /* of these the last ones that were the same */
    char first[STAND_PATH_MAX]; /* the newest checkpoint when launch began */
    attempt last;               /* number 0: none yet */
    size_t ranks, node_count;   /* of the last attempt */
    leftovers leftovers;
} launch;

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%slaunch:%s %s\n", mst_terminal_style(stderr, MST_STYLE_NOTE),
            mst_terminal_style(stderr, MST_STYLE_PLAIN), text);
}

/* ---- the beginning ---- */

static mst_status read_config(launch *l) {
    mst_status status = MST_OK;
    const mst_launch_options *o = l->options;
    MST_TRY(mst_config_load(o->config_path, o->overrides, o->override_count, stderr, &l->config));
    MST_TRY(mst_run_folder(&l->config, o->run_dir, l->run, sizeof l->run));
done:
    return status;
}

static mst_status check_options(const launch *l) {
    mst_status status = MST_OK;
    const mst_launch_options *o = l->options;
    MST_CHECK(o->least_nodes <= l->place.count, MST_ECONFIG,
              "launch: --elastic: at least %llu nodes are wanted, but there are only %zu",
              (unsigned long long)o->least_nodes, l->place.count);
    MST_CHECK(l->launcher != LAUNCHER_NONE || o->extra_count == 0, MST_ECONFIG,
              "launch: '%s' is for a launcher, but one rank on this machine needs none; add --ranks or "
              "--with mpirun",
              o->extra[0]);
    MST_TRY(job_check_extra(o, l->launcher));
done:
    return status;
}

/* As root Open MPI starts nothing unless told that this is meant. */
static bool root_is_refused(const launch *l) {
    return geteuid() == 0 && l->launcher != LAUNCHER_NONE && getenv("OMPI_ALLOW_RUN_AS_ROOT") == NULL;
}

static void allow_root(const launch *l) {
    if (!root_is_refused(l)) return;
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    say("this is root: sets OMPI_ALLOW_RUN_AS_ROOT and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM, without which Open "
        "MPI refuses");
}

static mst_status begin(launch *l, char why_out[256]) {
    mst_status status = MST_OK;
    const mst_launch_options *o = l->options;
    MST_TRY(place_find(o->hostfile, &l->place));
    MST_TRY(read_config(l));
    const bool one_rank =
        o->ranks <= 1 && (!o->all || l->place.nodes[0].cores == 1 || l->config.batch.shape.lanes == 1);
    MST_TRY(job_launcher(&l->place, o->with, one_rank || l->config.batch.shape.lanes == 1, &l->launcher,
                         why_out));
    MST_TRY(check_options(l));
done:
    return status;
}

static mst_status print_plan(const launch *l, const char *why) {
    mst_status status = MST_OK;
    char where[4400];
    char *command = NULL;
    job_plan plan = {0};
    place_describe(&l->place, where, sizeof where);
    MST_TRY(job_plan_make(&l->place, l->options, l->launcher, l->config.batch.shape.lanes, l->options->resume,
                          &plan));
    MST_TRY(words_quote(&plan.command, &command));
    fprintf(l->options->dry_run, "# %s, %zu node%s\n# %s\n", where, l->place.count,
            l->place.count == 1 ? "" : "s", why);
    for (char *line = strtok(plan.why, "\n"); line != NULL; line = strtok(NULL, "\n"))
        fprintf(l->options->dry_run, "# %s\n", line);
    if (root_is_refused(l))
        fputs("# as root, which Open MPI refuses without the two variables\n"
              "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 ",
              l->options->dry_run);
    fprintf(l->options->dry_run, "%s\n", command);
done:
    free(command);
    job_plan_clear(&plan);
    return status;
}

/* ---- one attempt ---- */

static void announce(const launch *l, const job_plan *plan) {
    char where[4400], nodes[64] = "", bound[64] = "";
    place_describe(&l->place, where, sizeof where);
    if (l->place.kind != PLACE_ALONE)
        snprintf(nodes, sizeof nodes, " on %zu of %zu node%s of", plan->node_count, l->place.count,
                 l->place.count == 1 ? "" : "s");
    if (plan->cores > 0 && !plan->own_binding && plan->launcher != LAUNCHER_NONE)
        snprintf(bound, sizeof bound, ", %zu core%s each", plan->cores, plan->cores == 1 ? "" : "s");
    say("%zu rank%s%s %s%s, by %s", plan->ranks, plan->ranks == 1 ? "" : "s",
        nodes[0] != '\0' ? nodes : " on", where, bound, job_launcher_name(plan->launcher));
    if (l->last.number > 0 && plan->ranks != l->ranks)
        say("before it were %zu ranks: the bits stay the same", l->ranks);
}

/* The node that a message like "rank 3 (host n4, process 4711) died" names. */
static place_node *culprit_of(place *p, const tail *t) {
    char name[PLACE_NAME_MAX];
    const char *at = strstr(t->culprit, "(host ");
    const char *on = strstr(t->culprit, " on node ");
    if (at == NULL && on == NULL) return NULL;
    at = at != NULL ? at + strlen("(host ") : on + strlen(" on node ");
    snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ",) "), at);
    return place_node_of(p, name);
}

static void account(launch *l, attempt *a) {
    place_node *culprit = a->outcome == OUTCOME_FAILED ? culprit_of(&l->place, &a->end.tail) : NULL;
    a->culprit = culprit;
    l->history.attempts++;
    if (a->outcome != OUTCOME_FAILED) return;
    l->history.failures++;
    if (culprit != NULL) culprit->blamed++;
    if (a->after.step > a->after.saved) {
        l->history.steps_lost += a->after.step - a->after.saved;
        l->history.seconds_lost += a->after.seconds_lost;
    }
    l->idle = a->after.saved > a->before.saved ? 1 : l->idle + 1;
}

/* What the user reads of a failed attempt. */
static void report(const attempt *a) {
    char how[128];
    attempt_describe(&a->end, how, sizeof how);
    say("attempt %llu failed after %.1f s: %s", (unsigned long long)a->number, a->end.seconds, how);
    const char *reason = attempt_reason(a), *lines[3];
    if (reason[0] != '\0') say("  %s", reason);
    for (size_t i = 0, count = tail_last_words(&a->end.tail, lines); i < count; i++)
        say("  said before that: %s", lines[i]);
    if (a->culprit != NULL && a->culprit->blamed > 1)
        say("  that is failure %zu on %s", a->culprit->blamed, a->culprit->name);
    if (!a->after.moved && a->after.newest[0] == '\0')
        say("  it had made no step, and there is no checkpoint yet");
    else if (!a->after.moved)
        say("  it had made no step; the newest checkpoint is of step %llu",
            (unsigned long long)a->after.saved);
    else
        say("  steps %llu to %llu, newest checkpoint at %llu: %llu steps (%.1f s) are lost",
            (unsigned long long)a->before.saved, (unsigned long long)a->after.step,
            (unsigned long long)a->after.saved,
            (unsigned long long)(a->after.step > a->after.saved ? a->after.step - a->after.saved : 0),
            a->after.seconds_lost);
}

/* A launcher that was killed leaves ranks behind, which save and end: only then it is known how far they came. */
static void wait_for_ranks(launch *l) {
    const double until = mst_clock_now() + l->config.watchdog.seconds + RANKS_SECONDS;
    if (!mst_run_is_held_here(l->run)) return;
    say("%s was killed: its ranks save what they have and end", job_launcher_name(l->launcher));
    while (mst_run_is_held_here(l->run) && mst_clock_now() < until && watch_pause(&l->watch, 0.1)) {}
}

/* Runs a plan to its end. @param now_out what happened */
static mst_status attempt_run(launch *l, const job_plan *plan, attempt *now_out) {
    mst_status status = MST_OK;
    attempt *a = now_out;
    *a = (attempt){.number = l->last.number + 1};
    attempt_time(a->began);
    MST_TRY(stand_read(l->run, 0, &a->before));
    announce(l, plan);
    MST_TRY(watch_run(&l->watch, plan, &a->end));
    if (plan->launcher != LAUNCHER_NONE && a->end.signal != 0) wait_for_ranks(l);
    leftovers_remove(&l->leftovers);
    MST_TRY(stand_read(l->run, a->before.metrics, &a->after));
    a->outcome = attempt_judge(&a->end, l->watch.asked != 0, &a->after);
    account(l, a);
    if (a->outcome == OUTCOME_FAILED) report(a);
    if (attempt_record(a, l->run, &l->place, plan) != MST_OK) say("warning: %s", mst_error_message());
    l->ranks = plan->ranks;
    l->node_count = plan->node_count;
done:
    return status;
}

/* ---- from one attempt to the next ---- */

/* A checkpoint that --resume names counts until the run has one of its own. */
static const char *resume_of(const launch *l) {
    const stand *now = &l->last.after;
    const bool own = l->last.number > 0 && now->newest[0] != '\0' && strcmp(now->newest, l->first) != 0;
    return own ? "auto" : l->options->resume;
}

/* 1, 2, 4, ... 60 s. */
static double pause_of(uint64_t idle) {
    double seconds = PAUSE_LEAST;
    for (uint64_t i = 1; i < idle && seconds < PAUSE_MOST; i++) seconds *= 2;
    return seconds < PAUSE_MOST ? seconds : PAUSE_MOST;
}

/* What is to come of the last attempt. @param why_out [256] "" as long as another one is to be made */
static mst_status decide(launch *l, const attempt *now, char why_out[256]) {
    why_out[0] = '\0';
    switch (now->outcome) {
    case OUTCOME_DONE:
        snprintf(why_out, 256, "done");
        return MST_OK;
    case OUTCOME_WRONG:
        snprintf(why_out, 256, "the command or the config is wrong");
        return mst_error(MST_ECONFIG,
                         "launch: the ranks refuse the command or the config (above); not started again");
    case OUTCOME_STOPPED:
        snprintf(why_out, 256, "stopped%s%s", l->watch.asked != 0 ? " by " : "",
                 l->watch.asked != 0 ? watch_signal_name(l->watch.asked) : "");
        return mst_error(MST_ESTOPPED,
                         "launch: %s at step %llu, with nothing lost; the same command goes on from there",
                         why_out, (unsigned long long)now->after.saved);
    case OUTCOME_FAILED:
        break;
    }
    if (l->watch.asked != 0) {
        snprintf(why_out, 256, "%s, and the ranks did not end well", watch_signal_name(l->watch.asked));
        return mst_error(MST_EPEER, "launch: %s; the newest checkpoint is of step %llu", why_out,
                         (unsigned long long)now->after.saved);
    }
    l->same = attempt_repeats(&l->last, now) ? l->same + 1 : 1;
    if (attempt_is_launchers(now) && l->same >= SAME_OF_LAUNCHER) {
        snprintf(why_out, 256, "%s failed %d times in the same way", job_launcher_name(l->launcher),
                 SAME_OF_LAUNCHER);
        return mst_error(MST_EPEER,
                         "launch: %s before any step was made: %s; try the command that --dry-run prints",
                         why_out, tail_reason(&now->end.tail, false));
    }
    if (!attempt_is_launchers(now) && l->same >= SAME_OF_MUSTER) {
        snprintf(why_out, 256, "the same failure twice");
        return mst_error(
            MST_EPEER,
            "launch: the same failure twice at step %llu: it would come again, so nothing is started a third "
            "time: %s",
            (unsigned long long)now->after.step, now->end.tail.error);
    }
    if (l->idle > l->options->restarts) {
        snprintf(why_out, 256, "%llu restarts without progress", (unsigned long long)l->options->restarts);
        return mst_error(MST_EPEER,
                         "launch: given up after %s (--restarts); the newest checkpoint is of step %llu",
                         why_out, (unsigned long long)now->after.saved);
    }
    return MST_OK;
}

/* A stop between attempts. */
static mst_status stopped_between(launch *l, char why_out[256]) {
    snprintf(why_out, 256, "stopped by %s", watch_signal_name(l->watch.asked));
    return mst_error(MST_ESTOPPED,
                     "launch: %s while no rank was running; the same command goes on from step %llu", why_out,
                     (unsigned long long)l->last.after.saved);
}

/* Waits, and finds nodes for the next attempt. @param plan_out its node_count is 0 after a stop or when given up */
static mst_status prepare(launch *l, job_plan *plan_out, char why_out[256]) {
    mst_status status = MST_OK;
    for (;;) {
        if (l->idle > 0) {
            const double seconds = pause_of(l->idle);
            say("restart %llu of at most %llu without progress, in %.0f s", (unsigned long long)l->idle,
                (unsigned long long)l->options->restarts, seconds);
            const double begun = mst_clock_now();
            const bool waited = watch_pause(&l->watch, seconds);
            l->history.seconds_waited += mst_clock_now() - begun;
            if (!waited) return stopped_between(l, why_out);
            place_ask(&l->place);
        }
        if (!watch_pause(&l->watch, 0)) return stopped_between(l, why_out);
        MST_TRY(job_plan_make(&l->place, l->options, l->launcher, l->config.batch.shape.lanes, resume_of(l),
                              plan_out));
        if (plan_out->node_count > 0) break;
        job_plan_clear(plan_out);
        const uint64_t least = l->options->least_nodes > 0 ? l->options->least_nodes : 1;
        say("too few nodes answer: at least %llu of %zu are wanted (--elastic)", (unsigned long long)least,
            l->place.count);
        if (++l->idle > l->options->restarts) {
            snprintf(why_out, 256, "too few nodes answer");
            status = mst_error(
                MST_EPEER,
                "launch: given up: too few nodes answer; at least %llu of %zu are wanted (--elastic)",
                (unsigned long long)least, l->place.count);
            goto done;
        }
    }
    for (size_t i = 0; i < l->place.count; i++)
        if (!l->place.nodes[i].answers) say("%s does not answer: goes on without it", l->place.nodes[i].name);
done:
    return status;
}

static mst_status loop(launch *l, char why_out[256]) {
    mst_status status = MST_OK;
    static attempt now; /* its lines are many for a stack */
    for (;;) {
        job_plan plan = {0};
        status = prepare(l, &plan, why_out);
        if (status == MST_OK) status = attempt_run(l, &plan, &now);
        job_plan_clear(&plan);
        if (status != MST_OK) return status;
        status = decide(l, &now, why_out);
        l->last = now;
        if (why_out[0] != '\0') return status;
    }
}

static int exit_code_of(mst_status status) {
    return status == MST_OK ? 0 : status == MST_ECONFIG ? 2 : status == MST_ESTOPPED ? 75 : 1;
}

static void finish(launch *l, mst_status status, const char *why) {
    const history *h = &l->history;
    if (attempt_record_end(h, l->run, &l->last.after, exit_code_of(status), why) != MST_OK)
        say("warning: %s", mst_error_message());
    if (h->failures == 0) return;
    say("%llu attempts, %llu failed; %llu steps (%.1f s) were lost, and %.0f s waited between attempts",
        (unsigned long long)h->attempts, (unsigned long long)h->failures, (unsigned long long)h->steps_lost,
        h->seconds_lost, h->seconds_waited);
    for (size_t i = 0; i < l->place.count; i++)
        if (l->place.nodes[i].blamed > 0 && l->place.count > 1)
            say("%s was named in %zu of them", l->place.nodes[i].name, l->place.nodes[i].blamed);
}

mst_status mst_launch(const mst_launch_options *options) {
    mst_status status = MST_OK;
    char why[256] = "", message[2048];
    stand now;
    launch *l = calloc(1, sizeof *l);
    if (l == NULL) return mst_error(MST_ENOMEM, "launch: no memory");
    l->options = options;
    l->watch.signals = -1;
    MST_TRY(begin(l, why));
    if (options->dry_run != NULL) {
        status = print_plan(l, why);
        goto done;
    }
    allow_root(l);
    MST_TRY(stand_read(l->run, 0, &now));
    snprintf(l->first, sizeof l->first, "%s", now.newest);
    l->last.after = now;
    MST_TRY(watch_begin(l->config.watchdog.seconds, &l->watch));
    leftovers_note(&l->leftovers);
    why[0] = '\0';
    status = loop(l, why);
    snprintf(message, sizeof message, "%s", mst_error_message());
    finish(l, status, why);
    if (status != MST_OK) mst_error(status, "%s", message);
    leftovers_remove(&l->leftovers);
done:
    watch_finish(&l->watch);
    const bool at_once = l->watch.at_once;
    leftovers_clear(&l->leftovers);
    place_clear(&l->place);
    mst_config_clear(&l->config);
    free(l);
    if (at_once) { /* as whoever pressed Ctrl-C twice expects */
        signal(SIGINT, SIG_DFL);
        raise(SIGINT);
    }
    return status;
}
