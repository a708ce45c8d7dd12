/* The schema: every key of a config, declared and documented once. Reading, --set,
 * --help-config and writing all walk it. */
#ifndef CONFIG_SCHEMA_H
#define CONFIG_SCHEMA_H

#include "muster/config.h"

typedef enum config_kind {
    KIND_WHOLE, /* size_t, uint64_t or int */
    KIND_REAL,  /* double, finite */
    KIND_BOOL,
    KIND_ENUM,    /* an enum whose values count from 0 in the order of `names` */
    KIND_TEXT,    /* char *, owned by the config; NULL is written null */
    KIND_PATH,    /* as TEXT; made absolute when it is read */
    KIND_WORDS,   /* one word, or a list of words; kept as TEXT with commas between them */
    KIND_SOURCES, /* data.sources: a list of paths, or of {path, weight, heldout} */
} config_kind;

typedef struct config_key {
    const char *path;    /* "model.d_model" */
    size_t offset, size; /* of the member of mst_config */

    uint64_t low, high;         /* WHOLE: both allowed */
    double real_low, real_high; /* REAL */
    const char *const *names;   /* ENUM: ends with NULL. WHOLE: the word for MST_CONFIG_AUTO, or NULL */
    const char *fallback;       /* the default, as it would stand in the file; NULL: required or derived */
    const char *derived;        /* in words, where the default depends on other keys (check.c computes it) */
    const char *example;        /* a value for --help-config where there is no fallback */
    const char *unit;           /* or NULL */
    const char *meaning;
    config_kind kind;
    bool low_excluded, high_excluded; /* REAL: the bound itself is not allowed */
    bool fixed; /* part of what defines the run's bits: may not change once it has begun */
} config_key;

typedef struct config_section {
    const char *name, *meaning;
} config_section;

enum { CONFIG_KEYS_MAX = 96 };

extern const config_key config_keys[];         /* grouped by section */
extern const size_t config_key_count;          /* at most CONFIG_KEYS_MAX */
extern const config_section config_sections[]; /* in the order in which they are printed */
extern const size_t config_section_count;

/* Number of the key with this path, or of the one that reads into this member;
 * config_key_count when there is none. */
size_t config_key_find(const char *path);
size_t config_key_at(size_t offset);

/* The part of a key's path after its section: "d_model". */
const char *config_key_name(const config_key *key);
bool config_key_in(const config_key *key, const config_section *section);

/* What a key's value may be, in words: "a whole number from 1 to 256". */
void config_key_describe(const config_key *key, char *text_out, size_t room);

/* Where a key's value stands in a config. */
static inline void *config_key_field(const config_key *key, mst_config *config) {
    return (char *)config + key->offset;
}
static inline const void *config_key_value(const config_key *key, const mst_config *config) {
    return (const char *)config + key->offset;
}

#endif
