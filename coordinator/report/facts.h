/* What a run folder holds besides its metrics: identity, config, checkpoints, data, samples. */
#ifndef REPORT_FACTS_H
#define REPORT_FACTS_H

#include "history.h"
#include "muster/config.h"
#include "muster/digest.h"

enum {
    REPORT_PATH_MAX = 4096,
    REPORT_SAMPLES_MAX = 20,          /* the newest by name */
    REPORT_SAMPLE_BYTES_MAX = 1 << 14 /* of each; the rest is cut */
};

typedef struct report_checkpoint {
    uint64_t step;
    double time, seconds; /* when it was made, how long that took; NaN: not known */
    char weights[MST_DIGEST_HEX], state[MST_DIGEST_HEX];
    bool stands;  /* its folder is there, with a manifest that says the same digests */
    bool changed; /* its folder is there, but its manifest says other digests, or cannot be read */
} report_checkpoint;

typedef struct report_sample {
    char name[256];
    char *text;
    size_t length;
    bool cut; /* the file goes on */
} report_sample;

typedef struct report_facts {
    char path[REPORT_PATH_MAX]; /* of the run folder, as given, without slashes at its end */
    char run_id[64], device_class[256], version[64];
    char *config_text; /* YAML; NULL: not there */
    mst_config config; /* valid where config_good */
    bool config_good;
    report_checkpoint
        *checkpoints; /* by rising step: those of the metrics that were not overtaken, and those that stand */
    size_t checkpoint_count;
    char data
        [MST_DIGEST_HEX]; /* of the newest checkpoint that stands: what it was trained on; "": not known */
    char versions[512];   /* of the same: muster and its libraries */
    char damage[512];     /* what of all this could not be read; "": all could */
    report_sample *samples;
    size_t sample_count, samples_left_out;
} report_facts;

/**
 * Reads a run folder: identity, config, samples. What is damaged, beyond run.json itself, is left empty and said in `damage`.
 *
 * Not collective. facts_out is freed by report_facts_clear, also after an error.
 * @retval MST_ECONFIG it is no run folder; MST_EFORMAT run.json is damaged; MST_EIO, MST_ENOMEM
 */
mst_status report_facts_read(const char *path, report_facts *facts_out);

/** Adds the checkpoints that the run made and those that stand. Not collective. @retval MST_ENOMEM */
mst_status report_checkpoints_read(report_facts *facts, const report_history *history);

void report_facts_clear(report_facts *facts);

/** The name of the run: the config's, else the folder's. */
const char *report_name(const report_facts *facts);

/* A data source as it is now. */
typedef struct report_source {
    const char *path; /* the config's */
    double share;     /* of the samples, 0 to 1 */
    bool readable;
    uint64_t train_tokens, heldout_tokens;
} report_source;

/**
 * Looks at the data sources of the config: tokens, and the digest of them all together.
 *
 * Not collective. Only the token files' indices are read.
 * @param sources_out [config.data.source_count], freed by the caller; NULL when there is no readable config
 * @param digest_out "" when not all of them can be read
 * @retval MST_ENOMEM
 */
mst_status report_sources(const report_facts *facts, report_source **sources_out,
                          char digest_out[MST_DIGEST_HEX]);

/** Reads RUN/samples. In samples.c. @retval MST_ENOMEM */
mst_status report_samples_read(report_facts *facts);

/** The first `most` bytes of a regular file, and a NUL behind them; NULL without an error when there is no such file.
 * In samples.c. Caller frees. @retval MST_EIO, MST_ENOMEM */
mst_status report_file_read(const char *path, size_t most, char **text_out, size_t *length_out,
                            bool *cut_out);

/** Adds a sentence to what could not be read. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void report_damage(report_facts *facts, const char *format, ...);

#endif
