/* The manifest, written last: what it does not name does not exist. */
#ifndef CHECKPOINT_MANIFEST_H
#define CHECKPOINT_MANIFEST_H

#include "file.h"
#include "muster/checkpoint.h"

/* The file's end: the digest of everything before it, so that no byte can change unseen. */
#define CKPT_SEAL_HEAD "\"manifest_sha256\": \""
#define CKPT_SEAL_TAIL "\"\n}\n"
enum { CKPT_SEAL_BYTES = (int)sizeof CKPT_SEAL_HEAD + (int)sizeof CKPT_SEAL_TAIL + MST_DIGEST_HEX - 3 };

/* The first line of a packed checkpoint; behind it stands its manifest. The number has 12 digits. */
#define CKPT_HEAD "muster checkpoint, manifest of %012llu bytes\n"
enum { CKPT_HEAD_BYTES = (int)sizeof "muster checkpoint, manifest of 000000000000 bytes\n" - 1 };

#define CKPT_DIGESTS_NAME    "digests.bin"
#define CKPT_CHECKSUMS_NAME  "checksums.bin"
#define CKPT_TOKENIZER_NAME  "tokenizer.json"
#define CKPT_COMPANIONS_NAME "huggingface.tar"

enum { CKPT_VERSION_PACKED = 3, CKPT_VERSION_ADAPTERS = 4 };

/** The manifest's text, sealed; caller frees. The manifest is taken as checked, except its strings and sizes.
 * @retval MST_ENOMEM, MST_EINVAL a string is not UTF-8, a number is not finite or too large */
mst_status ckpt_manifest_print(const mst_manifest *manifest, char **text_out, size_t *bytes_out);

/** The version that a checkpoint that is not packed is written in: the lowest one that can say what it is. */
uint64_t ckpt_manifest_version(const mst_checkpoint_meta *meta);

/** As ckpt_manifest_print, but only what does not depend on who wrote it: meta and digests. */
mst_status ckpt_manifest_print_meta(const mst_manifest *manifest, char **text_out);

/** The file in which a checkpoint's manifest stands: PATH/manifest.json, or PATH. @param name_out [CKPT_PATH_MAX] */
mst_status ckpt_manifest_name(const char *path, char *name_out);

/** Reads the manifest's text, unchecked; caller frees. @retval MST_EIO, MST_EFORMAT too large, MST_ENOMEM */
mst_status ckpt_manifest_load(const char *path, char **text_out, size_t *bytes_out);

/** Where a part of a checkpoint stands: PATH/NAME, or PATH where it is packed. @param path_out [CKPT_PATH_MAX] */
mst_status ckpt_part_path(const char *path, const mst_manifest *manifest, const mst_manifest_file *part,
                          char *path_out);
/** Opens the file of ckpt_part_path; the part begins there at part->offset. @retval MST_EIO */
mst_status ckpt_part_open(const char *path, const mst_manifest *manifest, const mst_manifest_file *part,
                          ckpt_file *file_out);
/** Whether that file, open, has the size that the manifest says. @retval MST_EFORMAT, MST_EIO */
mst_status ckpt_part_check_size(const ckpt_file *file, const mst_manifest *manifest,
                                const mst_manifest_file *part);

/** Fills in first_block, blocks, first_piece and places, and checks that pieces cover each tensor once,
 * within files and without overlap.
 * @retval MST_EFORMAT, MST_ENOMEM */
mst_status ckpt_manifest_index(mst_manifest *manifest, const char *name);

#endif
