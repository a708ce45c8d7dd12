#include "leftovers.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char folder[] = "/dev/shm";
static const char *const prefixes[] = {"vader_segment.", "osc_sm."};

void leftovers_clear(leftovers *l) {
    for (size_t i = 0; i < l->count; i++) free(l->names[i]);
    free(l->names);
    *l = (leftovers){0};
}

static bool is_segment(const char *name) {
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) return true;
    return false;
}

/* The segments that are there, into `l`; false without memory. */
static bool list_segments(leftovers *l) {
    *l = (leftovers){0};
    DIR *shm = opendir(folder);
    const struct dirent *entry;
    while (shm != NULL && (entry = readdir(shm)) != NULL) {
        if (!is_segment(entry->d_name)) continue;
        char **names = realloc(l->names, (l->count + 1) * sizeof *names);
        char *name = strdup(entry->d_name);
        if (names != NULL) l->names = names;
        if (names == NULL || name == NULL) {
            free(name);
            closedir(shm);
            return false;
        }
        l->names[l->count++] = name;
    }
    if (shm != NULL) closedir(shm);
    return true;
}

static bool has(const leftovers *l, const char *name) {
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->names[i], name) == 0) return true;
    return false;
}

/* Whether a process has it mapped, as its map of memory says; one that may not be read counts as if it had. */
static bool maps(const char *process, const char *path) {
    char maps_path[300], *line = NULL;
    size_t room = 0;
    bool found = false;
    struct stat facts;
    snprintf(maps_path, sizeof maps_path, "/proc/%.200s", process);
    if (stat(maps_path, &facts) != 0 || facts.st_uid != geteuid()) return false;
    snprintf(maps_path, sizeof maps_path, "/proc/%.200s/maps", process);
    FILE *file = fopen(maps_path, "re");
    if (file == NULL) return access(maps_path, F_OK) == 0;
    while (!found && getline(&line, &room, file) > 0) found = strstr(line, path) != NULL;
    free(line);
    fclose(file);
    return found;
}

static bool is_used(const char *path) {
    bool used = false;
    DIR *processes = opendir("/proc");
    const struct dirent *entry;
    if (processes == NULL) return true;
    while (!used && (entry = readdir(processes)) != NULL)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9') used = maps(entry->d_name, path);
    closedir(processes);
    return used;
}

void leftovers_note(leftovers *l) {
    leftovers_clear(l);
    list_segments(l);
}

void leftovers_remove(leftovers *l) {
    leftovers now;
    const bool complete = list_segments(&now);
    for (size_t i = 0; complete && i < now.count; i++) {
        char path[512];
        struct stat facts;
        if (has(l, now.names[i])) continue;
        snprintf(path, sizeof path, "%s/%.400s", folder, now.names[i]);
        if (lstat(path, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_uid == geteuid() && !is_used(path))
            unlink(path);
    }
    leftovers_clear(&now);
}
