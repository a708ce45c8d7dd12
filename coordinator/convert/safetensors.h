/* The safetensors format: 8 bytes with the length of a JSON header, the header, the tensors' bytes one after the other. */
#ifndef CONVERT_SAFETENSORS_H
#define CONVERT_SAFETENSORS_H

#include "numbers.h"

enum { HF_TENSORS_MAX = 1 << 16, HF_DIMS_MAX = 8 };

/* A tensor of a file, as its header has it. */
typedef struct hf_tensor {
    char name[MST_NAME_MAX];
    mst_hf_dtype dtype; /* MST_HF_DTYPES: none that weights may have */
    char tag[12];       /* its name in the file */
    size_t dims;
    uint64_t shape[HF_DIMS_MAX];
    uint64_t count;         /* elements */
    uint64_t offset, bytes; /* in the file */
    size_t file;
    bool used;
} hf_tensor;

typedef struct hf_tensor_list {
    hf_tensor *at;
    size_t count, room;
} hf_tensor_list;

/**
 * Reads a header, and appends its tensors to a list.
 *
 * Their bytes must cover the file without holes or overlaps, each exactly as many as type and shape say.
 * @param text [bytes] the header @param data_bytes of the file, behind the header
 * @param name of the file, for messages @param file number that the tensors get
 * @retval MST_EFORMAT, MST_ENOMEM
 */
mst_status hf_header_parse(const char *text, size_t bytes, uint64_t data_bytes, const char *name, size_t file,
                           hf_tensor_list *list);

/** The same from the beginning of an open file. @param file_bytes its size @retval MST_EIO, MST_EFORMAT, MST_ENOMEM */
mst_status hf_header_load(int fd, uint64_t file_bytes, const char *name, size_t file, hf_tensor_list *list);

/** By name; tensors of one name are an error. @retval MST_EFORMAT */
mst_status hf_tensors_sort(hf_tensor_list *list);
/** In a sorted list; NULL: there is none of this name. */
hf_tensor *hf_tensors_find(const hf_tensor_list *list, const char *name);

/** "[2, 3]" @param text_out [128] */
const char *hf_shape_text(const uint64_t *shape, size_t dims, char text_out[128]);

/* A tensor to be written. */
typedef struct hf_entry {
    const char *name;
    size_t dims, shape[2];
    uint64_t count;
} hf_entry;

/** The beginning of a file that holds these tensors, one after the other; freed by the caller. Its length is a multiple of 8.
 * @retval MST_ENOMEM */
mst_status hf_header_make(const hf_entry *entries, size_t count, mst_hf_dtype dtype, char **bytes_out,
                          size_t *count_out);

#endif
