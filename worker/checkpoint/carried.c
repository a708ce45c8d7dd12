#include "carried.h"

#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "manifest.h"

enum { CARRIED_MAX = 1 << 28 }; /* bytes: ten times the largest tokenizer that is known */

mst_status ckpt_carried_write(const mst_checkpoint_context *context, const char *folder, const char *name,
                              const void *content, size_t bytes, mst_manifest_file *file_out) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(context);
    *file_out = (mst_manifest_file){.bytes = bytes};
    memcpy(file_out->name, name, strlen(name) + 1);
    MST_TRY(mst_digest_of(content, bytes, &file_out->digest));
    MST_TRY(ckpt_file_create(folder, file_out->name, &file));
    MST_TRY(ckpt_file_write(&file, content, bytes, 0));
    MST_TRY(ckpt_file_sync(&file));
    MST_TRY(ckpt_file_close(&file));
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

typedef const mst_manifest_file *which_file(const mst_manifest *manifest);

static mst_status read_carried(const char *path, which_file *which, char **content_out, size_t *bytes_out) {
    mst_status status = MST_OK;
    mst_manifest manifest = {0};
    ckpt_file file = CKPT_FILE_CLOSED(NULL);
    mst_digest found;
    char *content = NULL;
    *content_out = NULL;
    *bytes_out = 0;
    MST_TRY(mst_manifest_read(path, &manifest));
    const mst_manifest_file *expected = which(&manifest);
    if (expected->name[0] == '\0') goto done;
    MST_CHECK(expected->bytes <= CARRIED_MAX, MST_EFORMAT, "%s: %s has more than %d bytes", path,
              expected->name, CARRIED_MAX);
    MST_TRY(ckpt_part_open(path, &manifest, expected, &file));
    MST_TRY(ckpt_part_check_size(&file, &manifest, expected)); /* before memory for it */
    content = malloc(expected->bytes + 1);
    MST_CHECK(content != NULL, MST_ENOMEM, "%s: no memory for %s", path, expected->name);
    MST_TRY(ckpt_file_read(&file, content, expected->bytes, expected->offset));
    MST_TRY(mst_digest_of(content, expected->bytes, &found));
    MST_CHECK(memcmp(&found, &expected->digest, sizeof found) == 0, MST_EFORMAT,
              "%s is damaged: the SHA-256 of %s is not the manifest's", file.path, expected->name);
    content[expected->bytes] = '\0';
    *bytes_out = expected->bytes;
    *content_out = content;
    content = NULL;
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    free(content);
    mst_manifest_clear(&manifest);
    return status;
}

static const mst_manifest_file *tokenizer_of(const mst_manifest *manifest) {
    return &manifest->tokenizer;
}
static const mst_manifest_file *companions_of(const mst_manifest *manifest) {
    return &manifest->companions;
}

mst_status mst_checkpoint_tokenizer(const char *path, char **json_out, size_t *bytes_out) {
    return read_carried(path, tokenizer_of, json_out, bytes_out);
}

mst_status mst_checkpoint_companions(const char *path, char **tar_out, size_t *bytes_out) {
    return read_carried(path, companions_of, tar_out, bytes_out);
}
