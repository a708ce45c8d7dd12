/*
 * Checkpoints: a folder with one HDF5 file per writing rank, model.h5 (virtual datasets: every
 * tensor whole), block digests and a JSON manifest, committed by rename; or packed: all that in one HDF5
 * file. docs/checkpoint-format.md describes both byte by byte.
 */
#ifndef MUSTER_CHECKPOINT_H
#define MUSTER_CHECKPOINT_H

#include "muster/comm.h"
#include "muster/digest.h"
#include "muster/layout.h"
#include "muster/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Version 2 has scaled rotary frequencies, which a reader of version 1 would overlook; it is written where they are. Version 3
 * is packed: one file, perhaps the weights alone. Version 4 holds adapters, which mean nothing without their base. */
enum { MST_CHECKPOINT_VERSION = 4 };

/* What a checkpoint knows besides tensors. Strings are owned by whoever filled the struct (load:
 * mst_checkpoint_meta_clear); they are UTF-8, and NULL counts as "". */
typedef struct mst_checkpoint_meta {
    uint64_t step;    /* steps done */
    uint64_t updates; /* optimizer updates done (steps less those skipped) */
    uint64_t samples; /* training samples consumed: the data position */
    uint64_t tokens;  /* valid tokens trained on */
    char *run_id;
    char *device_class;
    char *config;   /* the run's config, YAML text */
    char *versions; /* muster and libraries, one line */
    char *
        choices; /* what the device chose where its bits depend on it (mst_queue_choices), under its class; NULL: nothing */
    mst_model_config model;
    mst_digest data; /* mst_data_digest */
    bool has_base;   /* the tensors are adapters of a model whose weights have this digest */
    mst_digest base;
    mst_heldout heldout; /* evaluated at this very step; valid = 0: it was not */
    int ranks; /* that wrote it, as its files' names say; 0: not known. Filled by mst_checkpoint_open */
    /* For saving only, not owned: the text of tokenizer.json, which the checkpoint keeps as a file; NULL: bytes are
     * tokens. mst_checkpoint_tokenizer reads it. */
    const char *tokenizer;
    /* For saving only, not owned: a tar archive of what else belongs to the model in Hugging Face's layout (config.json, chat
     * template, licence, ...), kept as huggingface.tar; NULL: there is none. mst_checkpoint_companions reads it. */
    const void *companions;
    size_t companion_bytes;
} mst_checkpoint_meta;

typedef struct mst_checkpoint_digests {
    mst_digest weights, state;
} mst_checkpoint_digests;

/*
 * What the functions below work with. All is the caller's, and stays so.
 *
 * progress is called from the calling thread: with waiting = false every few MiB that are hashed, read or
 * written (at most 64 MiB) and whenever a wait is over; with waiting = true before each wait for other ranks.
 * It must be quick and must not fail; mst_watchdog_progress and mst_watchdog_waiting are meant.
 */
typedef struct mst_checkpoint_context {
    mst_comm *comm; /* verify: not used */
    mst_queue *queue;
    const mst_kernels *kernels;
    void (*progress)(void *progress_context, bool waiting); /* or NULL */
    void *progress_context;
    /* Asked by rank 0 immediately before it publishes or removes a checkpoint; a failure ends the save; NULL: always
     * allowed. May be called from the thread that saves. */
    mst_status (*permit)(void *permit_context);
    void *permit_context;
} mst_checkpoint_context;

/** Frees the strings and zeroes the struct. */
void mst_checkpoint_meta_clear(mst_checkpoint_meta *meta);

/**
 * The digests of a training state, without writing anything: weights = SHA-256 over (name, dtype, shape,
 * SHA-256 of each block) in name order over the fp32 masters; state adds moments, step, updates, samples and
 * the data's digest. Independent of the rank count; docs/checkpoint-format.md has the exact bytes.
 *
 * Collective; the same on all ranks.
 * @param shards [unit_count] ranges as mst_shard_range gives them for this rank; host memory
 * @retval MST_EINVAL other ranges, MST_ENOMEM, MST_ELIBRARY, MST_EMPI
 */
mst_status mst_checkpoint_digest(const mst_checkpoint_context *context, const mst_layout *layout,
                                 const mst_shard *shards, const mst_checkpoint_meta *meta,
                                 mst_checkpoint_digests *digests_out);

