/* An open model in Hugging Face's layout, or open adapters in PEFT's. Private to the room. */
#ifndef CONVERT_HF_H
#define CONVERT_HF_H

#include "hf_config.h"
#include "safetensors.h"

enum { HF_FILES_MAX = 512, HF_PATH_MAX = 4096 };

typedef struct hf_file {
    char *path;
    int fd;
} hf_file;

struct mst_hf {
    char *folder;
    hf_config config;
    mst_layout layout;
    hf_file *files; /* [HF_FILES_MAX] */
    size_t file_count;
    hf_tensor_list tensors; /* of all files, by name */
    hf_tensor **of;         /* [layout.tensor_count] where each tensor stands */
    mst_hf_dtype dtype;
};

/** @retval MST_EIO too long */
mst_status hf_path_in(const char *folder, const char *name, char path_out[HF_PATH_MAX]);

/** Opens a weight file of the folder and appends its tensors to the list. @retval MST_EIO, MST_EFORMAT, MST_ENOMEM */
mst_status hf_open_weights(mst_hf *hf, const char *name);

#endif
