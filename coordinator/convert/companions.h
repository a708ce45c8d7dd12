/* The files that come with a model, as a tar archive (POSIX ustar): plain files, no folders, no times, no owners. */
#ifndef CONVERT_COMPANIONS_H
#define CONVERT_COMPANIONS_H

#include <stddef.h>

#include "hf_config.h"

/* In the archive: what muster has to remember of the model that was imported. */
#define HF_ORIGIN_NAME ".muster.json"

enum { HF_FILE_NAME_MAX = 101, HF_COMPANION_MAX = 32 << 20, HF_COMPANIONS_MAX = 96 << 20 };

/** Whether muster reads such a file otherwise, or it holds weights that it does not need. */
bool hf_is_companion(const char *name);

/** Gathers a folder's files. @param origin text of HF_ORIGIN_NAME @retval MST_EIO, MST_ENOMEM */
mst_status hf_tar_make(const char *folder, const char *origin, const mst_hf_notes *notes, char **tar_out,
                       size_t *bytes_out);

/* A file of an archive. */
typedef struct hf_tar_file {
    char name[HF_FILE_NAME_MAX];
    const char *content; /* within the archive; no NUL behind */
    size_t bytes;
} hf_tar_file;

/** The next file; *found_out = false at the end. @param at_in_out where to look; 0 at first
 * @retval MST_EFORMAT not as hf_tar_make writes it */
mst_status hf_tar_next(const char *tar, size_t bytes, size_t *at_in_out, hf_tar_file *file_out,
                       bool *found_out);

/** The file of a name; *found_out = false: there is none. @retval MST_EFORMAT */
mst_status hf_tar_find(const char *tar, size_t bytes, const char *name, hf_tar_file *file_out,
                       bool *found_out);

#endif
