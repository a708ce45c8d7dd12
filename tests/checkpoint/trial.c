#include "trial.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void path_in(const char *folder, const char *name, char *path_out) {
    if (snprintf(path_out, JOB_PATH_MAX, "%s/%s", folder, name) >= JOB_PATH_MAX) exit(1);
}

/* One thread and the plain bodies, which measure no peak first: a job starts at once. */
static void write_config(const trial *t, int steps, int every, int keep) {
    char text[2048];
    snprintf(text, sizeof text,
             "run: {name: trial, steps: %d, seed: 7}\n"
             "model: {family: llama, d_model: 32, n_layers: 1, n_heads: 2, d_ff: 128, tie_embeddings: true}\n"
             "data: {sources: [%s/tokens.h5], seq_len: 16}\n"
             "batch: {micro: 1, leaf: 1, lanes: 4, rounds: 1}\n"
             "schedule: {kind: cosine, peak: 0.003, warmup: 2}\n"
             "checkpoint: {every: %d, keep: %d}\n"
             "device: {kernels: ref, threads: 1}\n"
             "watchdog: {seconds: 20}\n",
             steps, t->folder, every, keep);
    if (!job_write_file(t->config, text)) exit(1);
}

int trial_create(trial *t, const char *name, const char *muster, const char *shim, int steps, int every,
                 int keep) {
    char whole[JOB_PATH_MAX];
    *t = (trial){.muster = muster, .shim = shim};
    if (!job_setup(name, t->folder)) return printf("skipped: mpirun is not installed\n"), 77;
    path_in(t->folder, "trial.yaml", t->config);
    path_in(t->folder, "run", t->run);
    path_in(t->run, "checkpoints", t->checkpoints);
    path_in(t->run, "metrics.jsonl", t->metrics);
    path_in(t->folder, "output", t->output);
    path_in(t->folder, "mark", t->mark);
    path_in(t->folder, "whole.jsonl", whole);
    write_config(t, steps, every, keep);
    if (!job_build_data(muster, t->folder) || job_wait(trial_start(t, 1, NULL, NULL), t->run) != 0 ||
        rename(t->metrics, whole) != 0) {
        job_show(t->output);
        fprintf(stderr, "%s: the run that nothing befalls failed\n", name);
        return 1;
    }
    job_digests(t->output, t->digests);
    job_remove_folder(t->run);
    return 0;
}

pid_t trial_start(const trial *t, int ranks, const char *setting, const job_fault *fault) {
    const char *const words[] = {"train", t->config, "--run", t->run, setting != NULL ? "--set" : NULL,
                                 setting, NULL};
    unlink(t->mark);
    return job_start(
        &(job){.ranks = ranks, .program = t->muster, .words = words, .output = t->output, .fault = fault});
}

bool trial_struck(const trial *t, char *call_out, char *path_out) {
    FILE *file = fopen(t->mark, "re");
    if (file == NULL) return false;
    const bool whole = fscanf(file, "%15s %399s", call_out, path_out) == 2;
    fclose(file);
    return whole;
}

static int compare_newest_first(const void *left, const void *right) {
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a < b) - (a > b);
}

size_t trial_verify(const trial *t, uint64_t *steps_out, size_t most, char *refused_out) {
    size_t count = 0;
    DIR *folder = opendir(t->checkpoints);
    refused_out[0] = '\0';
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        char path[JOB_PATH_MAX], output[JOB_PATH_MAX];
        if (strncmp(entry->d_name, "step-", 5) != 0) continue;
        path_in(t->checkpoints, entry->d_name, path);
        path_in(t->folder, "verified", output);
        const char *const words[] = {"verify", path, NULL};
        const job j = {.ranks = 1, .program = t->muster, .words = words, .output = output};
        if (job_run(&j, path) != 0) {
            job_show(output);
            memcpy(refused_out, path, sizeof path);
        }
        if (count < most) steps_out[count++] = strtoull(entry->d_name + 5, NULL, 10);
    }
    if (folder != NULL) closedir(folder);
    qsort(steps_out, count, sizeof *steps_out, compare_newest_first);
    return count;
}

void trial_find(const char *folder, const char *part, bool at_end, char *name_out) {
    DIR *entries = opendir(folder);
    name_out[0] = '\0';
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        const size_t length = strlen(entry->d_name), wanted = strlen(part);
        if (length < wanted) continue;
        if (strncmp(entry->d_name + (at_end ? length - wanted : 0), part, wanted) == 0)
            snprintf(name_out, JOB_PATH_MAX, "%s", entry->d_name);
    }
    if (entries != NULL) closedir(entries);
}
