/* The config of a run: YAML by a schema. Every key is declared and documented once,
 * in coordinator/config/schema.c. */
#ifndef MUSTER_CONFIG_H
#define MUSTER_CONFIG_H

#include <stdio.h>

#include "muster/data.h"
#include "muster/exchange.h"
#include "muster/model.h"
#include "muster/optimizer.h"
#include "muster/step.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mst_nonfinite { MST_NONFINITE_STOP, MST_NONFINITE_SKIP, MST_NONFINITE_ROLLBACK } mst_nonfinite;
/* When a checkpoint is due and the one before is still being written. */
typedef enum mst_when_busy { MST_BUSY_WAIT, MST_BUSY_SKIP } mst_when_busy;

/* A whole number that the config leaves to the planner, which chooses it when a run is created; from then on the run has it
 * recorded (mst_plan_head_rows). */
#define MST_CONFIG_AUTO UINT64_MAX

typedef struct mst_config {
    struct {
        char *name; /* of the run; the default run folder is runs/NAME */
        char *dir;  /* run folder; NULL: runs/NAME beside the working directory */
        uint64_t seed;
        uint64_t steps; /* 0: run.epochs says it, and mst_config_count_steps has not been called */
        double epochs;  /* 0: run.steps is given */
        double minutes; /* wall time of a start; 0: no limit of its own */
    } run;
    char *
        init; /* where the first weights stand: a folder in Hugging Face's layout or a checkpoint; NULL: random ones */
    mst_model_config model; /* complete, but for vocab_size 0: the data's */
    struct {
        size_t rank; /* 0: no adapters */
        double alpha;
        bool rslora;
        char *targets; /* names with commas between them */
        double dropout;
        char *init; /* a folder in PEFT's layout; NULL: A random, B zero */
    } lora;
    struct {
        mst_source_config *sources;
        size_t source_count;
        mst_token_type type; /* of files of other trainers that have no header */
        char *tokenizer;     /* tokenizer.json of files of other trainers; NULL: not known */
        size_t seq_len;
        mst_packing packing;
    } data;
    struct {
        size_t micro;        /* sequences per microbatch */
        mst_sum_shape shape; /* leaf, lanes, rounds, wire */
        mst_transport transport;
        mst_balance balance;
        bool allow_mixed; /* ranks of different device classes */
    } batch;
    mst_optimizer_config optimizer;
    mst_schedule schedule;        /* steps is run.steps */
    double schedule_warmup_ratio; /* of steps, where schedule.warmup is not given; 0: the default */
    struct {
        mst_dtype precision; /* F32 or BF16 */
        mst_recompute recompute;
        uint64_t head_rows; /* of logits at a time; 0: by the microbatch; or MST_CONFIG_AUTO */
        double z_loss;      /* coefficient; 0: none */
        mst_nonfinite on_nonfinite;
        uint64_t eval_every;         /* steps; 0: never */
        uint64_t eval_batches;       /* microbatches of held-out data */
        double target_bits_per_byte; /* an evaluation below it ends the run; 0: never */
    } train;
    struct {
        uint64_t every; /* steps; 0: only at the end */
        double minutes; /* wall time; 0: not */
        uint64_t keep;  /* newest checkpoints kept; 0: all */
        uint64_t keep_every, keep_best;
        bool async; /* training goes on while one is written */
        mst_when_busy when_busy;
    } checkpoint;
    struct {
        mst_device kernels;           /* CPU or REF */
        char *level;                  /* instruction-set level, NULL: the best */
        int threads;                  /* 0: cores of the node divided by its ranks */
        bool graphs;                  /* on a GPU, kernels of passes are launched many at a time */
        uint64_t attention_workspace; /* MiB that a GPU's library may take for attention; 0: none */
        bool leave_out;               /* a run goes on without a rank whose GPU breaks */
    } device;
    struct {
        char *interfaces; /* of rank 0's host, for heartbeats; NULL: where the routes lead */
    } network;
    struct {
        double seconds;
    } watchdog;
    char **places; /* [keys of the schema] where each was given; see mst_config_place */
} mst_config;

