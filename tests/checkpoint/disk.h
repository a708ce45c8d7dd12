/*
 * What a power cut leaves. All calls that change the disk are recorded at the room's table of system calls (from any
 * thread), and played to a model of a disk on which nothing is certain that was not synced:
 *   - a file's bytes once the file itself was synced; until then any of its 4 KiB pages may be new, old or zero, and its
 *     size any between;
 *   - a name (made, renamed, exchanged, removed) once its folder was synced; until then any of these may have happened, or
 *     not, whatever their order was. One call is one: a rename does not happen by halves.
 */
#ifndef TEST_CHECKPOINT_DISK_H
#define TEST_CHECKPOINT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What happened of that which was not synced. */
typedef enum disk_luck {
    DISK_NOTHING,
    DISK_EVERYTHING,
    DISK_NAMES, /* all names, no bytes */
    DISK_SIZES, /* all names and sizes, zeros for bytes */
    DISK_BYTES, /* all bytes, no names */
    DISK_RANDOM,
    DISK_LUCKS
} disk_luck;

/* How the disk that is recorded behaves. */
typedef struct disk_rules {
    bool can_exchange;    /* else EINVAL */
    bool ignores_files;   /* fsync of a file does nothing, and says that it did */
    bool ignores_folders; /* the same for folders */
    size_t dead_after; /* once so many calls are recorded all fail without effect, as if killed; 0: never */
} disk_rules;
extern disk_rules disk_is;

/** Records what is done below a folder, which must be empty and lasts. Forgets what was recorded before. */
void disk_record(const char *base);
/** Gives the table back and frees everything. */
void disk_stop(void);
/** Number of calls recorded. */
size_t disk_calls(void);

/** Applies the next call to the model, which begins empty. False: there is none. */
bool disk_advance(void);
/** The call that was applied last, in words. */
const char *disk_last(void);
/** Makes the folder `target`, which is not there, as it may be found if the power is cut now.
 * @param dice changed; used for DISK_RANDOM */
void disk_cut(disk_luck luck, uint64_t *dice, const char *target);

#endif
