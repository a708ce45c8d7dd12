#include "token_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "muster/files.h"
#include "skeleton.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "token files are little-endian and written as they lie in memory");

enum {
    COPY_BYTES = 1 << 20,
    USER_BLOCK_MIN = 64 << 10,
    /* for the digits of the offsets, which are not known when the user block is measured */
    INDEX_SLACK = 1024,
};

/* ---- writing ---- */

/* Makes a new file beside `output`, in the mode that the user's umask gives, and says its name. */
static mst_status create_temporary(const char *output, const char *folder, char **path_out, int *fd_out) {
    for (int attempt = 0; attempt < 100; attempt++) {
        char *path = NULL;
        if (asprintf(&path, "%s/.%s.partial-%ld-%d", folder, mst_base_name(output), (long)getpid(), attempt) <
            0)
            return mst_error(MST_ENOMEM, "out of memory for the name of a temporary file");
        *fd_out = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd_out >= 0) {
            *path_out = path;
            return MST_OK;
        }
        int code = errno;
        if (code != EEXIST) mst_error(MST_EIO, "creating '%s': %s", path, strerror(code));
        free(path);
        if (code != EEXIST) return MST_EIO;
    }
    return mst_error(MST_EIO,
                     "creating a temporary file in '%s': a hundred names are taken; remove .%s.partial-*",
                     folder, mst_base_name(output));
}

/* Asks for the space before any work is done, where the file system can tell. */
static mst_status reserve(int fd, const char *path, const token_index *index, uint64_t user_block) {
    uint64_t bytes = user_block;
    for (int which = 0; which < SPLITS; which++)
        bytes += index->split[which].tokens.count * index->token_bytes +
                 index->split[which].documents.count * sizeof(uint64_t) + index->split[which].loss_mask.count;
    bytes += index->tokenizer.json.count + index->tokenizer.lengths.count * sizeof(uint32_t);
    int result;
    while ((result = fallocate(fd, 0, 0, (off_t)bytes)) != 0 && errno == EINTR) continue;
    if (result == 0 || errno == EOPNOTSUPP || errno == ENOSYS) return MST_OK;
    mst_status status = mst_file_write_error(fd, path, errno);
    return mst_error_context(status, "a token file of %.1f MiB", (double)bytes / (1 << 20));
}

/* A power of two with room for the index once the offsets are known. */
static mst_status measure_user_block(const token_index *index, const index_notes *notes,
                                     uint64_t *bytes_out) {
    char *text = NULL;
    mst_status status = index_render(index, notes, &text);
    if (status != MST_OK) return status;
    *bytes_out = USER_BLOCK_MIN;
    while (*bytes_out < strlen(text) + INDEX_SLACK) *bytes_out *= 2;
    free(text);
    return MST_OK;
}

/* Copies what a spill holds to its place in the file, and hashes it. */
static mst_status write_array(int fd, const char *path, spill *from, mst_hasher *hasher, void *buffer,
                              array_index *array) {
    mst_status status = MST_OK;
    uint64_t bytes = spill_bytes(from);
    for (uint64_t at = 0; at < bytes;) {
        size_t part = bytes - at < COPY_BYTES ? (size_t)(bytes - at) : COPY_BYTES;
        MST_TRY(spill_read(from, at, buffer, part));
        MST_TRY(mst_hasher_update(hasher, buffer, part));
        MST_TRY(mst_file_write(fd, path, array->offset + at, buffer, part));
        at += part;
    }
    MST_TRY(mst_hasher_finish(hasher, &array->digest));
done:
    return status;
}

static mst_status write_memory(int fd, const char *path, const void *from, size_t bytes, array_index *array) {
    mst_status status = MST_OK;
    MST_TRY(mst_digest_of(from, bytes, &array->digest));
    MST_TRY(mst_file_write(fd, path, array->offset, from, bytes));
done:
    return status;
}

