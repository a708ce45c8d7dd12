/* Models in Hugging Face's layout: config.json, *.safetensors, tokenizer.json and what else stands beside them. Read for
 * `muster import` and `model.init`, written for `muster export`. docs/huggingface.md. */
#ifndef MUSTER_CONVERT_H
#define MUSTER_CONVERT_H

#include "muster/checkpoint.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Types of elements in which weights are taken and given. */
typedef enum mst_hf_dtype { MST_HF_F32, MST_HF_F16, MST_HF_BF16, MST_HF_DTYPES } mst_hf_dtype;

/** "f32", "f16", "bf16". */
const char *mst_hf_dtype_name(mst_hf_dtype dtype);

/* What the functions below tell the user, a line at a time, that is no error. */
typedef struct mst_hf_notes {
    void (*say)(void *context, const char *text); /* or NULL */
    void *context;
} mst_hf_notes;

/* ---- reading ---- */

typedef struct mst_hf mst_hf;

/**
 * Opens a model: reads config.json and the headers of all weight files, and checks that they are exactly a model that muster
 * computes. Nothing in them is trusted, and no default of another program is taken for what they do not say.
 *
 * Not collective.
 * @param notes what was met and has no effect, each once; NULL: nobody wants to know
 * @retval MST_EUNSUPPORTED a family, field or tensor that would change what the model computes; its name is in the message
 * @retval MST_EFORMAT damaged or contradictory; MST_EIO; MST_ENOMEM
 * Memory: some 170 bytes for each tensor.
 */
mst_status mst_hf_open(const char *folder, const mst_hf_notes *notes, mst_hf **hf_out);
void mst_hf_close(mst_hf **hf);

const mst_model_config *mst_hf_model(const mst_hf *hf);
const mst_layout *mst_hf_layout(const mst_hf *hf);
/** The type of all weights; F32, which holds all of them, where they differ. */
mst_hf_dtype mst_hf_dtype_of(const mst_hf *hf);

/** Elements of a tensor of the layout as fp32, which is exact: the function of an mst_weights_source whose context is the
 * model. Not collective. Threads: any. @retval MST_EIO, MST_EFORMAT the file was cut meanwhile */
mst_status mst_hf_read(void *hf, size_t tensor, uint64_t first, uint64_t count, float *values_out);

/* A value that is not finite, among those that are read; it is taken as it is. */
enum { MST_HF_SUSPECT_TEXT = 512 };
/**
 * Looks for one, once for a tensor.
 *
 * Not collective.
 * @param values [count] elements of a tensor of the layout, from `first` on
 * @param suspect the tensor in which one was found last; SIZE_MAX at the beginning
 * @param text_out "tensor NAME holds nan at element 7", where one was found
 */
bool mst_hf_suspect(const mst_hf *hf, size_t tensor, uint64_t first, uint64_t count, const float *values,
                    size_t *suspect, char text_out[MST_HF_SUSPECT_TEXT]);

/**
 * Fills the masters of shards with any ranges; padding with zeros. Not collective.
 * @param layout of the model that is trained; every tensor must be there in the same shape
 * @param queue brings what was read to a device whose memory is apart; NULL where none is
 * @param warnings told of values that are not finite, as mst_hf_suspect; NULL: nobody wants to know
 * @param progress called every few MiB; NULL: nobody listens
 * @retval MST_ECONFIG another model; and as mst_hf_read
 */
mst_status mst_hf_load(mst_hf *hf, const mst_layout *layout, mst_queue *queue, mst_shard *shards,
                       const mst_hf_notes *warnings, void (*progress)(void *progress_context),
                       void *progress_context);

/** The text of tokenizer.json, NUL behind. Not collective. @param json_out freed by the caller with free; NULL: there is none
 * @retval MST_EIO, MST_EFORMAT, MST_ENOMEM */
mst_status mst_hf_tokenizer(const mst_hf *hf, char **json_out, size_t *bytes_out);

