/* One attempt after its end: what happened, in words and as a line of launch.jsonl. */
#ifndef LAUNCH_ATTEMPT_H
#define LAUNCH_ATTEMPT_H

#include "plan.h"
#include "stand.h"
#include "watch.h"

typedef enum outcome_kind {
    OUTCOME_DONE,
    OUTCOME_STOPPED, /* with nothing lost */
    OUTCOME_WRONG,   /* command or config */
    OUTCOME_FAILED
} outcome_kind;

typedef struct attempt {
    uint64_t number; /* 1, 2, ... */
    char began[32];  /* UTC */
    watch_end end;
    stand before, after;
    outcome_kind outcome;
    const place_node *culprit; /* the node that the message names; NULL: none */
} attempt;

/** What an attempt came to. @param asked a signal asked it to stop */
outcome_kind attempt_judge(const watch_end *end, bool asked, const stand *after);

/** "exit code 7", "a rank was ended by signal 9 (Killed)". */
void attempt_describe(const watch_end *end, char *text_out, size_t room);

/** The line that says best why it ended so; "": nobody said it, as where the launcher was killed. */
const char *attempt_reason(const attempt *a);

/** Whether the launcher failed: nobody trained, no rank is to blame, and muster itself said nothing. */
bool attempt_is_launchers(const attempt *a);

/** Whether two failures are the same: the work failed at the same step with the same message of muster's, or the launcher
 * twice with the same words. */
bool attempt_repeats(const attempt *before, const attempt *now);

/** The time now, as "2026-11-24T04:49:27Z". */
void attempt_time(char text_out[32]);

/** Appends a line to RUN/launch.jsonl; without a run folder there is nothing to append to. @param p where it ran
 * @retval MST_EIO, MST_ENOMEM */
mst_status attempt_record(const attempt *a, const char *run, const place *p, const job_plan *plan);

/* All attempts together. */
typedef struct history {
    uint64_t attempts, failures;
    uint64_t steps_lost;
    double seconds_lost, seconds_waited;
} history;

/** Appends the last line of a launch. @param result exit code of launch @retval as attempt_record */
mst_status attempt_record_end(const history *h, const char *run, const stand *last, int result,
                              const char *why);

#endif