/**
 * Writes a checkpoint and commits it: folder/step-00001000 appears whole or not at all.
 *
 * Collective: all ranks agree on the status. A checkpoint of the same step that already stands there is kept
 * if it is the same and whole, otherwise replaced once the new one is whole.
 * @param folder the run's checkpoints folder, made if missing
 * @param path_out [4096] the committed folder, or NULL
 * @retval MST_EIO (path, errno text, free space where the disk is full), MST_EHDF5, and as
 * mst_checkpoint_digest; nothing half-written is left behind
 * Memory: a copy of 4 MiB and the block digests; none of the tensors.
 */
mst_status mst_checkpoint_save(const mst_checkpoint_context *context, const char *folder,
                               const mst_layout *layout, const mst_shard *shards,
                               const mst_checkpoint_meta *meta, mst_checkpoint_digests *digests_out,
                               char *path_out);

/** Reads a checkpoint's manifest: meta and digests. Not collective. Nothing in the file is trusted.
 * @param path the folder, or the packed file; so wherever a checkpoint is named
 * @retval MST_EIO missing, MST_EFORMAT damaged (field named) or a newer version */
mst_status mst_checkpoint_open(const char *path, mst_checkpoint_meta *meta_out,
                               mst_checkpoint_digests *digests_out);

/** Reads the tokenizer.json that a checkpoint keeps, and compares it with its digest. Not collective.
 * @param json_out NUL behind; freed by the caller with free; NULL where the checkpoint has none: bytes are tokens, or nobody said what they stand for
 * @retval MST_EIO, MST_EFORMAT, MST_ENOMEM */
mst_status mst_checkpoint_tokenizer(const char *path, char **json_out, size_t *bytes_out);

/** The same for the archive of the files that came with an imported model. @param tar_out NULL where there is none */
mst_status mst_checkpoint_companions(const char *path, char **tar_out, size_t *bytes_out);

/**
 * Reads this rank's shards from a checkpoint written by any number of ranks, by bounded pread; each block
 * read is verified against its digest.
 *
 * Collective: all ranks agree on the status.
 * @param shards ranges set (any); master, m and v are filled, padding with zeros (m and v NULL: weights only)
 * @retval MST_EFORMAT damage, or another model: names the tensor; MST_ECONFIG moments are wanted, and it holds
 * the weights alone; MST_EIO, MST_ENOMEM, MST_EMPI
 */
mst_status mst_checkpoint_load(const mst_checkpoint_context *context, const char *path,
                               const mst_layout *layout, mst_shard *shards);

/** Verifies every byte of a checkpoint: manifest, index, sizes, each block's digest,
 * both digests. Not collective.
 * @retval MST_EFORMAT names the file and tensor that is damaged;
 * MST_EIO a file is missing or cannot be read */
mst_status mst_checkpoint_verify(const mst_checkpoint_context *context, const char *path,
                                 mst_checkpoint_digests *digests_out);

/** Verifies what mst_checkpoint_load does not read, since training does not need it: model.h5, tokenizer.json, the HDF5
 * structure of the shard files. Not collective. @retval as mst_checkpoint_verify */
mst_status mst_checkpoint_verify_rest(const mst_checkpoint_context *context, const char *path);

typedef struct mst_pack_options {
    bool weights_only; /* without the optimizer's moments: nothing can be trained on from it */
    /* Told now and then how many bytes of all are done, where it is not NULL; must be quick. */
    void (*progress)(void *progress_context, uint64_t done, uint64_t all);
    void *progress_context;
} mst_pack_options;

/**
 * Copies a checkpoint into one file, which h5py opens and every function here reads. All that is copied is compared with
 * its digests, and so is the new file, read back from the disk. The same state gives the same bytes, whoever wrote it.
 *
 * Not collective.
 * @param output must not exist; on the disk on return, and not there after a failure. Its folder is not synced
 * @retval MST_EFORMAT, MST_EIO as mst_checkpoint_verify, of either one; MST_ECONFIG moments are wanted, and there are none, or it
 * holds adapters, whose base stands elsewhere;
 * MST_EHDF5, MST_ENOMEM
 * Memory: two buffers of 4 MiB and the manifest.
 */
mst_status mst_checkpoint_pack(const mst_checkpoint_context *context, const char *path, const char *output,
                               const mst_pack_options *options, mst_checkpoint_digests *digests_out);

/* A tensor of a checkpoint. */
typedef struct mst_manifest_tensor {
    char name[MST_NAME_MAX];
    size_t dims; /* 1 or 2 */
    size_t shape[2];
    uint64_t count;
    uint64_t first_block; /* of a kind's blocks, tensors in name order: its place in digests.bin */
} mst_manifest_tensor;

