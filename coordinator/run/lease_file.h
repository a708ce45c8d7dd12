/* RUN/lease-EPOCH.json: the file in which a process says that it alone writes into the run folder. */
#ifndef RUN_LEASE_FILE_H
#define RUN_LEASE_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "folder.h"
#include "muster/process.h"
#include "utc.h"

enum { LEASE_TEXT_MAX = 4096, LEASE_PATH_MAX = FOLDER_PATH_MAX + 48, LEASE_WORD_MAX = 256 };

/* What a lease says. Its text has the same length at every renewal. */
typedef struct lease_record {
    char token[33]; /* 32 hexadecimal digits, random: tells a process's lease from any other */
    mst_process process;
    char host[LEASE_WORD_MAX];
    char job[LEASE_WORD_MAX]; /* SLURM_JOB_ID; "" without Slurm */
    uint64_t restarts;        /* SLURM_RESTART_COUNT: how often Slurm has put the job back into its queue */
    char since[UTC_TEXT_MAX], renewed[UTC_TEXT_MAX];
} lease_record;

/* A lease that was found. */
typedef struct lease_found {
    uint64_t epoch; /* 0: there is none */
    bool readable;  /* record is filled */
    lease_record record;
    char text[LEASE_TEXT_MAX]; /* as it stands in the file; "" when it cannot be read */
} lease_found;

/** Copies a host's or job's name as a lease can say it: short, anything unusual in it replaced by '-'. */
void lease_word(const char *from, char word_out[LEASE_WORD_MAX]);

void lease_path(const char *folder, uint64_t epoch, char path_out[LEASE_PATH_MAX]);
/** Where a lease is written before it is linked to its place. */
void lease_part_path(const char *folder, const char *token, char path_out[LEASE_PATH_MAX]);

/** A record as text. @retval MST_ENOMEM; MST_EINTERNAL longer than LEASE_TEXT_MAX */
mst_status lease_print(const lease_record *record, uint64_t epoch, char text_out[LEASE_TEXT_MAX]);

/** Reads the lease of an epoch; epoch 0 in found_out: its file is not there. Not collective.
 * @retval MST_EIO it is there and cannot be read */
mst_status lease_read(const char *folder, uint64_t epoch, lease_found *found_out);

/** The lease of the highest epoch in a run folder, that of epoch `except` left out. One that is damaged, or that another
 * process removes at this moment, is found with an empty text. Not collective. @retval MST_EIO */
mst_status lease_find(const char *folder, uint64_t except, lease_found *found_out);

/** Removes what former holders have left: leases of epochs below one, and files in the making. Not collective.
 * @retval MST_EIO */
mst_status lease_remove_below(const char *folder, uint64_t epoch);

/** Who holds it, since when, and when it was last renewed, for a person. */
void lease_describe(const lease_found *found, char *text_out, size_t room);

#endif
