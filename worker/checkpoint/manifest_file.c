/* Where a checkpoint's manifest and its other parts stand: in a folder, or in one packed file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest.h"

/* Far above any real one: about half a million pieces. */
enum { MANIFEST_MOST = 64 << 20 };

mst_status ckpt_manifest_name(const char *path, char *name_out) {
    if (!ckpt_is_file(path)) return ckpt_path_join(path, "manifest.json", name_out);
    memcpy(name_out, path, strlen(path) + 1); /* it was found, so it is short enough */
    return MST_OK;
}

/* The line at the beginning of a packed checkpoint says how long its manifest is. */
static mst_status read_head(const ckpt_file *file, uint64_t size, uint64_t *bytes_out) {
    mst_status status = MST_OK;
    char head[CKPT_HEAD_BYTES + 1] = "", again[CKPT_HEAD_BYTES + 1];
    const char *digits = strpbrk(CKPT_HEAD, "%");
    if (size >= CKPT_HEAD_BYTES) MST_TRY(ckpt_file_read(file, head, CKPT_HEAD_BYTES, 0));
    const unsigned long long bytes = strtoull(head + (digits - CKPT_HEAD), NULL, 10);
    snprintf(again, sizeof again, CKPT_HEAD, bytes);
    MST_CHECK(memcmp(head, again, sizeof head) == 0, MST_EFORMAT,
              "%s is no packed checkpoint: it does not begin as those of 'muster pack' do; name such a file, "
              "a checkpoint "
              "folder or a run folder",
              file->path);
    *bytes_out = bytes;
done:
    return status;
}

mst_status ckpt_manifest_load(const char *path, char **text_out, size_t *bytes_out) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(NULL);
    char *text = NULL;
    const bool packed = ckpt_is_file(path);
    uint64_t bytes;
    MST_TRY(packed ? ckpt_file_open_path(path, &file) : ckpt_file_open(path, "manifest.json", &file));
    MST_TRY(ckpt_file_size(&file, &bytes));
    if (packed) MST_TRY(read_head(&file, bytes, &bytes));
    MST_CHECK(bytes <= MANIFEST_MOST, MST_EFORMAT, "%s has a manifest of %llu bytes; the limit is %d",
              file.path, (unsigned long long)bytes, MANIFEST_MOST);
    text = malloc((size_t)bytes + 1);
    MST_CHECK(text != NULL, MST_ENOMEM, "%s: no memory for %llu bytes", file.path, (unsigned long long)bytes);
    MST_TRY(ckpt_file_read(&file, text, (size_t)bytes, packed ? CKPT_HEAD_BYTES : 0));
    *text_out = text;
    *bytes_out = (size_t)bytes;
    text = NULL;
done:
    free(text);
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

mst_status mst_manifest_read(const char *path, mst_manifest *manifest_out) {
    mst_status status = MST_OK;
    char *text = NULL, name[CKPT_PATH_MAX];
    size_t bytes = 0;
    *manifest_out = (mst_manifest){0};
    MST_TRY(ckpt_manifest_name(path, name));
    MST_TRY(ckpt_manifest_load(path, &text, &bytes));
    MST_TRY(mst_manifest_parse(text, bytes, name, manifest_out));
done:
    free(text);
    return status;
}

mst_status ckpt_part_path(const char *path, const mst_manifest *manifest, const mst_manifest_file *part,
                          char *path_out) {
    if (!manifest->packed) return ckpt_path_join(path, part->name, path_out);
    snprintf(path_out, CKPT_PATH_MAX, "%s", path);
    return MST_OK;
}

mst_status ckpt_part_open(const char *path, const mst_manifest *manifest, const mst_manifest_file *part,
                          ckpt_file *file_out) {
    char name[CKPT_PATH_MAX];
    mst_status status = ckpt_part_path(path, manifest, part, name);
    return status == MST_OK ? ckpt_file_open_path(name, file_out) : status;
}
