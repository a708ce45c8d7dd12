/* A scratch folder with text files, for the tests of the data room. */
#ifndef DATA_FIXTURE_H
#define DATA_FIXTURE_H

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "muster/data.h"
#include "test.h"

static char scratch[64];

/* A new empty folder below the working directory, which becomes the working directory itself. */
static inline void scratch_enter(void) {
    snprintf(scratch, sizeof scratch, "scratch-data-XXXXXX");
    if (mkdtemp(scratch) == NULL || chdir(scratch) != 0) {
        perror(scratch);
        exit(1);
    }
}

static inline int scratch_remove_one(const char *path, const struct stat *info, int type, struct FTW *place) {
    (void)info, (void)type, (void)place;
    return remove(path);
}

static inline void scratch_leave(void) {
    if (chdir("..") != 0 || nftw(scratch, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0) perror(scratch);
}

static inline void put_bytes(const char *path, const void *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, count, file) != count || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static inline void put_text(const char *path, const char *text) {
    put_bytes(path, text, strlen(text));
}

/* The whole file, for the caller to free. */
static inline uint8_t *get_bytes(const char *path, size_t *count_out) {
    struct stat info;
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    if (file != NULL && fstat(fileno(file), &info) == 0) bytes = malloc((size_t)info.st_size + 1);
    if (bytes == NULL || fread(bytes, 1, (size_t)info.st_size, file) != (size_t)info.st_size) {
        perror(path);
        exit(1);
    }
    fclose(file);
    *count_out = (size_t)info.st_size;
    return bytes;
}

static inline bool same_files(const char *a, const char *b) {
    size_t a_count, b_count;
    uint8_t *a_bytes = get_bytes(a, &a_count), *b_bytes = get_bytes(b, &b_count);
    bool same = a_count == b_count && memcmp(a_bytes, b_bytes, a_count) == 0;
    free(a_bytes);
    free(b_bytes);
    return same;
}

/* Files in a folder, hidden ones too. */
static inline int count_files(const char *folder) {
    int count = 0;
    DIR *directory = opendir(folder);
    for (const struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (directory != NULL) closedir(directory);
    return count;
}

/* Builds from inputs that end with NULL. */
static inline mst_status build(mst_build_options options, mst_build_report *report, ...) {
    const char *inputs[16];
    va_list list;
    va_start(list, report);
    while (options.input_count < 16 && (inputs[options.input_count] = va_arg(list, const char *)) != NULL)
        options.input_count++;
    va_end(list);
    options.inputs = inputs;
    return mst_data_build(&options, report);
}

/* One source, opened. */
static inline mst_data *open_one(const char *path, size_t seq_len, uint64_t seed) {
    mst_data *data = NULL;
    mst_source_config source = {path, 1, NULL};
    CHECK_OK(mst_data_open(
        &(mst_data_config){.sources = &source, .source_count = 1, .seq_len = seq_len, .seed = seed}, &data));
    return data;
}

/* All tokens of a split of one file in file order, for the caller to free. Held-out and training alike,
 * through samples of length one: token i is the first of sample i in file order; the last token is
 * the last sample's target. */
static inline int32_t *all_tokens(const char *path, mst_split split, size_t *count_out) {
    mst_data *data = open_one(path, 1, 0);
    size_t samples = (size_t)mst_data_samples(data, split), count = samples > 0 ? samples + 1 : 0;
    int32_t *tokens = calloc(count + 1, sizeof *tokens);
    for (uint64_t i = 0; i < samples; i++) {
        mst_sample_place place;
        int32_t token, target;
        CHECK_OK(mst_data_locate(data, split, i, &place));
        CHECK_OK(mst_data_read(data, split, i, 1, &token, &target, NULL));
        tokens[place.first_token] = token;
        tokens[place.first_token + 1] = target;
    }
    mst_data_close(&data);
    *count_out = count;
    return tokens;
}

/* Whether a split's tokens are exactly this text, '$' standing for the end of a document. */
static inline bool split_is(const char *path, mst_split split, const char *text) {
    size_t count;
    int32_t *tokens = all_tokens(path, split, &count);
    bool same = count == strlen(text);
    for (size_t i = 0; i < count && same; i++)
        same = tokens[i] == (text[i] == '$' ? MST_BYTE_EOS : (int32_t)(unsigned char)text[i]);
    if (!same) {
        fprintf(stderr, "found: ");
        for (size_t i = 0; i < count; i++) fputc(tokens[i] == MST_BYTE_EOS ? '$' : (char)tokens[i], stderr);
        fprintf(stderr, "\n");
    }
    free(tokens);
    return same;
}

/* Whether the last error's message has all of these words; the list ends with NULL. */
static inline bool message_has(const char *word, ...) {
    bool has = true;
    va_list list;
    va_start(list, word);
    for (; word != NULL; word = va_arg(list, const char *))
        has = has && strstr(mst_error_message(), word) != NULL;
    va_end(list);
    return has;
}

#endif
