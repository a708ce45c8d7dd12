/* JSON from foreign files: bounded before anything is allocated for it. */
#ifndef CONVERT_JSON_H
#define CONVERT_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "muster/status.h"

enum { HF_JSON_BYTES_MAX = 16 << 20 };

/**
 * Parses an object.
 *
 * Members given twice are refused, and so are texts with more nesting or values than any honest file has: parsing takes some
 * hundred bytes a value.
 * @param name begins messages
 * @param root_out released by json_decref
 * @retval MST_EFORMAT, MST_ENOMEM
 */
mst_status hf_json_parse(const char *text, size_t bytes, const char *name, json_t **root_out);

/** The same of a file. @retval MST_EIO, MST_EFORMAT, MST_ENOMEM */
mst_status hf_json_load(const char *path, json_t **root_out);

/** The whole of a regular file, NUL behind; freed by the caller with free. @retval MST_EIO, MST_EFORMAT larger than `most` */
mst_status hf_file_load(const char *path, size_t most, char **text_out, size_t *bytes_out);

/** Opens a regular file for reading. @retval MST_EIO, MST_EFORMAT it is none */
mst_status hf_file_open(const char *path, int *fd_out, uint64_t *bytes_out);

enum { HF_PLAIN_MAX = 64 };

/** A foreign text made fit for a message: cut, and no character in it that a terminal obeys. Returns text_out. */
const char *hf_plain(const char *text, char text_out[HF_PLAIN_MAX]);

/** Whether something has this name. */
bool hf_file_exists(const char *folder, const char *name);

#endif