static mst_status write_arrays(int fd, const char *path, split_content content[SPLITS],
                               const tokenizer_content *tokenizer, token_index *index) {
    mst_status status = MST_OK;
    mst_hasher *hasher = NULL;
    void *buffer = malloc(COPY_BYTES);
    MST_CHECK(buffer != NULL, MST_ENOMEM, "out of memory to write '%s'", path);
    MST_TRY(mst_hasher_create(&hasher));
    for (int which = 0; which < SPLITS; which++) {
        split_index *part = &index->split[which];
        MST_TRY(write_array(fd, path, &content[which].tokens, hasher, buffer, &part->tokens));
        MST_TRY(write_array(fd, path, &content[which].documents, hasher, buffer, &part->documents));
        if (part->has_loss_mask)
            MST_TRY(write_array(fd, path, &content[which].loss_mask, hasher, buffer, &part->loss_mask));
    }
    if (index->tokenizer.has_json) {
        MST_TRY(write_memory(fd, path, tokenizer->json, tokenizer->json_bytes, &index->tokenizer.json));
        MST_TRY(write_memory(fd, path, tokenizer->lengths, index->vocab_size * sizeof *tokenizer->lengths,
                             &index->tokenizer.lengths));
    }
done:
    mst_hasher_destroy(&hasher);
    free(buffer);
    return status;
}

static mst_status write_index(int fd, const char *path, const token_index *index, const index_notes *notes,
                              uint64_t user_block) {
    mst_status status = MST_OK;
    char *text = NULL;
    MST_TRY(index_render(index, notes, &text));
    MST_CHECK(strlen(text) <= user_block, MST_EINTERNAL, "the index of '%s' outgrew its %" PRIu64 " bytes",
              path, user_block);
    MST_TRY(mst_file_write(fd, path, 0, text, strlen(text)));
done:
    free(text);
    return status;
}

/* Reads back what was written, through the index as a reader would find it. */
static mst_status check_written(int fd, const char *path) {
    token_index index;
    mst_status status = index_read(fd, path, &index);
    if (status == MST_OK) status = token_file_verify(fd, path, &index);
    return status;
}

mst_status token_file_write(const char *output, split_content content[SPLITS],
                            const tokenizer_content *tokenizer, const index_notes *notes,
                            token_index *index) {
    mst_status status = MST_OK;
    char *folder = NULL, *temporary = NULL;
    int fd = -1;
    uint64_t user_block = 0;
    for (int which = 0; which < SPLITS; which++) {
        index->split[which].tokens.count = spill_bytes(&content[which].tokens) / index->token_bytes;
        index->split[which].documents.count = spill_bytes(&content[which].documents) / sizeof(uint64_t);
        if (index->split[which].has_loss_mask)
            index->split[which].loss_mask.count = spill_bytes(&content[which].loss_mask);
    }
    if (index->tokenizer.has_json) {
        index->tokenizer.json.count = tokenizer->json_bytes;
        index->tokenizer.lengths.count = index->vocab_size;
    }
    MST_TRY(mst_folder_of(output, &folder));
    MST_TRY(measure_user_block(index, notes, &user_block));
    MST_TRY(create_temporary(output, folder, &temporary, &fd));
    MST_TRY(reserve(fd, temporary, index, user_block));
    MST_TRY(skeleton_create(temporary, user_block, index));
    MST_TRY(write_arrays(fd, temporary, content, tokenizer, index));
    MST_TRY(write_index(fd, temporary, index, notes, user_block));
    if (fsync(fd) != 0) MST_TRY(mst_file_write_error(fd, temporary, errno));
    MST_TRY(check_written(fd, temporary));
    MST_TRY(mst_file_publish(temporary, output));
    free(temporary);
    temporary = NULL; /* it is the output now */
done:
    if (fd >= 0) close(fd);
    if (temporary != NULL) unlink(temporary);
    free(temporary);
    free(folder);
    return status;
}

/* ---- checking ---- */

/* What is left to look at in an array whose bytes pass by piece by piece. */
typedef struct array_check {
    const char *path, *split, *name;
    mst_status (*look)(const struct array_check *check, const void *elements, size_t count, uint64_t first);
    uint64_t limit;   /* tokens: the vocabulary; documents: the number of tokens */
    size_t bytes;     /* of an element */
    uint64_t *former; /* documents: the offset before */
} array_check;

static mst_status look_at_tokens(const array_check *check, const void *elements, size_t count,
                                 uint64_t first) {
    for (size_t i = 0; i < count; i++) {
        uint64_t token =
            check->bytes == 2 ? ((const uint16_t *)elements)[i] : ((const uint32_t *)elements)[i];
        if (token >= check->limit)
            return mst_error(MST_EFORMAT,
                             "'%s': token %" PRIu64 " at position %" PRIu64
                             " of %s/%s is outside the vocabulary of %" PRIu64,
                             check->path, token, first + i, check->split, check->name, check->limit);
    }
    return MST_OK;
}

