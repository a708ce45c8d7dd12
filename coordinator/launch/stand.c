#include "stand.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "muster/checkpoint.h"

/* The number behind a key of a line that muster wrote; false: it is not there. */
static bool number_of(const char *line, const char *key, double *value_out) {
    const char *at = strstr(line, key);
    if (at == NULL) return false;
    char *end;
    *value_out = strtod(at + strlen(key), &end);
    return end != at + strlen(key);
}

/* The steps in metrics.jsonl from where it had `since` bytes. A line in the making counts for nothing. */
static void read_steps(FILE *file, uint64_t since, stand *s) {
    static const char begin[] = "{\"event\":\"step\",";
    char *line = NULL;
    size_t room = 0;
    double step, seconds;
    if (fseeko(file, (off_t)since, SEEK_SET) != 0) return;
    while (getline(&line, &room, file) > 0) {
        if (strncmp(line, begin, sizeof begin - 1) != 0 || strchr(line, '\n') == NULL) continue;
        if (!number_of(line, "\"step\":", &step) || step < 0) continue;
        if ((uint64_t)step <= s->step && s->moved)
            s->seconds_lost = 0; /* it went back: those are lost no more */
        s->step = (uint64_t)step;
        s->moved = true;
        if (s->step > s->saved && number_of(line, "\"step_seconds\":", &seconds)) s->seconds_lost += seconds;
    }
    free(line);
}

mst_status stand_read(const char *run, uint64_t since, stand *stand_out) {
    char path[STAND_PATH_MAX + 32];
    struct stat facts;
    stand s = {0};
    *stand_out = s;
    snprintf(path, sizeof path, "%s/checkpoints", run);
    const mst_status status = mst_checkpoint_newest(path, 0, s.newest);
    if (status != MST_OK) return status;
    const char *digits = strrchr(s.newest, '-'); /* step-00001000 */
    if (digits != NULL) s.saved = strtoull(digits + 1, NULL, 10);
    s.step = s.saved;
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    FILE *file = fd >= 0 && fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode) ? fdopen(fd, "r") : NULL;
    if (file != NULL) {
        s.metrics = (uint64_t)facts.st_size;
        read_steps(file, since < s.metrics ? since : s.metrics, &s);
        fclose(file);
    } else if (fd >= 0) {
        close(fd);
    }
    *stand_out = s;
    return MST_OK;
}
