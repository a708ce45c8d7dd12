#include "companions.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* POSIX.1-1988 ustar: fields of fixed width, numbers in octal. */
enum { BLOCK = 512, AT_SIZE = 124, AT_CHECKSUM = 148, AT_TYPE = 156, AT_MAGIC = 257 };

bool hf_is_companion(const char *name) {
    static const char *const weights[] = {".safetensors", ".safetensors.index.json",
                                          ".bin",         ".bin.index.json",
                                          ".pt",          ".pth",
                                          ".ckpt",        ".gguf",
                                          ".h5",          ".msgpack",
                                          ".onnx",        ".ot",
                                          ".npz",         NULL};
    const size_t length = strlen(name);
    if (name[0] == '.' || length >= HF_FILE_NAME_MAX || strcmp(name, "tokenizer.json") == 0) return false;
    for (size_t i = 0; weights[i] != NULL; i++) {
        const size_t end = strlen(weights[i]);
        if (length > end && strcmp(name + length - end, weights[i]) == 0) return false;
    }
    return true;
}

/* ---- writing ---- */

static unsigned checksum_of(const char *head) {
    unsigned sum = 0;
    for (int i = 0; i < BLOCK; i++)
        sum += i >= AT_CHECKSUM && i < AT_CHECKSUM + 8 ? ' ' : (unsigned char)head[i];
    return sum;
}

static void put_file(FILE *stream, const char *name, const char *content, size_t bytes) {
    char head[BLOCK] = "";
    static const char zeros[BLOCK];
    snprintf(head, HF_FILE_NAME_MAX, "%s", name);
    memcpy(head + 100, "0000644\0000000000\0000000000", 24); /* mode, owner, group */
    snprintf(head + AT_SIZE, 12, "%011llo", (unsigned long long)bytes);
    memcpy(head + 136, "00000000000", 12); /* time */
    head[AT_TYPE] = '0';
    memcpy(head + AT_MAGIC, "ustar\00000", 8);
    snprintf(head + AT_CHECKSUM, 8, "%06o", checksum_of(head));
    head[AT_CHECKSUM + 7] = ' ';
    fwrite(head, 1, BLOCK, stream);
    fwrite(content, 1, bytes, stream);
    fwrite(zeros, 1, (BLOCK - bytes % BLOCK) % BLOCK, stream);
}

static int compare(const struct dirent **left, const struct dirent **right) {
    return strcmp((*left)->d_name, (*right)->d_name); /* bytewise: no locale decides about the archive */
}

static int is_wanted(const struct dirent *entry) {
    return hf_is_companion(entry->d_name);
}