/* Where the elements of a model's tensors come from. */
typedef struct mst_weights_source {
    void *context;
    /** Elements [first, first + count) of a tensor of the layout. Asked twice for each, whole blocks at a time, at most
     * 1,048,576 elements, and has to give the same both times. */
    mst_status (*read)(void *context, size_t tensor, uint64_t first, uint64_t count, float *values_out);
} mst_weights_source;

/**
 * Writes a packed checkpoint of weights alone. Its moments, of which only the digests stand there, are zero.
 *
 * Not collective.
 * @param output as for mst_checkpoint_pack
 * @param options weights_only is taken as set
 * @retval MST_EFORMAT the source gave other elements the second time; what the source returns; MST_EIO, MST_EHDF5, MST_ENOMEM
 * Memory: two buffers of 4 MiB, the manifest, 32 bytes for each block.
 */
mst_status mst_checkpoint_pack_weights(const mst_checkpoint_context *context, const mst_layout *layout,
                                       const mst_checkpoint_meta *meta, const mst_weights_source *source,
                                       const char *output, const mst_pack_options *options,
                                       mst_checkpoint_digests *digests_out);

/** Receives elements of a tensor of a checkpoint, in order. */
typedef mst_status mst_weights_fn(void *context, const mst_manifest_tensor *tensor, uint64_t first,
                                  const float *values, uint64_t count);

/**
 * Hands out all weights, tensors in name order, at most 1,048,576 elements at a time, each compared with its digest; what else the
 * checkpoint holds, moments excepted, is verified, too. Only when this has returned MST_OK is what was handed out the
 * checkpoint's. Not collective. @retval as mst_checkpoint_verify; what `give` returns
 */
mst_status mst_checkpoint_weights(const mst_checkpoint_context *context, const char *path,
                                  mst_weights_fn *give, void *give_context);

/**
 * The newest checkpoint in a folder, whole or not: to find out is the reader's. Not collective.
 * @param skip number of newest ones to pass over (0: the newest)
 * @param path_out [4096]; "" when there is none
 * @retval MST_EIO the folder cannot be read (a missing one has no checkpoints: MST_OK)
 */
mst_status mst_checkpoint_newest(const char *folder, size_t skip, char *path_out);

/**
 * The checkpoint that a user means by a path: a checkpoint, packed or not, or the newest one of a run folder or
 * checkpoints folder. Not collective.
 * @param path_out [4096]
 * @retval MST_EIO there is none; the message says what was looked for
 */
mst_status mst_checkpoint_resolve(const char *path, char *path_out);

/* The packed checkpoint, in a run folder, of the model that the run's adapters adapt. */
#define MST_BASE_NAME "base.h5"

/**
 * Where the model stands that a checkpoint's adapters adapt: MST_BASE_NAME of the run folder whose checkpoint it is. Not collective.
 * @param weights digest that the checkpoint's meta names as its base @param path_out [4096]
 * @retval MST_EIO it is not there; MST_EFORMAT it holds other weights
 */
mst_status mst_checkpoint_base(const char *path, const mst_digest *weights, char *path_out);

/* A checkpoint in a folder. */
typedef struct mst_checkpoint_entry {
    uint64_t step;
    double loss, bits_per_byte; /* of its `heldout`; NaN: not known */
    bool readable;              /* its manifest is there, and whole */
    bool best, stays;           /* by mst_checkpoint_choose */
} mst_checkpoint_entry;

/* Which checkpoints a run keeps. */
typedef struct mst_checkpoint_wishes {
    uint64_t newest;   /* so many of the newest; 0: all */
    uint64_t every;    /* those whose step is a multiple; 0: no such */
    uint64_t best;     /* so many of those with the lowest held-out loss, of equal ones the earlier */
    uint64_t rollback; /* the newest whose step is a multiple; 0: no such */
} mst_checkpoint_wishes;

/** All checkpoints of a folder, newest first; caller frees. A missing folder has none. Not collective.
 * @retval MST_EIO the folder cannot be read; MST_ENOMEM */
mst_status mst_checkpoint_list(const char *folder, mst_checkpoint_entry **entries_out, size_t *count_out);

/** Decides who stays: whoever any of the wishes names. Those that are not readable stay, too, and do not count: nobody
 * removes damage unseen. @param entries [count] newest first; `best` and `stays` are set */
void mst_checkpoint_choose(mst_checkpoint_entry *entries, size_t count, const mst_checkpoint_wishes *wishes);

/** Whether a checkpoint of `step` with this held-out loss would be among the `best` of those before it.
 * Not collective. @retval MST_EIO, MST_ENOMEM */
mst_status mst_checkpoint_is_best(const char *folder, uint64_t best, uint64_t step, double loss,
                                  bool *is_out);

