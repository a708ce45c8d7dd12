/* What the files of this room share. Private to the room. */
#ifndef DOCTOR_EXAMINATION_H
#define DOCTOR_EXAMINATION_H

#include <sched.h>

#include "muster/doctor.h"
#include "muster/plan.h"
#include "muster/watchdog.h"

enum { FACT_TEXT = 160 };

/* What one rank sees of its machine. Travels as bytes: no pointers. */
typedef struct facts {
    char muster[FACT_TEXT], mpi[FACT_TEXT], hdf5[FACT_TEXT]; /* versions */
    char cuda[FACT_TEXT], driver[32];                        /* software; the driver's version or "" */
    char gpus[FACT_TEXT];                                    /* or why there is none */
    char class_name[FACT_TEXT];                              /* of its device; with the version of oneDNN */
    char clock_source[32];
    char core_pattern[FACT_TEXT];
    int node;            /* the lowest rank that shares its memory */
    int threads;         /* that training would use; 0: its fair part */
    cpu_set_t cores;     /* that it may use */
    int online;          /* cores of the machine */
    double busy;         /* cores that others keep busy, measured while all ranks sleep */
    double spin;         /* seconds of a fixed chain of additions: the inverse of a core's clock */
    double available;    /* bytes of memory that could be had, by the system and by this job's limit */
    double shm_free;     /* bytes of /dev/shm; below 0: not there */
    double open_files;   /* limits: soft */
    double core_bytes;   /* of a core dump */
    double need;         /* bytes that the plan gives this rank; 0: no plan */
    double shared_need;  /* of them in /dev/shm */
    double flops;        /* measured, all ranks at once; 0: not */
    double driver_bytes; /* in use on its GPU before this rank allocates any */
} facts;

typedef struct examination {
    mst_comm *comm;
    mst_watchdog *watchdog;
    FILE *file;      /* NULL but on rank 0 */
    bool has_config; /* the same on all ranks */
    mst_config config;
    char run[4096]; /* run folder; "": none */
    facts *all;     /* [ranks] */
    int nodes;
    int *leaders;              /* [nodes] the lowest rank of each node */
    int own_node;              /* this rank's number among the nodes */
    mst_plan plan;             /* with what was measured; where has_config */
    double bandwidth, latency; /* of the slowest pair of nodes; 0: not measured */
    int warnings, failures;
} examination;

typedef enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL } verdict;

/** Prints a line on rank 0 and counts it there. `subject` a word or two; the rest printf-formatted. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
void doctor_say(examination *e, verdict how, const char *subject, const char *format, ...);

/** Names ranks for people: "rank 1 (n2)". @param text_out [FACT_TEXT] */
const char *doctor_rank(const examination *e, int rank, char *text_out);

/** Looks at this rank's machine; sleeps a little. Collective. @retval MST_EMPI, MST_ENOMEM */
mst_status doctor_gather(examination *e);
/** Compares what was gathered. Rank 0 speaks. Not collective. */
void doctor_judge_machines(examination *e);
void doctor_judge_memory(examination *e);

/** Files: the run folder on all nodes. Collective. */
mst_status doctor_folder(examination *e);
/** Links between nodes, one pair at a time, and clocks. Collective. */
mst_status doctor_links(examination *e);

#endif