static mst_status put_from(FILE *stream, const char *folder, const char *name, const mst_hf_notes *notes,
                           size_t *total) {
    mst_status status = MST_OK;
    char path[4096], *content = NULL;
    size_t bytes = 0;
    struct stat facts;
    MST_CHECK(snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path, MST_EIO,
              "%s: the path is too long", name);
    if (stat(path, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        hf_note(notes, "%s is no file, and is left out", path);
    } else if (facts.st_size > HF_COMPANION_MAX || *total + (size_t)facts.st_size > HF_COMPANIONS_MAX) {
        hf_note(notes, "%s has %lld bytes, and is left out: at most %d of a file and %d of all are kept",
                path, (long long)facts.st_size, HF_COMPANION_MAX, HF_COMPANIONS_MAX);
    } else {
        MST_TRY(hf_file_load(path, HF_COMPANION_MAX, &content, &bytes));
        put_file(stream, name, content, bytes);
        *total += bytes;
    }
done:
    free(content);
    return status;
}

mst_status hf_tar_make(const char *folder, const char *origin, const mst_hf_notes *notes, char **tar_out,
                       size_t *bytes_out) {
    mst_status status = MST_OK;
    static const char end[2 * BLOCK];
    struct dirent **entries = NULL;
    char *tar = NULL;
    size_t bytes = 0, total = 0;
    FILE *stream = open_memstream(&tar, &bytes);
    const int count = scandir(folder, &entries, is_wanted, compare);
    MST_CHECK(stream != NULL, MST_ENOMEM, "%s: no memory for its files", folder);
    MST_CHECK(count >= 0, MST_EIO, "cannot read the folder %s: %s", folder, strerror(errno));
    put_file(stream, HF_ORIGIN_NAME, origin, strlen(origin));
    for (int i = 0; i < count; i++) MST_TRY(put_from(stream, folder, entries[i]->d_name, notes, &total));
    fwrite(end, 1, sizeof end, stream);
    MST_CHECK(fflush(stream) == 0 && !ferror(stream), MST_ENOMEM, "%s: no memory for its files", folder);
done:
    if (stream != NULL) fclose(stream);
    for (int i = 0; i < count; i++) free(entries[i]);
    free(entries);
    if (status != MST_OK) free(tar);
    *tar_out = status == MST_OK ? tar : NULL;
    *bytes_out = status == MST_OK ? bytes : 0;
    return status;
}

/* ---- reading ---- */

static bool is_octal(const char *text, size_t digits) {
    return strspn(text, "01234567") == digits;
}

mst_status hf_tar_next(const char *tar, size_t bytes, size_t *at_in_out, hf_tar_file *file_out,
                       bool *found_out) {
    mst_status status = MST_OK;
    char plain[HF_PLAIN_MAX];
    const char *head = tar + *at_in_out;
    *found_out = false;
    MST_CHECK(bytes - *at_in_out >= BLOCK, MST_EFORMAT,
              "the files that came with the model: the archive has no end");
    if (head[0] == '\0') goto done;
    MST_CHECK(head[AT_TYPE] == '0' && is_octal(head + AT_SIZE, 11) && is_octal(head + AT_CHECKSUM, 6) &&
                  strtoul(head + AT_CHECKSUM, NULL, 8) == checksum_of(head),
              MST_EFORMAT, "the files that came with the model: the archive is damaged at byte %zu",
              *at_in_out);
    memcpy(file_out->name, head, 100);
    file_out->name[100] = '\0';
    file_out->content = head + BLOCK;
    file_out->bytes = (size_t)strtoull(head + AT_SIZE, NULL, 8);
    MST_CHECK(strchr(file_out->name, '/') == NULL, MST_EFORMAT,
              "the files that came with the model: '%s' would lie elsewhere",
              hf_plain(file_out->name, plain));
    const size_t left = bytes - *at_in_out - BLOCK;
    MST_CHECK(file_out->bytes <= left && (file_out->bytes + BLOCK - 1) / BLOCK * BLOCK <= left, MST_EFORMAT,
              "the files that came with the model: '%s' is cut", hf_plain(file_out->name, plain));
    *at_in_out += BLOCK + (file_out->bytes + BLOCK - 1) / BLOCK * BLOCK;
    *found_out = true;
done:
    return status;
}

mst_status mst_hf_carried(const char *checkpoint, const char *name, char **content_out, size_t *bytes_out) {
    mst_status status = MST_OK;
    char *tar = NULL;
    size_t bytes = 0;
    hf_tar_file file;
    bool found = false;
    *content_out = NULL;
    *bytes_out = 0;
    MST_TRY(mst_checkpoint_companions(checkpoint, &tar, &bytes));
    MST_TRY(hf_tar_find(tar, bytes, name, &file, &found));
    if (!found) goto done;
    *content_out = malloc(file.bytes + 1); /* an empty file is not NULL */
    MST_CHECK(*content_out != NULL, MST_ENOMEM, "%s: no memory for its %s", checkpoint, name);
    memcpy(*content_out, file.content, file.bytes);
    *bytes_out = file.bytes;
done:
    free(tar);
    return status;
}

mst_status hf_tar_find(const char *tar, size_t bytes, const char *name, hf_tar_file *file_out,
                       bool *found_out) {
    mst_status status = MST_OK;
    size_t at = 0;
    *found_out = tar != NULL;
    while (*found_out) {
        MST_TRY(hf_tar_next(tar, bytes, &at, file_out, found_out));
        if (*found_out && strcmp(file_out->name, name) == 0) break;
    }
done:
    if (status != MST_OK) *found_out = false;
    return status;
}
