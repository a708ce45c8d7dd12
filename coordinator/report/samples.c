/* Small files of a run folder: RUN/samples/NAME.txt, and those that facts.c asks for. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "facts.h"

mst_status report_file_read(const char *path, size_t most, char **text_out, size_t *length_out,
                            bool *cut_out) {
    mst_status status = MST_OK;
    struct stat facts;
    char *text = NULL;
    size_t length = 0;
    ssize_t got = 1;
    *text_out = NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 && (errno == ENOENT || errno == ENOTDIR)) return MST_OK;
    MST_CHECK(file >= 0 && fstat(file, &facts) == 0, MST_EIO, "cannot read %s: %s", path, strerror(errno));
    MST_CHECK(S_ISREG(facts.st_mode), MST_EIO, "cannot read %s: it is no regular file", path);
    text = malloc(most + 2);
    MST_CHECK(text != NULL, MST_ENOMEM, "cannot read %s: no memory", path);
    while (got > 0 && length <= most) {
        got = read(file, text + length, most + 1 - length);
        MST_CHECK(got >= 0 || errno == EINTR, MST_EIO, "cannot read %s: %s", path, strerror(errno));
        if (got > 0) length += (size_t)got;
        if (got < 0) got = 1;
    }
    *cut_out = length > most;
    *length_out = *cut_out ? most : length;
    text[*length_out] = '\0';
    *text_out = text;
    text = NULL;
done:
    free(text);
    if (file >= 0) close(file);
    return status;
}

static int is_text(const struct dirent *entry) {
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot != NULL && strcmp(dot, ".txt") == 0;
}

/* step-90 before step-100. */
static int by_number(const struct dirent **left, const struct dirent **right) {
    return strverscmp((*left)->d_name, (*right)->d_name);
}

static mst_status read_sample(report_facts *facts, const char *name) {
    char path[REPORT_PATH_MAX + 300];
    report_sample sample = {0};
    snprintf(path, sizeof path, "%s/samples/%s", facts->path, name);
    struct stat entry;
    if (lstat(path, &entry) == 0 &&
        S_ISLNK(entry.st_mode)) { /* a page is shown to others: nothing from elsewhere */
        report_damage(facts, "%s is a symbolic link, which is not followed", path);
        return MST_OK;
    }
    mst_status status =
        report_file_read(path, REPORT_SAMPLE_BYTES_MAX, &sample.text, &sample.length, &sample.cut);
    if (status == MST_EIO) {
        report_damage(facts, "%s", mst_error_message());
        return MST_OK;
    }
    if (sample.text == NULL) return status; /* removed meanwhile */
    snprintf(sample.name, sizeof sample.name, "%s", name);
    facts->samples[facts->sample_count++] = sample;
    return MST_OK;
}

mst_status report_samples_read(report_facts *facts) {
    mst_status status = MST_OK;
    char path[REPORT_PATH_MAX + 16];
    struct dirent **entries = NULL;
    snprintf(path, sizeof path, "%s/samples", facts->path);
    int count = scandir(path, &entries, is_text, by_number);
    if (count < 0 && errno == ENOENT) return MST_OK;
    if (count < 0) report_damage(facts, "cannot read %s: %s", path, strerror(errno));
    if (count <= 0) goto done;
    facts->samples = calloc(REPORT_SAMPLES_MAX, sizeof *facts->samples);
    MST_CHECK(facts->samples != NULL, MST_ENOMEM, "samples: no memory");
    for (int i = count > REPORT_SAMPLES_MAX ? count - REPORT_SAMPLES_MAX : 0; i < count; i++)
        MST_TRY(read_sample(facts, entries[i]->d_name));
    facts->samples_left_out = count > REPORT_SAMPLES_MAX ? (size_t)count - REPORT_SAMPLES_MAX : 0;
done:
    for (int i = 0; i < count; i++) free(entries[i]);
    free(entries);
    return status;
}