/**
 * Reads a config file, applies overrides, fills in defaults, makes paths absolute, and checks everything.
 *
 * Not collective. Paths in the file start at its folder, those in overrides at the working directory.
 * @param path the YAML file
 * @param overrides "key.path=value" texts of --set, in order; each value is parsed as YAML
 * @param errors NULL for nowhere, or where every error is printed, one line each: file:line:col: error: key:
 * what is wrong; what would be right
 * @param config_out cleared by mst_config_clear
 * @retval MST_ECONFIG with the number of errors (or that the file cannot be read); config_out is then empty
 * @retval MST_ENOMEM
 */
mst_status mst_config_load(const char *path, const char *const *overrides, size_t override_count,
                           FILE *errors, mst_config *config_out);

/** As mst_config_load, from text (the config stored in a run or a checkpoint). `name` stands in messages;
 * paths start at its folder, as if it were a file. */
mst_status mst_config_parse(const char *text, const char *name, const char *const *overrides,
                            size_t override_count, FILE *errors, mst_config *config_out);

/**
 * Where run.epochs is given in the place of run.steps: fills in run.steps and what of the schedule follows from it, and sets
 * run.epochs to 0, so that the config says the same without the data. Does nothing where run.steps is known.
 *
 * Not collective.
 * @param samples of the training split
 * @retval MST_ECONFIG the schedule does not fit into so many steps, or they are too many
 */
mst_status mst_config_count_steps(mst_config *config, uint64_t samples);

/** Where the value of a key ("model.vocab_size") was given: "FILE:LINE:COLUMN" or "--set ...", or "default". For errors that
 * show only once the data is known. The text is the config's. */
const char *mst_config_place(const mst_config *config, const char *key);

/** The adapters that a config asks for; of rank 0 where it asks for none. Not collective.
 * @retval MST_ECONFIG lora.targets names what the family does not have; never for a config that was read */
mst_status mst_config_lora(const mst_config *config, mst_lora *lora_out);

/** The adapters of a checkpoint that holds some, by its config. Not collective. @param name of the checkpoint, for the error
 * @retval MST_EFORMAT its config asks for none; else as mst_config_lora */
mst_status mst_config_held_lora(const mst_config *config, const char *name, mst_lora *lora_out);

/** Bytes that a GPU's library may take for attention: device.attention_workspace; 0 in fp32, and where samples hold documents, which
 * it does not tell apart. Not collective. */
size_t mst_config_attention_workspace(const mst_config *config);

/** The layout of what is trained: the model, or its adapters. Not collective. Cleared by mst_layout_clear.
 * @retval MST_ENOMEM, MST_ECONFIG */
mst_status mst_config_layout(const mst_config *config, mst_layout *layout_out);

/** Frees what a config holds and zeroes it. */
void mst_config_clear(mst_config *config);

/** The whole config as YAML with every key, in the schema's order (without run.steps and what follows from it, where
 * mst_config_count_steps has yet to be called): reading it again gives the same config. Caller frees.
 * @retval MST_ENOMEM */
mst_status mst_config_to_yaml(const mst_config *config, char **yaml_out);

/** What mst_config_compare says of a key: its value in both configs as YAML. `fixed`: the value is part of
 * what defines the run's bits. */
typedef void mst_config_change_fn(void *context, const char *key, const char *before, const char *after,
                                  bool fixed);

/** Calls `change` for every key whose value differs, in the schema's order. Not collective.
 * @retval MST_ENOMEM */
mst_status mst_config_compare(const mst_config *before, const mst_config *after, mst_config_change_fn *change,
                              void *context);

/** Prints every key with type, range, default and meaning, from the schema.
 * The text is itself a valid config. */
void mst_config_print_help(FILE *file);

/** What mst_config_keys says of a key: its path, such as "run.steps", and the words that it takes (NULL: no such
 * list), a NULL at their end. */
typedef void mst_config_key_fn(void *context, const char *key, const char *const *words);

/** Calls `visit` for every key of a config, in the schema's order. Not collective. */
void mst_config_keys(mst_config_key_fn *visit, void *context);

#ifdef __cplusplus
}
#endif
#endif
