#include "tokenizer_file.h"

#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "manifest.h"

enum { TOKENIZER_MAX = 1 << 28 }; /* bytes: ten times the largest that is known */

mst_status ckpt_tokenizer_write(const mst_checkpoint_context *context, const char *folder, const char *text,
                                mst_manifest_file *file_out) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(context);
    *file_out = (mst_manifest_file){.name = CKPT_TOKENIZER_NAME, .bytes = strlen(text)};
    MST_TRY(mst_digest_of(text, strlen(text), &file_out->digest));
    MST_TRY(ckpt_file_create(folder, file_out->name, &file));
    MST_TRY(ckpt_file_write(&file, text, strlen(text), 0));
    MST_TRY(ckpt_file_sync(&file));
    MST_TRY(ckpt_file_close(&file));
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

mst_status mst_checkpoint_tokenizer(const char *path, char **json_out, size_t *bytes_out) {
    mst_status status = MST_OK;
    mst_manifest manifest = {0};
    ckpt_file file = CKPT_FILE_CLOSED(NULL);
    mst_digest found;
    char *json = NULL;
    *json_out = NULL;
    *bytes_out = 0;
    MST_TRY(mst_manifest_read(path, &manifest));
    const mst_manifest_file *expected = &manifest.tokenizer;
    if (expected->name[0] == '\0') goto done;
    MST_CHECK(expected->bytes <= TOKENIZER_MAX, MST_EFORMAT, "%s: %s has more than %d bytes", path,
              expected->name, TOKENIZER_MAX);
    MST_TRY(ckpt_part_open(path, &manifest, expected, &file));
    MST_TRY(ckpt_part_check_size(&file, &manifest, expected)); /* before memory for it */
    json = malloc(expected->bytes + 1);
    MST_CHECK(json != NULL, MST_ENOMEM, "%s: no memory for %s", path, expected->name);
    MST_TRY(ckpt_file_read(&file, json, expected->bytes, expected->offset));
    MST_TRY(mst_digest_of(json, expected->bytes, &found));
    MST_CHECK(memcmp(&found, &expected->digest, sizeof found) == 0, MST_EFORMAT,
              "%s is damaged: the SHA-256 of %s is not the manifest's", file.path, expected->name);
    json[expected->bytes] = '\0';
    *bytes_out = expected->bytes;
    *json_out = json;
    json = NULL;
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    free(json);
    mst_manifest_clear(&manifest);
    return status;
}
