/* What config.json says in each family, as data. */
#ifndef CONVERT_FAMILIES_H
#define CONVERT_FAMILIES_H

#include "muster/model.h"

typedef enum hf_kind {
    HF_SIZE, /* a whole number, into a size_t */
    HF_REAL, /* into a double */
    HF_MUST, /* one of `values`, or the model computes something else */
    HF_IDLE  /* without effect beside what another field must be */
} hf_kind;

typedef enum hf_absence {
    HF_REQUIRED, /* missing is an error: other programs have differing defaults */
    HF_DERIVED,  /* missing or null: follows from other fields by definition, see derive in config.c */
    HF_OPTIONAL  /* missing: as if it had the first of `values` */
} hf_absence;

typedef struct hf_field {
    const char *name;
    hf_kind kind;
    hf_absence absence;
    size_t offset;      /* of the member of mst_model_config */
    const char *values; /* HF_MUST: JSON texts with | between them; the first is what is written */
} hf_field;

typedef struct hf_family {
    const char *model_type, *architecture;
    mst_family_id family;
    bool written;           /* the family's checkpoints without an origin get this type */
    bool rope;              /* rope_theta and its scaling */
    const hf_field *fields; /* ends with {0} */
    const char *prefix;     /* that may be missing in names of tensors */
    const char *const
        *no_parts; /* ends of names of tensors that hold nothing that was learned; ends with NULL */
} hf_family;

/** By model_type, or the one that is written for a family; NULL: there is none. */
const hf_family *hf_family_typed(const char *model_type);
const hf_family *hf_family_written(mst_family_id family);

/** "gpt2, llama, ..." */
extern const char hf_family_names[];

/** Fields that change nothing of what the model computes: names of tokens, of files, training's dropout. Ends with NULL. */
extern const char *const hf_harmless[];

/** Parts of names that say that a field, if muster does not know it, may change what the model computes. Ends with NULL. */
extern const char *const hf_suspicious[];

#endif
