/* The muster program as a test runs it: alone or under mpirun, perhaps with a fault, watched and killed from outside. */
#ifndef MUSTER_JOB_H
#define MUSTER_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { JOB_PATH_MAX = 400, JOB_DIGESTS_MAX = 200, JOB_RANKS_MAX = 64 };

/* What befalls one rank: settings of checkpoint/shim.c, which explains them. */
typedef struct job_fault {
    const char *shim; /* the loadable module */
    int rank;
    const char *below, *call, *kind, *mark;
    long number, delay;
} job_fault;

typedef struct job {
    int ranks; /* 1: without mpirun */
    const char *program;
    const char *const *words; /* its arguments, ended by NULL */
    const char *output;       /* file for what it prints and says */
    const job_fault *fault;   /* NULL: none */
} job;

/** Prepares this process for running jobs and makes a folder for them. @param folder_out [JOB_PATH_MAX]
 * @retval false there is no mpirun or no folder */
bool job_setup(const char *name, char *folder_out);
/** Removes what job_setup made; keeps the folder, and says where it is, where `keep` says so. */
void job_finish(const char *folder, bool keep);
/** Builds FOLDER/tokens.h5 with `muster data build`, of text that is not quite regular. */
bool job_build_data(const char *program, const char *folder);

pid_t job_start(const job *j);
bool job_is_running(pid_t id);
/**
 * Waits until the job and all that it started are gone.
 *
 * @param word a part of the command lines of the job's processes, as for the other functions
 * @retval the exit code; 128 + signal; -1: it did not end within three minutes and was killed; JOB_LAUNCHER_HUNG: likewise, but all
 * ranks were gone, and only mpirun was left
 */
enum { JOB_LAUNCHER_HUNG = -2 };
int job_wait(pid_t id, const char *word);
/** Processes whose command line holds `word`, without mpirun; how many. @param found_out [JOB_RANKS_MAX] */
uint32_t job_ranks(const char *word, pid_t *found_out);
/** SIGKILL for mpirun and all ranks. */
void job_kill_all(pid_t id, const char *word);
/** Starts a job and waits for its end. */
int job_run(const job *j, const char *word);

/** The value of a field in a line of metrics.jsonl, "" where it has none. */
void job_field(const char *line, const char *name, char *value_out, size_t size);
/** The line `weights ... state ...` that a job printed, "" where it did not. @param digests_out [JOB_DIGESTS_MAX] */
void job_digests(const char *output, char *digests_out);
/** Lines of a file that hold `text`. */
size_t job_lines(const char *path, const char *text);
/** Shows a job's output on stderr. */
void job_show(const char *output);

bool job_write_file(const char *path, const char *text);
void job_remove_folder(const char *path);
void job_nap(double seconds);

/** Random numbers by a seed that the test prints. */
void job_seed(uint64_t seed);
uint32_t job_random(uint32_t bound);

#endif
