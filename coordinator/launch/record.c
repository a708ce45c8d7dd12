/* RUN/launch.jsonl: docs/launch.md says what stands in it. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attempt.h"

/* Appends at once, so that what others append never stands within a line. Takes the object. */
static mst_status append(const char *run, json_t *object) {
    mst_status status = MST_OK;
    char path[STAND_PATH_MAX + 32];
    char *text = NULL, *line = NULL;
    struct stat facts;
    int fd = -1;
    MST_CHECK(object != NULL, MST_ENOMEM, "launch: no memory for a line of launch.jsonl");
    text = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
    MST_CHECK(text != NULL && asprintf(&line, "%s\n", text) >= 0, MST_ENOMEM,
              "launch: no memory for a line of launch.jsonl");
    snprintf(path, sizeof path, "%s/launch.jsonl", run);
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0666);
    if (fd < 0 && errno == ENOENT) goto done; /* the run never began */
    MST_CHECK(fd >= 0, MST_EIO, "cannot write %s: %s", path, strerror(errno));
    MST_CHECK(fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode), MST_EIO,
              "cannot write %s: it is not a plain file", path);
    MST_CHECK(write(fd, line, strlen(line)) == (ssize_t)strlen(line), MST_EIO, "cannot write %s: %s", path,
              strerror(errno));
done:
    if (fd >= 0) close(fd);
    free(line);
    free(text);
    json_decref(object);
    return status;
}

static json_t *names_of(const job_plan *plan) {
    json_t *names = json_array();
    for (size_t i = 0; i < plan->node_count; i++)
        json_array_append_new(names, json_string(plan->nodes[i]->name));
    return names;
}

/* Text of a process need not be UTF-8. */
static json_t *text_of(const char *text) {
    json_t *string = json_string(text);
    return string != NULL ? string : json_string("(not UTF-8)");
}

static const char *name_of(outcome_kind outcome) {
    static const char *const names[] = {[OUTCOME_DONE] = "done",
                                        [OUTCOME_STOPPED] = "stopped",
                                        [OUTCOME_WRONG] = "wrong",
                                        [OUTCOME_FAILED] = "failed"};
    return names[outcome];
}

mst_status attempt_record(const attempt *a, const char *run, const place *p, const job_plan *plan) {
    char where[4400];
    place_describe(p, where, sizeof where);
    json_t *object = json_object();
    json_object_set_new(object, "event", json_string("attempt"));
    json_object_set_new(object, "attempt", json_integer((json_int_t)a->number));
    json_object_set_new(object, "began", json_string(a->began));
    json_object_set_new(object, "seconds", json_real(a->end.seconds));
    json_object_set_new(object, "place", text_of(where));
    json_object_set_new(object, "launcher", json_string(job_launcher_name(plan->launcher)));
    json_object_set_new(object, "ranks", json_integer((json_int_t)plan->ranks));
    json_object_set_new(object, "nodes", names_of(plan));
    json_object_set_new(object, "outcome", json_string(name_of(a->outcome)));
    json_object_set_new(object, "exit_code", a->end.signal != 0 ? json_null() : json_integer(a->end.code));
    json_object_set_new(object, "signal", a->end.signal != 0 ? json_integer(a->end.signal) : json_null());
    json_object_set_new(object, "step_from", json_integer((json_int_t)a->before.saved));
    json_object_set_new(object, "step_to", json_integer((json_int_t)a->after.step));
    json_object_set_new(object, "checkpoint", json_integer((json_int_t)a->after.saved));
    const bool lost = a->outcome == OUTCOME_FAILED && a->after.step > a->after.saved;
    json_object_set_new(object, "steps_lost",
                        json_integer(lost ? (json_int_t)(a->after.step - a->after.saved) : 0));
    json_object_set_new(object, "seconds_lost", json_real(lost ? a->after.seconds_lost : 0));
    json_object_set_new(object, "culprit", a->culprit != NULL ? json_string(a->culprit->name) : json_null());
    json_object_set_new(object, "message",
                        a->outcome == OUTCOME_DONE ? json_null() : text_of(attempt_reason(a)));
    if (a->outcome == OUTCOME_FAILED) {
        json_t *lines = json_array();
        for (size_t back = TAIL_LINES; back-- > 0;)
            if (tail_line(&a->end.tail, back) != NULL)
                json_array_append_new(lines, text_of(tail_line(&a->end.tail, back)));
        json_object_set_new(object, "stderr", lines);
    }
    return append(run, object);
}

mst_status attempt_record_end(const history *h, const char *run, const stand *last, int result,
                              const char *why) {
    char now[32];
    attempt_time(now);
    json_t *object = json_object();
    json_object_set_new(object, "event", json_string("end"));
    json_object_set_new(object, "time", json_string(now));
    json_object_set_new(object, "exit_code", json_integer(result));
    json_object_set_new(object, "why", text_of(why));
    json_object_set_new(object, "attempts", json_integer((json_int_t)h->attempts));
    json_object_set_new(object, "failures", json_integer((json_int_t)h->failures));
    json_object_set_new(object, "step", json_integer((json_int_t)last->saved));
    json_object_set_new(object, "steps_lost", json_integer((json_int_t)h->steps_lost));
    json_object_set_new(object, "seconds_lost", json_real(h->seconds_lost));
    json_object_set_new(object, "seconds_waited", json_real(h->seconds_waited));
    return append(run, object);
}
