/* Why and when a run stops before its last step. */
#include <math.h>
#include <stdlib.h>

#include "stop.h"
#include "training.h"

void mst_run_listen(bool speak) {
    stop_watch(speak);
}

/* What a checkpoint holds of a parameter: master and two moments. */
enum { SAVED_BYTES = 3 * sizeof(float) };

void training_know_end(training *t) {
    char why[128];
    if (!t->first) return;
    mst_watchdog_progress(t->watchdog, "start", 0);
    const double job_end = walltime_job_end(why, sizeof why);
    const double bytes = (double)mst_trainer_layout(t->trainer)->parameters * SAVED_BYTES;
    if (why[0] != '\0')
        training_say(t, "warning: %s; muster does not stop before the end by itself (run.minutes)", why);
    walltime_begin(&t->walltime, t->config.run.minutes, job_end, training_elapsed(t), bytes);
    const walltime *w = &t->walltime;
    if (!isfinite(w->end)) return;
    training_say(t, "%s %s; training stops before that, in time for a checkpoint",
                 w->of_job ? "this job ends at" : "run.minutes is up at", w->clock);
    const double needs = walltime_needs(w, (walltime_ahead){.saves = 1}), left = w->end - training_elapsed(t);
    if (left < needs)
        training_say(t,
                     "warning: that is in %.0f s, and a checkpoint may take %.0f s: one step is done before "
                     "it; ask for more time",
                     fmax(left, 0), needs);
}

/* Evaluations at the ends of the step that is about to begin and of the one after it. */
static unsigned evaluations_ahead(const training *t) {
    const uint64_t step = mst_trainer_position(t->trainer)->step, every = t->config.train.eval_every;
    unsigned count = 0;
    for (uint64_t s = step + 1; s <= step + 2 && every > 0; s++)
        count += s % every == 0 || s == t->config.run.steps;
    return count;
}

bool training_is_last_step(training *t) {
    if (!t->first) return false;
    const walltime_ahead ahead = {.evaluations = evaluations_ahead(t),
                                  .saves = mst_saver_busy(t->saver) ? 2 : 1};
    return walltime_is_up(&t->walltime, training_elapsed(t), ahead);
}

const char *training_stop_reason(const training *t) {
    return t->walltime.up && stop_signal() == 0 ? "walltime" : "signal";
}

/* Names the signal and the lowest rank that got one. @param signals [size] */
static void name_signal(training *t, const int *signals, char *text_out, size_t room) {
    const int size = mst_comm_size(t->comm);
    int rank = 0;
    while (rank < size && signals[rank] == 0) rank++;
    if (rank == size)
        text_out[0] = '\0';
    else if (rank == 0)
        snprintf(text_out, room, "stopped by %s", stop_signal_name(signals[0]));
    else
        snprintf(text_out, room, "stopped by %s to rank %d on %s", stop_signal_name(signals[rank]), rank,
                 mst_comm_host(t->comm, rank));
}

mst_status training_stopped(training *t) {
    mst_status status = MST_OK;
    const int mine = stop_signal();
    int *signals = NULL;
    char why[256] = "";
    mst_watchdog_waiting(t->watchdog, "step end", mst_trainer_position(t->trainer)->step);
    MST_TRY(mst_comm_allgather_equal(t->comm, &mine, sizeof mine, (void **)&signals));
    name_signal(t, signals, why, sizeof why);
    if (why[0] == '\0')
        snprintf(why, sizeof why, "stopped %s %s",
                 t->walltime.of_job ? "before the job's end at" : "before run.minutes is up at",
                 t->walltime.clock);
    status = mst_error(MST_ESTOPPED, "%s at step %llu of %llu, with a checkpoint; %s goes on from there", why,
                       (unsigned long long)mst_trainer_position(t->trainer)->step,
                       (unsigned long long)t->config.run.steps,
                       t->given[0] != '\0' ? "'--resume auto'" : "the same command");
done:
    free(signals);
    return status;
}