/** The other files of the folder, weights excepted, as a tar archive that depends on their names and contents alone. Not collective.
 * @param notes files that are left out, since they are too large or no files; NULL: nobody wants to know
 * @param tar_out freed by the caller with free @retval MST_EIO, MST_ENOMEM */
mst_status mst_hf_companions(const mst_hf *hf, const mst_hf_notes *notes, char **tar_out, size_t *bytes_out);

/** A file that came with a checkpoint's imported model. Not collective.
 * @param content_out freed by the caller with free; NULL: there is none
 * @retval as mst_checkpoint_companions; MST_EFORMAT, MST_ENOMEM */
mst_status mst_hf_carried(const char *checkpoint, const char *name, char **content_out, size_t *bytes_out);

/** Whether a path is a folder with a config.json, which no checkpoint has. */
bool mst_hf_is_there(const char *path);

/** The model that `model.init` names: in Hugging Face's layout, or of a checkpoint. Not collective.
 * @retval MST_ECONFIG it holds adapters alone; as mst_hf_open, mst_checkpoint_open */
mst_status mst_init_model(const char *path, mst_model_config *model_out);

/** Whether the model that `model.init` names has the tensors of the config's. Not collective.
 * @retval MST_ECONFIG another model; as mst_init_model */
mst_status mst_init_check(const char *path, const mst_model_config *model);

/**
 * Opens adapters in PEFT's layout, adapter_config.json and adapter_model.safetensors, which have to be exactly those that are wanted.
 * mst_hf_load reads them into shards of mst_lora_layout's layout; mst_hf_close closes them. Not collective.
 * @retval MST_ECONFIG another rank, scale or set of targets; MST_EUNSUPPORTED something besides plain adapters, by name;
 * MST_EFORMAT, MST_EIO, MST_ENOMEM
 */
mst_status mst_hf_open_adapters(const char *folder, const mst_model_config *model, const mst_lora *lora,
                                mst_hf **hf_out);

/* ---- writing ---- */

/* How a checkpoint that holds adapters is exported. */
typedef struct mst_export_adapters {
    bool apart;       /* in PEFT's layout; else added to the weights of the model that they adapt */
    const char *base; /* that model: a packed checkpoint */
    mst_lora lora;
    /* What adapter_config.json says: the name or path of that model, and the config's own words for `lora`. */
    const char *base_name, *targets;
    double alpha;
    bool rslora;
} mst_export_adapters;

typedef struct mst_export_options {
    const mst_hf_dtype *dtype; /* NULL: that of the imported model, else the fallback */
    mst_hf_dtype fallback;
    uint64_t shard_bytes;                /* of a weight file at most, unless a single tensor is larger */
    const mst_export_adapters *adapters; /* NULL: the checkpoint holds a model */
    const char *name;                    /* of the model, for its card */
    const char *losses;                  /* table of losses for the card, in Markdown; NULL: not known */
    mst_hf_notes notes;
    /* Told now and then how many bytes of all are done; a failure ends the work with its status. NULL: nobody listens */
    mst_status (*progress)(void *progress_context, uint64_t done, uint64_t all);
    void *progress_context;
} mst_export_options;

/**
 * Writes a checkpoint's model into a new folder in Hugging Face's layout, or its adapters in PEFT's. Every weight is compared with its
 * digest; config.json, or adapter_config.json, is written last.
 *
 * Not collective.
 * @param folder must be there, and empty; what is written is on the disk on return. After a failure files may be left in it
 * @retval MST_EUNSUPPORTED a weight that the type cannot hold; MST_ECONFIG adapters apart, of a model whose own config differs;
 * as mst_checkpoint_verify; MST_EIO, MST_ENOMEM
 * Memory: two buffers of 4 MiB, the manifest, the carried files; to merge adapters, these in fp32 and a third buffer.
 */
mst_status mst_hf_export(const mst_checkpoint_context *context, const char *path, const char *folder,
                         const mst_export_options *options);

#ifdef __cplusplus
}
#endif
#endif