static mst_status look_at_documents(const array_check *check, const void *elements, size_t count,
                                    uint64_t first) {
    for (size_t i = 0; i < count; i++) {
        uint64_t offset = ((const uint64_t *)elements)[i];
        bool right = first + i == 0 ? offset == 0 : offset > *check->former && offset <= check->limit;
        if (!right)
            return mst_error(MST_EFORMAT,
                             "'%s': offset %" PRIu64 " of document %" PRIu64 " of %s/%s is out of order",
                             check->path, offset, first + i, check->split, check->name);
        *check->former = offset;
    }
    return MST_OK;
}

static mst_status verify_array(int fd, const array_check *check, const array_index *array, mst_hasher *hasher,
                               void *buffer) {
    mst_status status = MST_OK;
    mst_digest found;
    size_t room = COPY_BYTES / check->bytes;
    for (uint64_t at = 0; at < array->count;) {
        size_t count = array->count - at < room ? (size_t)(array->count - at) : room;
        MST_TRY(
            mst_file_read(fd, check->path, array->offset + at * check->bytes, buffer, count * check->bytes));
        MST_TRY(mst_hasher_update(hasher, buffer, count * check->bytes));
        if (check->look != NULL) MST_TRY(check->look(check, buffer, count, at));
        at += count;
    }
    MST_TRY(mst_hasher_finish(hasher, &found));
    MST_CHECK(memcmp(&found, &array->digest, sizeof found) == 0, MST_EFORMAT,
              "'%s': %s/%s does not have the SHA-256 of its index; it is damaged: build it again",
              check->path, check->split, check->name);
done:
    return status;
}

mst_status token_file_verify(int fd, const char *path, const token_index *index) {
    mst_status status = MST_OK;
    mst_hasher *hasher = NULL;
    void *buffer = malloc(COPY_BYTES);
    MST_CHECK(buffer != NULL, MST_ENOMEM, "out of memory to verify '%s'", path);
    MST_TRY(mst_hasher_create(&hasher));
    for (int which = 0; which < SPLITS; which++) {
        const split_index *part = &index->split[which];
        const char *split = index_split_name((mst_split)which);
        uint64_t end = 0;
        array_check tokens = {path, split, "tokens", look_at_tokens, index->vocab_size, index->token_bytes,
                              NULL};
        array_check documents = {path,       split, "documents", look_at_documents, part->tokens.count,
                                 sizeof end, &end};
        array_check mask = {path, split, "loss_mask", NULL, 0, 1, NULL};
        MST_TRY(verify_array(fd, &tokens, &part->tokens, hasher, buffer));
        MST_TRY(verify_array(fd, &documents, &part->documents, hasher, buffer));
        MST_CHECK(end == part->tokens.count, MST_EFORMAT,
                  "'%s': the last document of %s ends at token %" PRIu64 " of %" PRIu64, path, split, end,
                  part->tokens.count);
        if (part->has_loss_mask) MST_TRY(verify_array(fd, &mask, &part->loss_mask, hasher, buffer));
    }
    if (index->tokenizer.has_json) {
        array_check json = {path, "tokenizer", "json", NULL, 0, 1, NULL};
        array_check lengths = {path, "tokenizer", "lengths", NULL, 0, sizeof(uint32_t), NULL};
        MST_TRY(verify_array(fd, &json, &index->tokenizer.json, hasher, buffer));
        MST_TRY(verify_array(fd, &lengths, &index->tokenizer.lengths, hasher, buffer));
    }
done:
    mst_hasher_destroy(&hasher);
    free(buffer);
    return status;
}

mst_status mst_data_verify(const char *path, mst_digest *digest_out) {
    mst_status status = MST_OK;
    token_index index;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    MST_CHECK(fd >= 0, MST_EIO, "opening '%s': %s", path, strerror(errno));
    MST_TRY(index_read(fd, path, &index));
    MST_TRY(token_file_verify(fd, path, &index));
    MST_TRY(index_content_digest(&index, digest_out));
done:
    if (fd >= 0) close(fd);
    return status;
}