/** Removes the checkpoints of a folder that need not stay. To be called after a save: the newest one is whole then, and
 * always stays. Each disappears at once, by rename. Not collective: rank 0 alone calls it. @retval MST_EIO, MST_ENOMEM */
mst_status mst_checkpoint_prune(const char *folder, const mst_checkpoint_wishes *wishes);

/**
 * Renames every checkpoint beyond step `from`, but that of step `saved`, to left-step-...: a run that went back to `from`
 * must neither resume from what it left, nor count it among the newest. Not collective: rank 0 alone calls it.
 * @retval MST_EIO
 */
mst_status mst_checkpoint_set_aside(const char *folder, uint64_t from, uint64_t saved, size_t *count_out);

/* The three tensors kept for every parameter tensor, in the order in which they are written and digested. */
typedef enum mst_tensor_kind {
    MST_KIND_MASTER,
    MST_KIND_EXP_AVG,    /* AdamW's first moment */
    MST_KIND_EXP_AVG_SQ, /* AdamW's second moment */
    MST_KIND_COUNT
} mst_tensor_kind;

/** "master", "exp_avg", "exp_avg_sq". */
const char *mst_tensor_kind_name(mst_tensor_kind kind);

enum { MST_FILE_NAME_MAX = 128 };

/* A file of the checkpoint. */
typedef struct mst_manifest_file {
    char name[MST_FILE_NAME_MAX];
    uint64_t bytes;
    mst_digest digest; /* of the whole file; of a shard: of the bytes that no piece covers, in their order */
    uint64_t offset;   /* where it begins in a packed checkpoint; otherwise 0 */
} mst_manifest_file;

/* Consecutive elements of one tensor, fp32, little-endian, in one shard file. */
typedef struct mst_manifest_piece {
    mst_tensor_kind kind;
    size_t tensor, shard;  /* indices below */
    uint64_t first, count; /* elements; whole blocks, except at the tensor's end */
    uint64_t offset;       /* bytes from the start of the file */
} mst_manifest_piece;

/* Bytes of a shard file that have digests of their own. */
typedef struct mst_manifest_place {
    uint64_t offset, bytes;
    size_t shard;
} mst_manifest_place;

/*
 * What manifest.json says. After reading all is in bounds, and the pieces cover each tensor exactly once.
 *
 * In a packed checkpoint the manifest stands at the beginning of the file, which is its one shard; digests and tokenizer
 * are within it, and there is no model.
 */
typedef struct mst_manifest {
    bool packed,
        weights_only; /* only what is packed may lack the moments; their digests stand here all the same */
    uint64_t head;    /* of a packed one: bytes at its beginning that hold the manifest */
    mst_checkpoint_meta meta;
    mst_digest kinds[MST_KIND_COUNT]; /* digest of each kind; kinds[0] is `weights` */
    mst_digest state;
    mst_manifest_file digests, model; /* digests.bin, model.h5 */
    mst_manifest_file checksums;      /* checksums.bin; its name is empty when there is none */
    mst_manifest_file tokenizer;      /* tokenizer.json; its name is empty when there is none */
    mst_manifest_file
        companions; /* huggingface.tar; likewise. In a packed one the outside's digest covers it, too, as
                                         readers expect that do not know it */
    mst_manifest_file *shards;
    size_t shard_count;
    mst_manifest_tensor *tensors; /* in name order, bytewise */
    size_t tensor_count;
    uint64_t blocks;            /* of one kind */
    mst_manifest_piece *pieces; /* by kind, then tensor, then first element */
    size_t piece_count;
    size_t *first_piece; /* [kinds * tensor_count + 1] at [kind * tensor_count + tensor] */
    mst_manifest_place *
        places; /* [place_count] pieces, and what else is in a packed file; by shard, then offset; they do not
                                   overlap */
    size_t place_count;
} mst_manifest;

/** How many kinds of tensors the checkpoint holds. */
static inline size_t mst_manifest_kinds(const mst_manifest *manifest) {
    return manifest->weights_only ? 1 : MST_KIND_COUNT;
}

/** Reads and checks PATH/manifest.json, or the manifest of a packed checkpoint. Not collective. manifest_out is freed by mst_manifest_clear
 * (also after an error it is empty).
 * @retval as mst_checkpoint_open */
mst_status mst_manifest_read(const char *path, mst_manifest *manifest_out);

/** As mst_manifest_read, from text. @param name stands in messages */
mst_status mst_manifest_parse(const char *text, size_t bytes, const char *name, mst_manifest *manifest_out);

void mst_manifest_clear(mst_manifest *manifest);

#ifdef __cplusplus
}
#endif
#endif
