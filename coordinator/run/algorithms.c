/*
 * Algorithms that a device chooses at run time, and on which bits depend: chosen once by rank 0, the same on all ranks and
 * in every start of the run. They stand in RUN/choices.txt and in each checkpoint, under the class of device they are for.
 */
#include <stdlib.h>
#include <string.h>

#include "muster/files.h"
#include "training.h"

static void name_file(const training *t, char path[FOLDER_PATH_MAX + 32]) {
    snprintf(path, FOLDER_PATH_MAX + 32, "%s/choices.txt", t->folder.path);
}

/* ---- what is recorded ---- */

/* The lines that follow the class, where it is this device's; else NULL. */
static const char *choices_of(const training *t, const char *text) {
    const size_t length = text != NULL ? strcspn(text, "\n") : 0;
    if (length != strlen(t->device.class_name) || strncmp(text, t->device.class_name, length) != 0)
        return NULL;
    return text + length + (text[length] == '\n');
}

/* As the checkpoint had it; a run without one may have begun before. Rank 0. */
static mst_status find_recorded(training *t, char **text) {
    char path[FOLDER_PATH_MAX + 32];
    name_file(t, path);
    *text = t->choices;
    t->choices = NULL;
    return t->first && *text == NULL ? folder_read_text(path, text) : MST_OK;
}

static mst_status replay(training *t, const char *recorded) {
    const char *choices = choices_of(t, recorded);
    if (recorded != NULL && choices == NULL)
        training_say(t,
                     "note: the device or its libraries are others than the run's algorithms were chosen for "
                     "(%.*s): they "
                     "are chosen anew, and the bits differ from here on",
                     (int)strcspn(recorded, "\n"), recorded);
    const mst_status status = mst_queue_choose(t->device.queue, choices != NULL ? choices : "");
    return status == MST_OK
               ? status
               : mst_error_context(status,
                                   "the run's algorithms cannot be had here, and with others it would "
                                   "not be the same run");
}

/* ---- what is met ---- */

/* Rank 0 lets its device choose what is not chosen yet, and says what it is. */
static mst_status choose(training *t, char **choices) {
    mst_status status = MST_OK;
    *choices = NULL;
    MST_TRY(mst_trainer_rehearse(t->trainer));
    if (t->first) MST_TRY(mst_queue_choices(t->device.queue, choices));
done:
    return status;
}

static mst_status record(training *t, const char *choices, const char *before) {
    mst_status status = MST_OK;
    char path[FOLDER_PATH_MAX + 32];
    const size_t bytes = strlen(t->device.class_name) + strlen(choices) + 2;
    name_file(t, path);
    t->choices = malloc(bytes);
    MST_CHECK(t->choices != NULL, MST_ENOMEM, "choices: out of memory");
    snprintf(t->choices, bytes, "%s\n%s", t->device.class_name, choices);
    if (t->first && (before == NULL || strcmp(before, t->choices) != 0))
        MST_TRY(mst_file_replace(path, t->choices, strlen(t->choices)));
done:
    return status;
}

mst_status training_choose(training *t) {
    mst_status status = MST_OK;
    char *choices = NULL, *recorded = NULL;
    MST_TRY(mst_comm_agree(t->comm, mst_queue_choices(t->device.queue, &choices)));
    if (choices == NULL || t->device.mixed) goto done;
    mst_watchdog_waiting(t->watchdog, "choose", 0);
    MST_TRY(mst_comm_agree(t->comm, find_recorded(t, &recorded)));
    MST_TRY(mst_comm_share_text(t->comm, &recorded));
    MST_TRY(mst_comm_agree(t->comm, replay(t, recorded)));
    free(choices);
    status = choose(t, &choices);
    mst_watchdog_waiting(t->watchdog, "choose", 0);
    MST_TRY(mst_comm_agree(t->comm, status));
    MST_TRY(mst_comm_share_text(t->comm, &choices));
    MST_TRY(mst_comm_agree(t->comm, t->first ? MST_OK : mst_queue_choose(t->device.queue, choices)));
    MST_TRY(mst_comm_agree(t->comm, record(t, choices, recorded)));
done:
    free(choices);
    free(recorded);
    return status;
}
